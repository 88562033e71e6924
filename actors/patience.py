"""Those who wait for the end of an execution, until it comes or their time is up."""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass

from events.ports import Call, Loaded

LOOK_SECONDS = 5.0
"""Who waits is woken by a fact; should one ever go astray, this is how long it takes."""


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who waits for an end; answered once, however often it is looked up."""

    call: Call
    entity: str
    deadline: float
    over: bool = False


class Waits:
    """All of them on this node."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        self._looked = time.monotonic()
        self._deadlines: list[tuple[float, int, Waiting]] = []

    def __contains__(self, entity: object) -> bool:
        return entity in self._waiting

    def add(self, call: Call, entity: str, seconds: float) -> Waiting:
        """Note who waits before the execution is looked up, so that an end in between is not missed."""
        waiting = Waiting(call, entity, time.monotonic() + seconds)
        self._waiting.setdefault(entity, []).append(waiting)
        heapq.heappush(self._deadlines, (waiting.deadline, id(waiting), waiting))
        return waiting

    def due(self) -> list[Waiting]:
        """Those whose time is up, and now and then everybody."""
        now = time.monotonic()
        late: list[Waiting] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            late.append(heapq.heappop(self._deadlines)[2])
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            late = [each for waiting in self._waiting.values() for each in waiting]
        return [each for each in late if not each.over]

    def of(self, entities: Sequence[str] | None) -> list[Waiting]:
        """Those who wait for these; None: for anything."""
        names = list(self._waiting) if entities is None else entities
        return [each for name in names for each in self._waiting.get(name, ()) if not each.over]

    def done(self, waiting: Waiting, loaded: Loaded) -> bool:
        """Whether it is to be answered now; it does not wait any more then."""
        late = time.monotonic() >= waiting.deadline
        over = loaded.snapshot.state.phase == "over"
        if waiting.over or not (late or loaded.error or loaded.snapshot.n == 0 or over):
            return False
        waiting.over = True
        left = [each for each in self._waiting.pop(waiting.entity, []) if each is not waiting]
        if left:
            self._waiting[waiting.entity] = left
        return True
