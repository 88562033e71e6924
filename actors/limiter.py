"""The limiter lets work go that waits for a limit or an idle system, and ages what waits too long.

Whoever waits is granted a place on every limit it needs, one limit after the other in the order of their
names, and is released with the last of them; when one refuses, the others get their places back.  A place is
given back when the execution has ended, or waits again.  Both are facts of the limit, so nobody who has slept
can let in one too many.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from actors import clerk
from actors.ageing import Ageing, Idling
from actors.book import Book
from actors.clerk import Table
from actors.home import Home, milliseconds
from actors.limits import HEADS
from actors.places import Groups, Waiting, waiting
from actors.role import Role, Tenure
from events import execution, limit
from events.codec import Fact, millis
from events.errors import HindbrainError
from events.execution import EXECUTION
from events.ports import Ask, Doors, Loaded, Log, Outcome

EVER = 2**63
"""After every sequence."""
LOT = 100
"""Executions of one grant."""
READ = 1000
AGAIN_SECONDS = 1.0
"""Until what could not be read is tried again."""

MODULE = "module "
"""What is held by a module's limit is held by this and its name."""
HELD = (
    "SELECT id, held->>'$.reason', held->>'$.by', priority, module, attempt, epoch_ms(created_at), seq"
    " FROM executions WHERE status = 'queued' AND (held->>'$.reason') IN ('limit', 'idle')"
)


@dataclass(frozen=True, slots=True)
class _Came:
    """An answer, and of which beginning of ours the question was."""

    era: int
    take: Callable[[Any], Any]
    answer: Any


