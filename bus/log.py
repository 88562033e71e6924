"""The log on NATS: what was decided is stored once, or the asker learns why not.

Asks come from any thread, one crossing into the loop for a lot.  Each entity has a lane; the decisions of all
lanes that are ready go to the stream together.  The usual way costs one append and no read: what the entity
was after its last event is remembered, and the stream itself refuses a decision made on anything older.  A
refusal by the rules, or nothing to do, is only believed of an entity that was seen after the ask came in.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from bus import subjects
from bus.bridge import Bridge
from bus.commit import Append, Committer, late_error, prepare
from bus.frames import Wire
from bus.history import Got, History, rebuild
from bus.lanes import Answers, Clock, Decision, Done, Head, Heads, Job, Key, Lane, Scribe, blank, land, renew
from events.codec import Fact
from events.errors import HindbrainError, Internal, Unavailable
from events.ports import Ask, Decider, Loaded, Outcome, Snapshot

log = logging.getLogger(__name__)

REMEMBERED = 20_000
"""Entities."""
PATIENCE_SECONDS = 15.0
TICK_SECONDS = 0.1
GRACE_SECONDS = 1.0
"""An append whose time is up is looked for once more, for so long."""


class Log:
    """One writer of the stream; any number of them may write at once.

    `clock` gives milliseconds since 1970.  `remembered` entities need no read before their next event.  After
    `patience` seconds without an answer an ask ends with `UnknownOutcome` if it may be stored, else with
    `Unavailable`; other errors are those of the rules, `TooLarge`, `Validation`, and `Damaged` for an entity
    that lacks an event.
    """

    def __init__(
        self,
        bridge: Bridge,
        clock: Clock,
        *,
        remembered: int = REMEMBERED,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._bridge = bridge
        self._patience = patience
        self._scribe = Scribe(clock)
        self._heads = Heads(remembered)
        self._lanes: dict[Key, Lane] = {}
        self._under_way: dict[Key, Append] = {}
        self._answers = Answers()
        self._telling = False
        self._ticking = False
        self._wire = Wire(bridge)
        self._history = History(self._wire, self._now)
        self._committer = Committer(self._wire, self, self._now)
        self._begun = False

    def handle(self, asks: Sequence[Ask], done: Done) -> None:
        """Decide and store; `done` gets every outcome in lots, in the loop.  Callable from any thread."""
        asks = tuple(asks)
        self._bridge.post(lambda: self._take(asks, done))

    def load(
        self, decider: Decider[Any], entities: Sequence[str], done: Callable[[Sequence[Loaded]], None]
    ) -> None:
        """Read whole entities with their facts; `done` gets them in lots, in the loop.

        Callable from any thread.
        """
        entities = tuple(entities)
        self._bridge.post(lambda: self._load(decider, entities, done))

    async def stop(self) -> None:
        """Answer everything that waits, with `UnknownOutcome` or `Unavailable`.  Runs in the loop."""
        if self._begun:
            self._begun = False
            self._bridge.on_reconnect.remove(self._up)
            self._bridge.on_disconnect.remove(self._lost)
        self._committer.abandon()
        lanes, self._lanes = self._lanes, {}
        for key, lane in lanes.items():
            append = self._under_way.pop(key, None)
            for job in lane.waiting:
                error: HindbrainError = Unavailable("the log is stopping", entity=key[1])
                if append is not None and append.sent and job is lane.waiting[0]:
                    append.doubt = True
                    error = late_error(append)
                self._reply(job.done, Outcome(job.ask, _initial(job.ask), error=error))
        self._tell()

    # Lanes

    def _take(self, asks: Sequence[Ask], done: Done) -> None:
        self._begin()
        now = self._now()
        for ask in asks:
            key = (ask.decider.kind, ask.entity)
            lane = self._lanes.get(key)
            if lane is None:
                try:
                    subjects.entity(*key)
                except HindbrainError as error:
                    self._reply(done, Outcome(ask, _initial(ask), error=error))
                    continue
                lane = self._lanes[key] = Lane(key)
            lane.waiting.append(Job(ask, done, now))
            if not lane.busy:
                self._advance(lane)

    def _advance(self, lane: Lane) -> None:
        """Decide whatever can be decided; the lane is busy afterwards, or empty and gone."""
        lane.busy = True
        while lane.waiting:
            job = lane.waiting[0]
            ask = job.ask
            head = self._heads.get(lane.key)
            if head is None and ask.known is not None:
                head = _told(ask, ask.known)
            if head is None or (ask.known is not None and ask.known.n > head.snapshot.n):
                self._reload(lane, job)
                return
            made = self._scribe.decide(ask, head)
            if isinstance(made, HindbrainError) or not made.drafts:
                if head.checked < job.born:
                    self._verify(lane, job, head)
                    return
                error = made if isinstance(made, HindbrainError) else None
                self._settle(lane, Outcome(ask, head.snapshot, error=error))
            elif self._commit(lane, job, made):
                return
        self._lanes.pop(lane.key, None)

    def _commit(self, lane: Lane, job: Job, decision: Decision) -> bool:
        try:
            append = prepare(decision, job.done, self._now() + self._patience, self._wire.limit)
        except HindbrainError as error:
            self._settle(lane, Outcome(job.ask, decision.head.snapshot, error=error))
            return False
        self._under_way[decision.key] = append
        self._committer.add(append)
        return True

    def _settle(self, lane: Lane, outcome: Outcome) -> None:
        self._reply(lane.waiting.popleft().done, outcome)

    def _reload(self, lane: Lane, job: Job) -> None:
        def got(answer: Got) -> None:
            if self._lanes.get(lane.key) is not lane:
                return
            head = self._rebuilt(job.ask, answer)
            if isinstance(head, HindbrainError):
                self._settle(lane, Outcome(job.ask, _initial(job.ask), error=head))
            else:
                known, n = job.ask.known, head.snapshot.n
                self._heads.put(lane.key, head)
                if known is not None and known.n > n:
                    text = f"{job.ask.entity} has {n} events, and somebody saw {known.n}"
                    self._settle(
                        lane, Outcome(job.ask, head.snapshot, error=Internal(text, entity=job.ask.entity))
                    )
            self._advance(lane)

        self._history.read(lane.key, self._now() + self._patience, got)

    def _verify(self, lane: Lane, job: Job, head: Head) -> None:
        """See whether the entity still is what an answer without facts was based on."""

        def got(answer: Got) -> None:
            if self._lanes.get(lane.key) is not lane:
                return
            if answer.error is not None:
                self._settle(lane, Outcome(job.ask, head.snapshot, error=answer.error))
                self._advance(lane)
                return
            seq = answer.records[-1].seq if answer.records else 0
            if seq == head.snapshot.seq:
                self._heads.put(lane.key, renew(head, answer.asked))
                self._advance(lane)
            else:
                self._reload(lane, job)

        self._history.last(lane.key, self._now() + self._patience, got)

    def _rebuilt(self, ask: Ask, answer: Got) -> Head | HindbrainError:
        if answer.error is not None:
            return answer.error
        try:
            return rebuild(ask.decider, answer.records, answer.asked)[0]
        except HindbrainError as error:
            return error

    # What the committer tells

    def landed(self, appends: Sequence[Append], last: int) -> None:
        """Turn drafts into facts, answer, and let the lanes go on."""
        first = last + 1 - sum(len(append.messages) for append in appends)
        for append in appends:
            self._landed(append, first)
            first += len(append.messages)

    def doubted(self, appends: Sequence[Append]) -> None:
        """Read each entity: mine is there, or nothing is, or somebody was faster."""
        for append in appends:
            self._heads.drop(append.decision.key)
            deadline = max(append.deadline, self._now() + GRACE_SECONDS)
            self._history.read(
                append.decision.key, deadline, lambda answer, append=append: self._found(append, answer)
            )

    def failed(self, append: Append, error: HindbrainError) -> None:
        """Answer with the error, and let the lane go on."""
        key = append.decision.key
        if append.doubt:
            self._heads.drop(key)
        self._reply(append.done, Outcome(append.decision.ask, append.decision.head.snapshot, error=error))
        self._next(key)

    def whose(self, seq: int, tell: Callable[[Key | None], None]) -> None:
        """Ask the stream who wrote that sequence."""
        self._history.at(
            seq,
            self._now() + self._patience,
            lambda answer: tell(answer.records[0].key if answer.records else None),
        )

    def _landed(self, append: Append, first: int) -> None:
        decision = append.decision
        try:
            head, facts = land(decision, first, append.sent)
        except Exception as error:  # stored is stored; a rule that breaks afterwards is one answer
            log.exception("the rules of %s %s failed on what they decided", *decision.key)
            self.failed(append, Internal(f"stored, but the rules of {decision.key[0]} failed: {error!r}"))
            self._heads.drop(decision.key)
            return
        self._heads.put(decision.key, head)
        self._reply(append.done, Outcome(decision.ask, head.snapshot, facts))
        self._next(decision.key)

    def _found(self, append: Append, answer: Got) -> None:
        decision = append.decision
        if self._under_way.get(decision.key) is not append:
            return
        mine = decision.drafts[0].envelope.id
        if answer.error is not None:
            self.failed(append, late_error(append) if append.doubt else answer.error)
            return
        first = next((record.seq for record in answer.records if record.envelope.id == mine), 0)
        last = answer.records[-1].seq if answer.records else 0
        if first:
            self._landed(append, first)
            if last >= first + len(append.messages):
                self._heads.drop(decision.key)
        elif append.deadline < self._now():
            self.failed(append, late_error(append))
        elif last == decision.head.snapshot.seq:
            self._committer.add(append)
        else:
            head = self._rebuilt(decision.ask, answer)
            if isinstance(head, HindbrainError):
                self.failed(append, head)
                return
            self._heads.put(decision.key, head)
            self._under_way.pop(decision.key, None)
            if (lane := self._lanes.get(decision.key)) is not None:
                self._advance(lane)

    def _next(self, key: Key) -> None:
        self._under_way.pop(key, None)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.waiting.popleft()
            self._advance(lane)

    # Reading whole entities

    def _load(
        self, decider: Decider[Any], entities: Sequence[str], done: Callable[[Sequence[Loaded]], None]
    ) -> None:
        self._begin()
        for entity in entities:
            key = (decider.kind, entity)

            def got(answer: Got, entity: str = entity, key: Key = key) -> None:
                error, facts, head = answer.error, list[Fact](), blank(decider)
                if error is None:
                    try:
                        head, facts = rebuild(decider, answer.records, answer.asked)
                    except HindbrainError as trouble:
                        error = trouble
                    else:
                        if key not in self._lanes:
                            self._heads.put(key, head)
                self._reply(done, Loaded(entity, head.snapshot, facts, error))

            try:
                self._history.read(key, self._now() + self._patience, got)
            except HindbrainError as error:
                self._reply(done, Loaded(entity, Snapshot(decider.initial), error=error))

    # The loop

    def _now(self) -> float:
        return self._bridge.loop.time()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._bridge.on_reconnect.append(self._up)
            self._bridge.on_disconnect.append(self._lost)
            self._wire.listen(self._up)
        if not self._ticking:
            self._ticking = True
            self._bridge.loop.call_later(TICK_SECONDS, self._tick)

    def _up(self) -> None:
        self._history.pump()
        self._committer.flush()

    def _lost(self) -> None:
        self._history.lost()
        self._committer.lost()

    def _tick(self) -> None:
        self._history.tick()
        self._committer.tick()
        self._ticking = bool(self._lanes) or not self._history.idle or not self._committer.idle
        if self._ticking:
            self._bridge.loop.call_later(TICK_SECONDS, self._tick)

    def _reply(self, done: Callable[[Sequence[Any]], None], answer: object) -> None:
        self._answers.add(done, answer)
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._answers.tell()


def _told(ask: Ask, known: Snapshot[Any]) -> Head | None:
    """Go by what the asker knows: if it is old, the stream refuses what is decided on it."""
    if not known.n:
        return blank(ask.decider)
    return Head(known) if known.hash else None


def _initial(ask: Ask) -> Snapshot[Any]:
    return Snapshot(ask.decider.initial)
