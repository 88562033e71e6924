"""The monitor feels the pulse of its node every five seconds, and notices when another node has none.

Samples are telemetry: limited and lossy.  Only changes are facts.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import psutil

from actors.home import Home, milliseconds
from events import codec, execution, finding, ids
from events.errors import HindbrainError
from events.execution import EXECUTION
from events.finding import FINDING
from events.ports import Ask, Doors, Log, Outcome, Outlet

log = logging.getLogger(__name__)

HEARTBEAT = 5.0
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class Running:
    """Which executions run here, and their process ids."""

    pids: dict[str, int]


@dataclass(frozen=True, slots=True)
class Alive:
    """Which nodes hold a lease; None when that cannot be learned now."""

    nodes: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What the tables say is running elsewhere: rows of execution, attempt, node."""

    answer: bytes | HindbrainError
    living: frozenset[str]


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something is wrong, or over: a finding by its type and what it is about."""

    type: str
    about: str
    text: str
    data: dict[str, Any]
    over: bool = False


class Monitor:
    """Samples this node, and declares attempts of vanished nodes lost."""

    every = HEARTBEAT

    def __init__(
        self,
        home: Home,
        lease_seconds: float,
        journal: Log,
        outlet: Outlet,
        doors: Doors,
        tell: Callable[[Any], None],
        alive: Callable[[Callable[[dict[str, str] | None], None]], None],
        processes: Callable[[], dict[str, int]],
    ) -> None:
        self._home, self._lease, self._log = home, lease_seconds, journal
        self._outlet, self._doors, self._tell = outlet, doors, tell
        self._alive, self._processes = alive, processes
        self._running: dict[str, int] = {}
        self._seen: dict[str, float] = {}
        """When each node was last known to live, by the monotonic clock."""
        self._watched: dict[int, psutil.Process] = {}
        self._began = time.monotonic()

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Running(pids):
                self._running = pids
            case Alive(nodes):
                self._judge(nodes)
            case Abandoned(answer, living):
                self._abandon(answer, living)
            case Noticed():
                self._find(message)
            case _:
                raise TypeError(f"the monitor has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Take a sample and look for the other nodes."""
        if self._home.paused("monitor"):
            return
        self._sample()
        self._alive(lambda nodes: self._tell(Alive(nodes)))

    # ---- samples ---------------------------------------------------------------------------------------

    def _sample(self) -> None:
        stamp = codec.stamp(time.time_ns() // 1_000_000)
        parts = {name: self._usage(pid) for name, pid in self._processes().items()}
        disk = psutil.disk_usage("/")
        memory = psutil.virtual_memory()
        self._outlet.sample(
            ("node", self._home.node),
            {
                "node": self._home.node,
                "boot": self._home.boot,
                "time": stamp,
                "cpu_percent": round(sum(each["cpu_percent"] for each in parts.values()), 1),
                "memory_bytes": sum(each["memory_bytes"] for each in parts.values()),
                "processes": parts,
                "load": os.getloadavg()[0],
                "memory_available_bytes": memory.available,
                "disk_free_bytes": disk.free,
                "running": len(self._running),
            },
        )
        for entity, pid in self._running.items():
            usage = self._usage(pid, tree=True)
            if usage["processes"]:
                sample = {"execution": entity, "node": self._home.node, "time": stamp, **usage}
                self._outlet.sample(("execution", entity), sample)
        living = {*self._running.values(), *self._processes().values()}
        self._watched = {
            pid: each for pid, each in self._watched.items() if pid in living or each.is_running()
        }

    def _usage(self, pid: int, tree: bool = False) -> dict[str, Any]:
        """CPU (percent of a core since the last look), memory (resident bytes) of a process or its tree."""
        cpu, memory, count = 0.0, 0, 0
        for process in self._family(pid, tree):
            try:
                with process.oneshot():
                    cpu += process.cpu_percent(None)
                    memory += process.memory_info().rss
                    count += 1
            except psutil.Error:  # it ended while it was looked at
                continue
        return {"cpu_percent": round(cpu, 1), "memory_bytes": memory, "processes": count}

    def _family(self, pid: int, tree: bool) -> list[psutil.Process]:
        try:
            top = self._watched.setdefault(pid, psutil.Process(pid))
            children = top.children(recursive=True) if tree else []
        except psutil.Error:
            self._watched.pop(pid, None)
            return []
        return [top, *(self._watched.setdefault(each.pid, each) for each in children)]

    # ---- other nodes -----------------------------------------------------------------------------------

    def _judge(self, nodes: dict[str, str] | None) -> None:
        """A node without a lease for a whole lease period is gone, and what it ran is lost."""
        now = time.monotonic()
        if nodes is None:
            # Nobody can be judged while leases cannot be seen.
            self._began = now
            self._seen.clear()
            return
        for node in nodes:
            self._seen[node] = now
        if now - self._began < self._lease * 1.5:
            return
        living = {node for node, seen in self._seen.items() if now - seen < self._lease} | {self._home.node}
        query = {
            "sql": "select id, attempt, node from executions where status = 'running' and node <> ?",
            "params": [self._home.node],
            "limit": 10_000,
        }

        def done(answer: bytes | HindbrainError) -> None:
            self._tell(Abandoned(answer, frozenset(living)))

        self._doors.request("query", "sql", msgspec.json.encode(query), 10.0, done)

    def _abandon(self, answer: bytes | HindbrainError, living: frozenset[str]) -> None:
        if isinstance(answer, HindbrainError):
            log.info("cannot look for abandoned executions: %s", answer)
            return
        rows: list[tuple[str, int, str]] = msgspec.json.decode(answer)["rows"]
        asks = [
            Ask(
                EXECUTION,
                entity,
                execution.Lose(
                    attempt=attempt,
                    reason=f"node {node} went away",
                    now_ms=milliseconds(),
                    jitter=random.random(),  # noqa: S311 -- no secret
                ),
                by=f"node:{self._home.node}",
            )
            for entity, attempt, node in rows
            if node not in living
        ]
        if asks:
            self._log.handle(asks, _lost)

    # ---- findings --------------------------------------------------------------------------------------

    def _find(self, noticed: Noticed) -> None:
        entity = ids.derived("finding", f"{noticed.type}\n{noticed.about}")
        command = (
            finding.Close(text=noticed.text)
            if noticed.over
            else finding.Open(type=noticed.type, about=noticed.about, text=noticed.text, data=noticed.data)
        )
        self._log.handle([Ask(FINDING, entity, command, by=f"node:{self._home.node}")], _found)


def _lost(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is None:
            log.warning("%s is lost: its node went away", outcome.ask.entity)
        else:
            log.info("%s: not declared lost: %s", outcome.ask.entity, outcome.error)


def _found(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            log.warning("a finding could not be stored: %s", outcome.error)