class Limiter(Role):
    """Played by one node at a time."""

    name = "limiter"
    questions = (HELD, HEADS)
    heeds = frozenset({"held"})

    def __init__(
        self,
        home: Home,
        tenure: Tenure,
        journal: Log,
        doors: Doors,
        tell: Callable[[Any], None],
        slots: int = 1,
        ageing_seconds: float = 0.0,
    ) -> None:
        super().__init__(home, tenure, journal, doors, tell)
        self._slots, self._ageing_seconds = slots, ageing_seconds
        self._era = 0
        self._forget()

    def _forget(self) -> None:
        self._era += 1
        self._ready = False
        self._book = Book(self)
        self._groups = Groups()
        self._unread: set[str] = set()
        self._reads_at = 0.0
        self._under_way: set[str] = set()
        """Those that are being granted or released."""
        self._loose: set[str] = set()
        """Those that are released without a grant, until that is stored."""
        self._loosened = 0
        self._idling = Idling(self._slots, self.tables, self._release)
        self._ageing = Ageing(self._ageing_seconds, self.tables, self._prioritize)

    # ---- what there is ---------------------------------------------------------------------------------

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what waits and with the limits there are."""
        before = set(self.watched)
        self._forget()
        for entity, reason, by, priority, module, attempt, born, seq in answers[0].rows:
            self.watched.add(entity)
            key = str(by).removeprefix("limit ") if str(by).startswith("limit ") else None
            if reason == "limit" and key is None and by != "limiter":
                self._unread.add(entity)
                continue
            one = Waiting(entity, key, module, priority, born, seq, attempt)
            if reason == "idle":
                self._idling.put(one)
            else:
                self._groups.put(one, ())
        self._book.begin((str(row[0]) for row in answers[1].rows), lambda: self._begun(before))

    def _begun(self, before: set[str]) -> None:
        """All limits are known: see who waits for which."""
        self._ready = True
        self.changed()
        self.freed(before)

    def learn(self, fact: Fact) -> None:
        """Take note of what happened."""
        if fact.kind == "limit":
            self._book.learn(fact)
            return
        event, entity = fact.event, fact.entity
        match event:
            case execution.Held(reason="limit" | "idle", spec=spec) if spec is not None:
                self.watched.add(entity)
                born = millis(fact.time)
                one = Waiting(entity, spec.concurrency_key, spec.module, spec.priority, born, fact.seq, 0)
                self._idling.put(one) if event.reason == "idle" else self._wait(one)
            case execution.Held(reason="limit" | "idle"):
                self.doubt([entity])
            case execution.Held() if entity in self.watched:
                self._gone(entity, fact.seq)
            case execution.Prioritized(priority=priority):
                one = self._groups.get(entity)
                if one is not None:
                    one.priority = priority
                    self._groups.put(one, self._needs(one))
            case event if isinstance(event, execution.TERMINAL):
                self._gone(entity, EVER)
            case _:
                pass

    def _gone(self, entity: str, seq: int) -> None:
        """It waits no more, and needs no place that it got before this."""
        self._groups.drop(entity)
        self._idling.drop(entity)
        self._unread.discard(entity)
        self._book.give_back(entity, seq)
        self.freed([entity])

    # ---- what the book says ----------------------------------------------------------------------------

    def touched(self, first: str) -> None:
        """Something about a limit has changed."""
        self._groups.touch(first)

    def changed(self) -> None:
        """Other limits are in force: everybody needs something else now."""
        if self._ready:
            for one in self._groups.everybody():
                self._wait(one)

    def doubt(self, entities: Iterable[str]) -> None:
        """How these are has to be looked up."""
        some = set(entities)
        self.watched |= some
        self._unread |= some

    def freed(self, entities: Iterable[str]) -> None:
        """These have no place now; those that wait for nothing either are of no interest any more."""
        for each in entities:
            busy = each in self._under_way or each in self._unread or each in self._idling
            if not busy and not self._book.of(each) and self._groups.get(each) is None:
                self.watched.discard(each)

    # ---- who waits -------------------------------------------------------------------------------------

    def _needs(self, one: Waiting) -> tuple[str, ...]:
        firsts = [limit.base("module", one.module)]
        if one.key is not None:
            firsts.append(limit.base("key", one.key))
        return self._book.force(*firsts)

    def _wait(self, one: Waiting) -> None:
        """It waits; but what was granted after it began to wait was granted for this."""
        if one.entity in self._under_way:
            self._unread.add(one.entity)
            return
        if not self._ready:
            self._groups.put(one, ())
            return
        needs = self._needs(one)
        fresh = {first for first, seq in self._book.of(one.entity).items() if seq > one.seq}
        self._book.give_back(one.entity, one.seq)
        if fresh and fresh >= set(needs):
            self._release([one], "limit")
        elif fresh:
            # Somebody else began to let it in; whether he goes on is not known, so nothing is taken back.
            self._grant([one], needs)
        else:
            self._groups.put(one, needs)

    def _read(self, now: float) -> None:
        """Look at executions of which we do not know enough."""
        some = list(self._unread - self._under_way)[:READ]
        if some and now >= self._reads_at:
            self._unread.difference_update(some)
            self.watched.update(some)
            self.log.load(EXECUTION, some, self.came(lambda lot: [self._examine(each) for each in lot]))

    def _examine(self, loaded: Loaded) -> None:
        state, entity = loaded.snapshot.state, loaded.entity
        if loaded.error is not None:
            self._unread.add(entity)
            self._reads_at = time.monotonic() + AGAIN_SECONDS
        elif state.phase == "held" and state.held and state.held.reason in ("limit", "idle"):
            if state.held.by.startswith(MODULE) and not self._book.knows(
                limit.base("module", state.spec.module), loaded.snapshot.seq
            ):
                # A node knows of a limit that we have not heard of: it would come back at once.
                self._unread.add(entity)
                return
            one = waiting(loaded, millis(state.created_at))
            self._groups.drop(entity)
            self._idling.put(one) if state.held.reason == "idle" else self._wait(one)
        elif state.phase in ("over", "new"):
            # It may have been counted after its end, from tables that did not know of that yet.
            self._gone(entity, EVER)
        elif state.phase == "held":
            self._gone(entity, loaded.snapshot.seq + 1)
        else:
            self._groups.drop(entity)
            self._idling.drop(entity)
            self.freed([entity])

    # ---- letting go ------------------------------------------------------------------------------------

    def act(self) -> None:
        """Give back what has ended, let in whom there is room for, release, age."""
        now = time.monotonic()
        self._read(now)
        if self._ready:
            self._book.act(now, bool(self._loose), self._loosened)
            for needs in self._groups.urgent():
                self._let_in(needs)
            self._idling.act(now)
            self._ageing.act(now)

    def _let_in(self, needs: tuple[str, ...]) -> None:
        room = self._book.room(needs, milliseconds())
        if room is None:
            self._groups.dirty.discard(needs)
            return
        lot = self._groups.take(needs, min(LOT, room))
        if lot and not needs:
            self._release(lot, "limit")
        elif lot:
            self._grant(lot, needs)

    def _grant(self, lot: Sequence[Waiting], needs: tuple[str, ...]) -> None:
        ids = tuple(one.entity for one in lot)
        self._under_way.update(ids)

        def done(granted: bool) -> None:
            self._under_way.difference_update(ids)
            if granted:
                self._release(lot, "limit")
                return
            for one in lot:
                for seq in list(self._book.of(one.entity).values()):
                    self._book.give_back(one.entity, seq + 1)
                self._groups.put(one, self._needs(one))

        self._book.grant(ids, needs, done)

    def _release(self, lot: Sequence[Waiting], reason: str) -> None:
        ids = {one.entity for one in lot}
        self._under_way |= ids
        self._loose |= {each for each in ids if not self._book.of(each)}

        def done(outcome: Outcome) -> None:
            entity = outcome.ask.entity
            self._under_way.discard(entity)
            self._loose.discard(entity)
            self._loosened = max(self._loosened, outcome.snapshot.seq)
            if outcome.facts:
                self.freed([entity])
            else:
                self._unread.add(entity)

        def ask(one: Waiting) -> Ask:
            command = execution.Release(reason=reason, attempt=one.attempt)
            return Ask(EXECUTION, one.entity, command, by=self.by)

        self.ask([ask(one) for one in lot], done)

    def _prioritize(self, entity: str, command: execution.Prioritize) -> None:
        self.ask([Ask(EXECUTION, entity, command, by=self.by)], lambda _: None)

    # ---- asking ----------------------------------------------------------------------------------------

    def hear(self, message: Any) -> None:
        """Deal with an answer; one from before the last beginning is about nothing any more."""
        match message:
            case _Came(era, take, answer):
                if era == self._era:
                    take(answer)
            case _:
                super().hear(message)

    def came(self, take: Callable[[Any], Any]) -> Callable[[Any], None]:
        """Have an answer taken in our thread, while it is still about something."""
        era = self._era
        return lambda answer: self.tell(_Came(era, take, answer))

    def ask(self, asks: Sequence[Ask], done: Callable[[Outcome], None]) -> None:
        """Have something decided; each outcome is taken by itself."""
        era = self._era
        self.decide(asks, lambda outcomes: _Came(era, lambda lot: [done(each) for each in lot], outcomes))

    def tables(
        self,
        sql: str,
        params: Sequence[Any],
        done: Callable[[Table | HindbrainError], None],
        floor: int = 0,
    ) -> None:
        """Ask the tables, with everything that we know in them."""
        clerk.ask(self._doors, sql, params, self.came(done), min_seq=max(self._last, floor))
