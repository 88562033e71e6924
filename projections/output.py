# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""What executions wrote, as the columns `stdout` and `stderr`: read from the log files only when asked for.

DuckDB may open no file here, so this is done around it.  A query that only shows the columns gets
placeholders, and the files of the rows that came out are read at the end.  A query that computes with
them (`WHERE stdout LIKE ...`) has the files of its candidates read first: the executions that the rest of its
WHERE leaves.
"""

import copy
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import duckdb
import msgspec

from events.errors import SqlError
from projections import timeline
from projections.executions import EXECUTIONS
from projections.judge import Judgement, walk

SHOWN = 1024 * 1024
"""At most so many bytes of a stream are read, from its beginning."""
SEARCHED = 64 * 1024 * 1024
"""A query that computes with output looks at no more than so many bytes of it."""
FILES = 20_000
"""... and at no more executions than this."""

STREAMS = ("stdout", "stderr")
_PLAIN = ("COMPARISON", "CONJUNCTION", "CONSTANT", "COLUMN_REF", "OPERATOR", "FUNCTION", "BETWEEN", "CAST")


class Output:
    """The output columns of one query."""

    def __init__(
        self,
        logs: Path | None,
        past: int | None,
        judged: Judgement,
        params: Sequence[Any] | Mapping[str, Any] | None,
    ) -> None:
        self._logs = logs.resolve() if logs else None
        self._judged, self._params = judged, params
        table = f"store.main.{EXECUTIONS.table}"
        self._rows = table if past is None else timeline.rows(EXECUTIONS, past)
        self._past = past is not None
        self._mark = secrets.token_hex(16)
        self._pattern = re.compile(rf"{self._mark}:(\w+):(\d*):([^\0]*)\0")
        self._filled = False

    def prepare(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """The view that takes the place of `executions` for this query; none when output is not asked for."""
        if self._logs is None or self._judged.explain or not _asked(self._judged):
            return {}
        if _shown_only(self._judged.tree):
            self._filled = True
            return {
                "executions": EXECUTIONS.view(self._rows, {name: self._placeholder(name) for name in STREAMS})
            }
        self._search(con)
        extras = {name: f"(SELECT o.{name} FROM temp._output o WHERE o.id = r.id)" for name in STREAMS}
        return {"executions": EXECUTIONS.view(f"{self._rows} r", extras)}

    def fill(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the text where its placeholders stand."""
        return tuple(self._fill(value) for value in row) if self._filled else row

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            match = self._pattern.fullmatch(value)
            return self._read(match[3], match[1], int(match[2]) if match[2] else None) if match else value
        if isinstance(value, dict):
            return {key: self._fill(each) for key, each in cast(dict[str, Any], value).items()}
        if isinstance(value, list):
            return [self._fill(each) for each in cast(list[Any], value)]
        return value

    def _placeholder(self, stream: str) -> str:
        size = f"coalesce({stream}_bytes::VARCHAR, '')" if self._past else "''"
        return f"'{self._mark}:{stream}:' || {size} || ':' || log_path || chr(0)"

    def _read(self, path: str, stream: str, size: int | None) -> str | None:
        """The beginning of a log file, wherever its folder was when it was written; None when it is gone."""
        if not path.endswith("_stdout.log") or self._logs is None:
            return None
        file = self._logs / f"{Path(path).name.removesuffix('_stdout.log')}_{stream}.log"
        try:
            with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as log:
                return log.read(SHOWN if size is None else min(size, SHOWN)).decode(errors="replace")
        except OSError:
            return None

    def _search(self, con: duckdb.DuckDBPyConnection) -> None:
        candidates = self._candidates(con)
        if len(candidates) > FILES or sum(min(size, SHOWN) for *_, size in candidates) > SEARCHED:
            raise SqlError(
                f"too much output to look through ({len(candidates)} executions)",
                hint="narrow it in WHERE: id, created_at, status, module, ...",
            )
        con.execute("CREATE OR REPLACE TEMP TABLE _output (id VARCHAR, stdout VARCHAR, stderr VARCHAR)")
        lot: list[tuple[str, str | None, str | None]] = []
        total = 0
        for entity, path, out, err, _ in candidates:
            row = (
                entity,
                self._read(path, "stdout", out if self._past else None),
                self._read(path, "stderr", err if self._past else None),
            )
            total += sum(len(text) for text in row[1:] if text)
            lot.append(row)
            if total > 4 * SHOWN:
                _store(con, lot)
                lot, total = [], 0
        _store(con, lot)

    def _candidates(self, con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int, int, int]]:
        """Executions that may matter: all with output that the other conditions of the query leave."""
        seen = EXECUTIONS.view(self._rows, dict.fromkeys(STREAMS, "NULL::VARCHAR"))
        shown = f"{seen[:7]}log_path AS _path, {seen[7:]}"
        node = self._judged.tree["node"]
        where, alias = "true", "executions"
        if node.get("type") == "SELECT_NODE" and _is_executions(node.get("from_table")):
            alias = node["from_table"]["alias"] or alias
            where = self._where(con, node.get("where_clause"))
        quoted = '"' + alias.replace('"', '""') + '"'
        return con.execute(
            "SELECT id, _path, stdout_bytes, stderr_bytes, stdout_bytes + stderr_bytes"
            f" FROM ({shown}) AS {quoted} WHERE _path IS NOT NULL AND ({where})"
        ).fetchall()

    def _where(self, con: duckdb.DuckDBPyConnection, clause: dict[str, Any] | None) -> str:
        """The conditions of a WHERE that do not speak of output; to leave one out only widens the search."""
        if clause is None:
            return "true"
        parts = clause["children"] if clause.get("type") == "CONJUNCTION_AND" else [clause]
        kept: list[str] = []
        for part in parts:
            bound = self._bound(copy.deepcopy(part))
            if bound is None:
                continue
            tree = _template(con)
            tree["statements"][0]["node"]["where_clause"] = bound
            found = con.execute("SELECT json_deserialize_sql(?::JSON)", [msgspec.json.encode(tree).decode()])
            text = str((found.fetchone() or [""])[0])
            kept.append("(" + text.partition(" WHERE ")[2] + ")")
        return " AND ".join(kept) or "true"

    def _bound(self, part: dict[str, Any]) -> dict[str, Any] | None:
        """A condition with its parameters filled in; None when it cannot be judged by itself."""
        for each in walk(part):
            if each.get("class") == "PARAMETER":
                value = self._param(each["identifier"])
                if not isinstance(value, str):
                    return None
                kind = {"id": "VARCHAR", "type_info": None}
                constant = {"type": kind, "is_null": False, "value": value}
                each.pop("identifier")
                each |= {"class": "CONSTANT", "type": "VALUE_CONSTANT", "value": constant}
            elif "class" in each and each["class"] not in _PLAIN:
                return None
            if set(STREAMS) & {str(name).lower() for name in each.get("column_names", ())}:
                return None
            if each.get("class") == "COLUMN_REF" and each["column_names"][-1].lower() == "executions":
                return None
        return part

    def _param(self, identifier: str) -> Any:
        if isinstance(self._params, Mapping):
            return self._params.get(identifier)
        if self._params and identifier.isdigit() and 0 < int(identifier) <= len(self._params):
            return self._params[int(identifier) - 1]
        return None


