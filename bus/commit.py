"""Decisions reach the stream alone when few are waiting, and in one atomic batch when many are.

A synced append takes about 0.45 ms; an atomic batch takes about 3 ms and one fsync, whatever it holds, so it
is worth it from a dozen on.  One batch is under way at a time, and the next gathers meanwhile.  What the
server says of a batch holds for all of it: the sequences are contiguous and end at the one it names.

An answer that does not come is no answer: the decision is `doubted`, and its owner looks whether it is there.
"""

import asyncio
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
from nats.aio.msg import Msg

from bus.frames import Frame, Wire, weight
from bus.lanes import Decision, Done, Key
from events.errors import HindbrainError, TooLarge, Unavailable, UnknownOutcome

log = logging.getLogger(__name__)

BREAK_EVEN = 12
"""From so many messages on, a batch is faster than single appends (measured with `sync_interval: always`)."""
LARGEST_BATCH = 1000
"""Messages; the server's limit (ADR-50)."""
BATCH_BYTES = 4 * 1024 * 1024
REPLY_SECONDS = 3.0
"""An append that was not answered for so long is looked for in the stream."""
AGAIN_SECONDS = 0.1
PATIENT_REFUSALS = 3
"""A batch that was refused so often is not guessed at any longer: every entity in it is read."""
LARGEST_HEADERS = 65_535 - 256
"""Bytes; the server stores no larger ones (err_code 10097).  The rest is for what a batch adds."""

_WRONG_SEQUENCE = (10071, 10164)
_TOO_LARGE = (10054, 10097, 10199)
_NOT_NOW = (10008, 10039, 10076, 10176, 10210)
"""JetStream coming up, no leader, batches given up or too many: nothing was stored, and it may work soon."""
_ACTUAL = re.compile(r"wrong last sequence: (\d+)")


