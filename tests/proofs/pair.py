"""Two nodes share the work on one server; when one of them dies for good, what it ran ends as lost.

The second node joins with the URL of the first one's `node` user, which lies in the first one's
`nats/credentials.json`.
"""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.proofs.ground import Ground, birth, cmdline, ground, processes
from tests.proofs.kills import judge
from tests.proofs.outside import Outsider, by_entity
from tests.proofs.report import Report

CLIENTS = 50
SHARED_SECONDS = 40.0
"""How much work is shared: one node, with its eight slots, would need some seconds for it alone."""
BEAT_SECONDS = 5
"""How often a monitor looks."""


async def prove(
    report: Report, folder: Path, seed: int, count: int = 1000, doomed: int = 6, lease: int = 3
) -> None:
    """Share `count` executions, then kill the second node while it runs some."""
    settings = {"HINDBRAIN_LEASE_SECONDS": str(lease), "HINDBRAIN_MAX_CONCURRENT_EXECUTIONS": "8"}
    async with ground(folder / "a", **settings) as first, ground(folder / "b", **settings) as second:
        await first.up()
        # It has no projector: the tables are the first one's.
        url = await asyncio.to_thread(joining, first)
        await second.up("--nats", url, "--roles", "executor,monitor,gateway")
        them = Outsider(lambda: str(first.info["nats_url"]))
        try:
            await _run(report, first, second, them, folder / "pids", count, doomed, lease)
        finally:
            await them.close()


def joining(first: Ground) -> str:
    """The URL by which another node joins: the server of this one with the password of its `node` user."""
    passwords = json.loads((first.data / "nats" / "credentials.json").read_bytes())["passwords"]
    port = urlsplit(str(first.info["nats_url"])).port
    return f"nats://node:{quote(passwords['node'], safe='')}@127.0.0.1:{port}"


async def _run(
    report: Report,
    first: Ground,
    second: Ground,
    them: Outsider,
    pids: Path,
    count: int,
    doomed: int,
    lease: int,
) -> None:
    names = {first.info["node"]: "first", second.info["node"]: "second"}
    pace = asyncio.Semaphore(CLIENTS)

    async def client(body: dict[str, Any]) -> str:
        async with pace:
            return await them.submit(body)

    began = time.monotonic()
    taken = await asyncio.gather(*(client(_short(number, SHARED_SECONDS / count)) for number in range(count)))
    await asyncio.gather(*(them.over(entity, 120) for entity in taken))
    spent = time.monotonic() - began
    lives = by_entity(await them.log())
    done = [names[e.data["node"]] for entity in taken for e in lives[entity] if e.name == "started"]
    shares = {name: done.count(name) for name in names.values()}
    report.claim(min(shares.values()) > 0, f"both nodes did some: {shares} in {spent:.1f} s")
    await judge(report, first, them, await them.log(), taken)

    await asyncio.to_thread(pids.mkdir)
    long = [await them.submit(_long(pids, number)) for number in range(doomed)]
    where = await _started(them, long)
    theirs = [entity for entity in long if where[entity] == second.info["node"]]
    report.claim(0 < len(theirs) < doomed, f"{len(theirs)} of {doomed} long commands run on the second node")
    # The machine is gone: the node, its keeper, and with them every command it ran.
    marks = [f"HINDBRAIN_EXECUTION_ID={entity}" for entity in theirs]
    gone = second.pids()
    killed = time.monotonic()
    for pid in [*gone.values(), *await asyncio.to_thread(_carrying, marks)]:
        os.kill(pid, signal.SIGKILL)
    ends = await asyncio.gather(*(them.over(entity, lease * 10 + 30) for entity in theirs))
    spent = time.monotonic() - killed
    reasons = [(each["status"], each["reason"]) for each in ends]
    report.claim(set(reasons) == {("failed", "lost")}, f"{len(theirs)} ended failed, lost", reasons)
    # One period until the lease expires, another one of patience, and then the next beat.
    report.claim(
        spent <= lease * 2 + BEAT_SECONDS + 1, f"{spent:.1f} s after its death (a lease is {lease} s)"
    )
    rest = [entity for entity in long if entity not in theirs]
    alive = [
        entity
        for entity in rest
        if (await them.ask("execution.get", {"execution_id": entity}))["execution"]["status"] == "running"
    ]
    report.claim(alive == rest, "what the first node runs goes on", rest)
    for entity in rest:
        await them.insist("execution.cancel", {"execution_id": entity, "grace_ms": 100})
        await them.over(entity)
    later = await them.submit(_short(count))
    end = await them.over(later)
    report.claim(end["status"] == "completed", "the first node goes on alone", end)
    await judge(report, first, them, await them.log(), [*taken, *long, later])


async def _started(them: Outsider, entities: list[str]) -> dict[str, str]:
    for _ in range(300):
        lives = by_entity(await them.log())
        found = {
            each: e.data["node"] for each in entities for e in lives.get(each, []) if e.name == "started"
        }
        if len(found) == len(entities):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("some were never started")


def _carrying(marks: list[str]) -> list[int]:
    from tests.proofs.ground import environ

    return [
        pid
        for pid in processes()
        if birth(pid) and cmdline(pid) and any(m.encode() in environ(pid) for m in marks)
    ]


def _short(number: int, seconds: float = 0.01) -> dict[str, Any]:
    return {"exec": {"program": "sleep", "args": [f"{seconds:.3f}"]}, "idempotency_key": f"shared-{number}"}


def _long(pids: Path, number: int) -> dict[str, Any]:
    return {
        "shell": {"command": f'echo $$ > "{pids}/{number}"; sleep 600'},
        "idempotency_key": f"long-{number}",
    }
