"""How a plan is taken back: what was done is undone, one after the other, the last first."""

from collections.abc import Sequence

from events import batch, course
from events.course import State
from events.errors import Problem, Validation
from events.launching import UNDO, wish
from events.planned import (
    AnyEvent,
    Launch,
    Result,
    RollbackFailed,
    RollbackStarted,
    RolledBack,
    StepUndone,
    UndoStarted,
)
from events.steps import Definition, Step


def undoable(step: Step) -> bool:
    """Whether there is something that takes it back."""
    return step.undo is not None or (step.plan is not None and _undoable(step.plan))


def _undoable(definition: Definition) -> bool:
    if definition.operations is not None and definition.operations.undo is not None:
        return True
    return any(map(undoable, definition.steps))


def row(state: State) -> tuple[str, ...]:
    """The steps to be taken back, in that order.

    That are those that were completed; and of plans that failed on their way, what was done in them.
    """
    found: list[tuple[int, str]] = []
    for step in state.steps:
        cell = state.cells[step.name]
        inside = step.undo is None and step.plan is not None and cell.result is not None
        inside = inside and cell.result is not None and cell.result.plan_id is not None
        if not cell.undone and undoable(step) and (cell.status == "completed" or inside):
            found.append((cell.place, step.name))
    return tuple(name for _, name in sorted(found, reverse=True))


def begin(state: State, reason: str | None) -> tuple[AnyEvent, ...]:
    """Begin, or go on where it failed before."""
    if state.rollback in ("running", "done"):
        return ()
    many = state.batch
    steps = () if many is not None else row(state)
    count = len(steps) if many is None else many.ended.size - many.undone
    started = RollbackStarted(steps=steps, count=count, reason=reason)
    return (started, *_next(course.apply(state, started)))


def advance(state: State, results: Sequence[Result]) -> tuple[AnyEvent, ...]:
    """Something was taken back, or could not be."""
    for each in results:
        name = each.step.removesuffix(UNDO)
        if state.undo != Launch(step=name, run=each.run):
            continue
        if each.status != "completed":
            error = each.error or Problem(code="command_failed", message=f"it is {each.status}")
            problem = Problem(
                code=error.code, message=f"Undoing {name} failed: {error.message}", details=error.details
            )
            return (
                RollbackFailed(
                    step=name,
                    run=each.run,
                    execution_id=each.execution_id,
                    plan_id=each.plan_id,
                    error=problem,
                ),
            )
        undone = StepUndone(step=name, run=each.run, execution_id=each.execution_id, plan_id=each.plan_id)
        return (undone, *_next(course.apply(state, undone)))
    return ()


def _next(state: State) -> tuple[AnyEvent, ...]:
    if (many := state.batch) is not None:
        number = batch.undoing(many)
        return (RolledBack(),) if number is None else (UndoStarted(step=str(number), run=many.tries + 1),)
    if not state.undoing:
        return (RolledBack(),)
    name = state.undoing[0]
    run = state.cells[name].tries + 1
    try:
        wish(state, Launch(step=f"{name}{UNDO}", run=run))
    except Validation as error:
        return (RollbackFailed(step=name, run=run, error=error.problem),)
    return (UndoStarted(step=name, run=run),)
