# ruff: noqa: S608 -- SQL is made of our own words here; what users give travels as parameters
"""What each page shows: questions to the tables, and what is made of the answers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from actors.residents import ROLES
from events.errors import Conflict, HindbrainError, NotFound
from interfaces import life, search
from interfaces.dashboard import graph
from interfaces.dashboard.look import Look, Row

Asked = Mapping[str, str]
"""What stands in the address: parts of the path, and what follows the question mark."""

BRIEF = (
    "id, status, description, command, labels, priority, attempt, plan_id, step, node, held, reason,"
    " exit_code, error, created_at, queued_at, started_at, completed_at, duration_ms, progress,"
    " progress_current, progress_total, last_output, stdout_bytes, stderr_bytes, retry_of, schedule_id, seq"
)
"""Columns of an execution in a list."""
WHOLE = BRIEF + (
    ", kind, code, language, module, pid, signal, timeout_ms, last_output_at, idempotency_key,"
    " concurrency_key, retries, attempts_failed"
)
SHOWN, PAGE = 30, 100
"""Rows of a part of the overview, and of a page that is nothing but a list."""
_PARTS = {
    "running": ("status = 'running'", "started_at DESC"),
    "waiting": ("status IN ('queued', 'scheduled')", "created_at"),
    "ended": ("completed_at IS NOT NULL", "completed_at DESC, seq DESC"),
}
_STANDING = f"WITH e AS MATERIALIZED (SELECT {BRIEF} FROM executions)" + " UNION ALL BY NAME".join(
    [
        " SELECT 'count' AS part, status, count(*) AS n FROM e GROUP BY status",
        *(
            f" (SELECT '{name}' AS part, {BRIEF} FROM e WHERE {where} ORDER BY {order} LIMIT {SHOWN})"
            for name, (where, order) in _PARTS.items()
        ),
    ]
)
"""All parts of the overview in one question: as of the past each one costs a fold of all executions."""
FACTS = 500
"""Facts of one entity that a page shows; the newest where there are more."""
OVER = ("completed", "failed", "cancelled", "timed_out")


class Page(NamedTuple):
    """A page: where it is, what it is called, and what it shows."""

    path: str
    template: str
    title: str
    show: Callable[[Look, Asked], Awaitable[dict[str, Any]]]


async def overview(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """What goes on, what waits, what ended, and what a person should look at."""
    standing, findings, nodes, plans, limits = await look.all(
        _STANDING,
        f"SELECT * FROM findings WHERE closed_at IS NULL ORDER BY opened_at DESC LIMIT {SHOWN}",
        "SELECT * FROM nodes WHERE status = 'up' OR started_at > (SELECT max(started_at) FROM nodes)"
        f" - INTERVAL 1 DAY ORDER BY status DESC, started_at DESC LIMIT {SHOWN}",
        "SELECT * FROM plans WHERE status IN ('running', 'paused') AND parent IS NULL"
        f" ORDER BY created_at DESC LIMIT {SHOWN}",
        f"SELECT * FROM limits WHERE active ORDER BY id LIMIT {SHOWN}",
    )
    usage = await look.samples(
        "SELECT execution, cpu_percent, memory_bytes, processes FROM execution_usage"
        " WHERE time <= $1::TIMESTAMP AND time > $1::TIMESTAMP - INTERVAL 1 MINUTE"
        " QUALIFY row_number() OVER (PARTITION BY execution ORDER BY time DESC) = 1"
    )
    parts: dict[str, list[Row]] = {name: [] for name in ("count", *_PARTS)}
    for row in standing:
        parts[row["part"]].append(row)
    return {
        "counts": {row["status"]: row["n"] for row in parts["count"]},
        "running": sorted(parts["running"], key=lambda row: row["started_at"], reverse=True),
        "waiting": sorted(parts["waiting"], key=lambda row: row["created_at"]),
        "ended": sorted(parts["ended"], key=lambda row: (row["completed_at"], row["seq"]), reverse=True),
        "findings": findings,
        "nodes": nodes,
        "plans": plans,
        "limits": limits,
        "usage": {row["execution"]: row for row in usage},
    }


async def executions(look: Look, asked: Asked) -> dict[str, Any]:
    """Executions, newest first; of a status, a label, a plan, a schedule or a module if that was asked."""
    wanted = {
        "status = ?": asked.get("status"),
        "list_contains(labels, ?)": asked.get("label"),
        "plan_id = ?": asked.get("plan_id"),
        "schedule_id = ?": asked.get("schedule_id"),
        "module = ?": asked.get("module"),
        "created_at < ?::TIMESTAMP": (asked.get("before") or "").rstrip("Z"),
    }
    given = {text: value for text, value in wanted.items() if value}
    where = " AND ".join(given) or "true"
    found = await look.rows(
        f"SELECT {BRIEF} FROM executions WHERE {where} ORDER BY created_at DESC, id LIMIT {PAGE + 1}",
        *given.values(),
    )
    more = found[PAGE - 1]["created_at"] if len(found) > PAGE else None
    return {"found": found[:PAGE], "more": more}


async def execution(look: Look, asked: Asked) -> dict[str, Any]:
    """One execution: its state, its output, its attempts and its facts."""
    name = asked["id"]
    rows = await look.rows(f"SELECT {WHOLE} FROM executions WHERE id = ?", name)
    if not rows:
        raise NotFound(f"Execution not found: {name}" + (" (at that moment)" if look.past else ""))
    (row,) = rows
    facts, cut = await _facts(look, "execution", name)
    usage = await look.samples(
        "SELECT time, cpu_percent, memory_bytes, processes FROM execution_usage"
        " WHERE time <= $1::TIMESTAMP AND execution = $2 ORDER BY time DESC LIMIT 240",
        name,
    )
    again = await look.rows("SELECT id, status FROM executions WHERE retry_of = ? ORDER BY created_at", name)
    return {
        "one": row,
        "over": row["status"] in OVER,
        "attempts": _attempts(facts),
        "facts": facts,
        "cut": cut,
        "usage": usage[::-1],
        "again": again,
        "title": row["description"] or row["command"],
    }


async def plans(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """Plans and batches, newest first."""
    found = await look.rows(f"SELECT * FROM plans ORDER BY created_at DESC LIMIT {PAGE}")
    return {"found": found}


async def plan(look: Look, asked: Asked) -> dict[str, Any]:
    """One plan: its graph or its bar, and its steps."""
    name = asked["id"]
    rows = await look.rows("SELECT * FROM plans WHERE id = ?", name)
    if not rows:
        raise NotFound(f"Plan not found: {name}" + (" (at that moment)" if look.past else ""))
    (row,) = rows
    steps = await look.rows("SELECT * FROM plan_steps WHERE plan_id = ? ORDER BY place", name, limit=2000)
    going = await look.rows(
        f"SELECT {BRIEF} FROM executions WHERE plan_id = ? AND status NOT IN ('completed')"
        f" ORDER BY status = 'running' DESC, seq DESC LIMIT {SHOWN}",
        name,
    )
    return {
        "one": row,
        "steps": steps,
        "going": going if row["strategy"] == "batch" else [],
        "graph": graph.draw(steps, row["strategy"]),
        "title": row["name"] or row["description"] or name,
    }


async def playbooks(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """Playbooks, newest first."""
    found = await look.rows(f"SELECT * FROM playbook_executions ORDER BY created_at DESC LIMIT {PAGE}")
    return {"found": found}


async def playbook(look: Look, asked: Asked) -> dict[str, Any]:
    """One playbook: its phases with what was said of them, its steps, and what it asks."""
    name = asked["id"]
    rows = await look.rows("SELECT * FROM playbook_executions WHERE id = ?", name)
    if not rows:
        raise NotFound(f"Playbook not found: {name}" + (" (at that moment)" if look.past else ""))
    (row,) = rows
    phases = await look.rows(
        "SELECT p.*, s.summary FROM phases p LEFT JOIN phase_summaries s ON s.id = p.id"
        " WHERE p.playbook_id = ? ORDER BY p.place",
        name,
    )
    steps = await look.rows(
        "SELECT * FROM playbook_steps WHERE playbook_id = ? AND status <> 'pending'"
        f" ORDER BY started_at, seq LIMIT {PAGE * 10}",
        name,
    )
    questions = await look.rows("SELECT * FROM inputs WHERE playbook_id = ? AND status = 'waiting'", name)
    title = row["description"] or row["playbook_code"] or name
    return {"one": row, "phases": phases, "steps": steps, "questions": questions, "title": title}


async def schedules(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """Schedules that are there, and when they tick next."""
    found = await look.rows(
        "SELECT * FROM schedules WHERE status <> 'deleted'"
        f" ORDER BY status = 'active' DESC, next_at, id LIMIT {PAGE}"
    )
    return {"found": found}


async def dead(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """Executions that lost their worker three times in a row."""
    return {"found": await look.rows(f"SELECT * FROM dead_letters ORDER BY parked_at DESC LIMIT {PAGE}")}


async def modules(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """Modules with their workers, how many of them are at work, and what waits for them."""
    found, counts, workers = await look.all(
        f"SELECT * FROM modules ORDER BY id LIMIT {PAGE}",
        "SELECT module, count(*) FILTER (status = 'running') AS active,"
        " count(*) FILTER (status IN ('queued', 'scheduled')) AS waiting,"
        " count(*) FILTER (status = 'completed') AS completed,"
        " count(*) FILTER (status IN ('failed', 'timed_out')) AS failed FROM executions GROUP BY module",
        "SELECT module, sum(len(workers)) AS up FROM workers WHERE ended_at IS NULL GROUP BY module",
    )
    work = {row["module"]: row for row in counts}
    up = {row["module"]: row["up"] for row in workers}
    for row in found:
        row |= {"active": 0, "waiting": 0, "completed": 0, "failed": 0} | work.get(row["id"], {})
        row["resident"] = row["id"] in ROLES
        row["up"] = row["workers"] if row["resident"] else up.get(row["id"], 0)
    return {"found": found}


async def decisions(look: Look, asked: Asked) -> dict[str, Any]:
    """What was decided about modules, the newest first, each with all that was seen."""
    wanted = {"type = ?": asked.get("type"), "module = ?": asked.get("module")}
    given = {text: value for text, value in wanted.items() if value}
    where = " AND ".join(given) or "true"
    found = await look.rows(
        f"SELECT * FROM decisions WHERE {where} ORDER BY seq DESC LIMIT {PAGE}", *given.values()
    )
    return {"found": found}


async def log(look: Look, asked: Asked) -> dict[str, Any]:
    """Every fact of one entity, with the state that it led to."""
    kind, name = asked["kind"], asked["id"]
    life.rules(kind)
    facts, cut = await _facts(look, kind, name)
    if not facts:
        raise NotFound(f"There is no {kind} {name} in the log" + (" up to that moment" if look.past else ""))
    return {"kind": kind, "name": name, "facts": facts, "cut": cut, "title": f"{kind} {name}"}


async def sql(look: Look, asked: Asked) -> dict[str, Any]:
    """A query, and its answer or what is wrong with it."""
    query = asked.get("q", "").strip()
    tables = await look.engine.sql(
        "SELECT table_name, string_agg(column_name, ', ' ORDER BY column_index) AS columns"
        " FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal AND database_name = 'memory'"
        " GROUP BY table_name ORDER BY table_name"
    )
    shown: dict[str, Any] = {"query": query, "tables": tables.rows, "answer": None, "problem": None}
    if query:
        how: dict[str, Any] = {"seq": look.seq} if look.past else {}
        try:
            shown["answer"] = await look.engine.sql(query, limit=1000, timeout_ms=10_000, **how)
        except HindbrainError as error:
            shown["problem"] = error
    return shown


async def find(look: Look, asked: Asked) -> dict[str, Any]:
    """Executions whose command, description, labels, error or output have some words in them."""
    return await search.search(look.rows, asked.get("q", "").strip())


async def submit(look: Look, asked: Asked) -> dict[str, Any]:  # noqa: ARG001  the shape of every page
    """The form for something to run."""
    if look.engine.as_of:
        raise Conflict("this is a capsule: it shows what was, and nothing can be run in it")
    nodes = await look.rows("SELECT DISTINCT unnest(languages) AS language FROM nodes ORDER BY 1")
    return {"languages": [row["language"] for row in nodes]}


async def _facts(look: Look, kind: str, entity: str) -> tuple[list[Row], int]:
    """The facts of an entity until this moment with the state after each; and how many more there are."""
    rows = await look.rows(
        "SELECT * FROM events WHERE kind = ? AND entity = ? ORDER BY seq", kind, entity, limit=20_000
    )
    found: list[Row] = []
    try:
        found += life.life(kind, rows)
    except HindbrainError:  # written by a newer version than this one: shown as it is
        nothing: Row = {"delta_ms": 0, "state": Row()}
        found += [{**row, **nothing} for row in rows]
    before: Row = {}
    for row, given in zip(found, rows, strict=True):
        row["by"], row["n"] = given["by"], given["n"]
        row["changed"] = life.said(row) if kind == "execution" else life.changes(before, row["state"])
        before = row["state"]
    return found[-FACTS:], max(0, len(found) - FACTS)


def _attempts(facts: list[Row]) -> list[Row]:
    """Each time that a node took an execution, and what came of it."""
    found: list[Row] = []
    for each in facts:
        match each["event"]:
            case "started":
                found.append({**each["data"], "began": each["time"], "status": "running"})
            case "attempt_failed" | "attempt_lost" | "completed" | "failed" | "cancelled" | "timed_out" if (
                found
            ):
                data: Row = each["data"]
                error: Row = data.get("error") or {}
                if found[-1]["status"] == "running":
                    found[-1] |= {
                        "status": each["event"].removeprefix("attempt_"),
                        "ended": each["time"],
                        "end": data.get("end") or {},
                        "problem": error.get("message") or data.get("reason"),
                    }
            case _:
                pass
    return found


PAGES = (
    Page("/executions", "executions.html", "Executions", executions),
    Page("/plans", "plans.html", "Plans", plans),
    Page("/plans/{id}", "plan.html", "Plan", plan),
    Page("/playbooks", "playbooks.html", "Playbooks", playbooks),
    Page("/playbooks/{id}", "playbook.html", "Playbook", playbook),
    Page("/schedules", "schedules.html", "Schedules", schedules),
    Page("/dead", "dead.html", "Dead letters", dead),
    Page("/modules", "modules.html", "Modules", modules),
    Page("/decisions", "decisions.html", "Decisions", decisions),
    Page("/sql", "sql.html", "SQL", sql),
    Page("/log/{kind}/{id}", "log.html", "Log", log),
    Page("/search", "search.html", "Search", find),
    Page("/submit", "submit.html", "Run something", submit),
)
OVERVIEW = Page("/", "overview.html", "Overview", overview)
EXECUTION = Page("/executions/{id}", "execution.html", "Execution", execution)
