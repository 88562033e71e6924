"""A playbook as a Python program: each named step runs once, and what it returned is remembered for good.

    from interfaces.steps import step

    pages = step("fetch", fetch, "https://example.org")
    index = step("index", lambda: build(pages))

When the program is started again (its playbook was resumed, or is a fork), steps that are behind it are not
run: they return what they returned.  What stands between steps runs every time, and nobody asks whether it
does the same.  Only the steps themselves must come in the order in which they came: where that has changed,
`Changed` shows the difference, the program ends, and its playbook is paused.

What is remembered lies in the file that `$HINDBRAIN_CHECKPOINT` names, so checkpoints take it along.
"""

import difflib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from events.errors import Conflict, Validation

P = ParamSpec("P")
T = TypeVar("T")


class Changed(Conflict):
    """The steps of this program are not those that are remembered."""


class _Line(msgspec.Struct, frozen=True):
    """One step that is behind it."""

    step: str
    value: Any = None


class Steps:
    """What is remembered of one run; `path` is its file, and without one nothing is remembered."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, threading.RLock()
        self._known = [] if path is None else _read(path)
        self._names: list[str] = []

    def step(self, name: str, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something once, and from then on return what it returned: text, numbers, lists, objects.

        `Changed`: another step was here before.  `Validation`: the name is given twice, or what it returned
        cannot be written down.
        """
        with self._lock:
            if name in self._names:
                raise Validation(f"there are two steps named {name!r}", field="name")
            self._names.append(name)
            place = len(self._names) - 1
            if place < len(self._known):
                if self._known[place].step != name:
                    raise Changed(self._difference(), step=name)
                value: T = self._known[place].value
                return value
            return self._keep(_Line(name, do(*args, **kwargs)))

    def _keep(self, line: _Line) -> Any:
        try:
            written = msgspec.json.encode(line) + b"\n"
        except (TypeError, msgspec.MsgspecError) as error:
            raise Validation(
                f"step {line.step!r}: what it returned is no JSON: {error}", field="value"
            ) from None
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
        # The same as it will be when it is read back.
        self._known.append(msgspec.json.decode(written, type=_Line))
        return self._known[-1].value

    def _difference(self) -> str:
        before = [line.step for line in self._known[: len(self._names)]]
        lines = list(difflib.unified_diff(before, self._names, "remembered", "now", lineterm="", n=2))
        return (
            "the steps of this program have changed:\n"
            + "\n".join(lines)
            + "\nGo on with the program as it was, resume or fork the playbook from a checkpoint before the "
            "change, or cancel it."
        )


def _read(path: Path) -> list[_Line]:
    """What is remembered; a last line that was cut off when the machine stopped never was."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, _, rest = data.rpartition(b"\n")
    if rest:
        with path.open("r+b") as file:
            file.truncate(len(data) - len(rest))
    return [msgspec.json.decode(line, type=_Line) for line in whole.split(b"\n") if line]


_ours: Steps | None = None


def step(name: str, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run something once in the life of the playbook that this program is; see `Steps.step`."""
    global _ours
    if _ours is None:
        text = os.environ.get("HINDBRAIN_CHECKPOINT")
        _ours = Steps(Path(text) if text else None)
    return _ours.step(name, do, *args, **kwargs)
