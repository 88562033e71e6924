"""The door to chats."""

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli.options import place

if TYPE_CHECKING:
    from interfaces.settings import Settings


@click.command("chat")
@place
def chat_verb(settings: Any) -> None:
    r"""Show what goes on in the chats of the settings, and take commands there; stays in the foreground.

    It goes on by itself when a node or a chat was away.

    \b
    HINDBRAIN_CHAT__MATRIX__TOKEN=syt_... hindbrain chat
    """
    import logging

    given: Settings = settings()
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=given.log.level.upper(), format=form, stream=sys.stderr)
    # What it logs about requests is not for others.
    logging.getLogger("nio").setLevel(logging.ERROR)
    asyncio.run(_serve(given))


async def _serve(settings: "Settings") -> None:
    from interfaces.chat.door import Door

    task = asyncio.ensure_future(Door(settings).run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
