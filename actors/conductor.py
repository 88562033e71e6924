"""The conductor leads playbooks: it starts a step, saves a checkpoint after it, and goes on from there.

What may run is decided by the rules of a playbook, in its facts.  The conductor only does what they say, and
the id of everything it makes is derived from playbook, step and run: one that took over makes everything once
more, and nothing of it twice.  A playbook that sleeps, or waits for an answer, is forgotten until its time
comes or a fact about it does; then it is read again.

It is long because one playbook's whole way, from a step to its checkpoint and on, is read in one place.
"""

import heapq
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from actors import staging
from actors.clerk import Table
from actors.conducted import Child, Collected, Decided, Read, Restored, Saved
from actors.home import Home, milliseconds
from actors.leaving import Leaving
from actors.role import Role, Tenure
from actors.running import Running
from actors.saving import Saver
from events import execution, playbook, playing
from events.asks.artifact import Kept
from events.codec import Fact
from events.errors import HindbrainError, Trouble
from events.playbook import PLAYBOOK
from events.played import Advance, Reason, Save, Tick
from events.ports import Ask, Doors, Loaded, Log, Outcome, Outlet

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Playbooks that are over and need no second look."""
AGAIN_SECONDS = 1.0
"""Until what could not be stored is tried again."""
REST_MS = 2_000
"""What is due later than this is forgotten until then."""
PLAN_ENDS = ("completed", "failed", "cancelled")
CHILD_ENDS = (playbook.Completed, playbook.Failed, playbook.Cancelled)


class Conductor(Role):
    """Played by one node at a time."""

    name = "playbook"
    questions = (
        "SELECT id, seq, resting, epoch_ms(wakes_at), status FROM playbook_executions"
        " WHERE status IN ('running', 'paused', 'waiting_input')",
        # Those whose last message may have died with a conductor that ended them.
        "SELECT id, seq FROM playbook_executions"
        " WHERE completed_at > (now() AT TIME ZONE 'UTC') - INTERVAL 1 MINUTE",
    )

    def __init__(
        self,
        home: Home,
        tenure: Tenure,
        journal: Log,
        doors: Doors,
        tell: Callable[[Any], None],
        outlet: Outlet,
        saver: Saver,
        archivist: Callable[[Any], None],
    ) -> None:
        super().__init__(home, tenure, journal, doors, tell)
        self._outlet, self._saver = outlet, saver
        self._leaving = Leaving(journal, saver, archivist, tell)
        self._runs: dict[str, Running] = {}
        self._whose: dict[str, Running] = {}
        """Whose step an execution, a plan or a playbook is."""
        self._turn = 0
        """Which beginning it is: answers to what an earlier one asked are passed over."""
        self._stirred: dict[str, None] = {}
        self._asleep: dict[str, int] = {}
        """Up to which sequence those are known that were forgotten until something happens."""
        self._wakes: list[tuple[int, str]] = []
        self._later_on: list[tuple[float, str]] = []
        self._past: dict[str, int] = {}
        self._loading: set[str] = set()

    # ---- what is known -----------------------------------------------------------------------------------

    def begin(self, answers: Sequence[Table]) -> None:
        """Learn every playbook that is not over; those that rest are read when their time comes."""
        self._turn += 1
        known, self._runs = self._runs, {}
        for each in (self._loading, self._whose, self._stirred, self._asleep, self.watched):
            each.clear()
        self._later_on, self._wakes = [], []
        newest = min(table.seq for table in answers)
        seqs: dict[str, int] = {}
        for row in answers[0].rows:
            entity, seq, resting, wakes, status = str(row[0]), int(row[1]), bool(row[2]), row[3], row[4]
            if resting and (wakes is not None or status == "paused"):
                self._asleep[entity] = seq
                if wakes is not None:
                    heapq.heappush(self._wakes, (int(wakes), entity))
            else:
                seqs[entity] = seq
        seqs |= {str(row[0]): int(row[1]) for row in answers[1].rows}
        for entity, run in known.items():
            if run.snapshot.seq >= seqs.get(entity, newest) and entity not in self._asleep:
                self._runs[entity] = run.anew()
                self._stir(run)
        self._load(
            [
                entity
                for entity, seq in seqs.items()
                if entity not in self._runs and seq > self._past.get(entity, 0)
            ]
        )

    def learn(self, fact: Fact) -> None:
        """Take note of a fact of a playbook, or of the end of what one started."""
        run = self._whose.get(fact.entity)
        if fact.kind == "execution":
            if run is not None and isinstance(fact.event, execution.TERMINAL) and run.waits(fact.entity):
                run.ended(staging.executed(run.must_go(), fact.entity, fact.event))
                self._stir(run)
        elif fact.kind == "plan":
            if run is not None and fact.name in PLAN_ENDS:
                self._look_at(run, fact.entity)
        elif fact.kind == "playbook":
            if run is not None and isinstance(fact.event, CHILD_ENDS):
                self._look_at(run, fact.entity)
            self._learn(fact)

    def _learn(self, fact: Fact) -> None:
        entity = fact.entity
        if fact.seq <= max(self._past.get(entity, 0), self._asleep.get(entity, 0)):
            return
        run = self._runs.get(entity)
        if run is None and fact.n == 1:
            run = self._runs[entity] = Running(entity, self._saver, self._tell_of)
        if run is not None and run.busy and fact.envelope.by == self.by:
            return  # our own words, which the answer brings as well
        if run is not None and run.learn(fact):
            self._stir(run)
        elif run is None or run.snapshot.n < fact.n:
            self._load([entity])

    def hear(self, message: Any) -> None:
        """Deal with an answer that was asked for."""
        match message:
            case Decided(turn=turn) | Read(turn=turn) | Child(turn=turn) if turn != self._turn:
                return
            case Saved(turn=turn) | Restored(turn=turn) | Collected(turn=turn) if turn != self._turn:
                return
            case Decided(outcomes):
                for outcome in outcomes:
                    self._decided(outcome)
            case Read(loaded):
                for each in loaded:
                    self._read(each)
            case Child(loaded):
                self._child(loaded)
            case Saved(entity, answer):
                self._saved(entity, answer)
            case Restored(entity, error):
                self._restored(entity, error)
            case Collected(entity, answer):
                self._collected(entity, answer)
            case _:
                super().hear(message)

    def _load(self, entities: Sequence[str]) -> None:
        turn, wanted = self._turn, [each for each in entities if each not in self._loading]
        self._loading.update(wanted)
        if wanted:
            self.log.load(PLAYBOOK, wanted, lambda loaded: self.tell(Read(loaded, turn)))

    def _read(self, loaded: Loaded) -> None:
        entity = loaded.entity
        self._loading.discard(entity)
        if loaded.error is not None:
            log.warning("%s cannot be read: %s", entity, loaded.error)
            self._later(entity)
            return
        self._asleep.pop(entity, None)
        run = self._runs.get(entity)
        if run is None:
            run = self._runs[entity] = Running(entity, self._saver, self._tell_of)
        run.take(loaded.snapshot, loaded.facts)
        self._stir(run)

    def _look_at(self, run: Running, child: str) -> None:
        """Read what a step ran, to see how it ended."""
        going = run.state.going
        if going is None or not run.waits(child):
            return
        turn = self._turn

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                self.tell(Child(each, turn))

        self.log.load(staging.DECIDERS[going.does], [child], read)

    def _child(self, loaded: Loaded) -> None:
        run = self._whose.get(loaded.entity)
        if run is None or not run.waits(loaded.entity):
            return
        if loaded.error is not None:
            run.asked = False
            self._later(run.id)
            return
        result = staging.ended(run.must_go(), loaded.entity, loaded.snapshot.state)
        if result is not None:
            run.ended(result)
            self._stir(run)

    # ---- what is done ------------------------------------------------------------------------------------

    def act(self) -> None:
        """Let every playbook go on of which something is new, or for which it is time."""
        moment, now = time.monotonic(), milliseconds()
        while self._later_on and self._later_on[0][0] <= moment:
            _, entity = heapq.heappop(self._later_on)
            self._wake(entity)
        while self._wakes and self._wakes[0][0] <= now:
            _, entity = heapq.heappop(self._wakes)
            self._wake(entity)
        asks: list[Ask] = []
        while self._stirred:
            entity = next(iter(self._stirred))
            del self._stirred[entity]
            if run := self._runs.get(entity):
                asks += self._drive(run, now)
                self._let_rest(run, now)
        turn = self._turn
        self.decide(asks, lambda outcomes: Decided(outcomes, turn))
        for run in list(self._runs.values()):
            run.tell(now, moment)
            if run.overdue(moment):
                self._save(run, "timer")
        while len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]

    def _wake(self, entity: str) -> None:
        if run := self._runs.get(entity):
            self._stir(run)
        elif entity in self._asleep:
            self._load([entity])

    def _drive(self, run: Running, now: int) -> list[Ask]:
        """Everything that one playbook needs now."""
        state = run.state
        if run.child is not None and not run.waits(run.child):
            self._forget(run)
        if run.busy or run.saving or state.over:
            return []
        if playbook.due(state):
            self._save(run, "step" if state.checkpoints else "start")
            return []
        going, wake = state.going, state.wake
        if going is None:
            return []
        if going.does in playing.KINDS:
            return self._lead(run, going, now)
        if wake is not None and wake <= now:
            run.busy = True
            return [Ask(PLAYBOOK, run.id, Tick(now_ms=now), by=self.by)]
        if wake is not None:
            heapq.heappush(self._wakes, (wake, run.id))
        return []

    def _lead(self, run: Running, going: playbook.Going, now: int) -> list[Ask]:
        """A step runs something: have it asked for, stopped, and its end told."""
        state, asks = run.state, list[Ask]()
        child = playing.child_of(state, going) or ""
        if run.child != child:
            run.begin(child)
            self._whose[child] = run
            if going.does == "execution":
                self.watched.add(child)
        if not run.asked and not self._leaving.put_back(run, going, child, self._turn):
            asks += self._submit(run, going, now)
        if state.cancel is not None and run.asked and not run.stopped and run.result is None:
            run.stopped = True
            stop = staging.stop(state, going, now, self.by)
            asks += [] if stop is None else [stop]
        if run.result is not None and not self._leaving.collect(run, going, self._turn):
            run.busy = True
            asks.append(Ask(PLAYBOOK, run.id, Advance(ended=run.result, now_ms=now), by=self.by))
        return asks

    def _submit(self, run: Running, going: playbook.Going, now: int) -> list[Ask]:
        state = run.state
        run.asked = True
        place = self._saver.place(state, going.step)
        try:
            timeout, catalogue = self.home.default_timeout_ms, self.home.catalogue
            return [staging.ask(state, going, place, timeout, now, self.by, catalogue)]
        except HindbrainError as error:
            run.ended(staging.refused(going, error.problem))
            return []

    def _restored(self, entity: str, error: HindbrainError | None) -> None:
        if run := self._runs.get(entity):
            self._stir(run) if self._leaving.restored(run, error) else self._later(entity)

    def _collected(self, entity: str, answer: list[Kept] | HindbrainError) -> None:
        run = self._runs.get(entity)
        if run is not None and run.collecting and run.result is not None:
            self._stir(run) if self._leaving.collected(run, answer) else self._later(entity)

    # ---- checkpoints -------------------------------------------------------------------------------------

    def _save(self, run: Running, reason: Reason) -> None:
        if run.busy or run.saving:
            return
        run.saving, turn = True, self._turn
        if reason == "start" and run.state.definition.git:
            run.commit()
        self._saver.save(run.state, reason, lambda answer: self.tell(Saved(run.id, answer, turn)))

    def _saved(self, entity: str, answer: Save | HindbrainError) -> None:
        run = self._runs.get(entity)
        if run is None:
            return
        run.saving = False
        run.saved()
        if isinstance(answer, HindbrainError):
            log.warning("%s: no checkpoint now: %s", entity, answer)
            self._later(entity)
            return
        if answer.checkpoint.position != run.state.seq or run.busy:
            self._stir(run)  # it went on meanwhile, so the next one is due
            return
        run.busy = True
        turn = self._turn
        ask = Ask(PLAYBOOK, entity, answer, by=self.by)
        self.decide([ask], lambda outcomes: Decided(outcomes, turn))

    # ---- what the log answers ----------------------------------------------------------------------------

    def _decided(self, outcome: Outcome) -> None:
        ask, error = outcome.ask, outcome.error
        run = self._runs.get(ask.tag or ask.entity)
        if run is None:
            return
        if ask.tag is None:
            self._advanced(run, outcome)
            return
        if not run.waits(ask.entity):
            return
        if isinstance(error, Trouble):
            log.warning("%s: %s waits: %s", ask.entity, run.id, error)
            run.asked = run.stopped = False
            self._later(run.id)
            return
        result = staging.ended(run.must_go(), ask.entity, outcome.snapshot.state)
        if result is None and error is not None and not outcome.snapshot.n:
            result = staging.refused(run.must_go(), error.problem)
        if result is not None:
            run.ended(result)
        self._stir(run)

    def _advanced(self, run: Running, outcome: Outcome) -> None:
        run.busy = False
        if outcome.error is None:
            run.take(outcome.snapshot, outcome.facts)
            self._stir(run)
            return
        if isinstance(outcome.error, Trouble):
            log.warning("%s cannot go on yet: %s", run.id, outcome.error)
            self._later(run.id)
        else:
            log.error("%s does not take what its steps did: %s", run.id, outcome.error)
        self._load([run.id])

    # ---- rest --------------------------------------------------------------------------------------------

    def _let_rest(self, run: Running, now: int) -> None:
        """Forget what is over, and for now what is not due for a while."""
        state, wake = run.state, run.state.wake
        if run.busy or run.saving:
            return
        if state.over:
            run.close(now)
            self._drop(run)
            self._past.pop(run.id, None)
            self._past[run.id] = run.snapshot.seq
        elif run.idle and (wake is None or wake - now > REST_MS) and not playbook.due(state):
            run.close(now)
            self._drop(run)
            self._asleep[run.id] = run.snapshot.seq

    def _drop(self, run: Running) -> None:
        self._forget(run)
        self._runs.pop(run.id, None)
        self._stirred.pop(run.id, None)

    def _forget(self, run: Running) -> None:
        """Stop listening for what it does not wait for any more."""
        if run.child is not None:
            self._whose.pop(run.child, None)
            self.watched.discard(run.child)
            run.begin(None)

    def _stir(self, run: Running) -> None:
        self._stirred[run.id] = None

    def _later(self, entity: str) -> None:
        heapq.heappush(self._later_on, (time.monotonic() + AGAIN_SECONDS, entity))

    def _tell_of(self, entity: str, said: dict[str, Any]) -> None:
        self._outlet.progress("playbook", entity, said)
