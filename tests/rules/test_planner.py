"""The planner on a log in memory, with executions that end when the test says so."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import pytest

from actors.home import Home
from actors.planner import Planner
from actors.role import Told
from bus.memory import Memory
from events import execution, plan
from events.codec import Fact
from events.errors import HindbrainError
from events.execution import EXECUTION, End
from events.plan import PLAN
from events.planned import Launch
from events.ports import Ask, Outcome, Outlet
from events.spec import Exec, Submit
from events.steps import Definition, Operations, Step

SPEC = Submit(exec=Exec(program="true"))


class Lease:
    """A lease that is held as long as the test says."""

    left = 4.0


class Tables:
    """What the log says, in place of tables."""

    def __init__(self, log: Memory) -> None:
        self.log = log

    def request(
        self,
        kind: str,  # noqa: ARG002  the shape of the port
        verb: str,  # noqa: ARG002 -- as it is called
        body: bytes,
        timeout: float,  # noqa: ARG002 -- as it is called
        done: Callable[[bytes | HindbrainError], None],
    ) -> None:
        facts = [fact for fact in self.log.since() if fact.kind == "plan"]
        seqs: dict[str, int] = {fact.entity: fact.seq for fact in facts}
        states = {entity: _state(self.log, entity) for entity in seqs}
        rows = [[entity, seq] for entity, seq in seqs.items() if not states[entity].over]
        if b"MINUTE" in body:
            rows = []
        done(
            msgspec.json.encode(
                {"columns": [], "rows": rows, "seq": len(self.log.since()), "truncated": False}
            )
        )


class Ears:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def progress(self, kind: str, entity: str, message: dict[str, Any]) -> None:
        assert (kind, entity) == ("plan", message["id"])
        self.told.append(message)


def _state(log: Memory, entity: str) -> plan.State:
    found: list[plan.State] = []
    log.load(PLAN, [entity], lambda loaded: found.append(loaded[0].snapshot.state))
    return found[0]


class Stage:
    """A log, and planners that come and go."""

    def __init__(self) -> None:
        self.log, self.outlet, self.now = Memory(lambda: 1_000), Ears(), 0
        self.mail: deque[Any] = deque()
        self.log.follow(lambda facts: self.mail.append(Told(list(facts))))
        self.enter()

    def enter(self) -> None:
        """Another planner takes over; the one before is gone with everything it knew."""
        self.mail.clear()
        home = Home("node_a", "boot_a", "http://localhost")
        outlet = cast("Outlet", self.outlet)  # of which a planner only knows how to tell progress
        self.planner = Planner(home, Lease(), self.log, Tables(self.log), self.mail.append, outlet)
        self.planner.tick()
        self.settle()

    def settle(self) -> None:
        while self.mail:
            message = self.mail.popleft()
            if isinstance(message, Told) and message.facts is not None:
                message = Told([fact for fact in message.facts if self._concerns(fact)])
            self.planner.receive(message)
        self.planner.tick()

    def _concerns(self, fact: Fact) -> bool:
        return fact.kind == "plan" or fact.entity in self.planner.watched

    def handle(self, *asks: Ask) -> None:
        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                assert outcome.error is None, outcome.error

        self.log.handle(asks, done)
        self.settle()

    def ask(self, entity: str, command: plan.AnyCommand) -> None:
        self.handle(Ask(PLAN, entity, command))

    def submit(self, definition: Definition, entity: str = "plan_1") -> None:
        self.ask(entity, plan.Submit(definition=definition, digest="d", taken_by="node_a"))

    def state(self, entity: str = "plan_1") -> plan.State:
        return _state(self.log, entity)

    def born(self) -> list[str]:
        """The steps whose executions were made, in order."""
        return [
            fact.event.spec.step or ""
            for fact in self.log.since()
            if isinstance(fact.event, execution.Queued) and fact.event.spec
        ]

    def end(self, step: str, code: int = 0, run: int = 1, entity: str = "plan_1") -> None:
        child = plan.child(entity, step, run)
        start = execution.Start(node="node_a", boot="boot_a", log_path="")
        end = End(exit_code=code, duration_ms=5)
        self.handle(
            Ask(EXECUTION, child, start),
            Ask(EXECUTION, child, execution.Finish(attempt=1, why="exited", end=end)),
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def serial(*names: str, **more: Any) -> Definition:
    steps = tuple(Step(name=name, do=SPEC, undo=SPEC) for name in names)
    return Definition(name="p", strategy="serial", steps=steps, **more)


def test_a_step_is_made_once_the_one_before_is_over(stage: Stage) -> None:
    stage.submit(serial("a", "b"))
    assert stage.born() == ["a"]
    stage.end("a")
    assert stage.born() == ["a", "b"]
    stage.end("b")
    assert stage.state().status == "completed"
    assert not stage.planner.watched
    finals = [message["final"] for message in stage.outlet.told]
    assert finals.count(True) == 1
    assert finals[-1]
    assert [m["current_command"] for m in stage.outlet.told if m["currentOperation"] == "a"] == ["true"]


def test_who_takes_over_goes_on_and_makes_nothing_twice(stage: Stage) -> None:
    stage.submit(serial("a", "b", "c"))
    stage.enter()
    assert stage.born() == ["a"]
    stage.end("a")
    stage.enter()
    stage.end("b")
    stage.end("c")
    assert stage.born() == ["a", "b", "c"]
    assert stage.state().status == "completed"


def test_what_ended_while_nobody_led_is_learned(stage: Stage) -> None:
    stage.submit(serial("a", "b"))
    old, stage.planner.tenure = stage.planner.tenure, Lease()
    stage.planner.tenure.left = 0.0
    stage.planner.tick()
    stage.end("a")
    assert stage.born() == ["a"]
    stage.planner.tenure = old
    stage.enter()
    assert stage.born() == ["a", "b"]


def test_a_step_that_was_stored_but_not_made_is_made_by_the_next_planner(stage: Stage) -> None:
    stage.planner.tenure = Lease()
    stage.planner.tenure.left = 0.0
    stage.planner.tick()
    stage.submit(serial("a"))
    assert stage.born() == []
    stage.enter()
    assert stage.born() == ["a"]


def test_cancelling_cancels_what_runs(stage: Stage) -> None:
    steps = tuple(Step(name=name, do=SPEC) for name in "abc")
    stage.submit(Definition(strategy="parallel", max_concurrency=2, steps=steps))
    assert stage.born() == ["a", "b"]
    stage.ask("plan_1", plan.Cancel(reason="enough"))
    assert stage.state().status == "cancelled"
    assert stage.state().cells["a"].status == "cancelled"


def test_a_failure_rolls_back_in_reverse(stage: Stage) -> None:
    stage.submit(serial("a", "b", "c", on_failure="rollback"))
    stage.end("a")
    stage.end("b")
    stage.end("c", code=1)
    assert stage.born()[-1] == "b/undo"
    stage.enter()
    stage.end("b/undo")
    stage.end("a/undo")
    assert stage.state().rollback == "done"
    assert stage.born() == ["a", "b", "c", "b/undo", "a/undo"]


def test_a_plan_inside_a_plan_is_led_too(stage: Stage) -> None:
    inner = serial("x", "y")
    stage.submit(Definition(strategy="serial", steps=(Step(name="in", plan=inner), Step(name="z", do=SPEC))))
    nested = plan.child("plan_1", "in", 1, nested=True)
    assert stage.born() == ["x"]
    stage.end("x", entity=nested)
    stage.enter()
    stage.end("y", entity=nested)
    assert stage.state(nested).status == "completed"
    assert stage.born() == ["x", "y", "z"]
    stage.end("z")
    assert stage.state().status == "completed"
    stage.ask("plan_1", plan.Rollback())
    assert stage.born()[-1] == "y/undo"
    stage.end("y/undo", entity=nested)
    stage.end("x/undo", entity=nested)
    assert stage.state(nested).rollback == "done"
    assert stage.state().rollback == "done"


def test_a_plan_whose_own_failure_begins_the_rollback_is_taken_back_at_once(stage: Stage) -> None:
    inner = serial("x", "y")
    steps = (Step(name="a", do=SPEC, undo=SPEC), Step(name="in", plan=inner))
    stage.submit(Definition(strategy="serial", steps=steps, on_failure="rollback"))
    nested = plan.child("plan_1", "in", 1, nested=True)
    stage.end("a")
    stage.end("x", entity=nested)
    stage.end("y", code=1, entity=nested)
    assert stage.state(nested).rollback == "running"
    stage.end("x/undo", entity=nested)
    assert stage.born()[-1] == "a/undo"
    stage.end("a/undo")
    assert stage.state().rollback == "done"


def test_a_batch_moves_its_window(stage: Stage) -> None:
    many = Operations(do=SPEC, count=5)
    stage.submit(Definition(strategy="batch", max_concurrency=2, operations=many))
    assert stage.born() == ["0", "1"]
    for number in range(5):
        stage.end(str(number))
    assert stage.born() == list("01234")
    state = stage.state()
    assert (state.status, state.completed, state.failed) == ("completed", 5, 0)


def test_a_step_that_cannot_be_formed_fails_and_says_why(stage: Stage) -> None:
    bad = Submit(exec=Exec(program="true", args=["${steps.a.outputs.nothing}"]))
    steps = (Step(name="a", do=SPEC), Step(name="b", do=bad, needs=["a"]))
    stage.submit(Definition(strategy="graph", steps=steps))
    stage.end("a")
    state = stage.state()
    assert state.status == "failed"
    assert state.cells["b"].result is not None
    assert "nothing" in str(state.cells["b"].result.error)


def test_launches_and_children_have_names(stage: Stage) -> None:
    stage.submit(serial("a"))
    launch = plan.running(stage.state())
    assert launch == (Launch(step="a", run=1),)
    assert plan.child_of(stage.state(), launch[0]) == plan.child("plan_1", "a", 1)


def test_an_operation_of_a_batch_is_told_by_its_own_description(stage: Stage) -> None:
    do = Submit(exec=SPEC.exec, description="Generating ${item.page}:${item.section}")
    items = [{"page": "landing", "section": name} for name in ("hero", "features")]
    many = Operations(do=do, items=items)
    stage.submit(Definition(strategy="batch", operations=many, description="Generating sections"))
    assert [m["currentOperation"] for m in stage.outlet.told][-1] == "Generating landing:features"
