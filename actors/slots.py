"""How many commands a node runs at once, and what was offered to it and has no place yet."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from events.ports import Delivery, Work
from events.spec import PRIORITIES

SPARE_SECONDS = 2.0
"""How long work that came too early is kept before it is given back."""
BRISK_SECONDS = 0.2
"""While commands are shorter than that, the next ones are fetched ahead of time."""
_RANKS = {priority: rank for rank, priority in enumerate(PRIORITIES)}


class Slots:
    """The places for commands; `claim` gets what has one, the most urgent first.

    What is spare never stands in the way of something more urgent: that is asked for still, and the least
    urgent is given back for it.
    """

    def __init__(self, size: int, work: Work, claim: Callable[[Delivery], None]) -> None:
        self.size, self._work, self._claim = size, work, claim
        """How many there are may change at any time."""
        self.draining = False
        """Nothing more is taken: the node goes down."""
        self.paused = False
        """Nothing is taken until somebody lets it."""
        self.ready = False
        """Nothing is taken before that, because it is not known how many there are."""
        self._spare = [deque[tuple[float, Delivery]]() for _ in PRIORITIES]
        self._wanted: tuple[int, ...] = ()
        self._seen: int | None = None
        """The number of the last delivery; None when it is better to count anew."""
        self._busy = self._pending = 0
        self._brisk = 0.0
        """How many seconds a command has its place, on a moving average."""

    @property
    def free(self) -> int:
        """How many more commands could run; one that has ended makes room before its end is stored."""
        return max(0, self.size - self._busy)

    @property
    def _open(self) -> bool:
        return self.ready and not self.draining and not self.paused

    def enter(self) -> None:
        """Somebody has a place now."""
        self._busy += 1

    def leave(self, since: float) -> None:
        """Somebody who entered then has left."""
        self._busy -= 1
        self._brisk += (time.monotonic() - since - self._brisk) / 8

    def defer(self) -> None:
        """What was claimed has to be looked at first; its place is kept."""
        self._pending += 1

    def resume(self) -> None:
        """It was looked at."""
        self._pending -= 1

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Work is offered."""
        for delivery in deliveries:
            self._seen = delivery.number
            if self._open:
                self._spare[_rank(delivery)].append((time.monotonic(), delivery))
            else:
                delivery.nak(0.0)

    def fill(self) -> None:
        """Use what is spare, give back what is too much, and ask for what more could be taken."""
        for level in self._spare:
            while level and self.free > self._pending and self._open:
                self._claim(level.popleft()[1])
        ahead = self.size if self._brisk < BRISK_SECONDS and self._open else 0
        for level in reversed(self._spare):
            while level and self._spares > ahead:
                level.pop()[1].nak(0.0)
        room = max(0, self.free - self._pending) + ahead - self._spares if self._open else 0
        if self._spares and 0 < room < ahead // 2:
            return  # a few more are not worth asking for while there is something to go on with
        less = [sum(map(len, self._spare[rank + 1 :])) for rank in range(len(PRIORITIES))]
        wanted = (room, *less)
        if any(wanted) or any(self._wanted):
            self._wanted = wanted
            self._work.want(room, less, self._seen)

    def tick(self) -> None:
        """Give back what had to wait for too long, and ask as if nothing were under way: it may be lost."""
        self._seen = None
        moment = time.monotonic()
        for level in self._spare:
            while level and moment - level[0][0] > SPARE_SECONDS:
                level.popleft()[1].nak(0.0)

    @property
    def _spares(self) -> int:
        return sum(map(len, self._spare))


def _rank(delivery: Delivery) -> int:
    """How urgent it is, by the level of the queue from which it came; 0 is most urgent."""
    return _RANKS.get(delivery.fact.subject.rpartition(".")[2], 0)  # type: ignore[call-overload] -- any text may be looked up
