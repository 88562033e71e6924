"""How fast events are stored, each on the disk before it is confirmed; and how a reader is felt meanwhile."""

import asyncio
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from tests.bench.run import Run
from tests.bench.stand import bridge, stand
from tests.bench.writer import Writer

WAITING = ((1, 3_000, 300), (12, 12_000, 1_000), (100, 30_000, 3_000), (1_000, 60_000, 10_000))
"""How many wait at a time, and how many are appended, in the whole and in the quick run."""


async def measure(run: Run) -> None:
    """Write with nobody else on the machine, then beside a reader that reads everything again and again."""
    data = run.place()
    async with stand(data, "--roles", "nats"):
        with bridge(data) as bus:
            writer = Writer(bus)
            await asyncio.to_thread(writer.write, 200, 10)
            for waiting, whole, quick in WAITING:
                count, rates = run.size(whole, quick), list[float]()
                for _ in range(run.size(5, 2)):
                    seconds, _ = await asyncio.to_thread(writer.write, count, waiting)
                    rates.append(count / seconds)
                grouped = "one after the other" if waiting == 1 else f"{waiting:,} waiting at a time"
                run.add(f"synced appends, {grouped}", "events/s", rates)
            count, alone, beside = run.size(3_000, 300), list[float](), list[float]()
            for _ in range(run.size(5, 2)):
                alone.append(await asyncio.to_thread(_middle, writer, count))
                beside.append(await asyncio.to_thread(_beside, writer, data, count))
            run.add("p50 of an append, one after the other", "ms", alone)
            run.add("p50 of an append while a reader reads the whole log", "ms", beside)
            run.ratio("p50 of an append: without a reader / with one", alone, beside)


def _middle(writer: Writer, count: int) -> float:
    """The median of so many appends, in ms."""
    _, took = writer.write(count, 1)
    return statistics.median(took) * 1000


def _beside(writer: Writer, data: Path, count: int) -> float:
    command = [sys.executable, "-m", "tests.bench.reading", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline()
            drain = threading.Thread(target=reader.stdout.read)
            drain.start()
            middle = _middle(writer, count)
            assert reader.poll() is None, "the reader ended too early"
        finally:
            reader.terminate()
        drain.join()
    return middle
