"""How fast the whole log is read back, and how fast it becomes tables for somebody else."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bus.bridge import Bridge
from bus.reader import Reader
from tests.bench.run import Run
from tests.bench.stand import bridge, stand
from tests.bench.writer import Writer

WITHIN = 300.0


async def measure(run: Run) -> None:
    """Fill a log, read it in order with every check, then fold it into a file of its own."""
    data, count = run.place(), run.size(200_000, 15_000)
    read: list[float] = []
    folded: list[float] = []
    async with stand(data, "--roles", "nats") as node:
        with bridge(data) as bus:
            Writer(bus).write(count, 1_000)
            for _ in range(run.size(3, 2)):
                seconds, seen = await asyncio.to_thread(lambda: bus.call(_read(bus, count), WITHIN))
                read.append(seen / seconds)
        for repetition in range(run.size(3, 1)):
            begun = time.perf_counter()
            file = data / f"{repetition}.duckdb"
            told = await node.ground.told("replay", "--into", str(file))
            folded.append(told["seq"] / (time.perf_counter() - begun))
            assert told["seq"] >= count, told
    run.add(f"the log read in order, sequences and chains checked, {count:,} events", "events/s", read)
    run.add(f"hindbrain replay --into, {count:,} events", "events/s", folded)


async def _read(bus: Bridge, count: int) -> tuple[float, int]:
    over = asyncio.Event()
    wrong: list[Exception] = []
    seen = 0

    def take(records: Sequence[Any]) -> None:
        nonlocal seen
        seen += len(records)
        if seen >= count:
            over.set()

    def damaged(error: Exception) -> None:
        wrong.append(error)
        over.set()

    reader = Reader(bus, take, damaged)
    begun = time.perf_counter()
    await reader.start()
    await over.wait()
    seconds = time.perf_counter() - begun
    await reader.stop()
    assert not wrong, wrong
    return seconds, seen
