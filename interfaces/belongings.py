"""What belongs to what is carried away: the steps of a plan, all that a playbook ran, and their artifacts."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from events.errors import NotFound, Validation

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

PAGE = 1000
KINDS = {"exec": "execution", "plan": "plan", "play": "playbook"}
TABLES = {"plan": "plans", "playbook": "playbook_executions"}
PARTS = {
    "plan": (
        "SELECT execution_id AS id FROM plan_steps WHERE plan_id = ?1"
        " UNION SELECT child_plan_id FROM plan_steps WHERE plan_id = ?1"
        " UNION SELECT id FROM executions WHERE plan_id = ?1"
        " UNION SELECT id FROM plans WHERE parent = ?1"
    ),
    "playbook": (
        "SELECT unnest([execution_id, plan_id, child_playbook_id]) AS id FROM playbook_steps"
        " WHERE playbook_id = ?1"
        " UNION SELECT data->>'$.plan_id' FROM events WHERE kind = 'playbook' AND entity = ?1"
        " UNION SELECT id FROM executions WHERE playbook_id = ?1"
        " UNION SELECT id FROM playbook_executions WHERE parent = ?1"
    ),
}
"""What something consists of; runs of steps that were done again are among it."""
NEEDED = (
    "SELECT DISTINCT entity AS id FROM events WHERE kind = 'artifact' AND event = 'referenced'"
    " AND (data->>'$.by') IN (SELECT unnest(from_json(?1, '[\"VARCHAR\"]')))"
)
FACTS = "SELECT * FROM events WHERE kind = ?1 AND entity = ?2 AND seq > ?3 ORDER BY seq"


class Belongings(NamedTuple):
    """Ids of everything, each kind in the order in which it was come upon."""

    executions: list[str]
    plans: list[str]
    playbooks: list[str]
    artifacts: list[str]


async def gather(engine: "ExecutionEngine", roots: Iterable[str]) -> Belongings:
    """Find all that belongs to these; `NotFound` for what there is not."""
    found: dict[str, dict[str, None]] = {"execution": {}, "plan": {}, "playbook": {}}
    last = await engine.last_seq()
    await engine.sql("SELECT 1", min_seq=last)
    rest = list(dict.fromkeys(roots))
    while rest:
        each = rest.pop(0)
        kind = KINDS.get(each.partition("_")[0])
        if kind is None:
            raise Validation(f"{each!r} is no id of an execution, a plan or a playbook", field="id")
        if each in found[kind]:
            continue
        found[kind][each] = None
        if kind in TABLES:
            known = f"SELECT id FROM {TABLES[kind]} WHERE id = ?1"  # noqa: S608  our own words
            if not await _ids(engine, known, each):
                raise NotFound(f"{kind.capitalize()} not found: {each}")
            rest += await _ids(engine, PARTS[kind], each)
    artifacts: dict[str, None] = {}
    names = iter([*found["execution"], *found["plan"], *found["playbook"]])
    while some := list(islice(names, PAGE)):
        artifacts |= dict.fromkeys(await _ids(engine, NEEDED, msgspec.json.encode(some).decode()))
    return Belongings(*(list(each) for each in found.values()), artifacts=list(artifacts))


async def facts(engine: "ExecutionEngine", kind: str, entity: str) -> list[dict[str, Any]]:
    """Every fact of one entity that the tables know, with its envelope, oldest first."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["seq"] if found else 0
        page = await _rows(engine, FACTS, [kind, entity, after])
        found += page
        if len(page) < PAGE:
            return found


async def _ids(engine: "ExecutionEngine", query: str, about: str) -> list[str]:
    ids: list[str] = []
    while True:
        page = f"SELECT id FROM ({query}) WHERE id > ?2 ORDER BY id"  # noqa: S608  our own words
        rows = await _rows(engine, page, [about, ids[-1] if ids else ""])
        ids += [row["id"] for row in rows]
        if len(rows) < PAGE:
            return ids


async def _rows(engine: "ExecutionEngine", query: str, params: Sequence[Any]) -> list[dict[str, Any]]:
    table = await engine.sql(query, params=list(params), limit=PAGE, timeout_ms=20_000)
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]
