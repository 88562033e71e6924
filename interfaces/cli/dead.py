"""Dead letters: what lost its worker three times in a row."""

from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place
from interfaces.cli.plan import reason_option, rehearse_option

ID = click.argument("execution_id", metavar="[ID]", required=False)
all_option = click.option("--all", "every", is_flag=True, help="All of them.")
module_option = click.option("--module", help="With --all: only those of this module.")


@click.group("dead")
def dead_verb() -> None:
    r"""Look after executions that were parked because they lost their worker three times.

    \b
    hindbrain dead list
    hindbrain dead show exec_01j...
    hindbrain dead retry --all --rehearse
    """


@dead_verb.command("list")
@click.option("--module", help="Only those of this module.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@place
def list_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List what is parked, newest first.

    \b
    hindbrain dead list
    """
    found = asked(settings(), "dead", "list", which, fresh=True)["letters"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [each["execution_id"], each["attempts"], each["parked_at"], each["description"] or each["command"]]
        for each in found
    ]
    show.table(("id", "attempts", "parked", "what"), rows)


@dead_verb.command("show")
@click.argument("execution_id", metavar="ID")
@json_option
@place
def show_verb(settings: Any, execution_id: str, as_json: bool) -> None:
    r"""Show one with everything that happened to it.

    \b
    hindbrain dead show exec_01j...
    """
    found = asked(settings(), "dead", "get", {"execution_id": execution_id})
    if as_json:
        show.dump(found)
        return
    letter: dict[str, Any] = found["letter"]
    heads = ("execution_id", "command", "error", "parked_at", "node")
    show.pairs([(name.replace("_", " "), letter[name]) for name in heads])
    rows = [[each["seq"], each["time"], each["event"], each["by"]] for each in found["events"]]
    show.table(("seq", "time", "event", "by"), rows)


@dead_verb.command("retry")
@ID
@all_option
@module_option
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@rehearse_option
@json_option
@place
def retry_verb(settings: Any, every: bool, secret: tuple[str, ...], as_json: bool, **given: Any) -> None:
    r"""Run one or all again, each as a new execution.

    \b
    hindbrain dead retry exec_01j...
    """
    from interfaces.cli.run import secret as value

    body = {**_which(every, given), "secrets": {name: value(name) for name in secret}}
    reply = asked(settings(), "dead", "retry", body)
    show.many(reply, "retried", as_json)


@dead_verb.command("discard")
@ID
@all_option
@module_option
@reason_option
@rehearse_option
@json_option
@place
def discard_verb(settings: Any, every: bool, as_json: bool, **given: Any) -> None:
    r"""Take one or all off the list; they stay in the log as they are.

    \b
    hindbrain dead discard exec_01j... --reason 'known bug'
    """
    reply = asked(settings(), "dead", "discard", _which(every, given))
    show.many(reply, "discarded", as_json)


def _which(every: bool, given: dict[str, Any]) -> dict[str, Any]:
    if every == (given["execution_id"] is not None):
        raise click.UsageError("name one, or give --all")
    return {**given, "all": every}
