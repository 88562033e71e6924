"""Observers hear of every fact, each at its own pace, and nobody ever waits for them."""

import json
import logging
import os
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from events.codec import Fact

log = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
PAUSE_MAX_SECONDS = 60.0
LARGEST = 500
"""Facts that a handler of lots is given at once."""


class EventHandler(Protocol):
    """Somebody who wants to hear of facts, at least once each, in order; an error means "again later"."""

    def on_event(self, event: Fact) -> None:
        """Hear of one fact."""
        ...


@runtime_checkable
class LotHandler(Protocol):
    """The same for somebody who would rather hear of many at once; an error means all of them again."""

    def on_facts(self, facts: Sequence[Fact]) -> None:
        """Hear of the next facts."""
        ...


@dataclass(frozen=True, slots=True)
class Lot:
    """The next facts of the log, in order."""

    facts: Sequence[Fact]


class Bookmark:
    """A private file that says up to which sequence an observer has heard."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self.seq: int | None = int(path.read_text()) if path.exists() else None

    def save(self, seq: int) -> None:
        """Move the bookmark, in one step."""
        self.seq = seq
        new = self._path.with_suffix(".new")
        new.write_text(str(seq))
        new.replace(self._path)


class Observer:
    """Gives facts to one handler; after an error it waits, ever longer, and gives the same one again."""

    every = 0.2

    def __init__(
        self, handler: EventHandler | LotHandler, bookmark: Bookmark, more: Callable[[int], None]
    ) -> None:
        self._handler, self._bookmark, self._more = handler, bookmark, more
        self._facts: list[Fact] = []
        self._pause, self._due = 0.0, 0.0
        self._seq = bookmark.seq or 0
        self._saved = time.monotonic()

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        if not isinstance(message, Lot):
            raise TypeError(f"an observer has no use for a {type(message).__name__}")
        self._facts += message.facts
        self._work()

    def tick(self) -> None:
        """Try again what failed, and write down how far it came."""
        self._work()
        if self._seq != (self._bookmark.seq or 0) and time.monotonic() - self._saved >= SAVE_SECONDS:
            self._bookmark.save(self._seq)
            self._saved = time.monotonic()

    def _work(self) -> None:
        if time.monotonic() < self._due:
            return
        done = 0
        size = LARGEST if isinstance(self._handler, LotHandler) else 1
        for lot in [self._facts[at : at + size] for at in range(0, len(self._facts), size)]:
            try:
                self._give([fact for fact in lot if fact.seq > self._seq])
            except Exception as error:  # noqa: BLE001 -- whatever a handler of somebody else raises means "later"
                self._pause = min(PAUSE_MAX_SECONDS, max(0.5, self._pause * 2))
                self._due = time.monotonic() + self._pause
                log.warning(
                    "%s failed at %d, again in %.1f s: %s",
                    type(self._handler).__name__,
                    lot[0].seq,
                    self._pause,
                    error,
                )
                break
            self._seq = max(self._seq, lot[-1].seq)
            self._pause = 0.0
            done += len(lot)
        del self._facts[:done]
        if done:
            self._more(done)

    def _give(self, facts: Sequence[Fact]) -> None:
        if isinstance(self._handler, LotHandler):
            self._handler.on_facts(facts)
            return
        for fact in facts:
            self._handler.on_event(fact)


def line(fact: Fact) -> dict[str, Any]:
    """A fact as one flat record."""
    return {
        "seq": fact.seq,
        "time": fact.time,
        "kind": fact.kind,
        "entity": fact.entity,
        "n": fact.n,
        "event": fact.name,
        "by": fact.envelope.by,
        "cause": fact.envelope.cause,
        "data": json.loads(fact.body),
    }


class LogFile:
    """Writes every fact as a line of JSON."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def on_event(self, event: Fact) -> None:
        """Write one line."""
        os.write(self._fd, msgspec.json.encode(line(event)) + b"\n")


class Webhook:
    """Posts every fact as JSON; anything but a 2xx answer within ten seconds means "again later"."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"webhook.url must be http or https, not {url!r}")
        self._url = url

    def on_event(self, event: Fact) -> None:
        """Post one fact."""
        request = urllib.request.Request(  # noqa: S310 -- the scheme was checked
            self._url,
            data=msgspec.json.encode(line(event)),
            headers={
                "Content-Type": "application/json",
                "Brain-Seq": str(event.seq),
                "Brain-Id": event.envelope.id,
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- the scheme was checked
            answer.read()
