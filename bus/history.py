"""An entity is read back from the stream: whole, its last sequence only, or whoever wrote a sequence.

Direct gets run in the goroutine of the stream, between its appends.  So an entity is read by one
`multi_last` (each of its events has a subject of its own), which the server finds in its index; asking for
the next message of a subject would scan, and stall every append meanwhile.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from nats.aio.msg import Msg

from bus import subjects
from bus.frames import Frame, Wire
from bus.lanes import Head, Key, blank, fold
from bus.streams import EVENTS
from events import codec
from events.codec import Envelope, Fact
from events.errors import Damaged, HindbrainError, Internal, Unavailable
from events.ports import Decider

log = logging.getLogger(__name__)

AT_ONCE = 256
"""Gets under way."""
MANY = 1024
"""The most messages of one `multi_last` (nats-server, ADR-31)."""
PAGE = 500
"""Events of a long-lived entity that are read at once."""
REPLY_SECONDS = 3.0
CARRIED = "carried"
"""An event of this name says all that its entity is, so that a long one is read from there on."""
_GET = f"$JS.API.DIRECT.GET.{EVENTS}"


class Record(NamedTuple):
    """A stored message as it came."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> Key:
        """Whose event it is; `Internal` when it is none."""
        tokens = self.subject.split(".", 4)
        if len(tokens) != 5:
            raise Internal(f"not an event: {self.subject}", seq=self.seq)
        return tokens[2], tokens[3]

    @property
    def n(self) -> int:
        """The version of the entity that it made; `Internal` when it is no event."""
        tokens = self.subject.split(".", 5)
        if len(tokens) < 6 or not tokens[4].isdecimal():
            raise Internal(f"not an event: {self.subject}", seq=self.seq)
        return int(tokens[4])

    @property
    def event(self) -> str:
        """The token of the event; empty when it is none."""
        tokens = self.subject.split(".", 6)
        return tokens[5] if len(tokens) > 5 else ""

    @property
    def foreign(self) -> str | None:
        """Why this cannot be an event of ours; None when it may be one.

        Whoever may ask the server something can have its answer sent to a subject of the log.
        """
        tokens = self.subject.split(".", 6)
        if len(tokens) < 6 or not tokens[4].isdecimal():
            return f"{self.subject} is no subject of an event"
        return None if self.headers.get("Brain-Id") else f"{self.subject} came without an id"

    @property
    def envelope(self) -> Envelope:
        """What its headers say."""
        say = self.headers.get
        return Envelope(
            id=say("Brain-Id", ""),
            time=say("Brain-Time", ""),
            cause=say("Brain-Cause", ""),
            by=say("Brain-By", ""),
            prev=say("Brain-Prev", ""),
            trace=say("traceparent", ""),
        )

    @property
    def hash(self) -> str:
        """The chain hash, which the entity's next event names."""
        return codec.chain(self.subject, self.envelope, self.body)

    def fact(self) -> Fact:
        """Read it whole; `Internal` when this version of the program cannot."""
        kind, entity = self.key
        return Fact(
            seq=self.seq,
            kind=kind,
            entity=entity,
            n=self.n,
            event=codec.decode(kind, self.body),
            envelope=self.envelope,
            subject=self.subject,
            body=self.body,
        )


class Got(NamedTuple):
    """What a get brought."""

    records: Sequence[Record]
    asked: float
    """When it was sent; the stream was like this at that moment or a little later."""
    whole: bool = True
    """Whether there was room for everything."""
    error: HindbrainError | None = None


Gotten = Callable[[Got], None]


@dataclass(slots=True, eq=False)
class _Get:
    body: bytes
    single: bool
    done: Gotten
    deadline: float
    asked: float = 0.0
    reply: str = ""
    records: list[Record] = field(default_factory=list[Record])


def rebuild(decider: Decider[Any], records: Sequence[Record], asked: float) -> tuple[Head, list[Fact]]:
    """Fold a whole entity; `Damaged` when one of its events is missing, `Internal` when one is unreadable."""
    facts = [record.fact() for record in records]
    first = facts[0].n if facts and facts[0].name == CARRIED else 1
    for n, fact in enumerate(facts, first):
        if fact.n != n:
            raise Damaged(
                f"event {n} of {fact.kind} {fact.entity} is missing", entity=fact.entity, seq=fact.seq
            )
    head = blank(decider)
    if not facts:
        return Head(head.snapshot, asked), facts
    return fold(decider, facts, head, records[-1].hash, asked), facts


