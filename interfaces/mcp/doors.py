"""The two ways to the server: standard input and output, and the HTTP door.

Over HTTP there are no sessions: every request stands for itself, so a client does not notice that the node
was started again between two of them.
"""

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope, Send

from actors.rights import administrators
from bus.tasks import end

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

BODY_MAX = 16 * 1024 * 1024
"""Bytes of one request."""


async def serve(engine: "ExecutionEngine", administrator: str) -> None:
    """Serve whoever is at the other end of standard input and output, until it closes them.

    With the token of administrators, that one has their tools.
    """
    from mcp.server.lowlevel import NotificationOptions
    from mcp.server.stdio import stdio_server

    from interfaces.mcp.server import server

    made = server(engine, administrator, always=bool(administrator))
    told = NotificationOptions(tools_changed=True, resources_changed=True)
    async with stdio_server() as (read, write):
        await made.run(read, write, made.create_initialization_options(told))


class Agents:
    """The server as a part of the HTTP door; it is made when the first agent comes."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine
        self._running: asyncio.Task[None] | None = None
        self._begun: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._begun is None:
            self._begun = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._begun))
        manager = await asyncio.shield(self._begun)
        await manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """Stop serving; twice is fine."""
        running, self._running, self._begun = self._running, None, None
        if running is not None:
            await end(running)

    async def _run(self, begun: "asyncio.Future[Any]") -> None:
        # Reading the SDK takes a second, which others need not wait for.
        made = await asyncio.to_thread(importlib.import_module, "interfaces.mcp.server")
        http = await asyncio.to_thread(importlib.import_module, "mcp.server.streamable_http_manager")
        manager = http.StreamableHTTPSessionManager(
            made.server(self._engine, administrators(self._engine.settings.data)),
            stateless=True,
            max_request_body_size=BODY_MAX,
        )
        async with manager.run():
            begun.set_result(manager)
            await asyncio.Event().wait()
