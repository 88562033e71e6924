"""One plan as the planner sees it: what it is, what it started, and what is told of it."""

import time
from collections.abc import Callable
from typing import Any

from actors.telling import Teller, standing
from events import plan
from events.codec import Fact
from events.launching import UNDO
from events.plan import PLAN
from events.planned import Advance, Launch, Result
from events.ports import Snapshot


class Lead:
    """A plan that is led; `say` publishes what is told of it."""

    def __init__(
        self, entity: str, snapshot: Snapshot[plan.State], say: Callable[[dict[str, Any]], None]
    ) -> None:
        self.id, self.snapshot = entity, snapshot
        self.children: dict[str, Launch] = {}
        """What it started and not yet knows the end of, by the id of the execution or the plan."""
        self.stopped: set[str] = set()
        """Those of them that were asked to stop."""
        self.dropped: list[str] = []
        """Those that nobody waits for any more."""
        self.results: dict[str, Result] = {}
        """How its children ended, until the plan knows."""
        self.busy = False
        """The plan is just being told of ends."""
        self._teller = Teller(entity, say)
        self._dirty = True
        self._last: tuple[Launch, str, str | None] | None = None

    @property
    def state(self) -> plan.State:
        """What the log says of it."""
        return self.snapshot.state

    @property
    def over(self) -> bool:
        """Whether nothing will happen any more by itself."""
        return self.state.over

    def anew(self) -> "Lead":
        """Forget what was asked: somebody else may have led it meanwhile."""
        self.children.clear()
        self.stopped.clear()
        self.results.clear()
        self.busy = False
        return self

    def take(self, snapshot: Snapshot[plan.State]) -> bool:
        """It is as far as this; False when that was known."""
        if snapshot.n <= self.snapshot.n:
            return False
        self.snapshot = snapshot
        self._dirty = True
        return True

    def learn(self, fact: Fact) -> bool:
        """A fact about it; False when it was known, or when one before it is missing."""
        if fact.n != self.snapshot.n + 1:
            return False
        state = PLAN.evolve(self.state, fact)
        # Without its hash: only the log itself needs that, and it knows.
        return self.take(Snapshot(state, fact.n, fact.seq))

    def fresh(self) -> list[Launch]:
        """What has to run and was not asked for yet; what need not run any more is forgotten."""
        wanted = {plan.child_of(self.state, launch): launch for launch in plan.running(self.state)}
        # A plan that is taken back is the same child as before, and wanted for something else now.
        for child in [each for each, launch in self.children.items() if wanted.get(each) != launch]:
            del self.children[child]
            self.results.pop(child, None)
            self.stopped.discard(child)
            self.dropped.append(child)
        return [launch for child, launch in wanted.items() if child not in self.children]

    def began(self, child: str, launch: Launch, command: str, purpose: str | None = None) -> None:
        """A child is being asked for: what it does, as a person would write it, and what that is for."""
        self.children[child] = launch
        self._last = (launch, command, purpose)
        self._dirty = True

    def ended(self, child: str, result: Result) -> None:
        """A child is over."""
        if child in self.children and child not in self.results:
            self.results[child] = result
            if result.duration_ms is not None:
                self._teller.took(result.duration_ms)

    def advance(self) -> Advance | None:
        """What to tell the plan now, all ends at once; None while there is nothing, or an answer is due."""
        if self.busy or not self.results:
            return None
        self.busy = True
        done, undone = list[Result](), list[Result]()
        for result in self.results.values():
            (undone if result.step.endswith(UNDO) else done).append(result)
        return Advance(ended=tuple(done), undone=tuple(undone))

    def tell(self, now: int) -> None:
        """Tell how it stands, when that is new or nothing was told for a while."""
        moment = time.monotonic()
        if self._dirty or self._teller.silent(moment):
            self._dirty = not self._teller.tell(standing(self.snapshot, self._last), now, moment)
