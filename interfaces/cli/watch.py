"""Looking on: a full screen, and a search."""

import asyncio
import sys
from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place


@click.command("watch")
@place
def watch_verb(settings: Any) -> None:
    r"""Watch what goes on, full screen: executions with their output, plans, playbooks, modules, decisions.

    Keys: Tab or 1 to 5 show another list, j and k choose, p pauses or resumes, c twice cancels, r retries,
    q leaves.

    \b
    hindbrain watch
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("this needs a terminal; `hindbrain list` and `hindbrain status` do not")
    asyncio.run(_watch(settings()))


async def _watch(settings: Any) -> None:
    from interfaces.api import ExecutionEngine
    from interfaces.watch import Watch

    async with ExecutionEngine.new(settings) as engine:
        await Watch(engine).run_async()


@click.command("search")
@click.argument("words", nargs=-1, required=True)
@json_option
@place
def search_verb(settings: Any, words: tuple[str, ...], as_json: bool) -> None:
    r"""Look for words in commands, descriptions, labels, errors and output, whatever their case.

    The output of the newest executions is looked through; how far back is said at the end.

    \b
    hindbrain search connection refused
    """
    found = _search(settings(), " ".join(words))
    if as_json:
        show.dump(found)
        return
    rows = [
        (row["id"], row["status"], row["created_at"], row["place"], _line(row)) for row in found["said"]
    ] + [
        (row["id"], row["status"], row["created_at"], "output", row["line"].strip())
        for row in found["written"]
    ]
    show.table(("id", "status", "submitted", "where", "what"), rows)
    if found["since"]:
        click.echo(
            f"searched the output of {found['searched']} executions, back to {found['since']}", err=True
        )


def _line(row: dict[str, Any]) -> str:
    if row["place"] == "error":
        return str(row["error"]["message"])
    if row["place"] == "label":
        return ", ".join(row["labels"])
    return str(row["description"] or row["command"])


@connected
async def _search(engine: Any, words: str) -> dict[str, Any]:
    from interfaces.dashboard.look import Look
    from interfaces.search import search

    look = await Look.open(engine, 0, min_seq=str(await engine.last_seq()))
    return await search(look.rows, words)
