"""A role that only one node plays at a time: it learns what there is from the tables, then from facts.

Whoever gets the role says so in the log.  That fact is the floor of its first look at the tables, so nothing
that its predecessor stored is missed; facts that are told meanwhile wait, and those that the tables knew
already are passed over.  When facts may have been missed, it looks again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from actors import clerk
from actors.clerk import Table
from actors.gateway import Home
from events.codec import Fact
from events.errors import HindbrainError
from events.node import NODE, Appointed, Record
from events.ports import Ask, Doors, Log, Outcome

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.3
LOOK_SECONDS = 60.0
"""Facts are told without a promise: even without a known gap it looks at the tables every so often."""


class Tenure(Protocol):
    """Whether a role is ours."""

    @property
    def left(self) -> float:
        """For how many seconds it is ours at least; 0 when it is not."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """Facts were stored; None: some may have been missed."""

    facts: Sequence[Fact] | None


@dataclass(frozen=True, slots=True)
class _Appointed:
    outcome: Outcome
    look: int


@dataclass(frozen=True, slots=True)
class _Learned:
    index: int
    answer: Table | HindbrainError
    look: int


class Role:
    """What the single roles have in common; a subclass says what it looks for and what it does.

    `watched` holds the executions whose facts it wants to be told (those of its own kinds it always is); it
    is read by other threads.  An execution goes in before anything is asked of it.
    """

    name: ClassVar[str]
    questions: ClassVar[tuple[str, ...]]
    """What it asks the tables when it takes the role, in SQL."""
    heeds: ClassVar[frozenset[str]] = frozenset()
    """Events of executions that it wants to be told of all of them, watched or not."""
    every = 0.1

    def __init__(
        self, home: Home, tenure: Tenure, journal: Log, doors: Doors, tell: Callable[[Any], None]
    ) -> None:
        self.home, self.tenure, self.log, self._doors, self.tell = home, tenure, journal, doors, tell
        self.watched: set[str] = set()
        self._look = 0
        """Which look at the tables it is; answers to older ones are passed over."""
        self._answers: dict[int, Table] = {}
        self._early: list[Fact] = []
        """What was told since the look began."""
        self._sure = False
        """Nothing that was stored before the last fact we know can have been missed."""
        self._last = 0
        self._known: int | None = None
        """Up to which sequence the tables were known; None: it does not play now."""
        self._due = 0.0

    # What a role fills in

    def begin(self, answers: Sequence[Table]) -> None:
        """Forget everything and begin with what the tables say, one answer per question."""
        raise NotImplementedError

    def learn(self, fact: Fact) -> None:
        """Take note of what happened; facts come in order of the log as a rule, and may come twice."""
        raise NotImplementedError

    def act(self) -> None:
        """Do what is due; called at every tick and after every lot of facts, while the role is ours."""
        raise NotImplementedError

    def hear(self, message: Any) -> None:
        """Deal with an answer that this role asked for."""
        raise TypeError(f"the {self.name} has no use for a {type(message).__name__}")

    # The mailbox

    @property
    def playing(self) -> bool:
        """Whether the role is ours and everything is known."""
        return self._known is not None and self.tenure.left > 0

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Told(None):
                self._sure = False
                self._due = 0.0
            case Told(facts) if facts is not None:
                self._told(facts)
            case _Appointed() | _Learned() if message.look != self._look:
                return
            case _Appointed(outcome):
                self._appointed(outcome)
            case _Learned(index, answer):
                self._take(index, answer)
            case _:
                if self.playing:
                    self.hear(message)
        if self.playing:
            self.act()

    def tick(self) -> None:
        """Take the role, give it up, or play it."""
        now = time.monotonic()
        if self.tenure.left <= 0:
            if self._known is not None:
                log.warning("this node is the %s no longer", self.name)
            self._known, self._due, self._sure = None, 0.0, False
            self._look += 1
            self._early.clear()
        elif now >= self._due:
            self._due = now + LOOK_SECONDS
            self._look += 1
            self._answers.clear()
            # What was told since a look that failed is not remembered, so the next one has to know it.
            self._last = max([self._last, *(fact.seq for fact in self._early)])
            self._early.clear()
            if self._sure:
                self._ask(self._last)
            else:
                self._appoint()
        elif self._known is not None:
            self.act()

    def decide(self, asks: Sequence[Ask], made: Callable[[Sequence[Outcome]], Any]) -> None:
        """Have these decided, while the role is ours; `made` makes the message that brings the outcomes."""
        if asks and self.tenure.left > 0:
            self.log.handle(asks, lambda outcomes: self.tell(made(outcomes)))

    @property
    def by(self) -> str:
        """Who says so, in the envelope of what it has decided."""
        return f"{self.name}:{self.home.node}"

    # Looking at the tables

    def _appoint(self) -> None:
        look, event = self._look, Appointed(role=self.name, boot=self.home.boot)
        ask = Ask(NODE, self.home.node, Record(event=event), by=f"node:{self.home.node}")
        self.log.handle([ask], lambda outcomes: self.tell(_Appointed(outcomes[0], look)))

    def _appointed(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._again(outcome.error)
            return
        self._sure, self._last = True, max(self._last, outcome.facts[0].seq)
        self._ask(self._last)

    def _ask(self, floor: int) -> None:
        look = self._look
        for index, sql in enumerate(self.questions):

            def done(answer: Table | HindbrainError, index: int = index) -> None:
                self.tell(_Learned(index, answer, look))

            clerk.ask(self._doors, sql, (), done, min_seq=floor)

    def _take(self, index: int, answer: Table | HindbrainError) -> None:
        if isinstance(answer, HindbrainError):
            self._again(answer)
            return
        self._answers[index] = answer
        if len(self._answers) < len(self.questions):
            return
        answers = [self._answers[each] for each in range(len(self.questions))]
        self._known = min(each.seq for each in answers)
        self._last = max(self._last, self._known)
        self.begin(answers)
        early, self._early = self._early, []
        for fact in early:
            self._note(fact)

    def _again(self, error: HindbrainError) -> None:
        log.info("the %s cannot look at the tables yet: %s", self.name, error)
        self._look += 1
        self._due = time.monotonic() + AGAIN_SECONDS

    def _told(self, facts: Sequence[Fact]) -> None:
        if self.tenure.left <= 0:
            return
        if len(self._answers) < len(self.questions):  # a look is under way, and may not know them
            self._early.extend(facts)
        if self._known is not None:
            for fact in facts:
                self._note(fact)

    def _note(self, fact: Fact) -> None:
        if self._known is not None and fact.seq > self._known:
            self._last = max(self._last, fact.seq)
            self.learn(fact)
