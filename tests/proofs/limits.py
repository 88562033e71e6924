"""Limits hold while their limiter is killed, stopped and woken, and while they change: by log and by stamps.

Two nodes share one server and contest for the role.  Whoever has it is stopped for longer than its lease or
killed, again and again, under load.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Event, Outsider, by_entity
from tests.proofs.pair import joining
from tests.proofs.report import Report

KEYS = {"a": 1, "b": 2, "c": 3}
MODULE = 5
TAKEOVER_SECONDS = 10.0
STOP_SECONDS = 8.0
CLIENTS = 20


async def prove(
    report: Report, folder: Path, seed: int, count: int = 300, blows: int = 6, behind: int = 5000
) -> None:
    """Run `count` commands under limits through `blows` blows, then one that is urgent behind many."""
    settings = {"HINDBRAIN_LEASE_SECONDS": "60", "HINDBRAIN_MAX_CONCURRENT_EXECUTIONS": "8"}
    async with ground(folder / "a", **settings) as first, ground(folder / "b", **settings) as second:
        await first.up()
        url = await asyncio.to_thread(joining, first)
        roles = ("--nats", url, "--roles", "executor,monitor,gateway,limiter")
        await second.up(*roles)
        them = Outsider(lambda: str(first.info["nats_url"]))
        try:
            await _hold(
                report, {first: (), second: roles}, them, folder / "stamps", random.Random(seed), count, blows
            )
            await _urgent(report, them, behind)
        finally:
            await them.close()


async def _hold(
    report: Report,
    nodes: dict[Ground, tuple[str, ...]],
    them: Outsider,
    stamps: Path,
    chance: random.Random,
    count: int,
    blows: int,
) -> None:
    await asyncio.to_thread(stamps.mkdir)
    for key, most in KEYS.items():
        await them.insist("limit.set", {"key": key, "max": most})
    await them.insist("limit.set", {"module": "commands", "max": MODULE})
    pace = asyncio.Semaphore(CLIENTS)

    async def client(number: int) -> str:
        key = chance.choice(list(KEYS))
        file = stamps / f"{key}-{number}"
        line = f"date +b%s%N >> {file}; sleep {chance.uniform(0.05, 0.4):.2f}; date +e%s%N >> {file}"
        async with pace:
            return await them.submit(
                {"shell": {"command": line}, "concurrency_key": key, "idempotency_key": f"limited-{number}"}
            )

    taken = await asyncio.gather(*(client(number) for number in range(count)))
    for blow in range(blows):
        await _strike(report, nodes, them, stop=blow % 2 == 0)
        await them.insist("limit.set", {"key": "c", "max": 4 if blow % 2 == 0 else 3})
    await asyncio.gather(*(them.over(entity, 300) for entity in taken))
    lives = by_entity(await them.log())
    ends = [lives[entity][-1].name for entity in taken]
    report.claim(set(ends) == {"completed"}, f"{count} commands completed", ends)
    starts = [sum(each.name == "started" for each in lives[entity]) for entity in taken]
    report.claim(set(starts) == {1}, "each of them was started once", starts)
    _judge(report, await them.log())
    found = await asyncio.to_thread(_spans, stamps)
    for key, most in (KEYS | {"c": 4}).items():
        report.claim(
            _most(found[key]) <= most, f"never more than {most} of {key} at once, by their stamps", found
        )
    together = _most([span for spans in found.values() for span in spans])
    report.claim(together <= MODULE, f"never more than {MODULE} of all at once", together)


async def _strike(report: Report, nodes: dict[Ground, tuple[str, ...]], them: Outsider, stop: bool) -> None:
    """Stop or kill whoever is the limiter, and see another one take over."""
    names = {node.info["node"]: node for node in nodes}
    last = await _owner(them)
    owner = names[last.entity]
    pid = owner.pids()["node"]
    began = time.monotonic()
    if stop:
        os.kill(pid, signal.SIGSTOP)
    else:
        owner.kill("node")
    next_: Event = last
    while next_.entity == last.entity and time.monotonic() - began < TAKEOVER_SECONDS * 2:
        await asyncio.sleep(0.2)
        next_ = await _owner(them)
    spent = time.monotonic() - began
    what = "stopped" if stop else "killed"
    report.claim(
        next_.entity != last.entity and spent <= TAKEOVER_SECONDS,
        f"{what} the limiter: another took over in {spent:.1f} s",
    )
    if stop:
        await asyncio.sleep(max(0.0, STOP_SECONDS - spent))
        os.kill(pid, signal.SIGCONT)
    else:
        await owner.up(*nodes[owner])


async def _owner(them: Outsider) -> Event:
    found = [e for e in await them.log() if e.name == "appointed" and e.data["role"] == "limiter"]
    return found[-1]


def _judge(report: Report, log: Sequence[Event]) -> None:
    """Count who has a place at every moment of the log."""
    most: dict[str, int | None] = {}
    holders: dict[str, set[str]] = {}
    grants, broken = 0, list[str]()
    for event in (each for each in log if each.kind == "limit"):
        data, first = event.data, event.entity.partition("--")[0]
        at = holders.setdefault(first, set())
        match event.name:
            case "set":
                most[first] = data.get("max")
            case "opened":
                if (data.get("max"), set(data.get("holders", {}))) != (most[first], at):
                    broken.append(f"page {event.entity} begins otherwise than the one before ended")
            case "granted":
                grants += 1
                again, limit = at & set(data["ids"]), most[first]
                at |= set(data["ids"])
                if again or (limit is not None and len(at) > limit):
                    broken.append(f"{event.seq}: {first} has {len(at)} of {limit}, {again} again")
            case "returned":
                at -= set(data["ids"])
            case _:
                pass
    report.claim(not broken, f"{grants} grants, none beyond its limit at its moment of the log", broken)


def _spans(folder: Path) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}
    for file in folder.iterdir():
        begin, end = file.read_text().split()
        found[file.name.partition("-")[0]].append((int(begin[1:]), int(end[1:])))
    return found


def _most(spans: Sequence[tuple[int, int]]) -> int:
    return max((sum(a <= begin < b for a, b in spans) for begin, _ in spans), default=0)


async def _urgent(report: Report, them: Outsider, behind: int) -> None:
    """What is critical starts next, however much waits."""
    await them.insist("limit.set", {"module": "commands"})
    pace = asyncio.Semaphore(CLIENTS * 5)

    async def client(number: int) -> str:
        body: dict[str, Any] = {"exec": {"program": "sleep", "args": ["0.2"]}, "priority": "low"}
        async with pace:
            return await them.submit(body | {"idempotency_key": f"low-{number}"})

    taken = await asyncio.gather(*(client(number) for number in range(behind)))
    urgent = await them.submit(
        {"exec": {"program": "true"}, "priority": "critical", "idempotency_key": "now"}
    )
    await them.over(urgent)
    log = await them.log()
    life = by_entity(log)[urgent]
    queued, started = (next(e.seq for e in life if e.name == name) for name in ("queued", "started"))
    passed = sum(e.name == "started" and queued < e.seq < started for e in log)
    waiting = behind - sum(e.name == "started" for e in log if e.entity in set(taken) and e.seq < queued)
    # Each of the two nodes may be claiming for every slot of its own in that moment.
    report.claim(passed <= 16, f"critical behind {waiting} low ones: {passed} started before it")

    async def cancel(entity: str) -> None:
        async with pace:
            await them.insist("execution.cancel", {"execution_id": entity})

    await asyncio.gather(*(cancel(entity) for entity in taken))
