"""Output and facts of an execution, read back from the files of this node for those who ask."""

import base64
import codecs
import os
from collections.abc import Iterator

from actors.files import STREAMS, Files
from events import codec, service, view
from events.errors import Validation
from events.execution import State

MOST = 4 * 1024 * 1024
"""How many bytes one reply may carry."""
LONGEST = 3
"""Bytes that the beginning of a character can have without being all of it."""
INLINE = 64 * 1024
"""How many bytes of each stream come along with an execution that is over."""

_DECODER = codecs.getincrementaldecoder("utf-8")


def check(ask: service.Logs) -> None:
    """Refuse what cannot be read."""
    if ask.stream not in (*STREAMS, "both"):
        raise Validation(f"unknown stream {ask.stream!r}: use stdout, stderr or both", field="stream")
    if ask.encoding not in ("text", "base64"):
        raise Validation(f"unknown encoding {ask.encoding!r}: use text or base64", field="encoding")
    if ask.offset < 0:
        raise Validation("offset is negative", field="offset")
    if not 1 <= ask.max_bytes <= MOST:
        raise Validation(f"max_bytes must be between 1 and {MOST}", field="max_bytes")


def logs(files: Files, entity: str, state: State, ask: service.Logs) -> service.Output:
    """Read output from an offset on.

    With one stream the offset counts its bytes.  With both it counts the bytes of all pieces in the order in
    which they came, so the streams are merged by time.  No piece of text ends inside a character, so a reply
    may be up to three bytes shorter than asked for, or longer when it would be empty otherwise.
    """
    over = state.phase == "over"
    position, given, chunks = 0, 0, list[service.Piece]()
    full = False
    for time, stream, start, size in _pieces(files, entity, ask, over):
        skip = max(0, ask.offset - position)
        position += size
        if skip >= size:
            continue
        if full or given >= ask.max_bytes:
            return service.Output(chunks=chunks, next_offset=ask.offset + given, end=False)
        data = files.read(entity, stream, start + skip, min(size - skip, ask.max_bytes - given + LONGEST))
        if given + len(data) > ask.max_bytes:
            data, full = _cut(data, ask.max_bytes - given, ask.encoding, empty=not chunks), True
        if data:
            given += len(data)
            chunks.append(_piece(stream, start + skip, codec.stamp(time), data, ask.encoding))
    return service.Output(
        chunks=chunks,
        next_offset=ask.offset + given,
        end=over and position <= ask.offset + given,
    )


def _cut(data: bytes, room: int, encoding: str, *, empty: bool) -> bytes:
    """The first bytes of a piece, as many as there is room for."""
    if encoding != "text":
        return data[:room]
    whole = room - _open(data[:room])
    if whole or not empty:
        return data[:whole]
    size = next((n for n in range(room + 1, len(data) + 1) if not _open(data[:n])), len(data))
    return data[:size]


def _open(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character that is not complete."""
    decoder = _DECODER("replace")
    decoder.decode(data[-LONGEST:])
    return len(decoder.getstate()[0])


def _pieces(files: Files, entity: str, ask: service.Logs, over: bool) -> Iterator[tuple[int, str, int, int]]:
    """Every piece of the wanted streams; a character that two of them share belongs to the later one.

    So the places of all pieces depend only on what was written before them, and never move.
    """
    held: dict[str, int] = dict.fromkeys(STREAMS, 0)
    ends, time = held.copy(), 0
    descriptors: dict[str, int] = {}
    try:
        for time, stream, start, size in files.pieces(entity):
            if ask.stream not in ("both", stream):
                continue
            begin, end = start - held[stream], start + size
            held[stream], ends[stream] = 0, end
            if ask.stream == "both" or end > ask.offset:
                if stream not in descriptors:
                    descriptors[stream] = os.open(files.output(entity, stream), os.O_RDONLY | os.O_CLOEXEC)
                last = max(begin, end - LONGEST)
                held[stream] = _open(os.pread(descriptors[stream], end - last, last))
            if size := end - held[stream] - begin:
                yield time, stream, begin, size
        for stream, left in held.items():
            if left and over:
                yield time, stream, ends[stream] - left, left
    except FileNotFoundError:
        return
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def _piece(stream: str, offset: int, time: str, data: bytes, encoding: str) -> service.Piece:
    if encoding == "base64":
        return service.Piece(stream=stream, offset=offset, time=time, base64=base64.b64encode(data).decode())
    return service.Piece(stream=stream, offset=offset, time=time, text=data.decode(errors="replace"))


def result(files: Files, entity: str, state: State, most: int = INLINE) -> service.Outcome:
    """What came out, at most so many bytes of each stream."""
    end = state.end.end if state.end else None
    sizes = (end.stdout_bytes, end.stderr_bytes) if end else (0, 0)
    texts = [
        _head(files, entity, stream, most) if size else ""
        for stream, size in zip(STREAMS, sizes, strict=True)
    ]
    return view.outcome(entity, state, texts[0], texts[1], truncated=max(sizes) > most)


def _head(files: Files, entity: str, stream: str, most: int) -> str:
    data = files.read(entity, stream, 0, most + LONGEST)
    if len(data) > most:
        data = _cut(data, most, "text", empty=False)
    return data.decode(errors="replace")
