"""One network at work: what is to be said there is sent, as fast as it may be, and remembered."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from actors.files import private
from events.chat import Board, Line
from events.message import Message
from interfaces.chat.network import Away, Denied, Heard, Network

log = logging.getLogger(__name__)

LONGEST_SECONDS = 30.0
"""Between two tries when the network does not say how long to wait."""
MOST_SECONDS = 600.0
"""Nobody is left alone for longer, whatever was asked for."""


class Kept(Message):
    """What has to be known to go on after a restart."""

    since: str = ""
    """How far the room was read."""
    lines: dict[str, Line] = {}


class Desk:
    """A network, the board of what is shown there, and the file in which both are remembered."""

    def __init__(self, network: Network, kinds: Iterable[str], folder: Path) -> None:
        self.network = network
        self._path = folder / f"{network.name}.json"
        kept = msgspec.json.decode(self._path.read_bytes(), type=Kept) if self._path.exists() else Kept()
        self._since = kept.since
        self.board = Board(kinds, network.edits, kept.lines)
        self._replies: deque[tuple[str, str]] = deque()
        self._stirred = asyncio.Event()

    def hear(self, said: Mapping[str, Any]) -> None:
        """Take what a progress subject tells."""
        self.board.hear(said)
        self._stirred.set()

    def follow(self, entity: str, kind: str) -> None:
        """Show this one from now on."""
        self.board.follow(entity, kind)
        self._stirred.set()

    def reply(self, text: str, key: str) -> None:
        """Say something once, before everything else."""
        self._replies.append((text, key))
        self._stirred.set()

    async def tell(self) -> None:
        """Send what is to be said, as it becomes due; it has no end."""
        failed = 0
        while True:
            self._stirred.clear()
            try:
                sent = await self._one()
            except Away as error:
                failed += 1
                await _later("said", self.network.name, error, failed)
                continue
            failed = 0
            if not sent:
                pause = self.board.pause_ms(_now())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if pause is None else pause / 1000):
                        await self._stirred.wait()

    async def listen(self, obey: Callable[["Desk", Heard], Awaitable[None]]) -> None:
        """Hand on what people write, each time once; it has no end."""
        failed, new = 0, True
        while True:
            try:
                words, since = await self.network.heard(self._since)
            except Away as error:
                failed += 1
                await _later("heard", self.network.name, error, failed)
                continue
            if new or failed:
                log.info("listening in %s", self.network.name)
            failed, new = 0, False
            for each in words:
                await obey(self, each)
            if since != self._since:
                self._since = since
                self._keep()

    async def _one(self) -> bool:
        """Send what is most urgent; answers whether there was anything."""
        if self._replies:
            text, key = self._replies[0]
            try:
                await self.network.say(text, key)
            except Denied as error:
                log.warning("a reply was not taken: %s", error)
            self._replies.popleft()
            return True
        due = self.board.due(_now())
        if due is None:
            return False
        line = self.board.lines[due]
        text, message = line.text, line.message
        try:
            if message:
                await self.network.edit(message, text)
            else:
                message = await self.network.say(text, due)
        except Denied as error:
            log.warning("what is to be said about %s was not taken: %s", due, error)
        self.board.sent(due, text, message, _now())
        self._keep()
        return True

    def _keep(self) -> None:
        kept = Kept(since=self._since, lines=self.board.lines)
        private(self._path, msgspec.json.encode(kept).decode())


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _later(what: str, where: str, error: Away, failed: int) -> None:
    """Wait before the next try."""
    seconds = min(LONGEST_SECONDS, 2.0 ** (failed - 1)) if error.seconds is None else error.seconds
    seconds = min(MOST_SECONDS, seconds)
    log.warning("nothing can be %s in %s for %g s: %s", what, where, seconds, error)
    await asyncio.sleep(seconds)