def _store(con: duckdb.DuckDBPyConnection, lot: list[tuple[str, str | None, str | None]]) -> None:
    rows = "(SELECT unnest(from_json(?, '[[\"VARCHAR\"]]')) AS r)"
    con.execute(
        f"INSERT INTO temp._output SELECT r[1], r[2], r[3] FROM {rows}", [msgspec.json.encode(lot).decode()]
    )


def _template(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    found = con.execute("SELECT json_serialize_sql('SELECT 1 FROM t WHERE true')").fetchone()
    return msgspec.json.decode((found or ["{}"])[0])


def _is_executions(table: dict[str, Any] | None) -> bool:
    return bool(table) and table.get("type") == "BASE_TABLE" and table["table_name"].lower() == "executions"


def _names_output(node: dict[str, Any]) -> bool:
    names = {str(name).lower() for name in node.get("column_names", ())}
    return node.get("class") == "COLUMN_REF" and bool(names & set(STREAMS))


def _asked(judged: Judgement) -> bool:
    """Whether a query could see output at all."""
    if all(table != "executions" for table, _ in judged.tables):
        return False
    aliases = {"executions"} | {
        str(node["alias"]).lower()
        for node in walk(judged.tree)
        if node.get("type") == "BASE_TABLE" and node["alias"]
    }
    describing = [node for node in walk(judged.tree) if node.get("type") == "SHOW_REF"]
    if any(node.get("show_type") != "SUMMARY" for node in describing):
        return False
    return any(
        node.get("class") == "STAR"
        or _names_output(node)
        or (node.get("class") == "COLUMN_REF" and str(node["column_names"][-1]).lower() in aliases)
        or set(STREAMS) & {str(name).lower() for name in node.get("using_columns") or ()}
        or node.get("ref_type") == "NATURAL"
        for node in walk(judged.tree)
    )


def _shown_only(tree: dict[str, Any]) -> bool:
    """Whether output only passes through: it is among what is selected, and nothing is done with it."""
    top = tree["node"]
    if top.get("type") != "SELECT_NODE" or top.get("aggregate_handling") != "STANDARD_HANDLING":
        return False
    shown = [id(each) for each in top["select_list"]]
    tables = {"executions"}
    for node in walk(tree):
        if node.get("type") in ("SET_OPERATION_NODE", "DISTINCT_MODIFIER", "SHOW_REF", "PIVOT"):
            return False
        if node.get("type") == "RECURSIVE_CTE_NODE" or node.get("ref_type") == "NATURAL":
            return False
        if (
            node.get("using_columns")
            or node.get("column_name_alias")
            or node.get("class") == "POSITIONAL_REFERENCE"
        ):
            return False
        if node.get("class") == "STAR" and (node.get("columns") or node.get("expr")):
            return False
        if node.get("type") == "BASE_TABLE" and node.get("alias"):
            tables.add(str(node["alias"]).lower())
        if node.get("type") == "ORDER_MODIFIER" and any(
            order["expression"].get("class") in ("CONSTANT", "STAR") for order in node["orders"]
        ):
            return False
        if _names_output(node) and id(node) not in shown:
            return False
        if any(each.get("class") == "CONSTANT" for each in node.get("group_expressions") or ()):
            return False
    return not any(
        node.get("class") == "COLUMN_REF" and str(node["column_names"][-1]).lower() in tables
        for node in walk(tree)
    )
