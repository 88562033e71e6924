"""Messages are asked for, never pushed: as many as there is room for, and no more.

nats-py's own `fetch` reads a fifth as fast and loses a pull in flight at every reconnection until it times
out.  Here a subscription of ours takes what the server sends for requests of ours
(`$JS.API.CONSUMER.MSG.NEXT`), which wait at the server for up to 30 s and are asked again.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Callable, Sequence

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from bus.bridge import Bridge, Subscription
from bus.tasks import end
from events.errors import HindbrainError, NotFound

log = logging.getLogger(__name__)

Lot = Sequence[tuple[int, Msg]]
"""Stream sequence and message, in the order of the stream."""

EXPIRES_SECONDS = 30.0
HEARTBEAT_SECONDS = 10.0
"""How often the server says that an idle pull still waits there."""
LARGEST = 1000
"""Messages of one request."""
MANY = 64
"""Requests that wait at once; the server takes 512, of all who share a consumer."""
RETRY_SECONDS = (0.05, 2.0)
DELETE_SECONDS = 1.0
_NANO = 1_000_000_000


class Pull:
    """One consumer, read on demand.  All of it lives in the loop of the bridge.

    `consumer` gives the consumer's configuration for reading on after a stream sequence.  One with a
    `durable_name` is shared and stays; with another acknowledgement than `none` its messages come again until
    they are acknowledged.  One without is our own: it is made anew from the last sequence whenever it is in
    doubt, so nothing is missing and nothing comes twice.

    `take` gets messages in lots, in the loop, and must be quick.
    """

    def __init__(
        self,
        bridge: Bridge,
        stream: str,
        consumer: Callable[[int], ConsumerConfig],
        take: Callable[[Lot], None],
        *,
        after: int = 0,
        expires: float = EXPIRES_SECONDS,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._bridge = bridge
        self._stream = stream
        self._consumer = consumer
        self._take = take
        self.last = after
        """The stream sequence of the last message that was handed over."""
        self._expires = expires
        self._heartbeat = min(heartbeat, expires / 2.5)
        self._inbox = f"{bridge.prefix}.{secrets.token_hex(8)}"
        self._subscription: Subscription | None = None
        self._name = ""
        self._ordered = True
        self._delivered = 0
        self._wanted = 0
        self._lot: list[tuple[int, Msg]] = []
        self._handing = False
        self._running = False
        self._mending: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._serial = 0
        self._requests: dict[str, int] = {}
        self._pause = RETRY_SECONDS[0]
        self.made = 0
        """How often the consumer was made or found."""

    async def start(self) -> None:
        """Begin; nothing comes before it is wanted.  A consumer that cannot be made now is tried again."""
        if self._running:
            return
        self._running = True
        self._bridge.on_reconnect.append(self._doubt)
        self._subscription = await self._bridge.subscribe(f"{self._inbox}.*", self._hear)
        self._doubt()
        self._tick()

    async def stop(self) -> None:
        """End: no message is handed over after this, and a consumer of our own is deleted."""
        if not self._running:
            return
        self._running = False
        self._bridge.on_reconnect.remove(self._doubt)
        if self._watch is not None:
            self._watch.cancel()
        await end(self._mending)
        if self._subscription is not None:
            await self._bridge.unsubscribe(self._subscription)
        self._lot.clear()
        await self._discard(self._name)

    def want(self, n: int) -> None:
        """Have room for n messages more (or fewer, if negative, as far as they were not asked for yet)."""
        self._wanted = max(0, self._wanted + n)
        self._ask()

    @property
    def open(self) -> int:
        """How many messages are wanted and have not come yet."""
        return self._wanted + self._asked

    @property
    def _asked(self) -> int:
        return sum(self._requests.values())

    def doubt(self) -> None:
        """Have the consumer looked after: somebody knows of messages that do not come."""
        self._doubt()

    # Asking

    def _ask(self) -> None:
        """Ask at once for a small number; keep a large one coming by asking when half has arrived."""
        if not self._running or self._mending is not None or not self._bridge.connected:
            return
        while self._wanted and self._asked <= LARGEST // 2 and len(self._requests) < MANY:
            n = min(self._wanted, LARGEST)
            self._wanted -= n
            self._serial += 1
            inbox = f"{self._inbox}.{self._serial}"
            self._requests[inbox] = n
            request = {
                "batch": n,
                "expires": int(self._expires * _NANO),
                "idle_heartbeat": int(self._heartbeat * _NANO),
            }
            sending = asyncio.ensure_future(
                self._bridge.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}",
                    json.dumps(request).encode(),
                    reply=inbox,
                )
            )
            sending.add_done_callback(_sent)

    def _arrived(self) -> None:
        """Count a message against the oldest request: only the sum of what is open matters."""
        for inbox, n in self._requests.items():
            if n > 1:
                self._requests[inbox] = n - 1
            else:
                del self._requests[inbox]
            return

    # Hearing

    def _hear(self, message: Msg) -> None:
        self._heard = self._bridge.loop.time()
        headers = message.headers
        if headers is not None and "Status" in headers and message.subject.startswith(self._inbox):
            if message.subject in self._requests:
                self._status(message.subject, headers)
            return
        consumer, sequence, delivered = _place(message.reply)
        if consumer != self._name:
            return  # of a consumer that we gave up; its successor sends this again
        if self._ordered:
            if delivered != self._delivered + 1:
                log.warning("message %d of %s is missing, reading again", self._delivered + 1, consumer)
                self._doubt()
                return
            self._delivered = delivered
        self._arrived()
        self._pause = RETRY_SECONDS[0]
        self._lot.append((sequence, message))
        if not self._handing:
            self._handing = True
            self._bridge.loop.call_soon(self._hand)

    def _hand(self) -> None:
        self._handing = False
        lot, self._lot = self._lot, []
        if not lot or not self._running:
            return
        self.last = max(self.last, lot[-1][0])
        try:
            self._take(lot)
        except Exception:  # the taker's failure must not end the reading of everybody
            log.exception("a lot of %d messages of %s was not taken", len(lot), self._stream)
        self._ask()

    def _status(self, inbox: str, headers: dict[str, str]) -> None:
        status, said = headers["Status"], headers.get("Description", "")
        if status == "100":
            return
        if status in {"404", "408"}:
            self._wanted += self._requests.pop(inbox)
            self._pause = RETRY_SECONDS[0]
            self._ask()
            return
        # 409 is a consumer that was deleted, a server that stops or too many who wait; 503 nobody at all.
        log.info("pulling from %s stopped: %s %s", self._stream, status, said)
        self._doubt()

    # Mending

    def _doubt(self) -> None:
        """Nothing that was asked will come: find the consumer or make it again, and ask again."""
        if not self._running or self._mending is not None:
            return
        self._hand()
        self._mending = asyncio.ensure_future(self._mend())

    async def _mend(self) -> None:
        if self.made:
            await self._wait()
        while True:
            await self._bridge.ready()
            epoch = self._bridge.epoch
            try:
                await self._make()
            except HindbrainError as error:
                log.warning("the consumer of %s cannot be made now: %s", self._stream, error)
                await self._wait()
                continue
            if epoch == self._bridge.epoch:
                break
        self.made += 1
        self._wanted += self._asked
        self._requests.clear()
        self._heard = self._bridge.loop.time()
        self._mending = None
        self._ask()

    async def _wait(self) -> None:
        """Pause between two attempts, longer each time until a message or an expired request shows life."""
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, RETRY_SECONDS[1])

    async def _make(self) -> None:
        self._hand()
        before, config = self._name, self._consumer(self.last)
        self._ordered = config.durable_name is None and config.ack_policy == AckPolicy.NONE
        # The old name is forgotten first: what still comes from there would be counted twice.
        self._name = ""
        name = config.durable_name or f"pull-{secrets.token_hex(6)}"
        config.name = name
        if before != name:
            await self._discard(before)
        if config.durable_name is None and config.inactive_threshold is None:
            config.inactive_threshold = self._expires * 2
        if config.durable_name is not None:
            await self._inherit(name, config)
        tail = f".{config.filter_subject}" if config.filter_subject else ""
        await self._bridge.api(
            f"CONSUMER.CREATE.{self._stream}.{name}{tail}",
            {"stream_name": self._stream, "config": config.as_dict()},
        )
        self._name, self._delivered = name, 0

    async def _inherit(self, name: str, config: ConsumerConfig) -> None:
        """Leave an existing consumer where it stands: its beginning cannot be changed, the rest can."""
        try:
            info = await self._bridge.api(f"CONSUMER.INFO.{self._stream}.{name}")
        except NotFound:
            return
        found = ConsumerConfig.from_response(info["config"])
        config.deliver_policy, config.opt_start_seq = found.deliver_policy, found.opt_start_seq

    async def _discard(self, name: str) -> None:
        """Delete a consumer of our own; if that fails, the server does it when nobody asks long enough."""
        if name.startswith("pull-") and self._bridge.connected:
            with contextlib.suppress(HindbrainError):
                await self._bridge.api(f"CONSUMER.DELETE.{self._stream}.{name}", within=DELETE_SECONDS)

    def _tick(self) -> None:
        """Notice that the server no longer says that our pulls wait there."""
        loop = self._bridge.loop
        self._watch = loop.call_later(self._heartbeat, self._tick)
        silent = loop.time() - self._heard
        if self._asked and self._mending is None and silent > self._heartbeat * 2.5:
            log.warning("%s was silent for %.0f s, looking after the consumer", self._stream, silent)
            self._doubt()


def _place(reply: str) -> tuple[str, int, int]:
    """Read `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>`.

    With a domain there are two tokens more in front (nats-architecture-and-design, ADR-15).
    """
    tokens = reply.split(".")
    at = 2 if len(tokens) < 11 else 4
    return tokens[at + 1], int(tokens[at + 3]), int(tokens[at + 4])


def _sent(task: "asyncio.Future[None]") -> None:
    """A request that could not be sent is asked again after the reconnection that is on its way."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("a pull was not sent: %s", error)
