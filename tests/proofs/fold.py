"""The tables folded from the log in plain Python: a second opinion that shares no code with the first.

It reads the reference of the tables and nothing else.  Output (`stdout`, `stderr`) lies in files, not here.
"""

import json
import re
import shlex
from typing import Any, cast

from tests.proofs import foldbook, foldmodules, foldplan
from tests.proofs.foldplan import Row, moment
from tests.proofs.outside import TERMINAL, Event, by_entity

Tables = dict[str, dict[Any, Row]]
EMPTY = """
    status reason held kind command code language description node worker pid exit_code signal error
    created_at queued_at started_at completed_at duration_ms timeout_ms progress progress_current
    progress_total progress_message last_output last_output_at idempotency_key plan_id step schedule_id
    concurrency_key playbook_id retry_of job value"""
"""Columns of an execution that are null until something is said."""
HIDDEN = ("stdout", "stderr")
ATTEMPT = """
    execution attempt status reason node worker boot started_at ended_at duration_ms exit_code signal
    error pid stdout_offset stderr_offset stdout_end stderr_end last_output"""
SCHEDULE = """
    status description times what spec request catch_up overlap next_at last_tick last_id created_at"""
TEMPLATE = "version description strategy params definition comment created_at saved_at"
PARKED = "id command description module labels attempt node error created_at last_output plan_id step seq"
BROKEN = ("attempt_failed", "attempt_lost")


def fold(log: list[Event]) -> Tables:
    """Every folded table, its rows by their key."""
    executions = {entity: _execution(entity, life) for entity, life in by_entity(log).items()}
    steps = foldplan.steps(log)
    return foldbook.fold(log) | {
        "executions": executions,
        "attempts": _attempts(log),
        "plans": foldplan.plans(log, steps),
        "plan_steps": steps,
        "schedules": {entity: _schedule(entity, life) for entity, life in by_entity(log, "schedule").items()},
        "limits": _limits(log),
        "templates": {entity: _template(entity, life) for entity, life in by_entity(log, "template").items()},
        "dead_letters": _parked(log, executions),
        "nodes": {entity: _node(entity, life) for entity, life in by_entity(log, "node").items()},
        "findings": {entity: _finding(entity, life) for entity, life in by_entity(log, "finding").items()},
        "decisions": {entity: _decision(life[0]) for entity, life in by_entity(log, "decision").items()},
        "events": {event.seq: _event(event) for event in log},
        **foldmodules.fold(log),
    }


def _event(event: Event) -> Row:
    head = {name: event.headers.get(f"Brain-{name.title()}", "") for name in ("id", "cause", "by", "prev")}
    row = {"seq": event.seq, "kind": event.kind, "entity": event.entity, "n": event.n, "event": event.name}
    trace = event.headers.get("traceparent", "")
    return row | head | {"time": moment(event.time), "trace": trace, "data": event.data}


# ---- executions ------------------------------------------------------------------------------------------


