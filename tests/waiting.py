"""A test waits for a fact, never for a time: these are the ways to wait.

They look again and again, because nobody tells a test of what happens in another process.  The limit only
keeps a test that fails from hanging; it is no claim about speed, so it is generous.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 30.0
LOOK_SECONDS = 0.005
ASK_SECONDS = 0.05
"""To ask costs whoever answers, too: without a pause a wait takes a whole core from what it waits for."""


def until(fact: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return what the fact says as soon as it says something true."""
    deadline, never = time.monotonic() + seconds, threading.Event()
    while not (found := fact()):
        assert time.monotonic() < deadline, f"it did not come true in {seconds:g} s"
        never.wait(LOOK_SECONDS)
    return found


async def turned(
    fact: Callable[[], Awaitable[T]], seconds: float = PATIENCE, pause: float = ASK_SECONDS
) -> T:
    """Return what a fact that must be asked for says, as soon as it says something true."""
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(seconds):
        while not (found := await fact()):
            await asyncio.wait([never], timeout=pause)
        return found


async def became(fact: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Do what `until` does, and let the loop go on meanwhile."""

    async def look() -> T:
        return fact()

    return await turned(look, seconds, LOOK_SECONDS)
