"""The spans of a trace, made from the facts of an execution or a plan once it is over.

    execution commands                 from the submission to the end
      queued                           from there, or from the end of the attempt before, until it was taken
      attempt 1                        from there until its end was stored

Nothing but the facts goes in, and every id follows from the entity, so whoever makes them makes the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from events import execution, plan, trace
from events.codec import Fact
from events.errors import Problem
from events.executed import Began
from events.message import Event

Value = str | int | float | bool | Sequence[str]

OVER = (*execution.TERMINAL, plan.Completed, plan.Failed, plan.Cancelled)
"""With these the spans of an entity are complete; a plan can run again after them."""
NEEDED = (
    *(execution.Held, execution.Queued, execution.Started, execution.Prioritized),
    *(execution.AttemptFailed, execution.AttemptLost),
    *(plan.Submitted, plan.RerunRequested),
    *OVER,
)
"""Facts without which its spans would be others."""


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time in a trace."""

    trace: str
    id: str
    parent: str
    """Empty for the root of a trace."""
    name: str
    begin: str
    end: str
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])
    error: str | None = None
    """Why it counts as failed."""


def of(facts: Sequence[Fact]) -> list[Span]:
    """Make the spans of an entity from all its facts, the last of which ended it; none if nobody wants them.

    A fact that is not in `NEEDED` may be left out.
    """
    if not facts:
        return []
    first = facts[0]
    context = trace.parse(first.envelope.trace or trace.born(first.entity, first.envelope.id))
    if context is None or not context.sampled:
        return []
    return _execution(facts, context) if first.kind == "execution" else _plan(facts, context)


def _parent(context: trace.Context, root: str) -> str:
    return "" if context.span == root else context.span


def _known(**attributes: Value | None) -> dict[str, Value]:
    """Attributes under our name (`a__b` is `hindbrain.a.b`), those that are not known left out."""
    return {
        f"hindbrain.{name.replace('__', '.')}": value
        for name, value in attributes.items()
        if value is not None and value != ""
    }


# ---- executions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Taken:
    """When a node took it."""

    node: str
    time: str


def _taken(event: Event, waits: Fact | None, fact: Fact) -> _Taken | None:
    """The beginning of an attempt: a fact of its own, or said with its end by a worker with another clock."""
    if isinstance(event, execution.Started):
        return _Taken(event.node, fact.time)
    began: Began | None = getattr(event, "began", None)
    if began is None:
        return None
    return _Taken(began.node, min(fact.time, max(began.at, waits.time if waits else began.at)))


def _execution(facts: Sequence[Fact], context: trace.Context) -> list[Span]:
    state, made = execution.State(), list[Span]()
    waits: Fact | None = None
    runs: _Taken | None = None
    for fact in facts:
        state, event = execution.evolve(state, fact), fact.event
        if isinstance(event, execution.Held | execution.Queued):
            waits = waits or fact
        elif taken := _taken(event, waits, fact):
            if waits is not None:
                made.append(_waited(waits, taken.time, state, state.attempt, context))
            waits, runs = None, taken
        over = isinstance(event, execution.TERMINAL)
        if over or isinstance(event, execution.AttemptFailed | execution.AttemptLost):
            if runs is not None:
                made.append(_ran(runs, fact, state, context))
            elif over and waits is not None:
                made.append(_waited(waits, fact.time, state, state.attempt + 1, context))
            runs = None
        if over:
            return [_whole(facts[0], fact, state, context), *made]
    return []


def _whole(first: Fact, last: Fact, state: execution.State, context: trace.Context) -> Span:
    spec, root = state.spec, trace.span(first.entity)
    error = getattr(last.event, "error", None)
    attributes = _known(
        execution__id=first.entity,
        status=state.status,
        reason=error.code if isinstance(error, Problem) else None,
        module=spec.module,
        priority=state.priority,
        attempts=state.attempt,
        description=spec.description,
        labels=spec.labels or None,
        plan__id=spec.plan_id,
        step=spec.step,
        schedule__id=spec.schedule_id,
        retry_of=state.retry_of,
    )
    return Span(
        *(context.trace, root, _parent(context, root), f"execution {spec.module}", first.time, last.time),
        attributes | _exit(last),
        _failure(last),
    )


def _waited(first: Fact, until: str, state: execution.State, attempt: int, context: trace.Context) -> Span:
    root = trace.span(first.entity)
    held = first.event.reason if isinstance(first.event, execution.Held) else None
    attributes = _known(module=state.spec.module, priority=state.priority, attempt=attempt, held=held)
    name = trace.span(first.entity, "queued", attempt)
    return Span(context.trace, name, root, "queued", first.time, until, attributes)


def _ran(taken: _Taken, last: Fact, state: execution.State, context: trace.Context) -> Span:
    root = trace.span(last.entity)
    attributes = _known(
        module=state.spec.module,
        priority=state.priority,
        attempt=state.attempt,
        node=taken.node,
        status=last.name.removeprefix("attempt_"),
    )
    name = trace.span(last.entity, "attempt", state.attempt)
    return Span(
        *(context.trace, name, root, f"attempt {state.attempt}", taken.time, last.time),
        attributes | _exit(last),
        _failure(last),
    )


def _exit(fact: Fact) -> dict[str, Value]:
    """What is known of the process (https://opentelemetry.io/docs/specs/semconv/registry/attributes/process/)."""
    end: execution.End | None = getattr(fact.event, "end", None)
    if end is None:
        return {}
    found = {"process.exit.code": end.exit_code, "process.pid": end.pid}
    return {name: value for name, value in found.items() if value is not None} | _known(signal=end.signal)


def _failure(fact: Fact) -> str | None:
    """Why it counts as failed; to be stopped on request is no failure."""
    match fact.event:
        case execution.AttemptLost(reason=reason):
            return reason
        case execution.Failed(error=error) | execution.TimedOut(error=error):
            return error.message
        case execution.AttemptFailed(error=error) | plan.Failed(error=error):
            return error.message
        case _:
            return None


# ---- plans -----------------------------------------------------------------------------------------------


def _plan(facts: Sequence[Fact], context: trace.Context) -> list[Span]:
    """The span of the plan itself, or that of the rerun that ended last; its steps have their own."""
    born, last = facts[0], facts[-1]
    root = trace.span(born.entity)
    again = [fact for fact in facts if isinstance(fact.event, plan.RerunRequested)]
    submitted: Any = born.event
    parent = submitted.parent
    attributes = _known(
        plan__id=born.entity,
        plan__name=submitted.definition.name,
        strategy=submitted.definition.strategy,
        status=last.name,
        schedule__id=submitted.schedule_id,
        step=parent.step if parent is not None else None,
    )
    if again:
        name = trace.span(born.entity, "rerun", len(again))
        title, begin, above = f"rerun {len(again)}", again[-1].time, root
    else:
        name, title, begin, above = root, "plan", born.time, _parent(context, root)
    return [Span(context.trace, name, above, title, begin, last.time, attributes, _failure(last))]
