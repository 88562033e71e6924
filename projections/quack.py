"""The live tables for any DuckDB client: `ATTACH 'quack:localhost:PORT' AS brain (TOKEN '...')`.

DuckDB's quack extension serves the database that the projector itself uses.  What keeps it read-only is
the authorization function, a macro that sees every query before it runs: the parser must find exactly one
SELECT in it, with no function that reaches outside; the catalog queries of ATTACH are such SELECTs too.
Files and the network are shut off in the database besides.  Only this machine is listened to, and the token
is random.

A plain ATTACH pushes nothing down and cannot join, so `FROM brain.query('SELECT ...')`, which runs here, is
the better way to ask.
`stdout` and `stderr` are null on this way.  Needs the extra `hindbrain[duckdb]`; measured with quack 1.5.5.
"""

import importlib
import secrets
import socket
from pathlib import Path
from typing import NamedTuple

import duckdb

from events.errors import Unavailable
from projections.judge import FORBIDDEN, FORBIDDEN_SHAPES, TABLE_FUNCTIONS
from projections.projection import quoted
from projections.store import Store

_OPEN = ("duckdb_schemas", "duckdb_databases", "duckdb_indexes", "duckdb_sequences", "pragma_database_list")
"""What the catalog queries of ATTACH use beside the functions that everybody may use."""


class Served(NamedTuple):
    """Where a client finds the tables."""

    uri: str
    token: str


def extension(name: str) -> Path:
    """The extension's file in its wheel; `Unavailable` when the extra is not installed."""
    try:
        module = importlib.import_module(f"duckdb_extension_{name}")
    except ImportError as error:
        raise Unavailable(f"quack needs the extra hindbrain[duckdb]: {error}") from error
    for folder in map(Path, module.__path__):
        for file in sorted(folder.glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension")):
            return file
    raise Unavailable(f"the wheel of {name} has no extension for DuckDB {duckdb.__version__}")


def load(con: duckdb.DuckDBPyConnection) -> None:
    """Load the extensions a client or a server needs."""
    for name in ("httpfs", "quack"):
        con.execute(f"LOAD {quoted(str(extension(name)))}")


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make a database ready to be served; give it to `Store(prepare=...)`, because later it is locked."""
    load(con)
    con.execute(f"CREATE OR REPLACE MACRO _gate(session, query) AS {_gate('query::VARCHAR')}")
    con.execute("SET GLOBAL quack_authorization_function = '_gate'")


def serve(store: Store, port: int = 0) -> Served:
    """Serve a store that was opened with `prepare`; port 0 takes a free one."""
    uri = f"quack:localhost:{port or _free()}"
    token = secrets.token_urlsafe(32)
    cursor = store.cursor()
    try:
        gate = cursor.execute("SELECT current_setting('quack_authorization_function')").fetchone()
        if gate != ("_gate",):
            raise Unavailable("the store was not opened for quack")
        cursor.execute(f"CALL quack_serve({quoted(uri)}, token = {quoted(token)})").fetchall()
    except duckdb.Error as error:
        raise Unavailable(f"quack cannot serve: {error}") from error
    finally:
        cursor.close()
    return Served(uri, token)


def stop(store: Store, served: Served) -> None:
    """Serve no longer."""
    cursor = store.cursor()
    try:
        cursor.execute(f"CALL quack_stop({quoted(served.uri)})").fetchall()
    finally:
        cursor.close()


def _gate(query: str) -> str:
    """The judgement of `projections.judge` once more, as SQL that gives the query or an error."""
    tree = f"json_serialize_sql({query})"
    named = f"list_transform(json_extract_string({tree}, '$..function_name'), lambda f: lower(f))"
    inside = f"list_transform(json_extract_string({tree}, '$..function.function_name'), lambda f: lower(f))"
    allowed = "[" + ", ".join(map(quoted, sorted({*TABLE_FUNCTIONS, *_OPEN}))) + "]"
    forbidden = "[" + ", ".join(map(quoted, sorted(FORBIDDEN))) + "]"
    shape = quoted(FORBIDDEN_SHAPES.pattern)
    return (
        f"CASE WHEN ({tree}->>'$.error') = 'false' AND json_array_length({tree}, '$.statements') = 1"
        f" AND list_has_all({allowed}, {inside}) AND NOT list_has_any({forbidden}, {named})"
        f" AND len(list_filter({named}, lambda f: regexp_full_match(f, {shape})"
        f" AND NOT list_contains({allowed}, f))) = 0"
        f" THEN {query} ELSE error('only one SELECT over the tables may run here') END"
    )


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
