"""The node is killed in the middle of plans and of rollbacks: they end as if nothing had happened.

Every step, and everything that takes one back, makes a file that can be made only once.
"""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from tests.proofs.graphs import over
from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Event, Outsider, by_entity, endings, restarts_unsaid, unlinked
from tests.proofs.report import Report

ONCE = 'sleep "$3"; set -C; : > "$1/$2" || : > "$1/again.$2.$$"'
STEPS = 8


async def prove(report: Report, folder: Path, seed: int, kills: int = 20) -> None:
    """Kill it `kills` times in a plan and `kills` times in a rollback, at moments that the seed chooses."""
    chance = random.Random(seed)
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            plans = [await _plan(node, them, chance, marks, number) for number in range(kills)]
            back = [await _rollback(node, them, chance, marks, kills + number) for number in range(kills)]
            await _judge(report, them, marks, plans, back)
        finally:
            await them.close()


def _made(chance: random.Random, marks: Path, number: int) -> dict[str, Any]:
    def act(name: str) -> dict[str, Any]:
        words = ["-c", ONCE, "sh", str(marks), f"{number}.{name}", f"{chance.uniform(0, 0.2):.3f}"]
        return {"exec": {"program": "sh", "args": words}}

    strategy = chance.choice(("serial", "parallel", "graph"))
    steps: list[dict[str, Any]] = []
    for n in range(STEPS):
        step = {"name": f"s{n}", **act(f"s{n}"), "undo": act(f"undo-s{n}")}
        if strategy == "graph":
            step["needs"] = [f"s{each}" for each in chance.sample(range(n), min(n, chance.randint(0, 2)))]
        steps.append(step)
    made: dict[str, Any] = {"name": f"p{number}", "strategy": strategy, "steps": steps}
    if strategy != "serial":
        made["max_concurrency"] = 3
    return made | {"idempotency_key": f"p{number}"}


async def _kill(node: Ground, seconds: float) -> None:
    await asyncio.sleep(seconds)  # the moment is what the seed chose
    pid = node.pids()["node"]
    node.kill("node")
    await node.gone(pid)
    await node.up()


async def _plan(node: Ground, them: Outsider, chance: random.Random, marks: Path, number: int) -> str:
    made = _made(chance, marks, number)
    plan = str((await them.insist("plan.submit", made))["plan_id"])
    await _kill(node, chance.uniform(0, 1.2))
    status = await over(them, plan, 60)
    assert status == "completed", f"{plan} is {status}"
    return plan


async def _rollback(node: Ground, them: Outsider, chance: random.Random, marks: Path, number: int) -> str:
    plan = str((await them.insist("plan.submit", _made(chance, marks, number)))["plan_id"])
    assert await over(them, plan, 60) == "completed"
    await them.insist("plan.rollback", {"plan_id": plan})
    await _kill(node, chance.uniform(0, 1.2))
    until = time.monotonic() + 60
    while True:
        shown = (await them.insist("plan.get", {"plan_id": plan}))["plan"]
        if shown["rollback"] not in ("none", "running"):
            break
        assert time.monotonic() < until, f"{plan} is not rolled back"
        await asyncio.sleep(0.1)
    assert shown["rollback"] == "done", shown
    return plan


async def _judge(report: Report, them: Outsider, marks: Path, plans: list[str], back: list[str]) -> None:
    log = await them.log()
    lives = by_entity(log, "plan")
    names = {path.name for path in await asyncio.to_thread(lambda: list(marks.iterdir()))}
    again = sorted(name for name in names if name.startswith("again"))
    report.claim(not again, "no step ran twice", again)
    wanted = {f"{number}.s{n}" for number in range(len(plans) + len(back)) for n in range(STEPS)}
    wanted |= {
        f"{number}.undo-s{n}" for number in range(len(plans), len(plans) + len(back)) for n in range(STEPS)
    }
    report.claim(
        names - set(again) == wanted, f"all {len(wanted)} files are there, and no others", wanted ^ names
    )
    bad = [plan for plan in plans if _ends(lives[plan]) != ["completed"]]
    report.claim(not bad, f"{len(plans)} killed plans are completed, once", bad)
    bad = [
        plan
        for plan in back
        if _ends(lives[plan]) != ["completed", "rolled_back"] or not _reversed(lives[plan])
    ]
    report.claim(not bad, f"{len(back)} killed rollbacks took back all, the last first, once", bad)
    children = list(by_entity(log))
    report.claim(
        not endings(log, children), f"all {len(children)} executions ended once", endings(log, children)
    )
    report.claim(not restarts_unsaid(log), "none was started again unsaid", restarts_unsaid(log))
    report.claim(not unlinked(log), "the log is whole")


def _ends(life: list[Event]) -> list[str]:
    over = ("completed", "failed", "cancelled", "rolled_back", "rollback_failed")
    return [event.name for event in life if event.name in over]


def _reversed(life: list[Event]) -> bool:
    done = [event.data["step"] for event in life if event.name == "step_ended"]
    undone = [event.data["step"].removesuffix("/undo") for event in life if event.name == "step_undone"]
    return undone == done[::-1]
