"""The door for agents over standard input and output."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli.options import place

if TYPE_CHECKING:
    from interfaces.settings import Settings


@click.command("mcp")
@place
def mcp_verb(settings: Any) -> None:
    r"""Serve an agent (MCP) over standard input and output.  A node is started when none runs.

    \b
    claude mcp add brain -- hindbrain mcp
    """
    from interfaces.cli.background import ensure

    given: Settings = settings()
    ensure(given)
    asyncio.run(_serve(given))


async def _serve(settings: "Settings") -> None:
    from interfaces.api import ExecutionEngine
    from interfaces.mcp.doors import serve

    engine = ExecutionEngine.new(settings)
    try:
        await serve(engine)
    finally:
        await engine.close()
