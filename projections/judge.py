"""Which queries may run: exactly one SELECT, over tables that are there, with functions that only compute.

DuckDB's own parser judges: the statement is read into a tree and the tree is walked.  Access to files and to
the network is shut off in the database as well; this is the second lock, and the one that can explain itself.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import duckdb
import msgspec

from events.errors import SqlError

TABLE_FUNCTIONS = frozenset(
    {
        "range",
        "generate_series",
        "unnest",
        "json_each",
        "json_tree",
        "repeat",
        "repeat_row",
        "histogram",
        "histogram_values",
        "duckdb_tables",
        "duckdb_columns",
        "duckdb_views",
        "duckdb_functions",
        "duckdb_types",
        "duckdb_keywords",
        "duckdb_constraints",
        "pragma_table_info",
        "pragma_show",
        "pragma_version",
    }
)
"""Functions that may stand in FROM."""

FORBIDDEN = frozenset(
    {
        "getenv",
        "current_setting",
        "query",
        "query_table",
        "json_execute_serialized_sql",
        "nextval",
        "setseed",
        "write_log",
        "sleep_ms",
        "glob",
        "which_secret",
        "getvariable",
    }
)
"""Functions that reach outside the query, or run a text as SQL."""
FORBIDDEN_SHAPES = re.compile(
    r"quack_\w*|read_\w*|\w+_scan|duckdb_\w+|pragma_\w+|http_\w*|sniff_csv|force_checkpoint"
)
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?(?!\()", re.IGNORECASE)

_HINTS = (
    (
        r"Referenced column .by. not found|syntax error at or near \"by\"",
        'the column named "by" needs double quotes',
    ),
    (r"Table with name", "SHOW TABLES lists the tables"),
    (r"Referenced column", "DESCRIBE <table> lists the columns of a table"),
    (r"Out of Memory", "let it look at fewer rows or columns"),
    (r"number of parameters|Values were not provided|Parameter .* not", "give params for every ? or $name"),
    (r"No operator matches.*JSON|Malformed JSON", "data->>'$.field' reads a field; put it in parentheses"),
)


class Judgement(NamedTuple):
    """A query that may run."""

    sql: str
    """Without a trailing semicolon."""
    tree: dict[str, Any]
    """The parsed SELECT, as `json_serialize_sql` gives it."""
    tables: tuple[tuple[str, str], ...]
    """The tables it names, each with what it was qualified by; common table expressions are among them."""
    explain: bool


def judge(con: duckdb.DuckDBPyConnection, sql: str) -> Judgement:
    """Say whether a query may run; `SqlError` says why not."""
    text = sql.strip().rstrip(";").rstrip()
    match = _EXPLAIN.match(text)
    inner = text[match.end() :] if match else text
    try:
        found = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [inner]).fetchone()
    except duckdb.Error as error:
        raise refusal(error) from error
    answer = msgspec.json.decode(found[0] if found else "{}")
    if answer.get("error", True):
        if answer.get("error_type") == "parser":
            where = answer.get("position")
            place = f" (at character {int(where) + 1 + len(text) - len(inner)})" if where is not None else ""
            raise SqlError(
                f"Parser Error: {answer['error_message']}{place}", hint=_hint(answer["error_message"])
            )
        raise SqlError("only one SELECT, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN of them can run here", hint="")
    if len(answer["statements"]) != 1:
        raise SqlError("one statement at a time", hint="send them one after another")
    tree = answer["statements"][0]
    tables: dict[tuple[str, str], None] = {}
    for node in walk(tree):
        _check(node, tables)
    return Judgement(text, tree, tuple(tables), match is not None)


def _check(node: dict[str, Any], tables: dict[tuple[str, str], None]) -> None:
    match node.get("type"):
        case "TABLE_FUNCTION" if "function" in node:
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise SqlError(
                    f"the function {name} may not be used in FROM", hint="SHOW TABLES lists the tables"
                )
            node["function"]["in_from"] = True
        case "BASE_TABLE":
            place = ".".join(filter(None, (node.get("catalog_name"), node.get("schema_name"))))
            tables[node["table_name"].lower(), place.lower()] = None
        case _:
            pass
    if "function_name" in node and not node.get("in_from"):
        name = str(node["function_name"]).lower()
        if name in FORBIDDEN or FORBIDDEN_SHAPES.fullmatch(name):
            raise SqlError(f"the function {name} may not be used", hint="queries only read the tables")


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a parsed query, the outer before the inner."""
    if isinstance(value, dict):
        node = cast(dict[str, Any], value)
        yield node
        for each in node.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in cast(list[Any], value):
            yield from walk(each)


def refusal(error: Exception) -> SqlError:
    """DuckDB's complaint as a refusal, with a hint where one is known."""
    message = str(error).split("\n\nLINE ", 1)[0].strip()
    return SqlError(message, hint=_hint(message))


def _hint(message: str) -> str:
    return next((hint for pattern, hint in _HINTS if re.search(pattern, message)), "")
