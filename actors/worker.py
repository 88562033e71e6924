"""A worker runs the handlers of jobs, one at a time, in a thread of its own."""

import asyncio
import inspect
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actors.plugin import Cancelled, Context, Handler, Jobs
from actors.task import VALUE_MAX, Interrupted, Port, Task

log = logging.getLogger(__name__)

_here = threading.local()  # `.task`: the job whose handler runs in this thread


class Worker:
    """Runs what it is given; `done` is told of each when its end is decided."""

    def __init__(
        self,
        name: str,
        plugin: str,
        handlers: Mapping[str, Handler],
        jobs: Jobs,
        done: Callable[[Task], None],
    ) -> None:
        self.name, self._plugin, self._handlers, self._jobs, self._done = name, plugin, handlers, jobs, done
        self._runner: asyncio.Runner | None = None

    def receive(self, message: Any) -> None:
        """Run a job."""
        if not isinstance(message, Task):
            raise TypeError(f"a worker has no use for a {type(message).__name__}")
        if message.begun:
            # The worker before this one died of it, outside of its handler.
            message.close("raised", f"worker {self.name} died")
        else:
            message.begun = True
            self._run(message)
        self._done(message)

    def _run(self, task: Task) -> None:
        task.began_ms, task.began = time.time_ns() // 1_000_000, time.monotonic()
        task.alive = task.began
        job = task.state.spec.job
        handler = self._handlers.get(job.type) if job else None
        if job is None or handler is None:
            task.close("raised", f"there is no handler of {job.type if job else 'commands'} here")
            return
        pid = os.getpid()
        try:
            value, problem = self._call(handler, job.data, task)
        except Interrupted:
            value, problem = None, "it was interrupted"
        finally:
            if os.getpid() != pid:
                # The handler forked and its child came back: it has no business here.
                os._exit(0)
            task.leave()
            if task.hits:
                _settle()
        if problem is None:
            _result(handler, task, value)
        elif problem is Cancelled:
            task.close("cancelled", "the handler stopped")
        else:
            task.close("raised", str(problem))

    def _call(self, handler: Handler, data: Any, task: Task) -> tuple[Any, Any]:
        """What the handler gives, and what it died of: None, `Cancelled`, or a text."""
        _here.task = task
        with task.lock:
            task.thread = threading.get_ident()
        given: Any = data
        try:
            given = handler.read(data)
            return self._invoke(handler, given, task), None
        except (Cancelled, asyncio.CancelledError):
            if task.cancelled or task.over:
                return None, Cancelled
            return None, "the handler was cancelled by itself"
        except Interrupted:
            raise
        except BaseException as error:
            log.debug("%s failed", task.entity, exc_info=True)
            task.write("".join(traceback.format_exception(error)[-12:]), "stderr")
            self._tell(handler, error, given, task)
            text = f"{error}".strip()
            return None, f"{type(error).__name__}: {text[:2000]}" if text else type(error).__name__
        finally:
            _here.task = None

    def _invoke(self, handler: Handler, given: Any, task: Task) -> Any:
        if handler.classic:
            made = handler.run(given, task.entity)
        else:
            args: list[Any] = [given] if handler.takes_data else []
            if handler.takes_context:
                args.append(self._context(task))
            made = handler.run(*args)
        return self._await(made, task) if inspect.isawaitable(made) else made

    def _context(self, task: Task) -> Context:
        job = task.state.spec.job
        kind = job.type if job else ""
        return Context(self._plugin, self._jobs, task.entity, kind, task.attempt, Port(task), task.remaining)

    def _await(self, made: Any, task: Task) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        loop = self._runner.get_loop()

        async def run() -> Any:
            current = asyncio.current_task()
            if current is not None:
                with task.lock:
                    task.stop = lambda: _threadsafe(loop, current.cancel)
            return await made

        return self._runner.run(run())

    def _tell(self, handler: Handler, error: BaseException, given: Any, task: Task) -> None:
        """Give the handler's `on_error` its chance; what goes wrong there is noted."""
        if handler.on_error is None:
            return
        try:
            made = handler.on_error(error, given, task.entity)
            if inspect.isawaitable(made):
                self._await(made, task)
        except Exception as failure:  # noqa: BLE001  the job has failed already, of something else
            task.write(f"on_error failed too: {failure!r}\n", "stderr")


def _threadsafe(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(act)
    except RuntimeError:  # the loop is closed: there is nothing to stop any more
        return


def _settle() -> None:
    """Let an interruption arrive that was thrown just before it was too late."""
    try:
        for _ in range(3):
            time.sleep(0)
    except (Interrupted, Cancelled):
        return


def _result(handler: Handler, task: Task, value: Any) -> None:
    try:
        plain = msgspec.to_builtins(value)
        size = len(msgspec.json.encode(plain))
    except Exception as error:  # noqa: BLE001  whatever it is made of may raise anything
        kind = type(value).__name__
        task.close("raised", f"{handler.type} returned {kind}, which is no plain data: {error}")
        return
    if size > VALUE_MAX:
        text = (
            f"{handler.type} returned {size} bytes, more than {VALUE_MAX}: keep it elsewhere and return where"
        )
        task.close("raised", text)
        return
    task.close("returned", value=plain)


class Routed(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of a host: what a handler prints belongs to its job."""

    def __init__(self, stream: str, beside: Any) -> None:
        self._stream, self._beside = stream, beside

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, text: str, /) -> int:
        """Write it where it belongs."""
        task = getattr(_here, "task", None)
        if task is None:
            self._beside.write(text)
        else:
            task.write(text, self._stream)
        return len(text)

    def flush(self) -> None:
        """Hand on what nobody's job wrote."""
        self._beside.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override] -- text goes in, whoever takes it encodes it
        """How it is written in the end."""
        return "utf-8"


def route() -> None:
    """Have everything that is printed here go to the job that prints it."""
    sys.stdout, sys.stderr = Routed("stdout", sys.stdout), Routed("stderr", sys.stderr)
