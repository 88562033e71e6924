# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""The one owner of the projections' file: it follows the log in lots and never runs ahead of itself.

A lot is stored, folded and bookmarked in one transaction.  Inside the process the file is attached as
`store`, with a leading underscore before every table; the database that queries see holds nothing but views.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from events.errors import Damaged, Unavailable
from events.ports import Chunk
from projections import loose
from projections.anew import anew
from projections.artifacts import ARTIFACTS, WORKSPACES
from projections.attempts import ATTEMPTS
from projections.decisions import DECISIONS
from projections.executions import DEAD_LETTERS, EXECUTIONS
from projections.findings import FINDINGS
from projections.loose import Sample
from projections.modules import MODULES, PLUGINS, WORKERS
from projections.nodes import NODES
from projections.plans import PLAN_STEPS, PLANS
from projections.playbooks import PLAYBOOKS
from projections.projection import Projection, Selection
from projections.record import Record
from projections.standing import LIMITS, SCHEDULES, TEMPLATES
from projections.tasks import TABLES

PROJECTIONS: tuple[Projection, ...] = (
    EXECUTIONS,
    ATTEMPTS,
    PLANS,
    PLAN_STEPS,
    SCHEDULES,
    LIMITS,
    TEMPLATES,
    ARTIFACTS,
    WORKSPACES,
    *PLAYBOOKS,
    *TABLES,
    NODES,
    FINDINGS,
    MODULES,
    WORKERS,
    PLUGINS,
    DECISIONS,
)
KEPT = tuple(each for each in PROJECTIONS if each.kept)
SELECTIONS: tuple[Selection, ...] = (DEAD_LETTERS,)
EVENTS_VERSION = 1
EVENTS = '"seq", "id", "time", "kind", "entity", "n", "event", "cause", "by", "prev", "trace", "data"'
LOT_BYTES = 16 * 1024 * 1024
"""A lot with more bytes of bodies than this is applied in several transactions."""

_EVENTS_DDL = (
    "(seq BIGINT, id VARCHAR, time TIMESTAMP, kind VARCHAR, entity VARCHAR, n BIGINT, event VARCHAR,"
    ' cause VARCHAR, "by" VARCHAR, prev VARCHAR, trace VARCHAR, data JSON, tail VARCHAR, stored_at TIMESTAMP)'
)
_BOOKMARKS_DDL = "(name VARCHAR PRIMARY KEY, version BIGINT, seq BIGINT, hash VARCHAR, time TIMESTAMP)"
_LOT = "(SELECT unnest(from_json(?, '[[\"VARCHAR\"]]')) AS r)"


def _insert(data: str) -> str:
    texts = ", ".join(f"r[{n}]" for n in range(8, 12))
    return (
        "INSERT INTO store._events SELECT r[1]::BIGINT, r[2], TRY_CAST(r[3] AS TIMESTAMP), r[4], r[5],"
        f" TRY_CAST(r[6] AS BIGINT), r[7], {texts}, {data}, r[13], TRY_CAST(r[14] AS TIMESTAMP) FROM {_LOT}"
    )


_FAST = _insert("r[12]::JSON")
_SAFE = _insert("CASE WHEN json_valid(r[12]) THEN r[12]::JSON ELSE to_json(r[12]) END")

_NONE: frozenset[str] = frozenset()
_log = logging.getLogger(__name__)


class Bookmark(NamedTuple):
    """How far the tables are: the sequence of the last event in them, and its chain hash."""

    seq: int
    hash: str