class _Trouble(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    count: int = 1
    error: _Trouble | None = None


_ack = msgspec.json.Decoder(_Ack)


class Message(NamedTuple):
    """One event, ready to be sent in a batch or alone."""

    subject: str
    headers: bytes
    body: bytes


@dataclass(slots=True, eq=False)
class Append:
    """A decision on its way into the stream; sent again, it is the same bytes."""

    decision: Decision
    done: Done
    messages: Sequence[Message]
    size: int
    deadline: float
    sent: float = 0.0
    """When it was sent last, 0 before."""
    doubt: bool = False
    """It was sent once and not answered: it may be stored, or be stored yet."""


@dataclass(slots=True, eq=False)
class _Group:
    """Appends that go together."""

    appends: list[Append]
    refusals: int = 0
    reply: str = ""
    sent: float = 0.0


def prepare(decision: Decision, done: Done, deadline: float, limit: int) -> Append:
    """Write the messages of a decision; `TooLarge` when the server would not take one of them."""
    expectation = (
        f"Nats-Expected-Last-Subject-Sequence: {decision.head.snapshot.seq}\r\n"
        f"Nats-Expected-Last-Subject-Sequence-Subject: {decision.fence}\r\n"
    )
    messages: list[Message] = []
    size = 0
    for draft in decision.drafts:
        said = draft.envelope
        lines = f"Brain-Id: {said.id}\r\nBrain-Time: {said.time}\r\n"
        if said.cause:
            lines += f"Brain-Cause: {said.cause}\r\n"
        if said.by:
            lines += f"Brain-By: {said.by}\r\n"
        if said.prev:
            lines += f"Brain-Prev: {said.prev}\r\n"
        if said.trace:
            lines += f"traceparent: {said.trace}\r\n"
        headers = (lines + expectation).encode()
        bytes_ = weight(headers, draft.body)
        if bytes_ + 256 > limit or len(headers) > LARGEST_HEADERS:
            raise TooLarge(f"an event of {bytes_} bytes is larger than the log takes ({limit})", limit=limit)
        size += bytes_
        messages.append(Message(draft.subject, headers, draft.body))
    return Append(decision, done, messages, size, deadline)


class Owner(Protocol):
    """What the committer tells; it never looks at what is inside a decision."""

    def landed(self, appends: Sequence[Append], last: int) -> None:
        """Take note that all are stored, contiguous, the last message at that sequence."""

    def doubted(self, appends: Sequence[Append]) -> None:
        """Find out what became of each, and decide what to do."""

    def failed(self, append: Append, error: HindbrainError) -> None:
        """Answer that it was not stored, or that nobody knows."""

    def whose(self, seq: int, tell: Callable[[Key | None], None]) -> None:
        """Find out which entity the event of that sequence belongs to."""


class Committer:
    """Group commit.  Lives in the loop."""

    def __init__(self, wire: Wire, owner: Owner, now: Callable[[], float]) -> None:
        self._wire = wire
        self._owner = owner
        self._now = now
        self._waiting: deque[Append] = deque()
        self._messages = 0
        self._groups: deque[_Group] = deque()
        self._singles: dict[str, Append] = {}
        self._batch: _Group | None = None
        self._flushing = False
        self._resting: list[tuple[float, list[Append]]] = []
        self._name = secrets.token_hex(8)
        self._serial = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        return not (self._waiting or self._groups or self._singles or self._batch or self._resting)

    def add(self, append: Append) -> None:
        """Store it soon, together with whatever else comes in this turn of the loop."""
        self._waiting.append(append)
        self._messages += len(append.messages)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what should not wait any longer."""
        self._flushing = False
        if not self._wire.up:
            return
        while self._batch is None and self._groups:
            group = self._groups.popleft()
            if len(group.appends) == 1 and len(group.appends[0].messages) == 1:
                self._alone(group.appends)
            else:
                self._together(group)
        if self._batch is not None or not self._waiting:
            return
        if self._messages >= BREAK_EVEN:
            self._together(_Group(self._gather()))
            return
        room = BREAK_EVEN - len(self._singles)
        alone: list[Append] = []
        several: list[Append] = []
        while self._waiting and len(alone) < room:
            append = self._pop()
            (alone if len(append.messages) == 1 else several).append(append)
        if alone:
            self._alone(alone)
        if several:
            self._together(_Group(several))

    def lost(self) -> None:
        """The connection is gone, and every answer with it."""
        self._doubt([append for reply in list(self._singles) for append in self._take(reply)])
        if self._batch is not None:
            self._doubt(self._end(self._batch))

    def tick(self) -> None:
        """Doubt what was not answered, give up what waits too long, try again what was refused for now."""
        now = self._now()
        late = [reply for reply, append in self._singles.items() if now - append.sent > REPLY_SECONDS]
        self._doubt([append for reply in late for append in self._take(reply)])
        if self._batch is not None and now - self._batch.sent > REPLY_SECONDS:
            self._doubt(self._end(self._batch))
        due = [lot for at, lot in self._resting if at <= now]
        self._resting = [(at, lot) for at, lot in self._resting if at > now]
        for append in [append for lot in due for append in lot]:
            self.add(append)
        if any(append.deadline < now for append in self._waiting):
            everything, self._waiting, self._messages = self._waiting, deque(), 0
            for append in everything:
                if append.deadline < now:
                    self._owner.failed(append, late_error(append))
                else:
                    self.add(append)
        for group in [group for group in self._groups if group.appends[0].deadline < now]:
            self._groups.remove(group)
            for append in group.appends:
                self._owner.failed(append, late_error(append))
        self.flush()

    def abandon(self) -> None:
        """Stop: nothing more is sent, and no answer is heard."""
        for reply in list(self._singles):
            self._take(reply)
        if self._batch is not None:
            self._end(self._batch)
        for waiting in (self._waiting, self._groups, self._resting):
            waiting.clear()
        self._messages = 0

    # Sending

    def _pop(self) -> Append:
        append = self._waiting.popleft()
        self._messages -= len(append.messages)
        return append

    def _gather(self) -> list[Append]:
        gathered = [self._pop()]
        count, size = len(gathered[0].messages), gathered[0].size
        while self._waiting:
            count += len(self._waiting[0].messages)
            size += self._waiting[0].size
            if count > LARGEST_BATCH or size > BATCH_BYTES:
                break
            gathered.append(self._pop())
        return gathered

    def _alone(self, appends: Sequence[Append]) -> None:
        frames: list[Frame] = []
        for append in appends:
            reply = self._wire.expect(lambda message: self._alone_answered(message.subject, message))
            append.sent = self._now()
            self._singles[reply] = append
            subject, headers, body = append.messages[0]
            frames.append(Frame(subject, reply, headers, body))
        if not self._wire.send(frames):
            for frame in frames:
                self._rest(self._take(frame.reply))

    def _together(self, group: _Group) -> None:
        self._serial += 1
        group.reply = self._wire.expect(lambda message: self._batch_answered(group, message))
        group.sent = self._now()
        mark = f"Nats-Batch-Id: {self._name}-{self._serial}\r\nNats-Batch-Sequence: ".encode()
        frames: list[Frame] = []
        for append in group.appends:
            append.sent = group.sent
            for subject, headers, body in append.messages:
                lines = b"%b%b%d\r\n" % (headers, mark, len(frames) + 1)
                frames.append(Frame(subject, "", lines, body))
        subject, _, headers, body = frames[-1]
        frames[-1] = Frame(subject, group.reply, headers + b"Nats-Batch-Commit: 1\r\n", body)
        self._batch = group
        if not self._wire.send(frames):
            self._rest(self._end(group))

    # Answers

    def _take(self, reply: str) -> list[Append]:
        self._wire.forget(reply)
        append = self._singles.pop(reply, None)
        return [] if append is None else [append]

    def _end(self, group: _Group) -> list[Append]:
        self._wire.forget(group.reply)
        self._batch = None
        return group.appends

    def _doubt(self, appends: Sequence[Append]) -> None:
        for append in appends:
            append.doubt = True
        if appends:
            self._owner.doubted(appends)

    def _rest(self, appends: list[Append]) -> None:
        """Nothing was stored; the same again in a moment."""
        self._resting.append((self._now() + AGAIN_SECONDS, appends))

    def _alone_answered(self, reply: str, message: Msg) -> None:
        appends = self._take(reply)
        if not appends:
            return
        ack = _read(message)
        if ack.error is None and ack.seq:
            self._owner.landed(appends, ack.seq)
        elif ack.error is None:
            self._doubt(appends)
        elif ack.error.err_code in _WRONG_SEQUENCE:
            self._owner.doubted(appends)
        else:
            self._refused(appends, ack.error)
        self.flush()

    def _batch_answered(self, group: _Group, message: Msg) -> None:
        if self._batch is not group:
            return
        appends = self._end(group)
        ack = _read(message)
        if ack.error is None and ack.seq and ack.count == sum(len(append.messages) for append in appends):
            self._owner.landed(appends, ack.seq)
        elif ack.error is None:
            self._doubt(appends)
        elif ack.error.err_code in _WRONG_SEQUENCE:
            self._contested(group, ack.error)
        elif ack.error.err_code in _TOO_LARGE and len(appends) > 1:
            self._halve(group)
        else:
            self._refused(appends, ack.error)
        self.flush()

    def _refused(self, appends: list[Append], error: _Trouble) -> None:
        if error.err_code in _NOT_NOW or (error.code, error.err_code) == (503, 0):
            now = self._now()
            for append in [append for append in appends if append.deadline < now]:
                appends.remove(append)
                self._owner.failed(append, Unavailable(f"the log does not answer: {error.description}"))
            if appends:
                self._rest(appends)
            return
        for append in appends:
            if error.err_code in _TOO_LARGE:
                self._owner.failed(append, TooLarge(error.description))
            else:
                log.error("the log refused an append: %s (%d)", error.description, error.err_code)
                self._owner.failed(append, Unavailable(f"the log refuses appends: {error.description}"))

    # Somebody in a batch was too late

    def _contested(self, group: _Group, error: _Trouble) -> None:
        appends = group.appends
        group.refusals += 1
        if len(appends) == 1 or group.refusals >= PATIENT_REFUSALS or any(a.doubt for a in appends):
            self._owner.doubted(appends)
            return
        actual = _ACTUAL.search(error.description)
        if actual is None or actual[1] == "0":
            self._halve(group)
        else:
            self._owner.whose(int(actual[1]), lambda key: self._sift(group, key))

    def _sift(self, group: _Group, key: Key | None) -> None:
        culprits = [append for append in group.appends if append.decision.key == key]
        if not culprits:
            self._halve(group)
        else:
            group.appends = [append for append in group.appends if append.decision.key != key]
            self._groups.append(group)
            self._owner.doubted(culprits)
        self.flush()

    def _halve(self, group: _Group) -> None:
        middle = len(group.appends) // 2
        self._groups.append(_Group(group.appends[:middle]))
        self._groups.append(_Group(group.appends[middle:]))


def late_error(append: Append) -> HindbrainError:
    """Say what is known of an append that has waited long enough."""
    if append.doubt:
        return UnknownOutcome(entity=append.decision.key[1])
    return Unavailable("the log cannot be reached: nothing was stored", entity=append.decision.key[1])


def _read(message: Msg) -> _Ack:
    headers = message.headers
    if headers is not None and headers.get("Status") == "503":
        return _Ack(error=_Trouble(503, 0, "nobody serves the log"))
    try:
        return _ack.decode(message.data)
    except msgspec.MsgspecError as error:
        log.warning("not an answer of the log: %s", error)
        return _Ack()
