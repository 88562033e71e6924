"""A policy: by which rules the scaler decides, with every number in them; it is data, and lies in a file."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from events.errors import Validation
from events.message import Message
from events.params import near

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Milliseconds in a unit of time."""


class Policy(Message, omit_defaults=False):
    """All of it is written with every decision, so a default that changes later changes no past."""

    kind: Literal["classic", "target"] = "classic"
    """`classic` looks at who is busy, `target` at how long what comes now would wait."""
    step: int = 2
    """How many workers start at once when all are busy, and how many end at once."""
    low_percent: float = 30.0
    """With fewer of the workers of a category busy than this, there are too many."""
    hysteresis_percent: float = 30.0
    """So far a utilisation has to come back before the same suggestion or refusal is news again."""
    auto_scale_down: bool | None = None
    """Whether workers are ended, or that is only suggested; unsaid: only `target` ends them."""
    cooldown_seconds: float = 300.0
    """For so long after a change of its workers none are ended; as long as Kubernetes waits by default."""
    restarts: int = 5
    """So many restarts of a module are allowed within the window."""
    restart_window_seconds: float = 300.0
    restart_pause_seconds: float = 5.0
    """The pause after the first restart in the window; it doubles with every further one."""
    target_wait_ms: float = 1000.0
    """With `target`: what comes now should wait no longer than this."""
    slack: float = 0.5
    """With `target`: workers are ended only if the others keep the wait under this part of the target."""

    @property
    def shrinks(self) -> bool:
        """Whether workers are ended without asking."""
        return self.kind == "target" if self.auto_scale_down is None else self.auto_scale_down


BOUNDS: dict[str, tuple[float, float]] = {
    "step": (1, 1000),
    "low_percent": (0, 100),
    "hysteresis_percent": (0, 100),
    "cooldown_seconds": (0, 604_800),
    "restarts": (0, 1000),
    "restart_window_seconds": (1, 604_800),
    "restart_pause_seconds": (0, 86_400),
    "target_wait_ms": (1, 604_800_000),
    "slack": (0.01, 1),
}
"""Between which numbers each of them has to lie."""
STRETCHES = {
    name.removesuffix(unit): (name, scale)
    for name in BOUNDS
    for unit, scale in (("_seconds", 1000), ("_ms", 1))
    if name.endswith(unit)
}
"""Stretches of time by their name without a unit, under which they are a text such as `90s`."""


def read(tree: Mapping[str, Any]) -> Policy:
    """Make a policy of what a file says; `Validation` names the field that is wrong, and which was meant."""
    known = [field.name for field in msgspec.structs.fields(Policy)]
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name, said = key, value
        if key in STRETCHES:
            name, scale = STRETCHES[key]
            said = _stretch(key, value) / scale
        if name not in known:
            raise Validation(f"unknown key {key!r}, {near(key, [*known, *STRETCHES])}", field=key)
        if name in found:
            raise Validation(f"{key} and {name} say the same: give one of them", field=key)
        found[name] = said
    for name, value in found.items():
        field = name if name in tree else next(key for key, (full, _) in STRETCHES.items() if full == name)
        try:
            msgspec.convert({name: value}, Policy)
        except msgspec.ValidationError as error:
            raise Validation(f"{field}: {error}".split(" - at ", 1)[0], field=field) from None
        low, high = BOUNDS.get(name, (0, 0))
        if name in BOUNDS and not low <= value <= high:
            raise Validation(f"{field} is {value:g}: it must be between {low:g} and {high:g}", field=field)
    return msgspec.convert(found, Policy)


def _stretch(field: str, value: Any) -> float:
    """Read `250ms`, `90s`, `5m`, `2h` or `3d` as milliseconds."""
    text = value if isinstance(value, str) else ""
    unit = next((each for each in UNITS if text.endswith(each)), "")
    number = text.removesuffix(unit)
    if not unit or not number.replace(".", "", 1).isdecimal():
        raise Validation(f"{field} is {value!r}: write 250ms, 90s, 5m, 2h or 3d", field=field)
    return float(number) * UNITS[unit]
