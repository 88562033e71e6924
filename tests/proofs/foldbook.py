"""The tables of playbooks folded from the log in plain Python: the same second opinion, for what is long."""

import json
from typing import Any

from tests.proofs.foldplan import Row, moment
from tests.proofs.outside import Event, by_entity

ARTIFACT: Row = {
    "media_type": "application/octet-stream",
    "backend": "local",
    "node": "",
    "workspace_id": "default",
    "labels": [],
    "metadata": {},
}
ENDS = ("completed", "failed", "cancelled")
RESULT = "execution_id plan_id playbook_id exit_code error outputs artifacts duration_ms"


def fold(log: list[Event]) -> dict[str, dict[Any, Row]]:
    """Every table of playbooks, artifacts and workspaces, its rows by their key."""
    found: dict[str, dict[Any, Row]] = {
        name: {}
        for name in (
            *("playbook_executions", "phases", "playbook_steps", "checkpoints", "phase_summaries", "inputs"),
        )
    }
    for entity, life in by_entity(log, "playbook").items():
        found["playbook_executions"][entity] = _execution(entity, life)
        for event in life:
            _phases(found["phases"], entity, event)
            _steps(found["playbook_steps"], entity, event)
            _others(found, entity, event)
    found["artifacts"] = {
        entity: _artifact(entity, life) for entity, life in by_entity(log, "artifact").items()
    }
    found["workspaces"] = {
        entity: _workspace(entity, life) for entity, life in by_entity(log, "workspace").items()
    }
    found["inputs"] = {key: row for key, row in found["inputs"].items() if "message" in row}
    return found


def _execution(entity: str, life: list[Event]) -> Row:
    born = life[0].data
    book: Row = born["definition"]
    parent: Row = born.get("parent") or {}
    fork: Row = born.get("fork") or {}
    row: Row = {
        "id": entity,
        "workspace_id": book.get("workspace", "default"),
        "playbook_code": book.get("name", ""),
        "version": book.get("version", ""),
        "description": book.get("description"),
        "intent_instance_id": born.get("intent_instance_id"),
        "phase": None,
        "step": None,
        "completed": 0,
        "total": sum(len(phase["steps"]) for phase in book["phases"]),
        "last_checkpoint": None,
        "checkpoints": 0,
        "resumes": 0,
        "supports_resume": born.get("supports_resume", True),
        "params": born.get("params"),
        "labels": book.get("labels", []),
        "parent": parent.get("playbook_id"),
        "parent_step": parent.get("step"),
        "fork_of": fork.get("playbook_id"),
        "fork_checkpoint": fork.get("checkpoint_id"),
        "progress_log_path": born.get("progress_log_path"),
        "feature_list_path": born.get("feature_list_path"),
        "created_at": moment(life[0].time),
        "updated_at": moment(life[-1].time),
        "completed_at": None,
        "seq": life[-1].seq,
    }
    why: Row = {}
    standing, does, until = "running", None, None
    for event in life:
        data = event.data
        match event.name:
            case "paused":
                standing, why = "paused", data
            case "resumed":
                standing, why, row["completed_at"] = "running", {}, None
                row["resumes"] += 1
                if data.get("memory"):
                    does = until = None
                    row["completed"] = data["memory"]["at"]
            case "phase_started":
                row |= {"phase": data["phase_id"], "step": None}
            case "step_started":
                row |= {"phase": data["phase_id"], "step": data["step"]}
                does, until = data["does"], data.get("until")
            case "step_ended":
                does = until = None
            case "checkpoint_created":
                row["checkpoints"] += 1
                row["completed"] = data["at"]
                saved = {"checkpoint_id": data["checkpoint_id"], "at": data["at"]}
                saved |= {"checksum": data["checksum"], "position": data.get("position", 0)}
                row["last_checkpoint"] = saved | {"time": _plain(event.time)}
            case name if name in ENDS:
                standing, why, does, until = name, data, None, None
                row["completed_at"] = moment(event.time)
            case _:
                pass
    row["error"] = why.get("error")
    row["pause_reason"] = why.get("reason") if standing == "paused" else None
    stuck = standing == "paused" and why.get("step") is not None
    row["resting"] = does in ("sleep", "input") or (stuck and does is None)
    row["wakes_at"] = moment(until) if does == "sleep" else None
    return row | {"status": "waiting_input" if (standing, does) == ("running", "input") else standing}


def _plain(time: str) -> str:
    """A time as DuckDB writes it: the zeros at the end of the fraction are left out."""
    text = time.replace("T", " ").removesuffix("Z").rstrip("0")
    return text.removesuffix(".")


def _phases(rows: dict[Any, Row], entity: str, event: Event) -> None:
    data = event.data

    def stands(phase: str, **news: Any) -> None:
        rows[f"{entity}/{phase}"] |= {"seq": event.seq, **news}

    match event.name:
        case "initialized":
            for place, phase in enumerate(data["definition"]["phases"], 1):
                key = f"{entity}/{phase['id']}"
                rows[key] = {"id": key, "playbook_id": entity, "place": place, "phase_id": phase["id"]}
                rows[key] |= {"name": phase.get("name", ""), "status": "pending", "seq": event.seq}
                rows[key] |= {"started_at": None, "ended_at": None}
        case "phase_started":
            stands(data["phase_id"], status="running", started_at=moment(event.time), ended_at=None)
        case "phase_ended":
            stands(data["phase_id"], status=data["status"], ended_at=moment(event.time))
        case "phase_summary":
            stands(data["phase_id"])
        case "resumed":
            for mark in data.get("phases", []):
                stands(mark["phase_id"], status=mark["status"], ended_at=None)
                if mark["status"] == "pending":
                    rows[f"{entity}/{mark['phase_id']}"]["started_at"] = None
        case _:
            pass


