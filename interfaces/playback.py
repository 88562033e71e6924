"""A run played back: its output comes again at the pace at which it came, or at another one."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from events.clock import millis
from events.errors import Validation

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.live import Chunk

SPEED_MAX = 1e6


async def play(
    engine: "ExecutionEngine", execution_id: str, speed: float = 1.0, idle_seconds: float | None = None
) -> "AsyncGenerator[Chunk]":
    """Give all output until now, piece by piece, `speed` times as quick as it was written.

    It begins with the start of the execution, so a silence before the first word is a silence again; no
    silence is longer than `idle_seconds` (of the playback), if that is given.
    """
    if not 0 < speed <= SPEED_MAX:
        raise Validation(f"speed is {speed:g}: it must be above 0, and at most {SPEED_MAX:g}", field="speed")
    began = next(
        (row["time"] for row in await engine.events(execution_id) if row["event"] == "started"), None
    )
    loop = asyncio.get_running_loop()
    last = None if began is None else millis(began)
    due = loop.time()
    async for chunk in engine.output(execution_id, follow=False):
        if chunk.time is not None:
            now = millis(chunk.time)
            wait = max(0, now - (now if last is None else last)) / 1000 / speed
            due += wait if idle_seconds is None else min(wait, idle_seconds)
            last = now
            # Against a clock, so that what a piece takes to show does not add up.
            if (rest := due - loop.time()) > 0:
                await asyncio.sleep(rest)
        yield chunk
