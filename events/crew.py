"""A module in a simulation: its workers, what waits for them, and what is measured of both."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from events.look import URGENCY, ModuleLook
from events.message import Message

WINDOW_MS = 300_000
"""Over so much of the past arrivals are counted."""
SAMPLES = 100
"""Over so many of the last ones the duration is a mean."""


class Arrival(NamedTuple):
    """A piece of work: when it came, in milliseconds since 1970, and how long it took."""

    at_ms: int
    module: str
    duration_ms: int
    priority: str = "medium"


class Waits(Message, omit_defaults=False):
    """How long work waited, in milliseconds: of all of it, half waited no longer than `p50_ms`."""

    count: int = 0
    p50_ms: int = 0
    p95_ms: int = 0
    max_ms: int = 0


class Ran(Message, omit_defaults=False):
    """How a module did."""

    module: str
    waits: Waits
    peak_workers: int
    worker_seconds: float
    """How long all of its workers were there, together."""
    unserved: int
    """How many waited for ever."""


def waits(found: Iterable[int]) -> Waits:
    """Sum up waits; a percentile is the wait of one of them (nearest rank)."""
    row = sorted(found)
    if not row:
        return Waits()
    half, most = (row[-(-len(row) * part // 100) - 1] for part in (50, 95))
    return Waits(count=len(row), p50_ms=half, p95_ms=most, max_ms=row[-1])


class Crew:
    """A module and its workers."""

    def __init__(self, look: ModuleLook, now: int) -> None:
        self.look, self.workers, self.busy, self.scaled_at = look, look.workers, 0, 0
        self._queues: tuple[deque[Arrival], ...] = tuple(deque[Arrival]() for _ in URGENCY)
        """What waits, by its urgency, in the order in which it came."""
        self.waited: list[int] = []
        self._came, self._took = deque[int](), deque[int](maxlen=SAMPLES)
        self.peak, self._spent, self._since = look.workers, 0, now

    @property
    def present(self) -> int:
        """How many workers there are; one that is to end stays until its work is done."""
        return max(self.workers, self.busy)

    def spend(self, now: int) -> None:
        """Count how long the workers were there; called before their number changes."""
        self._spent += self.present * (now - self._since)
        self._since = now

    @property
    def queued(self) -> int:
        """How much waits."""
        return sum(map(len, self._queues))

    def came(self, arrival: Arrival) -> None:
        """Let it wait."""
        self._came.append(arrival.at_ms)
        self._queues[URGENCY.get(arrival.priority, 3) - 1].append(arrival)

    def take(self) -> Arrival | None:
        """The most urgent of what waits, if a worker is free for it."""
        if self.busy >= self.workers:
            return None
        return next((queue.popleft() for queue in self._queues if queue), None)

    def took(self, duration: int) -> None:
        """Note how long one took, in milliseconds."""
        self._took.append(duration)

    def seen(self, now: int) -> ModuleLook:
        """The module as the scaler sees it."""
        while self._came and self._came[0] <= now - WINDOW_MS:
            self._came.popleft()
        oldest = min((queue[0].at_ms for queue in self._queues if queue), default=now)
        return msgspec.structs.replace(
            self.look,
            state="running",
            workers=self.workers,
            busy=min(self.busy, self.workers),
            stuck=0,
            queued=self.queued,
            oldest_queued_seconds=(now - oldest) / 1000,
            completed=len(self.waited) - self.busy,
            failed=0,
            errors=(),
            arrivals_per_second=len(self._came) / (WINDOW_MS / 1000),
            service_seconds=sum(self._took) / len(self._took) / 1000 if self._took else 0.0,
            last_scaled_at=self.scaled_at,
            restarted_at=(),
        )

    def ran(self) -> Ran:
        """How it did."""
        return Ran(
            module=self.look.name,
            waits=waits(self.waited),
            peak_workers=self.peak,
            worker_seconds=self._spent / 1000,
            unserved=self.queued,
        )
