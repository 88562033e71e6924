# ruff: noqa: S608 -- SQL is made of our own words here; what users give travels as parameters
"""Looking for words in what ran: commands, descriptions, labels, errors, and what was written."""

from collections.abc import Awaitable, Callable
from typing import Any

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]

MOST = 50
"""Executions that are found at most, in each way."""
OUTPUT_BYTES, OUTPUT_EXECUTIONS = 48 * 1024 * 1024, 5000
"""So much output is looked through, of so many executions at most, the newest first."""

_BRIEF = "id, status, command, description, labels, error, created_at, started_at, completed_at, exit_code"
_SAID = f"""
SELECT {_BRIEF}, CASE
    WHEN contains(lower(id), $1) THEN 'id'
    WHEN contains(lower(coalesce(description, '')), $1) THEN 'description'
    WHEN contains(lower(coalesce(command, '')), $1) OR contains(lower(coalesce(code, '')), $1) THEN 'command'
    WHEN len(list_filter(labels, l -> contains(lower(l), $1))) > 0 THEN 'label'
    WHEN contains(lower(coalesce(error->>'$.message', '')), $1) THEN 'error' END AS place
FROM executions WHERE place IS NOT NULL ORDER BY created_at DESC LIMIT {MOST + 1}"""
_REACH = f"""
SELECT max(n) AS executions, min(created_at) AS since FROM (
    SELECT created_at, count(*) OVER newest AS n, sum(least(stdout_bytes, 1048576)
        + least(stderr_bytes, 1048576)) OVER newest AS bytes
    FROM executions WHERE stdout_bytes + stderr_bytes > 0
    WINDOW newest AS (ORDER BY created_at DESC, id ROWS UNBOUNDED PRECEDING)
) WHERE bytes <= {OUTPUT_BYTES} AND n <= {OUTPUT_EXECUTIONS}"""
_LINE = "list_filter(string_split(coalesce({0}, ''), chr(10)), l -> contains(lower(l), $1))"
_WRITTEN = f"""
SELECT {_BRIEF}, left(list_concat({_LINE.format("stdout")}, {_LINE.format("stderr")})[1], 2000) AS line
FROM executions WHERE created_at >= TIMESTAMP '{{since}}'
    AND (contains(lower(stdout), $1) OR contains(lower(stderr), $1))
ORDER BY created_at DESC LIMIT {MOST + 1}"""


async def search(rows: Rows, words: str) -> dict[str, Any]:
    """Look for some words, whatever their case; how far back the output was looked through is said too."""
    shown: dict[str, Any] = {"words": words, "said": [], "written": [], "searched": 0, "since": None}
    if not words:
        return shown
    shown["said"] = await rows(_SAID, words.lower())
    (reach,) = await rows(_REACH)
    if reach["since"]:
        query = _WRITTEN.replace("{since}", reach["since"].rstrip("Z"))
        shown["written"] = await rows(query, words.lower())
        shown |= {"searched": reach["executions"], "since": reach["since"]}
    return shown
