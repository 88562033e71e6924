"""An observer of one engine: it is told what happens to everything that the engine executes."""

import asyncio
import codecs
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from events.message import Message, token
from events.service import Execution, Outcome

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)


class Happening(Message, omit_defaults=False, tag_field="event", tag=token):
    """Something that happened to an execution."""

    execution_id: str
    timestamp: str | None


class Started(Happening):
    """It runs."""

    command: str


class Stdout(Happening):
    """It wrote a line, given without its end."""

    line: str


class Stderr(Happening):
    """It wrote a line to its error output."""

    line: str


class Progress(Happening):
    """It said how far it is."""

    current: float | None
    total: float | None
    text: str | None


class Completed(Happening):
    """It ended well."""

    result: Outcome


class Failed(Happening):
    """It ended badly."""

    error: dict[str, Any]


class Cancelled(Happening):
    """It was stopped on request."""


class TimedOut(Happening):
    """It was stopped because it took too long."""

    error: dict[str, Any]


class EventHandler(Protocol):
    """Whoever wants to be told; called in the loop of the engine, so it must be quick."""

    def on_event(self, event: Happening) -> None:
        """Take note; what is raised is logged and stops nothing."""
        ...


async def tell(engine: "ExecutionEngine", execution_id: str, handlers: Sequence[EventHandler]) -> None:
    """Follow one execution to its end, and tell of it in order: started, lines and progress, the end."""

    def say(event: Happening) -> None:
        for handler in handlers:
            try:
                handler.on_event(event)
            except Exception:  # a handler is somebody else's code; its failure is its own
                log.exception("a handler failed at %s of %s", type(event).__name__, execution_id)

    started = asyncio.Event()

    async def steps() -> None:
        async for step in engine.progress(execution_id):
            if not started.is_set() and step["status"] not in ("queued", "scheduled", "cancelled"):
                now = await engine.get_status(execution_id)
                say(Started(execution_id=execution_id, timestamp=now.started_at, command=now.command))
                started.set()
            if step.get("text") and not step["final"]:
                numbers = {name: step.get(name) for name in ("current", "total", "text")}
                say(Progress(execution_id=execution_id, timestamp=step.get("time"), **numbers))
        started.set()

    async def lines() -> None:
        split = {"stdout": _Lines(), "stderr": _Lines()}
        kinds = {"stdout": Stdout, "stderr": Stderr}
        async for chunk in engine.output(execution_id):
            await started.wait()
            for line in split[chunk.stream].feed(chunk.data):
                say(kinds[chunk.stream](execution_id=execution_id, timestamp=chunk.time, line=line))
        for stream, rest in split.items():
            for line in rest.close():
                say(kinds[stream](execution_id=execution_id, timestamp=None, line=line))

    await asyncio.gather(steps(), lines())
    say(await _end(engine, await engine.get_status(execution_id)))


async def _end(engine: "ExecutionEngine", now: Execution) -> Happening:
    where: dict[str, Any] = {"execution_id": now.id, "timestamp": now.completed_at}
    match now.status:
        case "completed":
            return Completed(**where, result=await engine.get_result(now.id))
        case "cancelled":
            return Cancelled(**where)
        case "timed_out":
            return TimedOut(**where, error=now.error or {})
        case _:
            return Failed(**where, error=now.error or {})


class _Lines:
    """Cuts a stream into lines; a letter or a line may come in pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._part = ""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._part = (self._part + self._decoder.decode(data)).split("\n")
        return [line.removesuffix("\r") for line in whole]

    def close(self) -> list[str]:
        rest = self._part + self._decoder.decode(b"", final=True)
        self._part = ""
        return [rest] if rest else []
