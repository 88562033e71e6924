"""Why something stands where it stands."""

from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

KINDS = {"plan": "plan_id", "sched": "schedule_id", "play": "playbook_id"}


@click.command("why")
@click.argument("entity", metavar="ID")
@json_option
@place
def why_verb(settings: Any, entity: str, as_json: bool) -> None:
    r"""Say why an execution, plan, playbook or schedule waits, runs, or ended; each sentence with its fact.

    \b
    hindbrain why exec_01j...
    """
    found = _why(settings(), entity)
    if as_json:
        show.dump(found)
        return
    click.echo(f"{found['id']} {found['status']}")
    for each in found["sentences"]:
        click.echo(f"  {each['text']}" + (f" ({each['seq']})" if each["seq"] is not None else ""))


@connected
async def _why(engine: "ExecutionEngine", entity: str) -> dict[str, Any]:
    name = KINDS.get(entity.split("_", 1)[0], "execution_id")
    seq = await engine.last_seq()
    return await engine.request("query", "why", 20.0, min_seq=seq, **{name: entity})


@connected
async def background(engine: "ExecutionEngine") -> dict[str, Any]:
    """What goes on now."""
    return await engine.request("query", "status", 20.0, min_seq=await engine.last_seq())


def going(settings: Any, as_json: bool) -> None:
    """Show what goes on now."""
    found = background(settings)
    if as_json:
        show.dump(found)
        return
    click.echo(found["message"])
    head = ("id", "type", "status", "progress", "task")
    rows = [
        (
            each.get("batchId") or each.get("jobId"),
            each["type"],
            each["status"],
            each["progress"],
            each["currentTask"],
        )
        for each in found["operations"]
    ]
    if rows:
        show.table(head, rows)
