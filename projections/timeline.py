# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""The tables as they were: the same declarations, folded only up to an event of the past."""

import duckdb

from events.errors import SqlError
from projections.judge import Judgement
from projections.loose import TABLES
from projections.projection import Projection
from projections.store import EVENTS, PROJECTIONS, SELECTIONS

EXEMPT = (*TABLES, "projection_bookmarks")
"""Tables without a past: they are not folded from the log."""


def resolve(con: duckdb.DuckDBPyConnection, seq: int | None, at: str | None, known: int) -> int:
    """The event that a moment of the past means, itself included.

    A time means the last event before the stream's clock (the latest time seen so far, so that a node whose
    clock is behind moves nothing) passed it.
    """
    if seq is not None and at is not None:
        raise SqlError("seq and at: give one of them", hint="")
    if seq is not None:
        if seq > known:
            raise SqlError(
                f"the tables know events up to {known}, not {seq}", hint="ask with min_seq to wait"
            )
        return max(0, seq)
    try:
        found = con.execute(
            "SELECT min(seq) - 1 FROM store.main._events"
            " WHERE coalesce(stored_at, time) > (?::TIMESTAMPTZ AT TIME ZONE 'UTC')",
            [at],
        ).fetchone()
    except duckdb.ConversionException as error:
        raise SqlError(f"{at!r} is no time", hint="write 2026-01-31T12:00:00Z") from error
    return known if found is None or found[0] is None else min(found[0], known)


def check(judged: Judgement) -> None:
    """Refuse what has no past, and names that would lead around the bounded views."""
    for table, place in judged.tables:
        if place and not place.endswith(("information_schema", "pg_catalog")):
            raise SqlError(f"{place}.{table}: leave {place!r} out when asking about the past", hint="")
        if table in EXEMPT:
            raise SqlError(
                f"{table} has no past: it is not folded from the log", hint="ask without seq and at"
            )


def views(seq: int) -> dict[str, str]:
    """The public tables as of an event, in SQL."""
    events = f"SELECT {EVENTS} FROM store.main._events WHERE seq <= {int(seq)}"
    past = {each.name: rows(each, seq) for each in PROJECTIONS}
    found = {each.name: each.view(f"{past[each.name]} r", others=past.__getitem__) for each in PROJECTIONS}
    found |= {each.name: each.view(past[each.of.name]) for each in SELECTIONS}
    return {"events": events} | found


def rows(projection: Projection, seq: int) -> str:
    """The rows of a folded table as of an event, hidden columns too, in SQL."""
    return f"({projection.fold('store.main._events', high=str(int(seq)))})"
