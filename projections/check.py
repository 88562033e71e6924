# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""Are the tables true?  Each is compared with a new fold of the events, and the events with their chain."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from projections.projection import Projection
from projections.record import HASH, SUBJECT, Record
from projections.store import KEPT, PROJECTIONS, Store

LOT = 10_000


class Difference(NamedTuple):
    """The first place where a table is not what it should be."""

    table: str
    key: str
    """The id of the row, or the sequence of the event."""
    text: str
    """What is wrong there, as a sentence."""


def verify(store: Store, records: Iterable[Record] | None = None) -> list[Difference]:
    """Compare everything; the first difference of each table, none when all is well.

    With `records`, a log from its first event, the `events` table is compared with it too.
    """
    found = [gap(store), chain(store), *(compare(store, projection) for projection in KEPT)]
    if records is not None:
        found.append(_log(store, records))
    return [difference for difference in found if difference is not None]


def fingerprint(store: Store, table: str, anew: bool = False) -> str:
    """A hash over the rows of a folded table in the order of their ids; `anew`: over a new fold.

    Two stores that followed the same log have the same fingerprints.
    """
    projection = next(each for each in PROJECTIONS if each.name == table)
    names = ", ".join(f'"{name}"' for name in projection.names)
    source = f"({projection.fold('store.main._events')})" if anew else f"store.main.{projection.table}"
    rows = f"SELECT id, md5(row({names})::VARCHAR) AS h FROM {source}"
    found = _one(store, f"SELECT count(*), md5(coalesce(string_agg(h, '' ORDER BY id), '')) FROM ({rows})")
    return f"{found[0]}:{found[1]}" if found else ""


def compare(store: Store, projection: Projection) -> Difference | None:
    """The first row of a table, by id, that is not what its events make."""
    kind = projection.kind
    if _one(store, f"SELECT 1 FROM store.main._events WHERE kind = '{kind}' LIMIT 1") is None:
        # To plan a fold takes longer than to see that there is nothing to fold.
        row = _one(store, f"SELECT id FROM store.main.{projection.table} ORDER BY 1 LIMIT 1")
        return None if row is None else Difference(projection.name, str(row[0]), "no event made this row")
    differs = " OR ".join(f'a."{name}" IS DISTINCT FROM b."{name}"' for name in projection.names)
    which = ", ".join(
        f'if(a."{name}" IS DISTINCT FROM b."{name}", \'{name}\', NULL)' for name in projection.names
    )
    found = _one(
        store,
        f"SELECT coalesce(a.id, b.id), a.id IS NULL, b.id IS NULL, array_to_string([{which}], ', ')"
        f" FROM store.main.{projection.table} a FULL JOIN ({projection.fold('store.main._events')}) b"
        f" ON a.id = b.id WHERE {differs} ORDER BY 1 LIMIT 1",
    )
    if found is None:
        return None
    key, missing, foreign, columns = found
    if missing:
        return Difference(projection.name, str(key), "the row is missing")
    if foreign:
        return Difference(projection.name, str(key), "no event made this row")
    return Difference(projection.name, str(key), f"not what the events say: {columns}")


def gap(store: Store) -> Difference | None:
    """The first event that is missing, or stored twice, in the `events` table."""
    counted = _one(store, "SELECT count(*), min(seq), max(seq), count(DISTINCT seq) FROM store.main._events")
    if counted is None or counted[0] == 0:
        return None
    count, low, high, distinct = counted
    if low == 1 and count == distinct == high == store.bookmark().seq:
        return None
    found = _one(
        store,
        "SELECT a.seq FROM store.main._events a ANTI JOIN store.main._events b ON b.seq = a.seq + 1"
        " ORDER BY a.seq LIMIT 1",
    )
    key = 1 if low != 1 or found is None else int(found[0]) + 1
    return Difference("events", str(key), f"{count} events from {low} to {high}: one is missing or double")


def chain(store: Store) -> Difference | None:
    """The first event whose `prev` is not the hash of its entity's event before, or whose version jumps."""
    found = _one(
        store,
        "SELECT a.seq, a.n, b.seq FROM store.main._events a LEFT JOIN"
        f" (SELECT kind, entity, n, seq, {HASH} AS hash FROM store.main._events) b"
        " ON b.kind = a.kind AND b.entity = a.entity AND b.n = a.n - 1"
        " WHERE (a.n = 1 AND a.prev <> '') OR (a.n > 1 AND (b.hash IS DISTINCT FROM a.prev OR b.seq > a.seq))"
        " ORDER BY a.seq LIMIT 1",
    )
    if found is None:
        return None
    seq, n, before = found
    text = (
        "its version before is missing"
        if n > 1 and before is None
        else "its prev is not the hash of the event before"
    )
    return Difference("events", str(seq), text)


def _log(store: Store, records: Iterable[Record]) -> Difference | None:
    """The first event that is not the same in the log and in the `events` table."""
    last = 0
    for lot in _lots(records):
        mine = _hashes(store, lot[0].seq, lot[-1].seq)
        for record in lot:
            last = record.seq
            if record.seq > store.bookmark().seq:
                return None
            if mine.get(record.seq) != (record.subject, record.hash):
                return Difference("events", str(record.seq), "the log says something else")
    if last < store.bookmark().seq:
        return Difference("events", str(last + 1), "the log has no such event")
    return None


def _lots(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while lot := list(islice(rest, LOT)):
        yield lot


def _hashes(store: Store, low: int, high: int) -> dict[int, tuple[str, str]]:
    cursor = store.cursor()
    try:
        cursor.execute(
            f"SELECT seq, {SUBJECT}, {HASH} FROM store.main._events WHERE seq BETWEEN ? AND ?", [low, high]
        )
        return {seq: (subject, found) for seq, subject, found in cursor.fetchall()}
    finally:
        cursor.close()


def _one(store: Store, sql: str) -> tuple[Any, ...] | None:
    cursor = store.cursor()
    try:
        return cursor.execute(sql).fetchone()
    finally:
        cursor.close()
