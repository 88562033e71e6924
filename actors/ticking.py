"""Schedules as the timer follows them: when each is due, what was granted, what of it still runs."""

import heapq
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from actors import almanac
from actors.clerk import Table
from actors.home import Home
from events import execution, plan
from events.clock import millis
from events.codec import Fact
from events.errors import HindbrainError, Refusal
from events.execution import EXECUTION
from events.ids import PREFIXES
from events.plan import PLAN
from events.ports import Ask, Doors, Outcome
from events.schedule import State, Tick, Ticked, evolve

log = logging.getLogger(__name__)

AGAIN_MS = 1000
REMEMBERED = 10_000
PLAN_SECONDS = 10.0
PLAN_OVER = ("completed", "failed", "cancelled", "rolled_back")
CANCELLED = "the next tick of its schedule has come"


@dataclass(frozen=True, slots=True)
class Planted:
    """A plan was asked for."""

    schedule: str
    ticked: Ticked
    answer: bytes | HindbrainError


class Ticking:
    """What the timer knows of schedules.

    It only says when to ask; the log decides with what it knows.  `watched` is the timer's: executions of
    ticks that must not overlap.
    """

    def __init__(self, home: Home, doors: Doors, watched: set[str], tell: Callable[[Any], None]) -> None:
        self._home, self._doors, self._watched, self._tell = home, doors, watched, tell
        self._states: dict[str, State] = {}
        self._heap: list[tuple[int, str]] = []
        self._asking: set[str] = set()
        """Schedules whose ticks are being decided."""
        self._active: dict[str, dict[str, None]] = {}
        """What each schedule submitted and is not over, oldest first; of those that mind."""
        self._owner: dict[str, str] = {}
        """Whose the active ones are."""
        self._launching: dict[str, tuple[int, str, Ticked]] = {}
        """Granted and not known to be submitted: from when on to try (again), the schedule, the tick."""
        self._cancelling: dict[str, int] = {}
        self._taken: OrderedDict[str, None] = OrderedDict()
        """What was noted lately: the log answers a grant, and tells it as a fact too."""

    def begin(self, schedules: Table, children: Table) -> None:
        """Begin with what the tables say; what is known to be newer stays."""
        known, self._states = self._states, {}
        for row in schedules.rows:
            state = almanac.state(row)
            old = known.get(state.id)
            self._states[state.id] = old if old is not None and old.seq > state.seq else state
        self._asking.clear()
        self._active.clear()
        self._owner.clear()
        self._watched.clear()
        self._launching.clear()
        self._taken.clear()
        for entity, ticked, missing in almanac.children(children):
            self._take(entity, ticked, missing)
        self._heap.clear()
        for entity in self._states:
            self._plan(entity)

    def learn(self, fact: Fact) -> None:
        """Take note of what happened to a schedule, or to a plan of one."""
        if fact.kind == "plan" and fact.name in PLAN_OVER:
            self.over(fact.entity)
        if fact.kind != "schedule":
            return
        state = self._states.get(fact.entity, State())
        if fact.seq > state.seq:
            self._know(evolve(state, fact))
        if isinstance(fact.event, Ticked):
            self._take(fact.entity, fact.event, missing=True)

    def over(self, child: str) -> None:
        """Something that a schedule submitted has ended."""
        self._watched.discard(child)
        self._cancelling.pop(child, None)
        entity = self._owner.pop(child, None)
        if entity is not None:
            self._active.get(entity, {}).pop(child, None)
            self._plan(entity)

    def due(self, now: int) -> Iterator[tuple[str, Tick]]:
        """Which schedules have to be asked what is due; each once until it is answered."""
        while self._heap and self._heap[0][0] <= now:
            moment, entity = heapq.heappop(self._heap)
            state = self._states.get(entity)
            if state is None or entity in self._asking or self._next(state, moment) is None:
                continue
            active = tuple(self._active.get(entity, ()))
            created = state.created
            if active and created is not None and created.overlap == "queue":
                continue  # its end is what has to come next
            self._asking.add(entity)
            yield entity, Tick(now_ms=now, active=active)

    def launches(self, now: int, by: str) -> list[Ask]:
        """What the log has to be asked for ticks that were granted; plans are asked for at their own door."""
        asks: list[Ask] = []
        for child, moment in self._cancelling.items():
            if moment <= now:
                self._cancelling[child] = now + 10 * AGAIN_MS
                asks.append(_stop(child, by))
        for child, (moment, entity, ticked) in self._launching.items():
            state = self._states.get(entity)
            if moment > now or state is None:
                continue
            self._launching[child] = (now + 10 * AGAIN_MS, entity, ticked)
            ask = almanac.submission(state, ticked, self._home.node, by)
            if ask is not None:
                asks.append(ask)
            else:
                self._plant(state, ticked)
        return asks

    # Answers

    def granted(self, outcome: Outcome, now: int) -> None:
        """The log has decided what is due."""
        entity, state = outcome.ask.entity, outcome.snapshot.state
        self._asking.discard(entity)
        if outcome.error is not None:
            log.warning("the ticks of %s wait: %s", entity, outcome.error)
            heapq.heappush(self._heap, (now + AGAIN_MS, entity))
            return
        for fact in outcome.facts:
            if isinstance(fact.event, Ticked):
                self._take(entity, fact.event, missing=True)
        self._know(state)
        if not outcome.facts:
            self._plan(entity, now + AGAIN_MS)

    def submitted(self, outcome: Outcome, now: int) -> None:
        """The log has taken what a tick submits, or not."""
        child = outcome.ask.entity
        waiting = self._launching if child in self._launching else None
        entity, ticked = outcome.ask.tag
        if ticked is None:
            self._cancelling.pop(child, None)
            if outcome.error is not None and not isinstance(outcome.error, Refusal):
                self._cancelling[child] = now + AGAIN_MS
        elif waiting is not None:
            self._settle(child, entity, ticked, outcome.error, now)

    def planted(self, planted: Planted, now: int) -> None:
        """A plan was taken, or not."""
        error = planted.answer if isinstance(planted.answer, HindbrainError) else None
        child = planted.ticked.child or ""
        if child in self._launching:
            self._settle(child, planted.schedule, planted.ticked, error, now)

    def _settle(
        self, child: str, entity: str, ticked: Ticked, error: HindbrainError | None, now: int
    ) -> None:
        if error is None or isinstance(error, Refusal):
            self._launching.pop(child, None)
            if error is not None:
                log.error("%s: the tick %s was refused: %s", entity, ticked.tick, error)
                self.over(child)
        else:
            log.warning("%s: the tick %s is not submitted yet: %s", entity, ticked.tick, error)
            self._launching[child] = (now + AGAIN_MS, entity, ticked)

    # Inside

    def _know(self, state: State) -> None:
        known = self._states.get(state.id)
        if known is None or state.seq >= known.seq:
            self._states[state.id] = state
            self._plan(state.id)

    def _plan(self, entity: str, earliest: int = 0) -> None:
        """Note when a schedule is due next."""
        state = self._states.get(entity)
        if state is not None and (soon := state.coming(1)):
            heapq.heappush(self._heap, (max(millis(soon[0]), earliest), entity))

    def _next(self, state: State, moment: int) -> int | None:
        """The next tick, when that moment is not too early for it."""
        soon = state.coming(1)
        return millis(soon[0]) if soon and millis(soon[0]) <= moment else None

    def _take(self, entity: str, ticked: Ticked, missing: bool) -> None:
        """Note what was granted."""
        child = ticked.child
        if child is None or child in self._taken:
            return
        self._taken[child] = None
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
        state = self._states.get(entity)
        if state is not None and state.created is not None and state.created.overlap != "allow":
            self._active.setdefault(entity, {})[child] = None
            self._owner[child] = entity
            self._watched.add(child)
            running = self._active[entity]
            self._cancelling |= {each: 0 for each in ticked.cancels if each in running}
        if missing and child not in self._launching:
            self._launching[child] = (0, entity, ticked)

    def _plant(self, state: State, ticked: Ticked) -> None:
        kind, verb, body = almanac.request(state, ticked)

        def done(answer: bytes | HindbrainError) -> None:
            self._tell(Planted(state.id, ticked, answer))

        self._doors.request(kind, verb, body, PLAN_SECONDS, done)


def _stop(child: str, by: str) -> Ask:
    """What stops an execution or a plan of an earlier tick."""
    if child.startswith(PREFIXES["plan"]):
        return Ask(PLAN, child, plan.Cancel(reason=CANCELLED), by=by, tag=(child, None))
    return Ask(EXECUTION, child, execution.Cancel(reason=CANCELLED), by=by, tag=(child, None))
