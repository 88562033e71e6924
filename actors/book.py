"""The limits as the limiter knows them, and everything that is asked of them."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from actors import pages
from actors.clerk import Table
from actors.home import milliseconds
from actors.limits import last_pages
from actors.pages import Head
from actors.places import Grants, Place, unset
from events import limit
from events.codec import Fact
from events.errors import Conflict, HindbrainError, NotFound
from events.errors import Limit as Full
from events.limit import LIMIT
from events.ports import Ask, Loaded, Log, Outcome, Snapshot

AGAIN_SECONDS = 1.0
"""Until what could not be read or stored is tried again."""
SETTLE_SECONDS = 0.3
"""Until every node has heard of a new limit."""
LOT = 1000

_PASSED = "status = 'running' OR (status = 'queued' AND (held IS NULL OR (held->>'$.reason') = 'idle'))"
AT_IT = {
    "module": "SELECT id FROM executions WHERE module = ? AND status = 'running'",
    "key": "WITH births AS MATERIALIZED (SELECT entity, data FROM events WHERE kind = 'execution' AND n = 1"  # noqa: S608 -- SQL of our own words
    f" AND entity IN (SELECT id FROM executions WHERE {_PASSED}))"
    " SELECT entity FROM births WHERE (data->>'$.spec.concurrency_key') = ?",
}
"""Who is at it when a limit is set."""


class Limiter(Protocol):
    """Who has the book."""

    log: Log

    @property
    def by(self) -> str:
        """Who asks."""
        ...

    def came(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Have an answer taken in the limiter's thread, while it is still about something."""
        ...

    def ask(self, asks: Sequence[Ask], done: Callable[[Outcome], None]) -> None:
        """Have something decided."""
        ...

    def tables(
        self,
        sql: str,
        params: Sequence[Any],
        done: Callable[[Table | HindbrainError], None],
        floor: int = 0,
    ) -> None:
        """Ask the tables."""
        ...

    def touched(self, first: str) -> None:
        """Something about a limit has changed."""
        ...

    def changed(self) -> None:
        """Other limits are in force."""
        ...

    def doubt(self, entities: Iterable[str]) -> None:
        """These have a place; whether they need it has to be seen."""
        ...

    def freed(self, entities: Iterable[str]) -> None:
        """These have a place no more."""
        ...


