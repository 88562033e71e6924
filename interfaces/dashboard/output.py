"""What an execution wrote, for a page that shows the past, and for those who take it with them."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from events.errors import TooLarge, Validation
from interfaces.live import STREAMS
from interfaces.playback import play
from interfaces.sse import Letters, message

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

MOST = 4 * 1024 * 1024
"""Bytes that one answer may hold."""
IDLE_SECONDS = 3.0
"""No silence of a playback is longer."""


def streams(name: str) -> tuple[str, ...]:
    """Which streams are meant by `stdout`, `stderr` or `both`."""
    if name not in (*STREAMS, "both"):
        raise Validation(f"unknown stream {name!r}: use stdout, stderr or both", field="stream")
    return STREAMS if name == "both" else (name,)


async def between(
    engine: "ExecutionEngine", execution_id: str, begin: dict[str, int], until: dict[str, int]
) -> list[dict[str, Any]]:
    """Pieces from some offsets up to others, both streams merged by time."""
    if sum(max(0, until[name] - begin[name]) for name in STREAMS) > MOST:
        raise TooLarge(f"these are more than {MOST} bytes: take them in parts, or download them")
    letters = {name: Letters(begin[name]) for name in STREAMS}
    open_ = {name for name in STREAMS if until[name] > begin[name]}
    found: list[dict[str, Any]] = []
    offsets = {name: begin[name] for name in open_}
    if not offsets:
        return found
    async for chunk in engine.output(execution_id, offsets, follow=False):
        if chunk.stream not in open_:
            continue
        data = chunk.data[: until[chunk.stream] - chunk.offset]
        last = chunk.end >= until[chunk.stream]
        if (whole := letters[chunk.stream].feed(data, last)) is not None:
            found.append({"stream": chunk.stream, "offset": whole[0], "time": chunk.time, "text": whole[1]})
        if last:
            open_.discard(chunk.stream)
        if not open_:
            break
    return found


async def again(engine: "ExecutionEngine", execution_id: str, speed: float) -> AsyncGenerator[bytes]:
    """The output once more as server-sent events, at the pace at which it came, times `speed`."""
    letters = {name: Letters(0) for name in STREAMS}
    places: dict[str, int] = dict.fromkeys(STREAMS, 0)
    async for chunk in play(engine, execution_id, speed, IDLE_SECONDS):
        if (whole := letters[chunk.stream].feed(chunk.data)) is not None:
            said = {"stream": chunk.stream, "offset": whole[0], "time": chunk.time, "text": whole[1]}
            yield message(said, places)
    yield message({}, places, "end")


async def raw(engine: "ExecutionEngine", execution_id: str, wanted: tuple[str, ...]) -> AsyncGenerator[bytes]:
    """All bytes until now."""
    async for chunk in engine.output(execution_id, dict.fromkeys(wanted, 0), follow=False):
        yield chunk.data
