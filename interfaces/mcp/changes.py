"""Whoever listens is told when the tools and resources are others: a plugin was loaded, upgraded or unloaded.

Clients of 2026-07-28 open `subscriptions/listen`, over both transports.  Older ones are told over standard
output; over HTTP there is nothing that belongs to them between two requests, and they list again.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import mcp_types as wire
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ToolsListChanged,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from bus.tasks import end
from events.codec import Fact
from events.errors import HindbrainError
from events.plugin import Registered

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]

AGAIN_SECONDS = 1.0
SETTLED_SECONDS = 5.0
"""A node lists a plugin at most so long after the fact that it was loaded."""


class Changes:
    """Hears of plugins, and tells those who listen."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine
        self._bus = InMemorySubscriptionBus()
        self._handler = ListenHandler(self._bus)
        self._older: ServerSession | None = None

    async def listen(
        self, context: Context, params: wire.SubscriptionsListenRequestParams
    ) -> wire.SubscriptionsListenResult:
        """Tell one client from now on, until it goes."""
        return await self._handler(context, params)

    def remember(self, context: Context) -> None:
        """Keep the way to a client of the older protocol at the other end of standard output."""
        if context.request is None and context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            self._older = context.session

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Hear of plugins as long as somebody is served."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._handler.close()
            await end(task)

    async def _watch(self) -> None:
        while True:
            try:
                async with await (await self._engine.client()).facts("plugin") as facts:
                    async for fact in facts:
                        if fact is not None:
                            await self._settled(fact)
                        await self._tell()
            except HindbrainError as error:
                log.info("changes of plugins cannot be heard now: %s", error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _settled(self, fact: Fact) -> None:
        """Wait until the node lists what the fact says, so that whoever asks at once sees it."""
        loaded = isinstance(fact.event, Registered)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_SECONDS):
                while True:
                    found = (await self._engine.request("plugin", "list"))["plugins"]
                    if any(each["name"] == fact.entity and each["loaded"] == loaded for each in found):
                        return
                    await asyncio.sleep(0.05)

    async def _tell(self) -> None:
        for event in (ToolsListChanged(), ResourcesListChanged()):
            await self._bus.publish(event)
        if self._older is not None:
            await self._older.send_tool_list_changed()
            await self._older.send_resource_list_changed()
