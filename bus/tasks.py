"""Tasks of the loop that nobody waits for, and how to be sure that one is over."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0


class Tasks:
    """Work that runs by itself: kept until it ends, and what it raises is logged."""

    def __init__(self, failed: str) -> None:
        """Keep none yet; `failed` is what the log says when one raises."""
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start it, in the loop."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", self._failed, exc_info=error)


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel them and wait until they are over, whatever they raise; None is no task.

    Asked more than once: `asyncio.wait_for`, which nats-py uses, may swallow a cancellation that comes with
    its result (python/cpython#86296, until 3.12).
    """
    every = [task for task in tasks if task is not None]
    pending = set(every)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)


async def apart(act: Callable[[], object]) -> None:
    """Do it in a thread of its own: at the exit of the interpreter `asyncio.to_thread` has none any more."""
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(act())
        except BaseException as error:  # noqa: BLE001  whoever waits for it gets it
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    await asyncio.wrap_future(done)
