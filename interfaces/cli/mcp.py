"""The door for agents over standard input and output."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli.options import place, token

if TYPE_CHECKING:
    from interfaces.settings import Settings


@click.command("mcp")
@click.option("--admin", is_flag=True, help="Let it use the tools of plugins that are for administrators.")
@place
def mcp_verb(settings: Any, admin: bool) -> None:
    r"""Serve an agent (MCP) over standard input and output.  A node is started when none runs.

    \b
    claude mcp add brain -- hindbrain mcp
    """
    from interfaces.cli.background import ensure

    given: Settings = settings()
    ensure(given)
    shown = token(given) if admin else ""
    if admin and not shown:
        raise click.UsageError(f"--admin: the token in {given.data / 'admin.token'} cannot be read")
    asyncio.run(_serve(given, shown))


async def _serve(settings: "Settings", administrator: str) -> None:
    from interfaces.api import ExecutionEngine
    from interfaces.mcp.doors import serve

    engine = ExecutionEngine.new(settings)
    try:
        await serve(engine, administrator)
    finally:
        await engine.close()
