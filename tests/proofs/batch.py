"""Ten thousand operations in one batch, told by one subject; many more are taken and stopped at once."""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any, cast

import nats

from tests.proofs.ground import ground, resident
from tests.proofs.report import Report

PER_SECOND = 10
TAKEN_SECONDS, STOPPED_SECONDS = 10.0, 5.0
NODE_MIB = 300
OFF = 0.2
"""How far an estimate may be from the truth."""
PAGE = 5000

Message = tuple[float, dict[str, Any]]


async def prove(
    report: Report, folder: Path, seed: int, count: int = 10_000, many: int = 100_000, at_once: int = 64
) -> None:
    """Run `count` operations that do nothing, and take and cancel `many`."""
    async with ground(folder / "d") as node:
        info = await node.up()
        join: Any = cast("Any", nats).connect
        nc = await join(info["nats_url"], allow_reconnect=False)
        try:
            await _story(report, nc, count, at_once)
            await _pace(report, nc, seed)
            await _many(report, nc, info["pid"], many)
        finally:
            await nc.close()


async def ask(nc: Any, verb: str, body: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Ask a verb, which has to succeed."""
    reply = await nc.request(f"brain.cmd.{verb}", json.dumps(body).encode(), timeout=seconds)
    answer = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


async def over(nc: Any, plan: str, seconds: float = 900) -> dict[str, Any]:
    """Wait for the end of a plan."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = await ask(nc, "plan.wait", {"plan_id": plan, "timeout_ms": 30_000})
        if answer["done"]:
            return answer["plan"]
    raise AssertionError(f"{plan} is not over after {seconds:g} s")


async def _story(report: Report, nc: Any, count: int, at_once: int) -> None:
    told: list[Message] = []

    async def hear(message: Any) -> None:
        told.append((time.monotonic(), json.loads(message.data)))

    sub = await nc.subscribe("brain.progress.plan.>", cb=hear)
    await nc.flush()
    body = {
        "description": "Touching nothings",
        "do": {"exec": {"program": "true"}},
        "count": count,
        "max_concurrency": at_once,
    }
    began = time.monotonic()
    reply = await ask(nc, "batch.submit", body)
    taken = time.monotonic() - began
    report.note(f"the reply after {taken * 1000:.0f} ms: {reply}")
    report.claim(
        reply["status"] == "queued"
        and reply["batchId"] == reply["plan_id"]
        and reply["message"] == f"Touching {count} nothings"
        and reply["tip"] == "Use the status tool to check progress",
        "the reply is the one that was agreed",
        reply,
    )
    end = await over(nc, reply["plan_id"])
    spent = time.monotonic() - began
    report.note(f"{count} operations in {spent:.1f} s, {count / spent:.0f} a second")
    await asyncio.sleep(1.0)  # nothing may come after the last message
    await sub.unsubscribe()
    report.claim(end["status"] == "completed", "it is completed", end["status"])
    tell(report, told, count)


def tell(report: Report, told: list[Message], count: int) -> None:
    """Judge a story by the messages of one subject alone."""
    times, said = [time for time, _ in told], [message for _, message in told]
    most = max(sum(1 for other in times if time <= other < time + 1) for time in times)
    report.claim(most <= PER_SECOND, f"{len(told)} messages, at most {most} in any second", PER_SECOND)
    finals = [index for index, message in enumerate(said) if message["final"]]
    report.claim(finals == [len(said) - 1], "the last one is the only one that is final", finals)
    done = [message["completedOperations"] for message in said]
    report.claim(
        done == sorted(done) and done[0] == 0 and done[-1] == count, "from none to all of them", done
    )
    last = said[-1]
    report.claim(
        last["status"] == "completed" and last["totalOperations"] == count and last["failedOperations"] == 0,
        "the last one says how it ended",
        last,
    )
    early = [message for message in said if not message["completedOperations"]]
    report.claim(
        all(message["estimatedTimeRemaining"] is None for message in early) and bool(early),
        "nothing is estimated before the first has ended",
        early,
    )
    middle, good, worst = _off(told, count)
    report.note(
        f"estimates of the last half: {middle:.0%} off (median), {good:.0%} within a fifth, worst {worst:.0%}"
    )


def _off(told: list[Message], count: int) -> tuple[float, float, float]:
    """How far the estimates of the last half were off: the median, how many were good, and the worst."""
    first, end = told[0][0], told[-1][0]
    off = sorted(
        abs(message["estimatedTimeRemaining"] / 1000 - (end - time)) / (end - time)
        for time, message in told[:-1]
        if time > (first + end) / 2 and message["completedOperations"] < 0.95 * count
    )
    return off[len(off) // 2], sum(each <= OFF for each in off) / len(off), off[-1]


async def _pace(report: Report, nc: Any, seed: int, count: int = 600, at_once: int = 8) -> None:
    """Durations are log-normal around a third of a second, and twice as long after 60 %."""
    chance = random.Random(seed)
    items = [
        round(chance.lognormvariate(-1.2, 0.5) * (2 if number >= 0.6 * count else 1), 4)
        for number in range(count)
    ]
    told: list[Message] = []

    async def hear(message: Any) -> None:
        told.append((time.monotonic(), json.loads(message.data)))

    sub = await nc.subscribe("brain.progress.plan.>", cb=hear)
    await nc.flush()
    do = {"exec": {"program": "sleep", "args": ["${item}"]}}
    reply = await ask(nc, "batch.submit", {"do": do, "items": items, "max_concurrency": at_once})
    await over(nc, reply["plan_id"])
    await asyncio.sleep(0.5)
    await sub.unsubscribe()
    middle, good, worst = _off(told, count)
    report.claim(
        middle <= OFF / 2 and good >= 0.9,
        f"half as fast after 60 %: {middle:.0%} off (median), {good:.0%} within a fifth, worst {worst:.0%}",
        [message["estimatedTimeRemaining"] for _, message in told],
    )


async def _many(report: Report, nc: Any, pid: int, many: int) -> None:
    before, peak, over_now = resident(pid), 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal peak
        while not over_now.is_set():
            peak = max(peak, resident(pid))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    items = [f"/routes/{number:06d}/index.html" for number in range(many)]
    began = time.monotonic()
    reply = await ask(
        nc,
        "batch.submit",
        {
            "description": "Building pages",
            "do": {"exec": {"program": "sleep", "args": ["60"]}, "env": {"PAGE": "${item}"}},
            "items": items[:PAGE],
            "open": True,
        },
    )
    plan = reply["plan_id"]
    for start in range(PAGE, many, PAGE):
        await ask(nc, "batch.add", {"plan_id": plan, "items": items[start : start + PAGE]})
    await ask(nc, "batch.seal", {"plan_id": plan})
    taken = time.monotonic() - began
    report.claim(taken <= TAKEN_SECONDS, f"{many} operations are taken in {taken:.2f} s", TAKEN_SECONDS)
    began = time.monotonic()
    await ask(nc, "plan.cancel", {"plan_id": plan, "grace_ms": 500})
    end = await over(nc, plan, 60)
    stopped = time.monotonic() - began
    report.claim(
        stopped <= STOPPED_SECONDS and end["status"] == "cancelled",
        f"they are cancelled in {stopped:.2f} s",
        end["status"],
    )
    over_now.set()
    await watching
    report.claim(peak <= NODE_MIB, f"the node took {peak:.0f} MiB at most, {before:.0f} before", NODE_MIB)
