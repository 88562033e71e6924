"""The dashboard in a browser."""

import webbrowser
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from interfaces.cli.options import place

if TYPE_CHECKING:
    from interfaces.settings import Settings


@click.command("open")
@click.argument("entity", metavar="[ID]", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@place
def open_verb(settings: Any, entity: str | None, only_print: bool) -> None:
    r"""Open the dashboard, or the page of an execution, in a browser.

    The address lets one browser in, once and within a minute; it needs no token.

    \b
    hindbrain open
    ssh build hindbrain open --print
    """
    address = _address(settings(), entity)
    if only_print or not webbrowser.open(address):
        click.echo(address)


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
        room = {"exec": "executions", "plan": "plans"}.get(entity.partition("_")[0])
        if room is None:
            raise Validation(f"{entity!r} is no id of an execution or a plan", field="id")
        query["to"] = f"/{room}/{entity}"
    return f"{url}/open?{urlencode(query)}"