class Store:
    """Open or create the file; one that cannot be opened is moved aside, and `moved` says where.

    `memory` bounds all of DuckDB in this process.  It has one thread: with two, one spins while the other
    works, and a lot costs half as much again.  `prepare` gets the connection before file access is shut off
    for good.  A part of a log (not `whole`) has gaps.  `Unavailable` when another process holds the file.
    """

    def __init__(
        self,
        path: Path,
        logs: Path | None = None,
        memory: str | None = None,
        prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
        whole: bool = True,
    ) -> None:
        self._whole = whole
        self.path, self.logs, self.moved = path, logs, None
        self._lock = threading.RLock()
        memory = memory or cap()
        self._settings = {"memory_limit": memory, "threads": 1, "temp_directory": f"{path}.tmp"}
        self.folded: list[str] = []
        """Tables that were folded anew when the store opened."""
        try:
            self._open(prepare)
        except duckdb.OutOfMemoryException as error:
            raise Unavailable(f"{path} cannot be folded in {memory} of memory: {error}") from error
        except duckdb.Error as error:
            if "Conflicting lock" in str(error):
                raise Unavailable(f"{path} is held by another process") from error
            self.moved: Path | None = _aside(path)
            _log.error("%s cannot be read and was moved to %s: %s", path, self.moved, error)
            self._open(prepare)

    def _open(self, prepare: Callable[[duckdb.DuckDBPyConnection], None] | None) -> None:
        self._root = connect(self._settings)
        try:
            self._root.execute(f"ATTACH '{str(self.path).replace(chr(39), chr(39) * 2)}' AS store")
            self.path.chmod(0o600)
            self._con = self._root.cursor()
            self._create()
            self._mark = self._read()
            self._views()
            if prepare is not None:
                _prepare(self._root, prepare)
            self._root.execute("SET enable_external_access = false")
            self._root.execute("SET lock_configuration = true")
            self._upgrade()
        except BaseException:
            self._root.close()
            raise

    def close(self) -> None:
        """Let go of the file; twice is once."""
        with self._lock:
            self._con.close()
            self._root.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own, for one thread."""
        with self._lock:
            return self._root.cursor()

    # ---- following the log -------------------------------------------------------------------------------

    def bookmark(self) -> Bookmark:
        """How far the tables are; sequence 0 when they are empty."""
        return self._mark

    def apply(self, lot: Sequence[Record]) -> Bookmark:
        """Take in events in stream order, all or none of each piece; what is known already is skipped.

        `Damaged` when an event is missing before one of them: nothing from the gap on is taken in.
        """
        with self._lock:
            for piece in _pieces(record for record in lot if record.seq > self._mark.seq):
                self._apply(piece)
            return self._mark

    def _apply(self, piece: list[Record]) -> None:
        wanted = self._mark.seq + 1
        for record in piece:
            if record.seq != wanted and (self._whole or record.seq < wanted):
                raise Damaged(
                    f"the log has a gap: event {wanted} is missing before {record.seq}",
                    missing=wanted,
                    found=record.seq,
                )
            wanted = record.seq + 1
        rows = msgspec.json.encode([record.row for record in piece]).decode()
        try:
            self._commit(piece, rows, _FAST)
        except duckdb.ConversionException:
            _log.warning("events %d to %d: a body is no JSON", piece[0].seq, piece[-1].seq)
            self._commit(piece, rows, _SAFE)

    def _commit(self, piece: list[Record], rows: str, insert: str) -> None:
        low, high = str(piece[0].seq), str(piece[-1].seq)
        seen: dict[str, set[str]] = {}
        for record in piece:
            _, _, kind, _, _, name, *_ = (record.subject + "......").split(".", 6)
            seen.setdefault(kind, set()).add(name)
        with self._transaction() as con:
            con.execute(insert, [rows])
            for projection in KEPT:
                names = seen.get(projection.kind, _NONE)
                if not names.isdisjoint(projection.events):
                    table = f"store.{projection.table}"
                    merged = projection.merge("store._events", low, high, table, names)
                    con.execute(f"INSERT OR REPLACE INTO {table} BY NAME {merged}")
            mark = Bookmark(piece[-1].seq, piece[-1].hash)
            con.execute(
                "UPDATE store._projection_bookmarks SET seq = ?, hash = ?, time = TRY_CAST(? AS TIMESTAMP)",
                [*mark, piece[-1].time],
            )
        self._mark = mark

    @contextlib.contextmanager
    def _transaction(self) -> Generator[duckdb.DuckDBPyConnection]:
        """One transaction; after any error it is taken back and the bookmark read again.

        A COMMIT after an error answers normally and writes nothing, so an error must never reach it.
        """
        self._con.execute("BEGIN TRANSACTION")
        try:
            yield self._con
            self._con.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.TransactionException):  # the error may have ended it already
                self._con.execute("ROLLBACK")
            self._mark = self._read()
            raise

    # ---- what is not in the log --------------------------------------------------------------------------

    def usage(self, samples: Sequence[Sample]) -> None:
        """Take in samples of what executions use."""
        with self._lock, self._transaction() as con:
            loose.add_samples(con, samples)

    def output(self, chunks: Iterable[Chunk]) -> None:
        """Take in how much output there is; the output itself stays in the log files."""
        with self._lock, self._transaction() as con:
            loose.add_output(con, chunks)

    # ---- folding anew ------------------------------------------------------------------------------------

    def rebuild(self, *projections: Projection) -> None:
        """Fold tables anew from the `events` table, all of them unless some are named."""
        with self._lock, self._transaction() as con:
            for projection in projections or KEPT:
                anew(con, projection)
            self._sign(con, projections or KEPT)

    def _sign(self, con: duckdb.DuckDBPyConnection, projections: Iterable[Projection]) -> None:
        """Note that tables are as far as the events are."""
        versions = {each.name: each.version for each in projections}
        con.execute(
            "INSERT OR REPLACE INTO store._projection_bookmarks SELECT unnest(?), unnest(?), seq, hash, time"
            " FROM store._projection_bookmarks WHERE name = 'events'",
            [list(versions), list(versions.values())],
        )

    def row(self, table: str, entity: str) -> dict[str, Any] | None:
        """One row of a folded table by its id, as the public columns have it; None when there is none."""
        projection = next(each for each in PROJECTIONS if each.name == table)
        cursor = self.cursor()
        try:
            cursor.execute(f"SELECT * FROM ({_view(projection, 'store.')}) WHERE id = ?", [entity])
            row = cursor.fetchone()
            return None if row is None else dict(zip(projection.public, row, strict=True))
        finally:
            cursor.close()

    # ---- opening -----------------------------------------------------------------------------------------

    def _create(self) -> None:
        con = self._con
        new = con.execute("SELECT 1 FROM duckdb_tables() WHERE database_name = 'store'").fetchone() is None
        con.execute(f"CREATE TABLE IF NOT EXISTS store._projection_bookmarks {_BOOKMARKS_DDL}")
        con.execute(f"CREATE TABLE IF NOT EXISTS store._events {_EVENTS_DDL}")
        con.execute(
            "INSERT OR IGNORE INTO store._projection_bookmarks VALUES ('events', ?, 0, '', NULL)",
            [EVENTS_VERSION],
        )
        for name, ddl in loose.TABLES.items():
            con.execute(f"CREATE TABLE IF NOT EXISTS store._{name} {ddl}")
        for projection in KEPT:
            con.execute(f"CREATE TABLE IF NOT EXISTS store.{projection.table} {projection.ddl}")
        if new:
            self._sign(con, KEPT)
        found = con.execute(
            "SELECT version FROM store._projection_bookmarks WHERE name = 'events'"
        ).fetchone()
        if found != (EVENTS_VERSION,):
            raise duckdb.IOException(f"its events are of version {found}, not {EVENTS_VERSION}")
        week = datetime.now(UTC) - timedelta(days=loose.KEEP_DAYS)
        loose.drop_samples(con, week.replace(tzinfo=None).isoformat())

    def _upgrade(self) -> None:
        marks = self._con.execute("SELECT name, version, seq FROM store._projection_bookmarks").fetchall()
        known = {name: (version, seq) for name, version, seq in marks}
        old = [each for each in KEPT if known.get(each.name) != (each.version, self._mark.seq)]
        if old:
            self.folded = [projection.name for projection in old]
            self.rebuild(*old)

    def _views(self) -> None:
        """Say what the public tables are, in the database of the queries and in the file itself."""
        for place in ("memory.main", "store.main"):
            for name, body in views("store.main.").items():
                text = body if place == "memory.main" else body.replace("store.main.", "")
                self._con.execute(f"CREATE OR REPLACE VIEW {place}.{name} AS {text}")

    def _read(self) -> Bookmark:
        found = self._con.execute(
            "SELECT seq, hash FROM store._projection_bookmarks WHERE name = 'events'"
        ).fetchone()
        return Bookmark(*found) if found else Bookmark(0, "")


def cap() -> str:
    """How much memory DuckDB may use: a sixteenth of the machine's, at least 512 MB and at most 2 GB.

    The key of a table with three million executions takes 240 MB, and while it is folded anew there are two.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(max(machine // 16, 512 * 10**6), 2 * 10**9) // 10**6}MB"


def connect(settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that loads nothing by itself and takes every time as UTC."""
    con = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "preserve_insertion_order": False,
            # At its usual 16 MB it writes the tables out so often that this is half of what a commit costs.
            "checkpoint_threshold": "64MB",
            **settings,
        },
    )
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return con


def views(prefix: str) -> dict[str, str]:
    """The public tables by name, in SQL over the tables that lie behind them."""
    found = {"events": f"SELECT {EVENTS} FROM {prefix}_events"}
    found |= {each.name: _view(each, prefix) for each in PROJECTIONS}
    found |= {each.name: each.view(prefix + each.of.table) for each in SELECTIONS}
    return found | {
        name: f"SELECT * FROM {prefix}_{name}" for name in (*loose.TABLES, "projection_bookmarks")
    }


def _view(projection: Projection, prefix: str) -> str:
    rows = f"{prefix}{projection.table}" if projection.kept else f"({projection.fold(f'{prefix}_events')})"
    return projection.view(f"{rows} r", others=lambda name: f"{prefix}_{name}")


def _pieces(records: Iterable[Record]) -> Iterable[list[Record]]:
    piece: list[Record] = []
    size = 0
    for record in records:
        piece.append(record)
        size += len(record.body)
        if size > LOT_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _prepare(con: duckdb.DuckDBPyConnection, prepare: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
    """Let somebody add to the database; what fails there is no damage to the file."""
    try:
        prepare(con)
    except duckdb.Error as error:
        raise Unavailable(f"the database cannot be prepared: {error}") from error


def _aside(path: Path) -> Path:
    """Move a file and its write-ahead log out of the way; nothing is deleted."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    target = path.with_name(f"{path.name}.broken-{stamp}")
    for suffix in ("", ".wal"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    return target
