"""What the server sends is read by hand, and handed to plain functions, in order and without a task for each.

nats-py takes about 60 us of CPU for a message: regular expressions, a queue and a task for every
subscription.  Here one pass over what was read cuts out the messages of subscriptions that are ours and
calls their listeners; everything else is left to nats-py's own parser.  For that this file takes the place of
the private parser of nats-py's client (2.16); `attach` says when there is none like it, and then nats-py
calls the same listeners in its own way.
The protocol is https://docs.nats.io/reference/reference-protocols/nats-protocol.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import Parser

log = logging.getLogger(__name__)

Listener = Callable[[Msg], None]
"""Called in the loop, in the order of the connection; must be quick."""


class Hearing(Parser):
    """Reads what comes on one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._listeners: dict[int, Listener] = {}
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType] -- half typed in nats-py

    def hear(self, feed: object, listener: Listener) -> None:
        """Call the listener for what comes for a subscription of nats-py's, in place of its own callback."""
        self._listeners[vars(feed)["_id"]] = listener

    def adopt(self, listeners: Mapping[str, Listener]) -> None:
        """Do the same for subscriptions that something inside nats-py has made, by their subjects."""
        for feed in vars(self._client)["_subs"].values():
            if listener := listeners.get(feed.subject):
                self.hear(feed, listener)

    def forget(self, feed: object) -> None:
        """Hear no more of it."""
        self._listeners.pop(vars(feed)["_id"], None)

    def reset(self) -> None:
        """Begin anew, on another connection."""
        super().reset()
        self._rest = bytearray()
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read; what is not whole yet waits for the rest."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
        at = await self._cut(data)
        self._rest = bytearray(memoryview(data)[at:])

    async def _cut(self, data: bytes) -> int:
        """Deal with every whole message, and say where the first begins that is not."""
        at = self._needed = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split()
            kind = words[0] if words else b""
            if kind not in (b"MSG", b"HMSG"):
                await super().parse(data[at : end + 2])
                at = end + 2
                continue
            begin, size = end + 2, int(words[-1])
            if len(data) < begin + size + 2:
                self._needed = begin + size + 2 - at
                break
            at = begin + size + 2
            head = int(words[-2]) if kind == b"HMSG" else 0
            reply = words[3] if len(words) > (5 if head else 4) else b""
            lead, body = data[begin : begin + head], data[begin + head : at - 2]
            if listener := self._listeners.get(int(words[2])):
                self._tell(listener, words[1], reply, lead, body)
            else:
                await cast(Any, self._client)._process_msg(int(words[2]), words[1], reply, body, lead or None)  # noqa: SLF001  the reason of this file
        return at

    def _tell(self, listener: Listener, subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        stats = self._client.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(body)
        headers = fields(head) if head else None
        try:
            listener(Msg(self._client, subject.decode(), reply.decode(), body, headers))
        except Exception:  # one bad listener must not end the reading for all
            log.exception("a listener to %s failed", subject.decode())


def attach(client: Client) -> Hearing | None:
    """Read by hand for a client that is not connected yet; None when it is not what we know."""
    if type(vars(client).get("_ps")) is not Parser or not hasattr(client, "_process_msg"):
        return None
    hearing = cast(Any, client)._ps = Hearing(client)  # noqa: SLF001  the reason of this file
    return hearing


def fields(head: bytes) -> dict[str, str] | None:
    """Headers by name, with `Status` and `Description` of the first line; None when there are none."""
    first, *lines = head.decode(errors="replace").split("\r\n")
    found: dict[str, str] = {}
    if status := first[8:].strip():
        found["Status"], _, said = status.partition(" ")
        if said:
            found["Description"] = said
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found or None
