"""How long a person waits for the smallest command, from the wish to the result."""

import asyncio
import statistics
import time

from tests.bench.run import Run
from tests.bench.stand import Stand, percentile, stand

TRUE = {"exec": {"program": "/bin/true"}}


async def measure(run: Run) -> None:
    """Submit and wait, one after the other."""
    count = run.size(200, 50)
    middle: list[float] = []
    late: list[float] = []
    theirs: dict[str, list[float]] = {peer.name: [] for peer in run.beside("true")}
    async with stand(run.place()) as node:
        await _round(node, 20)
        for _ in range(run.size(5, 2)):
            took = await _round(node, count)
            middle.append(statistics.median(took))
            late.append(percentile(took, 0.99))
            for peer in run.beside("true"):
                theirs[peer.name].append(statistics.median(await asyncio.to_thread(peer.latencies, count)))
    run.add(f"/bin/true: submit until result, p50 of {count}", "ms", middle)
    run.add(f"/bin/true: submit until result, p99 of {count}", "ms", late)
    for name, values in theirs.items():
        run.add(f"{name}: enqueue until result, p50 of {count}", "ms", values)
        run.ratio(f"p50: {name} / ours", values, middle)


async def _round(node: Stand, count: int) -> list[float]:
    took: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        submitted = await node.ask("execution.submit", TRUE)
        reply = await node.ask("execution.wait", {"execution_id": submitted["execution_id"]})
        took.append((time.perf_counter() - begun) * 1000)
        assert reply["execution"]["exit_code"] == 0, reply
    return took
