"""The survey looks at all modules every few seconds: what waits and what ended, as the tables say."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from actors import clerk
from actors.clerk import Table
from actors.home import milliseconds
from actors.monitor import Noticed
from actors.pool import Pool
from events import health
from events.codec import stamp
from events.errors import HindbrainError
from events.look import CategoryLook, ModuleLook, Snapshot
from events.ports import Doors

EVERY_SECONDS = 5.0
ARRIVALS_SECONDS = 300
NUMBERS = """
SELECT module,
  count(*) FILTER (WHERE status = 'queued' AND held IS NULL),
  epoch_ms(min(queued_at) FILTER (WHERE status = 'queued' AND held IS NULL)),
  count(*) FILTER (WHERE created_at >= CAST($1 AS TIMESTAMP)),
  avg(duration_ms) FILTER (WHERE completed_at >= CAST($2 AS TIMESTAMP)),
  count(*) FILTER (WHERE completed_at >= CAST($2 AS TIMESTAMP) AND status = 'completed'),
  count(*) FILTER (WHERE completed_at >= CAST($2 AS TIMESTAMP) AND status IN ('failed', 'timed_out'))
FROM executions
WHERE status IN ('queued', 'running') OR completed_at >= CAST($2 AS TIMESTAMP)
GROUP BY module
"""
MAXIMA = """
SELECT data->>'$.decision.category', arg_max(CAST(data->>'$.decision.max_after' AS BIGINT), seq)
FROM decisions WHERE json_exists(data, '$.decision.max_after') GROUP BY 1
"""


class Survey:
    """Keeps what was last seen; all of it is used in one thread, that of the actor `modules`."""

    def __init__(
        self,
        doors: Doors,
        total_max: int,
        categories: dict[str, int],
        tell: Callable[[Callable[[], None]], None],
        notice: Callable[[Noticed], None],
        deaf: Callable[[str], None],
    ) -> None:
        """Prepare; `tell` has something done in that thread, `deaf` hears of modules that hear nothing."""
        self._doors, self.total_max, self._base = doors, total_max, categories
        self._tell, self._notice, self._deaf = tell, notice, deaf
        self.maxima: dict[str, int] = {}
        """Of categories that were scaled: how many workers each may have now."""
        self._rows: dict[str, list[Any]] = {}
        self._due = 0.0
        self._known = False
        self._open: set[tuple[str, str]] | None = None

    @property
    def categories(self) -> dict[str, int]:
        """How many workers each category may have now."""
        return {name: max(most, self.maxima.get(name, 0)) for name, most in self._base.items()}

    def tick(self, pools: Iterable[Pool]) -> None:
        """Look, when it is time."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_SECONDS
        present = milliseconds()
        since = [stamp(present - ARRIVALS_SECONDS * 1000), stamp(present - health.WINDOW_SECONDS * 1000)]
        clerk.ask(
            self._doors, NUMBERS, since, lambda answer: self._tell(lambda: self._counted(answer, pools))
        )
        if not self._known:
            clerk.ask(self._doors, MAXIMA, (), lambda answer: self._tell(lambda: self._learned(answer)))

    def _learned(self, answer: Table | HindbrainError) -> None:
        if isinstance(answer, Table):
            self._known = True
            self.maxima = {str(name): int(most) for name, most in answer.rows} | self.maxima

    def _counted(self, answer: Table | HindbrainError, pools: Iterable[Pool]) -> None:
        if isinstance(answer, HindbrainError):
            return  # it is looked at again in a moment
        self._rows = {str(row[0]): row[1:] for row in answer.rows}
        for pool in pools:
            pool.queue = int(self._rows.get(pool.name, [0])[0])
        self._judge(pools)

    def _judge(self, pools: Iterable[Pool]) -> None:
        """Open what is new, close what is over; after a start, whatever was left open is closed too."""
        seen = {(each.type, each.about): each for each in health.judge(self.looks(pools))}
        before = self._open
        if before is None:
            before = {(kind, pool.name) for pool in pools for kind in health.TYPES}
        for key, each in seen.items():
            if self._open is None or key not in before:
                self._notice(Noticed(each.type, each.about, each.text, {"module": each.about}))
                if each.type == "deaf":
                    self._deaf(each.about)
        for kind, about in before - seen.keys():
            self._notice(Noticed(kind, about, "it is over", {}, over=True))
        self._open = set(seen)

    def looks(self, pools: Iterable[Pool]) -> tuple[ModuleLook, ...]:
        """Every module with hosts that has been up."""
        up = (pool for pool in pools if pool.state.profile is not None and pool.resident is None)
        return tuple(self._look(pool) for pool in up)

    def _look(self, pool: Pool) -> ModuleLook:
        queued, oldest, arrived, mean, completed, failed = self._rows.get(pool.name, [0, None, 0, None, 0, 0])
        waits = 0.0 if oldest is None else max(0.0, (milliseconds() - int(oldest)) / 1000)
        return ModuleLook(
            name=pool.name,
            category=pool.profile.category,
            priority=pool.profile.priority,
            state=pool.state.status or "stopped",
            workers=pool.state.workers,
            min=min(1, pool.state.workers),
            max=pool.profile.max_workers,
            busy=pool.active,
            stuck=pool.stuck,
            queued=queued,
            oldest_queued_seconds=round(waits, 3),
            completed=completed,
            failed=failed,
            errors=tuple(pool.errors)[-3:],
            arrivals_per_second=round(arrived / ARRIVALS_SECONDS, 4),
            service_seconds=0.0 if mean is None else round(mean / 1000, 4),
            last_scaled_at=pool.scaled_ms,
            restarted_at=tuple(pool.restarted_ms),
        )

    def snapshot(self, pools: Iterable[Pool]) -> Snapshot:
        """Everything that the scaler is given to see."""
        looks = self.looks(pools)
        base = {each.category: each.workers for each in looks} | self._base
        known = {name: max(most, self.maxima.get(name, 0)) for name, most in base.items()}
        categories = tuple(
            CategoryLook(name=name, max=known[name], base=base[name])
            for name in sorted({each.category for each in looks})
        )
        return Snapshot(
            time_ms=milliseconds(), modules=looks, categories=categories, total_max=self.total_max
        )
