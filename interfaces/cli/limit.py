"""Limits: how many may run at once, and how many may begin in a while."""

from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place, seconds


@click.group("limit")
def limit_verb() -> None:
    r"""Limit how much runs at once, of a node, a module, or a key.

    \b
    hindbrain limit set --key tenant-7 --max 2
    hindbrain limit set --module commands --rate 10/1m
    hindbrain limit list
    """


def _rate(text: str | None) -> dict[str, int] | None:
    """Read `10/1m`: ten in a minute."""
    if text is None:
        return None
    count, slash, stretch = text.partition("/")
    if not slash or not count.isdecimal():
        raise click.UsageError(f"--rate {text}: write 10/1m for ten in a minute")
    stretch = stretch if stretch[:1].isdecimal() else f"1{stretch}"
    return {"count": int(count), "per_ms": round(seconds(stretch) * 1000)}


@limit_verb.command("set")
@click.option("--node", metavar="ID", help="How many commands this node runs at once.")
@click.option("--module", metavar="NAME", help="How many of this module run at once; 'commands' are all.")
@click.option("--key", metavar="TEXT", help="How many with this concurrency key are at it at once.")
@click.option("--max", "most", type=click.IntRange(0), help="So many at once; 0 lets nothing begin.")
@click.option("--rate", metavar="N/S", help="So many in any such stretch: 10/1m.")
@click.option("--off", is_flag=True, help="Take the limit away.")
@json_option
@place
def set_verb(
    settings: Any, most: int | None, rate: str | None, off: bool, as_json: bool, **target: str | None
) -> None:
    r"""Set a limit, at once; what runs already goes on.

    \b
    hindbrain limit set --key tenant-7 --max 2 --rate 100/1h
    """
    if off == (most is not None or rate is not None):
        raise click.UsageError("give --max or --rate, or --off")
    reply = asked(settings(), "limit", "set", {**target, "max": most, "rate": _rate(rate)})
    if as_json:
        show.dump(reply)
        return
    already = "" if reply["changed"] else " already"
    click.echo(f"{reply['on']} {reply['target']}: {_said(reply)}{already}. (event {reply['seq']})")


def _said(limit: dict[str, Any]) -> str:
    parts: list[str] = []
    if limit["max"] is not None:
        parts.append(f"at most {limit['max']} at once")
    if limit.get("rate"):
        parts.append(f"{limit['rate']['count']} in {show.length(limit['rate']['per_ms'])}")
    return ", ".join(parts) or "no limit"


@limit_verb.command("list")
@json_option
@place
def list_verb(settings: Any, as_json: bool) -> None:
    r"""List all limits, with who is at them and how many wait.

    \b
    hindbrain limit list
    """
    found = asked(settings(), "limit", "list", {}, fresh=True)["limits"]
    if as_json:
        show.dump(found)
        return
    keys = ("on", "target", "waiting")
    rows = [[*map(each.get, keys), len(each["holders"]), _said(each)] for each in found]
    show.table(("on", "target", "waiting", "at it", "limit"), rows)
