"""Cancelling and running out of time end a whole tree of processes, and nothing but that tree."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, birth, environ, ground, processes, until
from tests.proofs.kills import judge
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

GRACE = 1.0
SIZE = 9
TREE = """
import os, signal, sys, time
marks = sys.argv[1]
def note(word):
    with open(f"{marks}/{word}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{marks}/{word}.new", f"{marks}/{word}")
def child(word, act=lambda: None, then=lambda: None):
    if os.fork() == 0:
        act(); then(); note(word); time.sleep(600); os._exit(0)
def twice():
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child("plain")
child("session", os.setsid)
child("group", lambda: os.setpgid(0, 0))
child("deaf", deaf)
child("daemon", twice)
child("deaf_session", os.setsid, deaf)
child("parent", lambda: child("grandchild"))
note("top")
time.sleep(600)
"""
"""Nine processes: a top, five children, one that has a child, and a daemon of two forks."""


async def prove(report: Report, folder: Path, seed: int, rounds: int = 5) -> None:
    """End a tree by cancelling it and by its timeout, `rounds` times each."""
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        script = folder / "tree.py"
        await asyncio.to_thread(script.write_text, TREE)
        foreign = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            str(await asyncio.to_thread(_marks, folder, "foreign")),
            start_new_session=True,
        )
        strangers: list[int] = []
        try:
            strangers = await _grown(folder / "foreign")
            await _run(report, node, them, folder, script, rounds, strangers)
        finally:
            for pid in strangers:
                os.kill(pid, signal.SIGKILL)
            await foreign.wait()
            await them.close()


async def _run(
    report: Report,
    node: Ground,
    them: Outsider,
    folder: Path,
    script: Path,
    rounds: int,
    strangers: list[int],
) -> None:
    marks = await asyncio.to_thread(_marks, folder, "neighbour")
    neighbour = await them.submit(_tree(script, marks))
    beside = await _grown(marks)
    taken: list[str] = []
    for number in range(rounds):
        for how in ("cancel", "timeout"):
            marks = await asyncio.to_thread(_marks, folder, f"{how}-{number}")
            timeout = {"timeout_ms": 3000} if how == "timeout" else {}
            entity = await them.submit(_tree(script, marks) | timeout)
            taken.append(entity)
            pids = await _grown(marks)
            began = time.monotonic()
            if how == "cancel":
                await them.ask("execution.cancel", {"execution_id": entity, "grace_ms": round(GRACE * 1000)})
            else:
                # The grace begins with the first TERM, which ends the top.
                top = int((marks / "top").read_text())
                await until(lambda pid=top: birth(pid) is None, 10, "the timeout")
                began = time.monotonic()
            await until(lambda these=pids: not _alive(these), 15, f"the end of {SIZE} processes")
            spent = time.monotonic() - began
            left = await asyncio.to_thread(_carrying, entity)
            report.claim(
                spent <= GRACE + 1 and not left,
                f"{how}: {len(pids)} processes gone after {spent:.2f} s",
                left,
            )
            end = await them.over(entity)
            wanted = "cancelled" if how == "cancel" else "timed_out"
            report.claim(end["status"] == wanted, f"{how}: it ended as {wanted}", end)
    report.claim(len(_alive(beside)) == SIZE, "the tree of another execution lives on", beside)
    report.claim(len(_alive(strangers)) == SIZE, "a foreign tree of the same name lives on", strangers)
    await them.ask("execution.cancel", {"execution_id": neighbour, "grace_ms": 200})
    await them.over(neighbour)
    report.claim(not _alive(beside), "and goes when it is asked to")
    report.claim(len(_alive(strangers)) == SIZE, "while the foreign one still lives", strangers)
    await judge(report, node, them, await them.log(), [*taken, neighbour])


def _marks(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if birth(pid) is not None]


def _carrying(entity: str) -> list[int]:
    """Processes that carry the mark of an execution."""
    mark = f"HINDBRAIN_EXECUTION_ID={entity}".encode()
    return [pid for pid in processes() if birth(pid) is not None and mark in environ(pid)]


async def _grown(marks: Path) -> list[int]:
    """The pids of a tree that is complete."""

    def words() -> list[Path]:
        return [path for path in marks.iterdir() if path.suffix != ".new"]

    # A parent of a child of its own and a daemon count as one word each.
    await until(lambda: len(words()) >= SIZE, 20, f"a tree of {SIZE} processes in {marks}")
    return [int(path.read_text()) for path in words()]


def _tree(script: Path, marks: Path) -> dict[str, Any]:
    command = {"program": sys.executable, "args": [str(script), str(marks)]}
    return {"exec": command, "grace_ms": round(GRACE * 1000)}
