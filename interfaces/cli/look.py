"""What the log and the tables say."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place
from interfaces.life import life, said

if TYPE_CHECKING:
    from events.service import Table
    from interfaces.api import ExecutionEngine


@click.command("events")
@click.argument("execution_id", metavar="ID")
@json_option
@place
def events_verb(settings: Any, execution_id: str, as_json: bool) -> None:
    r"""List the facts of one execution with their envelopes; --json prints one per line.

    \b
    hindbrain events exec_01j... --json
    """
    rows = _events(settings(), execution_id)
    if as_json:
        for row in rows:
            show.dump(row)
        return
    head = ("seq", "time", "event", "by", "data")
    show.table(
        head, [[row["seq"], row["time"], row["event"], row["by"], _short(row["data"])] for row in rows]
    )


def _short(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in ("event", "digest")}


@connected
async def _events(engine: "ExecutionEngine", execution_id: str) -> list[dict[str, Any]]:
    return await engine.events(execution_id)


@click.command("replay")
@click.argument("execution_id", metavar="ID", required=False)
@click.option("--into", type=click.Path(path_type=Path), help="Fold the whole log into a new DuckDB file.")
@click.option("--play", is_flag=True, help="Write its output again, at the pace at which it came.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="How many times as quick.")
@click.option("--idle", type=float, metavar="S", help="No silence longer than that.")
@json_option
@place
def replay_verb(
    settings: Any,
    execution_id: str | None,
    into: Path | None,
    play: bool,
    speed: float,
    idle: float | None,
    as_json: bool,
) -> None:
    r"""Show the life of one execution, event by event, or fold the whole log into a DuckDB file.

    With --play the output of the execution comes again as it came: stdout to stdout, stderr to stderr.

    \b
    hindbrain replay exec_01j...
    hindbrain replay exec_01j... --play --speed 10 --idle 2
    hindbrain replay --into copy.duckdb
    """
    if (into is None) == (execution_id is None):
        raise click.UsageError("give an ID, or --into FILE")
    if play and execution_id is not None:
        _play(settings(), execution_id, speed, idle, as_json)
        return
    if into is not None:
        from interfaces import audit

        mark = asyncio.run(audit.into(settings(), into))
        if as_json:
            show.dump({"file": str(into), "seq": mark.seq, "hash": mark.hash})
        else:
            click.echo(f"{mark.seq} events are in {into}")
        return
    rows = life("execution", _events(settings(), str(execution_id)))
    if as_json:
        for row in rows:
            show.dump(row)
        return
    head = ("seq", "after", "event", "status", "attempt", "what it says")
    table = [
        (
            r["seq"],
            _delta(r["delta_ms"]),
            r["event"],
            r["state"]["status"],
            r["state"]["attempt"],
            show.cell(said(r)),
        )
        for r in rows
    ]
    show.table(head, table)


def _delta(milliseconds: int) -> str:
    if milliseconds < 1000:
        return f"+{milliseconds} ms"
    if milliseconds < 60_000:
        return f"+{milliseconds / 1000:.2f} s"
    return f"+{milliseconds / 60_000:.1f} min"


@connected
async def _play(
    engine: "ExecutionEngine", execution_id: str, speed: float, idle: float | None, as_json: bool
) -> None:
    from interfaces.playback import play

    async for chunk in play(engine, execution_id, speed, idle):
        show.chunk(chunk, as_json)


@click.command("sql")
@click.argument("query")
@click.option("--at", metavar="RFC3339", help="As of this time.")
@click.option("--seq", type=int, metavar="N", help="As of this sequence, including that event.")
@click.option("--param", multiple=True, help="A value for a ? in the query; may be given again.")
@click.option("--limit", type=int, help="At most so many rows; 1000 when left out.")
@click.option("--timeout", "timeout_ms", type=int, metavar="MS", help="At most so long.")
@json_option
@place
def sql_verb(settings: Any, query: str, as_json: bool, param: tuple[str, ...], **how: Any) -> None:
    r"""Ask the tables, now or as of any past moment.

    \b
    hindbrain sql "SELECT status, count(*) FROM executions GROUP BY ALL"
    hindbrain sql "FROM executions" --at 2026-01-31T12:00:00Z --json
    """
    how = {name: value for name, value in how.items() if value is not None}
    answer = _sql(settings(), query, how | ({"params": list(param)} if param else {}))
    names = [column.name for column in answer.columns]
    if as_json:
        show.dump([dict(zip(names, row, strict=True)) for row in answer.rows])
    else:
        show.table(names, answer.rows)
    if answer.truncated:
        click.echo(f"only the first {len(answer.rows)} rows: --limit gives more", err=True)


@connected
async def _sql(engine: "ExecutionEngine", query: str, how: dict[str, Any]) -> "Table":
    from events.errors import Timeout

    if how.keys() & {"seq", "at"}:
        return await engine.sql(query, **how)
    try:
        # What somebody did a moment ago should be in the answer.
        return await engine.sql(query, min_seq=await engine.last_seq(), **how)
    except Timeout as error:
        click.echo(f"{error.message}; this is what they say", err=True)
        return await engine.sql(query, **how)


@click.command("rebuild")
@json_option
@place
def rebuild_verb(settings: Any, as_json: bool) -> None:
    r"""Fold all tables again from the stored events.

    \b
    hindbrain rebuild
    """
    reply = _rebuild(settings())
    if as_json:
        show.dump(reply)
    else:
        sys.stdout.write(f"{reply['events']} events in {reply['seconds']:.1f} s, up to {reply['seq']}\n")


@connected
async def _rebuild(engine: "ExecutionEngine") -> dict[str, Any]:
    return await engine.request("query", "rebuild", 3600.0)
