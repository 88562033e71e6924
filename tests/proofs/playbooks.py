"""Node, server, or both are killed in the middle of a long playbook: it ends as if nothing had happened.

Sixty steps of real commands in six phases: commands, plans, sleeps, a playbook of its own, and files that
are kept as artifacts.  Every step makes a file that can be made only once.
"""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from tests.proofs import kills as executions
from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Outsider, by_entity, endings, restarts_unsaid, unlinked
from tests.proofs.report import Report

ONCE = 'sleep "$3"; set -C; : > "$1/$2" || : > "$1/again.$2.$$"'
LEAVE = '; set +C; echo "from=$4" >> "$HINDBRAIN_OUTPUT"; echo "content of $4" > left.txt'
STEPS, PHASES = 60, 6
BLOWS = (("node",), ("nats",), ("node", "nats"))
WAIT_SECONDS = 240.0


async def prove(report: Report, folder: Path, seed: int, kills: int = 100, steps: int = STEPS) -> None:
    """Run one undisturbed, then others that are killed `kills` times in all, at moments the seed chooses."""
    chance = random.Random(seed)
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            calm = await _start(them, marks, 0, steps, chance)
            began = time.monotonic()
            assert await _over(them, calm) == "completed"
            seconds = time.monotonic() - began
            report.note(f"{steps} steps undisturbed in {seconds:.1f} s")
            wild, hit = list[str](), dict[str, int]()
            while sum(hit.values()) < kills:
                wild.append(await _start(them, marks, len(wild) + 1, steps, chance))
                await _storm(node, them, wild[-1], chance, hit, kills)
                status = await _over(them, wild[-1])
                assert status == "completed", f"{wild[-1]} is {status}"
                report.note(f"{wild[-1]} is completed after {hit}")
            report.note(f"{len(wild)} runs were killed: {hit}")
            await _judge(report, node, them, marks, [calm, *wild], steps)
        finally:
            await them.close()


async def _start(them: Outsider, marks: Path, number: int, steps: int, chance: random.Random) -> str:
    reply = await them.insist("playbook.run", _book(marks, number, steps, chance))
    return str(reply["playbook_id"])


def _book(marks: Path, number: int, steps: int, chance: random.Random) -> dict[str, Any]:
    def act(name: str, leave: bool = False) -> dict[str, Any]:
        script = ONCE + (LEAVE if leave else "")
        words = ["-c", script, "sh", str(marks), f"{number}.{name}", f"{chance.uniform(0, 0.15):.3f}", name]
        return {"exec": {"program": "sh", "args": words}}

    def step(n: int) -> dict[str, Any]:
        name = f"s{n}"
        match n % 10:
            case 3:
                plan = {
                    "strategy": "parallel",
                    "steps": [{"name": f"x{k}", **act(f"{name}-{k}")} for k in "ab"],
                }
                return {"name": name, "plan": plan}
            case 6:
                return {"name": name, "sleep": "150ms"}
            case 8 if n < 10:
                inner = [{"id": "in", "steps": [{"name": k, **act(f"{name}-{k}")} for k in "ab"]}]
                return {"name": name, "playbook": {"phases": inner}}
            case _:
                return {"name": name, **act(name, leave=True), "artifacts": ["left.txt"]}

    size = steps // PHASES
    phases = [
        {"id": f"p{at}", "steps": [step(n) for n in range(at * size, (at + 1) * size)]}
        for at in range(PHASES)
    ]
    return {
        "name": "long",
        "phases": phases,
        "idempotency_key": f"long-{number}",
        "checkpoint_every": "100ms",
    }


async def _storm(
    node: Ground, them: Outsider, playbook: str, chance: random.Random, hit: dict[str, int], kills: int
) -> None:
    """Kill one or the other until it is over, or enough were killed."""
    while sum(hit.values()) < kills:
        await asyncio.sleep(chance.uniform(0, 1.0))  # the moment is what the seed chose
        names = chance.choice(BLOWS)
        if (await _look(them, playbook))["status"] == "completed":
            return
        pids = node.pids()
        node.kill(*names)
        hit["+".join(names)] = hit.get("+".join(names), 0) + 1
        for name in names:
            await node.gone(pids[name])
        if "node" in names:
            await node.up()


async def _look(them: Outsider, playbook: str) -> dict[str, Any]:
    return (await them.insist("playbook.get", {"playbook_id": playbook}))["playbook"]


async def _over(them: Outsider, playbook: str) -> str:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        found = await _look(them, playbook)
        if found["status"] in ("completed", "failed", "cancelled", "paused"):
            return f"{found['status']}" if found["error"] is None else f"{found['status']}: {found['error']}"
        assert time.monotonic() < until, f"{playbook} is {found['status']} at {found['step']}"
        await asyncio.sleep(0.2)


async def _judge(
    report: Report, node: Ground, them: Outsider, marks: Path, runs: list[str], steps: int
) -> None:
    names = {path.name for path in await asyncio.to_thread(lambda: list(marks.iterdir()))}
    again = sorted(name for name in names if name.startswith("again"))
    report.claim(not again, "no remembered step ran again", again)
    mine = {name.partition(".")[2] for name in names if name.startswith("0.")}
    wanted = {f"{number}.{name}" for number in range(len(runs)) for name in mine}
    report.claim(names - set(again) == wanted, f"all {len(wanted)} files are there", wanted ^ names)
    stories = [await _story(them, each) for each in runs]
    bad = [run for run, story in zip(runs, stories, strict=True) if story != stories[0]]
    report.claim(not bad, f"{len(runs)} runs left the same outputs, artifacts and summaries", bad)
    log = await them.log()
    lives = by_entity(log, "playbook")
    bad = [run for run in runs if [e.name for e in lives[run]].count("completed") != 1]
    report.claim(not bad, "each is completed, once", bad)
    twice = [
        (run, step)
        for run in runs
        for step in {e.data["step"] for e in lives[run] if e.name == "step_started"}
        if sum(e.name == "step_started" and e.data["step"] == step for e in lives[run]) != 1
    ]
    report.claim(not twice, f"each of {steps} steps was started once", twice)
    saved = [sum(e.name == "checkpoint_created" for e in lives[run]) for run in runs]
    report.claim(min(saved) > steps, f"a checkpoint after each step, {sum(saved)} in all", saved)
    await _whole(report, them, runs)
    children = list(by_entity(log))
    report.claim(
        not endings(log, children), f"all {len(children)} executions ended once", endings(log, children)
    )
    report.claim(not restarts_unsaid(log), "none was started again unsaid", restarts_unsaid(log))
    report.claim(not unlinked(log), "the log is whole")
    await executions.compare(report, log, them)


async def _story(them: Outsider, playbook: str) -> Any:
    found = await _look(them, playbook)
    left = [(step["name"], step["status"], step["outputs"], step["artifacts"]) for step in found["steps"]]
    return left, [(phase["id"], phase["summary"], phase["artifacts"]) for phase in found["phases"]]


async def _whole(report: Report, them: Outsider, runs: list[str]) -> None:
    """Every checkpoint of the last run can be read."""
    ask = {"playbook_id": runs[-1]}
    found = (await them.insist("playbook.checkpoints", ask))["checkpoints"]
    bad = [
        each["checkpoint_id"]
        for each in found
        if not (await them.insist("playbook.validate", ask | {"checkpoint_id": each["checkpoint_id"]}))[
            "valid"
        ]
    ]
    report.claim(not bad, f"{len(found)} checkpoints of one run are whole", bad)
