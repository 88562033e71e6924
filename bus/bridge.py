"""Threads meet the one asyncio loop that owns the connection, and the connection is never trusted.

nats-py closes for ever on some errors and goes deaf on others while it says that it is connected.  So the
bridge asks the server something every few seconds, builds a new client whenever the old one is lost or deaf,
subscribes again, and fails what was waiting at once.  `epoch` counts the clients.

It is long because a connection that is never trusted cannot be understood in parts.
"""

import asyncio
import contextlib
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Feed
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext

from bus import frames, hearing
from bus.frames import Frame
from bus.hearing import Hearing, Listener
from bus.loop import Loop
from bus.tasks import end
from events.errors import Internal, NotFound, Timeout, TooLarge, Trouble, Unavailable, Validation

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 3.0
CONNECT_SECONDS = 2.0
RETRY_SECONDS = (0.02, 1.0)
"""How long to wait after a failed connection: at first, and at most."""
CLOSE_SECONDS = 2.0
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class Subscription:
    """An interest that outlives the client it was first told to."""

    def __init__(self, subject: str, queue: str, listener: Listener) -> None:
        self.subject = subject
        self.queue = queue
        self.listener = listener
        self.refused: str | None = None
        """Why the server does not let us listen; None when it does."""
        self.feed: Feed | None = None


class _Typed(Protocol):
    """What we use of nats-py's client, where its own types are half unknown."""

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Msg], Awaitable[None]] | None = None
    ) -> Feed: ...

    def jetstream(self, *, timeout: float) -> JetStreamContext: ...


