"""Tools of other MCP servers, over the official SDK; a server is started, or connected to, for each call."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from events.errors import NotFound, Unavailable, Validation
from events.params import near

if TYPE_CHECKING:
    from mcp import Client

    from interfaces.settings import Settings


class Answer(NamedTuple):
    """What a tool answered."""

    text: str
    content: Any
    """What it answered as data, if it did."""
    failed: bool


async def listed(settings: "Settings", server: str) -> list[tuple[str, str]]:
    """The tools of a server, each with the first line of what it says of itself."""
    async with _connected(settings, server) as client:
        found = (await client.list_tools()).tools
        return [(each.name, (each.description or "").strip().split("\n", 1)[0]) for each in found]


async def called(settings: "Settings", server: str, tool: str, arguments: dict[str, Any]) -> Answer:
    """Call a tool; `NotFound` says which there are."""
    async with _connected(settings, server) as client:
        names = [each.name for each in (await client.list_tools()).tools]
        result = await client.call_tool(tool, arguments) if tool in names else None
    if result is None:
        raise NotFound(f"server {server!r} has no tool {tool!r}, {near(tool, names)}", tool=tool)
    parts = [_written(each) for each in result.content]
    return Answer("\n".join(parts), result.structured_content, bool(result.is_error))


def _written(part: Any) -> str:
    """A part of an answer as text; what is no text is said as JSON."""
    text = getattr(part, "text", None)
    return text if isinstance(text, str) else json.dumps(part.model_dump(mode="json", exclude_none=True))


@asynccontextmanager
async def _connected(settings: "Settings", name: str) -> "AsyncGenerator[Client]":
    from mcp import Client, StdioServerParameters
    from mcp.shared.exceptions import MCPError

    server = settings.mcp.get(name)
    if server is None:
        raise NotFound(
            f"unknown MCP server {name!r}, {near(name, list(settings.mcp))}: name it in `mcp`", server=name
        )
    if (server.command is None) == (server.url is None):
        raise Validation(f"mcp.{name}: give command or url, one of them", field=f"mcp.{name}")
    where: Any = server.url
    if server.command is not None:
        environment = {key: text for key, text in os.environ.items() if not key.startswith("HINDBRAIN_")}
        where = StdioServerParameters(
            command=server.command, args=list(server.args), env=environment | server.env
        )
    try:
        async with Client(where) as client:
            yield client
    except (OSError, MCPError, ExceptionGroup) as error:
        raise Unavailable(f"the MCP server {name!r} does not answer: {_first(error)}") from None


def _first(error: Exception) -> Exception:
    """What went wrong first; the SDK tells of it in groups."""
    group = cast("ExceptionGroup[Exception]", error)
    return _first(group.exceptions[0]) if isinstance(error, ExceptionGroup) else error
