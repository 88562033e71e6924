"""The tables of tasks: living along, folded anew, and the rules themselves say the same."""

from typing import Any

from histories import Log
from hypothesis import given
from hypothesis import strategies as st
from test_fold_law import LAW, applied, opened

from events import task
from events.errors import Problem
from events.ir import ArtifactReference, PhaseIR, TaskIR
from projections.check import verify
from projections.queries import Queries
from projections.store import Store

ENTITY = "task_a"
ENGINES = ("playbook:a", "mcp:s/t", "remote:http://x")
SAID = TaskIR(
    actor_id="ann",
    phases=tuple(PhaseIR(id=f"p{at}", preferred_engine=ENGINES[at % 2]) for at in range(3)),
)
kinds = st.sampled_from(["done"] * 5 + ["failed", "lost", "hold", "resume", "cancel"] + ["handoff"] * 3)
asked = st.lists(st.tuples(kinds, st.integers(0, 2), st.integers(0, 900)), max_size=30)


class Tale:
    def __init__(self) -> None:
        self.log = Log()
        self.ask(task.Submit(task=SAID, digest="d"))

    @property
    def state(self) -> task.State:
        return self.log.states["task", ENTITY]

    def ask(self, command: Any) -> None:
        self.log.ask("task", ENTITY, command)

    def act(self, kind: str, which: int) -> None:
        going = self.state.going
        match kind:
            case "handoff":
                self.ask(task.Handoff(phase_id=f"p{which}", to_engine=ENGINES[which], reason="why"))
            case "hold" if going is not None:
                self.ask(task.Hold(run=going.run, mark=which, reason="stuck"))
            case "resume":
                self.ask(task.Resume())
            case "cancel":
                self.ask(task.Cancel(reason="enough"))
            case "done" | "failed" if going is not None:
                left = (ArtifactReference(id=f"art_{which}", phase_id=going.phase_id),)
                self.ask(
                    task.End(
                        phase_id=going.phase_id,
                        run=going.run,
                        status=kind,
                        outputs={"k": which},
                        left=left,
                        error=None if kind == "done" else Problem(code="failed", message="no"),
                        checkpoint_at="2026-01-01T00:00:00.000Z",
                    )
                )
            case "lost" if going is not None:
                self.ask(task.End(phase_id=going.phase_id, run=going.run + 1, status="done"))
            case _:
                pass


def rows(store: Store, table: str, key: str = "id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in Queries(store).rows(f"SELECT * FROM {table}")}


@LAW
@given(asked=asked, cuts=st.lists(st.integers(0, 40), max_size=3))
def test_tasks_follow_their_rules(asked: list[tuple[str, int, int]], cuts: list[int]) -> None:
    tale = Tale()
    for kind, which, later in asked:
        tale.log.now += later
        tale.act(kind, which)
    state = tale.state
    with opened() as store:
        applied(store, tale.log, cuts)
        assert verify(store, tale.log.records) == []
        row = rows(store, "task_ir")[ENTITY]
        assert (row["status"], row["current_phase"]) == (state.task.status, state.task.current_phase)
        assert [each["id"] for each in row["artifacts"]] == [each.id for each in state.task.artifacts]
        assert (row["completed_at"] is not None) == state.over
        for phase in state.task.phases:
            found = rows(store, "task_phases")[f"{ENTITY}/{phase.id}"]
            shown = "running" if phase.status == "paused" else phase.status
            assert (found["status"], found["run"]) == (shown, phase.run)
            assert (found["outputs"] or {}) == (phase.outputs if phase.ended_at else {})
        handed = list(rows(store, "handoffs").values())
        told = [(each["phase_id"], each["from_engine"], each["to_engine"]) for each in handed]
        said = [each.handed for each in state.handoffs]
        assert sorted(told) == sorted((each.phase_id, each.from_engine, each.to_engine) for each in said)


@given(asked=asked)
def test_a_phase_has_one_engine_at_a_time_and_ends_once(asked: list[tuple[str, int, int]]) -> None:
    tale = Tale()
    for kind, which, _ in asked:
        before = tale.state
        tale.act(kind, which)
        state = tale.state
        known = {each.id for each in before.task.artifacts}
        assert known <= {each.id for each in state.task.artifacts}, "nothing that was left is lost"
        for phase in before.task.phases:
            after = state.task.phase(phase.id)
            assert after is not None
            if phase.status == "done":
                assert after == phase, "what is behind it stays as it is"
        if before.over and not state.over:
            assert kind == "handoff"
        if state.over:
            assert state.going is None
    has = False
    for record in tale.log.records:
        name = record.subject.split(".")[5]
        if name == "phase_started":
            assert not has, "the one that has it lets go first"
            has = True
        elif name == "phase_ended":
            assert has
            has = False
