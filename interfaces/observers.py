"""The observers of a node: who hears of facts, and from where on each goes on reading."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.actor import Actor
from actors.observer import Bookmark, EventHandler, LogFile, Lot, LotHandler, Observer, Webhook
from actors.otlp import Otlp
from actors.supervisor import Child
from bus.bridge import Bridge
from bus.history import Record
from bus.reader import Reader
from events.codec import Fact
from events.errors import Damaged, HindbrainError
from events.ports import Log
from interfaces.settings import Settings

log = logging.getLogger(__name__)

WINDOW = 1000
"""Facts that may wait for one observer; the rest waits in the log."""


class Tap:
    """One observer's own reading of the log; a new actor of its name begins again at its bookmark."""

    def __init__(
        self,
        name: str,
        handler: EventHandler | LotHandler,
        data: Path,
        bridge: Bridge,
        since: int,
        tell: Callable[[Any], None],
    ) -> None:
        self.name, self._handler, self._bridge, self._tell = name, handler, bridge, tell
        self._bookmark = Bookmark(data / "observers" / name)
        if self._bookmark.seq is None:
            self._bookmark.save(since)
        self._reader: Reader | None = None
        self._beginning: asyncio.Task[None] | None = None

    def child(self) -> Child:
        """The actor."""
        return Child(f"observer-{self.name}", self._make)

    def _make(self) -> Actor:
        self._bridge.post(self._again)
        return Actor(Observer(self._handler, self._bookmark, self._more), name=f"observer-{self.name}")

    def _more(self, count: int) -> None:
        if self._reader is not None:
            self._reader.taken(count)

    def _again(self) -> None:
        self._beginning = asyncio.ensure_future(self._begin())

    async def _begin(self) -> None:
        if self._reader is not None:
            await self._reader.stop()
        reader = self._reader = Reader(
            self._bridge, self._take, self._damaged, after=self._bookmark.seq or 0, window=WINDOW
        )
        try:
            await reader.start()
        except HindbrainError:
            log.exception("observer %s does not hear anything", self.name)

    def _take(self, records: Sequence[Record]) -> None:
        facts: list[Fact] = []
        for record in records:
            try:
                facts.append(record.fact())
            except HindbrainError as error:
                log.warning("observer %s is not told of %d: %s", self.name, record.seq, error)
                self._bridge.loop.call_soon(self._more, 1)
        self._tell(Lot(facts))

    def _damaged(self, reason: Damaged) -> None:
        log.error("observer %s stops: %s", self.name, reason)


def handlers(
    settings: Settings, journal: Log, node: str, version: str
) -> dict[str, EventHandler | LotHandler]:
    """The observers that the settings ask for."""
    found: dict[str, EventHandler | LotHandler] = {}
    if settings.log.facts:
        found["log"] = LogFile(settings.data / "logs" / "facts.jsonl")
    if settings.webhook.url:
        found["webhook"] = Webhook(settings.webhook.url)
    if settings.otlp.endpoint:
        found["otlp"] = Otlp(settings.otlp.endpoint, journal, node, version)
    return found
