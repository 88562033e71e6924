"""The warden watches the processes that belong to a node, and starts them again when they die."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.gateway import Home
from actors.monitor import Noticed
from events import node
from events.node import NODE
from events.ports import Ask, Log, Outcome

log = logging.getLogger(__name__)

PAUSE_MAX_SECONDS = 30.0


class Process(Protocol):
    """A process that has to run."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def ill(self) -> str | None:
        """Why it must be started again; None when all is well."""
        ...

    def restart(self) -> int:
        """Start it again; answers its pid."""
        ...


@dataclass(slots=True)
class Care:
    """What is known of one process."""

    process: Process
    restarts: int = 0
    pause: float = 0.0
    due: float = 0.0
    well_since: float = 0.0
    noticed: bool = False


class Warden:
    """Looks every half second, and restarts with growing pauses; what does not get well becomes a finding."""

    every = 0.5

    def __init__(
        self,
        home: Home,
        journal: Log,
        processes: Sequence[Process],
        monitor: Callable[[Any], None],
        look: Callable[[], None],
    ) -> None:
        self._home, self._log, self._monitor, self._look = home, journal, monitor, look
        self._cares = [Care(process) for process in processes]

    def receive(self, message: Any) -> None:
        """Nobody tells the warden anything."""
        raise TypeError(f"the warden has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Look after every process."""
        self._look()
        now = time.monotonic()
        for care in self._cares:
            if now < care.due:
                continue
            reason = care.process.ill()
            if reason is None:
                self._well(care, now)
            else:
                self._restart(care, reason, now)

    def _well(self, care: Care, now: float) -> None:
        if care.noticed and now - care.well_since > PAUSE_MAX_SECONDS:
            care.noticed, care.pause = False, 0.0
            self._monitor(self._notice(care, f"{care.process.name} runs again", over=True))

    def _restart(self, care: Care, reason: str, now: float) -> None:
        log.warning("%s: %s; starting it again", care.process.name, reason)
        care.restarts += 1
        pid = 0
        try:
            pid = care.process.restart()
        except Exception as error:
            log.exception("%s cannot be started", care.process.name)
            reason = f"{reason}; {error}"
        recent = now - care.well_since < 60
        care.well_since = time.monotonic()
        care.pause = min(PAUSE_MAX_SECONDS, max(0.5, care.pause * 2)) if recent else 0.5
        care.due = time.monotonic() + care.pause
        event = node.ProcessRestarted(process=care.process.name, reason=reason, pid=pid)
        self._log.handle([Ask(NODE, self._home.node, node.Record(event=event), by=self._by)], told)
        if care.pause >= 4 and not care.noticed:
            care.noticed = True
            self._monitor(self._notice(care, f"{care.process.name} does not stay up: {reason}"))

    @property
    def _by(self) -> str:
        return f"node:{self._home.node}"

    def _notice(self, care: Care, text: str, over: bool = False) -> Noticed:
        about = f"{self._home.node} {care.process.name}"
        return Noticed("process", about, text, {"restarts": care.restarts}, over)


def told(outcomes: Sequence[Outcome]) -> None:
    """A record that cannot be stored is in the node's own log at least."""
    for outcome in outcomes:
        if outcome.error is not None:
            log.warning("%s could not be recorded: %s", type(outcome.ask.command).__name__, outcome.error)
