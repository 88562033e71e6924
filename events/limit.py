"""A limit: how many may be at it at once, how many may begin in a while, and who is at it now.

      new ---> open ---> closed
               | ^
               `-' set, removed, granted, returned

Only whoever is granted a place goes on, and the grant is a fact of the limit itself, decided on all facts
before it.  So it holds whoever asks, also somebody who has slept and believes that he is still in charge.  A
place comes back under the number of its grant: nobody can give back another's.

A limit that is used a lot becomes long, so it is kept in pages.  A page that is closed stays as it is; the
next one opens with what is still held.
"""

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

from events.errors import Conflict, NotFound
from events.errors import Limit as Full
from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact

On = Literal["node", "module", "key"]

PAGE = 500
"""A page with so many facts is closed when somebody finds the time."""
GRAINS = 100
"""Into so many parts the time of a rate is divided; a grant counts until the end of its part."""


class Rate(Message):
    """So many may begin in any stretch of so many milliseconds."""

    count: int
    per_ms: int


# ---- what happened ---------------------------------------------------------------------------------------


class Set(Event):
    """From now on no more than this."""

    on: On
    target: str
    """The node's id, the module's name, or the key as it was given."""
    max: int | None = None
    rate: Rate | None = None


class Removed(Event):
    """There is no limit any more."""


class Granted(Event):
    """These may go on; the grant is known by the sequence of this fact."""

    ids: tuple[str, ...]
    now_ms: int


class Counted(Event):
    """These were at it already when the limit was set."""

    ids: tuple[str, ...]


class Returned(Event):
    """The places of these are free again."""

    ids: tuple[str, ...]


class Closed(Event):
    """This page is full; the limit goes on there."""

    next: str


class Opened(Event):
    """A page begins with what the one before ended with."""

    on: On
    target: str
    max: int | None = None
    rate: Rate | None = None
    force: bool = False
    holders: dict[str, int] = {}
    recent: tuple[tuple[int, int], ...] = ()
    latest: int = 0


# ---- what can be asked -----------------------------------------------------------------------------------


class Put(Command):
    """Let there be no more than this; nothing of both means no limit."""

    on: On
    target: str
    max: int | None = None
    rate: Rate | None = None


class Grant(Command):
    """Let these go on, all of them or none."""

    ids: tuple[str, ...]
    now_ms: int


class Count(Command):
    """These are at it anyway."""

    ids: tuple[str, ...]


class Return(Command):
    """These have ended: executions, each with the sequence of its grant."""

    grants: dict[str, int]


class Confirm(Command):
    """Refuse if one of these has no place; changes nothing."""

    ids: tuple[str, ...]


class Close(Command):
    """End this page."""

    next: str


class Open(Command):
    """Begin a page."""

    opened: Opened


AnyEvent = Set | Removed | Granted | Counted | Returned | Closed | Opened
AnyCommand = Put | Grant | Count | Return | Confirm | Close | Open
EVENTS = (Set, Removed, Granted, Counted, Returned, Closed, Opened)


class State(Message):
    """A page of a limit, as its events tell it."""

    on: On | None = None
    target: str = ""
    max: int | None = None
    rate: Rate | None = None
    force: bool = False
    """Whether it limits anything now."""
    holders: dict[str, int] = {}
    """Who is at it, with the sequence of the grant."""
    recent: tuple[tuple[int, int], ...] = ()
    """Until when (milliseconds since 1970) how many beginnings count, oldest first."""
    latest: int = 0
    """The moment of the last grant; whoever has an older clock is told this one."""
    next: str | None = None
    """The page after this one, when it is closed."""
    facts: int = 0
    seq: int = 0

    def room(self, now_ms: int) -> int | None:
        """How many may begin now; None: as many as like."""
        if not self.force:
            return None
        rooms: list[int] = []
        if self.max is not None:
            rooms.append(self.max - len(self.holders))
        if self.rate is not None:
            moment = max(now_ms, self.latest)
            rooms.append(self.rate.count - sum(count for until, count in self.recent if until > moment))
        return max(0, min(rooms)) if rooms else None

    @property
    def relief(self) -> int:
        """When the oldest beginning of its rate counts no more, in milliseconds since 1970."""
        return self.recent[0][0] if self.recent else 0


def base(on: On, target: str) -> str:
    """The entity of a limit: its first page."""
    return f"{on}-{hashlib.sha256(target.encode()).hexdigest()[:32] if on == 'key' else target}"


