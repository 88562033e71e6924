"""A node from outside: start it, stop it, ask what it is."""

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

STOP_SECONDS = 20.0
"""A node is out after ten; a slow machine may need longer."""


@click.command("up")
@click.option("--http-port", type=int, help="Where the HTTP door listens; 0 takes a free port.")
@click.option("--nats-port", type=int, help="Where the own NATS server listens; 0 takes a free port.")
@click.option("--roles", help="What this node does, with commas: nats,gateway,executor,...")
@click.option("--detach", is_flag=True, help="Start it in the background, and end when it is ready.")
@json_option
@place
def up_verb(
    settings: Any,
    http_port: int | None,
    nats_port: int | None,
    roles: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    r"""Start a node and stay in the foreground.

    \b
    hindbrain up
    hindbrain up --data /srv/brain --http-port 0 --detach
    """
    given: Settings = settings(**{"http.port": http_port, "nats.port": nats_port, "roles": roles})

    def ready(info: dict[str, Any]) -> None:
        if as_json:
            show.dump(info)
        else:
            door = info.get("http_url") or "no HTTP door"
            click.echo(f"Hindbrain {info['version']} is ready: {door}, data in {info['data']}")

    if detach:
        from interfaces.cli.background import start

        ready(start(given))
        return
    from interfaces.node import Node

    _log(given)
    Node(given).run(ready)


def _log(settings: "Settings") -> None:
    """Let the node write its log to `logs/node.log`, and warnings to whoever watches."""
    import logging
    from logging.handlers import RotatingFileHandler

    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = settings.data / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(folder / "node.log").touch(mode=0o600)
    file = RotatingFileHandler(folder / "node.log", maxBytes=16 * 1024 * 1024, backupCount=2)
    loud = logging.StreamHandler()
    loud.setLevel(logging.WARNING)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=settings.log.level.upper(), format=form, handlers=[file, loud])


@click.command("down")
@click.option("--wait", type=float, metavar="SECONDS", help="Let running commands end for so long first.")
@click.option("--cancel", is_flag=True, help="Cancel what runs.")
@json_option
@place
def down_verb(settings: Any, wait: float | None, cancel: bool, as_json: bool) -> None:
    r"""Stop the node; what runs goes on unless told otherwise, and the next node takes it over.

    \b
    hindbrain down
    hindbrain down --wait 60
    """
    from interfaces.whereabouts import running

    given: Settings = settings()
    info: dict[str, Any] = {} if given.nats.url else running(given)
    if wait is None and not cancel and info:
        os.kill(info["pid"], signal.SIGTERM)
    else:
        info = _ask_down(given, wait, cancel) | info
    if "pid" in info:
        _gone(info["pid"], given.data / "node.lock", (wait or 0) + STOP_SECONDS)
    if as_json:
        show.dump({"node": info.get("node"), "pid": info.get("pid")})
    else:
        click.echo("The node is down." if "pid" in info else "The node is going down.")


@connected
async def _ask_down(engine: "ExecutionEngine", wait: float | None, cancel: bool) -> dict[str, Any]:
    return await engine.request("node", "down", wait_seconds=wait, cancel=cancel)


def _gone(pid: int, lock: Path, seconds: float) -> None:
    from events.errors import Timeout

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if _free(lock):
            return
        time.sleep(0.05)
    raise Timeout(f"the node (pid {pid}) is not down after {seconds:g} s")


def _free(lock: Path) -> bool:
    """Say whether no node holds the folder: one inside another program stops without ending it."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@click.command("info")
@click.option("--join", is_flag=True, help="Print the URL with which another node joins: `up --nats URL`.")
@json_option
@place
def info_verb(settings: Any, join: bool, as_json: bool) -> None:
    r"""Where the node is and how to reach it; exit code 3 when there is none.

    \b
    hindbrain info --json
    hindbrain up --data /other/folder --nats "$(hindbrain info --join)"
    """
    from interfaces.whereabouts import joining, running

    given: Settings = settings()
    if join:
        click.echo(joining(given))
        return
    own: dict[str, Any] = {"nats_url": given.nats.url} if given.nats.url else running(given)
    info = _info(given) | own
    if as_json:
        show.dump(info)
    else:
        show.pairs(list(info.items()))


@connected
async def _info(engine: "ExecutionEngine") -> dict[str, Any]:
    return (await engine.request("node", "info"))["node"]


@click.command("settings")
@json_option
@place
def settings_verb(settings: Any, as_json: bool) -> None:
    r"""Print all settings with their origin; secrets are masked.

    \b
    hindbrain settings
    HINDBRAIN_HTTP__PORT=9000 hindbrain settings --json
    """
    rows = settings().table()
    if as_json:
        show.dump({row.key: {"value": row.value, "origin": row.origin} for row in rows})
    else:
        show.table(("setting", "value", "origin"), rows)


@click.command("actors")
@click.option("--fail", metavar="NAME", help="Make it fail at its next message (needs the fault switch).")
@json_option
@place
def actors_verb(settings: Any, fail: str | None, as_json: bool) -> None:
    r"""All actors of the node with mailbox, age and restarts.

    \b
    hindbrain actors
    hindbrain actors --fail executor
    """
    if fail is not None:
        reply = _fail(settings(), fail)
        if as_json:
            show.dump(reply)
        else:
            click.echo(f"{fail} fails at its next message.")
        return
    rows = _actors(settings())
    if as_json:
        show.dump(rows)
        return
    head = list(dict.fromkeys(key for row in rows for key in row))
    show.table(head, [[row.get(key) for key in head] for row in rows])


@connected
async def _fail(engine: "ExecutionEngine", name: str) -> dict[str, Any]:
    return await engine.request("actor", "fail", name=name)


@connected
async def _actors(engine: "ExecutionEngine") -> list[dict[str, Any]]:
    return (await engine.request("actor", "list"))["actors"]
