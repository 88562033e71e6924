# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""Asking the tables: read-only, bounded in rows and time, now or as of any past moment."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from events.errors import SqlError, Timeout
from projections import jsonable, timeline
from projections.executions import EXECUTIONS
from projections.judge import Judgement, judge, refusal
from projections.output import Output
from projections.store import Store

LIMIT_MAX = 100_000
TIMEOUT_MAX_MS = 60_000


class Answer(NamedTuple):
    """The answer to a query, its values ready for JSON."""

    columns: list[tuple[str, str]]
    """Name and DuckDB type of each."""
    rows: list[list[Any]]
    seq: int
    """The last event that the answer knows."""
    truncated: bool
    """There were more rows than asked for."""


class Queries:
    """Questions to a store; every method may be called from any thread, many at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ask(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        seq: int | None = None,
        at: str | None = None,
        limit: int = 1000,
        timeout_ms: int = 5000,
    ) -> Answer:
        """Run one SELECT; `SqlError` says what is wrong with it, `Timeout` that it took too long.

        With `seq` or `at` the same query sees the tables as they were.
        """
        if not 0 <= limit <= LIMIT_MAX:
            raise SqlError(f"limit is {limit}: it must be between 0 and {LIMIT_MAX}", hint="")
        if not 1 <= timeout_ms <= TIMEOUT_MAX_MS:
            raise SqlError(f"timeout_ms is {timeout_ms}: it must be between 1 and {TIMEOUT_MAX_MS}", hint="")
        with _Bounded(self._store, timeout_ms) as con:
            judged = judge(con, sql)
            past = self._past(con, judged, seq, at)
            output = Output(self._store.logs, past, judged, params)
            for name, text in output.prepare(con).items():
                con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {text}")
            con.execute("BEGIN TRANSACTION READ ONLY")
            known = bookmark(con) if past is None else past
            columns, rows = _fetch(con, judged, params, limit + 1)
            names = [jsonable.reader(kind) for _, kind in columns]
            found = [
                [read(value) for read, value in zip(names, output.fill(row), strict=True)]
                for row in rows[:limit]
            ]
            return Answer(columns, found, known, len(rows) > limit)

    def rows(self, sql: str, *params: Any) -> "list[dict[str, Any]]":
        """All rows of a query of our own, as objects."""
        answer = self.ask(sql, params, limit=LIMIT_MAX, timeout_ms=TIMEOUT_MAX_MS // 4)
        names = [name for name, _ in answer.columns]
        return [dict(zip(names, row, strict=True)) for row in answer.rows]

    def _past(
        self, con: duckdb.DuckDBPyConnection, judged: Judgement, seq: int | None, at: str | None
    ) -> int | None:
        if seq is None and at is None:
            return None
        timeline.check(judged)
        past = timeline.resolve(con, seq, at, bookmark(con))
        wanted = {table for table, _ in judged.tables}
        for name, text in timeline.views(past).items():
            if name in wanted:
                con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {text}")
        return past

    def list(
        self,
        status: str | None = None,
        module: str | None = None,
        label: str | None = None,
        limit: int = 50,
        before: int | None = None,
        plan_id: str | None = None,
    ) -> tuple[list[dict[str, Any]], int | None]:
        """A page of executions, newest first, and where the next page begins (None: there is none).

        The rows are those of `executions` without stdout and stderr, their values ready for JSON.
        """
        conditions = {
            "status = ?": status,
            "module = ?": module,
            "list_contains(labels, ?)": label,
            "born < ?": before,
            "plan_id = ?": plan_id,
        }
        given = {text: value for text, value in conditions.items() if value is not None}
        where = " AND ".join(given) or "true"
        names = [name for name in EXECUTIONS.public if name not in ("stdout", "stderr")]
        shown = ", ".join(f'"{name}"' for name in names)
        with _Bounded(self._store, TIMEOUT_MAX_MS) as con:
            con.execute(
                f"SELECT {shown}, born FROM store.main.{EXECUTIONS.table} WHERE born IN (SELECT born FROM"
                f" store.main.{EXECUTIONS.table} WHERE {where} ORDER BY born DESC LIMIT ?)"
                " ORDER BY born DESC",
                [*given.values(), limit + 1],
            )
            readers = [jsonable.reader(str(column[1])) for column in con.description or ()][:-1]
            rows = con.fetchall()
        page = [
            {name: read(value) for name, read, value in zip(names, readers, row[:-1], strict=True)}
            for row in rows[:limit]
        ]
        return page, rows[limit - 1][-1] if len(rows) > limit > 0 else None


class _Bounded:
    """A connection for one question; it is interrupted when the time is up."""

    def __init__(self, store: Store, timeout_ms: int) -> None:
        self._con, self._timeout_ms = store.cursor(), timeout_ms
        self._lock, self._over = threading.Lock(), False
        self._timer = threading.Timer(timeout_ms / 1000, self._interrupt)
        self._timer.daemon = True

    def _interrupt(self) -> None:
        with self._lock:  # a closed connection cannot be interrupted
            if not self._over:
                self._con.interrupt()

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        self._timer.start()
        return self._con

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
        self._con.close()
        if isinstance(error, duckdb.InterruptException):
            raise Timeout(f"the query took longer than {self._timeout_ms} ms") from error
        if isinstance(error, duckdb.Error):
            raise refusal(error) from error


def bookmark(con: duckdb.DuckDBPyConnection) -> int:
    """The last event that this connection sees in the tables."""
    found = con.execute("SELECT seq FROM store.main._projection_bookmarks WHERE name = 'events'").fetchone()
    return int(found[0]) if found else 0


def _fetch(
    con: duckdb.DuckDBPyConnection,
    judged: Judgement,
    params: Sequence[Any] | Mapping[str, Any] | None,
    count: int,
) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
    try:
        con.execute(judged.sql, params) if params else con.execute(judged.sql)
        columns = [(str(name), str(kind)) for name, kind, *_ in con.description or ()]
        if any("TIME ZONE" in kind for _, kind in columns) and not judged.explain:
            casts = _casts(columns)
            con.execute(f"SELECT {casts} FROM ({judged.sql}) AS t({_names(columns)})", params or None)
        return columns, con.fetchmany(count)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, TypeError, ValueError, RuntimeError) as error:
        raise refusal(error) from error


def _names(columns: list[tuple[str, str]]) -> str:
    return ", ".join(f"c{n}" for n in range(len(columns)))


def _casts(columns: list[tuple[str, str]]) -> str:
    """The same columns without time zones, which Python could only read with another package."""
    return ", ".join(
        f"c{n} AT TIME ZONE 'UTC'"
        if kind == "TIMESTAMP WITH TIME ZONE"
        else f"c{n}::VARCHAR"
        if "TIME ZONE" in kind
        else f"c{n}"
        for n, (_, kind) in enumerate(columns)
    )