def _steps(rows: dict[Any, Row], entity: str, event: Event) -> None:
    data = event.data

    def stands(step: str, **news: Any) -> None:
        key = f"{entity}/{step}"
        row = rows.setdefault(
            key, {"id": key, "playbook_id": entity, "step": step, "does": None, "started_at": None}
        )
        row |= dict.fromkeys(RESULT.split()) | {"ended_at": None, "run": 0, "artifacts": []}
        row |= {"seq": event.seq, **news}
        row["child_playbook_id"] = row.pop("playbook_id_", None)
        row["playbook_id"] = entity

    match event.name:
        case "step_started":
            started = {"run": data["run"], "does": data["does"], "started_at": moment(event.time)}
            stands(data["step"], status="running", **started)
        case "step_skipped":
            stands(data["step"], status="skipped", ended_at=moment(event.time))
        case "step_ended":
            stands(
                data["step"],
                status=data["status"],
                run=data["run"],
                ended_at=moment(event.time),
                **_left(data),
            )
        case "resumed":
            memory: Row = data.get("memory") or {}
            cells: list[Row] = memory.get("cells", [])
            for cell in cells:
                ended = {"ended_at": moment(cell.get("ended_at")), "run": cell.get("run", 0)}
                forgotten = {"does": None, "started_at": None}
                stands(
                    cell["step"],
                    status=cell["status"],
                    **ended,
                    **forgotten,
                    **_result(cell),
                )
            for name in data.get("again", []):
                stands(name, status="pending", does=None, started_at=None)
        case _:
            pass


def _result(cell: Row) -> Row:
    result: Row = cell.get("result") or {}
    return _left(result)


def _left(data: Row) -> Row:
    """What the end of a step says."""
    found = {name: data.get(name) for name in RESULT.split()}
    found["playbook_id_"] = found.pop("playbook_id")
    return found | {"artifacts": data.get("artifacts", [])}


def _others(found: dict[str, dict[Any, Row]], entity: str, event: Event) -> None:
    data = event.data
    whose: Row = {"playbook_id": entity, "seq": event.seq}
    match event.name:
        case "checkpoint_created":
            names = ("reason", "at", "phase_id", "step", "checksum", "size", "raw_size")
            row = whose | {name: data.get(name) for name in names} | {"id": data["checkpoint_id"]}
            row |= {"compression": data.get("compression", "zstd"), "position": data.get("position", 0)}
            row |= {"schema_version": data.get("schema_version", 1), "created_at": moment(event.time)}
            found["checkpoints"][data["checkpoint_id"]] = row
        case "phase_summary":
            key = f"{entity}/{data['phase_id']}"
            row = whose | {"id": key, "phase_id": data["phase_id"], "summary": data["summary"]}
            row |= {"artifacts": data.get("artifacts", []), "written_by": data.get("written_by", "playbook")}
            row |= {"intent_instance_id": data.get("intent_instance_id"), "written_at": moment(event.time)}
            found["phase_summaries"][key] = row
        case "input_requested" | "input_reminded" | "input_answered" | "input_expired" | "step_ended":
            _asked(found["inputs"], f"{entity}/{data['step']}/{data['run']}", whose, event)
        case _:
            pass


def _asked(rows: dict[Any, Row], key: str, whose: Row, event: Event) -> None:
    data, row = event.data, rows.setdefault(key, {"id": key})
    row |= whose
    match event.name:
        case "input_requested":
            row |= {name: data.get(name) for name in ("phase_id", "step", "run", "message")}
            row |= {"schema": data.get("schema", {}), "status": "waiting", "asked_at": moment(event.time)}
            row |= {"deadline": moment(data.get("deadline")), "reminders": 0}
            row |= {"answer": None, "answered_by": None, "answered_at": None}
        case "input_reminded":
            row["reminders"] += 1
        case "input_answered":
            value = data.get("value")
            text = (
                value if isinstance(value, str) or value is None else json.dumps(value, separators=(",", ":"))
            )
            row |= {"status": "answered", "answer": text, "answered_by": data.get("answered_by")}
            row["answered_at"] = moment(event.time)
        case "input_expired":
            row["status"] = "expired"
        case _ if data["status"] == "cancelled":
            row["status"] = "cancelled"
        case _:
            pass


# ---- artifacts and workspaces ----------------------------------------------------------------------------


def _artifact(entity: str, life: list[Event]) -> Row:
    row: Row = {"id": entity, "created_at": None, "removed_at": None, "references": 0}
    for event in life:
        data = event.data
        row |= {"touched_at": moment(event.time), "seq": event.seq}
        match event.name:
            case "registered":
                row |= {"status": "kept", "removed_at": None, "name": data["title"], "size": data["size"]}
                row |= {name: data.get(name, ARTIFACT[name]) for name in ARTIFACT}
                row["created_at"] = row["created_at"] or moment(event.time)
            case "referenced":
                row["references"] += 1
            case "released":
                row["references"] -= data["count"]
            case "removed":
                row |= {"status": "removed", "removed_at": moment(event.time)}
            case _:
                pass
    return row


def _workspace(entity: str, life: list[Event]) -> Row:
    row: Row = {"id": entity, "created_at": moment(life[0].time), "seq": life[-1].seq}
    return row | {name: life[0].data.get(name) for name in ("path", "description")}
