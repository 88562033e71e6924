"""Somebody reads everything, in order, and says so when something is missing.

A damaged block of a stream loses events without a word: the server skips them.  Only a reader without a
filter can notice, by the sequences, which have no gap, and by the chain: every event names the hash of the
one before it in its entity.  The reader stops where the log is damaged: what follows cannot be trusted.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus.bridge import Bridge
from bus.history import Record
from bus.lanes import Key
from bus.pull import Lot, Pull
from bus.streams import EVENTS
from events.codec import millis
from events.errors import Damaged, HindbrainError, Timeout

log = logging.getLogger(__name__)

Known = Callable[[str, str], str | None]
"""The chain hash of the last event of a kind and id, as somebody else knows it."""
WINDOW = 10_000
"""Records that may be on their way at once."""
REMEMBERED = 200_000
"""Entities whose last hash is kept, about 250 bytes each."""
IDLE_SECONDS = 10.0
_FOREVER = 2**62


class Chain:
    """What has been read so far, and whether the next record fits to it."""

    def __init__(self, after: int = 0, hash: str = "", known: Known | None = None) -> None:  # noqa: A002  it is one
        self.last = after
        """The sequence of the last record that fitted."""
        self.hash = hash
        """Its chain hash, empty when that is not known."""
        self.foreign: list[int] = []
        """The sequences of messages that are no events of ours: they are passed over."""
        self._known = known
        self._ends: OrderedDict[Key, tuple[int, str]] = OrderedDict()

    def follow(self, record: Record) -> None:
        """Take the next record; `Damaged` says where the log is broken and by what."""
        seq = record.seq
        if seq != self.last + 1:
            what = (
                f"{seq - self.last - 1} events before it are missing" if seq > self.last else "it came before"
            )
            raise Damaged(
                f"the log has a gap: sequence {seq} follows {self.last}, {what}", seq=self.last + 1, found=seq
            )
        if reason := record.foreign:
            log.warning("the log holds something foreign at %d: %s", seq, reason)
            self.last, self.hash = seq, record.hash
            self.foreign.append(seq)
            return
        key, n, envelope = record.key, record.n, record.envelope
        end = self._ends.get(key)
        if end is not None:
            before, prev = end
            fits = n == before + 1 and envelope.prev == prev
        elif n == 1:
            fits = envelope.prev == ""
        else:
            said = self._known(*key) if self._known is not None else None
            fits = bool(envelope.prev) and said in (None, envelope.prev)
        if not fits:
            text = f"the chain of {key[0]} {key[1]} is broken at its event {n}, sequence {seq}"
            raise Damaged(text, seq=seq, kind=key[0], entity=key[1], n=n)
        self.last, self.hash = seq, record.hash
        self._ends[key] = (n, self.hash)
        self._ends.move_to_end(key)
        if len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)


class Reader:
    """Follows the log from a bookmark on, over reconnections and restarts of the server.

    `take` gets records in lots, in the loop; it must be quick.  `damaged` is called once, in the loop, with
    the reason why the reader stopped.  The bookmark is `after`, the last sequence that was taken before, and
    its `hash`, when it is known.  With a `window`, no more records than that are handed over before `taken`
    was called for them; 0 hands over whatever comes.
    """

    def __init__(
        self,
        bridge: Bridge,
        take: Callable[[Sequence[Record]], None],
        damaged: Callable[[Damaged], None],
        *,
        after: int = 0,
        hash: str = "",  # noqa: A002  it is one
        known: Known | None = None,
        window: int = 0,
    ) -> None:
        self._bridge = bridge
        self._take = take
        self._damaged = damaged
        self._chain = Chain(after, hash, known)
        self._window = window
        self._running = False
        self._checking: asyncio.Task[None] | None = None
        self._pull = Pull(bridge, EVENTS, _all, self._lot, after=after)

    @property
    def bookmark(self) -> tuple[int, str]:
        """The last sequence that was handed over, and its chain hash."""
        return self._chain.last, self._chain.hash

    async def start(self) -> None:
        """Check the bookmark against the stream and begin.

        `Damaged` when the stream ends before the bookmark or has another event there; what `Bridge.request`
        raises when it cannot be asked.  Runs in the loop, like `stop`.
        """
        await self._look()
        self._running = True
        self._bridge.on_reconnect.append(self._again)
        await self._pull.start()
        self._pull.want(self._window or WINDOW)

    async def stop(self) -> None:
        """End: nothing is handed over after this.  Twice is fine."""
        if not self._running:
            return
        self._running = False
        self._bridge.on_reconnect.remove(self._again)
        if self._checking is not None and self._checking is not asyncio.current_task():
            self._checking.cancel()
        await self._pull.stop()

    def taken(self, count: int) -> None:
        """Make room for so many records more.  Callable from any thread."""
        self._bridge.post(lambda: self._pull.want(count))

    def _lot(self, lot: Lot) -> None:
        if not self._running:
            return
        records: list[Record] = []
        broken: Damaged | None = None
        for seq, message in lot:
            record = Record(seq, message.subject, message.headers or {}, message.data)
            try:
                self._chain.follow(record)
            except Damaged as error:
                broken = error
                break
            records.append(record)
        if records:
            self._take(records)
        if broken is not None:
            self._break(broken)
        elif not self._window:
            self._pull.want(len(lot))

    def _break(self, reason: Damaged) -> None:
        if self._running:
            log.error("%s; reading stops", reason)
            self._checking = asyncio.ensure_future(self.stop())
            self._damaged(reason)

    def _again(self) -> None:
        """Look whether the server that came back still has what was read."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.ensure_future(self._recheck())

    async def _recheck(self) -> None:
        epoch = 0
        while self._running and epoch != self._bridge.epoch:
            await self._bridge.ready()
            epoch = self._bridge.epoch
            try:
                await self._look()
            except Damaged as error:
                self._break(error)
            except HindbrainError as error:
                log.info("the stream cannot be looked at yet: %s", error)
                await asyncio.sleep(0.1)
                epoch = 0

    async def _look(self) -> None:
        last, digest = self._chain.last, self._chain.hash
        end = (await state(self._bridge))["last_seq"]
        if end < last:
            raise Damaged(
                f"the end of the log is lost: it was read up to {last} and now ends at {end}",
                seq=end + 1,
                found=end,
            )
        if not last or not digest:
            return
        record = await at(self._bridge, last)
        if record is None:
            raise Damaged(f"the log lost its event {last}, where reading had ended", seq=last)
        if record.hash != digest:
            raise Damaged(f"the event {last} is another one than was read there before", seq=last)


