"""Output leaves in order, never more of it on its way than a window holds, and what is in doubt is told.

A part that was not confirmed makes a hole.  Nothing behind the hole is sent until the writer has asked for
the offset and begun there again; so readers may see a piece twice, but never a hole that is not filled.
"""

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from bus import streams, subjects
from bus.bridge import Bridge
from bus.services import Answers
from bus.tasks import Tasks
from events.errors import HindbrainError, Internal, NotFound, Unavailable
from events.ports import Chunk

log = logging.getLogger(__name__)

WINDOW = 6 * 1024 * 1024
"""Bytes that may be unconfirmed at a time; less than the buffer of the client."""
OVERHEAD = 512
"""What a piece counts beside its bytes, so that many empty ones do not fill the memory either."""
CONFIRM_SECONDS = 10.0

OFFSET, TIME, ATTEMPT, END = "Brain-Offset", "Brain-Time", "Brain-Attempt", "Brain-End"


def headers_of(chunk: Chunk) -> dict[str, str]:
    """What travels beside the bytes of a chunk."""
    headers = {OFFSET: str(chunk.offset), TIME: chunk.time, ATTEMPT: str(chunk.attempt)}
    return {**headers, END: str(chunk.offset)} if chunk.end else headers


class _Lot:
    """Chunks that came together, and who wants to know."""

    def __init__(self, chunks: Sequence[Chunk], done: Callable[[bool], None]) -> None:
        self.open = len(chunks)
        self.good = True
        self.done = done

    def landed(self, good: bool) -> None:
        self.open -= 1
        self.good = self.good and good
        if self.open <= 0:
            try:
                self.done(self.good)
            except Exception:  # the writer's failure must not stop the output of the others
                log.exception("nobody took the news that output was stored")


class Outlet:
    """Where output, progress and samples go; any thread may call, `done` comes from the loop of the bus."""

    def __init__(self, bridge: Bridge, *, window: int = WINDOW) -> None:
        self._bridge = bridge
        self._window = window
        self._answers = Answers(bridge)
        self._waiting: deque[tuple[Chunk, _Lot]] = deque()
        self._unconfirmed = 0
        self._epoch = 0
        self._fresh = True
        """This is the first connection: nothing can have been lost before."""
        self._looked: set[str] = set()
        self._room = asyncio.Event()
        self._holes: dict[str, int] = {}
        """By subject: from which offset on it is not sure that all is stored."""
        self._sender: asyncio.Task[None] | None = None
        self._tasks = Tasks("the outlet failed")

    def output(self, chunks: Sequence[Chunk], done: Callable[[bool], None]) -> None:
        """Publish output in order; `done(True)` when all is stored, `done(False)` when that is not sure.

        After the second ask for the `offset` and send again from there.
        """
        lot = _Lot(chunks, done)

        def add() -> None:
            if not chunks:
                lot.landed(True)
            self._waiting.extend((chunk, lot) for chunk in chunks)
            if self._sender is None or self._sender.done():
                self._sender = asyncio.ensure_future(self._send())

        self._bridge.post(add)

    def offset(self, execution: str, stream: str, done: Callable[[int | None], None]) -> None:
        """Up to which byte the stored output reaches; 0 when there is none, None when nobody can say now."""
        subject = _subject(execution, stream)
        self._bridge.post(lambda: self._tasks.spawn(self._look(subject, done)))

    def restore(self, execution: str, stream: str, path: Path, done: Callable[[bool], None]) -> None:
        """Bring a file up to what is stored of an output; `done(False)` when that cannot be done now."""
        subject = _subject(execution, stream)
        self._bridge.post(lambda: self._tasks.spawn(self._fill(subject, path, done)))

    def progress(self, kind: str, entity: str, message: dict[str, Any]) -> None:
        """Tell whoever listens; lossy."""
        self._answers.send(subjects.progress(kind, entity), msgspec.json.encode(message))

    def sample(self, subject: tuple[str, str], message: dict[str, Any]) -> None:
        """Publish telemetry about `(node, id)` or `(execution, id)`; lossy."""
        kind, entity = subject
        name = subjects.telemetry(cast(Literal["node", "execution"], kind), entity)
        self._answers.send(name, msgspec.json.encode(message))

    # In the loop

    async def _send(self) -> None:
        while self._waiting:
            chunk, lot = self._waiting.popleft()
            try:
                subject = _subject(chunk.execution, chunk.stream)
            except HindbrainError:
                log.exception("output without a subject")
                lot.landed(False)
                continue
            hole = self._holes.get(subject)
            if hole is not None and chunk.offset > hole:
                lot.landed(False)
                continue
            size = len(chunk.data) + OVERHEAD
            # What the connection before left open must be known to be lost before anything follows it.
            while self._unconfirmed and (
                self._unconfirmed + size > self._window or self._epoch != self._bridge.epoch
            ):
                self._room.clear()
                await self._room.wait()
                hole = self._holes.get(subject)
            if hole is not None and chunk.offset > hole:
                lot.landed(False)  # the hole opened while this one waited for room
                continue
            if not await self._sure(subject, chunk.offset):
                lot.landed(False)
                continue
            self._holes.pop(subject, None)
            self._unconfirmed += size
            self._tasks.spawn(self._publish(subject, chunk, lot, size))
            await asyncio.sleep(0)  # the tasks begin in the order they were made in, and so do their messages

    async def _sure(self, subject: str, offset: int) -> bool:
        """Say whether all before this offset is stored.

        The stream confirms before it writes, so a server that was killed may have lost what it confirmed:
        after every reconnection each output is looked at before it goes on.
        """
        if self._epoch != self._bridge.epoch:
            self._looked.clear()
            self._fresh = self._epoch == 0
            self._epoch = self._bridge.epoch
        if self._fresh or subject in self._looked:
            return True
        try:
            reached = await reach(self._bridge, subject)
        except HindbrainError as error:
            log.info("the stored output of %s cannot be looked at now: %s", subject, error)
            return False
        if reached < offset:
            self._holes[subject] = reached
            return False
        self._looked.add(subject)
        return True

    async def _publish(self, subject: str, chunk: Chunk, lot: _Lot, size: int) -> None:
        good = False
        try:
            # nats-py's publish waits for ever when the connection is lost while its buffer is full.
            async with asyncio.timeout(CONFIRM_SECONDS + 1):
                reply = await self._bridge.request(
                    subject, chunk.data, headers=headers_of(chunk), within=CONFIRM_SECONDS
                )
            good = _confirmed(reply.data)
        except (HindbrainError, TimeoutError) as error:
            log.info("output of %s is in doubt from byte %d on: %s", subject, chunk.offset, error)
            # A client that is closed with unsent bytes in its buffer may fail to say so (nats-py 2.16).
            if self._bridge.connected and self._bridge.connection.is_closed:
                self._bridge.doubt("the client was closed without a word")
        finally:
            self._unconfirmed -= size
            self._room.set()
            if not good:
                self._holes[subject] = min(chunk.offset, self._holes.get(subject, chunk.offset))
            lot.landed(good)

    async def _look(self, subject: str, done: Callable[[int | None], None]) -> None:
        try:
            await self._bridge.ready()
            reached: int | None = await reach(self._bridge, subject)
        except HindbrainError as error:
            log.info("the stored output of %s cannot be looked at now: %s", subject, error)
            reached = None
        if reached is not None:
            reached = min(reached, self._holes.get(subject, reached))
        done(reached)

    async def _fill(self, subject: str, path: Path, done: Callable[[bool], None]) -> None:
        good = False
        try:
            await self._bridge.ready()
            await fill(self._bridge, subject, path)
            good = True
        except (HindbrainError, OSError) as error:
            log.info("the stored output of %s cannot be brought here now: %s", subject, error)
        done(good)


