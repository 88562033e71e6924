"""Counts of what modules did, from the tables, beside what their workers do now.

Counts come from the tables because the log outlives the node; only what moves is asked of the hosts.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from actors.clerk import Table
from actors.modules import Modules
from actors.pool import Pool
from events.asks import threads

COUNTS = """
SELECT
    (SELECT coalesce(sum(len(workers)), 0)::BIGINT FROM workers),
    (SELECT count(*) FROM decisions WHERE type IN ('scale_up', 'scale_down')),
    (SELECT coalesce(sum(len(workers)) FILTER (NOT expected), 0)::BIGINT FROM workers)
        + (SELECT coalesce(sum(restarts), 0)::BIGINT FROM modules),
    (SELECT epoch(max(started_at)) FROM nodes WHERE id = ?),
    done.*
FROM (VALUES (1)) AS one LEFT JOIN (
    SELECT
        module,
        count(*) FILTER (status = 'queued'),
        count(*) FILTER (status = 'completed'),
        count(*) FILTER (status IN ('failed', 'timed_out')),
        epoch(max(greatest(started_at, completed_at))),
        max_by(error->>'$.message', seq, 10) FILTER (status IN ('failed', 'timed_out'))
    FROM executions GROUP BY module
) AS done ON true
"""
"""What is the same in every row: threads created, scaled, restarted, and when the node started."""

Row = Sequence[Any]
NOTHING: Row = (0, 0, 0, None, None)


def tally(table: Table, modules: Modules, only: Callable[[Pool], bool]) -> threads.Threads:
    """Put together what was counted and what is now; `only` says which modules are listed."""
    created, scaled, restarted, since = table.rows[0][:4]
    counted: dict[str, Row] = {row[4]: row[5:] for row in table.rows if row[4] is not None}
    uptime = round(max(0.0, time.time() - since), 1) if since else 0.0
    pools = list(modules.pools.values())
    workers = [pool for pool in pools if pool.name != "commands"]  # those are processes of others
    created += sum(pool.total for pool in workers if pool.resident is not None)
    return threads.Threads(
        active_threads=sum(pool.active for pool in workers),
        total_threads=sum(pool.total for pool in workers),
        categories={name: _category(name, most, workers) for name, most in modules.survey.categories.items()},
        stats=threads.Stats(
            total_threads_created=created,
            total_tasks_completed=sum(row[1] for row in counted.values()),
            total_tasks_failed=sum(row[2] for row in counted.values()),
            threads_auto_scaled=scaled,
            threads_restarted=restarted,
            uptime=uptime,
        ),
        uptime=uptime,
        module_threads={
            pool.name: _thread(pool, counted.get(pool.name, NOTHING)) for pool in pools if only(pool)
        },
        enabled=True,
    )


def _category(name: str, most: int, pools: Sequence[Pool]) -> threads.Category:
    ours = [pool for pool in pools if pool.profile.category == name]
    active = sum(pool.active for pool in ours)
    return threads.Category(
        active=active,
        total=sum(pool.total for pool in ours),
        max=most,
        utilisation=round(100 * active / most, 1) if most else 0.0,
    )


def _thread(pool: Pool, row: Row) -> threads.Thread:
    queued, completed, failed, last, errors = row
    ended, up = completed + failed, pool.state.status in ("running", "paused")
    return threads.Thread(
        state=pool.state.status or "starting",
        category=pool.profile.category,
        priority=pool.profile.priority,
        active=pool.active,
        total=pool.total,
        tasks_completed=completed,
        tasks_failed=failed,
        success_rate=round(completed / ended, 4) if ended else 1.0,
        uptime=round(time.time() - pool.since, 1) if up and pool.since else 0.0,
        queue_size=queued,
        last_activity=max(filter(None, (last, pool.since)), default=None),
        errors=list(errors or ()),
    )
