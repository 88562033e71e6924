# ruff: noqa: S608 -- SQL is made of our own words here; what callers give travels as parameters
"""What changed since a cursor, what failed first, within a budget.

Rows are shown by rank and then the newest first.  When the budget ends before the rows do, the cursor says
where in that order it ended, and up to which event the rows were read; what changes after that event comes
again behind it, so nothing is lost and nothing is told twice without having changed.
"""

import re
import time
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from events.clock import millis, stamp
from events.errors import HindbrainError, Validation
from events.message import Message
from events.spec import Strict
from events.view import age
from interfaces.mcp.folding import fold
from interfaces.mcp.tools import READS, Call, cut, tool

DAY_MS = 86_400_000
ROWS = 200
"""Rows that are looked at in one call."""
TAIL = 4096
"""Bytes at the end of the output of something that failed, of which the telling lines are kept."""
TAILS = 5
"""So many of those that failed come with lines of their output."""
_CURSOR = re.compile(r"c(\d{1,15})(?:-(\d{1,15})\.(\d)\.(\d{1,15}))?")

_ENDED_BADLY = "('failed', 'timed_out')"
_CHANGED = f"""
changed AS (
    SELECT e.id, 'execution' AS kind, e.status, e.seq, coalesce(e.description, e.command) AS what,
        e.exit_code, e.error->>'$.message' AS error, e.progress, e.last_output, e.completed_at,
        e.stdout_bytes, e.stderr_bytes,
        CASE WHEN e.status IN {_ENDED_BADLY} THEN 0 WHEN e.status = 'cancelled' THEN 1
            WHEN e.status = 'running' THEN 2 WHEN e.status = 'completed' THEN 3 ELSE 4 END AS rank
    FROM executions e LEFT JOIN plans p ON p.id = e.plan_id
    WHERE e.plan_id IS NULL OR (e.status IN {_ENDED_BADLY} AND p.strategy <> 'batch')
    UNION ALL
    SELECT id, 'plan', status, seq, coalesce(description, nullif(name, ''), strategy), NULL,
        error->>'$.message', concat(completed + failed + skipped, '/', coalesce(total::VARCHAR, '?'),
        CASE WHEN failed > 0 THEN concat(', ', failed, ' failed') ELSE '' END), NULL, completed_at, 0, 0,
        CASE WHEN status = 'failed' OR failed > 0 THEN 0 WHEN status IN ('cancelled', 'paused') THEN 1
            WHEN status = 'running' THEN 2 ELSE 3 END
    FROM plans WHERE parent IS NULL
    UNION ALL
    SELECT id, 'finding', CASE WHEN closed_at IS NULL THEN 'open' ELSE 'over' END, seq, text, NULL, NULL,
        NULL, NULL, closed_at, 0, 0, CASE WHEN closed_at IS NULL THEN 0 ELSE 3 END
    FROM findings
)"""
_WITHIN = "seq <= $upto AND (seq > $since OR ($fresh AND completed_at IS NULL AND kind <> 'finding'))"
_ROWS = f"""WITH {_CHANGED} SELECT * FROM changed WHERE {_WITHIN}
    AND (rank > $rank OR (rank = $rank AND seq < $last)) ORDER BY rank, seq DESC, id LIMIT {ROWS}"""
_COUNTS = f"""WITH {_CHANGED}
    SELECT CASE WHEN kind = 'finding' THEN concat('finding ', status) ELSE status END, count(*), min(rank)
    FROM changed WHERE {_WITHIN} GROUP BY 1 ORDER BY 3, 1"""
_YESTERDAY = "SELECT coalesce(max(seq), 0) FROM events WHERE time < $at::TIMESTAMP"


class CatchUp(Strict):
    """Since when, and how much of it."""

    cursor: Annotated[
        str | None,
        Meta(description="From an earlier catch_up; left out: the last day and all that goes on."),
    ] = None
    max_tokens: Annotated[
        int, Meta(ge=200, le=100_000, description="The most tokens of the whole answer; a token is 3 bytes.")
    ] = 1000


class Caught(Message, omit_defaults=False):
    """What is different; with `more`, ask again with the cursor for what did not fit."""

    counts: dict[str, int]
    changes: list[dict[str, Any]]
    more: int
    cursor: str


class Cursor(NamedTuple):
    """Changes after `since` and up to `upto`; those up to a rank, and there to a sequence, were told."""

    since: int
    upto: int | None = None
    rank: int = -1
    last: int = 0

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Read what an earlier answer gave; `Validation` for anything else."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise Validation(f"{text!r} is no cursor of catch_up: leave it out to begin anew", field="cursor")
        since, upto, rank, last = match.groups()
        return cls(int(since)) if upto is None else cls(int(since), int(upto), int(rank), int(last))

    def __str__(self) -> str:
        return f"c{self.since}" if self.upto is None else f"c{self.since}-{self.upto}.{self.rank}.{self.last}"


