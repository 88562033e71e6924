"""How many jobs of a plugin run in a second, each submitted by itself, with its history and its result."""

import asyncio
import collections
import json
import statistics
import time
from typing import Any

import msgspec

from bus.bridge import Bridge
from tests.bench.run import Run
from tests.bench.stand import ROOT, Stand, bridge, stand

IN_FLIGHT = (50, 128, 512)
FORMS = {"short": "one fact for a short attempt", "full": "three facts"}
FACT = msgspec.json.Decoder(dict[str, Any])


async def measure(run: Run) -> None:
    """Ours and the others' in turn."""
    count = run.size(10_000, 2_000)
    rates: dict[Any, list[float]] = collections.defaultdict(list)
    costs: dict[str, list[float]] = collections.defaultdict(list)
    middle: dict[str, list[float]] = collections.defaultdict(list)
    data = run.place()
    data.mkdir(mode=0o700, parents=True)
    (data / "hindbrain.toml").write_text('[plugins]\nbench = "tests.bench.handlers:plugin"\n')
    async with stand(data, PYTHONPATH=str(ROOT)) as node:
        with bridge(data, "client") as bus:
            await ready(node)
            for form in FORMS:
                await asyncio.to_thread(bus.call, burst(bus, form, 200, 20), 120.0)
            for _ in range(run.size(3, 1)):
                for form in FORMS:
                    for flight in IN_FLIGHT:
                        used = node.cpu()
                        seconds, last = await asyncio.to_thread(
                            bus.call, burst(bus, form, count, flight), 120.0
                        )
                        await stored(node, count, last)
                        spent = node.cpu()
                        rates[form, flight].append(count / seconds)
                        for name in spent if flight == 512 else ():
                            costs[f"{form}: {name}"].append((spent[name] - used[name]) / count * 1e6)
                    took = await asyncio.to_thread(bus.call, alone(bus, form, run.size(300, 100)), 120.0)
                    middle[form].append(statistics.median(took))
                for peer in run.beside("nothing"):
                    for flight in IN_FLIGHT:
                        took = await asyncio.to_thread(peer.seconds, count, "nothing", flight)
                        rates[peer.name, flight].append(count / took)
    for form, text in FORMS.items():
        for flight in IN_FLIGHT:
            run.add(
                f"{count:,} jobs that do nothing, {flight} in flight, {text}", "jobs/s", rates[form, flight]
            )
            for peer in run.beside("nothing"):
                ratio = f"jobs/s with {flight} in flight, {text}: ours / {peer.name}"
                run.ratio(ratio, rates[form, flight], rates[peer.name, flight])
        run.add(f"one job, submit until result, p50, {text}", "ms", middle[form])
    for peer in run.beside("nothing"):
        for flight in IN_FLIGHT:
            run.add(f"{peer.name} ({peer.text}), {flight} in flight", "jobs/s", rates[peer.name, flight])
    for name, values in costs.items():
        run.add(f"processor time per job, 512 in flight, {name}", "us", values)


async def ready(node: Stand) -> None:
    """Wait until the plugin takes jobs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        modules = (await node.ask("module.list", {}))["modules"]
        if any(each["name"] == "bench" and each["total"] for each in modules):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the plugin is not there")


class Ends:
    """What is told of ends, on the bus of a client."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self.room, self.found, self.last = room, dict[str, Any](), 0
        self.waiting: dict[str, asyncio.Future[Any]] = {}

    def hear(self, message: Any) -> None:
        """One more is over."""
        entity = message.subject.split(".")[3]
        assert entity not in self.found, f"{entity} ended twice"
        value = FACT.decode(message.data)["end"].get("value")
        self.found[entity] = value
        self.last = max(self.last, int(message.headers["Nats-Sequence"]))
        self.room.release()
        if future := self.waiting.pop(entity, None):
            future.set_result(value)


async def burst(bus: Bridge, form: str, count: int, flight: int) -> tuple[float, int]:
    """Run so many, each its own submit, and read every result; seconds, and the last sequence."""
    room = asyncio.Semaphore(flight)
    ends = Ends(room)
    heard = await bus.subscribe("brain.fact.execution.*.*.completed", ends.hear)
    await bus.request("$JS.API.INFO")
    numbers: dict[str, int] = {}

    async def submit(number: int) -> None:
        body = json.dumps({"job": {"type": f"bench:{form}", "data": {"number": number}}}).encode()
        reply = FACT.decode((await bus.request("brain.cmd.execution.submit", body, within=60.0)).data)
        numbers[reply["execution_id"]] = number

    begun = time.perf_counter()
    submits: list[asyncio.Task[None]] = []
    for number in range(count):
        await room.acquire()
        submits.append(asyncio.create_task(submit(number)))
    await asyncio.gather(*submits)
    while len(ends.found) < count:
        await room.acquire()
    seconds = time.perf_counter() - begun
    await bus.unsubscribe(heard)
    assert ends.found == numbers, "results are not what was given"
    return seconds, ends.last


async def alone(bus: Bridge, form: str, count: int) -> list[float]:
    """One after the other: from the submission until the result is here, in ms."""
    ends, took = Ends(asyncio.Semaphore(0)), list[float]()
    heard = await bus.subscribe("brain.fact.execution.*.*.completed", ends.hear)
    body = json.dumps({"job": {"type": f"bench:{form}", "data": {"number": 1}}}).encode()
    for _ in range(count):
        begun = time.perf_counter()
        reply = FACT.decode((await bus.request("brain.cmd.execution.submit", body, within=60.0)).data)
        entity = reply["execution_id"]
        if entity not in ends.found:
            ends.waiting[entity] = asyncio.get_running_loop().create_future()
            await ends.waiting[entity]
        took.append((time.perf_counter() - begun) * 1000)
    await bus.unsubscribe(heard)
    return took


async def stored(node: Stand, count: int, last: int) -> None:
    """Be sure that the tables have them all, with their results."""
    query = "SELECT count(value) FROM executions WHERE module = 'bench' AND status = 'completed'"
    found = await node.one(query, min_seq=last)
    assert found >= count, f"{found} of {count} are in the tables"
