"""The tables of plans and of their steps, folded from the log in plain Python.

A batch has no rows for its operations; here each of them is followed by its number all the same.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from tests.proofs.outside import Event, by_entity

Row = dict[str, Any]
ENDS = ("completed", "failed", "cancelled")
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
RUN = "execution_id child_plan_id reason exit_code error outputs duration_ms started_at ended_at"
UNDO = {
    "rollback_started": "pending",
    "undo_started": "running",
    "step_undone": "done",
    "rollback_failed": "failed",
}


def moment(text: str | None) -> str | None:
    """A time as the tables show it."""
    if text is None:
        return None
    found = datetime.fromisoformat(text).astimezone(UTC)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{found.microsecond // 1000:03d}Z"


def derived(kind: str, prefix: str, key: str) -> str:
    """The id that belongs to a key for ever: 128 bits of its hash, five to a letter."""
    value = int.from_bytes(hashlib.sha256(f"{kind}\n{key}".encode()).digest()[:16], "big")
    return f"{prefix}_" + "".join(ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


# ---- plans -----------------------------------------------------------------------------------------------


def plans(log: list[Event], steps: dict[Any, Row]) -> dict[Any, Row]:
    """Every plan and every batch, with how its steps stand."""
    parts: dict[str, list[str]] = {}
    for step in steps.values():
        parts.setdefault(step["plan_id"], []).append(step["status"])
    return {
        entity: _plan(entity, life, parts.get(entity, [])) for entity, life in by_entity(log, "plan").items()
    }


def _plan(entity: str, life: list[Event], parts: list[str]) -> Row:
    row: Row = {"id": entity, "rollback": "none", "cancelling": False, "error": None, "completed_at": None}
    row |= {"reruns": 0, "seq": life[-1].seq}
    for event in life:
        match event.name:
            case "submitted":
                row |= _born(event.data) | {"status": "running", "created_at": moment(event.time)}
            case "paused":
                row["status"] = "paused"
            case "resumed":
                row["status"] = "running"
            case "cancel_requested":
                row["cancelling"] = True
            case "rollback_started":
                row["rollback"] = "running"
            case "rolled_back":
                row["rollback"] = "done"
            case "rollback_failed":
                row["rollback"] = "failed"
            case "rerun_requested":
                row |= {"status": "running", "rollback": "none", "cancelling": False, "error": None}
                row |= {"completed_at": None, "reruns": row["reruns"] + 1}
            case name if name in ENDS:
                row |= {"status": name, "error": event.data.get("error"), "completed_at": moment(event.time)}
            case _:
                pass
    return row | (_operations(life) if row["strategy"] == "batch" else _counts(parts, len(parts)))


def _born(data: Row) -> Row:
    definition: Row = data["definition"]
    priority = definition.get("priority")
    parent: Row = data.get("parent") or {}
    operations: Row = definition.get("operations") or {"do": {}}
    job: Row = operations["do"].get("job") or {}
    return {
        "name": definition.get("name", ""),
        "description": definition.get("description"),
        "strategy": definition.get("strategy", "serial"),
        "max_concurrency": definition.get("max_concurrency"),
        "labels": definition.get("labels", []),
        "priority": None if priority is None else str(priority),
        "job": job.get("type"),
        "params": data.get("params"),
        "template": data.get("template"),
        "version": data.get("version"),
        "parent": parent.get("plan_id"),
        "parent_step": parent.get("step"),
        "schedule_id": data.get("schedule_id"),
    }


def _counts(statuses: list[str], total: int | None) -> Row:
    found = {name: statuses.count(name) for name in ("completed", "failed", "skipped", "running")}
    found["failed"] += statuses.count("cancelled") + statuses.count("timed_out")
    return {"total": total, **found}


def _operations(life: list[Event]) -> Row:
    """How many operations of a batch stand how, each of them followed by its number."""
    ended: dict[int, str] = {}
    undone: set[int] = set()
    total = running = skipped = 0
    more = False
    for event in life:
        data = event.data
        match event.name:
            case "submitted":
                many, more = data["definition"]["operations"], data.get("open", False)
                total = len(many["items"]) if "items" in many else many.get("count", 0)
            case "extended":
                total += len(data.get("items", ())) + data.get("count", 0)
            case "sealed":
                more = False
            case "advanced":
                news = dict(data.get("ended", ()))
                ended |= news
                running += data.get("count", 0) - len(news)
            case "step_undone":
                undone.add(int(data["step"]))
            case "rerun_requested":
                ended = {n: how for n, how in ended.items() if how == "completed" and n not in undone}
                more, skipped = False, 0
                undone.clear()
            case name if name in ENDS:
                skipped = data.get("skipped", 0)
            case _:
                pass
    found = _counts(list(ended.values()), None if more else total)
    return found | {"running": running, "skipped": skipped}


# ---- steps -----------------------------------------------------------------------------------------------


def steps(log: list[Event]) -> dict[Any, Row]:
    """Every step of every plan, from the moment that the plan was submitted."""
    rows: dict[Any, Row] = {}
    nested: set[str] = set()
    for event in log:
        if event.kind != "plan":
            continue
        if event.name == "submitted":
            for place, step in enumerate(event.data["definition"].get("steps", ()), 1):
                row = _step(event, place, step)
                rows[row["id"]] = row
                if step.get("plan") is not None:
                    nested.add(row["id"])
            continue
        for said in _said(event):
            row = rows.get(f"{event.entity}/{said['step']}")
            if row is not None:  # what is taken back of a batch is no step
                _tell(row, event, said, nested=row["id"] in nested)
    return rows


def _said(event: Event) -> list[Row]:
    """What an event says, step by step."""
    data = event.data
    match event.name:
        case "steps_started" | "steps_skipped":
            return data["steps"]
        case "rerun_requested" | "rollback_started":
            return [{"step": name} for name in data.get("steps", ())]
        case "step_ended" | "undo_started" | "step_undone" | "rollback_failed":
            return [data]
        case _:
            return []


def _step(event: Event, place: int, step: Row) -> Row:
    row = {
        "id": f"{event.entity}/{step['name']}",
        "plan_id": event.entity,
        "place": place,
        "step": step["name"],
        "run": 1,
        "needs": step.get("needs", []),
        "when": step.get("when"),
        "allow_failure": step.get("allow_failure", False),
        "undo": None,
        "seq": event.seq,
    }
    return row | _waiting()


def _waiting() -> Row:
    """A step that nothing was said of in this run."""
    return dict.fromkeys(RUN.split()) | {"status": "pending"}


def _tell(row: Row, event: Event, said: Row, *, nested: bool) -> None:
    row["seq"] = event.seq
    match event.name:
        case "steps_started":
            key = f"{row['plan_id']}/{row['step']}/{said.get('run', 1)}"
            row |= {"status": "running", "started_at": moment(event.time)}
            if nested:
                row["child_plan_id"] = derived("plan", "plan", key)
            else:
                row["execution_id"] = derived("execution", "exec", key)
        case "steps_skipped":
            row |= {"status": "skipped", "reason": said["reason"], "ended_at": moment(event.time)}
        case "step_ended":
            error: Row | None = said.get("error")
            row |= {name: said.get(name) for name in ("exit_code", "outputs", "duration_ms")}
            row |= {"status": said["status"], "error": error, "reason": error["code"] if error else None}
            row["ended_at"] = moment(event.time)
        case "rerun_requested":
            row |= _waiting() | {"run": row["run"] + 1, "undo": None}
        case name:
            row["undo"] = UNDO[name]
