"""Where two executions part: in what was asked, in what happened, and in what was written."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from events.clock import millis
from interfaces.life import said

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.live import Chunk

CONTEXT = 3
"""Lines before a difference that are shown with it."""
LONGEST = 64 * 1024
"""Bytes of a line that are compared at once; a longer one is taken in parts."""
PACE = ("progressed",)
"""Facts that say how quick it was, and not what happened."""
OWN = ("idempotency_key", "plan_id", "step", "schedule_id", "trace")
"""What belongs to one request and not to the work."""


class Line(NamedTuple):
    """A line of output, and when its last part came."""

    number: int
    text: bytes
    time: str | None


class Parting(NamedTuple):
    """The first line that differs; None on the side that had ended."""

    one: Line | None
    other: Line | None
    before: list[bytes]
    """What both wrote just before."""


def asked(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Say in which fields two specs differ, by dotted name; None where a side has none."""
    first, second = _flat(one), _flat(other)
    names = [name for name in {**first, **second} if name.split(".")[0] not in OWN]
    return {
        name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    }


def happened(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> tuple[int, str | None, str | None] | None:
    """Find the first fact in which two lives differ: which one it is, and what each says."""
    first, second = _essence(one), _essence(other)
    for place in range(max(len(first), len(second))):
        mine = first[place] if place < len(first) else None
        yours = second[place] if place < len(second) else None
        if mine != yours:
            return place + 1, mine, yours
    return None


async def written(engine: "ExecutionEngine", one: str, other: str, stream: str) -> Parting | None:
    """Find the first line of a stream that two executions wrote differently."""
    mine, yours = (lines(engine.output(each, {stream: 0}, follow=False)) for each in (one, other))
    before: list[bytes] = []
    while True:
        first, second = await anext(mine, None), await anext(yours, None)
        if first is None and second is None:
            return None
        if first is None or second is None or first.text != second.text:
            return Parting(first, second, before)
        before = [*before, first.text][-CONTEXT:]


async def lines(chunks: "AsyncIterator[Chunk]") -> AsyncGenerator[Line]:
    """Cut output into lines, without their ends."""
    rest, number, time = b"", 0, None
    async for chunk in chunks:
        time = chunk.time or time
        *whole, rest = (rest + chunk.data).split(b"\n")
        for text in whole:
            number += 1
            yield Line(number, text, time)
        while len(rest) > LONGEST:
            number += 1
            yield Line(number, rest[:LONGEST], time)
            rest = rest[LONGEST:]
    if rest:
        yield Line(number + 1, rest, time)


async def compare(engine: "ExecutionEngine", one: str, other: str) -> dict[str, Any]:
    """Compare two executions in every way; what is the same is None or empty."""
    lives = [await engine.events(each) for each in (one, other)]
    began = [next((row["time"] for row in life if row["event"] == "started"), None) for life in lives]
    specs = [next(row["data"]["spec"] for row in life if "spec" in row["data"]) for life in lives]
    parted = happened(*lives)
    found: dict[str, Any] = {
        "asked": [
            {"field": name, "one": mine, "other": yours} for name, (mine, yours) in asked(*specs).items()
        ],
        "happened": None if parted is None else {"place": parted[0], "one": parted[1], "other": parted[2]},
        "same": False,
    }
    for stream in ("stdout", "stderr"):
        parting = await written(engine, one, other, stream)
        found[stream] = parting and {
            "line": (parting.one or parting.other or Line(0, b"", None)).number,
            "before": [each.decode(errors="replace") for each in parting.before],
            "one": _shown(parting.one, began[0]),
            "other": _shown(parting.other, began[1]),
        }
    found["same"] = not any(found[name] for name in ("asked", "happened", "stdout", "stderr"))
    return found


def _shown(line: Line | None, began: str | None) -> dict[str, Any] | None:
    if line is None:
        return None
    after = None if began is None or line.time is None else max(0, millis(line.time) - millis(began))
    return {"text": line.text.decode(errors="replace"), "after_ms": after}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, dict):
            found |= _flat(cast("dict[str, Any]", each), f"{prefix}{name}.")
        else:
            found[prefix + name] = each
    return found


def _essence(life: Sequence[Mapping[str, Any]]) -> list[str]:
    """What happened, in words that two runs can share: no ids, no times, no nodes."""
    found: list[str] = []
    for row in life:
        match row["event"]:
            case name if name in PACE:
                continue
            case "started":
                found.append(f"started, attempt {row['data']['attempt']}")
            case "queued":
                found.append("queued")
            case "held":
                found.append(f"held: {row['data']['reason']}")
            case name:
                found.append(f"{name}: {said(dict(row))}".replace("_", " "))
    return found
