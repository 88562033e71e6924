"""The hosts of one module on one node: how many there should be, how they are doing, and what befell them."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from actors.home import milliseconds
from actors.residents import Resident
from events import hosting, module
from events.codec import Fact, millis
from events.plugin import Manifest

LARGEST = 32
"""Workers of one process at most."""
FALLS, WITHIN_SECONDS = 5, 60.0
"""A module whose hosts fall more often than that within so many seconds is in error."""
PAUSE_MAX_SECONDS = 10.0
DEAF_SECONDS = 20.0
"""A host that says nothing for so long hangs as a whole."""
READY_SECONDS = 60.0


class Process(Protocol):
    """A host process, as its node holds it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    def say(self, message: hosting.ToHost) -> None:
        """Tell it something; nothing happens when it is gone."""
        ...

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


@dataclass(slots=True)
class Host:
    """One worker host."""

    name: str
    process: Process
    workers: int
    generation: tuple[int, str]
    """Of which restart of its module it is, and with which version of its plugin."""
    state: Literal["starting", "ready", "leaving"] = "starting"
    names: tuple[str, ...] = ()
    """Its workers, once it is ready."""
    expected: bool = False
    """It is to end."""
    reason: str = ""
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    beat: hosting.Beat | None = None
    cpu: float = 0.0
    """Percent of a core, between the last two beats."""
    silent: bool = False
    """It has closed its pipe."""
    ended: float = 0.0
    """When its process was first seen to be gone, by the monotonic clock; 0: not yet."""
    left: float = 0.0
    """When it has to be gone, by the monotonic clock; 0: no such time."""

    @property
    def busy(self) -> int:
        """How many of its workers have a job in hand."""
        return 0 if self.beat is None else sum(each.job is not None for each in self.beat.workers)


