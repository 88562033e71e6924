"""The tables folded from the log in plain Python: a second opinion that shares no code with the first.

It reads the reference of the tables and nothing else.  Output (`stdout`, `stderr`) lies in files, not here.
"""

import json
import re
import shlex
from datetime import UTC, datetime
from typing import Any

from tests.proofs.outside import TERMINAL, Event, by_entity

Row = dict[str, Any]
Tables = dict[str, dict[Any, Row]]
EMPTY = """
    status reason held kind command code language description node pid exit_code signal error
    created_at queued_at started_at completed_at duration_ms timeout_ms progress progress_current
    progress_total last_output last_output_at idempotency_key plan_id retry_of"""
"""Columns of an execution that are null until something is said."""
HIDDEN = ("stdout", "stderr")
KNOWN = {
    "execution": ["held", "queued", "started", "progressed", "attempt_failed", "attempt_lost", *TERMINAL],
    "node": ["started", "stopped", "actor_restarted", "process_restarted"],
    "finding": ["opened", "closed"],
}


def fold(log: list[Event]) -> Tables:
    """Every folded table, its rows by their key."""
    return {
        "executions": {entity: _execution(entity, life) for entity, life in by_entity(log).items()},
        "nodes": {entity: _node(entity, life) for entity, life in by_entity(log, "node").items()},
        "findings": {entity: _finding(entity, life) for entity, life in by_entity(log, "finding").items()},
        "events": {event.seq: _event(event) for event in log},
    }


def _event(event: Event) -> Row:
    head = {name: event.headers.get(f"Brain-{name.title()}", "") for name in ("id", "cause", "by", "prev")}
    row = {"seq": event.seq, "kind": event.kind, "entity": event.entity, "n": event.n, "event": event.name}
    trace = event.headers.get("traceparent", "")
    return row | head | {"time": _time(event.time), "trace": trace, "data": event.data}


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _known(life: list[Event], kind: str) -> list[Event]:
    return [event for event in life if event.name in KNOWN[kind]]


def _execution(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(EMPTY.split())
    row |= {"id": entity, "labels": [], "module": "commands", "priority": "medium", "attempt": 0}
    row |= {"stdout_bytes": 0, "stderr_bytes": 0}
    born = False
    for event in _known(life, "execution"):
        data, row["seq"] = event.data, event.seq
        if event.name in ("held", "queued") and not born:
            born = True
            row |= _birth(data) | {"created_at": _time(event.time)}
        match event.name:
            case "held":
                row["status"] = "scheduled" if data.get("reason") == "time" else "queued"
                row["held"] = {
                    "reason": data.get("reason"),
                    "by": data.get("taken_by"),
                    "until": data.get("until"),
                }
            case "queued":
                row |= {"status": "queued", "held": None, "queued_at": _time(event.time)}
            case "started":
                row |= {"status": "running", "node": data["node"], "attempt": data["attempt"], "pid": None}
                row |= {"started_at": _time(event.time)} | _said({})
            case "progressed":
                row |= _said(data)
                row["pid"] = data.get("pid") or row["pid"]
            case "attempt_failed" | "attempt_lost":
                row["status"] = "queued"
            case name if name in TERMINAL:
                row |= _end(name, event, data)
            case _:
                pass
    return row


def _birth(data: Row) -> Row:
    spec: Row = data.get("spec") or {}
    found: Row = {"labels": spec.get("labels", []), "module": spec.get("module", "commands")}
    found |= {"priority": spec.get("priority", "medium"), "retry_of": data.get("retry_of")}
    names = ("language", "description", "timeout_ms", "idempotency_key")
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
        "last_output": data.get("last_output"),
        "last_output_at": _time(data.get("last_output_at")),
        "stdout_bytes": data.get("stdout_bytes", 0),
        "stderr_bytes": data.get("stderr_bytes", 0),
    }


def _end(name: str, event: Event, data: Row) -> Row:
    end: Row = data.get("end") or {}
    error = data.get("error")
    found = {field: end.get(field) for field in ("pid", "exit_code", "signal", "duration_ms")} | _said(end)
    found |= {"status": name, "held": None, "error": error}
    found["reason"] = error["code"] if name == "failed" and error else None
    return found | {"completed_at": _time(end.get("ended_at") or event.time)}


def _node(entity: str, life: list[Event]) -> Row:
    row: Row = dict.fromkeys(("host", "pid", "version", "cores", "memory_bytes", "started_at", "stopped_at"))
    row |= {"id": entity, "status": "unknown", "boot": "", "roles": [], "restarts": 0}
    for event in _known(life, "node"):
        data, row["seq"] = event.data, event.seq
        match event.name:
            case "started":
                names = ("boot", "host", "pid", "version", "cores", "memory_bytes")
                row |= {name: data.get(name) for name in names} | {"roles": data.get("roles", [])}
                row |= {"status": "up", "started_at": _time(event.time), "stopped_at": None, "restarts": 0}
            case "stopped":
                row |= {"status": "down", "stopped_at": _time(event.time)}
            case _:
                row["restarts"] += 1
    return row


def _finding(entity: str, life: list[Event]) -> Row:
    row: Row = {"id": entity, "closed_at": None, "data": {}}
    for event in _known(life, "finding"):
        row["seq"] = event.seq
        if event.name == "opened":
            row |= {name: event.data.get(name) for name in ("type", "about", "text")}
            row |= {"data": event.data.get("data", {}), "opened_at": _time(event.time), "closed_at": None}
        else:
            row["closed_at"] = _time(event.time)
    return row


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
    return {name: _number(value) for name, value in json.loads(json.dumps(row)).items()}


def _number(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d{16,19}", value):
        return int(value)
    return value
