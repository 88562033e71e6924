"""How many commands run in a second, each submitted by itself, with its history and its result stored."""

import asyncio
import collections
import json
import statistics
import subprocess
import threading
import time
from typing import Any

from tests.bench.memory import Gauge
from tests.bench.run import Run
from tests.bench.stand import Stand, stand

IN_FLIGHT = (64, 256)
THREADS = 8
ENDS = ("completed", "failed", "cancelled", "timed_out")


async def measure(run: Run) -> None:
    """Ours and the others' in turn; between them, what the system itself can do."""
    count = run.size(10_000, 400)
    rates: dict[Any, list[float]] = collections.defaultdict(list)
    costs: dict[str, list[float]] = collections.defaultdict(list)
    async with stand(run.place()) as node:
        await burst(node, 50, 10, "warm")
        with Gauge(node) as gauge:
            for repetition in range(run.size(3, 1)):
                before = await asyncio.to_thread(bare, count)
                for flight in IN_FLIGHT:
                    used = node.cpu()
                    rates[flight].append(count / await burst(node, count, flight, f"r{repetition}-{flight}"))
                    spent = node.cpu()
                    after = await asyncio.to_thread(bare, count)
                    rates["bare", flight].append(statistics.median((before, after)))
                    before = after
                    for name in spent if flight == 64 else ():
                        costs[name].append((spent[name] - used[name]) / count * 1e6)
                for peer in run.beside("true"):
                    rates[peer.name].append(count / await asyncio.to_thread(peer.seconds, count))
        peak = gauge.peak
    run.add(
        f"{count:,} x /bin/true in {THREADS} threads of Popen, nothing kept", "commands/s", rates["bare", 64]
    )
    for peer in run.beside("true"):
        text = f"{peer.name}: {count:,} x /bin/true, all enqueued at once; {peer.text}"
        run.add(text, "commands/s", rates[peer.name])
    for flight in IN_FLIGHT:
        run.add(f"{count:,} x /bin/true, {flight} in flight", "executions/s", rates[flight])
    for flight in IN_FLIGHT:
        text = f"executions/s with {flight} in flight: ours /"
        run.ratio(f"{text} {THREADS} threads of Popen", rates[flight], rates["bare", flight])
        for peer in run.beside("true"):
            run.ratio(f"{text} {peer.name}", rates[flight], rates[peer.name])
    for name, values in costs.items():
        run.add(f"processor time per execution, 64 in flight: {name}, without its commands", "us", values)
    run.add("peak memory of all processes meanwhile (PSS), without commands", "MiB", [peak])


async def burst(node: Stand, count: int, flight: int, label: str) -> float:
    """Run so many, and be sure of them: one end each, told on the bus and found in the tables."""
    body = json.dumps({"exec": {"program": "/bin/true"}, "labels": [label]}).encode()
    room, ends = asyncio.Semaphore(flight), dict[str, int]()
    twice: list[str] = []
    over = asyncio.Event()

    async def hear(fact: Any) -> None:
        entity = fact.subject.split(".")[3]
        if entity in ends:
            twice.append(entity)
        ends[entity] = int(fact.headers["Nats-Sequence"])
        room.release()
        if len(ends) == count:
            over.set()

    async def submit() -> str:
        reply = json.loads((await node.nc.request("brain.cmd.execution.submit", body, timeout=60)).data)
        return reply["execution_id"]

    heard = [await node.nc.subscribe(f"brain.fact.execution.*.*.{end}", cb=hear) for end in ENDS]
    await node.nc.flush()
    begun = time.perf_counter()
    submits: list[asyncio.Task[str]] = []
    for _ in range(count):
        await room.acquire()
        submits.append(asyncio.create_task(submit()))
    names = await asyncio.gather(*submits)
    await asyncio.wait_for(over.wait(), 60)
    seconds = time.perf_counter() - begun
    for subscription in heard:
        await subscription.unsubscribe()
    assert set(names) == ends.keys(), "others ended than were submitted"
    assert not twice, f"these ended twice: {twice}"
    query = "SELECT count(*) FROM executions WHERE labels = [?] AND status = 'completed' AND exit_code = 0"
    stored = await node.one(query, label, min_seq=max(ends.values()))
    assert stored == count, f"{stored} of {count} are in the tables"
    return seconds


def bare(count: int) -> float:
    """Commands per second of plain threads that start a process and wait for it."""

    def work(share: int) -> None:
        quiet = subprocess.DEVNULL
        for _ in range(share):
            code = subprocess.Popen(["/bin/true"], stdin=quiet, stdout=quiet, stderr=quiet).wait()
            assert code == 0

    threads = [threading.Thread(target=work, args=(count // THREADS,)) for _ in range(THREADS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count // THREADS * THREADS / (time.perf_counter() - begun)
