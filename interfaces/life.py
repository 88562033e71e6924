"""The life of one entity: its facts, and the state that the rules make of them, one by one."""

from collections.abc import Sequence
from typing import Any

import msgspec

from events import codec
from events.clock import millis
from events.errors import Validation
from events.ports import Decider

KEPT = ("seq", "time", "event", "data")


def rules(kind: str) -> Decider[Any]:
    """Give the rules of a kind of entity; `Validation` for a kind that there is not."""
    if kind not in codec.KINDS:
        raise Validation(f"there is no kind {kind!r}: {', '.join(codec.KINDS)}", field="kind")
    return getattr(codec.KINDS[kind], kind.upper())


def life(kind: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold facts one by one, the oldest first, and keep the state after each."""
    decider = rules(kind)
    state = decider.initial
    found: list[dict[str, Any]] = []
    before: int | None = None
    for row in rows:
        state = decider.evolve(state, fact(kind, row))
        now = millis(row["time"])
        said = {name: getattr(state, name) for name in ("phase", "status", "attempt") if hasattr(state, name)}
        found.append(
            {
                **{name: row[name] for name in KEPT},
                "delta_ms": 0 if before is None else now - before,
                "state": said | msgspec.to_builtins(state, enc_hook=str),
            }
        )
        before = now
    return found


def fact(kind: str, row: dict[str, Any]) -> codec.Fact:
    """Make a fact of a row of the log as the doors show it."""
    body = msgspec.json.encode(row["data"])
    head = {name: row[name] or "" for name in ("id", "time", "cause", "by", "prev", "trace")}
    return codec.Fact(
        seq=row["seq"],
        kind=kind,
        entity=row["entity"],
        n=row["n"],
        event=codec.decode(kind, body),
        envelope=codec.Envelope(**head),
        subject="",
        body=body,
    )


def changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Say what of a state became different, as far as that is a word or a number."""
    return ", ".join(
        f"{name} {value}"
        for name, value in after.items()
        if before.get(name) != value
        and name not in ("seq", "digest")
        and isinstance(value, str | int | float)
    )


def said(row: dict[str, Any]) -> str:
    """Say in a few words what a fact of an execution is about."""
    data: dict[str, Any] = row["data"]
    match row["event"]:
        case "held" | "queued" if "spec" in data:
            forms = ("exec", "shell", "code", "script", "aws", "job")
            shown = next((data["spec"][form] for form in forms if form in data["spec"]), "")
            return shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()
        case "started" if "node" in data:
            return f"on {data['node']}"
        case "progressed":
            progress: dict[str, Any] = data.get("progress") or {}
            return progress.get("message") or data.get("last_output") or f"pid {data.get('pid', '-')}"
        case "attempt_lost":
            return data["reason"]
        case "cancel_requested":
            return data.get("reason") or ""
        case _:
            end, error = data.get("end", {}), data.get("error")
            return error["message"] if error else f"exit code {end.get('exit_code', '-')}"
