"""Modules: pools of workers, how they are doing, and how many there are."""

from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.job import data_of, queued
from interfaces.cli.options import asked, json_option, place
from interfaces.cli.tools import wait_option

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = click.argument("name")
REASON = click.option("--reason", help="Why.")


@click.group("module")
def module_verb() -> None:
    r"""Look after modules: pools of workers with a queue of their own.

    \b
    hindbrain module list
    hindbrain module scale site-builder 4
    hindbrain module pause site-builder --reason 'the disk is full'
    """


@module_verb.command("list")
@json_option
@place
def list_verb(settings: Any, as_json: bool) -> None:
    r"""List all modules, and how they are doing.

    \b
    hindbrain module list
    """
    found = asked(settings(), "module", "list", {})["modules"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [
            *(each["name"], each["state"], each["category"], f"{each['total']}/{each['workers']}"),
            *(each["active"], each["queue_size"], each["tasks_completed"], each["tasks_failed"]),
            each["reason"] or None,
        ]
        for each in found
    ]
    show.table(("name", "state", "category", "up", "busy", "waiting", "completed", "failed", "why"), rows)


@module_verb.command("status")
@NAME
@json_option
@place
def status_verb(settings: Any, name: str, as_json: bool) -> None:
    r"""Show one module with its workers.

    \b
    hindbrain module status site-builder
    """
    found = asked(settings(), "module", "status", {"module": name})["module"]
    if as_json:
        show.dump(found)
        return
    shown = ("name", "state", "reason", "category", "priority", "workers", "total", "active", "utilisation")
    more = ("queue_size", "tasks_completed", "tasks_failed", "success_rate", "uptime", "last_activity")
    pairs = [(key.replace("_", " "), found[key]) for key in (*shown, *more) if found[key] not in (None, "")]
    show.pairs([*pairs, *(("error", each) for each in found["errors"])])
    head = ("worker", "state", "pid", "job", "type", "busy_seconds", "memory_bytes", "cpu_percent")
    if found["pool"]:
        click.echo()
        rows = [[each["name" if key == "worker" else key] for key in head] for each in found["pool"]]
        show.table([key.replace("_", " ") for key in head], rows)


def _changing(verb: str, text: str, example: str) -> "Callable[..., None]":
    """Make a verb that changes one module."""

    @module_verb.command(verb, help=f"{text}\n\n\\b\nhindbrain module {verb} {example}")
    @NAME
    @REASON
    @json_option
    @place
    def act(settings: Any, name: str, reason: str | None, as_json: bool) -> None:
        _told(asked(settings(), "module", verb, {"module": name, "reason": reason}), as_json)

    return act


_changing("pause", "Have it finish what is in hand and take nothing more.", "site-builder")
_changing("resume", "Have it take work again.", "site-builder")
_changing("restart", "Make all its workers anew, also after an error.", "site-builder")


@module_verb.command("scale")
@NAME
@click.argument("workers", type=click.IntRange(0))
@REASON
@json_option
@place
def scale_verb(settings: Any, name: str, workers: int, reason: str | None, as_json: bool) -> None:
    r"""Have another number of workers.

    \b
    hindbrain module scale site-builder 4
    """
    _told(
        asked(settings(), "module", "scale", {"module": name, "workers": workers, "reason": reason}), as_json
    )


def _told(reply: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.dump(reply)
        return
    already = "" if reply["changed"] else " already"
    of = f"with {reply['workers']} worker{'s' if reply['workers'] != 1 else ''}"
    click.echo(f"{reply['module']} is {reply['state'] or 'starting'} {of}{already}. (event {reply['seq']})")


@module_verb.command("submit")
@NAME
@click.argument("text", metavar="[DATA]", required=False)
@click.option("--handler", metavar="NAME", help="A handler of the module; DATA is what it is given.")
@click.option("--function", metavar="MODULE:NAME", help="A function; DATA is the list of what it is given.")
@click.option("--priority", help="critical, high, medium, low, idle.")
@wait_option
@json_option
@place
def submit_verb(
    settings: Any, name: str, text: str | None, handler: str | None, function: str | None, **more: Any
) -> None:
    r"""Have a module run a handler, or a function that can be imported; DATA is JSON, - reads it.

    \b
    hindbrain module submit site-builder --function platform:node --wait
    """
    if (handler is None) == (function is None):
        raise click.UsageError("give --handler or --function")
    body: dict[str, Any] = {"module": name, "handler": handler, "function": function}
    given = None if text is None else data_of(text, "DATA")
    if function is not None and given is not None:
        if not isinstance(given, list | dict):
            raise click.UsageError("DATA of a function is a JSON list, or an object with its keywords")
        body["args" if isinstance(given, list) else "kwargs"] = given
    else:
        body["data"] = given
    known = settings()
    reply = asked(known, "module", "submit", {**body, "priority": more["priority"]})
    queued(known, reply, more["wait"], more["as_json"])
