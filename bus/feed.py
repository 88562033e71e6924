"""What the log stored is told to everybody, and may be missed: a gap says when to look again."""

import logging
from collections.abc import Callable, Mapping, Sequence

from nats.aio.msg import Msg

from bus import subjects
from bus.bridge import Bridge, Subscription
from events import codec
from events.codec import Envelope, Fact
from events.errors import HindbrainError, Internal

log = logging.getLogger(__name__)

SERVE_SECONDS = 15.0
SEQUENCE = "Nats-Sequence"


def envelope(headers: Mapping[str, str]) -> Envelope:
    """Read the envelope of an event from its headers; `Internal` when it has none."""
    try:
        return Envelope(
            id=headers["Brain-Id"],
            time=headers["Brain-Time"],
            cause=headers.get("Brain-Cause", ""),
            by=headers.get("Brain-By", ""),
            prev=headers.get("Brain-Prev", ""),
            trace=headers.get("traceparent", ""),
        )
    except KeyError as error:
        raise Internal(f"an event without the header {error}") from error


def fact(subject: str, headers: Mapping[str, str] | None, body: bytes, seq: int) -> Fact:
    """Read a stored event, wherever it was met; `subject` is the one it has in the log."""
    place = subjects.parse(subject)
    if not isinstance(place, subjects.Event):
        raise Internal(f"not an event: {subject}")
    return Fact(
        seq=seq,
        kind=place.kind,
        entity=place.id,
        n=place.n,
        event=codec.decode(place.kind, body),
        envelope=envelope(headers or {}),
        subject=subject,
        body=body,
    )


def told(message: Msg) -> Fact:
    """Read a fact as it is told on `brain.fact.>`."""
    headers = message.headers or {}
    subject = "brain.evt." + message.subject.removeprefix("brain.fact.")
    return fact(subject, headers, message.data, int(headers.get(SEQUENCE, "0")))


class Feed:
    """Facts of one kind, as they are told: quick, in lots, and without a promise.

    `listener` gets lots in the loop of the bus and must be quick.  None in place of a lot: facts may have
    been missed since the one before, so look at the log or the tables again.
    """

    def __init__(
        self,
        bridge: Bridge,
        listener: Callable[[Sequence[Fact] | None], None],
        tokens: Sequence[str],
        kind: str = "execution",
        known: Callable[[str, str, str], bool] | None = None,
    ) -> None:
        """Prepare; `tokens` are the names of the events (`completed`, `queued`, ...), none means all.

        `known` says of an entity, an event and by whom it is that nobody here has to be told; it is asked
        before the fact is read.
        """
        self._bridge = bridge
        self._listener = listener
        self._known = known
        room = f"{subjects.ROOT}.fact.{kind}.*.*"
        # `queued` has the module and the priority behind it.
        self._filters = [
            f"{room}.{token}.*.*" if token == subjects.QUEUED and kind == "execution" else f"{room}.{token}"
            for token in tokens
        ] or [f"{subjects.ROOT}.fact.{kind}.>"]
        self._subscriptions: list[Subscription] = []
        self._lot: list[Fact] = []

    def start(self) -> None:
        """Listen; what is stored after this returns is told."""
        self._bridge.call(self._begin(), SERVE_SECONDS)

    def stop(self) -> None:
        """Listen no longer."""
        self._bridge.call(self._end(), SERVE_SECONDS)

    async def _begin(self) -> None:
        if self._subscriptions:
            return
        self._bridge.on_reconnect.append(self._gap)
        for subject in self._filters:
            self._subscriptions.append(await self._bridge.subscribe(subject, self._hear))
        await self._bridge.ready()
        await self._bridge.request("$JS.API.INFO")

    async def _end(self) -> None:
        if self._gap in self._bridge.on_reconnect:
            self._bridge.on_reconnect.remove(self._gap)
        while self._subscriptions:
            await self._bridge.unsubscribe(self._subscriptions.pop())

    def _hear(self, message: Msg) -> None:
        if self._known is not None:
            _, _, _, entity, _, token, *_ = message.subject.split(".")
            if self._known(entity, token, (message.headers or {}).get("Brain-By", "")):
                return
        try:
            heard = told(message)
        except HindbrainError as error:  # the projector meets it in the log, and stops there; here it is told
            log.warning("a fact that cannot be read, %s: %s", message.subject, error)
            return
        self._lot.append(heard)
        if len(self._lot) == 1:
            self._bridge.loop.call_soon(self._hand)

    def _hand(self) -> None:
        lot, self._lot = self._lot, []
        if lot:
            self._tell(lot)

    def _gap(self) -> None:
        self._hand()
        self._tell(None)

    def _tell(self, lot: list[Fact] | None) -> None:
        try:
            self._listener(lot)
        except Exception:  # the listener's failure must not end the listening; it looks again at the next gap
            log.exception("facts were not taken")