@tool(READS, "What happened meanwhile")
async def catch_up(call: Call, ask: CatchUp) -> Caught:
    """What changed since a cursor: failures first, with the telling lines of their output.

    Call it when you come back, instead of asking for each execution. Steps of plans are told by their plan,
    unless they failed. Keep the cursor of the answer for the next time.
    """
    head = await call.patiently(call.engine.last_seq)
    fresh = ask.cursor is None
    cursor = Cursor.read(ask.cursor) if ask.cursor is not None else Cursor(await _yesterday(call))
    if cursor.since > head or (cursor.upto or 0) > head:
        raise Validation("that cursor is of another log: leave it out to begin anew", field="cursor")
    upto = head if cursor.upto is None else cursor.upto
    within = {"since": cursor.since, "upto": upto, "fresh": fresh}
    table = await _sql(call, _ROWS, {**within, "rank": cursor.rank, "last": cursor.last}, head)
    rows = [dict(zip(table.names, row, strict=True)) for row in table.rows]
    counts = {str(status): int(count) for status, count, _ in (await _sql(call, _COUNTS, within, head)).rows}
    room = ask.max_tokens * 3 - len(msgspec.json.encode(Caught(counts=counts, changes=[], more=0, cursor="")))
    room -= 3 * len(str(head)) + 16
    changes: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        change = await _change(call, row, room // 2 if number < TAILS else 0)
        size = len(msgspec.json.encode(change)) + 1
        if size > room and not changes:
            change = {"id": row["id"], "status": row["status"]}
        elif size > room:
            break
        changes.append(change)
        room -= size
    left = len(rows) - len(changes)
    if left or len(rows) == ROWS:
        told = rows[len(changes) - 1]
        onward = Cursor(cursor.since, upto, told["rank"], told["seq"])
    else:
        onward = Cursor(upto)
    more = left if cursor.upto is not None else max(left, sum(counts.values()) - len(changes))
    return Caught(counts=counts, changes=changes, more=more, cursor=str(onward))


class _Rows(NamedTuple):
    names: list[str]
    rows: list[list[Any]]


async def _sql(call: Call, query: str, params: dict[str, Any], seq: int) -> _Rows:
    table = await call.patiently(lambda: call.engine.sql(query, params=params, min_seq=seq))
    return _Rows([column.name for column in table.columns], table.rows)


async def _yesterday(call: Call) -> int:
    """The last event that is older than a day."""
    day = stamp(int(time.time() * 1000) - DAY_MS)
    ((seq,),) = (await _sql(call, _YESTERDAY, {"at": day}, 0)).rows
    return int(seq)


class Change(Message):
    """One thing that changed; what does not apply is left out."""

    id: str
    status: str
    what: str | None
    exit_code: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    progress: str | UnsetType = UNSET
    ended: str | UnsetType = UNSET
    output: list[str] | UnsetType = UNSET


async def _change(call: Call, row: dict[str, Any], room: int) -> dict[str, Any]:
    """Say of a row what is worth its tokens."""
    badly = row["rank"] == 0
    ended = row["completed_at"]
    lines: list[str] = []
    if badly and room:
        lines = await _lines(call, row, room)
    elif row["last_output"]:
        lines = [cut(row["last_output"], 120) or ""]
    change = Change(
        id=row["id"],
        status=row["status"],
        what=cut(row["what"], 200 if row["kind"] == "finding" else 80),
        exit_code=UNSET if row["exit_code"] in (None, 0) else row["exit_code"],
        error=UNSET if row["error"] is None else cut(row["error"], 160) or "",
        progress=UNSET if row["progress"] is None or row["status"] == "completed" else row["progress"],
        ended=UNSET if ended is None else age(time.time() - millis(ended) / 1000),
        output=lines or UNSET,
    )
    return msgspec.to_builtins(change)


async def _lines(call: Call, row: dict[str, Any], room: int) -> list[str]:
    """The telling lines at the end of what it wrote, of stderr if there is any."""
    stream = "stderr" if row["stderr_bytes"] else "stdout"
    offset = max(0, row[f"{stream}_bytes"] - TAIL)
    if not row[f"{stream}_bytes"]:
        return []
    which = {"execution_id": row["id"], "stream": stream, "offset": offset, "max_bytes": TAIL}
    try:
        reply = await call.request("execution", "logs", **which)
    except HindbrainError as error:
        return [f"(its output cannot be read: {error.message})"]
    return fold("".join(piece["text"] for piece in reply["chunks"]), room)
