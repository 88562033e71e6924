"""Handlers that burn, hang, leak, print and fork: neighbours and the log go on as if they were not there."""

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil

from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

ROOT = Path(__file__).parents[2]
DEEDS = ("burn", "block", "leak", "leave", "odd", "chatter", "fork")
LANES, PAUSE_SECONDS = 4, 0.02
"""So many callers, each with so much time between two jobs: well below what the machine can do."""
TWICE = 2.0
LIMIT = 400 * 1024 * 1024
"""Of the memory of a host; a fifth more is tolerated."""
SAMPLE_SECONDS = 0.05


async def prove(report: Report, folder: Path, seed: int, rounds: int = 3, seconds: float = 5.0) -> None:
    """Take turns: nobody misbehaves, then one does; `seed` is not needed, the order is fixed."""
    more = {
        "HINDBRAIN_PLUGINS": "wild=tests.handlers:plugin,bench=tests.bench.handlers:plugin,site-builder=off",
        "HINDBRAIN_MODULES": '{"bench": {"workers": 4}}',
        "PYTHONPATH": str(ROOT),
    }
    report.note(f"{rounds} rounds of {len(DEEDS)} misdeeds, {seconds:g} s each (seed {seed} changes nothing)")
    async with ground(folder / "d", **more) as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await them.up("wild", "bench")
            await _watch(them, seconds)  # everything is warm after that
            calm: dict[str, list[float]] = {"jobs": [], "appends": []}
            wild: dict[str, dict[str, list[float]]] = {}
            peaks: list[int] = []
            for _ in range(rounds):
                for deed in DEEDS:
                    _add(calm, await _watch(them, seconds))
                    _add(
                        wild.setdefault(deed, {"jobs": [], "appends": []}),
                        await _during(them, deed, seconds, peaks),
                    )
            _judge(report, calm, wild)
            most = max(peaks)
            report.claim(most < LIMIT * 1.2, f"no host had more than {most / 2**20:.0f} MiB")
            await _contained(report, node)
        finally:
            await them.close()


async def _during(them: Outsider, deed: str, seconds: float, peaks: list[int]) -> dict[str, list[float]]:
    """What the neighbours see while it goes on; then it is ended."""
    one = await them.submit({"job": {"type": f"wild:{deed}"}})
    sampling = asyncio.create_task(_sample(them, peaks, time.monotonic() + seconds))
    seen = await _watch(them, seconds)
    await sampling
    await them.insist("execution.cancel", {"execution_id": one})
    await them.over(one, 90)
    await them.up("wild")
    return seen


async def _sample(them: Outsider, peaks: list[int], until: float) -> None:
    """How much memory the hosts have that misbehave."""
    while time.monotonic() < until:
        pool = (await them.module("wild"))["pool"]
        for _ in range(10):
            for pid in {each["pid"] for each in pool}:
                try:
                    peaks.append(psutil.Process(pid).memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            await asyncio.sleep(SAMPLE_SECONDS)


async def _watch(them: Outsider, seconds: float) -> dict[str, list[float]]:
    """How long jobs of a neighbour took, from the request until the end, and how long one append; in ms."""
    seen: dict[str, list[float]] = {"jobs": [], "appends": []}
    until = time.monotonic() + seconds

    async def lane() -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            entity = await them.submit({"job": {"type": "bench:full", "data": {"number": 1}}})
            seen["appends"].append((time.perf_counter() - began) * 1000)
            done = await them.over(entity)
            seen["jobs"].append((time.perf_counter() - began) * 1000)
            assert done["status"] == "completed", done
            await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return seen


def _add(to: dict[str, list[float]], more: dict[str, list[float]]) -> None:
    for name, values in more.items():
        to[name] += values


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _judge(report: Report, calm: dict[str, list[float]], wild: dict[str, dict[str, list[float]]]) -> None:
    for name, share in (("jobs", 0.99), ("appends", 0.5)):
        usual = _at(calm[name], share)
        report.note(f"{name}: {len(calm[name])} undisturbed, p{share * 100:g} {usual:.1f} ms")
        for deed, seen in wild.items():
            now = _at(seen[name], share)
            text = f"{name} beside {deed}: p{share * 100:g} {now:.1f} ms, {now / usual:.2f} of the usual"
            report.claim(now <= TWICE * usual, text)


async def _contained(report: Report, node: Ground) -> None:
    """Each is in the tables, with what became of it."""
    sql = "SELECT command, status, error->>'$.message' AS message FROM executions WHERE module = 'wild'"
    rows: list[dict[str, Any]] = await node.sql(sql)
    for deed in DEEDS:
        said = {(row["status"], row["message"]) for row in rows if row["command"] == f"wild:{deed}"}
        report.note(f"{deed}: {sorted(said, key=str)}")
        report.claim(bool(said), f"{deed} is in the tables")
