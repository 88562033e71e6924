"""Graphs of real processes run in the order of their needs, with exactly as many at once as may be."""

import asyncio
import itertools
import random
import time
from pathlib import Path
from typing import Any

from tests.proofs.ground import ground
from tests.proofs.outside import Event, Outsider, by_entity, unlinked
from tests.proofs.report import Report

TOGETHER = 10
"""Graphs that run beside each other."""
STEP = 'echo "+$1" >> "$2"; echo "-$1" >> "$2"'


async def prove(report: Report, folder: Path, seed: int, graphs: int = 100, steps: int = 50) -> None:
    """Run `graphs` of `steps` steps each, and read what happened from the log and from outside."""
    chance = random.Random(seed)
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, them, [_graph(chance, marks, n, steps) for n in range(graphs)], marks)
        finally:
            await them.close()


def _graph(chance: random.Random, marks: Path, number: int, count: int) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    for n in range(count):
        needs = sorted(chance.sample(range(n), min(n, chance.choice((0, 1, 1, 2, 3)))))
        made.append(
            {
                "name": f"s{n}",
                "exec": {"program": "sh", "args": ["-c", STEP, "sh", f"s{n}", f"{marks}/{number}"]},
                "needs": [f"s{each}" for each in needs],
            }
        )
    chance.shuffle(made)
    return {
        "name": f"graph-{number}",
        "strategy": "graph",
        "max_concurrency": chance.randint(1, 8),
        "steps": made,
        "idempotency_key": f"graph-{number}",
    }


async def _run(report: Report, them: Outsider, graphs: list[dict[str, Any]], marks: Path) -> None:
    pace = asyncio.Semaphore(TOGETHER)

    async def one(graph: dict[str, Any]) -> tuple[str, str]:
        async with pace:
            plan = str((await them.insist("plan.submit", graph))["plan_id"])
            return plan, await over(them, plan)

    began = time.monotonic()
    done = await asyncio.gather(*(one(graph) for graph in graphs))
    spent = time.monotonic() - began
    count = sum(len(graph["steps"]) for graph in graphs)
    report.note(f"{len(graphs)} graphs, {count} processes in {spent:.1f} s, {count / spent:.0f} a second")
    bad = [plan for plan, status in done if status != "completed"]
    report.claim(not bad, "all are completed", bad)
    log = await them.log()
    lives = by_entity(log, "plan")
    wrong: list[str] = []
    moments = 0
    for (plan, _), graph in zip(done, graphs, strict=True):
        seen, found = judge(graph, lives[plan])
        moments += seen
        wrong += [f"{plan}: {each}" for each in found]
    report.claim(not wrong, f"running = min(limit, ready) at {moments} moments of the log", wrong)
    outside = [each for n, graph in enumerate(graphs) for each in _seen(graph, (marks / str(n)).read_text())]
    report.claim(not outside, "seen from outside, every step ran once and after what it needs", outside)
    report.claim(not unlinked(log), "the log is whole")


async def over(them: Outsider, plan: str, within: float = 600.0) -> str:
    """Wait for the end of a plan; its status."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        answer = await them.insist("plan.wait", {"plan_id": plan, "timeout_ms": 3000})
        assert "plan" in answer, answer
        if answer["done"]:
            return str(answer["plan"]["status"])
    raise AssertionError(f"{plan} is not over after {within:g} s")


def judge(graph: dict[str, Any], life: list[Event]) -> tuple[int, list[str]]:
    """Fold a plan by rules of our own; how many moments were seen, and which were wrong.

    What was decided at once is stored at once, one behind the other, and is one moment.
    """
    needs = {step["name"]: set(step["needs"]) for step in graph["steps"]}
    limit = graph["max_concurrency"]
    pending, running, done = set(needs), set[str](), set[str]()
    wrong: list[str] = []
    moments = 0
    for event, later in itertools.zip_longest(life, life[1:]):
        if event.name == "steps_started":
            for launch in event.data["steps"]:
                name = launch["step"]
                if name not in pending or needs[name] - done:
                    wrong.append(f"{name} started at {event.seq} without {needs[name] - done}")
                pending.discard(name)
                running.add(name)
        elif event.name == "step_ended":
            running.discard(event.data["step"])
            done.add(event.data["step"])
        if later is not None and later.seq == event.seq + 1 and later.time == event.time:
            continue
        moments += 1
        ready = [name for name in pending if not needs[name] - done]
        if len(running) != min(limit, len(running) + len(ready)):
            wrong.append(f"at {event.seq} {len(running)} run, {len(ready)} could, the limit is {limit}")
    if pending or running:
        wrong.append(f"left over: {pending | running}")
    return moments, wrong


def _seen(graph: dict[str, Any], text: str) -> list[str]:
    wrong: list[str] = []
    running, done = set[str](), set[str]()
    needs = {step["name"]: set(step["needs"]) for step in graph["steps"]}
    for line in text.split():
        sign, name = line[0], line[1:]
        if sign == "+":
            if name in running | done or needs[name] - done:
                wrong.append(f"{graph['name']}: {name} began out of turn")
            running.add(name)
            if len(running) > graph["max_concurrency"]:
                wrong.append(f"{graph['name']}: {len(running)} at once")
        else:
            running.discard(name)
            done.add(name)
    if done != set(needs):
        wrong.append(f"{graph['name']}: {set(needs) - done} never ran")
    return wrong
