"""Server-sent events of one execution (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Output has no `event:` line, progress and the end have theirs.  The id of each message says which bytes were
sent so far, so that a browser that comes back gets exactly the rest.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from bus.tasks import end
from events.errors import HindbrainError, Validation

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.live import Chunk

log = logging.getLogger(__name__)

ALIVE_SECONDS = 15.0
"""After so long without a word a comment is sent, for whoever closes silent connections."""
TOGETHER = 32 * 1024
"""Messages that wait are sent together up to about so many bytes: who reads takes them in quickly."""
STUCK_SECONDS = 20.0
"""Who takes nothing for so long is dropped."""
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
}
_PLACE = re.compile(r"o(\d{1,15})\.e(\d{1,15})")


class Events(StreamingResponse):
    """An answer of server-sent events; whoever does not read is dropped, not waited for."""

    def __init__(self, messages: AsyncGenerator[bytes]) -> None:
        super().__init__(messages, headers=HEADERS)
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the end, until the other one goes, or until it is stuck."""

        async def hurried(message: Message) -> None:
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await send(message)
            except TimeoutError:
                log.info("dropped a reader of %s that was stuck", scope["path"])
                raise ClientDisconnect from None

        try:
            with contextlib.suppress(ClientDisconnect):
                await super().__call__(scope, receive, hurried)
        finally:
            await self._messages.aclose()


def place(text: str, name: str = "Last-Event-ID") -> dict[str, int]:
    """Read a Last-Event-ID; an empty one is the beginning."""
    if not text:
        return {"stdout": 0, "stderr": 0}
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Validation(f"{text!r} is no place in this output", field=name)
    return {"stdout": int(match[1]), "stderr": int(match[2])}


def message(data: Any, offsets: dict[str, int], event: str | None = None) -> bytes:
    """Write one message."""
    head = f"event: {event}\n" if event else ""
    head += f"id: o{offsets['stdout']}.e{offsets['stderr']}\n"
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


class Letters:
    """Cuts a stream of bytes where letters end, so that no UTF-8 sequence is torn."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """Where the next text begins."""
        self._rest = b""

    def feed(self, data: bytes, last: bool = False) -> tuple[int, str] | None:
        """Add bytes; gives offset and text of what is whole now, None while nothing is."""
        whole = self._rest + data
        cut = len(whole) if last else len(whole) - _torn(whole)
        text, self._rest = whole[:cut], whole[cut:]
        if not text:
            return None
        begin, self.offset = self.offset, self.offset + len(text)
        return begin, text.decode(errors="replace")


def _torn(data: bytes) -> int:
    """Say how many bytes at the end are the beginning of a letter."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


async def stream(
    engine: "ExecutionEngine", execution_id: str, offsets: dict[str, int]
) -> AsyncGenerator[bytes]:
    """Everything from these offsets on; ends with the event `end`."""
    heard: asyncio.Queue[Chunk | dict[str, Any] | BaseException | None] = asyncio.Queue(64)
    tasks = [
        asyncio.create_task(_pass(engine.output(execution_id, offsets), heard, ends=True)),
        asyncio.create_task(_pass(engine.progress(execution_id), heard, ends=False)),
    ]
    letters = {name: Letters(offset) for name, offset in offsets.items()}

    def sent() -> dict[str, int]:
        return {name: each.offset for name, each in letters.items()}

    def written(each: "Chunk | dict[str, Any]") -> bytes:
        if isinstance(each, dict):
            return message(each, sent(), "progress")
        whole = letters[each.stream].feed(each.data)
        if whole is None:
            return b""
        said = {"stream": each.stream, "offset": whole[0], "time": each.time, "text": whole[1]}
        return message(said, sent())

    try:
        over = False
        while not over:
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    each = await heard.get()
            except TimeoutError:
                yield b": alive\n\n"
                continue
            # What is there already goes out together: of a long history that is one write, not hundreds.
            together = b""
            while each is not None and not isinstance(each, BaseException):
                together += written(each)
                if heard.empty() or len(together) > TOGETHER:
                    break
                each = heard.get_nowait()
            over = each is None
            if isinstance(each, BaseException):
                problem = each.problem if isinstance(each, HindbrainError) else None
                yield together + message({"error": problem}, sent(), "error")
                return
            if together:
                yield together
        for name, each in letters.items():
            if (whole := each.feed(b"", last=True)) is not None:
                yield message({"stream": name, "offset": whole[0], "time": None, "text": whole[1]}, sent())
        yield message(await engine.wait_for_completion(execution_id), sent(), "end")
    finally:
        await end(*tasks)


async def _pass(source: AsyncIterator[Any], heard: "asyncio.Queue[Any]", ends: bool) -> None:
    """Hand on what comes; with `ends`, say when there is no more."""
    try:
        async for each in source:
            await heard.put(each)
    except HindbrainError as error:
        await heard.put(error)
    else:
        if ends:
            await heard.put(None)