class History:
    """Reads, each repeated over lost connections until it is answered or late.  Lives in the loop."""

    def __init__(self, wire: Wire, now: Callable[[], float]) -> None:
        self._wire = wire
        self._now = now
        self._waiting: deque[_Get] = deque()
        self._asked: dict[str, _Get] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting and not self._asked

    def read(self, key: Key, deadline: float, done: Gotten) -> None:
        """Get all events of an entity in order, none when it has none."""

        def got(answer: Got) -> None:
            if answer.error is None and not answer.whole:
                self._long(key, deadline, done)
            else:
                done(answer)

        self._get({"multi_last": [subjects.entity(*key)], "batch": MANY}, deadline, got)

    def last(self, key: Key, deadline: float, done: Gotten) -> None:
        """Get the last event of an entity, none when it has none."""
        self._get({"last_by_subj": subjects.entity(*key)}, deadline, done)

    def at(self, seq: int, deadline: float, done: Gotten) -> None:
        """Get the event of a sequence, none when there is none."""
        self._get({"seq": seq}, deadline, done)

    def tick(self) -> None:
        """Repeat what was not answered, give up what is late."""
        now = self._now()
        for get in list(self._asked.values()):
            if now - get.asked > REPLY_SECONDS:
                self._again(get)
        for get in [get for get in self._waiting if get.deadline < now]:
            self._waiting.remove(get)
            get.done(Got((), now, error=Unavailable("the log cannot be read now: no answer from NATS")))
        self.pump()

    def lost(self) -> None:
        """The connection is gone: everything is asked again over the next one."""
        for get in list(self._asked.values()):
            self._again(get)

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        frames: list[Frame] = []
        if not self._wire.up:
            return
        while self._waiting and len(self._asked) < AT_ONCE:
            get = self._waiting.popleft()
            get.asked, get.records = self._now(), []
            get.reply = self._wire.expect(lambda message, get=get: self._hear(get, message))
            self._asked[get.reply] = get
            frames.append(Frame(_GET, get.reply, b"", get.body))
        if frames and not self._wire.send(frames):
            self.lost()

    def _get(self, body: dict[str, Any], deadline: float, done: Gotten) -> None:
        self._waiting.append(_Get(msgspec.json.encode(body), "batch" not in body, done, deadline))
        self.pump()

    def _again(self, get: _Get) -> None:
        self._drop(get)
        self._waiting.append(get)

    def _drop(self, get: _Get) -> None:
        self._wire.forget(get.reply)
        self._asked.pop(get.reply, None)

    def _hear(self, get: _Get, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "503":
            # Nobody serves the stream yet: the server is just coming up.  The next tick asks again.
            self._again(get)
            return
        if not status:
            seq, subject = int(headers["Nats-Sequence"]), headers["Nats-Subject"]
            get.records.append(Record(seq, subject, headers, message.data))
            if not get.single:
                return
        self._drop(get)
        error = None
        whole = status != "413" and headers.get("Nats-Num-Pending", "0") == "0"
        if status not in {"", "204", "404", "413"}:
            error = Internal(f"the log cannot be read: {status} {headers.get('Description', '')}")
        get.done(Got(get.records, get.asked, whole or get.single, error))
        self.pump()

    def _long(self, key: Key, deadline: float, done: Gotten) -> None:
        """Read an entity of more events than one get brings, by the numbers in their subjects."""
        root = subjects.entity(*key)[:-1]
        records: list[Record] = []

        def page(asked: float, last: int) -> None:
            first = len(records) + 1
            if first > last:
                done(Got(records, asked))
                return
            filters = [f"{root}{n}.>" for n in range(first, min(first + PAGE, last + 1))]

            def got(answer: Got) -> None:
                records.extend(answer.records)
                if answer.error is not None:
                    done(answer)
                elif not answer.records:
                    text = f"event {first} of {key[0]} {key[1]} is missing"
                    done(Got((), asked, error=Damaged(text, entity=key[1])))
                else:
                    page(asked, last)

            self._get({"multi_last": filters, "batch": MANY}, deadline, got)

        def measured(answer: Got) -> None:
            if answer.error is not None or not answer.records:
                done(answer)
                return
            asked, last = answer.asked, answer.records[0].n

            def ended(answer: Got) -> None:
                carried = [at for at, each in enumerate(answer.records) if each.event == CARRIED]
                if answer.error is not None:
                    done(answer)
                elif carried:
                    done(Got(answer.records[carried[-1] :], asked))
                else:
                    page(asked, last)

            tail = [f"{root}{n}.>" for n in range(max(1, last - PAGE + 1), last + 1)]
            self._get({"multi_last": tail, "batch": MANY}, deadline, ended)

        self.last(key, deadline, measured)
