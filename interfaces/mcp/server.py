"""The tools and resources as an MCP server; beside `tasks` the only file that knows the SDK.

A tool that refuses answers a result with `isError`, so that a model reads why and corrects itself; only a
call of something that is not there is an error of the protocol.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import mcp_types as wire
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from events.errors import HindbrainError, Internal, NotFound
from interfaces.guard import bearer
from interfaces.mcp import plugins
from interfaces.mcp.answers import answered, protocol, refused
from interfaces.mcp.changes import Changes
from interfaces.mcp.resources import TEMPLATES, recent, resource
from interfaces.mcp.table import TOOLS
from interfaces.mcp.tasks import Tasks
from interfaces.mcp.telling import Telling
from interfaces.mcp.tools import Call, Tool, quiet

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

T = TypeVar("T")
Context = ServerRequestContext[Any, Any]

NAME = "brain"
LISTED_MS = 60_000
"""How long a list of tools may be kept by a client that does not listen."""
INSTRUCTIONS = (
    "Runs code in the background and never forgets what happened. execute answers an id at once; what runs "
    "goes on by itself, also when this connection or the server is gone. For short work call wait, then "
    "result. For long work do something else, and call catch_up when you come back: it tells only what "
    "changed. Do not poll status in a loop. output reads in portions by cursor; sql answers anything else, "
    "also about the past."
)


def server(engine: "ExecutionEngine", administrator: str = "", always: bool = False) -> "Server[Any]":
    """Make the server over a facade; it may serve many connections.

    `administrator` is the token that gives whoever shows it the tools of administrators; with `always`,
    everybody at the other end has them.
    """
    doors = _Doors(engine, administrator, always)
    made: Server[Any] = Server(
        NAME,
        version=metadata.version("hindbrain"),
        title="Hindbrain",
        description="Background executions with a history",
        instructions=INSTRUCTIONS,
        lifespan=lambda _: doors.changes.watching(),
        on_list_tools=doors.list_tools,
        on_call_tool=doors.call_tool,
        on_subscriptions_listen=doors.telling.listen,
        on_list_resources=doors.list_resources,
        on_list_resource_templates=doors.list_templates,
        on_read_resource=doors.read_resource,
    )
    doors.tasks.join(made)
    return made


class _Doors:
    """What is answered."""

    def __init__(self, engine: "ExecutionEngine", administrator: str, always: bool) -> None:
        self._engine, self._administrator, self._always = engine, administrator, always
        self.tasks, self.changes = Tasks(engine), Changes(engine)
        self.telling = Telling(engine, self.tasks, self.changes.listen)

    async def list_tools(
        self, context: Context, _: wire.PaginatedRequestParams | None
    ) -> wire.ListToolsResult:
        """Our tools, and those of plugins that may be used from here."""
        self.changes.remember(context)
        more = await self._read(plugins.offered, context)
        tools = [*map(_shown, TOOLS.values()), *map(_brought, more)]
        return wire.ListToolsResult(tools=tools, ttl_ms=LISTED_MS)

    def _token(self, context: Context) -> str | None:
        """What the caller shows, if it is an administrator's."""
        if self._always:
            return self._administrator
        shown = "" if context.request is None else bearer(context.request)
        known = self._administrator.encode()
        return self._administrator if known and hmac.compare_digest(shown.encode(), known) else None

    async def call_tool(self, context: Context, params: wire.CallToolRequestParams) -> Any:
        """Run one tool; as a task, when the client knows tasks and the work goes on behind the answer."""
        tool = TOOLS.get(params.name)
        call = Call(self._engine, context.session.report_progress, self._token(context))
        try:
            if tool is None:
                reply = await plugins.use(call, params.name, params.arguments or {})
            else:
                reply = await tool(call, params.arguments or {})
            task = await self.tasks.made(context, params.name, reply)
        except NotFound as error:
            if tool is None and error.message.startswith("there is no tool"):
                raise MCPError(wire.INVALID_PARAMS, error.message) from None
            return refused(error.problem)
        except HindbrainError as error:
            return refused(error.problem)
        except Exception:
            # What nobody expected must not tell an agent, or end the connection of others.
            log.exception("the tool %s failed", params.name)
            return refused(Internal().problem)
        return answered(reply) if task is None else task

    async def list_resources(
        self, context: Context, _: wire.PaginatedRequestParams | None
    ) -> wire.ListResourcesResult:
        """The output of what ran last, artifacts that were kept last, and what plugins have."""
        self.changes.remember(context)
        return wire.ListResourcesResult(resources=await self._read(recent, context))

    async def list_templates(
        self, _: Context, __: wire.PaginatedRequestParams | None
    ) -> wire.ListResourceTemplatesResult:
        """The addresses that can be read."""
        return wire.ListResourceTemplatesResult(resource_templates=list(TEMPLATES), ttl_ms=3_600_000)

    async def read_resource(
        self, context: Context, params: wire.ReadResourceRequestParams
    ) -> wire.ReadResourceResult:
        """One of them."""
        contents = await self._read(lambda call: resource(call, params.uri), context)
        return wire.ReadResourceResult(contents=[contents])

    async def _read(self, read: Callable[[Call], Awaitable[T]], context: Context) -> T:
        with protocol():
            return await read(Call(self._engine, quiet, self._token(context)))


def _brought(row: dict[str, Any]) -> wire.Tool:
    return wire.Tool(
        name=row["name"],
        description=f"{row['description']} (of the plugin {row['plugin']})",
        input_schema=plugins.schema(row["schema"]),
        annotations=wire.ToolAnnotations(destructive_hint=True, open_world_hint=True),
    )


def _shown(tool: Tool) -> wire.Tool:
    hints = tool.hints
    return wire.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.text,
        input_schema=tool.input,
        output_schema=tool.output,
        annotations=wire.ToolAnnotations(
            title=tool.title,
            read_only_hint=hints.read_only,
            destructive_hint=hints.destructive,
            idempotent_hint=hints.idempotent,
            open_world_hint=hints.open_world,
        ),
    )