class Book:
    """All limits."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._places: dict[str, Place] = {}
        self._grants = Grants()

    # ---- what there is ---------------------------------------------------------------------------------

    def begin(self, entities: Iterable[str], done: Callable[[], None]) -> None:
        """Read the limits of which these are pages."""
        heads = last_pages(entities)
        left = set(heads)

        def loaded(lot: Sequence[Loaded]) -> None:
            for each in lot:
                left.discard(each.entity)
                self._begin(each)
            if not left:
                done()

        if heads:
            self._limiter.log.load(LIMIT, heads, self._limiter.came(loaded))
        else:
            done()

    def _begin(self, loaded: Loaded) -> None:
        place = self._places[limit.place(loaded.entity)[0]] = unset(limit.place(loaded.entity)[0])
        if loaded.error is not None:
            self._find(place)
            return
        place.entity = loaded.entity
        self._take(place, loaded.snapshot)
        self._limiter.doubt(place.state.holders)
        names = [fact.name for fact in loaded.facts]
        place.counting = place.state.force and _last(names, "set") > _last(
            names, "granted", "counted", "opened"
        )
        if place.state.next is not None:
            self._find(place)

    def learn(self, fact: Fact) -> None:
        """Take note of what happened to a limit."""
        first, number = limit.place(fact.entity)
        place = self._places.get(first)
        if place is None:
            place = self._places[first] = unset(first)
        known = limit.place(place.entity)[1]
        if number == known and fact.n == place.snapshot.n + 1:
            self._take(place, Snapshot(limit.evolve(place.state, fact), fact.n, fact.seq))
        elif not place.busy and (number > known or (number == known and fact.n > place.snapshot.n)):
            self._find(place)

    def act(self, now: float, loose: bool, floor: int) -> None:
        """Do what is due; `loose`: somebody is let go without a grant, `floor`: the last of those before."""
        for place in list(self._places.values()):
            if place.busy or now < place.rests:
                continue
            if place.state.next is not None:
                self._find(place)
            elif place.back:
                self._return(place)
            elif place.state.facts >= limit.PAGE:
                self._turn(place)
            elif place.counting and now >= place.counts_at and not loose:
                self._count(place, floor)

    # ---- who has a place -------------------------------------------------------------------------------

    def force(self, *firsts: str) -> tuple[str, ...]:
        """Those of these limits that are in force, in the order in which they are asked."""
        return tuple(sorted(each for each in firsts if (p := self._places.get(each)) and p.state.force))

    def of(self, entity: str) -> dict[str, int]:
        """Which limits it has a place on, with the sequences of the grants."""
        return self._grants.of(entity)

    def give_back(self, entity: str, before: int) -> None:
        """It needs no place that was granted before that sequence."""
        for first, granted in self.of(entity).items():
            if granted < before:
                self._places[first].back[entity] = granted

    def room(self, needs: Sequence[str], now_ms: int) -> int | None:
        """How many may be let in now; None: that is to be seen when something has happened."""
        places = [self._places[each] for each in needs]
        if not all(place.free for place in places):
            return 0
        rooms = [room for place in places if (room := place.state.room(now_ms)) is not None]
        if not rooms:
            return LOT
        if not min(rooms) and not any(p.state.rate and p.state.relief > now_ms for p in places):
            return None
        return min(rooms)

    def grant(self, ids: tuple[str, ...], needs: Sequence[str], done: Callable[[bool], None]) -> None:
        """Ask for places on these limits, one after the other."""
        place = self._places[needs[0]]

        def decided(outcome: Outcome) -> None:
            if not self._settled(place, outcome):
                done(False)
            elif needs[1:]:
                self.grant(ids, needs[1:], done)
            else:
                done(True)

        self._limited(place, limit.Grant(ids=ids, now_ms=milliseconds()), decided)

    # ---- one limit -------------------------------------------------------------------------------------

    def _take(self, place: Place, snapshot: Snapshot[limit.State]) -> None:
        """A limit is like this now."""
        old, new = place.state, snapshot.state
        if snapshot.seq <= place.snapshot.seq:
            return
        place.snapshot = snapshot
        moved = {entity for entity, _ in old.holders.items() ^ new.holders.items()}
        self._grants.learn(place.first, new, moved)
        gone = moved - new.holders.keys()
        for each in gone:
            place.back.pop(each, None)
        if old.force != new.force:
            place.counting = new.force
            place.counts_at, place.floor = time.monotonic() + SETTLE_SECONDS, snapshot.seq
            self._limiter.changed()
        elif old != new:
            self._limiter.touched(place.first)
        if gone:
            self._limiter.freed(gone)

    def knows(self, first: str, seq: int) -> bool:
        """Whether it is known as it was at that sequence; else it is looked up, and known soon."""
        place = self._places.setdefault(first, unset(first))
        if place.checked >= seq or place.state.force:
            return True
        if not place.busy and time.monotonic() >= place.rests:
            self._find(place, seq)
        return False

    def _find(self, place: Place, seq: int = 0) -> None:
        """Look which page is the last one, and open a new one after one that is closed."""
        place.busy = True

        def found(head: Head | HindbrainError) -> None:
            if isinstance(head, HindbrainError):
                place.busy, place.rests = False, time.monotonic() + AGAIN_SECONDS
                return
            place.entity, place.checked = head.entity, max(place.checked, seq)
            self._take(place, head.snapshot)
            self._open(place)

        pages.find(self._limiter.log, place.first, self._limiter.came(found))

    def _open(self, place: Place) -> None:
        ask = pages.opening(Head(place.entity, place.snapshot), self._limiter.by)
        if ask is None:
            place.busy = False
            self._limiter.touched(place.first)
            return

        def opened(outcome: Outcome) -> None:
            place.busy = False
            if outcome.error is None:
                place.entity = outcome.ask.entity
                self._take(place, outcome.snapshot)
            else:
                place.rests = time.monotonic() + AGAIN_SECONDS
            self._limiter.touched(place.first)

        self._limiter.ask([ask], opened)

    def _turn(self, place: Place) -> None:
        """A page is full."""
        first, number = limit.place(place.entity)

        def closed(outcome: Outcome) -> None:
            if outcome.error is None:
                self._take(place, outcome.snapshot)
                self._open(place)
            else:
                self._settled(place, outcome)

        self._limited(place, limit.Close(next=limit.page(first, number + 1)), closed)

    def _return(self, place: Place) -> None:
        grants = dict(list(place.back.items())[:LOT])

        def done(outcome: Outcome) -> None:
            if self._settled(place, outcome):
                for entity, granted in grants.items():
                    if place.back.get(entity) == granted:
                        del place.back[entity]

        self._limited(place, limit.Return(grants=grants), done)

    def _count(self, place: Place, floor: int) -> None:
        """Somebody may have been at it when it was set."""
        on, target = place.state.on, place.state.target
        if on is None or on == "node":
            place.counting = False
            return
        place.busy = True

        def found(answer: Table | HindbrainError) -> None:
            place.busy = False
            if isinstance(answer, HindbrainError):
                place.rests = time.monotonic() + AGAIN_SECONDS
                return
            ids = tuple(str(row[0]) for row in answer.rows)
            self._limited(place, limit.Count(ids=ids), lambda outcome: counted(outcome, ids))

        def counted(outcome: Outcome, ids: tuple[str, ...]) -> None:
            if self._settled(place, outcome):
                place.counting = False
                self._limiter.doubt(ids)
                self._limiter.touched(place.first)

        self._limiter.tables(AT_IT[on], (target,), found, max(place.floor, floor))

    def _limited(self, place: Place, command: limit.AnyCommand, done: Callable[[Outcome], None]) -> None:
        place.busy = True
        self._limiter.ask([Ask(LIMIT, place.entity, command, by=self._limiter.by)], done)

    def _settled(self, place: Place, outcome: Outcome) -> bool:
        """Take an answer of a limit; one that cannot be is followed up."""
        place.busy = False
        error = outcome.error
        if error is None or isinstance(error, Full):
            self._take(place, outcome.snapshot)
        elif isinstance(error, Conflict | NotFound):
            self._find(place)
        else:
            place.rests = time.monotonic() + AGAIN_SECONDS
        self._limiter.touched(place.first)
        return error is None


def _last(names: Sequence[str], *wanted: str) -> int:
    return max((index for index, name in enumerate(names) if name in wanted), default=-1)
