"""What is told while it happens, on top of what is stored: no gap, no repeat, however late one comes.

The bus is quick and may lose; the files of the node are slow and complete.  So a follower first listens, then
reads what is stored, then takes from the bus what fits exactly behind, and reads again where it does not.
"""

import asyncio
import base64
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from events.errors import Timeout, Unavailable
from interfaces import together
from interfaces.together import QUIET_SECONDS, fresh, recent, tail

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")
PAGE = 256 * 1024
"""Bytes that are asked for at once."""
PATIENCE = 60
"""How many quiet spells a node may be away before its followers give up."""


class Chunk(msgspec.Struct, frozen=True):
    """A piece of output: `offset` is where it begins in its stream, in bytes."""

    stream: str
    offset: int
    time: str | None
    data: bytes

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.data)

    @property
    def text(self) -> str:
        """The piece as text, broken UTF-8 replaced."""
        return self.data.decode(errors="replace")


class _Reader:
    """One stream of one execution, read page by page from the node."""

    def __init__(self, engine: "ExecutionEngine", execution_id: str, stream: str, offset: int) -> None:
        self._engine = engine
        self._ask = {"execution_id": execution_id, "stream": stream, "encoding": "base64"}
        self.next = offset
        self.over = False

    async def page(self, shared: bool = False) -> list[Chunk]:
        """Read what is there, at most a page; nothing when all was read.

        A `shared` answer may be one that somebody else got a moment ago, any other is asked for after now.
        """
        if self.over:
            return []
        body: dict[str, Any] = {**self._ask, "offset": self.next, "max_bytes": PAGE}

        def ask() -> Coroutine[Any, Any, dict[str, Any]]:
            return self._engine.request("execution", "logs", **body)

        reply = await (recent if shared else fresh)(self._engine, tuple(body.values()), ask)
        chunks = [
            Chunk(piece["stream"], piece["offset"], piece.get("time"), base64.b64decode(piece["base64"]))
            for piece in reply["chunks"]
        ]
        self.next = reply["next_offset"]
        self.over = reply["end"]
        return chunks

    async def chunks(self, shared: bool = False) -> AsyncGenerator[Chunk]:
        """Read everything that is there."""
        while page := await self.page(shared):
            for chunk in page:
                yield chunk


def _readers(
    engine: "ExecutionEngine", execution_id: str, offsets: Mapping[str, int] | None
) -> dict[str, _Reader]:
    places = dict.fromkeys(STREAMS, 0) if offsets is None else offsets
    return {stream: _Reader(engine, execution_id, stream, offset) for stream, offset in places.items()}


async def stored(
    engine: "ExecutionEngine", execution_id: str, offsets: Mapping[str, int] | None = None
) -> AsyncGenerator[Chunk]:
    """Output until now from the given offsets on, the streams merged by time."""
    async with contextlib.aclosing(_merged(_readers(engine, execution_id, offsets))) as chunks:
        async for chunk in chunks:
            yield chunk


async def _merged(readers: Mapping[str, _Reader], shared: bool = False) -> AsyncGenerator[Chunk]:
    heads: dict[str, tuple[Chunk, AsyncGenerator[Chunk]]] = {}
    for stream, reader in readers.items():
        chunks = reader.chunks(shared)
        if (first := await anext(chunks, None)) is not None:
            heads[stream] = first, chunks
    while heads:
        stream = min(heads, key=lambda each: heads[each][0].time or "")
        chunk, chunks = heads[stream]
        yield chunk
        following = await anext(chunks, None)
        if following is None:
            del heads[stream]
        else:
            heads[stream] = following, chunks


async def follow(
    engine: "ExecutionEngine", execution_id: str, offsets: Mapping[str, int] | None = None
) -> AsyncGenerator[Chunk]:
    """Output from the given offsets on, until the execution is over; `NotFound` for an unknown one."""
    readers = _readers(engine, execution_id, offsets)
    async for chunk in _merged(readers):
        yield chunk
    places = {name: readers[name].next if name in readers else None for name in STREAMS}
    away, look = 0, dict[str, _Reader]()
    async with tail(engine, execution_id, places) as (heard, joined):
        if joined:
            async for chunk in _merged(readers):
                yield chunk
        while not all(reader.over for reader in readers.values()):
            quiet = False
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    piece = await heard.get()
            except TimeoutError:
                piece, quiet = None, True
            if piece is None:
                # Nothing was said for long, or all was said: the files know.
                look = readers
            else:
                reader = readers[piece.stream]
                if reader.over:
                    continue
                if piece.offset > reader.next:
                    look = {piece.stream: reader}
                elif piece.end:
                    reader.over = True
                elif new := piece.data[reader.next - piece.offset :]:
                    chunk = Chunk(piece.stream, reader.next, piece.time, new)
                    reader.next += len(new)
                    yield chunk
            try:
                async for chunk in _merged(look, quiet):
                    yield chunk
                away, look = 0, {}
            except (Timeout, Unavailable):
                away += 1
                if away > PATIENCE:
                    raise


