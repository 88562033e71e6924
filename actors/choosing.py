"""Which executions a request means that names none: what it asks the tables."""

from typing import Any

from actors.clerk import check_page
from events import service
from events.errors import Validation
from events.execution import TERMINAL

MOST = 1000
"""How many one request acts on."""
LIVE = ("scheduled", "queued", "running")
OVER = tuple(event.name() for event in TERMINAL)


def over(where: service.Where | None, limit: int) -> tuple[str, list[Any]]:
    """Those that are over, newest first: a query and its parameters."""
    return _query(where or service.Where(), limit, OVER)


def live(where: service.Where | None, limit: int) -> tuple[str, list[Any]]:
    """Those that are not over, newest first."""
    return _query(where or service.Where(), limit, LIVE)


def _query(where: service.Where, limit: int, statuses: tuple[str, ...]) -> tuple[str, list[Any]]:
    if where.status is not None and where.status not in statuses:
        raise Validation(f"where.status is {where.status!r}: use {', '.join(statuses)}", field="where.status")
    check_page(limit, MOST)
    params: list[Any] = []
    parts = [f"status IN ({', '.join(repr(name) for name in statuses)})"]
    for text, value in (
        ("status = ?", where.status),
        ("list_contains(labels, ?)", where.label),
        ("plan_id = ?", where.plan_id),
        ("module = ?", where.module),
    ):
        if value is not None:
            parts.append(text)
            params.append(value)
    if not params:
        raise Validation("where is empty: name a status, label, plan_id or module", field="where")
    sql = f"SELECT id FROM executions WHERE {' AND '.join(parts)} ORDER BY seq DESC LIMIT {limit}"  # noqa: S608 -- only words of ours
    return sql, params
