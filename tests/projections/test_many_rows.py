"""Tables with several rows for one entity, and of plans, schedules, limits and templates: the law for all."""

from typing import Any

from histories import Log
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fold_law import LAW, applied, opened

from events import artifact, execution, limit, plan, schedule, template, workspace
from events.calendar import When
from events.execution import End
from events.plan import Advance, Result
from events.spec import Retries, Shell, Spec, Submit
from events.steps import Definition, Operations, Step
from projections.check import verify
from projections.queries import Queries
from projections.store import Store

RUN = Submit(shell=Shell(command="true"))
STEPS = (
    Step(name="lint", do=RUN, undo=RUN),
    Step(name="build", do=RUN, needs=["lint"], undo=RUN),
    Step(name="ship", do=RUN, needs=["build"], when="steps.lint.exit_code == 0"),
    Step(name="2", do=RUN),
)
GRAPH = Definition(name="all", strategy="graph", steps=STEPS, max_concurrency=2)
BATCH = Definition(strategy="batch", operations=Operations(do=RUN, count=5, undo=RUN), max_concurrency=2)
ends = st.sampled_from(["completed", "failed", "cancelled", "timed_out"])


def advanced(log: Log, entity: str, status: Any) -> plan.Advance:
    """Whatever runs first ends like that."""
    state: plan.State = log.states[("plan", entity)]
    if state.undo is not None:
        back = Result(step=state.undo.step, run=state.undo.run, status=status)
        return Advance(undone=(back,))
    if state.batch is not None:
        return Advance(
            ended=tuple(
                Result(step=str(each), run=state.batch.run, status=status)
                for each in sorted(state.batch.outstanding)[:2]
            )
        )
    found = [
        Result(
            step=name,
            run=run,
            status=status,
            execution_id=plan.child(entity, name, run),
            exit_code=0 if status == "completed" else 1,
            outputs={"k": 1},
        )
        for name, run in list(state.running.items())[:1]
    ]
    return Advance(ended=tuple(found))


def asked(store: Store, sql: str, *params: Any, seq: int | None = None) -> list[list[Any]]:
    return Queries(store).ask(sql, params, seq=seq).rows


def told(log: Log, entity: str) -> tuple[list[Any], list[list[Any]]]:
    """What the rules say of a plan, as the tables have it."""
    state: plan.State = log.states[("plan", entity)]
    counts = [state.completed, state.failed, state.skipped, state.outstanding]
    head = [state.status, state.rollback, state.total, *counts]
    names = [step.name for step in state.steps]
    cells = [state.cells[name] for name in names]
    return head, [[name, c.status, c.run] for name, c in zip(names, cells, strict=True)]


def seen(store: Store, entity: str, seq: int | None = None) -> tuple[list[Any], list[list[Any]]]:
    heads = asked(
        store,
        "SELECT status, rollback, total, completed, failed, skipped, running FROM plans WHERE id = ?",
        entity,
        seq=seq,
    )
    steps = "SELECT step, status, run FROM plan_steps WHERE plan_id = ? ORDER BY place"
    return heads[0], asked(store, steps, entity, seq=seq)


@settings(LAW, max_examples=6)
@given(data=st.data(), cuts=st.lists(st.integers(0, 100), max_size=4))
def test_plans_and_their_steps_are_what_the_rules_say(data: st.DataObject, cuts: list[int]) -> None:
    log = Log()
    definitions = {"plan_a": GRAPH, "plan_b": BATCH}
    for entity, definition in definitions.items():
        log.ask("plan", entity, plan.Submit(definition=definition, digest="d", taken_by="n"))
    points: dict[int, Any] = {}
    for _ in range(data.draw(st.integers(0, 10))):
        entity = data.draw(st.sampled_from(sorted(definitions)))
        command = data.draw(
            st.one_of(
                *[ends.map(lambda status, at=entity: advanced(log, at, status))] * 4,
                st.builds(plan.Pause),
                st.builds(plan.Resume),
                st.builds(plan.Cancel),
                st.builds(plan.Rollback),
                st.builds(plan.Rerun),
            )
        )
        log.now += 1000
        log.ask("plan", entity, command)
        points[len(log.records)] = {each: told(log, each) for each in definitions}
    with opened() as store:
        applied(store, log, cuts)
        assert verify(store, log.records) == []
        for seq, want in list(points.items())[-1:] + list(points.items())[:1]:
            assert {each: seen(store, each, seq) for each in definitions} == want
        for entity in definitions:
            assert seen(store, entity) == told(log, entity)


def test_a_running_step_names_its_execution() -> None:
    log = Log()
    log.ask("plan", "plan_a", plan.Submit(definition=GRAPH, digest="d", taken_by="n"))
    with opened() as store:
        store.apply(log.records)
        assert asked(
            store, "SELECT execution_id FROM plan_steps WHERE status = 'running' ORDER BY place"
        ) == [
            [plan.child("plan_a", "lint", 1)],
            [plan.child("plan_a", "2", 1)],
        ]


