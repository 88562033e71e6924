"""What would have been: recorded work, run again by workers that a policy scales; no clock, no chance.

Work comes when it came and takes as long as it took.  A free worker takes the most urgent of what waits, of
these the first that came; a worker that is to end does so after its work.  Workers start at once, and nothing
fails: what is measured is the policy.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from events import scaling
from events.look import URGENCY, Decision, ModuleLook, Snapshot
from events.message import Message
from events.policy import Policy

WINDOW_MS = 300_000
"""Over so much of the past arrivals are counted."""
SAMPLES = 100
"""Over so many of the last ones the duration is a mean."""
PATIENCE = 360
"""After so many ticks without any change what still waits will wait for ever."""


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


class Decided(Message, omit_defaults=False):
    """A decision, and when."""

    time_ms: int
    decision: Decision


class Outcome(Message, omit_defaults=False):
    """How it went."""

    modules: tuple[Ran, ...]
    waits: Waits
    peak_workers: int
    worker_seconds: float
    decisions: tuple[Decided, ...]


def waits(found: Iterable[int]) -> Waits:
    """Sum up waits; a percentile is the wait of one of them (nearest rank)."""
    row = sorted(found)
    if not row:
        return Waits()
    half, most = (row[-(-len(row) * part // 100) - 1] for part in (50, 95))
    return Waits(count=len(row), p50_ms=half, p95_ms=most, max_ms=row[-1])


def simulate(arrivals: Sequence[Arrival], start: Snapshot, policy: Policy, every_ms: int = 10_000) -> Outcome:
    """Run it again from the modules of `start`; whatever comes for others is passed over."""
    return _World(start, policy, every_ms).run(arrivals)


class _Pool:
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
        return sum(map(len, self._queues))

    def came(self, arrival: Arrival) -> None:
        self._came.append(arrival.at_ms)
        self._queues[URGENCY.get(arrival.priority, 3) - 1].append(arrival)

    def take(self) -> Arrival | None:
        """The most urgent of what waits, if a worker is free for it."""
        if self.busy >= self.workers:
            return None
        return next((queue.popleft() for queue in self._queues if queue), None)

    def took(self, duration: int) -> None:
        self._took.append(duration)

    def seen(self, now: int) -> ModuleLook:
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
        return Ran(
            module=self.look.name,
            waits=waits(self.waited),
            peak_workers=self.peak,
            worker_seconds=self._spent / 1000,
            unserved=self.queued,
        )


class _World:
    def __init__(self, start: Snapshot, policy: Policy, every_ms: int) -> None:
        self._start, self._policy, self._every = scaling.exact(start), policy, every_ms
        self._categories = {each.name: each for each in self._start.categories}
        self._standing: tuple[str, ...] = ()
        self._pools: dict[str, _Pool] = {}
        self._ends: list[tuple[int, int, str, int]] = []
        """What runs: when it ends, in which order it began, where, and how long it takes."""
        self._decisions: list[Decided] = []
        self._begun, self._peak, self._quiet = 0, self._start.workers, 0

    def run(self, arrivals: Sequence[Arrival]) -> Outcome:
        coming = deque(sorted(arrivals))
        now = coming[0].at_ms if coming else 0
        self._pools = {each.name: _Pool(each, now) for each in self._start.modules}
        tick = (now // self._every + 1) * self._every
        while coming or self._ends or (self._waiting and self._quiet < PATIENCE):
            moments = [coming[0].at_ms] if coming else []
            moments += [self._ends[0][0]] if self._ends else []
            now = min([*moments, tick])
            moved = set[str]()
            while self._ends and self._ends[0][0] == now:
                moved.add(self._end(now))
            while coming and coming[0].at_ms == now:
                arrival = coming.popleft()
                if pool := self._pools.get(arrival.module):
                    pool.came(arrival)
                    moved.add(arrival.module)
            self._begin(now, moved)
            if now == tick:
                self._begin(now, self._tick(now))
                tick = self._after(tick, coming[0].at_ms if coming else None)
        for pool in self._pools.values():
            pool.spend(now)
        ran = tuple(pool.ran() for _, pool in sorted(self._pools.items()))
        return Outcome(
            modules=ran,
            waits=waits(each for pool in self._pools.values() for each in pool.waited),
            peak_workers=self._peak,
            worker_seconds=sum(each.worker_seconds for each in ran),
            decisions=tuple(self._decisions),
        )

    @property
    def _waiting(self) -> bool:
        return any(pool.queued for pool in self._pools.values())

    def _end(self, now: int) -> str:
        _, _, name, duration = heapq.heappop(self._ends)
        pool = self._pools[name]
        pool.spend(now)
        pool.busy -= 1
        pool.took(duration)
        return name

    def _begin(self, now: int, names: Iterable[str]) -> None:
        """Let free workers of these take what waits."""
        for name in sorted(names):
            pool = self._pools[name]
            while arrival := pool.take():
                pool.spend(now)
                pool.busy += 1
                pool.waited.append(now - arrival.at_ms)
                self._begun += 1
                duration = arrival.duration_ms
                heapq.heappush(self._ends, (now + duration, self._begun, name, duration))

    def _tick(self, now: int) -> list[str]:
        seen = Snapshot(
            time_ms=now,
            modules=tuple(pool.seen(now) for pool in self._pools.values()),
            categories=tuple(self._categories.values()),
            total_max=self._start.total_max,
            standing=self._standing,
        )
        made, self._standing = scaling.judge(seen, self._policy)
        self._quiet += 1
        self._decisions += [Decided(time_ms=now, decision=each) for each in made]
        scaled = [each for each in made if each.after != each.before and each.type in scaling.DONE]
        for each in scaled:
            self._scale(each, now)
        return [each.module for each in scaled]

    def _scale(self, made: Decision, now: int) -> None:
        pool, self._quiet = self._pools[made.module], 0
        pool.spend(now)
        pool.workers, pool.scaled_at = made.after, now
        pool.peak = max(pool.peak, pool.present)
        self._peak = max(self._peak, sum(each.present for each in self._pools.values()))
        known = self._categories[made.category]
        self._categories[made.category] = msgspec.structs.replace(known, max=made.max_after)

    def _after(self, tick: int, coming: int | None) -> int:
        """The tick after this one; where nothing is there and nothing can change, the next that matters."""
        idle = not self._ends and not self._waiting
        calm = max(WINDOW_MS, self._policy.cooldown_seconds * 1000)
        if idle and coming is not None and self._quiet * self._every > calm:
            return max(tick + self._every, (coming // self._every) * self._every)
        return tick + self._every
