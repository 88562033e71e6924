"""Hundreds of commands run at once, thousands wait behind them: all end, the node stays small and quick."""

import asyncio
import contextlib
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground, resident
from tests.proofs.kills import caught_up, judge
from tests.proofs.outside import TERMINAL, Outsider
from tests.proofs.report import Report

CLIENTS = 50
RESIDENT_MIB = 200.0
LIST_SECONDS = 0.1


async def prove(
    report: Report,
    folder: Path,
    seed: int,
    slots: int = 500,
    behind: int = 5000,
    seconds: float = 20.0,
    tolerated: float = 0.05,
) -> None:
    """Hold `slots` commands until all others are queued, then let everything go."""
    async with ground(folder / "d", HINDBRAIN_MAX_CONCURRENT_EXECUTIONS=str(slots)) as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, folder / "go", slots, behind, seconds, tolerated)
        finally:
            await them.close()


async def _run(
    report: Report,
    node: Ground,
    them: Outsider,
    gate: Path,
    slots: int,
    behind: int,
    seconds: float,
    tolerated: float,
) -> None:
    pid = node.pids()["node"]
    sizes = [resident(pid)]
    report.note(f"idle node: {sizes[0]:.0f} MiB resident")
    fd = await asyncio.to_thread(_shut, gate)
    over = asyncio.Event()
    watching = asyncio.create_task(_weigh(pid, sizes, over))
    pace = asyncio.Semaphore(CLIENTS)

    async def client(body: dict[str, Any]) -> str:
        async with pace:
            return await them.submit(body)

    held = await asyncio.gather(*(client(_held(gate, number)) for number in range(slots)))
    running = await _running(node, slots, seconds * 3)
    report.claim(running == slots, f"{running} commands run at once")
    began = time.monotonic()
    async with _listing(them) as answers:
        queued = await asyncio.gather(*(client(_quick(number)) for number in range(behind)))
    spent = time.monotonic() - began
    report.note(f"{behind} more were acknowledged in {spent:.1f} s ({behind / spent:.0f}/s)")
    _say(report, "while they came", answers)
    await caught_up(them, await them.last())
    still = await _running(node, slots, 5.0)
    report.claim(still == slots, f"{still} run while {behind} wait")
    async with _listing(them) as answers:
        await asyncio.sleep(seconds / 4)
    _say(report, f"while {still} run and {behind} wait", answers)
    late = [each for each in answers if each > LIST_SECONDS]
    # Whatever else this machine does may hold up a few.
    report.claim(
        len(late) <= len(answers) * tolerated,
        f"list answers within {LIST_SECONDS * 1000:.0f} ms",
        sorted(late),
    )
    began = time.monotonic()
    os.close(fd)
    taken = [*held, *queued]
    async with _listing(them) as answers:
        await _all_over(them, set(taken), 60 + behind / 20)
    spent = time.monotonic() - began
    report.note(f"all over {spent:.1f} s after the first were let go ({len(taken) / spent:.0f}/s)")
    _say(report, "while they ended", answers)
    over.set()
    await watching
    report.claim(max(sizes) < RESIDENT_MIB, f"the node: at most {max(sizes):.0f} MiB resident", sizes[-5:])
    await judge(report, node, them, await them.log(), taken)


def _shut(gate: Path) -> int:
    """Make a pipe that says nothing while its other end is open, which is what the answer is."""
    os.mkfifo(gate)
    return os.open(gate, os.O_RDWR)


async def _weigh(pid: int, sizes: list[float], over: asyncio.Event) -> None:
    while not over.is_set():
        sizes.append(resident(pid))
        await asyncio.sleep(0.25)


@contextlib.asynccontextmanager
async def _listing(them: Outsider) -> AsyncGenerator[list[float]]:
    """Ask for the list again and again from a process of its own; how long each answer took, in seconds."""
    answers: list[float] = []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proofs.crowd", them.url, stdin=PIPE, stdout=PIPE
    )
    try:
        yield answers
    finally:
        out, _ = await process.communicate(b"")
    answers += [float(line) for line in out.split()]
    assert answers, "the list was never answered"


async def _ask(url: str) -> None:
    them = Outsider(lambda: url)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await them.nats()
    while True:
        began = time.monotonic()
        answer = await them.ask("execution.list", {"limit": 50}, 30)
        assert "executions" in answer, answer
        sys.stdout.write(f"{time.monotonic() - began:.6f}\n")
        if ended.done():
            break
        await asyncio.sleep(0.1)
    await them.close()


def _say(report: Report, when: str, answers: list[float]) -> None:
    ordered = [each * 1000 for each in sorted(answers)]
    middle, high = statistics.median(ordered), ordered[int(len(ordered) * 0.95)]
    report.note(
        f"list {when}: {len(ordered)} asked, median {middle:.0f}, p95 {high:.0f}, worst {ordered[-1]:.0f} ms"
    )


async def _running(node: Ground, wanted: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        rows = await node.sql("SELECT count(*) AS n FROM executions WHERE status = 'running'")
        if rows[0]["n"] >= wanted or time.monotonic() > deadline:
            return rows[0]["n"]
        await asyncio.sleep(0.2)


async def _all_over(them: Outsider, wanted: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    places = ",".join("?" * len(TERMINAL))
    query = f"SELECT count(*) AS n FROM executions WHERE status IN ({places})"
    while True:
        answer = await them.insist("query.sql", {"sql": query, "params": list(TERMINAL)})
        if answer["rows"][0][0] >= len(wanted):
            return
        assert time.monotonic() < deadline, f"only {answer['rows'][0][0]} of {len(wanted)} are over"
        await asyncio.sleep(0.2)


def _held(gate: Path, number: int) -> dict[str, Any]:
    command = {"program": "/bin/sh", "args": ["-c", f'read word < "{gate}"; true']}
    return {"exec": command, "idempotency_key": f"held-{number}"}


def _quick(number: int) -> dict[str, Any]:
    return {"exec": {"program": "true"}, "idempotency_key": f"quick-{number}"}


if __name__ == "__main__":
    asyncio.run(_ask(sys.argv[1]))
