"""How values are put into words on a page."""

import math
import re
import shlex
from typing import Any, cast

import msgspec

from events.clock import millis
from events.estimate import duration

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_PERCENT = re.compile(r"(\d{1,3})%")
NONE = "\u2013"
"""What stands where there is nothing: an en dash."""
LONGEST = 400
"""Letters of a text that a table shows; its page has the rest."""


def plain(text: str | None, most: int = LONGEST) -> str:
    """Text without what steers terminals, cut where it gets long."""
    shown = _ESCAPES.sub("", (text or "")[: most * 8])
    return shown if len(shown) <= most else shown[:most] + "…"


def size(count: float | None) -> str:
    """Bytes as people say it."""
    if count is None:
        return NONE
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def short(name: str | None) -> str:
    """The first letters of an id: enough to tell it from others."""
    head, _, rest = (name or "").partition("_")
    return f"{head}_{rest[:8]}" if rest else head


def clock(time: str | None, now: str = "") -> str:
    """The time of day, with the date where that is another one than now."""
    if not time:
        return NONE
    day, _, rest = time.partition("T")
    return rest[:8] if now.startswith(day) else f"{day} {rest[:8]}"


def age(time: str | None, now: int) -> str:
    """How long ago it was, in whole seconds and minutes; `page.js` says it in the same words."""
    if not time:
        return NONE
    seconds = max(0, now - millis(time)) // 1000
    minutes = seconds // 60
    if minutes == 0:
        return f"{seconds} s"
    return (
        f"{minutes} min {seconds % 60:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
    )


def fraction(row: dict[str, Any]) -> float | None:
    """How much of an execution is done, between 0 and 1; None when nobody knows."""
    current, total = row.get("progress_current"), row.get("progress_total")
    if isinstance(current, int | float) and isinstance(total, int | float) and total > 0:
        return min(1.0, max(0.0, current / total))
    said = _PERCENT.match(row.get("progress") or "")
    return min(1.0, int(said[1]) / 100) if said else None


def left(started: str | None, done: float | None, now: int) -> str | None:
    """How long it will still take, if it goes on as it did."""
    if not started or not done or done >= 1:
        return None
    wait = (now - millis(started)) * (1 - done) / done
    return duration(wait) if math.isfinite(wait) and wait < 86_400_000 * 30 else None


def pretty(value: Any) -> str:
    """A value as JSON that people can read."""
    if isinstance(value, str):
        return value
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()


def compact(value: Any, most: int = LONGEST) -> str:
    """A value on one line."""
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return plain(text.replace("\n", "⏎"), most)


def count(number: int | None) -> str:
    """A number with its thousands set apart."""
    return NONE if number is None else f"{number:,}"


def wish(spec: dict[str, Any] | None) -> str:
    """What a schedule submits, as a person would write it."""
    match spec or {}:
        case {"exec": {"program": program, **more}}:
            return shlex.join([program, *cast("list[str]", more.get("args") or [])])
        case {"shell": {"command": str(text)}} | {"code": str(text)} | {"script": {"path": str(text)}}:
            return text.strip().partition("\n")[0]
        case {"name": str(text)} | {"template": str(text)} if text:
            return text
        case given:
            return compact(given)
