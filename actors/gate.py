"""What limits mean where commands are run: how many slots there are, and whom a limited module lets in."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors import pages
from actors.pages import Head
from actors.slots import Slots
from events import execution, limit
from events.codec import Fact
from events.errors import Conflict, HindbrainError
from events.errors import Limit as Full
from events.execution import EXECUTION, State
from events.limit import LIMIT
from events.ports import Ask, Delivery, Log, Outcome, Snapshot

AGAIN_SECONDS = 1.0
MODULE = "commands"
"""The module whose work this node takes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Facts about limits; None when some may have been missed."""

    facts: Sequence[Fact] | None


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit was looked up."""

    first: str
    head: Head | HindbrainError


@dataclass(frozen=True, slots=True)
class Asked:
    """A limit says whether this one may start."""

    delivery: Delivery
    snapshot: Snapshot[State]
    outcome: Outcome


class Gate:
    """Lets through what is offered, unless the module is limited and has no place for it.

    The log is asked for each one then: only who was granted a place is let through, the others wait for the
    limiter.  Nothing is taken before the limits are known.
    """

    def __init__(
        self,
        node: str,
        journal: Log,
        slots: Slots,
        tell: Callable[[Any], None],
        start: Callable[[Delivery, Snapshot[State]], None],
    ) -> None:
        self._node, self._log, self._slots, self._tell, self._start = node, journal, slots, tell, start
        self._own, self._module = limit.base("node", node), limit.base("module", MODULE)
        self._heads: dict[str, Head] = {}
        self._stale = {self._own, self._module}
        """Those that have to be looked up."""
        self._size = slots.size
        self._due = 0.0

    def tick(self) -> None:
        """Look up what is not known."""
        if self._stale and time.monotonic() >= self._due:
            self._due = time.monotonic() + AGAIN_SECONDS
            for first in self._stale:
                self._find(first)

    def _find(self, first: str) -> None:
        pages.find(self._log, first, lambda head: self._tell(Bound(first, head)))

    def receive(self, message: Bounds | Bound | Asked) -> None:
        """Deal with one message."""
        match message:
            case Bounds(None):
                self._stale, self._due = {self._own, self._module}, 0.0
            case Bounds(facts) if facts is not None:
                for fact in facts:
                    self._learn(fact)
            case Bound(first, Head() as head):
                self._stale.discard(first)
                known = self._heads.get(first)
                if known is None or head.snapshot.seq > known.snapshot.seq:
                    self._know(first, head)
            case Asked(delivery, snapshot, outcome):
                self._asked(delivery, snapshot, outcome)
            case _:
                pass

    def _learn(self, fact: Fact) -> None:
        first, number = limit.place(fact.entity)
        if first not in (self._own, self._module):
            return
        head = self._heads.get(first)
        if head is None:
            self._find(first)
        elif fact.seq > head.snapshot.seq:
            newer = number > limit.place(head.entity)[1]
            state = LIMIT.initial if newer else head.snapshot.state
            self._know(first, Head(fact.entity, Snapshot(limit.evolve(state, fact), fact.n, fact.seq)))

    def _know(self, first: str, head: Head) -> None:
        self._heads[first] = head
        state = head.snapshot.state
        if first == self._own:
            most = state.max if state.force else None
            self._slots.size = self._size if most is None else most
        self._slots.ready = {self._own, self._module} <= self._heads.keys()

    # ---- who is let through ----------------------------------------------------------------------------

    def pass_(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        """Start it, if it may start."""
        head = self._heads.get(self._module)
        if head is None or not head.snapshot.state.force:
            self._start(delivery, snapshot)
            return
        entity = delivery.fact.entity
        self._slots.defer()
        ask = Ask(LIMIT, head.entity, limit.Confirm(ids=(entity,)), by=f"node:{self._node}", tag=entity)

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                self._tell(Asked(delivery, snapshot, outcome))

        self._log.handle([ask], done)

    def _asked(self, delivery: Delivery, snapshot: Snapshot[State], outcome: Outcome) -> None:
        self._slots.resume()
        match outcome.error:
            case None if self._slots.free:
                self._start(delivery, snapshot)
            case None:
                delivery.nak(0.0)
            case Full():
                self._hold(delivery, snapshot)
            case error:
                if isinstance(error, Conflict):
                    self._find(self._module)
                delivery.nak(AGAIN_SECONDS / 5)

    def _hold(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        """The limiter has it from here on."""
        command = execution.Hold(reason="limit", by=f"module {MODULE}")
        by = f"node:{self._node}"
        ask = Ask(EXECUTION, delivery.fact.entity, command, by=by, known=snapshot)

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                delivery.ack() if outcome.error is None else delivery.nak(AGAIN_SECONDS)

        self._log.handle([ask], done)
