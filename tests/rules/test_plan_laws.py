"""However a plan is led, some things always hold; the proof `plans_rules` looks at ten thousand of them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import plan
from events.errors import AlreadyOver, Conflict, IdempotencyConflict, NotFound, NotOver, Problem, Validation
from events.params import Param
from events.plan import (
    Advance,
    AnyCommand,
    AnyEvent,
    Cancel,
    Launch,
    Look,
    Pause,
    Rerun,
    Result,
    Resume,
    Rollback,
    RollbackFailed,
    RolledBack,
    State,
    StepsSkipped,
    StepsStarted,
    Submit,
    UndoStarted,
)
from events.planned import Completed, Ended, Failed, RollbackStarted
from events.spec import Exec, Shell
from events.spec import Submit as Ask
from events.steps import Definition, Step
from tests.proofs import courses, rows
from tests.proofs.courses import fact

ASK = Ask(exec=Exec(program="true"))


class Course:
    """A plan that is led by hand."""

    def __init__(self, definition: Definition, **given: object) -> None:
        self.state, self.n = State(), 0
        self.last = self.do(Submit(definition=definition, digest="d", params=dict(given)))

    def do(self, command: AnyCommand) -> tuple[AnyEvent, ...]:
        events = plan.decide(self.state, command)
        for event in events:
            self.n += 1
            self.state = plan.evolve(self.state, fact(self.n, event))
        return events

    def end(self, *names: str, status: Ended = "completed", **outputs: object) -> tuple[AnyEvent, ...]:
        results = [
            Result(step=name, run=self.state.cells[name].run, status=status, outputs=outputs)
            for name in names
        ]
        return self.do(Advance(ended=tuple(results)))

    def undo(self, status: Ended = "completed") -> tuple[AnyEvent, ...]:
        assert self.state.undo is not None
        step, run = self.state.undo.step, self.state.undo.run
        return self.do(Advance(undone=(Result(step=step, run=run, status=status),)))

    @property
    def running(self) -> list[str]:
        return sorted(self.state.running)


def step(name: str, *needs: str, **more: object) -> Step:
    fields: dict[str, object] = {"do": ASK} | more
    return Step(name=name, needs=list(needs), **fields)  # type: ignore[arg-type] -- any fields


def graph(*steps: Step, **more: object) -> Definition:
    return Definition(strategy="graph", steps=steps, **more)  # type: ignore[arg-type] -- any fields


def serial(*steps: Step, **more: object) -> Definition:
    return Definition(strategy="serial", steps=steps, **more)  # type: ignore[arg-type] -- any fields


# ---- laws ------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_to_a_plan_the_laws_hold(seed: int) -> None:
    world = courses.led(Random(seed))
    assert world.ends == 1 + world.state.reruns


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_to_a_batch_the_laws_hold(seed: int) -> None:
    rows.led(Random(seed))


# ---- the order -------------------------------------------------------------------------------------------


def test_a_step_starts_as_soon_as_its_needs_are_met() -> None:
    course = Course(graph(step("test", "lint", "build"), step("lint"), step("build")))
    assert course.running == ["build", "lint"]
    assert course.end("lint")[1:] == ()
    assert course.end("build")[1:] == (StepsStarted(steps=(Launch(step="test"),)),)
    assert course.end("test")[-1] == Completed(completed=3)


def test_what_needs_a_failed_step_is_skipped_and_the_others_go_on() -> None:
    course = Course(graph(step("a"), step("b", "a"), step("c", "b"), step("d")))
    skipped = course.end("a", status="failed")[1]
    assert isinstance(skipped, StepsSkipped)
    assert [(each.step, each.reason) for each in skipped.steps] == [("b", "needs a"), ("c", "needs b")]
    ended = course.end("d")[-1]
    assert isinstance(ended, Failed)
    assert (ended.completed, ended.failed, ended.skipped) == (1, 1, 2)


def test_a_condition_on_a_failure_runs_what_is_there_for_it() -> None:
    tidy = step("tidy", "a", when="steps.a.status == 'failed'")
    course = Course(graph(step("a"), tidy, step("b", "a")))
    course.end("a", status="failed")
    assert course.running == ["tidy"]
    course = Course(graph(step("a"), tidy, step("b", "a")))
    assert isinstance(course.end("a")[1], StepsSkipped)
    assert course.running == ["b"]


def test_a_condition_about_something_else_does_not_run_behind_a_failure() -> None:
    there = {"to": Param(type="string", default="prod")}
    deploy = step("deploy", "build", when="params.to == 'prod'")
    course = Course(graph(step("build"), deploy, params=there))
    course.end("build", status="failed")
    assert course.state.status == "failed"
    assert course.state.cells["deploy"].reason == "needs build"


def test_what_may_fail_does_not_fail_the_plan() -> None:
    course = Course(graph(step("a", allow_failure=True), step("b", "a")))
    course.end("a", status="timed_out")
    assert course.end("b")[-1] == Completed(completed=1, failed=1)


def test_serial_stops_at_an_error_or_goes_on_when_that_is_asked() -> None:
    course = Course(serial(step("a"), step("b"), step("c")))
    assert course.running == ["a"]
    course.end("a", status="failed")
    assert (course.state.status, course.state.skipped) == ("failed", 2)
    course = Course(serial(step("a"), step("b"), stop_on_error=False))
    course.end("a", status="failed")
    assert course.running == ["b"]
    course.end("b")
    assert course.state.status == "failed"


def test_a_value_that_is_missing_fails_the_step_before_it_starts() -> None:
    reader = step("b", "a", do=Ask(exec=Exec(program="echo", args=["${steps.a.outputs.version}"])))
    course = Course(graph(step("a"), reader))
    course.end("a", other=1)
    assert course.state.status == "failed"
    result = course.state.cells["b"].result
    assert result is not None
    assert result.error is not None
    assert "there is no 'version' in it" in result.error.message
    course = Course(graph(step("a"), reader))
    course.end("a", version=7)
    asked = plan.wish(course.state, Launch(step="b"))
    assert isinstance(asked, Ask)
    assert asked.exec == Exec(program="echo", args=["7"])


def test_a_plan_in_a_plan_gets_its_values_and_what_is_said_for_all() -> None:
    inner = Definition(params={"to": Param()}, steps=(step("x"),))
    course = Course(
        graph(
            step("a"),
            step("p", "a", do=None, plan=inner, values={"to": "${steps.a.outputs.k}"}),
            labels=("ci",),
        )
    )
    course.end("a", k="there")
    launch = Launch(step="p")
    nested = plan.wish(course.state, launch)
    assert isinstance(nested, plan.Nested)
    assert nested.params == {"to": "there"}
    assert nested.definition.labels == ("ci",)
    assert plan.child_of(course.state, launch).startswith("plan_")


# ---- pause, cancel, rerun --------------------------------------------------------------------------------


def test_paused_it_starts_nothing_and_goes_on_where_it_was() -> None:
    course = Course(graph(step("a"), step("b", "a")))
    course.do(Pause(reason="lunch"))
    assert course.do(Pause()) == ()
    course.end("a")
    assert (course.running, course.state.status) == ([], "paused")
    assert course.do(Resume())[1:] == (StepsStarted(steps=(Launch(step="b"),)),)


def test_cancelled_it_ends_when_what_runs_has_ended() -> None:
    course = Course(graph(step("a"), step("b", "a")))
    course.do(Cancel(reason="no"))
    assert (course.state.phase, course.state.skipped) == ("active", 1)
    assert course.do(Cancel()) == ()
    course.end("a", status="cancelled")
    assert course.state.status == "cancelled"
    assert course.do(Cancel()) == ()
    with pytest.raises(AlreadyOver):
        course.do(Pause())


def test_only_what_failed_runs_again_and_keeps_what_the_others_left() -> None:
    reader = step("c", "a", "b", do=Ask(exec=Exec(program="echo", args=["${steps.a.outputs.k}"])))
    course = Course(graph(step("a"), step("b"), reader))
    course.end("a", k="kept")
    course.end("b", status="failed")
    with pytest.raises(NotOver):
        Course(graph(step("a"))).do(Rerun())
    course.do(Rerun())
    assert course.running == ["b"]
    assert course.state.running == {"b": 2}
    course.end("b")
    asked = plan.wish(course.state, Launch(step="c", run=2))
    assert isinstance(asked, Ask)
    assert asked.exec == Exec(program="echo", args=["kept"])
    course.end("c")
    assert course.state.status == "completed"
    with pytest.raises(Conflict):
        course.do(Rerun())


def test_from_a_step_on_everything_behind_it_runs_again() -> None:
    course = Course(serial(step("a"), step("b"), step("c")))
    for name in "abc":
        course.end(name)
    course.do(Rerun(from_step="b"))
    assert course.running == ["b"]
    assert course.state.cells["a"].run == 1
    course.end("b")
    course.end("c")
    assert course.state.completed == 3
    with pytest.raises(Validation, match="did you mean 'b'"):
        course.do(Rerun(from_step="bb"))


# ---- taking back -----------------------------------------------------------------------------------------


def test_a_failure_takes_back_what_was_done_the_last_first() -> None:
    course = Course(
        graph(step("a", undo=ASK), step("b", undo=ASK), step("c"), step("d", "c"), on_failure="rollback")
    )
    course.end("b")
    course.end("a")
    events = course.end("c", status="failed")
    assert [type(event) for event in events[-3:]] == [Failed, RollbackStarted, UndoStarted]
    assert not course.state.over
    assert course.state.undo == Launch(step="a")
    assert plan.running(course.state) == (Launch(step="a/undo"),)
    assert course.undo()[-1] == UndoStarted(step="b")
    assert course.undo()[-1] == RolledBack()
    assert course.state.over
    assert course.do(Rollback()) == ()


def test_where_it_cannot_be_taken_back_it_stops_and_goes_on_there_when_asked_again() -> None:
    course = Course(serial(step("a", undo=ASK), step("b", undo=ASK)))
    course.end("a")
    course.end("b")
    course.do(Rollback())
    failed = course.undo("failed")[-1]
    assert isinstance(failed, RollbackFailed)
    assert failed.step == "b"
    assert failed.error == Problem(code="command_failed", message="Undoing b failed: it is failed")
    assert course.state.over
    first = plan.child(courses.ID, "b/undo", 1)
    course.do(Rollback())
    assert course.state.undo == Launch(step="b", run=2)
    assert plan.child_of(course.state, Launch(step="b/undo", run=2)) != first
    course.undo()
    assert course.undo()[-1] == RolledBack()
    course.do(Rerun())
    assert course.running == ["a"], "what was taken back is done again"


def test_a_running_plan_is_stopped_before_it_is_taken_back() -> None:
    course = Course(serial(step("a", undo=ASK), step("b")))
    course.end("a")
    course.do(Rollback(reason="wrong"))
    assert course.state.rollback == "none"
    course.end("b", status="cancelled")
    assert (course.state.status, course.state.rollback) == ("cancelled", "running")


def test_a_plan_in_a_plan_is_taken_back_as_a_whole() -> None:
    inner = Definition(steps=(step("x", undo=ASK),))
    course = Course(serial(step("p", do=None, plan=inner)))
    child = plan.child_of(course.state, Launch(step="p"))
    course.end("p")
    course.do(Rollback())
    (launch,) = plan.running(course.state)
    assert plan.wish(course.state, launch) == plan.Takeback(plan_id=child)
    assert plan.child_of(course.state, launch) == child


# ---- its beginning ---------------------------------------------------------------------------------------


def test_the_same_wish_twice_is_one_plan_and_another_one_is_refused() -> None:
    course = Course(graph(step("a")))
    assert course.do(Submit(definition=graph(step("a")), digest="d")) == ()
    with pytest.raises(IdempotencyConflict):
        course.do(Submit(definition=graph(step("a")), digest="other"))
    with pytest.raises(NotFound):
        plan.decide(State(), Look())


def test_values_come_into_a_shell_through_its_environment() -> None:
    course = Course(
        serial(step("a", do=Ask(shell=Shell(command="echo ${params.who}"))), params={"who": Param()}),
        who="$(reboot)",
    )
    asked = plan.wish(course.state, Launch(step="a"))
    assert isinstance(asked, Ask)
    assert asked.shell == Shell(command='echo "$HINDBRAIN_VALUE_1"')
    assert asked.env == {"HINDBRAIN_VALUE_1": "$(reboot)"}