def _execution(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(EMPTY.split())
    row |= {"id": entity, "labels": [], "module": "commands", "priority": "medium", "attempt": 0}
    row |= {"stdout_bytes": 0, "stderr_bytes": 0, "retries": 0, "attempts_failed": 0, "seq": life[-1].seq}
    row |= _birth(life[0].data) | {"created_at": moment(life[0].time)}
    for event in life:
        data = event.data
        match event.name:
            case "held":
                row["status"] = "scheduled" if data["reason"] == "time" else "queued"
                by = data.get("by") or data.get("taken_by")
                row["held"] = {"reason": data["reason"], "by": by, "until": data.get("until")}
            case "queued":
                row |= {"status": "queued", "held": None, "queued_at": moment(event.time)}
            case "prioritized":
                row["priority"] = data["priority"]
            case "started":
                row |= {"status": "running", "node": data["node"], "attempt": data["attempt"], "pid": None}
                row |= {"started_at": moment(event.time), "worker": data.get("worker")} | _said({})
            case "progressed":
                row |= _said(data)
                row["pid"] = data.get("pid") or row["pid"]
            case "attempt_failed":
                row |= _began(data)
                row |= {"status": "queued", "pid": data["end"].get("pid")} | _said(data["end"])
                row["attempts_failed"] += 1
            case "attempt_lost":
                row["status"] = "queued"
                row["attempts_failed"] += data["reason"] != "shutdown"
            case name if name in TERMINAL:
                row |= _began(data)
                row |= _end(name, event, data)
            case _:
                pass
    return row


def _began(data: Row) -> Row:
    """A short attempt whose beginning is said with its end."""
    began: Row | None = data.get("began")
    if began is None:
        return {}
    row: Row = {"node": began["node"], "worker": began.get("worker"), "attempt": data["attempt"]}
    return row | {"started_at": moment(began["at"])}


def _birth(data: Row) -> Row:
    spec: Row = data.get("spec") or {}
    found: Row = {"labels": spec.get("labels", []), "module": spec.get("module", "commands")}
    found |= {"priority": spec.get("priority", "medium"), "retry_of": data.get("retry_of")}
    retries: Row = spec.get("retries") or {}
    found["retries"] = retries.get("max", 0)
    names = ("language", "description", "timeout_ms", "idempotency_key")
    names += ("plan_id", "playbook_id", "step", "schedule_id", "concurrency_key")
    return found | {name: spec.get(name) for name in names} | _form(spec)


def _form(spec: Row) -> Row:
    if (code := spec.get("code")) is not None:
        if isinstance(code, dict):
            return {
                "kind": "code",
                "command": f"{spec['language']}: (large)",
                "code": f"blob:{spec['code']['blob']}",
            }
        first = code.strip().split("\n")[0][:200]
        return {"kind": "code", "command": f"{spec['language']}: {first}", "code": code}
    if script := spec.get("script"):
        words = [script["interpreter"]] if script.get("interpreter") else []
        return {"kind": "script", "command": shlex.join([*words, script["path"]])}
    if program := spec.get("exec"):
        return {"kind": "exec", "command": shlex.join([program["program"], *program.get("args", [])])}
    if shell := spec.get("shell"):
        return {"kind": "shell", "command": shell["command"]}
    if job := spec.get("job"):
        return {"kind": "job", "command": job["type"], "job": job.get("data")}
    aws = spec["aws"]
    return {
        "kind": "aws",
        "command": shlex.join(["aws", aws["service"], aws["operation"], *aws.get("args", [])]),
    }


def _said(data: Row) -> Row:
    """What was said of an attempt: by a report, or by its end."""
    progress: Row = data.get("progress") or {}
    current, total, fraction = (progress.get(name) for name in ("current", "total", "fraction"))
    if fraction is not None:
        text = f"{fraction * 100:.0f}% complete"
    elif current is not None:
        text = f"{current:g}" + (f"/{total:g}" if total is not None else "")
    else:
        text = progress.get("message")
    return {
        "progress": text,
        "progress_current": current,
        "progress_total": total,
        "progress_message": progress.get("message"),
        "last_output": data.get("last_output"),
        "last_output_at": moment(data.get("last_output_at")),
        "stdout_bytes": data.get("stdout_bytes", 0),
        "stderr_bytes": data.get("stderr_bytes", 0),
    }


def _end(name: str, event: Event, data: Row) -> Row:
    end: Row = data.get("end") or {}
    error = data.get("error")
    found = {field: end.get(field) for field in ("pid", "exit_code", "signal", "duration_ms")} | _said(end)
    found |= {"status": name, "held": None, "error": error, "value": end.get("value")}
    found["reason"] = error["code"] if name == "failed" and error else None
    return found | {"completed_at": moment(end.get("ended_at") or event.time)}


def _attempts(log: list[Event]) -> dict[Any, Row]:
    """Every attempt: whatever came first after its start is its end."""
    rows: dict[Any, Row] = {}
    for event in log:
        if event.kind != "execution" or event.name not in ("started", *BROKEN, *TERMINAL):
            continue
        data = event.data
        if not (number := data.get("attempt", 0)):
            continue  # over before it ever began
        key = f"{event.entity}/{number}"
        if event.name == "started" or data.get("began"):
            rows[key] = dict.fromkeys(ATTEMPT.split()) | _taken(key, event)
        if event.name != "started" and rows[key]["ended_at"] is None:
            rows[key] |= _left(event)
        rows[key]["seq"] = event.seq
    return rows


def _taken(key: str, event: Event) -> Row:
    began: Row = event.data.get("began") or {"at": event.time, **event.data}
    row: Row = {"id": key, "execution": event.entity, "status": "running", "started_at": moment(began["at"])}
    row |= {"attempt": event.data["attempt"], "worker": began.get("worker")}
    row |= {name: began[name] for name in ("node", "boot")}
    return row | {name: event.data.get(name, 0) for name in ("stdout_offset", "stderr_offset")}


def _left(event: Event) -> Row:
    end: Row = event.data.get("end") or {}
    error: Row | None = event.data.get("error")
    names = ("duration_ms", "exit_code", "signal", "pid", "last_output")
    found = {name: end.get(name) for name in names} | {"error": error}
    nothing = None if event.name == "attempt_lost" else 0
    found |= {f"{name}_end": end.get(f"{name}_bytes", nothing) for name in ("stdout", "stderr")}
    found["ended_at"] = moment(end.get("ended_at") or event.time)
    found["reason"] = error["code"] if error else event.data.get("reason")
    match event.name:
        case "attempt_failed":
            found["status"] = "timed_out" if found["reason"] == "timeout" else "failed"
        case "attempt_lost":
            found["status"] = "lost"
        case name:
            found["status"] = name
    return found


def _parked(log: list[Event], executions: dict[Any, Row]) -> dict[Any, Row]:
    seen = {event.entity for event in log if (event.kind, event.name) == ("execution", "discarded")}
    return {
        entity: {name: row[name] for name in PARKED.split()} | {"parked_at": row["completed_at"]}
        for entity, row in executions.items()
        if row["reason"] == "poisoned" and entity not in seen
    }


# ---- what stands until it is changed ---------------------------------------------------------------------


def _schedule(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(SCHEDULE.split()) | {"id": entity, "runs": 0, "skips": 0, "seq": life[-1].seq}
    coming: str | None = None
    for event in life:
        data = event.data
        match event.name:
            case "created":
                row |= {name: data.get(name) for name in ("description", "spec", "request")}
                row |= {"times": data["when"], "what": data.get("what", "submit"), "status": "active"}
                row |= {"catch_up": data.get("catch_up", "once"), "overlap": data.get("overlap", "allow")}
                row["created_at"], coming = moment(event.time), data.get("next")
            case "paused" | "deleted":
                row["status"] = event.name
            case "resumed":
                row["status"], coming = "active", data.get("next")
            case "ticked":
                coming = data.get("next")
                if child := data.get("execution_id") or data.get("plan_id"):
                    row |= {"last_tick": moment(data["tick"]), "last_id": child, "runs": row["runs"] + 1}
                else:
                    row["skips"] += 1
            case _:
                pass
    if row["status"] == "active":
        row |= {"next_at": moment(coming), "status": "active" if coming else "done"}
    return row


def _limits(log: list[Event]) -> dict[Any, Row]:
    """Every limit over all its pages."""
    pages: dict[str, list[Event]] = {}
    for event in log:
        if event.kind == "limit":
            pages.setdefault(re.sub(r"--\d+$", "", event.entity), []).append(event)
    return {entity: _limit(entity, life) for entity, life in pages.items()}


def _limit(entity: str, life: list[Event]) -> Row:
    row: Row = {"id": entity, "pages": 0, "seq": life[-1].seq}
    holders = set[str]()
    for event in life:
        data = event.data
        if event.name in ("set", "removed", "opened"):
            rate: Row = data.get("rate") or {}
            row |= {f"rate_{name}": rate.get(name) for name in ("count", "per_ms")} | {"max": data.get("max")}
            row |= {"changed_at": moment(event.time), "active": event.name == "set"}
        match event.name:
            case "set":
                row |= {"scope": data["on"], "target": data["target"]}
            case "opened":
                row |= {"active": data.get("force", False), "pages": row["pages"] + 1}
                holders = set[str](data.get("holders", {}))
            case "removed":
                holders.clear()
            case "granted" | "counted":
                holders |= set(data["ids"])
            case "returned":
                holders -= set(data["ids"])
            case _:
                pass
    return row | {"used": len(holders)}


def _template(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(TEMPLATE.split()) | {"id": entity, "seq": life[-1].seq}
    for event in life:
        row["status"] = "deleted"
        if event.name == "saved":
            plan: Row = event.data["definition"]
            row |= {name: plan.get(name) for name in ("description", "params")}
            row |= {"strategy": plan.get("strategy", "serial"), "definition": plan, "status": "kept"}
            row |= {"version": event.data["version"], "comment": event.data.get("comment")}
            row["saved_at"] = moment(event.time)
            row["created_at"] = row["created_at"] or row["saved_at"]
    return row


# ---- nodes, findings, decisions ------------------------------------------------------------------------


def _node(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(("host", "pid", "version", "cores", "memory_bytes", "started_at", "stopped_at"))
    row |= {"id": entity, "status": "unknown", "boot": "", "roles": [], "languages": [], "restarts": 0}
    row["seq"] = life[-1].seq
    for event in life:
        match event.name:
            case "started":
                names = ("boot", "host", "pid", "version", "cores", "memory_bytes")
                row |= {name: event.data.get(name) for name in names}
                row |= {name: event.data.get(name, []) for name in ("roles", "languages")}
                row |= {"status": "up", "started_at": moment(event.time), "stopped_at": None, "restarts": 0}
            case "stopped":
                row |= {"status": "down", "stopped_at": moment(event.time)}
            case "actor_restarted" | "process_restarted":
                row["restarts"] += 1
            case _:
                pass
    return row


def _finding(entity: str, life: list[Event]) -> Row:
    row: Row = {"id": entity, "closed_at": None, "data": {}, "seq": life[-1].seq}
    for event in life:
        if event.name == "opened":
            row |= {name: event.data.get(name) for name in ("type", "about", "text")}
            row |= {"data": event.data.get("data", {}), "opened_at": moment(event.time), "closed_at": None}
        else:
            row["closed_at"] = moment(event.time)
    return row


def _decision(event: Event) -> Row:
    row: Row = {"id": event.entity, "seq": event.seq, "time": moment(event.time)}
    row |= {name: event.data.get(name) for name in ("type", "module", "context")}
    return row | {"data": event.data.get("data", {})}


# ---- both ways -------------------------------------------------------------------------------------------


def differences(table: str, mine: dict[Any, Row], theirs: list[Row]) -> list[str]:
    """Compare both ways: rows and columns that only one side has, and values that differ."""
    key = "seq" if table == "events" else "id"
    found = {row[key]: row for row in theirs}
    bad = [f"{table} {each}: only in the log" for each in mine.keys() - found.keys()]
    bad += [f"{table} {each}: only in the table" for each in found.keys() - mine.keys()]
    if len(found) != len(theirs):
        bad.append(f"{table}: {len(theirs) - len(found)} rows have the key of another")
    for each in mine.keys() & found.keys():
        here, there = _plain(mine[each]), _plain(found[each])
        bad += [
            f"{table} {each} {name}: log {here.get(name)!r}, table {there.get(name)!r}"
            for name in sorted((here.keys() | there.keys()) - set(HIDDEN))
            if here.get(name) != there.get(name) or (name in here) != (name in there)
        ]
    return bad


def _plain(row: Row) -> Row:
    """A row as JSON has it, with whole numbers as numbers however they were written."""
    return _number(json.loads(json.dumps(row)))


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{16,19}", value) else value
    if isinstance(value, dict):
        return {name: _number(each) for name, each in cast("Row", value).items()}
    return [_number(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value
