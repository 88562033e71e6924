"""A schedule: something that is submitted again and again, or once, when its time comes.

      new ---> active <---> paused
                 |            |
                 `--- over <--'

A tick is granted before anything is submitted, and what is submitted for it has an id that is derived from
the schedule and the tick.  So whoever repeats it, it is there once; and no tick is granted twice, because
every grant moves the cursor on.
"""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from events import calendar, ids
from events.calendar import When
from events.clock import millis, stamp
from events.errors import Conflict, IdempotencyConflict, NotFound
from events.message import Command, Event, Message
from events.ports import Decider
from events.spec import Spec

if TYPE_CHECKING:
    from events.codec import Fact

CatchUp = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "cancel", "queue"]
What = Literal["submit", "plan", "template"]

GRACE_MS = 30_000
"""A tick that comes later than this was missed; a role that moves to another node takes up to ten seconds."""
ALL_MOST = 1000
"""As many missed ticks are made up for at most."""
LOT = 100
"""Ticks of one decision."""
CARRY = 300
"""After so many events all of it is said at once: the log looks for that among the last 500."""


# ---- what happened ---------------------------------------------------------------------------------------


class Created(Event):
    """From now on something is submitted when its time comes."""

    when: When
    what: What = "submit"
    spec: Spec | None = None
    """What every tick runs, when it is an execution."""
    request: dict[str, Any] | None = None
    """What is asked at every tick, when it is a plan or a template."""
    catch_up: CatchUp = "once"
    overlap: Overlap = "allow"
    grace_ms: int = GRACE_MS
    description: str | None = None
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same key."""
    taken_by: str = ""
    at: str = ""
    """When it began; an interval without a beginning of its own counts from here."""
    next: str | None = None


class Paused(Event):
    """It does not tick until it is resumed."""

    reason: str | None = None


class Resumed(Event):
    """It ticks again; what would have come meanwhile is not made up for."""

    at: str
    next: str | None = None


class Ticked(Event):
    """A time came: something is submitted under this id, or nothing is and this says why."""

    tick: str
    execution_id: str | None = None
    plan_id: str | None = None
    skipped: str | None = None
    """`missed` (nobody was there then), `limit` (too many were missed), `overlap` (the last one runs)."""
    first: str | None = None
    """The first of several ticks that were passed over together; `tick` is the last of them."""
    manual: bool = False
    """Somebody wanted it now; the ticks to come are not touched."""
    cancels: tuple[str, ...] = ()
    """What still ran from earlier ticks, and is cancelled for this one."""
    next: str | None = None

    @property
    def child(self) -> str | None:
        """The id of what is submitted."""
        return self.execution_id or self.plan_id


class Deleted(Event):
    """It ticks no more; what it submitted goes on."""

    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Create(Command):
    """Begin."""

    created: Created
    now_ms: int


class Pause(Command):
    """Do not tick until it is resumed."""

    reason: str | None = None


class Resume(Command):
    """Tick again."""

    now_ms: int


class Tick(Command):
    """See what is due."""

    now_ms: int
    active: tuple[str, ...] = ()
    """What earlier ticks submitted and is not over."""


class Run(Command):
    """Do it now, beside the ticks."""

    now_ms: int


class Delete(Command):
    """Never tick again."""

    reason: str | None = None


class Look(Command):
    """See what it is; changes nothing."""


AnyCommand = Create | Pause | Resume | Tick | Run | Delete | Look


class State(Message):
    """A schedule, as its events tell it."""

    id: str = ""
    phase: Literal["new", "active", "paused", "over"] = "new"
    created: Created | None = None
    born: int = 0
    """Milliseconds since 1970."""
    cursor: int = 0
    """Every tick up to this moment was granted or passed over."""
    runs: int = 0
    """How often something was submitted, by a tick or by hand."""
    by_hand: int = 0
    last: Ticked | None = None
    """The last one that submitted something."""
    passed: Ticked | None = None
    """The last one that did not."""
    seq: int = 0
    since: int = 0
    """How many events it has since all of it was said at once."""

    @property
    def status(self) -> str:
        """One word: `active`, `paused`, `done` when no tick is left, `deleted`."""
        match self.phase:
            case "over":
                return "deleted"
            case "active" if not self.coming(1):
                return "done"
            case phase:
                return phase

    def coming(self, count: int) -> list[str]:
        """The next ticks, as far as it is not paused or over."""
        if self.created is None or self.phase not in ("new", "active"):
            return []
        return [stamp(each) for each in calendar.coming(self.created.when, self.cursor, self.born, count)]


class Carried(Event):
    """All that it is, so that what was before needs not be read to go on."""

    state: State


AnyEvent = Created | Paused | Resumed | Ticked | Deleted | Carried
EVENTS = (Created, Paused, Resumed, Ticked, Deleted, Carried)


def child(schedule: str, what: What, tick: str) -> str:
    """The id of what one tick submits; an id of its own is all that a key has to be."""
    return ids.derived("execution" if what == "submit" else "plan", key(schedule, tick))


def key(schedule: str, tick: str) -> str:
    """The idempotency key of what one tick submits."""
    return f"{schedule}@{tick}"


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    facts = _decide(state, command)
    if facts and state.since >= CARRY:
        return (Carried(state=state), *facts)
    return facts


def _decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    match state.phase, command:
        case "new", Create(created=created, now_ms=now):
            new = State(created=created, born=now, cursor=now)
            return (msgspec.structs.replace(created, at=stamp(now), next=_first(new.coming(1))),)
        case "new", _:
            raise NotFound("Schedule not found")
        case _, Create(created=created):
            if state.created is not None and created.digest == state.created.digest:
                return ()
            raise IdempotencyConflict
        case _, Look():
            return ()
        case "over", Tick() | Delete():
            return ()
        case "over", _:
            raise Conflict("the schedule is deleted: create a new one")
        case _, Delete(reason=reason):
            return (Deleted(reason=reason),)
        case "paused", Pause() | Tick():
            return ()
        case "active", Pause(reason=reason):
            return (Paused(reason=reason),)
        case "active", Resume():
            return ()
        case "paused", Resume(now_ms=now):
            again = msgspec.structs.replace(state, phase="active", cursor=max(state.cursor, now))
            return (Resumed(at=stamp(now), next=_first(again.coming(1))),)
        case "active", Tick():
            return _tick(state, command)
        case _, Run(now_ms=now):
            return (_granted(state, now, by_hand=state.by_hand + 1),)
        case _:
            raise Conflict(f"a schedule that is {state.phase} cannot do that")


def _first(moments: list[str]) -> str | None:
    return moments[0] if moments else None


def _tick(state: State, command: Tick) -> tuple[AnyEvent, ...]:
    created, now = state.created, command.now_ms
    assert created is not None  # noqa: S101  a schedule that is active was created
    # One more than can be made up for: the last of those that are not.
    due, first = calendar.between(created.when, state.cursor, now, state.born, ALL_MOST + 1)
    late = [tick for tick in due if tick < now - created.grace_ms]
    kept = {"skip": 0, "once": 1, "all": len(late)}[created.catch_up]
    dropped, why = due[: max(0, len(late) - kept)], "missed"
    if len(due) - len(dropped) > ALL_MOST:
        dropped, why = due[:-ALL_MOST], why if dropped else "limit"
    due = due[len(dropped) :]
    facts = [_passed(state, [first or dropped[0], *dropped], why)] if dropped else list[Ticked]()
    facts += _overlap(state, created.overlap, due, command.active)
    return tuple(facts)


def _overlap(state: State, overlap: Overlap, due: list[int], active: tuple[str, ...]) -> list[Ticked]:
    """Which of the ticks that are due submit something now; those left over come in the next decision."""
    if not due or (overlap == "queue" and active):
        return []
    match overlap:
        case "allow":
            return [_granted(state, tick) for tick in due[:LOT]]
        case "skip" if active:
            return [_passed(state, due, "overlap")]
        case "cancel":
            early = [_passed(state, due[:-1], "overlap")] if due[1:] else []
            return [*early, _granted(state, due[-1], cancels=active)]
        case _:
            return [_granted(state, due[0])]


def _granted(state: State, tick: int, by_hand: int = 0, cancels: tuple[str, ...] = ()) -> Ticked:
    created, schedule = state.created, state.id
    assert created is not None  # noqa: S101  see above
    time = stamp(tick)
    name = child(schedule, created.what, f"{time}#{by_hand}" if by_hand else time)
    return Ticked(
        tick=time,
        execution_id=name if created.what == "submit" else None,
        plan_id=None if created.what == "submit" else name,
        manual=bool(by_hand),
        cancels=cancels,
        next=_first(_after(state, state.cursor if by_hand else tick)),
    )


def _passed(state: State, ticks: list[int], why: str) -> Ticked:
    first = stamp(ticks[0]) if ticks[0] != ticks[-1] else None
    return Ticked(tick=stamp(ticks[-1]), first=first, skipped=why, next=_first(_after(state, ticks[-1])))


def _after(state: State, moment: int) -> list[str]:
    return msgspec.structs.replace(state, cursor=moment).coming(1)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    event = fact.event
    change = msgspec.structs.replace
    state = change(state, id=fact.entity, seq=fact.seq, since=state.since + 1)
    match event:
        case Created():
            born = millis(event.at or fact.time)
            return change(state, phase="active", created=event, born=born, cursor=born)
        case Paused():
            return change(state, phase="paused")
        case Resumed():
            return change(state, phase="active", cursor=max(state.cursor, millis(event.at)))
        case Ticked():
            if event.manual:
                state = change(state, by_hand=state.by_hand + 1)
            else:
                state = change(state, cursor=max(state.cursor, millis(event.tick)))
            if event.child is None:
                return change(state, passed=event)
            return change(state, runs=state.runs + 1, last=event)
        case Deleted():
            return change(state, phase="over")
        case Carried():
            return change(event.state, id=fact.entity, seq=fact.seq, since=0)
        case _:
            return state


SCHEDULE = Decider("schedule", State(), decide, evolve)
