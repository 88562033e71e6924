"""What takes back a fact: a pause, a limit, an order among what waits, or a change of a template.

Nothing is erased: the counter-request leads to a new fact.  Only what is still in force can be taken back,
and what has done something to the world (a start, a cancel) cannot.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from events import execution, limit, plan, schedule, template
from events.asks import limit as limits
from events.asks import plan as plans
from events.asks import schedule as schedules
from events.codec import Fact
from events.errors import Conflict
from events.service import Reorder
from events.spec import Strict

KINDS = ("execution", "plan", "schedule", "limit", "template")
"""Of what there are facts that can be taken back."""
BEHIND = "behind "
REORDERED = "reordered"
"""Why something stands in the queue once more: behind what is to be the first, or at the end by an order."""


class Restore(Strict):
    """Keep the definition of this version again, as a new version; without one, keep the template no more."""

    name: str
    version: int | None = None


class Counter(NamedTuple):
    """What is asked to take a fact back, and what that means."""

    kind: str
    verb: str
    request: Strict
    text: str


def counter(facts: Sequence[Fact], seq: int) -> Counter:
    """The request that takes back the fact at `seq`, one of these; `Conflict` says why there is none."""
    at = next(place for place, fact in enumerate(facts) if fact.seq == seq)
    fact, before, after = facts[at], facts[:at], facts[at + 1 :]
    match fact.event:
        case plan.Paused():
            _still(after, (plan.Resumed, plan.Completed, plan.Failed, plan.Cancelled), "the plan was resumed")
            return Counter("plan", "resume", plans.Resume(plan_id=fact.entity), f"{fact.entity} goes on")
        case schedule.Paused():
            _still(after, (schedule.Resumed, schedule.Deleted), "the schedule was resumed or deleted")
            wish = schedules.Resume(schedule_id=fact.entity)
            return Counter("schedule", "resume", wish, f"{fact.entity} ticks again")
        case limit.Set() | limit.Removed():
            return _limit(fact, before, after)
        case template.Saved() | template.Deleted():
            return _template(fact, before, after)
        case execution.Prioritized():
            return _priority(fact, before, after)
        case execution.Queued(reason=reason) if reason:
            return _place(fact, reason, before, after)
        case execution.Queued() if before and isinstance(before[-1].event, execution.Prioritized):
            return _priority(before[-1], before[:-1], after)
        case _:
            name = fact.name.replace("_", " ")
            raise Conflict(
                f"event {seq} ({name} of {fact.kind} {fact.entity}) cannot be taken back: only pauses,"
                " limits, orders and templates can",
                seq=seq,
            )


def _still(after: Sequence[Fact], others: tuple[type[Any], ...], text: str) -> None:
    """Refuse when one of these has come since."""
    for fact in after:
        if isinstance(fact.event, others):
            raise Conflict(f"{text} since, by event {fact.seq}", since=fact.seq)


def _limit(fact: Fact, before: Sequence[Fact], after: Sequence[Fact]) -> Counter:
    _still(after, (limit.Set, limit.Removed), "the limit was changed")
    known: limit.State = limit.State()
    for each in before:
        known = limit.evolve(known, each)
    on, target = known.on, known.target
    if isinstance(fact.event, limit.Set):
        on, target = fact.event.on, fact.event.target
    wish = limits.Set(
        **{str(on): target},
        max=known.max if known.force else None,
        rate=known.rate if known.force else None,
    )
    most = "no limit" if wish.max is None else f"at most {wish.max}"
    pace = "" if wish.rate is None else f", {wish.rate.count} in {wish.rate.per_ms} ms"
    return Counter("limit", "set", wish, f"{on} {target}: {most}{pace}")


def in_force(fact: Fact, head: limit.State) -> bool:
    """Whether what a limit is now, on its last page, is what that fact made of it."""
    if isinstance(fact.event, limit.Set):
        return head.force and (head.max, head.rate) == (fact.event.max, fact.event.rate)
    return not head.force


def _template(fact: Fact, before: Sequence[Fact], after: Sequence[Fact]) -> Counter:
    _still(after, (template.Saved, template.Deleted), "the template was changed")
    known: template.State = template.State()
    for each in before:
        known = template.evolve(known, each)
    if isinstance(fact.event, template.Deleted):
        wish, text = Restore(name=fact.entity, version=len(known.versions)), "is kept again"
    elif known.current is None:
        wish, text = Restore(name=fact.entity), "is kept no more"
    else:
        version = known.current.version
        wish, text = Restore(name=fact.entity, version=version), f"is what it was in version {version}"
    return Counter("template", "restore", wish, f"template {fact.entity} {text}")


def _waits(after: Sequence[Fact]) -> None:
    gone = (execution.Started, *execution.TERMINAL)
    _still(after, gone, "it was taken from the queue")


def _priority(fact: Fact, before: Sequence[Fact], after: Sequence[Fact]) -> Counter:
    _waits(after)
    _still(after, (execution.Prioritized,), "its priority was changed")
    state = execution.State()
    for each in before:
        state = execution.evolve(state, each)
    wish = Reorder(execution_id=fact.entity, priority=state.priority)
    return Counter("execution", "reorder", wish, f"{fact.entity} has priority {state.priority} again")


def _place(fact: Fact, reason: str, before: Sequence[Fact], after: Sequence[Fact]) -> Counter:
    if reason.startswith(BEHIND):
        # Others were put behind one that was to be the first: that one goes behind them.
        first = reason.removeprefix(BEHIND)
        return Counter("execution", "reorder", Reorder(execution_id=first, to="last"), f"{first} is behind")
    if reason != REORDERED:
        raise Conflict(f"event {fact.seq} was no order of anybody: {reason}", seq=fact.seq)
    _waits(after)
    _still(after, (execution.Queued, execution.Held, execution.Prioritized), "it has another place")
    state = execution.State()
    for each in before:
        state = execution.evolve(state, each)
    wish = Reorder(execution_id=fact.entity, to="first", from_seq=state.queued)
    return Counter("execution", "reorder", wish, f"{fact.entity} has its place again")


def wanted(state: template.State, restore: Restore) -> template.Save | template.Delete:
    """What brings a template back to what it was."""
    if restore.version is None:
        return template.Delete(reason="taken back")
    saved = state.versions[restore.version - 1]
    return template.Save(
        name=restore.name,
        definition=saved.definition,
        digest=saved.digest,
        comment=f"version {saved.version} again" if not saved.comment else saved.comment,
    )
