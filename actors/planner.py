"""The planner leads plans: it starts a step when its needs are met, and says how the plan ended.

What may run is decided by the rules of a plan, in its facts.  The planner only does what they say: it makes
the execution of a step once the fact that the step started is stored, and tells the plan how that ended, all
ends that are there in one go.  The id of what it makes is derived from plan, step and run, so a planner that
took over makes everything once more, and nothing of it twice.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors import starting
from actors.clerk import Table
from actors.home import Home, milliseconds
from actors.leading import Lead
from actors.role import Role, Tenure
from events import execution, plan
from events.codec import Fact
from events.errors import HindbrainError, Trouble
from events.execution import EXECUTION
from events.launching import UNDO
from events.plan import PLAN
from events.ports import Ask, Doors, Loaded, Log, Outcome, Outlet, Snapshot

log = logging.getLogger(__name__)

REMEMBERED = 10_000
"""Plans that are over and need no second look."""
AGAIN_SECONDS = 1.0
"""Until what could not be stored is tried again."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The log decided on plans, or on what they started."""

    outcomes: Sequence[Outcome]
    look: int


@dataclass(frozen=True, slots=True)
class Read:
    """Plans were read from the log."""

    loaded: Sequence[Loaded]
    look: int


class Planner(Role):
    """Played by one node at a time."""

    name = "planner"
    questions = (
        "SELECT id, seq FROM plans WHERE status IN ('running', 'paused') OR rollback = 'running'",
        # Those whose last message may have died with a planner that ended them.
        "SELECT id, seq FROM plans WHERE completed_at > (now() AT TIME ZONE 'UTC') - INTERVAL 1 MINUTE",
    )

    def __init__(
        self,
        home: Home,
        tenure: Tenure,
        journal: Log,
        doors: Doors,
        tell: Callable[[Any], None],
        outlet: Outlet,
    ) -> None:
        super().__init__(home, tenure, journal, doors, tell)
        self._outlet = outlet
        self._leads: dict[str, Lead] = {}
        self._whose: dict[str, Lead] = {}
        """Whose step an execution or a plan is."""
        self._turn = 0
        """Which beginning it is: answers to what an earlier one asked are passed over."""
        self._stirred: dict[str, Lead] = {}
        """Plans of which something is new."""
        self._later_on: deque[tuple[float, str]] = deque()
        self._gone: list[Lead] = []
        """Plans that are over, and told of for the last time."""
        self._past: dict[str, int] = {}
        """Up to which sequence those are known that are over, the last ones."""
        self._loading: set[str] = set()

    # ---- what is known -----------------------------------------------------------------------------------

    def begin(self, answers: Sequence[Table]) -> None:
        """Learn every plan that is not over, and ask again for what they started."""
        self._turn += 1
        self._loading.clear()
        known, self._leads = self._leads, {}
        self._whose.clear()
        self._stirred.clear()
        self._later_on.clear()
        self.watched.clear()
        unknown: list[str] = []
        seqs = {str(row[0]): int(row[1]) for table in answers for row in table.rows}
        newest = min(table.seq for table in answers)
        for entity, lead in known.items():
            if lead.snapshot.seq >= seqs.get(entity, newest):
                self._leads[entity] = self._stirred[entity] = lead.anew()
        for entity, seq in seqs.items():
            if entity not in self._leads and seq > self._past.get(entity, 0):
                unknown.append(entity)
        self._load(unknown)

    def learn(self, fact: Fact) -> None:
        """Take note of a fact of a plan, or of the end of what one started."""
        if fact.kind == "execution":
            if isinstance(fact.event, execution.TERMINAL) and (lead := self._whose.get(fact.entity)):
                launch = lead.children.get(fact.entity)
                if launch is not None:
                    lead.ended(fact.entity, starting.ended(launch, fact.entity, fact.event))
                    self._stir(lead)
        elif fact.kind == "plan" and fact.seq > self._past.get(fact.entity, 0):
            lead = self._leads.get(fact.entity)
            if lead is None and fact.n == 1:
                lead = self._leads[fact.entity] = self._lead(fact.entity, Snapshot(PLAN.initial))
            if lead is not None and lead.busy and fact.envelope.by == self.by:
                return  # our own words, which the answer brings as well
            if lead is not None and lead.learn(fact):
                self._stir(lead)
            elif lead is None or lead.snapshot.n < fact.n:
                self._load([fact.entity])

    def hear(self, message: Any) -> None:
        """Deal with an answer of the log."""
        match message:
            case Decided() | Read() if message.look != self._turn:
                return
            case Decided(outcomes):
                for outcome in outcomes:
                    self._decided(outcome)
            case Read(loaded):
                for each in loaded:
                    self._read(each)
            case _:
                super().hear(message)

    def _load(self, entities: Sequence[str]) -> None:
        turn, wanted = self._turn, [each for each in entities if each not in self._loading]
        self._loading.update(wanted)
        if wanted:
            self.log.load(PLAN, wanted, lambda loaded: self.tell(Read(loaded, turn)))

    def _lead(self, entity: str, snapshot: Snapshot[plan.State]) -> Lead:
        return Lead(entity, snapshot, lambda said: self._outlet.progress("plan", entity, said))

    def _read(self, loaded: Loaded) -> None:
        self._loading.discard(loaded.entity)
        if loaded.error is not None:
            log.warning("%s cannot be read: %s", loaded.entity, loaded.error)
            return
        lead = self._leads.get(loaded.entity)
        if lead is None:
            lead = self._leads[loaded.entity] = self._lead(loaded.entity, loaded.snapshot)
        lead.take(loaded.snapshot)
        self._stir(lead)

    # ---- what is done ------------------------------------------------------------------------------------

    def act(self) -> None:
        """Let every plan go on of which something is new, and tell of all."""
        moment, now = time.monotonic(), milliseconds()
        while self._later_on and self._later_on[0][0] <= moment:
            self._stir(self._leads.get(self._later_on.popleft()[1]))
        asks: list[Ask] = []
        while self._stirred:
            lead = self._stirred.pop(next(iter(self._stirred)))
            asks += self._drive(lead, now)
        turn = self._turn
        self.decide(asks, lambda outcomes: Decided(outcomes, turn))
        for lead in self._leads.values():
            lead.tell(now)
        self._gone, gone = [], self._gone
        for lead in gone:
            if lead.over and self._leads.get(lead.id) is lead:
                del self._leads[lead.id]
                self._past.pop(lead.id, None)
                self._past[lead.id] = lead.snapshot.seq
        while len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]

    def _drive(self, lead: Lead, now: int) -> list[Ask]:
        """Everything that one plan needs now."""
        state, asks = lead.state, list[Ask]()
        fresh = lead.fresh()
        self._forget(lead)
        for launch in fresh:
            child = plan.child_of(state, launch)
            self._whose[child] = lead
            self.watched.add(child)
            try:
                ask = starting.ask(
                    state, launch, self.home.default_timeout_ms, now, self.by, self.home.catalogue
                )
            except HindbrainError as error:
                lead.began(child, launch, launch.step)
                lead.ended(child, starting.refused(launch, error.problem))
            else:
                lead.began(child, launch, starting.said(ask), starting.purpose(ask))
                asks.append(ask)
        lead.tell(now)  # a step is told of before it runs
        if state.cancel is not None:
            for child in lead.children.keys() - lead.stopped - lead.results.keys():
                lead.stopped.add(child)
                asks.append(starting.stop(state, child, lead.children[child], self.by))
        if (advance := lead.advance()) is not None:
            asks.append(Ask(PLAN, lead.id, advance, by=self.by))
        if lead.over:
            self._end(lead)
        return asks

    def _forget(self, lead: Lead) -> None:
        """Stop listening for what a plan does not wait for any more."""
        for child in lead.dropped:
            self._whose.pop(child, None)
            self.watched.discard(child)
        lead.dropped.clear()

    def _end(self, lead: Lead) -> None:
        self._gone.append(lead)
        if above := self._whose.get(lead.id):
            self._nested(above, lead.id, lead.state)

    def _nested(self, above: Lead, child: str, state: plan.State) -> None:
        launch = above.children.get(child)
        result = None if launch is None else starting.nested(launch, child, state)
        if result is not None:
            above.ended(child, result)
            self._stir(above)

    def _stir(self, lead: Lead | None) -> None:
        if lead is not None:
            self._stirred[lead.id] = lead

    # ---- what the log answers ----------------------------------------------------------------------------

    def _decided(self, outcome: Outcome) -> None:
        ask = outcome.ask
        if ask.tag is None:
            self._advanced(outcome)
            return
        lead = self._whose.get(ask.entity)
        if lead is None or ask.entity not in lead.children:
            return
        launch, state = lead.children[ask.entity], outcome.snapshot.state
        error = outcome.error
        if isinstance(error, Trouble):
            log.warning("%s: %s of %s waits: %s", ask.entity, launch.step, lead.id, error)
            del lead.children[ask.entity]
            lead.stopped.discard(ask.entity)
            self._later(lead)
        elif ask.decider is EXECUTION:
            if outcome.snapshot.n and state.end is not None:
                lead.ended(ask.entity, starting.ended(launch, ask.entity, state.end))
            elif error is not None and not outcome.snapshot.n:
                lead.ended(ask.entity, starting.refused(launch, error.problem))
            self._stir(lead)
        elif outcome.snapshot.n:
            self._known_as(ask.entity, outcome.snapshot)
            self._nested(lead, ask.entity, state)
            if error is not None and launch.step.endswith(UNDO) and state.rollback != "running":
                lead.ended(ask.entity, starting.refused(launch, error.problem))
                self._stir(lead)
        elif error is not None:
            lead.ended(ask.entity, starting.refused(launch, error.problem))
            self._stir(lead)

    def _advanced(self, outcome: Outcome) -> None:
        lead = self._leads.get(outcome.ask.entity)
        if lead is None:
            return
        lead.busy = False
        if outcome.error is None:
            lead.take(outcome.snapshot)
            self._stir(lead)
        elif isinstance(outcome.error, Trouble):
            log.warning("%s cannot go on yet: %s", lead.id, outcome.error)
            self._load([lead.id])
            self._later(lead)
        else:
            log.error("%s does not take what its steps did: %s", lead.id, outcome.error)
            self._load([lead.id])

    def _later(self, lead: Lead) -> None:
        self._later_on.append((time.monotonic() + AGAIN_SECONDS, lead.id))

    def _known_as(self, entity: str, snapshot: Snapshot[plan.State]) -> None:
        lead = self._leads.get(entity)
        if lead is None:
            if snapshot.state.over:
                return
            lead = self._leads[entity] = self._lead(entity, snapshot)
        lead.take(snapshot)
        self._stir(lead)
