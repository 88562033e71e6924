"""How the processes and actors of this node are doing, looked at when somebody asks."""

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import psutil

from bus import daemon
from events.errors import HindbrainError, Unavailable

CENSUS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it began, and what it has now."""

    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """The node, for whoever watches it from inside."""

    node: Callable[[], str]
    version: str
    slots: int
    """How many commands it runs at once."""
    pids: Callable[[], Mapping[str, int]]
    """Its processes by name."""
    census: Callable[[Callable[[bytes | HindbrainError], None]], None]
    """Answers with a `service.Census`."""
    monitor_port: Callable[[], int | None]
    """Where its own nats-server tells how it is; None when it has none."""

    def processes(self) -> dict[str, Usage]:
        """What each process uses; one that ended meanwhile is left out."""
        found: dict[str, Usage] = {}
        for name, pid in self.pids().items():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    found[name] = Usage(times.user + times.system, process.memory_info().rss)
            except psutil.Error:
                continue
        return found

    def actors(self) -> list[dict[str, Any]]:
        """All actors of the node; `Unavailable` when they are not counted in three seconds.  It blocks."""
        answered: queue.SimpleQueue[bytes | HindbrainError] = queue.SimpleQueue()
        self.census(answered.put)
        try:
            answer = answered.get(timeout=CENSUS_SECONDS)
        except queue.Empty:
            raise Unavailable("the actors were not counted in time") from None
        if isinstance(answer, HindbrainError):
            raise answer
        return msgspec.json.decode(answer)["actors"]

    def server(self) -> dict[str, Any] | None:
        """What the nats-server says of itself (`/varz`); None when it is not ours.  It blocks."""
        port = self.monitor_port()
        return None if port is None else daemon.figures(port)
