"""The timer does what a time has come for: held executions, retries, schedules.

It goes by the clock of its node.  When that clock jumps forward, what was jumped over is due at once, and for
schedules it is missed or not like after a downtime; when it jumps back, everything waits until the time comes
again, and no tick is granted a second time.
"""

import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from actors import almanac
from actors.clerk import Table
from actors.home import milliseconds
from actors.role import Role
from actors.ticking import Planted, Ticking
from events import execution
from events.clock import millis
from events.codec import Fact
from events.errors import Trouble
from events.execution import EXECUTION, Held, Release
from events.ids import PREFIXES
from events.ports import Ask, Loaded, Outcome
from events.schedule import SCHEDULE

log = logging.getLogger(__name__)

REASONS = ("time", "backoff")
LOT = 1000
"""Held executions that are released at once."""
AGAIN_MS = 1000
HELD = """
SELECT id, held->>'$.reason', held->>'$.until', attempt FROM executions
WHERE completed_at IS NULL AND (held->>'$.reason') IN ('time', 'backoff')
"""


@dataclass(frozen=True, slots=True)
class Released:
    """The log answered releases."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Granted:
    """The log answered ticks."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The log answered what ticks submitted or cancelled."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Checked:
    """What ticks submitted was looked up."""

    loaded: Sequence[Loaded]


class Timer(Role):
    """Played by one node at a time."""

    name = "timer"
    questions = (HELD, almanac.SCHEDULES, almanac.CHILDREN)
    heeds: ClassVar[frozenset[str]] = frozenset(("held",))
    every = 0.05

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: list[tuple[int, str, str, int]] = []
        """Until when, which execution, why, and after which attempt; a heap.

        What was released or ended otherwise stays until its time: releasing it once more changes nothing.
        """
        self._ticking = Ticking(self.home, self._doors, self.watched, self.tell)

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what the tables say."""
        held, schedules, children = answers
        self._held = [
            (millis(until), entity, reason, attempt)
            for entity, reason, until, attempt in held.rows
            if until is not None
        ]
        heapq.heapify(self._held)
        self._ticking.begin(schedules, children)
        # One that ended after the tables were asked and before it was watched has told nobody.
        running = sorted(entity for entity in self.watched if entity.startswith(PREFIXES["execution"]))
        if running:
            self.log.load(EXECUTION, running, lambda loaded: self.tell(Checked(loaded)))

    def learn(self, fact: Fact) -> None:
        """Take note of what happened."""
        match fact.event:
            case Held(reason=reason, until=str(until), attempt=attempt) if reason in REASONS:
                heapq.heappush(self._held, (millis(until), fact.entity, reason, attempt))
            case _ if fact.kind == "execution":
                if isinstance(fact.event, execution.TERMINAL):
                    self._ticking.over(fact.entity)
            case _:
                self._ticking.learn(fact)

    def act(self) -> None:
        """Do what is due."""
        now = milliseconds()
        self._release(now)
        ticks = [Ask(SCHEDULE, entity, command, by=self.by) for entity, command in self._ticking.due(now)]
        self.decide(ticks, Granted)
        self.decide(self._ticking.launches(now, self.by), Submitted)

    def hear(self, message: Any) -> None:
        """Deal with an answer of the log or of the plans."""
        match message:
            case Released(outcomes):
                for outcome in outcomes:
                    if isinstance(outcome.error, Trouble):
                        log.warning("%s is not released yet: %s", outcome.ask.entity, outcome.error)
                        late = (milliseconds() + AGAIN_MS, *outcome.ask.tag)
                        heapq.heappush(self._held, late)
            case Granted(outcomes):
                for outcome in outcomes:
                    self._ticking.granted(outcome, milliseconds())
            case Submitted(outcomes):
                for outcome in outcomes:
                    self._ticking.submitted(outcome, milliseconds())
            case Checked(loaded):
                for each in loaded:
                    if each.snapshot.state.phase == "over":
                        self._ticking.over(each.entity)
            case Planted():
                self._ticking.planted(message, milliseconds())
            case _:
                super().hear(message)

    def _release(self, now: int) -> None:
        while self._held and self._held[0][0] <= now:
            asks: list[Ask] = []
            while self._held and self._held[0][0] <= now and len(asks) < LOT:
                _, entity, reason, attempt = heapq.heappop(self._held)
                command = Release(reason=reason, attempt=attempt)
                tag = (entity, reason, attempt)
                asks.append(Ask(EXECUTION, entity, command, by=self.by, tag=tag))
            self.decide(asks, Released)