async def fill(bridge: Bridge, subject: str, path: Path) -> None:
    """Append to a file what is stored beyond its end; what is not stored any more stays a gap of zeros."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size, seq = os.fstat(fd).st_size, 1
        while True:
            ask = json.dumps({"seq": seq, "next_by_subj": subject}).encode()
            message = await bridge.request(f"$JS.API.DIRECT.GET.{streams.OUTPUT}", ask)
            headers = message.headers or {}
            if headers.get("Status") == "404":
                return
            if headers.get("Status") is not None:
                raise Unavailable(f"{subject} cannot be read: {headers.get('Description', '')}")
            seq, offset = int(headers["Nats-Sequence"]) + 1, int(headers.get(OFFSET, "0"))
            end = offset + len(message.data)
            if end > size:
                begin = max(offset, size)
                os.pwrite(fd, message.data[begin - offset :], begin)
                size = end
    finally:
        os.close(fd)


async def reach(bridge: Bridge, subject: str) -> int:
    """Say where the last stored piece of an output ends; 0 when nothing is stored."""
    try:
        headers, size = await _last(bridge, subject)
    except NotFound:
        return 0
    return int(headers.get(END) or int(headers.get(OFFSET, "0")) + size)


async def _last(bridge: Bridge, subject: str) -> tuple[dict[str, str], int]:
    message = await bridge.request(f"$JS.API.DIRECT.GET.{streams.OUTPUT}.{subject}")
    headers = message.headers or {}
    match headers.get("Status"):
        case None:
            return headers, len(message.data)
        case "404":
            raise NotFound(f"nothing is stored of {subject}")
        case status:
            raise Unavailable(f"{subject} cannot be read: {status} {headers.get('Description', '')}")


def _confirmed(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise Internal(f"an answer that is none: {body[:100]!r}") from error
    if "error" in answer:
        raise Unavailable(f"the stream refused it: {answer['error'].get('description', '')}")
    return True


def _subject(execution: str, stream: str) -> str:
    return subjects.output(execution, cast(subjects.Stream, stream))
