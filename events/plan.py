"""A plan: many executions under one id, in an order, beside each other, by their needs, or as a batch.

Everything that follows from the end of a step is decided at once.  So at every moment of the log as many
steps run as can and may, and whoever leads the plan only does what the facts say.
"""

from events import checking, onward, params, rollback, steps
from events.course import OVER as OVER
from events.course import Cell as Cell
from events.course import Graph as Graph
from events.course import State as State
from events.course import evolve as evolve
from events.errors import (
    AlreadyOver,
    Conflict,
    IdempotencyConflict,
    NotFound,
    NotOver,
    Validation,
)
from events.launching import Nested as Nested
from events.launching import Takeback as Takeback
from events.launching import child as child
from events.launching import child_of as child_of
from events.launching import launches as launches
from events.launching import result_of_plan as result_of_plan
from events.launching import running as running
from events.launching import wish as wish
from events.planned import EVENTS as EVENTS
from events.planned import Advance as Advance
from events.planned import Advanced as Advanced
from events.planned import AnyCommand as AnyCommand
from events.planned import AnyEvent as AnyEvent
from events.planned import Cancel as Cancel
from events.planned import Cancelled as Cancelled
from events.planned import CancelRequested as CancelRequested
from events.planned import Completed as Completed
from events.planned import Ended as Ended
from events.planned import Extend as Extend
from events.planned import Extended as Extended
from events.planned import Failed as Failed
from events.planned import Launch as Launch
from events.planned import Look as Look
from events.planned import Parent as Parent
from events.planned import Pause as Pause
from events.planned import Paused as Paused
from events.planned import Rerun as Rerun
from events.planned import RerunRequested as RerunRequested
from events.planned import Result as Result
from events.planned import Resume as Resume
from events.planned import Resumed as Resumed
from events.planned import Rollback as Rollback
from events.planned import RollbackFailed as RollbackFailed
from events.planned import RollbackStarted as RollbackStarted
from events.planned import RolledBack as RolledBack
from events.planned import Seal as Seal
from events.planned import Sealed as Sealed
from events.planned import Skip as Skip
from events.planned import StepEnded as StepEnded
from events.planned import StepsSkipped as StepsSkipped
from events.planned import StepsStarted as StepsStarted
from events.planned import StepUndone as StepUndone
from events.planned import Submit as Submit
from events.planned import Submitted as Submitted
from events.planned import UndoStarted as UndoStarted
from events.ports import Decider
from events.rerun import chosen

MOST = 100_000_000
"""Operations that a batch can have."""


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new", Submit():
            return _submit(state, command)
        case "new", _:
            raise NotFound("Plan not found")
        case _, Submit(digest=digest):
            if state.submitted is not None and digest == state.submitted.digest:
                return ()
            raise IdempotencyConflict
        case _, Look():
            return ()
        case "over", Advance(undone=undone):
            return rollback.advance(state, undone)
        case "over", Cancel():
            return ()
        case "over", Rollback(reason=reason):
            return rollback.begin(state, reason)
        case "over", Rerun():
            return _rerun(state, command)
        case "over", _:
            raise AlreadyOver(f"the plan is over ({state.status}): rerun it, or submit another one")
        case _, Advance(ended=ended):
            return onward.advance(state, ended)
        case _, Extend():
            return _extend(state, command)
        case _, Seal():
            return _seal(state)
        case _, Pause(reason=reason) if state.pause is None and state.cancel is None:
            return (Paused(reason=reason),)
        case _, Pause():
            return ()
        case _, Resume():
            return () if state.pause is None else onward.on(state, Resumed())
        case _, Cancel(reason=reason, grace_ms=grace):
            return () if state.cancel else onward.on(state, CancelRequested(reason=reason, grace_ms=grace))
        case _, Rollback(reason=reason):
            if state.cancel is not None and state.cancel.rollback:
                return ()
            return onward.on(state, CancelRequested(reason=reason, rollback=True))
        case _:
            raise NotOver(f"the plan is {state.status}: wait for its end, or cancel it first")


def _submit(state: State, command: Submit) -> tuple[AnyEvent, ...]:
    definition = command.definition
    checking.check(definition)
    given = params.resolve(definition.params, command.params)
    if definition.strategy == "batch":
        definition = steps.counted(definition, given)
        return onward.on(state, _submitted(command, definition, given, steps.size(definition)))
    if command.open:
        raise Validation("only a batch can be open: more steps cannot be added later", field="open")
    return onward.on(state, _submitted(command, definition, given, len(definition.steps)))


def _submitted(
    command: Submit, definition: steps.Definition, given: dict[str, object], total: int
) -> Submitted:
    return Submitted(
        definition=definition,
        params=given,
        digest=command.digest,
        taken_by=command.taken_by,
        template=command.template,
        version=command.version,
        parent=command.parent,
        schedule_id=command.schedule_id,
        open=command.open,
        total=None if command.open else total,
    )


def _extend(state: State, command: Extend) -> tuple[AnyEvent, ...]:
    many = state.batch
    if many is None:
        raise Conflict("only a batch takes more operations, and this is a plan of steps")
    count = len(command.items) or command.count
    if command.offset is not None and command.offset + count <= many.size:
        return ()
    if many.sealed:
        raise Conflict("the batch is sealed: it takes no more operations")
    if command.offset is not None and command.offset != many.size:
        raise Conflict(f"the batch has {many.size} operations, so the next page begins there", size=many.size)
    if many.plain and command.items and not many.size:
        raise Conflict("this batch was begun with a count: add a count")
    if count <= 0 or (command.items and command.count):
        raise Validation("give items or a count, one of them", field="items")
    if many.plain == bool(command.items):
        needed = "a count" if many.plain else "items"
        raise Validation(f"this batch goes by {needed}: add {needed}", field="items")
    if many.size + count > MOST:
        raise Validation(f"a batch has at most {MOST} operations", field="count")
    return onward.on(state, Extended(items=command.items, count=0 if command.items else count))


def _seal(state: State) -> tuple[AnyEvent, ...]:
    if state.batch is None:
        raise Conflict("only a batch can be sealed, and this is a plan of steps")
    return () if state.batch.sealed else onward.on(state, Sealed(total=state.batch.size))


def _rerun(state: State, command: Rerun) -> tuple[AnyEvent, ...]:
    if state.rollback == "running":
        raise NotOver("the plan is being taken back: wait for that")
    return onward.on(state, RerunRequested(steps=chosen(state, command), reason=command.reason))


PLAN = Decider("plan", State(), decide, evolve, lambda state: state.trace)