def test_every_attempt_is_a_row() -> None:
    log, spec = Log(), Spec(shell=Shell(command="x"), retries=Retries(max=3, backoff_ms=0))
    log.ask("execution", "exec_a", execution.Submit(spec=spec, digest="d", taken_by="n"))
    start = execution.Start(node="node_a", boot="b", log_path="/x")
    log.ask("execution", "exec_a", start)
    failed = execution.Finish(attempt=1, why="exited", end=End(exit_code=7, stdout_bytes=10))
    log.ask("execution", "exec_a", failed)
    log.ask("execution", "exec_a", start)
    log.ask("execution", "exec_a", execution.Lose(attempt=2, reason="the node vanished"))
    log.ask("execution", "exec_a", execution.Cancel())
    with opened() as store:
        for record in log.records:
            store.apply([record])
        sql = "SELECT attempt, status, reason, exit_code FROM attempts ORDER BY attempt"
        assert asked(store, sql) == [
            [1, "failed", "command_failed", 7],
            [2, "lost", "the node vanished", None],
        ]
        assert asked(store, sql, seq=2) == [[1, "running", None, None]]
        assert asked(store, "SELECT attempts_failed FROM executions") == [[2]]
        assert verify(store, log.records) == []


def test_what_is_poisoned_is_a_dead_letter_until_it_is_discarded() -> None:
    log, spec = Log(), Spec(shell=Shell(command="x"), retries=Retries(max=9, backoff_ms=0))
    log.ask("execution", "exec_a", execution.Submit(spec=spec, digest="d", taken_by="n"))
    for n in (1, 2, 3):
        log.ask("execution", "exec_a", execution.Start(node="node_a", boot="b", log_path="/x"))
        log.ask("execution", "exec_a", execution.Lose(attempt=n, reason="killed"))
    known = len(log.records)
    log.ask("execution", "exec_a", execution.Discard())
    with opened() as store:
        store.apply(log.records)
        assert asked(store, "SELECT id, attempt FROM dead_letters", seq=known) == [["exec_a", 3]]
        assert asked(store, "SELECT id FROM dead_letters") == []


def test_schedules_limits_and_templates_are_rows() -> None:
    log = Log()
    when = When(every_ms=60_000)
    created = schedule.Created(when=when, spec=Spec(shell=Shell(command="x")))
    log.ask("schedule", "sched_a", schedule.Create(created=created, now_ms=log.now))
    log.ask("schedule", "sched_a", schedule.Tick(now_ms=log.now + 60_000))
    log.ask("schedule", "sched_a", schedule.Pause(reason="enough"))
    log.ask("limit", "module-m", limit.Put(on="module", target="m", max=2))
    log.ask("limit", "module-m", limit.Grant(ids=("exec_a", "exec_b"), now_ms=log.now))
    log.ask("limit", "module-m", limit.Close(next="module-m--2"))
    held = limit.carried(log.states["limit", "module-m"])
    log.ask("limit", "module-m--2", limit.Open(opened=held))
    seqs = log.states["limit", "module-m--2"].holders
    log.ask("limit", "module-m--2", limit.Return(grants={"exec_a": seqs["exec_a"]}))
    for command in ("x", "y"):
        definition = Definition(steps=(Step(name="a", do=Submit(shell=Shell(command=command))),))
        log.ask("template", "t", template.Save(name="t", definition=definition, digest=command))
    with opened() as store:
        for record in log.records:
            store.apply([record])
        assert verify(store, log.records) == []
        assert asked(store, "SELECT status, runs, skips, next_at FROM schedules") == [["paused", 1, 0, None]]
        assert asked(store, "SELECT id, target, max, used, pages FROM limits") == [["module-m", "m", 2, 1, 1]]
        assert asked(store, "SELECT used FROM limits", seq=5) == [[2]]
        assert asked(store, "SELECT id, status, version FROM templates") == [["t", "kept", 2]]


needing = st.none() | st.builds(
    artifact.Referenced, by=st.sampled_from(["a", "b"]), phase_id=st.sampled_from([None, "p"])
)
keeping = st.builds(
    artifact.Register,
    registered=st.builds(artifact.Registered, title=st.text(max_size=4), size=st.integers(0, 2**40)),
    reference=needing,
)
letting = st.one_of(
    st.builds(artifact.Release, by=st.sampled_from(["a", "b"])),
    st.builds(artifact.Remove, before_ms=st.just(2**62)),
)


@LAW
@given(data=st.data(), cuts=st.lists(st.integers(0, 60), max_size=3))
def test_artifacts_follow_their_rules(data: st.DataObject, cuts: list[int]) -> None:
    log, entity = Log(), artifact.named("0" * 64)
    log.ask("workspace", "default", workspace.Open(name="default", path="/srv"))
    for command in data.draw(st.lists(keeping | letting, max_size=12)):
        log.now += 1000
        log.ask("artifact", entity, command)
    with opened() as store:
        applied(store, log, cuts)
        assert verify(store, log.records) == []
        row, state = store.row("artifacts", entity), log.states.get(("artifact", entity))
        assert (row is None) == (state is None)
        if row is not None and state is not None:
            assert (row["status"], row["references"]) == (state.phase, len(state.references))
            assert (row["name"], row["size"]) == (state.registered.title, state.registered.size)
        assert asked(store, "SELECT id, path FROM workspaces") == [["default", "/srv"]]
