"""Telling open pages that something happened: one subscription for all of them, however many there are.

The pages have no clock of their own either.  Once a second each is told what time it is.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from bus import subjects
from bus.bridge import Subscription
from events.clock import stamp

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from interfaces.api import ExecutionEngine

GATHER_SECONDS = 0.3
"""A page is told of what happened no more often than that."""
TICK_SECONDS = 1.0


class Hub:
    """Hears of every fact while somebody looks; it only counts how far the log is."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine
        self._heard: list[Subscription] = []
        self._pages = 0
        self._seq = self._samples = 0
        self._news = asyncio.Event()
        self._opening = asyncio.Lock()

    async def follow(self, after: int) -> AsyncGenerator[bytes]:
        """Server-sent events for one page: `changed` with the log's last event, and `tick` with the time.

        `after` is the last event that the page knows; what came since is told at once.  Samples of usage
        are no facts: that there are new ones is told with the time.
        """
        told, sampled = after, self._samples
        try:
            await self._open()
            yield _message("tick", f'{{"now": "{_now()}"}}')
            loop = asyncio.get_running_loop()
            tick = loop.time() + TICK_SECONDS
            while True:
                try:
                    async with asyncio.timeout_at(tick):
                        while self._seq <= told:
                            await self._news.wait()
                        await asyncio.sleep(GATHER_SECONDS)
                except TimeoutError:
                    tick = loop.time() + TICK_SECONDS
                    yield _message("tick", f'{{"now": "{_now()}"}}')
                    told = min(told, self._seq - (sampled != self._samples))
                    sampled = self._samples
                if self._seq > told:
                    told = self._seq
                    yield _message("changed", f'{{"seq": {told}}}')
        finally:
            await self._close()

    async def _open(self) -> None:
        async with self._opening:
            self._pages += 1
            if not self._heard:
                bridge = (await self._engine.client()).bridge
                self._heard = [
                    await bridge.subscribe(f"{subjects.ROOT}.fact.>", self._hear),
                    await bridge.subscribe(f"{subjects.ROOT}.tel.execution.*", self._sample),
                ]
                self._seq = max(self._seq, await self._engine.last_seq())

    async def _close(self) -> None:
        async with self._opening:
            self._pages -= 1
            if self._pages == 0:
                bridge = (await self._engine.client()).bridge
                while self._heard:
                    await bridge.unsubscribe(self._heard.pop())

    def _hear(self, message: "Msg") -> None:
        seq = int((message.headers or {}).get("Nats-Sequence", "0"))
        if seq > self._seq:
            self._seq = seq
            news, self._news = self._news, asyncio.Event()
            news.set()

    def _sample(self, message: "Msg") -> None:  # noqa: ARG002  the shape of every listener
        self._samples += 1


def _message(event: str, data: str) -> bytes:
    return f"event: {event}\ndata: {data}\n\n".encode()


def _now() -> str:
    return stamp(round(time.time() * 1000))
