"""Where two executions part."""

import sys
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine


@click.command("diff")
@click.argument("one", metavar="ID")
@click.argument("other", metavar="ID")
@json_option
@place
def diff_verb(settings: Any, one: str, other: str, as_json: bool) -> None:
    r"""Show the first difference of two executions: in what was asked, what happened, and what was written.

    Ends with 0 when they are the same, and 1 when they are not.

    \b
    hindbrain diff exec_01j... exec_01k...
    """
    found = _diff(settings(), one, other)
    if as_json:
        show.dump(found)
        sys.exit(0 if found["same"] else 1)
    for each in found["asked"]:
        _sides(f"asked for, {each['field']}", each["one"], each["other"])
    if parted := found["happened"]:
        _sides(f"what happened, fact {parted['place']}", parted["one"], parted["other"])
    for stream in ("stdout", "stderr"):
        if (parting := found[stream]) is None:
            continue
        sides = [parting["one"], parting["other"]]
        when = ", ".join(show.length(each["after_ms"]) or "-" if each else "ended" for each in sides)
        click.echo(f"{stream}, line {parting['line']} (after {when})")
        for line in parting["before"]:
            click.echo(f"    {show.cell(line)}")
        for mark, each in zip("<>", sides, strict=True):
            click.echo(f"  {mark} {'(nothing more)' if each is None else show.cell(each['text'])}")
    if found["same"]:
        click.echo("They are the same.")
    sys.exit(0 if found["same"] else 1)


def _sides(name: str, one: Any, other: Any) -> None:
    click.echo(name)
    click.echo(f"  < {show.cell(one)}")
    click.echo(f"  > {show.cell(other)}")


@connected
async def _diff(engine: "ExecutionEngine", one: str, other: str) -> dict[str, Any]:
    from interfaces.difference import compare

    return await compare(engine, one, other)
