# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""Tables that are not folded from the log: they are written as things are seen, and lost with the file.

`execution_usage` holds samples of what running executions use, `output_index` how much output is stored and
where its last piece begins.  Neither can be rebuilt, neither has a past; no answer about an execution's end
rests on them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import duckdb
import msgspec

from events.ports import Chunk

KEEP_DAYS = 7
"""Samples older than this are dropped when the store opens."""


class Sample(NamedTuple):
    """What an execution used at one moment."""

    execution: str
    time: str
    """RFC 3339 UTC."""
    cpu_percent: float | None
    """Of one processor, over the time since the sample before."""
    memory_bytes: int | None
    processes: int | None


TABLES = {
    "execution_usage": "(execution VARCHAR, time TIMESTAMP, cpu_percent DOUBLE, memory_bytes BIGINT,"
    " processes BIGINT)",
    "output_index": "(execution VARCHAR, stream VARCHAR, bytes BIGINT, lines BIGINT, last_offset BIGINT,"
    " last_at TIMESTAMP, ended BOOLEAN, PRIMARY KEY (execution, stream))",
}
_SAMPLE = '[["VARCHAR"]]'


def add_samples(con: duckdb.DuckDBPyConnection, samples: Sequence[Sample]) -> None:
    """Append samples."""
    con.execute(
        "INSERT INTO store._execution_usage SELECT r[1], TRY_CAST(r[2] AS TIMESTAMP),"
        " TRY_CAST(r[3] AS DOUBLE), TRY_CAST(r[4] AS BIGINT), TRY_CAST(r[5] AS BIGINT)"
        f" FROM (SELECT unnest(from_json(?, '{_SAMPLE}')) AS r)",
        [msgspec.json.encode(samples).decode()],
    )


def drop_samples(con: duckdb.DuckDBPyConnection, before: str) -> None:
    """Forget samples older than a moment."""
    con.execute("DELETE FROM store._execution_usage WHERE time < ?::TIMESTAMP", [before])


def add_output(con: duckdb.DuckDBPyConnection, chunks: Iterable[Chunk]) -> None:
    """Count output; a piece that was counted before changes nothing."""
    lots: dict[tuple[str, str], list[Chunk]] = {}
    for chunk in chunks:
        lots.setdefault((chunk.execution, chunk.stream), []).append(chunk)
    for (execution, stream), pieces in lots.items():
        old = con.execute(
            "SELECT bytes, lines, last_offset, epoch_ms(last_at), ended FROM store._output_index"
            " WHERE execution = ? AND stream = ?",
            [execution, stream],
        ).fetchone()
        size, lines, offset, _, ended = old or (0, 0, 0, None, False)
        last = None
        for piece in sorted(pieces, key=lambda each: each.offset):
            ended = ended or piece.end
            if piece.offset + len(piece.data) > size:
                lines += piece.data[max(0, size - piece.offset) :].count(b"\n")
                size, offset, last = piece.offset + len(piece.data), piece.offset, piece.time
        con.execute(
            "INSERT INTO store._output_index VALUES (?, ?, ?, ?, ?, TRY_CAST(? AS TIMESTAMP), ?)"
            " ON CONFLICT DO UPDATE SET bytes = excluded.bytes, lines = excluded.lines,"
            " last_offset = excluded.last_offset, last_at = coalesce(excluded.last_at, last_at),"
            " ended = excluded.ended",
            [execution, stream, size, lines, offset, last, ended],
        )
