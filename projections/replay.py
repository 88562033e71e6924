"""A copy of the tables for anybody: a log folded into a fresh DuckDB file that any DuckDB can read."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from events.errors import Conflict
from projections.record import Record
from projections.store import Bookmark, Store

LOT = 10_000


def into(path: Path, records: Iterable[Record], whole: bool = True) -> Bookmark:
    """Fold a log from its first event into a new file; `stdout` and `stderr` are null in it.

    `Conflict` when the file is there already, `Damaged` when the log has a gap; in a part of a log (not
    `whole`) there are gaps.
    """
    if path.exists():
        raise Conflict(f"{path} exists already")
    store = Store(path, whole=whole)
    try:
        rest = iter(records)
        while lot := list(islice(rest, LOT)):
            store.apply(lot)
        return store.bookmark()
    finally:
        store.close()
