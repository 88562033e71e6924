"""The bus as everybody else uses it: in the loop of whoever asks, with the rights of a client."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus import blobs, streams, subjects
from bus.bridge import Bridge, Subscription
from bus.feed import told
from bus.peers import error_of
from bus.permissions import INBOX
from bus.pull import Lot, Pull
from bus.services import BODY_MAX, SHOWN, too_large
from bus.stored import ATTEMPT, END, OFFSET, TIME
from events.codec import Fact
from events.errors import HindbrainError, Internal, Unavailable, Validation
from events.ids import TOKEN
from events.message import Message
from events.ports import Chunk
from events.spec import BIG
from events.trace import read

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 3.0
READY_SECONDS = 5.0
"""How long a request waits for a lost connection to come back."""
BATCH = 128
AHEAD = 8 * 1024 * 1024
PATIENCE_SECONDS = 2.0
"""How long a missing piece of output is waited for before what follows is shown without it."""
HELD = 10_000
"""So many values wait for a slow reader; then the oldest are dropped."""
_BIG = ("code", "stdin")


class Here(Bridge):
    """A bridge in the loop that already runs, without a thread of its own."""

    async def open(self) -> None:
        """Connect; `Unavailable` when no connection stands within the patience."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Have no connection any more; what waits fails with `Unavailable`."""
        if self._loop is not None:
            await self._finish()
            self._loop = None


class Watch(Generic[T]):
    """Values as they come from now on; `async for` reads them, `aclose` or `async with` ends it.

    None in place of a value: some may have been missed, because the connection was lost or the reader slow.
    """

    def __init__(self, bridge: Bridge, read: Callable[[Msg], T], last: Callable[[T], bool]) -> None:
        self._bridge = bridge
        self._read = read
        self._last = last
        self._values: asyncio.Queue[T | None] = asyncio.Queue()
        self._subscriptions: list[Subscription] = []
        self._over = False

    async def listen(self, filters: Sequence[str]) -> Self:
        """Begin; what is said after this returns is heard."""
        self._bridge.on_reconnect.append(self._gap)
        for each in filters:
            self._subscriptions.append(await self._bridge.subscribe(each, self._hear))
        await self._bridge.request("$JS.API.INFO")
        return self

    async def aclose(self) -> None:
        """Listen no longer; twice is fine."""
        self._over = True
        if self._gap in self._bridge.on_reconnect:
            self._bridge.on_reconnect.remove(self._gap)
        while self._subscriptions:
            await self._bridge.unsubscribe(self._subscriptions.pop())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T | None:
        if self._over and self._values.empty():
            raise StopAsyncIteration
        value = await self._values.get()
        if value is not None and self._last(value):
            await self.aclose()
        return value

    def _hear(self, message: Msg) -> None:
        try:
            value = self._read(message)
        except (HindbrainError, msgspec.MsgspecError) as error:
            log.warning("a message that cannot be read, %s: %s", message.subject, error)
            return
        if self._values.qsize() >= HELD:
            self._values = asyncio.Queue()
            self._gap()
        self._values.put_nowait(value)

    def _gap(self) -> None:
        self._values.put_nowait(None)


class _Track:
    """One stream of output, put in order: every byte once."""

    def __init__(self, offset: int) -> None:
        self.next = offset
        self.end: int | None = None
        self.ahead: dict[int, Chunk] = {}

    @property
    def over(self) -> bool:
        return self.end is not None and self.next >= self.end

    @property
    def waiting(self) -> bool:
        """Whether a piece before what is known is missing."""
        return bool(self.ahead) or (self.end is not None and not self.over)

    def take(self, chunk: Chunk) -> list[Chunk]:
        """Add a piece, and give what can be shown now."""
        if chunk.end:
            self.end = chunk.offset
            return self._ready()
        if chunk.offset + len(chunk.data) > self.next:
            self.ahead[chunk.offset] = chunk
        if sum(len(each.data) for each in self.ahead.values()) > AHEAD:
            return self.skip()
        return self._ready()

    def skip(self) -> list[Chunk]:
        """Give up what is missing and give all that follows."""
        shown = self._ready()
        while self.ahead:
            self.next = min(self.ahead)
            shown += self._ready()
        self.next = max(self.next, self.end or 0)
        return shown

    def _ready(self) -> list[Chunk]:
        shown: list[Chunk] = []
        while self.ahead and (first := min(self.ahead)) <= self.next:
            chunk = self.ahead.pop(first)
            if rest := chunk.data[self.next - first :]:
                shown.append(
                    Chunk(chunk.execution, chunk.stream, self.next, chunk.attempt, chunk.time, bytes(rest))
                )
                self.next += len(rest)
        return shown


