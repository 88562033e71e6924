"""How far a command seems to be that says nothing about it itself: its earlier runs tell.

The tables are asked once for each command that lives for a second, a few at a time, and what they answered is
good for a while, so that many runs of one command cost one question.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from actors import clerk
from actors.clerk import Table
from events.errors import HindbrainError
from events.estimate import Guess, Run, guess
from events.execution import Progress
from events.ports import Doors
from events.spec import Blob, Spec

log = logging.getLogger(__name__)

FROM_SECONDS = 1.0
"""What lives no longer is not worth a question."""
GOOD_SECONDS, EMPTY_SECONDS = 60.0, 2.0
"""For how long an answer is good; who has never ended may have by now."""
AT_ONCE = 4
KEPT = 1000
"""Commands whose runs are remembered."""
QUESTION = (
    "SELECT duration_ms, coalesce(stdout_bytes, 0) + coalesce(stderr_bytes, 0) FROM executions"
    " WHERE status = 'completed' AND duration_ms IS NOT NULL AND kind = ? AND command = ?"
    " AND code IS NOT DISTINCT FROM ? ORDER BY seq DESC LIMIT 20"
)

Key = tuple[str, str, str | None]


class History:
    """Earlier runs by command; asked and answered in one thread, the tables answer from another."""

    def __init__(self, doors: Doors, tell: Callable[[Any], None]) -> None:
        self._doors, self._tell = doors, tell
        self._known: dict[Key, tuple[float, list[Run]]] = {}
        """Until when an answer is good, and the runs."""
        self._asking: set[Key] = set()

    def guess(self, spec: Spec, seconds: float, written: int) -> Guess | None:
        """Say how far it seems to be after so many seconds; None while nothing is known."""
        if seconds < FROM_SECONDS:
            return None
        key = _key(spec)
        known = self._known.get(key)
        if known is None or time.monotonic() > known[0]:
            self._ask(key)
        return None if known is None else guess(known[1], seconds * 1000, written)

    def learned(self, message: "Learned") -> None:
        """The tables answered."""
        self._asking.discard(message.key)
        if isinstance(message.answer, HindbrainError):
            log.debug("no history of %s: %s", message.key[1], message.answer)
            runs: list[Run] = []
        else:
            runs = [Run(duration_ms=int(row[0]), bytes=int(row[1])) for row in message.answer.rows]
        self._known.pop(message.key, None)
        self._known[message.key] = (time.monotonic() + (GOOD_SECONDS if runs else EMPTY_SECONDS), runs)
        while len(self._known) > KEPT:
            self._known.pop(next(iter(self._known)))

    def _ask(self, key: Key) -> None:
        if key not in self._asking and len(self._asking) < AT_ONCE:
            self._asking.add(key)
            clerk.ask(self._doors, QUESTION, key, lambda answer: self._tell(Learned(key=key, answer=answer)))


class Learned(msgspec.Struct, frozen=True):
    """What the tables know of earlier runs."""

    key: Key
    answer: Table | HindbrainError


def shown(said: dict[str, Any], found: Guess) -> dict[str, Any]:
    """A progress message with an estimate in it, said to be one."""
    return said | {
        "fraction": round(found.fraction, 4),
        "text": found.text,
        "eta_ms": found.eta_ms,
        "eta_low_ms": found.low_ms,
        "eta_high_ms": found.high_ms,
        "estimated": True,
    }


def progress(found: Guess) -> Progress:
    """The same for the log, in steps of five hundredths."""
    return Progress(fraction=round(found.fraction * 20) / 20, message=found.text, estimated=True)


def _key(spec: Spec) -> Key:
    code = spec.code
    return spec.form, spec.text, f"blob:{code.blob}" if isinstance(code, Blob) else code
