"""Tools of other MCP servers, called from a command line or a step of a playbook."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from interfaces.cli.options import place

if TYPE_CHECKING:
    from interfaces.settings import Settings

FAILED, REMOTE = 1, "remote:"
TEXT_MOST = 32 * 1024
"""Bytes of text that become an output of a step."""


@click.command("call")
@click.argument("server")
@click.argument("tool", required=False)
@click.argument("arguments", required=False)
@place
def call_verb(settings: Any, server: str, tool: str | None, arguments: str | None) -> None:
    r"""Call a tool of an MCP server that the settings name; without a tool, list those that there are.

    A server `remote:URL` is another Hindbrain, which is handed a phase of a task.

    What it answers is printed; in a step of a playbook its text is the output `text`, and what it answers as
    data is `content`.  A tool that failed ends with 1.

    \b
    hindbrain call files
    hindbrain call files read '{"path": "notes.txt"}'
    """
    try:
        given: Any = json.loads(arguments) if arguments else {}
    except ValueError as error:
        raise click.UsageError(f"the arguments are no JSON: {error}") from None
    if not isinstance(given, dict):
        raise click.UsageError('the arguments have to be an object, such as \'{"path": "notes.txt"}\'')
    sys.exit(asyncio.run(_call(settings(), server, tool, cast("dict[str, Any]", given))))


async def _call(settings: "Settings", server: str, tool: str | None, arguments: dict[str, Any]) -> int:
    from interfaces.tools import called, listed

    if server.startswith(REMOTE):
        from interfaces.remote import followed

        return await followed(settings, server.removeprefix(REMOTE), arguments)
    if tool is None:
        for name, text in await listed(settings, server):
            click.echo(f"{name}  {text}".rstrip())
        return 0
    answer = await called(settings, server, tool, arguments)
    click.echo(answer.text, nl=not answer.text.endswith("\n"), err=answer.failed)
    if answer.failed:
        return FAILED
    if path := os.environ.get("HINDBRAIN_OUTPUT"):
        text = answer.text.encode()[:TEXT_MOST].decode(errors="ignore")
        outputs = {"text": text} | ({} if answer.content is None else {"content": answer.content})
        await asyncio.to_thread(Path(path).write_text, json.dumps(outputs))
    return 0