async def progress(engine: "ExecutionEngine", entity: str) -> AsyncGenerator[dict[str, Any]]:
    """How far something is: what is known now, then every change; the last one is final."""
    away = 0
    kind = {"plan": "plan", "play": "playbook"}.get(entity.partition("_")[0], "execution")
    async with together.told(engine, kind, entity) as heard:
        last: dict[str, Any] | None = None
        told: dict[str, Any] | None = None
        quiet = False
        while True:
            if told is None:
                try:
                    ask = functools.partial(standing, engine, kind, entity)
                    told = await (recent if quiet else fresh)(engine, (kind, entity), ask)
                    away = 0
                except (Timeout, Unavailable):
                    away += 1
                    if away > PATIENCE:
                        raise
            if told is not None and (last is None or _differs(told, last)):
                last = told
                yield told
                if told["final"]:
                    return
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    told = await heard.get()
                quiet = False
            except TimeoutError:
                told, quiet = None, True


def _differs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    seen = ("status", "current", "total", "message", "fraction", "text", "last_output", "final")
    return any(one.get(key) != other.get(key) for key in seen)


async def standing(engine: "ExecutionEngine", kind: str, entity: str) -> dict[str, Any]:
    """How far something is, as it would be told now."""
    if kind == "execution":
        return _now(msgspec.to_builtins(await engine.get_status(entity)))
    if kind == "playbook":
        return _playbook((await engine.request("playbook", "get", playbook_id=entity))["playbook"])
    return _plan((await engine.request("plan", "get", plan_id=entity))["plan"])


def _playbook(found: dict[str, Any]) -> dict[str, Any]:
    """Say of a playbook what is told about its progress."""
    done, total = found["completed"], found["total"]
    return {
        "kind": "playbook",
        "id": found["id"],
        "status": found["status"],
        "current": done,
        "total": total,
        "unit": "steps",
        "message": found["step"],
        "phase": found["phase"],
        "fraction": done / total if total else 1.0,
        "text": f"{done}/{total} steps",
        "elapsed_seconds": found["elapsed_seconds"],
        "last_output": None,
        "asked": found["asked"],
        "parent": found["parent"] and found["parent"]["playbook_id"],
        "seq": found["seq"],
        "final": found["status"] in ("completed", "failed", "cancelled"),
    }


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    """Say of a plan what is told about its progress."""
    done = plan["completed"] + plan["failed"] + plan["skipped"]
    batch = {"batchId": plan["id"]} if plan["strategy"] == "batch" else {}
    return {
        **batch,
        "kind": "plan",
        "id": plan["id"],
        "status": plan["status"],
        "current": done,
        "total": plan["total"],
        "message": None,
        "fraction": plan["fraction"],
        "text": plan["progress"],
        "eta": None,
        "completedOperations": plan["completed"],
        "totalOperations": plan["total"],
        "failedOperations": plan["failed"],
        "currentOperation": None,
        "elapsed_seconds": plan["elapsed_seconds"],
        "last_output": None,
        "parent": plan["parent"] and plan["parent"]["plan_id"],
        "seq": plan["seq"],
        "final": plan["over"],
    }


def _now(execution: dict[str, Any]) -> dict[str, Any]:
    """Say of an execution what is told about its progress."""
    detail: dict[str, Any] = execution["progress_detail"] or {}
    numbers = ("current", "total", "unit", "message", "fraction", "eta_ms")
    return {
        "kind": "execution",
        "id": execution["id"],
        "status": execution["status"],
        **{name: detail.get(name) for name in numbers},
        "text": execution["progress"],
        "elapsed_seconds": execution["elapsed_seconds"],
        "last_output": execution["last_output"],
        "parent": execution["plan_id"] or execution["playbook_id"],
        "seq": execution["seq"],
        "final": execution["completed_at"] is not None,
    }
