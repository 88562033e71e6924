"""A plan as people and programs see it: the state, put into words and numbers."""

from typing import Any

import msgspec

from events import codec, estimate, spec
from events.asks import plan as asks
from events.course import Cell, State
from events.errors import NotOver, Problem, Validation
from events.launching import child
from events.planned import Result
from events.rollback import undoable
from events.steps import Step

FAILED_MOST = 1000
"""Operations that are named one by one."""


def plan(state: State, seq: int, now: int) -> asks.Plan:
    """Put a state into words; `now` in milliseconds since 1970."""
    definition, born = state.definition, state.submitted
    unit = "steps" if state.batch is None else estimate.words(definition.description)[1]
    cause = state.cancel or state.pause
    return asks.Plan(
        id=state.id,
        name=definition.name,
        description=definition.description,
        strategy=definition.strategy,
        status=state.status,
        rollback=state.rollback,
        over=state.over,
        total=state.total,
        completed=state.completed,
        failed=state.failed,
        skipped=state.skipped,
        running=state.outstanding,
        progress=estimate.counted(state.done, state.total, unit),
        fraction=None if state.total is None else state.done / state.total if state.total else 1.0,
        max_concurrency=definition.limit,
        error=_shown(state.error),
        rollback_error=_shown(state.trouble.error) if state.trouble else None,
        reason=cause.reason if cause else None,
        labels=list(definition.labels),
        params=born.params if born else {},
        template=born.template if born else None,
        version=born.version if born else None,
        parent=msgspec.to_builtins(born.parent) if born and born.parent else None,
        schedule_id=born.schedule_id if born else None,
        steps=[_stage(state, step) for step in state.steps],
        failed_operations=failed(state),
        reruns=state.reruns,
        created_at=state.created_at,
        completed_at=state.completed_at,
        elapsed_seconds=_elapsed(state, now),
        seq=seq,
    )


def failed(state: State) -> list[int]:
    """The numbers of the first operations that failed."""
    if state.batch is None:
        return []
    found: list[int] = []
    for number in state.batch.failures:
        if len(found) == FAILED_MOST:
            break
        found.append(int(number))
    return found


def outcome(state: State, seq: int, entries: list[asks.Entry] | None = None) -> asks.Outcome:
    """What came of a plan that is over."""
    if not state.over:
        raise NotOver(f"the plan is {state.status}: wait for its end, or get it as it is")
    elapsed = _elapsed(state, 0)
    results = [_entry(step.name, state.cells[step.name]) for step in state.steps]
    results += entries or []
    return asks.Outcome(
        plan_id=state.id,
        status=state.status,
        success=state.status == "completed" and not state.failed,
        rollback=state.rollback,
        total=state.total or 0,
        completed=state.completed,
        failed=state.failed,
        skipped=state.skipped,
        duration_ms=None if elapsed is None else round(elapsed * 1000),
        error=_shown(state.error),
        results=results,
        seq=seq,
    )


def command(step: Step) -> str:
    """What a step runs, as a person would write it; references stand as they are."""
    if step.plan is not None:
        return f"plan {step.plan.name}".strip()
    return "" if step.do is None else text(step.do)


def text(ask: spec.Submit) -> str:
    """A command as a person would write it, on one line."""
    fields = {name: getattr(ask, name) for name in (*spec.FORMS, "language")}
    try:
        return spec.Spec(**fields).text
    except (StopIteration, Validation):
        return ""


def _stage(state: State, step: Step) -> asks.Stage:
    cell = state.cells[step.name]
    result = cell.result
    return asks.Stage(
        name=step.name,
        status=cell.status,
        run=cell.run,
        command=command(step),
        needs=list(step.needs),
        when=step.when,
        allow_failure=step.allow_failure,
        execution_id=_child(state, step, cell, result, nested=False),
        plan_id=_child(state, step, cell, result, nested=True),
        exit_code=result.exit_code if result else None,
        error=_shown(result.error) if result else None,
        outputs=result.outputs if result else {},
        duration_ms=result.duration_ms if result else None,
        reason=cell.reason or None,
        undo=_undo(state, step, cell),
    )


def _child(state: State, step: Step, cell: Cell, result: Result | None, *, nested: bool) -> str | None:
    """What runs it or ran it; its id is known before it exists."""
    if nested != (step.plan is not None) or cell.status in ("pending", "skipped"):
        return None
    if result is not None:
        return result.plan_id if nested else result.execution_id
    return child(state.id, step.name, cell.run, nested=nested)


def _undo(state: State, step: Step, cell: Cell) -> str | None:
    if not undoable(step):
        return None
    if cell.undone:
        return "done"
    if state.undo is not None and state.undo.step == step.name:
        return "running"
    return "failed" if state.trouble is not None and state.trouble.step == step.name else "none"


def _entry(name: str, cell: Cell) -> asks.Entry:
    result = cell.result
    return asks.Entry(
        step=name,
        execution_id=result.execution_id if result else None,
        plan_id=result.plan_id if result else None,
        status=cell.status,
        exit_code=result.exit_code if result else None,
        error=_shown(result.error) if result else None,
        outputs=result.outputs if result else {},
        duration_ms=result.duration_ms if result else None,
    )


def operation(state: State, number: int) -> asks.Entry:
    """An operation that failed, as far as the plan itself knows it: its execution knows the rest."""
    run = state.batch.run if state.batch else 1
    return asks.Entry(
        step=str(number),
        execution_id=child(state.id, str(number), run),
        plan_id=None,
        status="failed",
        exit_code=None,
        error=None,
        outputs={},
        duration_ms=None,
    )


def _shown(error: Problem | None) -> dict[str, Any] | None:
    return None if error is None else msgspec.to_builtins(error)


def _elapsed(state: State, now: int) -> float | None:
    if state.created_at is None:
        return None
    end = codec.millis(state.completed_at) if state.completed_at else now
    return max(0, end - codec.millis(state.created_at)) / 1000
