"""The dashboard in a browser: of a node, or of an exported file."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from interfaces.cli.options import place

if TYPE_CHECKING:
    from interfaces.settings import Settings


@click.command("open")
@click.argument("entity", metavar="[ID|FILE]", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@place
def open_verb(settings: Any, entity: str | None, only_print: bool) -> None:
    r"""Open the dashboard, or the page of one thing, in a browser; or a FILE that `export` wrote.

    The address lets one browser in, once and within a minute; it needs no token.

    A file needs no node, no bus and no network.  Its pages are there until Ctrl-C, for this machine only,
    and can only be read.

    \b
    hindbrain open
    hindbrain open build.capsule
    ssh build hindbrain open --print
    """
    if entity is not None and ("." in entity or "/" in entity or Path(entity).exists()):
        _show(Path(entity), only_print)
        return
    address = _address(settings(), entity)
    if only_print or not webbrowser.open(address):
        click.echo(address)


def _show(file: Path, only_print: bool) -> None:
    """Show a capsule until we are told to stop."""
    import signal
    import threading

    from interfaces.offline import opened
    from interfaces.web import Web

    stop = threading.Event()

    def ended(number: int, frame: object) -> None:  # noqa: ARG001  the shape of every handler
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    with opened(file) as engine:
        web = Web(engine.settings, None, lambda _: engine)
        web.start()
        try:
            address = web.url + engine.manifest.page
            if only_print or not webbrowser.open(address):
                click.echo(address)
            click.echo(f"{file} is shown until Ctrl-C, for reading only", err=True)
            stop.wait()
        finally:
            web.stop()


def _address(settings: "Settings", entity: str | None) -> str:
    from events.errors import Validation
    from interfaces.tickets import Tickets
    from interfaces.whereabouts import running

    if settings.nats.url:
        raise Validation("open needs the data folder of the node: use --data on its machine", field="nats")
    url = running(settings).get("http_url")
    if not url:
        raise Validation("the node has no HTTP door: its roles leave out web", field="roles")
    query = {"ticket": Tickets(settings.data).ticket()}
    if entity is not None:
        room = {"exec": "executions", "plan": "plans", "play": "playbooks"}.get(entity.partition("_")[0])
        if room is None:
            text = f"{entity!r} is no id of an execution, a plan or a playbook, and no file"
            raise Validation(text, field="id")
        query["to"] = f"/{room}/{entity}"
    return f"{url}/open?{urlencode(query)}"