@dataclass(slots=True)
class Pool:
    """A module on this node."""

    name: str
    source: str
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    state: module.State = field(default_factory=module.State)
    resident: Resident | None = None
    """It lives in the node itself, and has no hosts."""
    wanted: bool = True
    """It is to run here; an unloaded plugin is not."""
    manifest: Manifest | None = None
    hosts: dict[str, Host] = field(default_factory=dict[str, Host])
    falls: deque[float] = field(default_factory=deque[float])
    pause_until: float = 0.0
    loads: int = 0
    """How often it was loaded; a host of an older load is replaced."""
    completed: int = 0
    failed: int = 0
    errors: deque[str] = field(default_factory=lambda: deque[str](maxlen=20))
    activity_ms: int | None = None
    since: float = 0.0
    queue: int | None = None
    scaled_ms: int = 0
    """When it was scaled last, in milliseconds since 1970."""
    restarted_ms: deque[int] = field(default_factory=lambda: deque[int](maxlen=20))
    """When it was restarted."""
    used: float = field(default_factory=time.monotonic)
    """When there was last something to do, by the monotonic clock."""
    later: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    """Questions to its plugin that wait until it is up."""
    refusal: str = ""
    """Why its plugin cannot be loaded."""

    @property
    def generation(self) -> tuple[int, str]:
        """What its hosts should be of."""
        return self.state.restarts, str(self.loads)

    @property
    def profile(self) -> module.Profile:
        """What it is."""
        return self.state.profile or module.Profile()

    def up(self, state: str = "ready") -> list[Host]:
        """Hosts in a state."""
        return [host for host in self.hosts.values() if host.state == state]

    @property
    def total(self) -> int:
        """How many workers are up."""
        if self.resident is not None:
            return self.resident.profile.workers
        return sum(host.workers for host in self.up())

    @property
    def active(self) -> int:
        """How many workers have a job in hand."""
        if self.resident is not None:
            return self.resident.active
        return sum(host.busy for host in self.hosts.values())

    @property
    def stuck(self) -> int:
        """How many workers have a job in hand and were silent for too long."""
        limit = self.profile.max_silence_seconds
        beats = [each for host in self.hosts.values() if host.beat for each in host.beat.workers]
        return sum(each.job is not None and each.silent_seconds > limit for each in beats)

    def note(self, fact: Fact) -> None:
        """Remember when it was changed."""
        if isinstance(fact.event, module.Scaled):
            self.scaled_ms = millis(fact.time)
        elif isinstance(fact.event, module.Restarted):
            self.restarted_ms.append(millis(fact.time))

    @property
    def asleep(self) -> bool:
        """Whether it had nothing to do for so long that its processes are not worth their memory."""
        idle = self.profile.idle_seconds
        if idle is None or self.manifest is None:
            return False
        if self.queue or self.active or self.later or self.up("starting"):
            # Also one that is on its way up is there for somebody.
            self.used = time.monotonic()
        return time.monotonic() - self.used > idle

    def target(self, free: bool) -> int:
        """How many workers there should be; `free`: what it depends on runs."""
        if not self.wanted or self.state.status == "error" or not free:
            return 0
        if self.state.profile is None:
            return 1
        if self.asleep:
            return 0
        return self.state.workers

    def surplus(self, target: int) -> list[Host]:
        """Hosts that have to go: of an older generation, or too many."""
        stale, fresh = list[Host](), list[Host]()
        for host in self.hosts.values():
            if host.state != "leaving":
                (fresh if host.generation == self.generation else stale).append(host)
        ready = sum(host.workers for host in fresh if host.state == "ready")
        # The old ones go once the new ones are up, so that there is always somebody at work.
        gone = stale if ready or target == 0 else []
        many = sum(host.workers for host in fresh)
        for host in sorted(fresh, key=lambda each: (-each.busy, each.began), reverse=True):
            if many <= target:
                break
            gone.append(host)
            many -= host.workers
        return gone

    def missing(self, target: int) -> list[int]:
        """How many workers each further host should have."""
        fresh = [each for each in self.hosts.values() if each.state != "leaving"]
        have = sum(host.workers for host in fresh if host.generation == self.generation)
        lack = target - have
        if lack <= 0:
            return []
        if self.profile.isolation == "process":
            return [1] * lack
        return [min(LARGEST, lack - first) for first in range(0, lack, LARGEST)]

    def hear(self, host: Host, beat: hosting.Beat) -> None:
        """A host says how it is doing."""
        now, before = time.monotonic(), host.beat
        if before is not None and now > host.heard:
            host.cpu = max(0.0, 100 * (beat.cpu_seconds - before.cpu_seconds) / (now - host.heard))
        host.heard, host.beat = now, beat
        done, was = _ended(beat), (0, 0) if before is None else _ended(before)
        self.completed += max(0, done[0] - was[0])
        self.failed += max(0, done[1] - was[1])
        self.errors.extend(beat.errors)
        if done != was or host.busy:
            self.activity_ms = milliseconds()

    def fell(self, now: float) -> bool:
        """A host fell unexpectedly; whether that was too often."""
        self.falls.append(now)
        while self.falls and now - self.falls[0] > WITHIN_SECONDS:
            self.falls.popleft()
        self.pause_until = now + min(PAUSE_MAX_SECONDS, 0.1 * 2 ** min(len(self.falls) - 1, 10))
        return len(self.falls) > FALLS


Spawn = Callable[[hosting.Begin], Process]


def _ended(beat: hosting.Beat) -> tuple[int, int]:
    """How many jobs have ended well, and how many have not."""
    return sum(each.completed for each in beat.workers), sum(each.failed for each in beat.workers)


def ordered(pools: Iterable[Pool]) -> list[Pool]:
    """Pools so that each comes before what it depends on: the order in which they stop."""
    by_name = {pool.name: pool for pool in pools}
    found: dict[str, Pool] = {}

    def put(pool: Pool, above: tuple[str, ...]) -> None:
        for name in pool.profile.depends_on:
            other = by_name.get(name)
            if other is not None and name not in above:
                put(other, (*above, name))
        found.setdefault(pool.name, pool)

    for pool in by_name.values():
        put(pool, (pool.name,))
    return list(reversed(found.values()))
