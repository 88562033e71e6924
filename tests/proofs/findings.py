"""Every finding about modules and processes: provoked for real, said while it is so, and then over."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from nats.aio.client import Client

from tests.proofs.ground import Ground, ground
from tests.proofs.outside import STREAM, Outsider
from tests.proofs.report import Report

ROOT = Path(__file__).parents[2]
MODULES = {
    "bench": {"workers": 1},
    "crowded": {"workers": 1},
    "mute": {"workers": 1},
    "slow": {"workers": 1, "max_silence_seconds": 2},
}
PLUGIN = """
from actors.plugin import Plugin

plugin = Plugin("late")


@plugin.job()
def hello(data: dict[str, str]) -> str:
    return "hello"
"""
T = TypeVar("T")
WITHIN = 420.0
"""The slowest is over when the failures of five minutes ago do not count any more."""


async def prove(report: Report, folder: Path, seed: int) -> None:
    """Provoke them all, each in a module of its own; nothing depends on `seed`."""
    report.note(f"seed {seed} changes nothing")
    more = {
        "HINDBRAIN_PLUGINS": "wild=tests.handlers:plugin,bench=tests.bench.handlers:plugin,site-builder=off",
        "HINDBRAIN_MODULES": json.dumps(MODULES),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))),
    }
    async with ground(folder / "d", **more) as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await them.up("wild", *MODULES)
            await _process(report, node, them)
            await asyncio.gather(
                _failures(report, them),
                _crowded(report, them),
                _deaf(report, node, them),
                _stuck(report, them),
                _error(report, them),
                _plugin(report, them, folder),
            )
        finally:
            await them.close()


# ---- each of them ----------------------------------------------------------------------------------------


async def _failures(report: Report, them: Outsider) -> None:
    for _ in range(15):
        await them.over(await them.submit({"job": {"type": "wild:odd"}}), 60)
    for kind in ("failures", "success_rate"):
        await _seen(report, them, kind, "wild", WITHIN)


async def _crowded(report: Report, them: Outsider) -> None:
    """One worker, and two jobs that take longer than anybody should wait."""
    tasks = [await _call(them, "crowded", "time:sleep", 75) for _ in range(2)]
    await _seen(report, them, "queue_age", "crowded", WITHIN)
    for each in tasks:
        await them.insist("execution.cancel", {"execution_id": each})


async def _deaf(report: Report, node: Ground, them: Outsider) -> None:
    """The server holds back what is for a module whose workers are free."""
    kept = json.loads(await asyncio.to_thread((node.data / "nats" / "credentials.json").read_text))
    server = node.info["nats_url"].rpartition("@")[2]
    nc = Client()
    await nc.connect(f"nats://node:{kept['passwords']['node']}@{server}")
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 40))
    subject = f"$JS.API.CONSUMER.PAUSE.{STREAM}.work-mute-medium"
    answer = await nc.request(subject, json.dumps({"pause_until": until}).encode(), timeout=10)
    assert json.loads(answer.data).get("paused"), answer.data
    await nc.close()
    task = await _call(them, "mute", "math:sqrt", 4)
    await _seen(report, them, "deaf", "mute", 120)
    done = await them.over(task, 60)
    report.claim(done["status"] == "completed", "what the deaf module did not hear is done afterwards", done)


async def _stuck(report: Report, them: Outsider) -> None:
    task = await _call(them, "slow", "time:sleep", 600)
    done = await them.over(task, 120)
    said = str(done["error"])
    report.claim("no sign of life" in said, "a job without a sign of life ends, and its end says so", said)
    await _seen(report, them, "stuck", "slow-%", 120)


async def _error(report: Report, them: Outsider) -> None:
    """Its hosts fall more often than its budget allows."""
    until = time.monotonic() + 60
    while (await them.module("bench"))["state"] != "error" and time.monotonic() < until:
        for worker in (await them.module("bench"))["pool"]:
            _kill(int(worker["pid"]))
        await asyncio.sleep(0.1)
    await _until(lambda: _found(them, "module", "bench", over=False), 60)
    await them.insist("module.restart", {"module": "bench"})
    await _seen(report, them, "module", "bench", 60)
    await them.up("bench")


async def _plugin(report: Report, them: Outsider, folder: Path) -> None:
    """It is not there, and then it is."""
    refused = await them.insist("plugin.load", {"name": "late", "source": "late_plugin:plugin"})
    report.claim("error" in refused, "a plugin that is not there is refused", refused)
    await _until(lambda: _found(them, "plugin", "late", over=False), 60)
    await asyncio.to_thread((folder / "late_plugin.py").write_text, PLUGIN)
    await them.insist("plugin.load", {"name": "late", "source": "late_plugin:plugin"})
    await _seen(report, them, "plugin", "late", 60)


async def _process(report: Report, node: Ground, them: Outsider) -> None:
    """The projector is killed until its node says that it does not stay up."""
    killed: set[int] = set()
    until = time.monotonic() + 90
    while len(killed) < 5 and time.monotonic() < until:
        pid = int(node.info["projector_pid"] or 0)
        if pid and pid not in killed:
            killed.add(pid)
            _kill(pid)
        await asyncio.sleep(0.1)
    await _seen(report, them, "process", "%projector", 90)


# ---- how it is seen --------------------------------------------------------------------------------------


async def _seen(report: Report, them: Outsider, kind: str, about: str, seconds: float) -> None:
    """It is opened, and closed."""
    report.note(f"{kind}: {await _until(lambda: _found(them, kind, about, over=False), seconds)}")
    row = await _until(lambda: _found(them, kind, about, over=True), seconds)
    report.claim(bool(row), f"{kind} is over: {row}")


async def _found(them: Outsider, kind: str, about: str, over: bool) -> dict[str, Any] | None:
    sql = (
        "SELECT text, closed_at, date_diff('second', opened_at, closed_at) FROM findings"
        " WHERE type = ? AND about LIKE ? ORDER BY opened_at DESC LIMIT 1"
    )
    answer = await them.insist("query.sql", {"sql": sql, "params": [kind, about]})
    for text, closed, seconds in answer.get("rows", ()):
        if not over or closed is not None:
            return {"text": text, "seconds": seconds}
    return None


async def _until(look: Callable[[], Awaitable[T]], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, "it did not become true"
        await asyncio.sleep(0.2)
    return found


async def _call(them: Outsider, name: str, function: str, *args: Any) -> str:
    ask = {"module": name, "function": function, "args": list(args)}
    return str((await them.insist("module.submit", ask))["task_id"])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
