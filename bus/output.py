"""Output leaves in order, never more of it on its way than a window holds, and what is in doubt is told.

A part that was not confirmed makes a hole.  Nothing behind the hole is sent until the writer has asked for
the offset and begun there again; so readers may see a piece twice, but never a hole that is not filled.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from nats.aio.msg import Msg

from bus import subjects
from bus.answers import Answers
from bus.bridge import Bridge
from bus.frames import Frame, Wire, lines
from bus.stored import ATTEMPT, END, OFFSET, TIME, fill, reach
from bus.tasks import Tasks
from events.errors import HindbrainError, Internal, Unavailable
from events.ports import Chunk

log = logging.getLogger(__name__)

WINDOW = 6 * 1024 * 1024
"""Bytes that may be unconfirmed at a time; less than the buffer of the client."""
OVERHEAD = 512
"""What a piece counts beside its bytes, so that many empty ones do not fill the memory either."""
WRITE = 512 * 1024
"""Bytes of one write."""
CONFIRM_SECONDS = 10.0
TICK_SECONDS = 1.0


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


@dataclass(slots=True, eq=False)
class _Flight:
    """A chunk on its way, until it is confirmed."""

    subject: str
    chunk: Chunk
    lot: _Lot
    size: int
    sent: float = 0.0


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
        self._wire = Wire(bridge)
        self._flights: dict[str, _Flight] = {}
        """By the subject of the answer."""
        self._begun = self._ticking = False
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
        await self._begin()
        while self._waiting:
            flights = await self._gather()
            if flights:
                self._fly(flights)
                await asyncio.sleep(0)
            elif self._waiting:
                self._room.clear()
                await self._room.wait()

    async def _begin(self) -> None:
        """Hear answers, once and over every connection."""
        if not self._begun:
            self._begun = True
            self._bridge.on_disconnect.append(self._lost)
            listening = asyncio.Event()
            self._wire.listen(listening.set)
            await listening.wait()

    async def _gather(self) -> list[_Flight]:
        """Take what can be sent now, in order; none while there is no room for the first."""
        flights: list[_Flight] = []
        taken = 0
        while self._waiting and taken < WRITE:
            chunk, lot = self._waiting[0]
            size = len(chunk.data) + OVERHEAD
            open_ = self._unconfirmed + taken
            # What the connection before left open must be known to be lost before anything follows it.
            if open_ and (open_ + size > self._window or self._epoch != self._bridge.epoch):
                break
            try:
                subject = _subject(chunk.execution, chunk.stream)
            except HindbrainError:
                log.exception("output without a subject")
                subject = ""
            self._waiting.popleft()
            hole = self._holes.get(subject)
            good = bool(subject) and (hole is None or chunk.offset <= hole)
            if not good or not await self._sure(subject, chunk.offset):
                lot.landed(False)
                continue
            self._holes.pop(subject, None)
            flights.append(_Flight(subject, chunk, lot, size))
            taken += size
        return flights

    def _fly(self, flights: Sequence[_Flight]) -> None:
        frames: list[Frame] = []
        now = self._bridge.loop.time()
        for flight in flights:
            flight.sent = now
            reply = self._wire.expect(self._heard)
            self._flights[reply] = flight
            self._unconfirmed += flight.size
            frames.append(Frame(flight.subject, reply, lines(headers_of(flight.chunk)), flight.chunk.data))
        # What was seen to be stored was seen over one connection, and may be gone with that.
        if self._epoch != self._bridge.epoch or not self._wire.send(frames):
            self._lost()
        elif not self._ticking:
            self._ticking = True
            self._bridge.loop.call_later(TICK_SECONDS, self._tick)

    def _heard(self, message: Msg) -> None:
        try:
            good = _confirmed(message)
        except HindbrainError as error:
            log.info("output was not stored: %s", error)
            good = False
        self._land(message.subject, good)

    def _land(self, reply: str, good: bool) -> None:
        flight = self._flights.pop(reply, None)
        if flight is None:
            return
        self._wire.forget(reply)
        self._unconfirmed -= flight.size
        self._room.set()
        if not good:
            subject, offset = flight.subject, flight.chunk.offset
            log.info("output of %s is in doubt from byte %d on", subject, offset)
            self._holes[subject] = min(offset, self._holes.get(subject, offset))
        flight.lot.landed(good)

    def _lost(self) -> None:
        """The connection is gone, and every answer with it."""
        for reply in list(self._flights):
            self._land(reply, good=False)

    def _tick(self) -> None:
        late = self._bridge.loop.time() - CONFIRM_SECONDS
        for reply in [reply for reply, flight in self._flights.items() if flight.sent < late]:
            self._land(reply, good=False)
            # A client that is closed with unsent bytes in its buffer may fail to say so (nats-py 2.16).
            if self._bridge.connected and self._bridge.connection.is_closed:
                self._bridge.doubt("the client was closed without a word")
        self._ticking = bool(self._flights)
        if self._ticking:
            self._bridge.loop.call_later(TICK_SECONDS, self._tick)

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


def _confirmed(message: Msg) -> bool:
    if message.headers and message.headers.get("Status") == "503":
        raise Unavailable("nobody stores output")
    try:
        answer = json.loads(message.data)
    except ValueError as error:
        raise Internal(f"an answer that is none: {message.data[:100]!r}") from error
    if "error" in answer:
        raise Unavailable(f"the stream refused it: {answer['error'].get('description', '')}")
    return True


def _subject(execution: str, stream: str) -> str:
    return subjects.output(execution, cast(subjects.Stream, stream))
