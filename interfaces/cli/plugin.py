"""Plugins: what there is, loading and unloading while the node runs, and their tools."""

from typing import Any, cast

import click

from interfaces.cli import show
from interfaces.cli.job import data_of
from interfaces.cli.options import asked, json_option, place
from interfaces.cli.tools import call, tools, wait_option


@click.group("plugin")
def plugin_verb() -> None:
    r"""Plugins and their tools.  A tool is a verb of its own, too.

    \b
    hindbrain plugin list
    hindbrain plugin load greeter --source greeter:plugin
    hindbrain plugin tools
    """


@plugin_verb.command("list")
@json_option
@place
def list_verb(settings: Any, as_json: bool) -> None:
    r"""List all plugins that were ever loaded.

    \b
    hindbrain plugin list
    """
    found = asked(settings(), "plugin", "list", {})["plugins"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [
            *(each["name"], each["version"], "loaded" if each["loaded"] else "unloaded"),
            *(", ".join(each[kind]) or None for kind in ("tools", "jobs")),
        ]
        for each in found
    ]
    show.table(("name", "version", "state", "tools", "jobs"), rows)


@plugin_verb.command("load")
@click.argument("name")
@click.option("--source", metavar="MODULE:NAME", help="Where it is; an installed one when left out.")
@json_option
@place
def load_verb(settings: Any, name: str, source: str | None, as_json: bool) -> None:
    r"""Load a plugin, or the version of it that is installed now; the old one works until the new one does.

    \b
    hindbrain plugin load greeter
    """
    reply = asked(settings(), "plugin", "load", {"name": name, "source": source})
    if as_json:
        show.dump(reply)
        return
    plugin = reply["plugin"]
    click.echo(f"{name} {plugin['version']} is loaded: {', '.join(plugin['jobs'])}.")


@plugin_verb.command("unload")
@click.argument("name")
@click.option("--reason", help="Why.")
@json_option
@place
def unload_verb(settings: Any, name: str, reason: str | None, as_json: bool) -> None:
    r"""Take no more jobs for a plugin; what it has in hand is finished, and what is queued waits.

    \b
    hindbrain plugin unload greeter
    """
    reply = asked(settings(), "plugin", "unload", {"name": name, "reason": reason})
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{name} is unloaded; what is queued for it waits.")


@plugin_verb.command("tools")
@json_option
@place
def tools_verb(settings: Any, as_json: bool) -> None:
    r"""List the tools that may be called from here; `hindbrain TOOL --help` says what one takes.

    \b
    hindbrain plugin tools
    """
    found = tools(settings())
    if as_json:
        show.dump(found)
        return
    rows = [[each[name] for name in ("name", "plugin", "visibility", "description")] for each in found]
    show.table(("name", "plugin", "for", "what it does"), rows)


@plugin_verb.command("call")
@click.argument("name")
@click.argument("arguments", default="{}")
@wait_option
@json_option
@place
def call_verb(settings: Any, name: str, arguments: str, wait: bool, as_json: bool) -> None:
    r"""Call a tool with its arguments as JSON; - reads them from standard input.

    \b
    hindbrain plugin call build-site '{"outputDir": "/srv/www"}' --wait
    """
    given = data_of(arguments, "ARGUMENTS")
    if not isinstance(given, dict):
        raise click.UsageError("ARGUMENTS must be a JSON object")
    call(settings(), name, cast("dict[str, Any]", given), wait=wait, as_json=as_json)
