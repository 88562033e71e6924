"""The log is the queue of work too: one durable pull consumer per module and priority, on the log itself.

Strict order without asking twice: on every level that has run dry one pull of one waits at the server.  While
it waits unanswered the level is known to be empty, so a free slot asks only the levels that may have work,
most urgent first, and a queued event reaches an idle node in one hop.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from nats.aio.msg import Msg

from bus import streams, subjects
from bus.answers import Answers
from bus.bridge import Bridge, Subscription
from bus.feed import fact
from bus.tasks import end
from events.errors import HindbrainError, NotFound, Trouble
from events.ports import Delivery
from events.spec import PRIORITIES

log = logging.getLogger(__name__)

LARGEST = 512
"""Messages of one request."""
ACK_SECONDS = 5.0
"""What was offered and not acknowledged for so long is offered again, to anybody."""
WAIT_SECONDS = 20.0
"""How long a pull waits at the server before it is asked again."""
SWEEP_SECONDS = 2.0
"""A pull that does not wait is answered at once; after so long it is lost."""
FLOOR_SECONDS = 15.0
"""How often it is written down from where a lost consumer would have to begin."""
UNREAD_SECONDS = 30.0
RETRY_SECONDS = (0.1, 2.0)
START_SECONDS = 20.0
_NANO = 1_000_000_000
_ACKS_PENDING = 100_000


class _Level:
    """One priority: a consumer, and what we know about it."""

    def __init__(self, module: str, priority: str, rank: int) -> None:
        self.priority = priority
        self.rank = rank
        """0 is most urgent."""
        self.name = f"work-{module}-{priority}"
        self.filter = subjects.queue(module, priority)
        self.hot = True
        """It may have something; otherwise a pull of ours waits there."""
        self.inbox = ""
        """Where the waiting pull is answered."""
        self.timer: asyncio.TimerHandle | None = None
        self.floor = 0
        """Everything up to this stream sequence was acknowledged."""

    def heat(self) -> None:
        """The waiting pull is over."""
        self.hot, self.inbox = True, ""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Sweep:
    """One pull that does not wait."""

    def __init__(self, level: _Level, inbox: str, batch: int, late: float) -> None:
        self.level, self.inbox, self.open, self.late = level, inbox, batch, late
        """From when on its answer is lost, by the clock of the loop."""


class Work:
    """What waits to be taken, of one module.

    `listener` gets deliveries in lots, in the loop of the bus, and must be quick; each is acknowledged or
    given back by whoever takes it.  A delivery may come twice: only the claim in the log decides.
    """

    def __init__(
        self,
        bridge: Bridge,
        listener: Callable[[Sequence[Delivery]], None],
        module: str = "commands",
        *,
        since: Callable[[str], int] | None = None,
        ack_seconds: float = ACK_SECONDS,
    ) -> None:
        """Prepare; `since` names the sequence of the oldest waiting `queued` of a priority, 0 if unknown.

        It is asked when a consumer has to be made and this node cannot say itself from where.
        """
        self._bridge = bridge
        self._listener = listener
        self._since = since
        self._ack_seconds = ack_seconds
        self._levels = {level.name: level for level in _made(module)}
        self._answers = Answers(bridge)
        self._inbox = f"{bridge.prefix}.{secrets.token_hex(8)}"
        self._serial = 0
        self._subscription: Subscription | None = None
        self._free = 0
        self._more = [0] * len(PRIORITIES)
        """How many of each priority could be taken beyond that, in place of less urgent ones."""
        self._sweep: _Sweep | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._offered = 0
        """The number of the last delivery."""
        self._lot: list[Delivery] = []
        self._mending: asyncio.Task[None] | None = None
        self._floors: asyncio.Task[None] | None = None
        self._running = False

    def start(self) -> None:
        """Make what is missing; nothing comes before it is wanted."""
        self._bridge.call(self._begin(), START_SECONDS)

    def stop(self) -> None:
        """Take nothing more; what was offered and not answered is offered to others after 5 s."""
        self._bridge.call(self._end(), START_SECONDS)

    def want(self, free: int, more: Sequence[int] = (), seen: int | None = None) -> None:
        """Say how many executions could be taken now, in total.

        `more` says how many further ones of each priority, most urgent first, could take the place of what
        was offered before.  `seen` is the number of the last delivery that this takes into account; without
        it an offer that crosses with this call may be one too many: give it back with `nak(0)`.
        """
        self._bridge.post(lambda: self._set(free, more, seen))

    # In the loop

    async def _begin(self) -> None:
        if self._running:
            return
        self._running = True
        self._bridge.on_reconnect.append(self._doubt)
        self._subscription = await self._bridge.subscribe(f"{self._inbox}.>", self._hear)
        self._doubt()
        if self._mending is not None:
            await asyncio.shield(self._mending)
        self._floors = asyncio.ensure_future(self._remember())

    async def _end(self) -> None:
        if not self._running:
            return
        self._running = False
        self._free, self._more = 0, [0] * len(PRIORITIES)
        self._bridge.on_reconnect.remove(self._doubt)
        await end(self._mending, self._floors)
        self._mending = self._floors = None
        self._forget()
        if self._subscription is not None:
            await self._bridge.unsubscribe(self._subscription)

    def _set(self, free: int, more: Sequence[int], seen: int | None) -> None:
        if seen is not None:
            free -= self._offered - seen
        # Where there is less than nothing free, so many of those that could take a place may not.
        self._free = max(0, free)
        self._more = [max(0, each + min(0, free)) for each in more] or [0] * len(PRIORITIES)
        self._step()

    def _room(self, level: _Level) -> int:
        return self._free + self._more[level.rank]

    def _step(self) -> None:
        """Ask the most urgent level that may have something, one at a time."""
        if not self._running or self._sweep is not None or self._mending is not None:
            return
        if not self._bridge.connected:
            return
        level = next((level for level in self._levels.values() if level.hot and self._room(level) > 0), None)
        if level is None:
            return
        batch = min(self._room(level), LARGEST)
        loop = self._bridge.loop
        self._sweep = _Sweep(level, self._next(level, "now"), batch, loop.time() + SWEEP_SECONDS)
        self._ask(level, self._sweep.inbox, {"batch": batch, "no_wait": True})
        if self._watch is None:
            self._watch = loop.call_at(self._sweep.late, self._overdue)

    def _overdue(self) -> None:
        """Look after the pull that does not wait; one timer for many, because they come by the thousand."""
        self._watch, sweep = None, self._sweep
        if sweep is None:
            return
        if sweep.late <= self._bridge.loop.time():
            self._doubt()
        else:
            self._watch = self._bridge.loop.call_at(sweep.late, self._overdue)

    def _arm(self, level: _Level) -> None:
        """Let one pull of one wait where there is nothing now."""
        level.heat()
        if self._room(level) <= 0 or not self._running:
            return
        level.hot, level.inbox = False, self._next(level, "wait")
        self._ask(level, level.inbox, {"batch": 1, "expires": int(WAIT_SECONDS * _NANO)})
        level.timer = self._bridge.loop.call_later(WAIT_SECONDS + SWEEP_SECONDS, self._doubt)

    def _next(self, level: _Level, way: str) -> str:
        self._serial += 1
        return f"{self._inbox}.{level.name}.{way}.{self._serial}"

    def _ask(self, level: _Level, inbox: str, request: dict[str, Any]) -> None:
        # One that has to wait for another connection comes after the doubt about this one: it may bring a
        # surplus, and that is given back.
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{streams.EVENTS}.{level.name}"
        self._answers.send(subject, json.dumps(request).encode(), reply=inbox)

    def _hear(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is not None and message.subject.startswith(self._inbox):
            self._status(message.subject, status, (message.headers or {}).get("Description", ""))
            return
        tokens = message.reply.split(".")
        at = 3 if len(tokens) < 11 else 5
        level = self._levels.get(tokens[at])
        if level is None:
            return
        seq, pending = int(tokens[at + 2]), int(tokens[at + 5])
        sweep = self._sweep
        if not level.hot:
            # The pull that waits was there first, so this is its answer.
            self._offer(level, message, seq)
            self._arm(level) if pending == 0 else level.heat()
            self._step()
        elif sweep is not None and sweep.level is level:
            sweep.open -= 1
            self._offer(level, message, seq)
            if sweep.open <= 0:
                self._swept(dry=pending == 0)
        else:
            self._offer(level, message, seq)

    def _status(self, inbox: str, status: str, said: str) -> None:
        level = self._levels[inbox.split(".")[-3]]
        swept = self._sweep is not None and inbox == self._sweep.inbox
        if status == "100" or not (swept or inbox == level.inbox):
            return
        if status not in {"404", "408"}:
            # 409: the consumer was deleted, or the server stops; 503: there is no such consumer.
            log.info("pulling from %s stopped: %s %s", level.name, status, said)
            self._doubt()
        elif swept:
            self._swept(dry=True)
        else:
            self._arm(level)
            self._step()

    def _swept(self, *, dry: bool) -> None:
        sweep, self._sweep = self._sweep, None
        if sweep is not None and dry:
            self._arm(sweep.level)
        self._step()

    def _offer(self, level: _Level, message: Msg, seq: int) -> None:
        """Hand it over at the end of this turn; a surplus goes back at once."""
        reply = message.reply
        if self._room(level) <= 0 or not self._running:
            self._nak(reply, 0)
            return
        if not (message.headers or {}).get("Brain-Id"):
            log.error("sequence %d is no event of ours and is passed over: %s", seq, message.subject)
            self._answers.send(reply)
            return
        try:
            queued = fact(message.subject, message.headers, message.data, seq)
        except HindbrainError as error:
            log.error("a queued event that cannot be read, sequence %d: %s", seq, error)  # noqa: TRY400  its text is all there is to say
            self._nak(reply, UNREAD_SECONDS)
            return
        if self._free > 0:
            self._free -= 1
        else:
            self._more[level.rank :] = [max(0, each - 1) for each in self._more[level.rank :]]

        def ack() -> None:
            self._answers.send(reply)

        def nak(seconds: float) -> None:
            self._nak(reply, seconds)

        self._offered += 1
        self._lot.append(Delivery(queued, ack, nak, self._offered))
        if len(self._lot) == 1:
            self._bridge.loop.call_soon(self._hand)

    def _nak(self, reply: str, seconds: float) -> None:
        delay = f' {{"delay": {int(seconds * _NANO)}}}' if seconds > 0 else ""
        self._answers.send(reply, f"-NAK{delay}".encode())

    def _hand(self) -> None:
        lot, self._lot = self._lot, []
        try:
            self._listener(lot)
        except Exception:  # whoever should have taken them is not well; they are offered again, to anybody
            log.exception("%d deliveries were not taken", len(lot))
            self._offered -= len(lot)
            for delivery in lot:
                delivery.nak(1.0)

    # Mending

    def _forget(self) -> None:
        self._sweep = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for level in self._levels.values():
            level.heat()

    def _doubt(self) -> None:
        """Nothing that was asked will come: look after the consumers, and ask again."""
        if not self._running:
            return
        self._forget()
        if self._mending is None:
            self._mending = asyncio.ensure_future(self._mend())

    async def _mend(self) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            await self._bridge.ready()
            epoch = self._bridge.epoch
            try:
                for level in self._levels.values():
                    await self._make(level)
            except HindbrainError as error:
                log.warning("the consumers of the queue cannot be made now: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_SECONDS[1])
                continue
            if epoch == self._bridge.epoch:
                break
        self._forget()
        self._mending = None
        self._step()

    async def _make(self, level: _Level) -> None:
        """Find the consumer, or make it so that nothing is left out."""
        config: dict[str, Any] = {
            "name": level.name,
            "durable_name": level.name,
            "filter_subject": level.filter,
            "ack_policy": "explicit",
            "ack_wait": int(self._ack_seconds * _NANO),
            "max_deliver": -1,
            "max_ack_pending": _ACKS_PENDING,
            "max_waiting": 512,
        }
        try:
            info = await self._bridge.api(f"CONSUMER.INFO.{streams.EVENTS}.{level.name}")
        except NotFound:
            since = level.floor + 1 if level.floor else self._since(level.priority) if self._since else 0
            log.info("making the consumer %s from sequence %d on", level.name, since)
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": since}
            config |= start if since > 1 else {"deliver_policy": "all"}
        else:
            level.floor = max(level.floor, int(info["ack_floor"]["stream_seq"]))
            found = info["config"]
            if all(found.get(key) == value for key, value in config.items()):
                return
            # Where it began cannot be changed, the rest is brought up to date.
            config |= {key: found[key] for key in ("deliver_policy", "opt_start_seq") if key in found}
        await self._bridge.api(
            f"CONSUMER.CREATE.{streams.EVENTS}.{level.name}.{level.filter}",
            {"stream_name": streams.EVENTS, "config": config},
        )

    async def _remember(self) -> None:
        """Write down how far everything was acknowledged, for the day when a consumer is lost."""
        while True:
            await asyncio.sleep(FLOOR_SECONDS)
            for level in self._levels.values():
                try:
                    info = await self._bridge.api(f"CONSUMER.INFO.{streams.EVENTS}.{level.name}")
                except NotFound:
                    self._doubt()
                    break
                except Trouble as error:
                    log.debug("the queue cannot be looked at now: %s", error)
                    break
                level.floor = max(level.floor, int(info["ack_floor"]["stream_seq"]))


def _made(module: str) -> list[_Level]:
    return [_Level(module, priority, rank) for rank, priority in enumerate(PRIORITIES)]
