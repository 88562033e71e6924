"""Jobs whose worker host is gone: they are found in the tables and declared lost, as their rules want it."""

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from actors import clerk
from actors.clerk import Table
from actors.home import milliseconds
from events import execution
from events.errors import HindbrainError
from events.execution import EXECUTION
from events.ports import Ask, Doors, Log, Outcome

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
SECOND_LOOK_SECONDS = 3.0
"""An event of a host that died may still be on its way for a moment."""
EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """What the tables say runs on hosts of this node; `host` when only that one is meant."""

    host: str | None
    reason: str
    answer: Table | HindbrainError


class Orphans:
    """Looks after a host has gone, once more a little later, and every so often for those nobody knows."""

    def __init__(
        self,
        node: str,
        journal: Log,
        doors: Doors,
        ours: Callable[[], Collection[str]],
        alive: Callable[[str], bool],
        tell: Callable[[Any], None],
    ) -> None:
        """Prepare; `ours` are the hosts of now, `alive` knows those of a node that was here before."""
        self._node, self._log, self._doors = node, journal, doors
        self._ours, self._alive, self._tell = ours, alive, tell
        self._doubtful: list[tuple[float, str, str]] = []
        """Hosts that are gone, and when to look once more for what they ran."""
        self._looked = 0.0

    def gone(self, host: str, reason: str, seq: int | None) -> None:
        """A host is gone, which the log says at that sequence: look there at once, and in a moment."""
        self._doubtful.append((time.monotonic() + SECOND_LOOK_SECONDS, host, reason))
        self._look_for(host, reason, seq)

    def tick(self) -> None:
        """Look for what is due."""
        now = time.monotonic()
        due = [each for each in self._doubtful if each[0] <= now]
        self._doubtful = [each for each in self._doubtful if each[0] > now]
        for _, host, reason in due:
            self._look_for(host, reason)
        if now - self._looked > EVERY_SECONDS:
            self._looked = now
            self._look_for(None, "its host went away")

    def _look_for(self, host: str | None, reason: str, seq: int | None = None) -> None:
        where = "worker LIKE ? || '/%'" if host else "node = ? AND kind = 'job'"
        sql = f"SELECT id, attempt, worker FROM executions WHERE status = 'running' AND {where}"  # noqa: S608 -- two constants

        def found(answer: Table | HindbrainError) -> None:
            self._tell(Running(host, reason, answer))

        clerk.ask(self._doors, sql, [host or self._node], found, min_seq=seq)

    def found(self, found: Running) -> None:
        """Declare lost what runs nowhere."""
        if isinstance(found.answer, HindbrainError):
            log.info("cannot learn what runs on hosts: %s", found.answer)
            if found.host:
                self._doubtful.append((time.monotonic() + AGAIN_SECONDS, found.host, found.reason))
            return
        ours, asks = self._ours(), list[Ask]()
        for entity, attempt, worker in found.answer.rows:
            host = str(worker).partition("/")[0]
            if host in ours or (found.host is None and self._alive(host)):
                continue
            command = execution.Lose(
                attempt=attempt,
                reason=found.reason,
                now_ms=milliseconds(),
                jitter=random.random(),  # noqa: S311 -- no secret
            )
            asks.append(Ask(EXECUTION, entity, command, by=f"node:{self._node}"))
        if asks:
            self._log.handle(asks, _lost)


def _lost(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is None:
            log.warning("%s is lost: its host went away", outcome.ask.entity)
        else:
            log.info("%s: not declared lost: %s", outcome.ask.entity, outcome.error)
