"""Who waits for the end of something: answered when a fact says so, or when the time is up."""

import heapq
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.clerk import answer
from events.errors import HindbrainError, NotFound
from events.message import Message
from events.ports import Call, Decider, Loaded, Log

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Who waits is woken by a fact; should one ever go astray, this is how long it takes."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Somebody waits for something, so long at most."""

    call: Call
    entity: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Facts say that these are over; None: some may have been missed."""

    entities: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class _Read:
    loaded: Sequence[Loaded]


@dataclass(slots=True, eq=False)
class _Waiting:
    call: Call
    deadline: float
    over: bool = field(default=False)


class Waiter:
    """Answers calls about one kind of entity; `reply` makes the answer of what was read, over or not."""

    every = 0.25

    def __init__(
        self,
        decider: Decider[Any],
        journal: Log,
        tell: Callable[[Any], None],
        over: Callable[[Any], bool],
        reply: Callable[[Loaded], Message],
    ) -> None:
        self._decider, self._log, self._tell, self._over, self._reply = decider, journal, tell, over, reply
        self._waiting: dict[str, list[_Waiting]] = {}
        self._deadlines: list[tuple[float, int, str]] = []
        self._count = itertools.count()
        self._looked = time.monotonic()

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Awaited(call, entity, seconds):
                # Noted before it is looked up, so that an end in between is not missed.
                waiting = _Waiting(call, time.monotonic() + seconds)
                self._waiting.setdefault(entity, []).append(waiting)
                heapq.heappush(self._deadlines, (waiting.deadline, next(self._count), entity))
                self._look([entity])
            case Ended(entities):
                self._look(list(self._waiting) if entities is None else entities)
            case _Read(loaded):
                for each in loaded:
                    self._read(each)
            case _:
                raise TypeError(f"a waiter has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Answer those whose time is up."""
        now = time.monotonic()
        late: list[str] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            late.append(heapq.heappop(self._deadlines)[2])
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            late = list(self._waiting)
        self._look(late)

    def _look(self, entities: Sequence[str]) -> None:
        wanted = [each for each in dict.fromkeys(entities) if each in self._waiting]
        if wanted:
            self._log.load(self._decider, wanted, lambda loaded: self._tell(_Read(loaded)))

    def _read(self, loaded: Loaded) -> None:
        now, waiting = time.monotonic(), self._waiting.pop(loaded.entity, [])
        sure = bool(loaded.error) or loaded.snapshot.n == 0 or self._over(loaded.snapshot.state)
        for each in waiting:
            if sure or now >= each.deadline:
                answer(each.call, lambda: self._made(loaded))
        if not sure and (left := [each for each in waiting if now < each.deadline]):
            self._waiting[loaded.entity] = left

    def _made(self, loaded: Loaded) -> Message | HindbrainError:
        if loaded.error is not None:
            return loaded.error
        if loaded.snapshot.n == 0:
            return NotFound(f"there is no {self._decider.kind} {loaded.entity}")
        return self._reply(loaded)
