"""Streams of facts and of progress as server-sent events and over a WebSocket.

What is told on the bus may be missed, what is stored is not: a feed of facts listens first, then reads what
is stored behind its place, and reads there again whenever something may have been missed.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from bus.client import Watch
from bus.tasks import end
from events import view
from events.codec import KINDS, Fact
from events.errors import HindbrainError, Timeout, Unavailable, Validation
from interfaces import sse
from interfaces.sse import ALIVE_SECONDS

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

PAGE = 500
HELD = 64
"""So much waits for a slow reader; then the bus waits."""
MOST = 50
"""Entities that one socket may follow."""
_PLACE = re.compile(r"s(\d{1,15})")
_ROWS = (
    'SELECT seq, id, time, kind, entity, n, event, cause, "by", prev, trace, data FROM events '
    "WHERE seq > $after AND id IS NOT NULL AND ($kind IS NULL OR kind = $kind) "
    "AND ($entity IS NULL OR entity = $entity) ORDER BY seq LIMIT $page"
)


class Feed:
    """Facts of a kind, of one entity or all of them, behind a sequence; without one, from now on."""

    def __init__(
        self, engine: "ExecutionEngine", kind: str | None, entity: str | None, after: int | None
    ) -> None:
        if kind is not None and kind not in KINDS:
            raise Validation(f"there is no kind {kind!r}: {', '.join(KINDS)}", field="kind")
        self._engine = engine
        self._which = {"kind": kind, "entity": entity}
        self._after = after
        self._watch: Watch[Fact] | None = None

    async def open(self) -> None:
        """Begin to listen; `Validation` for what cannot be an entity."""
        client = await self._engine.client()
        self._watch = await client.facts(self._which["kind"] or "*", self._which["entity"] or "*")

    async def close(self) -> None:
        """Listen no longer; twice is fine."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.aclose()

    async def rows(self) -> AsyncGenerator[dict[str, Any] | None]:
        """Each fact once and in order; None after a while without any."""
        if self._watch is None:
            return
        head = await self._engine.last_seq()
        last = head if self._after is None else self._after
        async for row in self._stored(last, head):
            last = row["seq"]
            yield row
        while True:
            fact: Fact | None = None
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    fact = await anext(self._watch)
            except TimeoutError:
                yield None
            if fact is not None:
                if fact.seq > last:
                    last = fact.seq
                    yield msgspec.json.decode(msgspec.json.encode(view.row(fact)))
                continue
            # Nothing was heard for a while, or something was missed: what is stored knows.
            with contextlib.suppress(Timeout, Unavailable):
                async for row in self._stored(last, await self._engine.last_seq()):
                    last = row["seq"]
                    yield row

    async def _stored(self, after: int, upto: int) -> AsyncGenerator[dict[str, Any]]:
        while True:
            params = {**self._which, "after": after, "page": PAGE}
            table = await self._engine.sql(_ROWS, params=params, min_seq=upto)
            names = [column.name for column in table.columns]
            for values in table.rows:
                row = dict(zip(names, values, strict=True))
                after = row["seq"]
                yield row
            if len(table.rows) < PAGE:
                return


def place(text: str) -> int | None:
    """Read a Last-Event-ID of this feed; an empty one is none."""
    if not text:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Validation(f"{text!r} is no place in this stream", field="Last-Event-ID")
    return int(match[1])


async def facts(feed: Feed) -> AsyncGenerator[bytes]:
    """Facts as server-sent events; it has no end."""
    try:
        async for row in feed.rows():
            if row is None:
                yield b": alive\n\n"
            else:
                yield _message("fact", row["seq"], row)
    except HindbrainError as error:
        yield _message("error", 0, {"error": error.problem})
    finally:
        await feed.close()


async def plan(engine: "ExecutionEngine", plan_id: str) -> AsyncGenerator[bytes]:
    """The progress of a plan as server-sent events, and its end with the plan."""
    heard: asyncio.Queue[Any] = asyncio.Queue(HELD)
    task = asyncio.create_task(_pass(engine, plan_id, heard))
    try:
        while True:
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    step = await heard.get()
            except TimeoutError:
                yield b": alive\n\n"
                continue
            if isinstance(step, HindbrainError):
                yield _message("error", 0, {"error": step.problem})
                return
            if step is None:
                break
            yield _message("progress", step["seq"], step)
    finally:
        await end(task)
    over, _ = await engine.wait_for_plan(plan_id)
    yield _message("end", over["seq"], over)


def _message(event: str, seq: int, data: Any) -> bytes:
    place = f"id: s{seq}\n" if seq else ""
    return f"event: {event}\n{place}".encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


async def _pass(engine: "ExecutionEngine", entity: str, heard: "asyncio.Queue[Any]") -> None:
    """Hand on the progress of one entity, and at last that there is no more, or why."""
    try:
        async for step in engine.progress(entity):
            await heard.put(step)
    except HindbrainError as error:
        await heard.put(error)
    else:
        await heard.put(None)


async def _pass_all(engine: "ExecutionEngine", heard: "asyncio.Queue[Any]") -> None:
    """Hand on all progress that is told from now on."""
    try:
        async with await (await engine.client()).all_progress() as watch:
            async for step in watch:
                if step is not None:
                    await heard.put(step)
    except HindbrainError as error:
        await heard.put(error)


async def socket(engine: "ExecutionEngine", web: WebSocket) -> None:
    """Tell progress over a WebSocket: of the entities that the address names (`?id=`), else of all.

    With names it closes when all of them are over.  Whoever does not read is dropped.
    """
    names = web.query_params.getlist("id")
    await web.accept()
    if len(names) > MOST:
        await web.close(1008, f"at most {MOST} ids for one socket")
        return
    heard: asyncio.Queue[Any] = asyncio.Queue(HELD)
    tasks = [asyncio.create_task(_pass(engine, name, heard)) for name in dict.fromkeys(names)]
    tasks = tasks or [asyncio.create_task(_pass_all(engine, heard))]
    open_ones = len(tasks)
    sending = asyncio.create_task(_send(web, heard, open_ones))
    listening = asyncio.create_task(_listen(web))
    try:
        await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(sending, listening, *tasks)


async def _send(web: WebSocket, heard: "asyncio.Queue[Any]", left: int) -> None:
    while left:
        step = await heard.get()
        if step is None:
            left -= 1
            continue
        if isinstance(step, HindbrainError):
            left -= 1
            step = {"error": msgspec.to_builtins(step.problem)}
        try:
            async with asyncio.timeout(sse.STUCK_SECONDS):
                await web.send_text(msgspec.json.encode(step).decode())
        except (TimeoutError, WebSocketDisconnect):
            return
    await web.close()


async def _listen(web: WebSocket) -> None:
    """Nothing is expected; but so it is noticed that the other one has gone."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await web.receive_text()
