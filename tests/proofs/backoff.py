"""The node is killed in the pause between two attempts: the next one comes all the same, once and not early.

Every attempt makes a file that can be made only once, and fails with an exit code that is tried again, but
for the last one.
"""

import asyncio
import random
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground
from tests.proofs.kills import judge
from tests.proofs.outside import Event, Outsider, by_entity
from tests.proofs.report import Report

ATTEMPTS = 3
PAUSE_MS = 900
TRY = (
    'n=0; while [ -e "$1.$n" ]; do n=$((n+1)); done; set -C; : > "$1.$n" || exit 9; [ $n = "$2" ] || exit 75'
)
"""Makes the next file of its own, and ends well with the last."""


async def prove(report: Report, folder: Path, seed: int, kills: int = 20) -> None:
    """Kill the node `kills` times, at moments of a pause that the seed chooses."""
    chance = random.Random(seed)
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            taken = [await _one(node, them, chance, marks, number) for number in range(kills)]
            for entity in taken:
                done = await them.over(entity, 60)
                assert done["status"] == "completed", done
            await _judge(report, node, them, marks, taken)
        finally:
            await them.close()


async def _one(node: Ground, them: Outsider, chance: random.Random, marks: Path, number: int) -> str:
    words = ["-c", TRY, "sh", str(marks / str(number)), str(ATTEMPTS - 1)]
    retries = {"max": ATTEMPTS, "backoff_ms": PAUSE_MS, "factor": 1.0, "on_exit": [75]}
    wish: dict[str, Any] = {"exec": {"program": "sh", "args": words}, "retries": retries}
    entity = await them.submit({**wish, "idempotency_key": f"backoff-{number}"})
    await _held(them, entity)
    await asyncio.sleep(chance.uniform(0, PAUSE_MS / 1000))
    pid = node.pids()["node"]
    assert node.kill("node") == ["node"]
    await node.gone(pid)
    await asyncio.sleep(chance.uniform(0, 2 * PAUSE_MS / 1000))
    await node.up()
    return entity


async def _held(them: Outsider, entity: str) -> None:
    """Wait until its first attempt has failed."""
    now: dict[str, Any] = {}
    for _ in range(500):
        now = (await them.insist("execution.get", {"execution_id": entity}))["execution"]
        if now["held"] is not None:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{entity} does not pause: {now}")


async def _judge(report: Report, node: Ground, them: Outsider, marks: Path, taken: list[str]) -> None:
    log = await them.log()
    lives = by_entity(log)
    early = [each for entity in taken for each in _early(lives[entity])]
    report.claim(not early, "no attempt began before its pause was over", early)
    wrong = {entity: _attempts(lives[entity]) for entity in taken if _attempts(lives[entity]) != ATTEMPTS}
    report.claim(not wrong, f"each of {len(taken)} was tried {ATTEMPTS} times", wrong)
    found = sorted(path.name for path in await asyncio.to_thread(lambda: list(marks.iterdir())))
    wanted = sorted(f"{number}.{n}" for number in range(len(taken)) for n in range(ATTEMPTS))
    report.claim(found == wanted, f"each of {len(wanted)} attempts left its file, once", found)
    await judge(report, node, them, log, taken)


def _attempts(life: list[Event]) -> int:
    return sum(event.name == "started" for event in life)


def _early(life: list[Event]) -> list[str]:
    until, found = "", list[str]()
    for event in life:
        if event.name == "held":
            until = event.data["until"]
        elif event.name == "started" and until and event.time:
            if datetime.fromisoformat(event.time) < datetime.fromisoformat(until):
                found.append(f"{event.entity}: {event.time} is before {until}")
            until = ""
    return found
