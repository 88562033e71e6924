"""A node in the background: started once, however many ask for it at the same time."""

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from events.errors import Trouble, Unavailable
from interfaces.whereabouts import NoNode, noted, running

if TYPE_CHECKING:
    from interfaces.settings import Settings

READY_SECONDS = 90.0
"""The server may have to read its whole store first."""
LOOK_SECONDS = 0.02


def ensure(settings: "Settings") -> None:
    """Have a node: the one that runs, else a new one; says so on standard error."""
    if settings.nats.url:
        return
    try:
        running(settings)
    except NoNode:
        info = start(settings)
        click.echo(f"No node was running: started one (pid {info['pid']}) on {info['data']}.", err=True)


def start(settings: "Settings") -> dict[str, Any]:
    """Start a node that outlives us and wait until it answers; `Unavailable` says why it does not."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = settings.data / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    said, before = logs / "node.out", noted(settings).get("boot")
    command = [sys.executable, "-P", "-m", "interfaces.cli", "up", *_arguments(settings)]
    with said.open("wb") as out:
        said.chmod(0o600)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        try:
            info = running(settings)
            if info["pid"] == process.pid and info["boot"] != before:
                return info  # a node writes down where it is once it answers
            if not ended:
                raise Unavailable("that is the node before, whose end nobody noted")
            _answers(settings)
        except Trouble:
            if ended:
                raise Unavailable(f"the node did not start: {_last(said)}") from None
            time.sleep(LOOK_SECONDS)
        else:
            return info
    raise Unavailable(f"the node is not ready after {READY_SECONDS:g} s; see {logs}/node.log")


def _answers(settings: "Settings") -> None:
    """Ask the node that somebody else started at the same time."""
    if "gateway" not in settings.roles:
        return
    import asyncio

    from interfaces.api import ExecutionEngine

    async def ask() -> None:
        async with ExecutionEngine.new(settings) as engine:
            await engine.request("node", "info", within=2.0)

    asyncio.run(ask())


def _arguments(settings: "Settings") -> list[str]:
    """Say again what the command line said; the rest comes from the environment and the file."""
    names = {"data": "--data", "http.port": "--http-port", "nats.port": "--nats-port", "nats.url": "--nats"}
    found = ["--data", str(settings.data)]
    for key, option in names.items():
        if key != "data" and settings.origins.get(key) == "command line":
            value: Any = settings
            for step in key.split("."):
                value = getattr(value, step)
            found += [option, str(value)]
    if settings.origins.get("roles") == "command line":
        found += ["--roles", ",".join(settings.roles)]
    files = {Path(origin) for origin in settings.origins.values() if origin.endswith(".toml")}
    for file in files - {settings.data / "hindbrain.toml"}:
        found += ["--config", str(file)]
    return found


def _last(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("hindbrain: ") if lines else "it said nothing"
