"""Worker hosts are killed and their threads made to raise, under load: every job ends once; it all heals."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from tests.proofs.ground import Ground, ground
from tests.proofs.kills import judge
from tests.proofs.outside import Outsider, by_entity
from tests.proofs.report import Report

ROOT = Path(__file__).parents[2]
FLIGHT = 24
"""Jobs at a time."""
KILL_SECONDS = (10.5, 15.0)
"""Between two kills: seldom enough for the budget of the module, which is 5 in a minute."""
RAISE_SECONDS = 2.0


async def prove(report: Report, folder: Path, seed: int, seconds: float = 300.0) -> None:
    """Do it for so many seconds, at moments that the seed chooses."""
    chance = random.Random(seed)
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    plugins = "wild=tests.handlers:plugin,site-builder=off"
    more = {"HINDBRAIN_PLUGINS": plugins, "PYTHONPATH": str(ROOT)}
    async with ground(folder / "d", **more) as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await them.up("wild")
            until = time.monotonic() + seconds
            loads = [asyncio.create_task(_load(them, chance, marks, lane, until)) for lane in range(FLIGHT)]
            killed = asyncio.create_task(_kill(them, chance, until))
            thrown = asyncio.create_task(_throw(them, until))
            taken = [entity for load in loads for entity in await load]
            others, hosts = await thrown, await killed
            report.note(f"{len(taken)} jobs, {hosts} hosts killed, {len(others)} times threads made to raise")
            await _judge(report, node, them, marks, taken, others)
        finally:
            await them.close()


async def _load(them: Outsider, chance: random.Random, marks: Path, lane: int, until: float) -> list[str]:
    taken: list[str] = []
    while time.monotonic() < until:
        name = f"{lane}-{len(taken)}"
        data = {"folder": str(marks), "name": name, "seconds": chance.uniform(0, 0.2)}
        entity = await them.submit({"job": {"type": "wild:mark", "data": data}, "idempotency_key": name})
        taken.append(entity)
        done = await them.over(entity, 120)
        assert done["status"] == "completed", done
    return taken


async def _kill(them: Outsider, chance: random.Random, until: float) -> int:
    count = 0
    while time.monotonic() < until - KILL_SECONDS[1]:
        await asyncio.sleep(chance.uniform(*KILL_SECONDS))
        pool = (await them.module("wild"))["pool"]
        if pool:
            os.kill(chance.choice(pool)["pid"], signal.SIGKILL)
            count += 1
    return count


async def _throw(them: Outsider, until: float) -> list[str]:
    made: list[str] = []
    while time.monotonic() < until:
        await asyncio.sleep(RAISE_SECONDS)
        job = {"job": {"type": "wild:sabotage"}, "idempotency_key": f"throw-{len(made)}"}
        made.append(await them.submit(job))
        await them.over(made[-1], 60)
    return made


async def _judge(
    report: Report, node: Ground, them: Outsider, marks: Path, taken: list[str], others: list[str]
) -> None:
    log = await them.log()
    lives = by_entity(log)
    ends = ("completed", "failed", "cancelled", "timed_out")
    wrong = {each: [event.name for event in lives[each]] for each in taken}
    wrong = {each: names for each, names in wrong.items() if sum(name in ends for name in names) != 1}
    report.claim(not wrong, f"each of {len(taken)} jobs ended once", wrong)
    found = {path.name for path in await asyncio.to_thread(lambda: list(marks.iterdir()))}
    kept: dict[str, int] = {}
    for entity in taken:
        (end,) = (event for event in lives[entity] if event.name in ends)
        kept[f"{lives[entity][0].data['spec']['job']['data']['name']}.{end.data['end']['value']}"] = 1
    report.claim(kept.keys() <= found, "each left the mark of the attempt that ended it", kept.keys() - found)
    state = await them.module("wild")
    healed = (state["state"], state["total"]) == ("running", state["workers"])
    report.claim(healed, "the module is healed", state)
    told = [event for event in log if event.kind == "module" and event.name == "worker_ended"]
    report.note(
        f"{len(told)} hosts ended, the log says why: {sorted({each.data['reason'] for each in told})[:5]}"
    )
    await judge(report, node, them, log, [*taken, *others])
