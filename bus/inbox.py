"""Commands that were stored first: taken up whenever a node is there, erased when they are handled.

Nothing is lost: what is not answered comes again.  Nothing is done twice: every message has a key, and the
same key is the same wish.  What is refused lies in `brain.dead.inbox.<sequence>` with its error, without its
secrets.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, unquote

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus import streams, subjects
from bus.answers import Answers
from bus.bridge import Bridge
from bus.pull import Lot, Pull
from bus.services import BODY_MAX, Calls, Lots, too_large
from bus.tasks import Tasks
from events.errors import HindbrainError, Problem, Refusal, Unavailable, Validation, revive
from events.ports import Call
from events.spec import SECRET_NAME
from events.trace import read

log = logging.getLogger(__name__)

CONSUMER = "inbox"
ROOM = 256
"""Messages that are taken up at a time."""
ACK_SECONDS = 30.0
"""What was not answered for so long is taken up again."""
LATER_SECONDS = (1.0, 60.0)
"""When it is tried again after trouble: at first, and at most."""
REMEMBERED = 100_000
"""So many refusals are found by their key, the newest."""
START_SECONDS = 30.0
STOP_SECONDS = 5.0
MASK = "***"
_WORDS = 2000
_NO_SECRET = {"idempotency_key", "concurrency_key"}
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_NANO = 1_000_000_000
_STORED_ALREADY = 10071

Told = Callable[[HindbrainError | None], None]


class _Key(msgspec.Struct):
    idempotency_key: Any = None


class Inbox:
    """The stored commands.

    `listener` gets calls in lots, in the loop of the bus, and must be quick.  An answer erases the message; a
    refusal parks it first; trouble leaves it for later.
    """

    def __init__(self, bridge: Bridge, listener: Calls, *, ack_seconds: float = ACK_SECONDS) -> None:
        self._bridge = bridge
        self._ack_seconds = ack_seconds
        self._lots = Lots(bridge, listener)
        self._answers = Answers(bridge)
        self._pull = Pull(bridge, streams.INBOX, lambda _: self._config(), self._take)
        self._reader = Pull(bridge, streams.DEAD, _reader, self._learn)
        self._refused: OrderedDict[str, Problem] = OrderedDict()
        self._complete = 0
        """Up to this sequence of the parked messages the index must have read before it can be asked."""
        self._asking: list[tuple[str, Told]] = []
        self._tasks = Tasks("a message of the inbox was not settled")

    def start(self) -> None:
        """Begin to take up what is stored, the oldest first."""
        self._bridge.call(self._begin(), START_SECONDS)

    def stop(self) -> None:
        """Take up no more; what was taken up and not answered comes again."""
        self._bridge.call(self._end(), STOP_SECONDS)

    def refused(self, key: str, done: Told) -> None:
        """Find the error of the refused message with this key; None when there is none.

        `done` is called in the loop of the bus, once all that was parked before the start is known.
        """

        def look() -> None:
            self._asking.append((key, done))
            self._tell()

        self._bridge.post(look)

    # Taking up

    async def _begin(self) -> None:
        await self._bridge.ready()
        last = await self._bridge.request(f"$JS.API.DIRECT.GET.{streams.DEAD}.{_parked()}")
        self._complete = int((last.headers or {}).get("Nats-Sequence", "0"))
        await self._reader.start()
        self._reader.want(ROOM)
        await self._pull.start()
        self._pull.want(ROOM)

    async def _end(self) -> None:
        await self._pull.stop()
        await self._reader.stop()

    def _config(self) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=CONSUMER,
            filter_subject=f"{subjects.ROOT}.inbox.>",
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=self._ack_seconds,
            max_deliver=-1,
            max_ack_pending=10_000,
        )

    def _take(self, lot: Lot) -> None:
        for sequence, message in lot:
            headers = message.headers or {}
            key = _key(message.data) or headers.get("Nats-Msg-Id") or f"inbox-{sequence}"
            stored = _Stored(self, message, sequence, key)
            try:
                wish = subjects.parse(message.subject)
                if not isinstance(wish, subjects.Request):
                    raise Validation(f"not a command: {message.subject}")
                if len(message.data) > BODY_MAX:
                    raise too_large(len(message.data))
            except Refusal as error:
                stored.refuse(error)
                continue
            call = Call(
                wish.kind,
                wish.verb,
                message.data,
                stored.answer,
                stored.refuse,
                by="inbox",
                trace=read(headers.get("traceparent")),
                key=key,
            )
            self._lots.add(call)

    def settle(self, stored: "_Stored", error: HindbrainError | None) -> None:
        """Carry out what was decided about a message; from any thread."""
        try:
            self._bridge.post(lambda: self._tasks.spawn(self._settle(stored, error)))
        except Unavailable:  # it comes again at the next start
            log.debug("message %d of the inbox was decided after the end", stored.sequence)

    async def _settle(self, stored: "_Stored", error: HindbrainError | None) -> None:
        self._pull.want(1)
        reply = stored.message.reply
        if error is not None and not isinstance(error, Refusal):
            self._later(stored, error)
            return
        try:
            if error is not None:
                await self._park(stored, error)
            # Erased with random bytes over it: what is only deleted could still be read in the file.
            await self._bridge.api(f"STREAM.MSG.DELETE.{streams.INBOX}", {"seq": stored.sequence})
        except HindbrainError as trouble:
            log.info("message %d of the inbox is not erased yet: %s", stored.sequence, trouble)
            self._later(stored, trouble)
            return
        self._answers.send(reply)

    def _later(self, stored: "_Stored", error: HindbrainError) -> None:
        delay = min(LATER_SECONDS[0] * 2 ** min(stored.deliveries - 1, 10), LATER_SECONDS[1])
        log.info("message %d of the inbox is tried again in %g s: %s", stored.sequence, delay, error)
        nak = f'-NAK {{"delay": {int(delay * _NANO)}}}'
        self._answers.send(stored.message.reply, nak.encode())

    # What was refused

    async def _park(self, stored: "_Stored", error: HindbrainError) -> None:
        said = error.problem
        problem = Problem(code=said.code, message=said.message[:_WORDS], details=said.details)
        text = json.dumps(
            {"code": problem.code, "message": problem.message, "details": problem.details}, default=repr
        )
        if len(text) > _WORDS * 4:
            text = json.dumps({"code": problem.code, "message": problem.message, "details": {}})
        headers = {
            "Brain-Key": quote(stored.key, safe=_PLAIN),
            "Brain-Error": text,
            # It may have been parked before a crash that kept it from being erased.
            "Nats-Expected-Last-Subject-Sequence": "0",
        }
        if identity := (stored.message.headers or {}).get("Nats-Msg-Id"):
            headers["Brain-Msg-Id"] = quote(identity, safe=_PLAIN)
        body = masked(stored.message.data)
        if len(body) > self._bridge.connection.max_payload - len(text) - 65536:
            body = _unread(stored.message.data)
        reply = await self._bridge.request(subjects.dead(stored.sequence), body, headers=headers)
        refused = json.loads(reply.data).get("error")
        if refused and refused.get("err_code") != _STORED_ALREADY:
            raise Unavailable(f"it cannot be parked: {refused.get('description', '')}")
        self._know(stored.key, problem)

    def _learn(self, lot: Lot) -> None:
        self._reader.want(len(lot))
        for sequence, message in lot:
            headers = message.headers or {}
            try:
                problem = msgspec.json.decode(headers.get("Brain-Error", ""), type=Problem)
            except msgspec.MsgspecError as error:
                log.warning("the parked message %d has no error that can be read: %s", sequence, error)
                continue
            self._know(unquote(headers.get("Brain-Key", "")), problem)
            if message.metadata.num_pending == 0:
                self._complete = 0
        self._tell()

    def _know(self, key: str, problem: Problem) -> None:
        self._refused[key] = problem
        self._refused.move_to_end(key)
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _tell(self) -> None:
        if self._reader.last < self._complete:
            return
        asking, self._asking = self._asking, []
        for key, done in asking:
            problem = self._refused.get(key)
            try:
                done(None if problem is None else revive(problem))
            except Exception:  # one who cannot take the answer must not keep it from the others
                log.exception("an answer about a refused message was not taken")


class _Stored:
    """One message, to be decided once."""

    __slots__ = ("_inbox", "_settled", "deliveries", "key", "message", "sequence")

    def __init__(self, inbox: Inbox, message: Msg, sequence: int, key: str) -> None:
        self._inbox = inbox
        self._settled = False
        self.message = message
        self.sequence = sequence
        self.key = key
        self.deliveries = message.metadata.num_delivered

    def answer(self, _: bytes) -> None:
        """It was done."""
        self._settle(None)

    def refuse(self, error: HindbrainError) -> None:
        """It cannot be done, or not now."""
        self._settle(error)

    def _settle(self, error: HindbrainError | None) -> None:
        if not self._settled:
            self._settled = True
            self._inbox.settle(self, error)


def masked(body: bytes) -> bytes:
    """A refused body as it may be kept: without the values of secrets; what is no JSON is not kept."""
    try:
        return json.dumps(_mask(json.loads(body or b"{}"))).encode()
    except (ValueError, RecursionError):
        return _unread(body)


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast(dict[str, Any], value)
        return {
            name: _blank(each) if SECRET_NAME.search(name) and name not in _NO_SECRET else _mask(each)
            for name, each in items.items()
        }
    if isinstance(value, list):
        return [_mask(each) for each in cast(list[Any], value)]
    return value


def _blank(value: Any) -> Any:
    """Leave the names and take the values."""
    if isinstance(value, dict):
        return {name: _blank(each) for name, each in cast(dict[str, Any], value).items()}
    return MASK


def _unread(body: bytes) -> bytes:
    return json.dumps({"unread_bytes": len(body)}).encode()


def _key(body: bytes) -> str:
    try:
        key = msgspec.json.decode(body, type=_Key).idempotency_key
    except (msgspec.MsgspecError, RecursionError):  # whoever handles it says what is wrong with it
        return ""
    return key if isinstance(key, str) else ""


def _parked() -> str:
    return subjects.dead(0)[:-1] + "*"


def _reader(after: int) -> ConsumerConfig:
    return ConsumerConfig(
        filter_subject=_parked(),
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        headers_only=True,
        mem_storage=True,
    )
