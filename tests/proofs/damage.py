"""A row changed behind our back and a flipped byte in the log are found, and their place is named."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground
from tests.proofs.outside import Outsider
from tests.proofs.report import Report


async def prove(report: Report, folder: Path, seed: int, count: int = 60) -> None:
    """Run some commands, damage one thing at a time, and ask `hindbrain doctor --verify`."""
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, count)
        finally:
            await them.close()


async def _run(report: Report, node: Ground, them: Outsider, count: int) -> None:
    bodies = [{"exec": {"program": "echo", "args": [str(n)]}} for n in range(count)]
    taken = [await them.submit(body) for body in bodies]
    for entity in taken:
        await them.over(entity)
    code, bad = await _verify(node)
    report.claim(code == 0 and not bad, "an undamaged node verifies", bad)

    victim = sorted(taken)[count // 2]
    await node.call("down")
    await _change(node.data, f"UPDATE _executions SET exit_code = 3 WHERE id = '{victim}'")
    await node.up()
    code, bad = await _verify(node)
    named = [text for name, text in bad if name == "table: executions" and victim in text]
    report.claim(code == 1 and bool(named), f"a changed row is named: {named}", bad)
    said = await node.told("rebuild")
    code, bad = await _verify(node)
    report.claim(code == 0, f"folding again heals it ({said['events']} events)", bad)

    await node.call("down")
    await _change(node.data, f"""DELETE FROM _executions WHERE id = '{victim}'""")
    await node.up()
    code, bad = await _verify(node)
    named = [text for name, text in bad if name == "table: executions" and victim in text]
    report.claim(code == 1 and bool(named), f"a row that is missing is named: {named}", bad)
    await node.told("rebuild")

    end = await them.last()
    await node.call("down")
    hit = await asyncio.to_thread(_flip, node.data, victim)
    report.note(f"flipped one byte in {hit}")
    said = await node.call("up", "--detach", "--http-port", "0", "--nats-port", "0", "--json")
    report.note(f"up answers {said.code}: {said.out.decode()[:200]}{said.err.decode()[:200]}")
    code, bad = await _verify(node)
    named = [(name, text) for name, text in bad if any(c.isdigit() for c in text)]
    report.claim(code == 1 and bool(named), f"a flipped byte is found: {named[:3]}", bad)
    report.note(f"the log ended at {end} before")


async def _verify(node: Ground) -> tuple[int, list[tuple[str, str]]]:
    """The exit code of `doctor --verify`, and what it calls bad, by name and text."""
    said = await node.call("doctor", "--verify", "--json")
    checks: Any = said.json
    if said.out.startswith(b"{"):
        return said.code, [("error", said.out.decode())]
    # How full the disk of the machine is has nothing to do with it.
    bad = [(each["name"], each["text"]) for each in checks if each["ok"] is False and each["name"] != "disk"]
    return (said.code if bad else 0), bad


async def _change(data: Path, statement: str) -> None:
    """Change the database as only somebody who means harm would, in a process of its own."""
    program = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); con.execute(sys.argv[2]); con.close()"
    command = [sys.executable, "-c", program, str(data / "brain.duckdb"), statement]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)


def _flip(data: Path, entity: str) -> str:
    """Flip a bit in the stored text of an execution's event; where that was."""
    folder = data / "nats" / "store"
    for block in sorted(folder.rglob("BRAIN_EVENTS/msgs/*.blk")):
        content = bytearray(block.read_bytes())
        place = content.find(b"event", content.find(entity.encode()))
        if entity.encode() in content and place > 0:
            content[place] ^= 1
            with block.open("r+b") as file:
                file.seek(place)
                file.write(content[place : place + 1])
                os.fsync(file.fileno())
            return f"{block.relative_to(folder)} at {place}"
    raise AssertionError(f"no block of the log names {entity}")