async def state(bridge: Bridge) -> dict[str, Any]:
    """Ask the server for the state of the log: `messages`, `first_seq`, `last_seq`, `num_deleted`, ..."""
    return cast(dict[str, Any], (await bridge.api(f"STREAM.INFO.{EVENTS}"))["state"])


async def at(bridge: Bridge, seq: int) -> Record | None:
    """Read the event of one sequence; None when there is none."""
    reply = await bridge.request(f"$JS.API.DIRECT.GET.{EVENTS}", b'{"seq": %d}' % seq)
    headers = reply.headers or {}
    if headers.get("Status"):
        return None
    return Record(seq, headers["Nats-Subject"], headers, reply.data)


async def read_range(
    bridge: Bridge, first: int, last: int | None, take: Callable[[Sequence[Record]], None]
) -> None:
    """Hand over every record of a range of sequences, in lots; `last` None is the end of now.

    `Timeout` when the server stops to send before the end is reached.  What is missing is not noticed here.
    """
    await _sweep(bridge, max(first, 1), _FOREVER if last is None else last, None, None, take)


async def read_between(
    bridge: Bridge, begin: str, end: str | None, take: Callable[[Sequence[Record]], None]
) -> None:
    """Hand over what was stored from a moment (RFC 3339) up to another, or to now, by the server's clock."""
    await _sweep(bridge, 1, _FOREVER, begin, None if end is None else millis(end) / 1000, take)


async def verify(bridge: Bridge, first: int = 1) -> Damaged | None:
    """Read the whole log from a sequence on, and return the first damage, or None when there is none."""
    chain = Chain(first - 1)
    broken: list[Damaged] = []

    def take(records: Sequence[Record]) -> None:
        for record in records:
            if broken:
                return
            try:
                chain.follow(record)
            except Damaged as error:
                broken.append(error)

    end = (await state(bridge))["last_seq"]
    await _sweep(bridge, first, end, None, None, take, lambda: bool(broken))
    if not broken and chain.last < end:
        broken.append(
            Damaged(f"the log has a gap: nothing is left from {chain.last + 1} to {end}", seq=chain.last + 1)
        )
    return broken[0] if broken else None


async def _sweep(
    bridge: Bridge,
    first: int,
    last: int,
    begin: str | None,
    until: float | None,
    take: Callable[[Sequence[Record]], None],
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Read with a consumer of its own until the range, the time or what is there now is at its end."""
    now = await state(bridge)
    last = min(last, now["last_seq"])
    if first > last or not now["messages"] or now["last_seq"] < now["first_seq"]:
        return
    over = asyncio.Event()
    heard = asyncio.Event()

    def config(after: int) -> ConsumerConfig:
        made = _all(after)
        if begin is not None and after == first - 1:
            made.deliver_policy, made.opt_start_seq, made.opt_start_time = (
                DeliverPolicy.BY_START_TIME,
                None,
                cast(Any, begin),
            )
        return made

    def lot(messages: Lot) -> None:
        heard.set()
        if over.is_set():
            return
        records: list[Record] = []
        for seq, message in messages:
            if seq > last or (until is not None and _stored(message) > until):
                over.set()
                break
            records.append(Record(seq, message.subject, message.headers or {}, message.data))
        if records:
            take(records)
            if records[-1].seq >= last or enough() or not _pending(messages[-1][1]):
                over.set()
        pull.want(len(messages))

    pull = Pull(bridge, EVENTS, config, lot, after=first - 1)
    await pull.start()
    try:
        pull.want(WINDOW)
        while not over.is_set():
            heard.clear()
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await heard.wait()
            except TimeoutError:
                if begin is not None and pull.last < first:
                    return  # nothing was stored since that moment
                raise Timeout(f"the log was read up to {pull.last} of {last}, then nothing came") from None
    finally:
        await pull.stop()


def _pending(message: Msg) -> int:
    """How many more the server had to deliver when it sent this one."""
    return int(message.reply.split(".")[-1 if message.reply.count(".") < 10 else -2])


def _stored(message: Msg) -> float:
    return message.metadata.timestamp.timestamp()


def _all(after: int) -> ConsumerConfig:
    return ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        mem_storage=True,
        max_deliver=1,
    )