def page(first: str, number: int) -> str:
    """The entity of a page; they are counted from 1."""
    return first if number == 1 else f"{first}--{number}"


def place(entity: str) -> tuple[str, int]:
    """The first page of the limit that a page belongs to, and its number."""
    first, mark, number = entity.rpartition("--")
    return (first, int(number)) if mark and number.isdecimal() else (entity, 1)


def carried(state: State) -> Opened:
    """What the page after a closed one begins with."""
    if state.on is None:
        raise Conflict("a page on which nothing happened has nothing to carry on")
    return Opened(
        on=state.on,
        target=state.target,
        max=state.max,
        rate=state.rate,
        force=state.force,
        holders=state.holders,
        recent=state.recent,
        latest=state.latest,
    )


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match command:
        case Open(opened=opened):
            return () if state.facts else (opened,)
        case Close() if state.next is not None:
            return ()
        case _ if state.next is not None:
            raise Conflict("this page is closed", next=state.next)
        case Put(max=None, rate=None):
            return (Removed(),) if state.force else ()
        case Put(on=on, target=target, max=most, rate=rate):
            same = state.force and (state.max, state.rate) == (most, rate)
            return () if same else (Set(on=on, target=target, max=most, rate=rate),)
        case _ if not state.facts:
            raise NotFound("Limit not found")
        case Close(next=entity):
            return (Closed(next=entity),)
        case Return(grants=grants):
            back = tuple(each for each, seq in grants.items() if state.holders.get(each) == seq)
            return (Returned(ids=back),) if back else ()
        case _ if not state.force:
            return ()
        case Count(ids=ids):
            new = _new(state, ids)
            return (Counted(ids=new),) if new else ()
        case Confirm(ids=ids):
            if _new(state, ids):
                raise Full(f"the limit of {state.on} {state.target} has no place for it")
            return ()
        case Grant(ids=ids, now_ms=now):
            return _grant(state, _new(state, ids), now)


def _new(state: State, ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in dict.fromkeys(ids) if each not in state.holders)


def _grant(state: State, ids: tuple[str, ...], now_ms: int) -> tuple[AnyEvent, ...]:
    room = state.room(now_ms)
    if room is not None and len(ids) > room:
        raise Full(f"the limit of {state.on} {state.target} has room for {room} now", room=room)
    return (Granted(ids=ids, now_ms=max(now_ms, state.latest)),) if ids else ()


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    event = fact.event
    change = msgspec.structs.replace
    state = change(state, seq=fact.seq, facts=state.facts + 1)
    match event:
        case Set():
            recent = state.recent if event.rate == state.rate else _renewed(state, event.rate)
            return change(
                state,
                on=event.on,
                target=event.target,
                max=event.max,
                rate=event.rate,
                force=True,
                recent=recent,
            )
        case Removed():
            return change(state, force=False, max=None, rate=None, recent=(), holders={})
        case Granted():
            recent = _counted(state, len(event.ids), event.now_ms)
            holders = state.holders | dict.fromkeys(event.ids, fact.seq)
            return change(state, holders=holders, recent=recent, latest=max(state.latest, event.now_ms))
        case Counted():
            return change(state, holders=state.holders | dict.fromkeys(event.ids, fact.seq))
        case Returned():
            gone = frozenset(event.ids)
            return change(state, holders={k: v for k, v in state.holders.items() if k not in gone})
        case Closed():
            return change(state, next=event.next)
        case Opened():
            said = {name: getattr(event, name) for name in Opened.__struct_fields__}
            return change(state, **said)
        case _:
            return state


def _counted(state: State, count: int, now_ms: int) -> tuple[tuple[int, int], ...]:
    """Note beginnings; those of one part of the time are one number."""
    if state.rate is None:
        return ()
    until = _until(state.rate, now_ms)
    kept = [each for each in state.recent if each[0] > now_ms]
    if kept and kept[-1][0] >= until:
        until, before = kept.pop()
        count += before
    return (*kept, (until, count))


def _until(rate: Rate, now_ms: int) -> int:
    grain = max(1, rate.per_ms // GRAINS)
    return -(-now_ms // grain) * grain + rate.per_ms


def _renewed(state: State, rate: Rate | None) -> tuple[tuple[int, int], ...]:
    """What began under another rate counts for the new one too, as if all of it had begun last."""
    if rate is None:
        return ()
    begun = sum(count for _, count in state.recent)
    return ((_until(rate, state.latest), begun),) if begun else ()


LIMIT = Decider("limit", State(), decide, evolve)
"""Limits: their rules, for the log."""
