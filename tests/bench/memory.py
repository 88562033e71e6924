"""How much memory and processor time a node takes that has nothing to do."""

import asyncio
import concurrent.futures
import threading
from typing import Self

from tests.bench.run import Run
from tests.bench.stand import Stand, pss, stand

SETTLE_SECONDS = 10.0
SAMPLE_SECONDS = 0.5


class Gauge:
    """Watches the memory of a node in a thread, and remembers the most it had."""

    def __init__(self, node: Stand) -> None:
        self._node, self.peak = node, 0.0
        self._over = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._watching = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.result()
        self._pool.shutdown()

    def _watch(self) -> None:
        pids = self._node.ground.pids().values()
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(map(pss, pids)))


async def measure(run: Run) -> None:
    """Start a node, leave it alone, and look."""
    window = run.size(60.0, 5.0)
    sums: list[float] = []
    each: dict[str, list[float]] = {}
    busy: list[float] = []
    for _ in range(run.size(3, 1)):
        async with stand(run.place()) as node:
            await asyncio.sleep(SETTLE_SECONDS)
            parts = {name: pss(pid) for name, pid in node.ground.pids().items()}
            sums.append(sum(parts.values()))
            for name, value in parts.items():
                each.setdefault(name, []).append(value)
            before = node.cpu()
            await asyncio.sleep(window)
            busy.append(sum(node.cpu().values()) - sum(before.values()))
    run.add(f"memory of all processes (PSS), {SETTLE_SECONDS:g} s after the start, empty log", "MiB", sums)
    for name, values in each.items():
        run.add(f"of it {name}", "MiB", values)
    run.add(f"processor time of all processes in {window:g} s without work", "s", busy)
