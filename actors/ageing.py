"""Work that waits for an idle system, and work that has waited for too long."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from actors.clerk import Table
from actors.home import milliseconds
from actors.places import Waiting
from events import execution
from events.errors import HindbrainError
from events.spec import Priority

IDLE_SECONDS = 0.5
"""How often the tables are asked whether nothing is active, while somebody waits for that."""
AGAIN_SECONDS = 2.0
"""How often the tables are asked who has waited for too long, at most."""

ACTIVE = (
    "SELECT count(*) FILTER (priority <> 'idle'), count(*) FILTER (priority = 'idle') FROM executions"
    " WHERE status = 'running' OR (status = 'queued' AND held IS NULL)"
)
OLDEST = (
    "SELECT id, priority, epoch_ms(coalesce(queued_at, created_at)) AS since FROM executions"
    " WHERE status = 'queued' AND priority IN ('medium', 'low')"
    " AND (held IS NULL OR (held->>'$.reason') = 'limit') ORDER BY since LIMIT 1000"
)
UP: dict[str, Priority] = {"low": "medium", "medium": "high"}
"""What one that waited for too long becomes."""


class Tables(Protocol):
    """The tables of this installation."""

    def __call__(
        self, sql: str, params: Sequence[Any], done: Callable[[Table | HindbrainError], None], /
    ) -> None:
        """Ask them; `done` is called in the thread of the limiter."""
        ...


class Idling:
    """Lets work go while nothing else is active, no more of it than there are slots."""

    def __init__(self, slots: int, tables: Tables, release: Callable[[Sequence[Waiting], str], None]) -> None:
        self._slots, self._tables, self._release = slots, tables, release
        self._waiting: dict[str, Waiting] = {}
        self._due = 0.0

    def __contains__(self, entity: str) -> bool:
        return entity in self._waiting

    def put(self, one: Waiting) -> None:
        """It waits for an idle system."""
        self._waiting[one.entity] = one

    def drop(self, entity: str) -> None:
        """It does so no more."""
        self._waiting.pop(entity, None)

    def act(self, now: float) -> None:
        """Ask whether the system is idle."""
        if self._waiting and now >= self._due:
            self._due = now + IDLE_SECONDS
            self._tables(ACTIVE, (), self._heard)

    def _heard(self, answer: Table | HindbrainError) -> None:
        if isinstance(answer, HindbrainError):
            return
        active, idle = answer.rows[0]
        count = 0 if active else max(0, self._slots - idle)
        lot = sorted(self._waiting.values(), key=lambda one: one.order)[:count]
        for one in lot:
            del self._waiting[one.entity]
        if lot:
            self._release(lot, "idle")


class Ageing:
    """Makes more urgent what has waited for so many seconds, one level at a time; 0: nothing.

    The tables are asked when the oldest may be due, so a system in which nothing waits is left alone.
    """

    def __init__(
        self, seconds: float, tables: Tables, prioritize: Callable[[str, execution.Prioritize], None]
    ) -> None:
        self._milliseconds, self._tables, self._prioritize = round(seconds * 1000), tables, prioritize
        self._due = time.monotonic() + AGAIN_SECONDS
        self._aged: dict[str, int] = {}
        """When those that are held were made more urgent; the tables say that only of the queue."""

    def act(self, now: float) -> None:
        """Ask who has waited for too long."""
        if self._milliseconds and now >= self._due:
            self._due = now + max(AGAIN_SECONDS, self._milliseconds / 1000)
            self._tables(OLDEST, (), self._heard)

    def _heard(self, answer: Table | HindbrainError) -> None:
        if isinstance(answer, HindbrainError):
            self._due = time.monotonic() + AGAIN_SECONDS
            return
        now, left = milliseconds(), [self._milliseconds]
        rows = [
            (entity, level, max(since, self._aged.get(entity, 0))) for entity, level, since in answer.rows
        ]
        for entity, level, since in rows:
            left.append(since + self._milliseconds - now)
            if left[-1] <= 0:
                self._aged[entity] = now
                self._prioritize(entity, execution.Prioritize(priority=UP[level], reason="aged"))
        self._aged = {each: self._aged[each] for each, _, _ in rows if each in self._aged}
        self._due = time.monotonic() + max(AGAIN_SECONDS, min(left) / 1000)
