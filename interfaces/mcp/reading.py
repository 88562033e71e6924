"""Output in portions: no more than was asked for, and a cursor that leads on."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from events.errors import Validation
from events.message import Message
from events.spec import Strict
from interfaces.live import Chunk
from interfaces.mcp.tools import READS, Call, tokens, tool
from interfaces.mcp.working import Id
from interfaces.sse import Letters, place

BYTES_MAX = 1_048_576
TOKENS_LEAST = 100
"""The answer itself needs some."""
LEAST = 4
"""Bytes that hold a letter at least, so that every portion leads on."""


class Output(Strict):
    """Which output, and how much of it."""

    execution_id: Id
    cursor: Annotated[
        str | None, Meta(description="From an earlier answer: go on behind it. Left out: from the beginning.")
    ] = None
    max_bytes: Annotated[int, Meta(ge=16, le=BYTES_MAX, description="The most bytes of output.")] = 16_384
    max_tokens: Annotated[
        Annotated[int, Meta(ge=TOKENS_LEAST)] | None,
        Meta(description="The most tokens of the whole answer, a token being 3 bytes."),
    ] = None
    tail: Annotated[bool, Meta(description="The last part that fits instead of the first.")] = False


class Written(Message, omit_defaults=False):
    """A portion; with `more`, ask again with the cursor at once; `end`: it is over and all was read."""

    chunks: list[dict[str, Any]]
    cursor: str
    more: bool
    end: bool


@tool(READS, "What it wrote")
async def output(call: Call, ask: Output) -> Written:
    """What an execution wrote, both streams in order, within a budget of bytes or tokens.

    The cursor of the answer leads on, also while it runs. With tail, the last part comes first.
    """
    places = place(ask.cursor or "", "cursor")
    if ask.tail and ask.cursor:
        raise Validation("cursor and tail: give one of them", field="tail")
    now = await call.patiently(lambda: call.engine.get_status(ask.execution_id))
    most = ask.max_bytes if ask.max_tokens is None else min(ask.max_bytes, ask.max_tokens * 3)
    if ask.tail:
        places = {"stdout": max(0, now.stdout_bytes - most), "stderr": max(0, now.stderr_bytes - most)}
    chunks = await _read(call, now.id, places, None if ask.tail else most)
    while True:
        reply = _portion(places, chunks, most, ask.tail, over=now.completed_at is not None)
        size = tokens(msgspec.json.encode(reply))
        if ask.max_tokens is None or size <= ask.max_tokens or most <= LEAST:
            return reply
        most = max(LEAST, min(most - 1, most * ask.max_tokens // size))


async def _read(call: Call, entity: str, places: dict[str, int], most: int | None) -> list[Chunk]:
    """Read what is there from these places on, with `most` only a little more than that."""

    async def read() -> list[Chunk]:
        found: list[Chunk] = []
        size = 0
        stored = cast("AsyncGenerator[Chunk]", call.engine.output(entity, places, follow=False))
        async with contextlib.aclosing(stored) as chunks:
            async for chunk in chunks:
                found.append(chunk)
                size += len(chunk.data)
                if most is not None and size > most:
                    break
        return found

    return await call.patiently(read)


def _portion(places: dict[str, int], chunks: list[Chunk], most: int, tail: bool, over: bool) -> Written:
    """Put as much into an answer as may be."""
    more = not tail and sum(len(chunk.data) for chunk in chunks) > most
    if tail:
        places, chunks = _last(places, chunks, most)
    letters = {name: Letters(offset) for name, offset in places.items()}
    shown: list[dict[str, Any]] = []

    def add(stream: str, said: tuple[int, str] | None) -> None:
        if said is None:
            return
        if shown and shown[-1]["stream"] == stream:
            shown[-1]["text"] += said[1]
        else:
            shown.append({"stream": stream, "offset": said[0], "text": said[1]})

    for chunk in chunks:
        add(chunk.stream, letters[chunk.stream].feed(chunk.data[:most]))
        most -= len(chunk.data)
        if most <= 0:
            break
    if over and not more:
        for name, each in letters.items():
            add(name, each.feed(b"", last=True))
    cursor = f"o{letters['stdout'].offset}.e{letters['stderr'].offset}"
    return Written(chunks=shown, cursor=cursor, more=more, end=over and not more)


def _last(places: dict[str, int], chunks: list[Chunk], most: int) -> tuple[dict[str, int], list[Chunk]]:
    """Keep the last bytes; what is left of a letter at the beginning goes too."""
    begin = dict(places)
    found: list[Chunk] = []
    for chunk in reversed(chunks):
        begin[chunk.stream] = max(begin[chunk.stream], chunk.end)
        if data := chunk.data[-most:] if most > 0 else b"":
            found.insert(0, Chunk(chunk.stream, chunk.end - len(data), chunk.time, data))
            most -= len(data)
    for stream in places:
        first = next((n for n, chunk in enumerate(found) if chunk.stream == stream), None)
        if first is None:
            continue
        whole = found[first]
        torn = next((n for n, byte in enumerate(whole.data[:4]) if byte & 0xC0 != 0x80), 0)
        begin[stream] = whole.offset + torn
        found[first] = Chunk(stream, begin[stream], whole.time, whole.data[torn:])
    return begin, found
