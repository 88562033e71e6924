"""Thousands of playbooks that sleep for a year cost the node no process, no thread and little memory."""

import asyncio
from pathlib import Path
from typing import Any

import psutil

from tests.bench.stand import pss
from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

COUNT, MOST_MIB = 10_000, 100.0
SETTLE_SECONDS = 15.0
FLIGHT = 32
BOOK: dict[str, Any] = {
    "name": "sleeper",
    "phases": [{"id": "wait", "steps": [{"name": "year", "sleep": "365d"}, {"name": "then", "sleep": "1s"}]}],
}


async def prove(report: Report, folder: Path, seed: int, count: int = COUNT) -> None:
    """Start so many, and look at the node before and after; nothing depends on `seed`."""
    report.note(f"seed {seed} changes nothing")
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            # What the first ones bring with them (code that is loaded once) is no cost of each.
            await _start(them, 0, 200)
            before = await _look(node)
            await _start(them, 200, count)
            await _asleep(them, count)
            after = await _look(node)
            for name, (memory, threads) in after.items():
                was = before[name]
                report.note(f"{name}: {was[0]:.1f} -> {memory:.1f} MiB, {was[1]} -> {threads} threads")
            grown = after["node"][0] - before["node"][0]
            report.claim(grown < MOST_MIB, f"{count - 200:,} more of them add {grown:.1f} MiB to the node")
            more = after["node"][1] - before["node"][1]
            report.claim(more <= 0, "and no thread", more)
            running = (await them.insist("query.sql", {"sql": "SELECT count(*) FROM executions"}))["rows"]
            report.claim(running == [[0]], "nothing runs for any of them", running)
        finally:
            await them.close()


async def _start(them: Outsider, first: int, count: int) -> None:
    numbers = iter(range(first, count))

    async def lane() -> None:
        for number in numbers:
            reply = await them.insist("playbook.run", {**BOOK, "idempotency_key": f"sleeper-{number}"})
            assert "playbook_id" in reply, reply

    await asyncio.gather(*(lane() for _ in range(FLIGHT)))


async def _asleep(them: Outsider, count: int) -> None:
    """Wait until the tables have them all, and each has its first checkpoint."""
    sql = "SELECT count(*) FROM playbook_executions WHERE status = 'running'"
    answer: dict[str, Any] = {}
    for _ in range(600):
        answer = await them.insist("query.sql", {"sql": sql, "min_seq": await them.last()})
        if answer.get("rows") == [[count]]:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"they are not all asleep: {answer}")


async def _look(node: Ground) -> dict[str, tuple[float, int]]:
    """Memory (MiB, PSS) and threads of each process, once it has settled."""
    await asyncio.sleep(SETTLE_SECONDS)
    return {name: (pss(pid), psutil.Process(pid).num_threads()) for name, pid in node.pids().items()}
