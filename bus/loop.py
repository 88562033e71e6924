"""One asyncio loop in a daemon thread of its own, and the ways for other threads to reach it."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from events.errors import Timeout, Trouble, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_SECONDS = 6.0


class Loop:
    """A loop that starts and stops, once or many times."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._outbox: deque[Callable[[], None]] = deque()
        self._woken = False
        self._wake = threading.Lock()

    def start(self) -> None:
        """Start the thread; `Unavailable` when what lives in the loop does not come up."""
        if self._thread is not None:
            return
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=self._name, daemon=True)
        self._thread.start()
        started.wait()
        try:
            self.call(self._begin(), None)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what lives in the loop, and the thread; what still waits in it fails with `Unavailable`."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        with contextlib.suppress(Trouble):
            self.call(self._finish(), STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        self._thread = self._loop = None

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Run it in the loop and wait for it, at most `timeout` seconds (`Timeout`).

        `Unavailable` when the loop does not run, or ends meanwhile.  Never from the loop itself.
        """
        loop = self._loop
        if loop is None or threading.current_thread() is self._thread:
            coroutine.close()
            if loop is None:
                raise Unavailable("the bus is not running")
            raise RuntimeError("the loop of the bus cannot wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout)
        except concurrent.futures.CancelledError:
            raise Unavailable("the bus is stopping") from None
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise Timeout(f"the bus did not answer in {timeout:g} s") from None

    def post(self, act: Callable[[], None]) -> None:
        """Have it called in the loop, in the order of the posts; many posts wake the loop once.

        It must be quick.  `Unavailable` when the loop does not run.
        """
        loop = self._loop
        if loop is None:
            raise Unavailable("the bus is not running")
        self._outbox.append(act)
        with self._wake:
            if self._woken:
                return
            self._woken = True
        try:
            loop.call_soon_threadsafe(self._empty)
        except RuntimeError:  # it was closed since we looked
            raise Unavailable("the bus is not running") from None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself; `Unavailable` when it does not run."""
        if self._loop is None:
            raise Unavailable("the bus is not running")
        return self._loop

    async def _begin(self) -> None:
        """Bring up what lives here."""

    async def _finish(self) -> None:
        """End what lives here."""

    def _empty(self) -> None:
        with self._wake:
            self._woken = False
        for _ in range(len(self._outbox)):
            act = self._outbox.popleft()
            try:
                act()
            except Exception:  # one bad errand must not lose those behind it
                log.exception("an errand to the bus failed")

    def _run(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._outbox.clear()
        self._woken = False
        self._loop = loop
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()
