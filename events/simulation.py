"""What would have been: recorded work, run again by workers that a policy scales; no clock, no chance.

Work comes when it came and takes as long as it took.  A free worker takes the most urgent of what waits, of
these the first that came; a worker that is to end does so after its work.  Workers start at once, and nothing
fails: what is measured is the policy.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from events import scaling
from events.crew import WINDOW_MS, Arrival, Crew, Ran, Waits, waits
from events.look import Decision, Snapshot
from events.message import Message
from events.policy import Policy

PATIENCE = 360
"""After so many ticks without any change what still waits will wait for ever."""


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


def simulate(arrivals: Sequence[Arrival], start: Snapshot, policy: Policy, every_ms: int = 10_000) -> Outcome:
    """Run it again from the modules of `start`; whatever comes for others is passed over."""
    return _World(start, policy, every_ms).run(arrivals)


class _World:
    def __init__(self, start: Snapshot, policy: Policy, every_ms: int) -> None:
        self._start, self._policy, self._every = scaling.exact(start), policy, every_ms
        self._categories = {each.name: each for each in self._start.categories}
        self._standing: tuple[str, ...] = ()
        self._pools: dict[str, Crew] = {}
        self._ends: list[tuple[int, int, str, int]] = []
        """What runs: when it ends, in which order it began, where, and how long it takes."""
        self._decisions: list[Decided] = []
        self._begun, self._peak = 0, self._start.workers
        self._quiet, self._still = 0, 0
        """For how many ticks nothing was scaled, and for how many nothing was there."""

    def run(self, arrivals: Sequence[Arrival]) -> Outcome:
        coming = deque(sorted(arrivals))
        now = coming[0].at_ms if coming else 0
        self._pools = {each.name: Crew(each, now) for each in self._start.modules}
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
        self._still = self._still + 1 if not self._ends and not self._waiting else 0
        calm = max(WINDOW_MS, self._policy.cooldown_seconds * 1000)
        if coming is not None and min(self._still, self._quiet) * self._every > calm:
            return max(tick + self._every, (coming // self._every) * self._every)
        return tick + self._every
