"""What the limiter knows: of every limit the last page, of every execution that waits what it waits for."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from events import limit
from events.execution import Held, State
from events.limit import LIMIT
from events.ports import Loaded, Snapshot
from events.spec import PRIORITIES, Priority

Order = tuple[int, int, int, str]
"""Who comes first: the more urgent, then the older."""


@dataclass(slots=True)
class Waiting:
    """An execution that is held for a limit, or for an idle system."""

    entity: str
    key: str | None
    module: str
    priority: Priority
    born: int
    """Milliseconds since 1970."""
    seq: int
    """Of the fact by which it waits: a grant from before was for something else."""
    attempt: int

    @property
    def order(self) -> Order:
        """Its place among those that wait."""
        return (PRIORITIES.index(self.priority), self.born, self.seq, self.entity)


def waiting(loaded: Loaded, born: int) -> Waiting:
    """What a whole execution, which is held, waits for."""
    state: State = loaded.snapshot.state
    seq = max((fact.seq for fact in loaded.facts if isinstance(fact.event, Held)), default=state.seq)
    spec = state.spec
    return Waiting(loaded.entity, spec.concurrency_key, spec.module, state.priority, born, seq, state.attempt)


@dataclass(slots=True)
class Place:
    """One limit: its last page, and what is under way with it."""

    first: str
    entity: str
    snapshot: Snapshot[limit.State]
    busy: bool = False
    """Something was asked of it and is not answered yet."""
    counting: bool = False
    """Who was at it when it was set is not known yet, so nobody is let in."""
    counts_at: float = 0.0
    floor: int = 0
    checked: int = 0
    """As of which sequence it was looked up because somebody knew more of it."""
    rests: float = 0.0
    """Something went wrong: it is left alone until then."""
    back: dict[str, int] = field(default_factory=dict[str, int])
    """Grants to be given back."""

    @property
    def state(self) -> limit.State:
        """The limit as it is."""
        return self.snapshot.state

    @property
    def free(self) -> bool:
        """Whether somebody may be let in, if there is room."""
        return not self.busy and not self.counting and not self.back


def unset(first: str) -> Place:
    """A limit of which nothing is known."""
    return Place(first, first, Snapshot(LIMIT.initial))


class Groups:
    """Those that wait, by the limits they need; each group in its order."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, ...], list[Order]] = {}
        self._all: dict[str, tuple[Waiting, tuple[str, ...]]] = {}
        self.dirty: set[tuple[str, ...]] = set()
        """Groups in which somebody may be let in now."""

    def __len__(self) -> int:
        return len(self._all)

    def put(self, one: Waiting, needs: tuple[str, ...]) -> None:
        """It waits for these limits."""
        self._all[one.entity] = (one, needs)
        heapq.heappush(self._heaps.setdefault(needs, []), one.order)
        self.dirty.add(needs)

    def get(self, entity: str) -> Waiting | None:
        """What one waits for."""
        found = self._all.get(entity)
        return found[0] if found else None

    def drop(self, entity: str) -> None:
        """It does not wait any more."""
        self._all.pop(entity, None)

    def everybody(self) -> list[Waiting]:
        """All of them; nobody waits any more then."""
        found = [one for one, _ in self._all.values()]
        self._all.clear()
        self._heaps.clear()
        self.dirty.clear()
        return found

    def touch(self, first: str) -> None:
        """Something about a limit has changed."""
        self.dirty |= {needs for needs in self._heaps if first in needs}

    def urgent(self) -> list[tuple[str, ...]]:
        """The groups that are to be looked at, the one with the most urgent first."""
        tops = [(top, needs) for needs in self.dirty if (top := self._top(needs)) is not None]
        self.dirty = {needs for _, needs in tops}
        return [needs for _, needs in sorted(tops)]

    def take(self, needs: tuple[str, ...], count: int) -> list[Waiting]:
        """Take the first ones of a group."""
        taken: list[Waiting] = []
        while len(taken) < count and self._top(needs) is not None:
            entity = heapq.heappop(self._heaps[needs])[3]
            taken.append(self._all.pop(entity)[0])
        return taken

    def _top(self, needs: tuple[str, ...]) -> Order | None:
        """The first one; orders of those that left, or wait elsewhere or otherwise now, are swept away."""
        heap = self._heaps.get(needs, [])
        while heap:
            found = self._all.get(heap[0][3])
            if found is not None and found[1] == needs and found[0].order == heap[0]:
                return heap[0]
            heapq.heappop(heap)
        self._heaps.pop(needs, None)
        return None


class Grants:
    """Who has which places, by execution."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, int]] = {}

    def of(self, entity: str) -> dict[str, int]:
        """Limits and the sequences of the grants."""
        return self._all.get(entity, {})

    def learn(self, first: str, state: limit.State, ids: Iterable[str]) -> None:
        """Read from a limit who has a place there."""
        for each in ids:
            if each in state.holders:
                self._all.setdefault(each, {})[first] = state.holders[each]
            elif each in self._all:
                self._all[each].pop(first, None)
                if not self._all[each]:
                    del self._all[each]