class Bridge(Loop):
    """The loop of the bus and the connection of one user.

    What is documented in `Loop` may be called from any thread, everything else only in the loop.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "hindbrain",
        inbox: str = "_NODE",
        heartbeat: float = HEARTBEAT_SECONDS,
        patience: float = 15.0,
    ) -> None:
        """Prepare; nothing runs yet.  `inbox` is the user's prefix, `patience` the seconds of `start`."""
        super().__init__("bus")
        self._url = url
        self._title = name
        self._heartbeat = heartbeat
        self._patience = patience
        self.prefix = inbox
        self._replies = f"{inbox}.{secrets.token_hex(8)}"
        self._serial = 0
        self._client: Client | None = None
        self._hearing: Hearing | None = None
        self._js: JetStreamContext | None = None
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._subscriptions: list[Subscription] = []
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._over = False
        self._keeper: asyncio.Task[None] | None = None
        self._reason = "not started"
        self.epoch = 0
        self.on_reconnect: list[Callable[[], None]] = []
        """Called in the loop after every connection, when the subscriptions stand again; must be quick."""
        self.on_disconnect: list[Callable[[], None]] = []
        """Called in the loop when a connection was lost, after everything that waited was failed."""

    @property
    def connected(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self._up.is_set()

    @property
    def connection(self) -> Client:
        """The client of now; `Unavailable` while there is none.  The next epoch has another one."""
        if self._client is None or not self._up.is_set():
            raise Unavailable(f"the connection to NATS is down: {self._reason}")
        return self._client

    @property
    def js(self) -> JetStreamContext:
        """JetStream over the client of now; its requests do not fail at a disconnection, `request` does."""
        if self._js is None or not self._up.is_set():
            raise Unavailable(f"the connection to NATS is down: {self._reason}")
        return self._js

    async def ready(self) -> None:
        """Wait until a connection stands."""
        await self._up.wait()

    async def publish(
        self, subject: str, payload: bytes = b"", *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send it, without knowing whether it arrives.

        `TooLarge` when the server would cut the connection for it, `Unavailable` while there is none.
        """
        client = self.connection
        self.check(payload, headers)
        if frames.plain(client):
            if not frames.write(client, [Frame(subject, reply, frames.lines(headers), payload)]):
                raise Unavailable(f"the connection to NATS is down: {self._reason}")
            await frames.drain(client)
            return
        try:
            await client.publish(subject, payload, reply, dict(headers) if headers else None)
        except MaxPayloadError as error:
            raise TooLarge(f"a message of {len(payload)} bytes is larger than the bus takes") from error
        except NatsError as error:
            raise Unavailable(f"the connection to NATS is down: {error or type(error).__name__}") from error

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        within: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> Msg:
        """Send it and wait for the one reply, at most `within` seconds.

        `TooLarge`: it was not sent.  `Validation`: this user may not publish there.  `Unavailable`: nobody
        serves the subject, or the connection was lost.  `Timeout`: no reply in time.  After the last two it
        may have been done all the same.
        """
        self._serial += 1
        token = f"{self._replies}.{self._serial}"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = (subject, future)
        timer = loop.call_later(within, self._expire, token, within)
        try:
            # A full buffer is flushed by nats-py first, and a lost connection never takes it.
            async with asyncio.timeout(within):
                await self.publish(subject, payload, headers=headers, reply=token)
            reply = await future
        except TimeoutError:
            raise Timeout(f"{subject} could not be sent in {within:g} s") from None
        finally:
            timer.cancel()
            self._waiting.pop(token, None)
            # A loss of the connection while we still sent has failed it already: nobody will ask why.
            if not future.cancel() and not future.cancelled():
                future.exception()
        if not reply.data and reply.headers and reply.headers.get("Status") == "503":
            raise Unavailable(f"nobody serves {subject}")
        return reply

    async def api(
        self, call: str, body: Mapping[str, Any] | None = None, *, within: float = 5.0
    ) -> dict[str, Any]:
        """Call the JetStream API (`STREAM.INFO.BRAIN_EVENTS`); an error of it is `NotFound` or `Internal`.

        `details` of the error hold `code` and `err_code` of the server.
        """
        reply = await self.request(
            f"$JS.API.{call}", json.dumps(body).encode() if body else b"", within=within
        )
        answer = cast(dict[str, Any], json.loads(reply.data))
        if error := answer.get("error"):
            kind = NotFound if error.get("code") == 404 else Internal
            raise kind(
                str(error.get("description", "")), code=error.get("code"), err_code=error.get("err_code")
            )
        return answer

    async def subscribe(self, subject: str, listener: Listener, queue: str = "") -> Subscription:
        """Listen, with this client and with every one after it.

        The listener is called in the loop and must be quick; one that raises is logged.
        """
        subscription = Subscription(subject, queue, listener)
        self._subscriptions.append(subscription)
        if self._client is not None and self._up.is_set():
            with contextlib.suppress(NatsError):  # the client was lost just now; the next one listens
                await self._feed(self._client, subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Listen no longer; twice is fine."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        feed, subscription.feed = subscription.feed, None
        if feed is not None:
            if self._hearing is not None:
                self._hearing.forget(feed)
            with contextlib.suppress(NatsError):  # the client of that feed is gone, and the feed with it
                await feed.unsubscribe()

    def adopt(self, listeners: Mapping[str, Listener]) -> None:
        """Hear what services of nats-py's get, by subject, until the connection is lost.

        Where it cannot be, a service's own handler hears it, as it would have without this.
        """
        if self._hearing is not None:
            self._hearing.adopt(listeners)

    def check(self, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Raise `TooLarge` for what the server would answer by closing the connection."""
        size = len(payload)
        if headers:
            size += 12 + sum(len(k.encode()) + len(v.encode()) + 4 for k, v in headers.items())
        limit = self.connection.max_payload
        if size > limit:
            raise TooLarge(f"a message of {size} bytes is larger than the {limit} bytes that the bus takes")

    def doubt(self, reason: str) -> None:
        """Give up this connection: somebody found it deaf.  A new one is built at once."""
        self._reason = reason
        self._lost.set()

    # The keeper of the connection

    async def _begin(self) -> None:
        self._lost, self._up, self._over = asyncio.Event(), asyncio.Event(), False
        self._keeper = asyncio.create_task(self._keep(), name="bridge-keeper")
        try:
            async with asyncio.timeout(self._patience):
                await self._up.wait()
        except TimeoutError:
            raise Unavailable(f"no connection to NATS in {self._patience:g} s: {self._reason}") from None

    async def _finish(self) -> None:
        self._reason = "the node is stopping"
        self._over = True
        self._lost.set()
        await end(self._keeper)
        self._fail()

    async def _keep(self) -> None:
        pause = RETRY_SECONDS[0]
        while not self._over:
            client = Client()
            self._lost.clear()
            try:
                await self._connect(client)
                pause = RETRY_SECONDS[0]
                await self._watch()
                log.warning("the connection to NATS was lost: %s", self._reason)
            except (NatsError, OSError, TimeoutError) as error:
                self._reason = str(error) or type(error).__name__
                log.debug("no connection to NATS: %s", self._reason)
            finally:
                stood = self._up.is_set()
                self._client = self._js = None
                self._fail()
                await self._close(client)
            if stood:
                self._tell(self.on_disconnect)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS[1])

    async def _connect(self, client: Client) -> None:
        async def failed(error: Exception) -> None:
            self._complain(client, error)

        async def closed() -> None:
            if self._client is client:
                self.doubt(str(client.last_error or "closed by the server"))

        self._hearing = hearing.attach(client)
        await client.connect(
            self._url,
            name=self._title,
            inbox_prefix=self.prefix,
            error_cb=failed,
            closed_cb=closed,
            # One way to come back instead of two: a lost client is thrown away with all that is in its
            # buffers (one that reconnects by itself sends that later, long after the callers gave up).
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.01,  # type: ignore[arg-type] -- given to asyncio.sleep
            connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type] -- given to asyncio.wait_for
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=8 * 1024 * 1024,
        )
        self._client = client
        self._js = cast(_Typed, client).jetstream(timeout=5)
        await self._feed(client, Subscription(f"{self._replies}.*", "", self._answer))
        for subscription in list(self._subscriptions):
            await self._feed(client, subscription)
        self._up.set()
        self.epoch += 1
        if self.epoch > 1:
            log.info("connected to NATS again (epoch %d)", self.epoch)
        self._tell(self.on_reconnect)

    async def _watch(self) -> None:
        """Return when the connection is lost, or deaf: nothing comes in, not even what was asked for."""
        while True:
            heard = self._heard()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await self._lost.wait()
            # nats-py does not always say that it closed: what it could not send may make its goodbye fail.
            if self._lost.is_set() or self._client is None or self._client.is_closed:
                return
            if self._heard() > heard:
                continue
            try:
                # Any answer will do, also a refusal: it came through the reading loop of nats-py.
                await self.request("$JS.API.INFO", within=self._heartbeat)
            except Timeout:
                if self._heard() > heard:
                    continue
                self._reason = "it no longer answers"
                return
            except (Trouble, Validation) as error:
                log.debug("heartbeat: %s", error)

    def _heard(self) -> int:
        return 0 if self._client is None else self._client.stats["in_msgs"]

    async def _feed(self, client: Client, subscription: Subscription) -> None:
        async def hear(message: Msg) -> None:
            subscription.listener(message)

        subscription.refused = None
        subscription.feed = await cast(_Typed, client).subscribe(
            subscription.subject, queue=subscription.queue, cb=hear
        )
        if self._hearing is not None:
            self._hearing.hear(subscription.feed, subscription.listener)

    def _answer(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(message)

    def _expire(self, token: str, within: float) -> None:
        subject, future = self._waiting[token]
        if not future.done():
            future.set_exception(Timeout(f"no answer from {subject} in {within:g} s"))

    def _fail(self) -> None:
        """Nothing that was sent over a lost connection will ever be answered."""
        self._up.clear()
        for subject, future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(
                    Unavailable(f"the connection was lost before {subject} answered: {self._reason}")
                )

    def _complain(self, client: Client, error: Exception) -> None:
        denied = _DENIED.search(str(error))
        if denied is None:
            if client is self._client or not isinstance(error, OSError):
                log.warning("NATS reports: %s", error or type(error).__name__, exc_info=_foreign(error))
            return
        way, subject = denied.groups()
        log.error(
            "this user may not %s %s", "publish" if way.lower() == "publish" else "subscribe to", subject
        )
        for asked, future in list(self._waiting.values()):
            if way.lower() == "publish" and asked == subject and not future.done():
                future.set_exception(Validation(f"this user may not publish to {subject}"))
        for subscription in self._subscriptions:
            if way.lower() != "publish" and subscription.subject == subject:
                subscription.refused = str(error)

    def _tell(self, listeners: list[Callable[[], None]]) -> None:
        for listener in list(listeners):
            try:
                listener()
            except Exception:  # one bad listener must not take the connection from all the others
                log.exception("a listener of the connection failed")

    async def _close(self, client: Client) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()
        except (NatsError, OSError, TimeoutError) as error:
            log.debug("closing a lost client: %r", error)


def _foreign(error: Exception) -> Exception | None:
    """A listener of ours that raised comes with its traceback; nats-py's own errors say enough."""
    return None if isinstance(error, (NatsError, OSError, TimeoutError)) else error