class Client:
    """One connection with the rights of a client, in the loop that made it."""

    def __init__(self, bridge: Here) -> None:
        self.bridge = bridge
        self.trace = ""
        """The traceparent that goes with every request that names none."""
        self.token = ""
        """What is shown with every request that shows nothing else, to be taken for an administrator."""

    @classmethod
    async def connect(cls, url: str, *, name: str = "client", patience: float = CONNECT_SECONDS) -> Self:
        """Connect; `Unavailable` when no server answers in `patience` seconds.

        A connection that is lost later comes back by itself.
        """
        bridge = Here(url, name=name, inbox=INBOX["client"], patience=patience)
        await bridge.open()
        return cls(bridge)

    async def close(self) -> None:
        """Close the connection; twice is fine."""
        await self.bridge.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        kind: str,
        verb: str,
        payload: dict[str, Any] | Message | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109  it becomes the error that this API promises
        trace: str = "",
        token: str = "",
    ) -> dict[str, Any]:
        """Ask and return the reply's body; an error reply is raised as the error it carries.

        `Unavailable`: no node serves this verb, or there is no connection.  `Timeout`: no answer in `timeout`
        seconds; it may have been done all the same.  Large `code` and `stdin` are put as blobs first.
        `trace` is a W3C traceparent; what is none is left out.
        """
        subject = subjects.command(kind, verb)
        await self._ready(timeout)
        body = await self._body({} if payload is None else payload)
        context = read(trace) or self.trace
        told: dict[str, str] = {"traceparent": context, SHOWN: token or self.token}
        headers = {name: text for name, text in told.items() if text} or None
        try:
            reply = await self.bridge.request(subject, body, within=timeout, headers=headers)
        except Unavailable as error:
            if not self.bridge.connected:
                raise
            raise Unavailable(f"no node is running: {error.message}") from error
        if "Nats-Service-Error" in (reply.headers or {}):
            raise error_of(reply.data)
        try:
            return msgspec.json.decode(reply.data, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Internal(f"the reply of {subject} cannot be read: {error}") from error

    async def put(self, source: bytes | Path) -> str:
        """Put a blob and return its SHA-256 in hex; `TooLarge` over 200 MiB."""
        await self._ready(READY_SECONDS)
        return await blobs.put(self.bridge, source)

    async def subscribe_output(
        self,
        execution: str,
        *,
        stdout: int | None = 0,
        stderr: int | None = 0,
    ) -> AsyncGenerator[Chunk]:
        """Read output from these offsets on: what is stored, then what comes, until all of it was there.

        None leaves a stream out.  Every byte comes once and in order; only bytes that the bus has already
        forgotten (after 7 days) are left out, which the next chunk's offset tells.
        """
        wanted = {"stdout": stdout, "stderr": stderr}
        tracks = {stream: _Track(offset) for stream, offset in wanted.items() if offset is not None}
        only = "*" if len(tracks) != 1 else next(iter(tracks))
        filter_subject = subjects.output(execution, "stdout").removesuffix("stdout") + only
        arrived: asyncio.Queue[Lot] = asyncio.Queue()

        def reader() -> Pull:
            return Pull(
                self.bridge, streams.OUTPUT, lambda after: _reader(filter_subject, after), arrived.put_nowait
            )

        pull, again = reader(), False
        await pull.start()
        try:
            pull.want(BATCH)
            while not all(track.over for track in tracks.values()):
                waiting = any(track.waiting for track in tracks.values())
                again = again and waiting
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS if waiting else None):
                        lot = await arrived.get()
                except TimeoutError:
                    if not again:
                        # A server that was killed may give sequences a second time, to what was sent again.
                        again = True
                        await pull.stop()
                        pull = reader()
                        await pull.start()
                        pull.want(BATCH)
                        continue
                    for track in tracks.values():
                        for chunk in track.skip():
                            yield chunk
                    continue
                for _, message in lot:
                    piece = chunk_of(message)
                    for chunk in tracks[piece.stream].take(piece):
                        yield chunk
                pull.want(len(lot))
        finally:
            await pull.stop()

    async def subscribe_progress(self, entity: str, kind: str = "execution") -> Watch[dict[str, Any]]:
        """Listen to the progress of one entity; ends after the message with `final`."""

        def read(message: Msg) -> dict[str, Any]:
            return msgspec.json.decode(message.data, type=dict[str, Any])

        await self._ready(READY_SECONDS)
        watch = Watch[dict[str, Any]](self.bridge, read, lambda said: bool(said.get("final")))
        return await watch.listen([subjects.progress(kind, entity)])

    async def all_progress(self, kinds: Sequence[str] = ("*",)) -> Watch[dict[str, Any]]:
        """Listen to the progress of everything of these kinds; it has no end."""

        def read(message: Msg) -> dict[str, Any]:
            return msgspec.json.decode(message.data, type=dict[str, Any])

        await self._ready(READY_SECONDS)
        rooms = [f"{subjects.ROOT}.progress.{_one(kind)}.*" for kind in kinds]
        return await Watch[dict[str, Any]](self.bridge, read, lambda _: False).listen(rooms)

    async def facts(self, kind: str = "*", entity: str = "*", token: str = "*") -> Watch[Fact]:  # noqa: S107  a name of an event, no password
        """Listen to facts as they are stored: of a kind, of one entity, of one event's name; `*` is any."""
        await self._ready(READY_SECONDS)
        room = f"{subjects.ROOT}.fact.{_one(kind)}.{_one(entity)}.*.{_one(token)}"
        filters = [room, f"{room}.*.*"] if token in {"*", subjects.QUEUED} else [room]
        return await Watch[Fact](self.bridge, told, lambda _: False).listen(filters)

    async def _ready(self, patience: float) -> None:
        if self.bridge.connected:
            return
        try:
            async with asyncio.timeout(min(patience, READY_SECONDS)):
                await self.bridge.ready()
        except TimeoutError:
            raise Unavailable("there is no connection to NATS") from None

    async def _body(self, payload: dict[str, Any] | Message) -> bytes:
        try:
            body = msgspec.json.encode(payload)
        except (TypeError, ValueError) as error:
            raise Validation(f"this cannot be written as JSON: {error}") from error
        if len(body) > BIG:
            fields = cast(dict[str, Any], msgspec.to_builtins(payload))
            for name in _BIG:
                text = fields.get(name)
                if isinstance(text, str) and len(data := text.encode()) > BIG:
                    fields[name] = {"blob": await self.put(data)}
            body = msgspec.json.encode(fields)
        if len(body) > BODY_MAX:
            raise too_large(len(body))
        return body


def chunk_of(message: Msg) -> Chunk:
    """Read a piece of output as it is stored; `Internal` when it is none."""
    place = subjects.parse(message.subject)
    headers = message.headers or {}
    if not isinstance(place, subjects.Output):
        raise Internal(f"not a piece of output: {message.subject}")
    try:
        return Chunk(
            place.id,
            place.stream,
            int(headers[END] if END in headers else headers[OFFSET]),
            int(headers.get(ATTEMPT, "0")),
            headers.get(TIME, ""),
            message.data,
            END in headers,
        )
    except (KeyError, ValueError) as error:
        raise Internal(f"a piece of output without its place: {error!r}") from error


def _reader(filter_subject: str, after: int) -> ConsumerConfig:
    return ConsumerConfig(
        filter_subject=filter_subject,
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        mem_storage=True,
    )


def _one(word: str) -> str:
    """Check one token of a filter."""
    if word != "*" and not TOKEN.fullmatch(word):
        raise Validation(f"not a word for a subject: {word!r}")
    return word
