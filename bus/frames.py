"""Many messages go out in one write, and their replies are heard on one inbox, without a task for each.

nats-py's `publish` costs about 40 us of CPU for a message with headers; a frame made by hand and written with
all others of its lot in one go costs 3 to 9.  For that this file, and no other, touches the private transport
of nats-py's client (2.16).  `plain` says when it is not what we know; then `publish` does the same.
The protocol is https://docs.nats.io/reference/reference-protocols/nats-protocol.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.errors import Unavailable

if TYPE_CHECKING:  # it writes with what is here
    from bus.bridge import Bridge

log = logging.getLogger(__name__)

HEAD = b"NATS/1.0\r\n"
Hear = Callable[[Msg], None]


class Frame(NamedTuple):
    """One message on its way; `headers` are whole lines, each with its CR LF."""

    subject: str
    reply: str
    headers: bytes
    body: bytes


def encode(frame: Frame) -> bytes:
    """Write a message as the protocol wants it."""
    subject, reply, headers, body = frame
    if not headers:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(body), body)
    size = len(headers) + 12
    return b"HPUB %b %b %d %d\r\nNATS/1.0\r\n%b\r\n%b\r\n" % (
        subject.encode(),
        reply.encode(),
        size,
        size + len(body),
        headers,
        body,
    )


def weight(headers: bytes, body: bytes) -> int:
    """Count the bytes that the server holds against its `max_payload`."""
    return len(headers) + 12 + len(body)


def plain(client: Client) -> bool:
    """Say whether this client has the transport that `write` knows; if not, `publish` has to do."""
    known = vars(client)
    transport = known.get("_transport")
    return (
        callable(getattr(transport, "write", None))
        and isinstance(known.get("_pending"), list)
        and isinstance(known.get("_pending_data_size"), int)
    )


def write(client: Client, frames: Sequence[Frame]) -> bool:
    """Send all of them in one write; False when this connection is down, then none was sent.

    What nats-py has waiting in its own buffer goes first, so that a subscription is known to the server
    before the request whose reply it waits for.
    """
    if not client.is_connected:
        return False
    inside: Any = client
    lot = b"".join(map(encode, frames))
    waiting: list[bytes] = inside._pending  # noqa: SLF001  the reason of this file
    inside._pending, inside._pending_data_size = [], 0  # noqa: SLF001  the reason of this file
    # Not `writelines`: that of Python 3.12 and 3.13 raises this and that when the connection was just lost.
    inside._transport.write(b"".join([*waiting, lot]))  # noqa: SLF001  the reason of this file
    client.stats["out_msgs"] += len(frames)
    client.stats["out_bytes"] += len(lot)
    return True


async def drain(client: Client) -> None:
    """Wait until the connection takes more; returns at once as long as it keeps up."""
    inside: Any = client
    try:
        await inside._transport.drain()  # noqa: SLF001  the reason of this file
    except OSError as error:
        log.debug("the connection was lost while it was written to: %s", error)


def lines(headers: Mapping[str, str] | None) -> bytes:
    """Headers as lines."""
    if not headers:
        return b""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


async def publish(client: Client, frames: Sequence[Frame]) -> None:
    """Send them with what nats-py offers to everybody, in order."""
    for subject, reply, headers, body in frames:
        parts = (line.partition(":") for line in headers.decode().split("\r\n") if line)
        named = {name: value.strip() for name, _, value in parts}
        await client.publish(subject, body, reply, headers=named or None)


class Wire:
    """Requests by the hundred on the connection of a bridge.  All of it lives in the bridge's loop."""

    def __init__(self, bridge: "Bridge") -> None:
        self._bridge = bridge
        self._inbox = f"{bridge.prefix}.{secrets.token_hex(8)}"
        self._hearers: dict[str, Hear] = {}
        self._serial = 0
        self._listening: asyncio.Task[Any] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> bool:
        """Whether something can be sent now."""
        return (
            self._bridge.connected
            and self._listening is not None
            and self._listening.done()
            and not self._listening.cancelled()
            and self._listening.exception() is None
        )

    @property
    def limit(self) -> int:
        """The largest message with its headers, in bytes; while none is known, the default of 1 MiB."""
        try:
            return self._bridge.connection.max_payload
        except Unavailable:
            return 1024 * 1024

    def listen(self, ready: Callable[[], None]) -> None:
        """Hear replies from now on, over every connection; `ready` is called once."""
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._bridge.subscribe(f"{self._inbox}.*", self._hear))
            self._listening.add_done_callback(lambda _: ready())

    def expect(self, hear: Hear) -> str:
        """Make a reply subject; `hear` gets what comes there until it is forgotten."""
        self._serial += 1
        reply = f"{self._inbox}.{self._serial}"
        self._hearers[reply] = hear
        return reply

    def forget(self, reply: str) -> None:
        """Hear no more on that subject."""
        self._hearers.pop(reply, None)

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send them in one go; False when there is no connection, then none was sent."""
        if not self.up:
            return False
        client = self._bridge.connection
        if plain(client):
            return write(client, frames)
        task = asyncio.ensure_future(publish(client, frames))
        self._sending.add(task)
        task.add_done_callback(self._sent)
        return True

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a lot was not sent whole: %r", error)
            if not isinstance(error, (NatsError, OSError)):
                raise error

    def _hear(self, message: Msg) -> None:
        hear = self._hearers.get(message.subject)
        if hear is not None:
            hear(message)
