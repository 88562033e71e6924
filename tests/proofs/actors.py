"""Each actor fails while commands run: it comes back, the log says so, and each command ends once."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground
from tests.proofs.kills import judge
from tests.proofs.outside import TERMINAL, Outsider, by_entity
from tests.proofs.report import Report

FALLS, FALLS_SECONDS = 4, 32.0


async def prove(
    report: Report,
    folder: Path,
    seed: int,
    count: int = 200,
    slots: int = 200,
    seconds: float = 4.0,
    names: tuple[str, ...] = (),
) -> None:
    """Fail these, or all, one after the other, each with `count` executions in flight."""
    settings = {"HINDBRAIN_FAULT_SWITCH": "true", "HINDBRAIN_MAX_CONCURRENT_EXECUTIONS": str(slots)}
    async with ground(folder / "d", **settings) as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, random.Random(seed), count, seconds, list(names))
        finally:
            await them.close()


async def _run(
    report: Report,
    node: Ground,
    them: Outsider,
    chance: random.Random,
    count: int,
    seconds: float,
    names: list[str],
) -> None:
    names = names or [row["name"] for row in (await them.ask("actor.list"))["actors"]]
    report.note(f"actors: {', '.join(names)}")
    chance.shuffle(names)
    taken: list[str] = []
    fell: list[float] = []
    for name in names:
        bodies = [_body(name, number, chance.uniform(seconds / 2, seconds)) for number in range(count)]
        batch = await asyncio.gather(*(them.submit(body) for body in bodies))
        taken += batch
        await _rest(fell)
        before = await them.last()
        said = await node.call("actors", "--fail", name)
        report.claim(said.code == 0, f"{name}: told to fail", said.err.decode())
        open_now = len(batch) - sum(
            event.name in TERMINAL for event in await them.log() if event.entity in set(batch)
        )
        ends = await asyncio.gather(*(them.over(entity, 120) for entity in batch))
        bad = [each["id"] for each in ends if each["status"] != "completed"]
        report.claim(
            not bad, f"{name}: {len(batch)} ended well, {open_now} of them were open when it failed", bad
        )
        told = await _restart(them, name, before)
        report.claim(bool(told), f"{name}: its restart is a fact, {told[:1]}", "none in the log")
    rows = {row["name"]: row for row in (await them.ask("actor.list"))["actors"]}
    report.note(f"restarts: { {name: rows[name].get('restarts') for name in names} }")
    await judge(report, node, them, await them.log(), taken)
    back = await node.told("status", taken[0])
    report.claim(back["status"] == "completed", "the node still answers")


async def _rest(fell: list[float]) -> None:
    """Stay within what a supervisor stands: five that fall in half a minute bring the node down."""
    if len(fell) >= FALLS:
        await asyncio.sleep(max(0.0, fell[-FALLS] + FALLS_SECONDS - time.monotonic()))
    fell.append(time.monotonic())


async def _restart(them: Outsider, name: str, after: int) -> list[str]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        told = [
            event.data["reason"]
            for life in by_entity(await them.log(), "node").values()
            for event in life
            if event.name == "actor_restarted" and event.data["actor"] == name and event.seq > after
        ]
        if told:
            return told
        # A librarian has something to read only when somebody asks.
        await asyncio.gather(*(them.insist("query.sql", {"sql": "SELECT 1"}) for _ in range(6)))
        await asyncio.sleep(0.2)
    return []


def _body(name: str, number: int, seconds: float) -> dict[str, Any]:
    command = {"program": "sleep", "args": [f"{seconds:.3f}"]}
    return {"exec": command, "idempotency_key": f"{name}-{number}", "labels": [name]}
