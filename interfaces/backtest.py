"""Recorded work and decisions, fetched from the tables and given to another policy."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from events import backtest, simulation
from events.backtest import Difference, Recorded
from events.clock import millis, stamp
from events.crew import Arrival, Ran, Waits, waits
from events.errors import NotFound
from events.look import TOTAL_MAX, CategoryLook, ModuleLook, Snapshot
from events.message import Message
from events.policy import Policy
from events.scaling import Seen
from events.simulation import Decided

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

PAGE = 10_000
TIMEOUT_MS = 30_000
DECISIONS = """
SELECT seq, data FROM decisions
WHERE seq > ?1 AND seq <= ?2 AND time >= ?3::TIMESTAMP AND json_exists(data, '$.snapshot')
ORDER BY seq LIMIT 200
"""
WORK = """
SELECT id, module, priority, epoch_ms(queued_at), epoch_ms(started_at), epoch_ms(completed_at)
FROM executions
WHERE id > ?1 AND seq <= ?2 AND queued_at >= ?3::TIMESTAMP AND (?4 IS NULL OR module = ?4)
AND started_at >= queued_at AND completed_at >= started_at ORDER BY id LIMIT 10000
"""


class Record(Message):
    """What the tables know of a stretch of time."""

    since: str
    work: list[tuple[str, str, int, int, int]]
    """Module, priority, and when it was queued, started and over, in milliseconds since 1970."""
    decisions: list[tuple[int, Seen]]


class Compared(Message, omit_defaults=False):
    """A module as it was, and as it would have been."""

    module: str
    recorded: Waits
    simulated: Ran


class Report(Message, omit_defaults=False):
    """What another policy would have done."""

    first: str
    """When the first of what was recorded came or was decided."""
    last: str
    policy: Policy
    modules: list[Compared]
    recorded: Waits
    simulated: Waits
    peak_workers: int
    worker_seconds: float
    decisions: list[Decided]
    """What it would have decided in the simulation."""
    recorded_decisions: int
    differences: list[Difference]
    """Where it would have decided something else on what was seen."""


async def fetch(engine: "ExecutionEngine", since: str, module: str | None) -> Record:
    """Read what was recorded since a time (RFC 3339), page by page; all pages know the same events."""
    seq = await engine.last_seq()

    async def pages(sql: str, first: Any, *rest: Any) -> list[list[Any]]:
        found: list[list[Any]] = []
        while True:
            how: dict[str, Any] = {"limit": PAGE, "timeout_ms": TIMEOUT_MS, "min_seq": seq}
            answer = await engine.sql(sql, params=[found[-1][0] if found else first, seq, *rest], **how)
            found += answer.rows
            if not answer.rows:
                return found

    moment = stamp(millis(since))
    work, decisions = await asyncio.gather(pages(WORK, "", moment, module), pages(DECISIONS, 0, moment))
    return msgspec.convert(
        {"since": moment, "work": [row[1:] for row in work], "decisions": decisions}, Record
    )


def report(record: Record, policy: Policy, every_seconds: float, module: str | None, workers: int) -> Report:
    """Give what was recorded to a policy; `workers`: how many a module begins with that was never scaled."""
    recorded = [Recorded(seq, seen) for seq, seen in record.decisions]
    start = _start(record, module, workers)
    names = {each.name for each in start.modules}
    work = [row for row in record.work if row[0] in names]
    told = [each for each in recorded if module in (None, each.seen.decision.module)]
    if not work and not told:
        raise NotFound(f"nothing was recorded since {record.since}: look further back")
    times = [row[2] for row in work] + [each.seen.snapshot.time_ms for each in told]
    arrivals = [Arrival(queued, name, over - begun, level) for name, level, queued, begun, over in work]
    outcome = simulation.simulate(arrivals, start, policy, max(1, round(every_seconds * 1000)))
    rows = {name: waits(row[3] - row[2] for row in work if row[0] == name) for name in names}
    return Report(
        first=stamp(min(times)),
        last=stamp(max(times)),
        policy=policy,
        modules=[
            Compared(module=each.module, recorded=rows[each.module], simulated=each)
            for each in outcome.modules
            if module in (None, each.module)
        ],
        recorded=waits(row[3] - row[2] for row in work),
        simulated=outcome.waits,
        peak_workers=outcome.peak_workers,
        worker_seconds=outcome.worker_seconds,
        decisions=[each for each in outcome.decisions if module in (None, each.decision.module)],
        recorded_decisions=len(told),
        differences=backtest.differences(recorded, policy, module),
    )


def _start(record: Record, module: str | None, workers: int) -> Snapshot:
    """The modules as they were first seen; where none was ever seen, those that had work."""
    looks: dict[str, ModuleLook] = {}
    categories: dict[str, CategoryLook] = {}
    for _, seen in record.decisions:
        for look in seen.snapshot.modules:
            looks.setdefault(look.name, look)
        for category in seen.snapshot.categories:
            categories.setdefault(category.name, category)
    worked = sorted({row[0] for row in record.work})
    for name in worked if not looks else [module] if module in worked else []:
        looks.setdefault(name, ModuleLook(name=name, category=name, workers=workers, min=min(1, workers)))
    first = record.decisions[0][1].snapshot if record.decisions else None
    return Snapshot(
        time_ms=first.time_ms if first else millis(record.since),
        modules=tuple(looks.values()),
        categories=tuple(categories.values()),
        total_max=first.total_max if first else max(TOTAL_MAX, workers * len(looks)),
    )
