"""Modules, their hosts and their plugins, folded from the log in plain Python."""

from typing import Any

from tests.proofs.foldplan import Row, moment
from tests.proofs.outside import Event, by_entity

STATES = {
    "started": "running",
    "resumed": "running",
    "restarted": "running",
    "broken": "error",
    "paused": "paused",
    "stopped": "stopped",
}


def fold(log: list[Event]) -> dict[str, dict[Any, Row]]:
    """The three tables."""
    return {
        "modules": {name: _module(name, life) for name, life in by_entity(log, "module").items()},
        "workers": _workers(log),
        "plugins": {name: _plugin(name, life) for name, life in by_entity(log, "plugin").items()},
    }


def _module(name: str, life: list[Event]) -> Row:
    row: Row = {"id": name, "state": None, "reason": None, "category": "core", "priority": "medium"}
    row |= {"workers": 0, "isolation": "shared", "profile": None, "started_at": None}
    row |= {"restarts": 0, "scalings": 0, "seq": life[-1].seq}
    for event in life:
        data = event.data
        if event.name in (*STATES, "declared"):
            row["reason"] = data.get("reason")
        if event.name in STATES:
            row["state"] = STATES[event.name]
        match event.name:
            case "declared":
                profile = row["profile"] = data["profile"]
                row |= {"workers": profile.get("workers", 1), "isolation": profile.get("isolation", "shared")}
                row |= {name: profile.get(name, row[name]) for name in ("category", "priority")}
            case "scaled":
                row |= {"workers": data["workers"], "scalings": row["scalings"] + 1}
            case "started":
                row["started_at"] = moment(event.time)
            case "restarted":
                row["restarts"] += 1
            case _:
                pass
    return row


def _workers(log: list[Event]) -> dict[Any, Row]:
    rows: dict[Any, Row] = {}
    for event in log:
        if event.kind != "module" or event.name not in ("worker_started", "worker_ended"):
            continue
        data = event.data
        fresh: Row = dict.fromkeys(("module", "node", "pid", "started_at", "ended_at", "reason", "expected"))
        fresh |= {"id": data["host"], "workers": list[str]()}
        row = rows.setdefault(data["host"], fresh)
        row["seq"] = event.seq
        if event.name == "worker_started":
            row |= {"module": event.entity, "node": data["node"], "pid": data["pid"]}
            row |= {"workers": data["workers"], "started_at": moment(event.time)}
        else:
            row |= {"ended_at": moment(event.time), "reason": data["reason"]}
            row["expected"] = data.get("expected", True)
    return rows


def _plugin(name: str, life: list[Event]) -> Row:
    row: Row = {"id": name, "loaded": False, "version": "0", "source": None, "manifest": None}
    row |= {"registered_at": None, "seq": life[-1].seq}
    for event in life:
        row["loaded"] = event.name == "registered"
        if event.name == "registered":
            manifest = event.data["manifest"]
            row |= {"manifest": manifest, "version": manifest.get("version", "0")}
            row |= {"source": manifest.get("source"), "registered_at": moment(event.time)}
    return row
