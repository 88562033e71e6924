"""What every log does with an entity: one decision at a time, each on the events that are stored.

A lane is an entity that somebody waits for.  Its first ask is decided and stored before the next one is
looked at, because two decisions on one state would both be stored when they meet in one batch.  What was
learned is remembered for the next ask, of a bounded number of entities.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from bus import subjects
from events import codec, ids
from events.codec import Envelope, Fact
from events.errors import HindbrainError, Internal, TooLarge, Validation
from events.execution import Queued
from events.message import Event
from events.ports import Ask, Decider, Outcome, Snapshot
from events.trace import born

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Kind and id."""
Done = Callable[[Sequence[Outcome]], None]
Clock = Callable[[], int]
"""Milliseconds since 1970."""
LARGEST_DECISION = 1000
"""Events of one decision: they are stored together, and the server takes no larger batch (ADR-50)."""


class Head(msgspec.Struct, frozen=True):
    """An entity as it was at a moment."""

    snapshot: Snapshot[Any]
    checked: float = float("-inf")
    """The moment (monotonic seconds) at which it was certainly like this."""


class Job(msgspec.Struct):
    """An ask that waits for its turn."""

    ask: Ask
    done: Done
    born: float


@dataclass(slots=True)
class Lane:
    """What waits for one entity, and whether something is under way for it."""

    key: Key
    waiting: deque[Job] = field(default_factory=deque[Job])
    busy: bool = False


class Draft(msgspec.Struct):
    """An event that was decided and is not stored yet."""

    subject: str
    event: Event
    envelope: Envelope
    body: bytes


class Decision(msgspec.Struct):
    """What an ask came to; all its drafts are stored, or none."""

    key: Key
    ask: Ask
    head: Head
    drafts: Sequence[Draft]
    hash: str
    """The chain hash of its last draft."""
    fence: str
    """The filter of everything that happened to the entity."""


class Heads:
    """The entities that were seen last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heads: OrderedDict[Key, Head] = OrderedDict()

    def get(self, key: Key) -> Head | None:
        """What is remembered of an entity."""
        head = self._heads.get(key)
        if head is not None:
            self._heads.move_to_end(key)
        return head

    def put(self, key: Key, head: Head) -> None:
        """Remember it; the one that was not needed for longest is forgotten."""
        self._heads[key] = head
        self._heads.move_to_end(key)
        if len(self._heads) > self._most:
            self._heads.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Forget it."""
        self._heads.pop(key, None)


class Answers:
    """Outcomes on their way back, gathered until they are told, one lot for each listener."""

    def __init__(self) -> None:
        self._lots: dict[Callable[[Sequence[Any]], None], list[Any]] = {}

    def add(self, done: Callable[[Sequence[Any]], None], answer: object) -> None:
        """Keep an answer for the next lot."""
        self._lots.setdefault(done, []).append(answer)

    def tell(self) -> None:
        """Give every listener what is its own."""
        lots, self._lots = self._lots, {}
        for done, lot in lots.items():
            try:
                done(lot)
            except Exception:  # one listener that breaks its promise must not cost the others their answers
                log.exception("a listener of the log failed")


class Scribe:
    """Turns asks into drafts, and drafts that were stored into facts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stamp = (0, "")

    def decide(self, ask: Ask, head: Head) -> Decision | HindbrainError:
        """Ask the rules; no drafts means that it had already happened."""
        key = (ask.decider.kind, ask.entity)
        try:
            events = ask.decider.decide(head.snapshot.state, ask.command)
            fence = subjects.entity(*key)
            drafts, last = self._draft(ask, head, events, fence[:-1])
        except HindbrainError as error:
            return error
        except Exception as error:  # a rule that breaks is one answer, not the end of the log
            log.exception("the rules of %s %s failed on %s", *key, type(ask.command).__name__)
            return Internal(f"the rules of {key[0]} failed: {error!r}", entity=key[1])
        return Decision(key, ask, head, drafts, last, fence)

    def _draft(self, ask: Ask, head: Head, events: Sequence[Event], root: str) -> tuple[list[Draft], str]:
        entity, snapshot = ask.entity, head.snapshot
        drafts: list[Draft] = []
        prev = snapshot.hash
        if not events:
            return drafts, prev
        if len(events) > LARGEST_DECISION:
            raise TooLarge(f"a decision of {len(events)} events is larger than {LARGEST_DECISION}")
        for text in (ask.by, ask.cause, ask.trace):
            if text and not (text.isprintable() and text == text.strip()):
                raise Validation(f"not fit for a header: {text!r}")
        time = max(self._now(), snapshot.time)
        state = snapshot.state
        traced = ask.decider.trace
        trace = ask.trace if traced is None else traced(state) or (ask.trace if not snapshot.n else "")
        for n, event in enumerate(events, snapshot.n + 1):
            if isinstance(event, Queued):
                spec = event.spec or state.spec
                level = event.priority or spec.priority
                subject = f"{root}{n}.{subjects.waiting(spec.module, level)}"
            else:
                subject = f"{root}{n}.{name(type(event))}"
            event_id = ids.event()
            if n == 1 and traced is not None and not trace:
                trace = born(entity, event_id)
            envelope = Envelope(id=event_id, time=time, cause=ask.cause, by=ask.by, prev=prev, trace=trace)
            body = codec.encode(event)
            drafts.append(Draft(subject, event, envelope, body))
            prev = codec.chain(subject, envelope, body)
        return drafts, prev

    def _now(self) -> str:
        now = self._clock()
        if now != self._stamp[0]:
            self._stamp = (now, codec.stamp(now))
        return self._stamp[1]


@cache
def name(event: type[Event]) -> str:
    """Say an event's token; asked for at every append, so it is remembered."""
    return event.name()


def fold(decider: Decider[Any], facts: Sequence[Fact], head: Head, hash: str, checked: float) -> Head:  # noqa: A002  it is one
    """Let an entity go on by facts that are stored; `hash` is that of the last."""
    state = head.snapshot.state
    for fact in facts:
        state = decider.evolve(state, fact)
    last = facts[-1]
    return Head(Snapshot(state, last.n, last.seq, hash, last.envelope.time), checked)


def land(decision: Decision, first: int, checked: float) -> tuple[Head, list[Fact]]:
    """Make facts of a decision whose first event was stored at that sequence, and the entity after them."""
    kind, entity = decision.key
    facts = [
        Fact(
            seq=first + index,
            kind=kind,
            entity=entity,
            n=n,
            event=draft.event,
            envelope=draft.envelope,
            subject=draft.subject,
            body=draft.body,
        )
        for index, (n, draft) in enumerate(enumerate(decision.drafts, decision.head.snapshot.n + 1))
    ]
    return fold(decision.ask.decider, facts, decision.head, decision.hash, checked), facts


def renew(head: Head, checked: float) -> Head:
    """The same entity, seen again at a later moment."""
    return Head(head.snapshot, checked)


def blank(decider: Decider[Any]) -> Head:
    """An entity that nothing has happened to."""
    return Head(Snapshot(decider.initial))
