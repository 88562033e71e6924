"""One playbook as the conductor sees it: what it is, what it started, and what is told of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors.logbook import Logbook
from actors.saving import Saver
from events import phases, playing, portrait
from events.asks.artifact import Kept
from events.clock import millis, stamp
from events.codec import Fact
from events.errors import HindbrainError
from events.estimate import counted
from events.journey import Going, State
from events.playbook import PLAYBOOK
from events.played import Result
from events.ports import Snapshot

SPACING = 0.1
"""Seconds between two messages that need not be told at once."""
ALIVE = 5.0
"""What nothing changes of is told again after so many seconds: its time goes on."""
LISTED = 1.0
"""The list of its steps is written no more often than this (seconds)."""
Say = Callable[[str, dict[str, Any]], None]


class Running:
    """A playbook that is led; `say` publishes what is told of it."""

    def __init__(self, entity: str, saver: Saver, say: Say) -> None:
        self.id, self._saver, self._say = entity, saver, say
        self.snapshot: Snapshot[State] = Snapshot(PLAYBOOK.initial)
        self.child: str | None = None
        """What it runs now: an execution, a plan or a playbook."""
        self.asked = self.stopped = False
        self.result: Result | None = None
        """How that ended, until the playbook knows."""
        self.collecting = self.collected = False
        self.restoring = self.restored = ""
        self.busy = False
        """The log just decides on it."""
        self.saving = False
        """A checkpoint is just being stored."""
        self._logbook: Logbook | None = None
        self._saved_at = time.monotonic()
        self._told: tuple[Any, ...] = ()
        self._told_at = self._listed_at = 0.0

    @property
    def state(self) -> State:
        """What the log says of it."""
        return self.snapshot.state

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and nothing will before somebody says so or the time comes."""
        going = self.state.going
        return not self.state.over and (going is None or going.does not in playing.KINDS)

    def must_go(self) -> Going:
        """What runs; only asked where something does."""
        going = self.state.going
        assert going is not None  # noqa: S101  who is waited for is what runs
        return going

    def waits(self, child: str) -> bool:
        """Whether that is what it runs now."""
        going = self.state.going
        return going is not None and self.child == child == playing.child_of(self.state, going)

    def anew(self) -> "Running":
        """Forget what was asked: somebody else may have led it meanwhile."""
        self.begin(None)
        self.busy = self.saving = False
        return self

    def begin(self, child: str | None) -> None:
        """Something else runs now."""
        self.child, self.result = child, None
        self.asked = self.stopped = self.collecting = self.collected = False
        self.restoring = ""
        self._saved_at = time.monotonic()

    def take(self, snapshot: Snapshot[State], facts: Sequence[Fact]) -> None:
        """It is as far as this."""
        if snapshot.n > self.snapshot.n:
            self.snapshot = snapshot
        self._write(facts)

    def learn(self, fact: Fact) -> bool:
        """A fact about it; False when it was known, or when one before it is missing."""
        if fact.n != self.snapshot.n + 1:
            return False
        self.snapshot = Snapshot(PLAYBOOK.evolve(self.state, fact), fact.n, fact.seq)
        self._write([fact])
        return True

    def ended(self, result: Result) -> None:
        """What it runs is over."""
        if self.result is None:
            self.result = result

    def keep(self, answer: "list[Kept] | HindbrainError") -> None:
        """What the step left is kept; or it is not there, and the step has failed."""
        if self.result is None:
            return
        self.collected = True
        if isinstance(answer, HindbrainError):
            self.result = msgspec.structs.replace(self.result, status="failed", error=answer.problem)
        else:
            kept = tuple(dict.fromkeys(each.artifact_id for each in answer))
            self.result = msgspec.structs.replace(self.result, artifacts=kept)

    def overdue(self, moment: float) -> bool:
        """Whether a long step has run for so long that a checkpoint is due; `moment` is of a steady clock."""
        state, every = self.state, self.state.definition.checkpoint_every
        if every is None or not state.saves or state.over or self.child is None or self.result is not None:
            return False
        return not self.busy and not self.saving and moment - self._saved_at >= phases.span(every) / 1000

    def saved(self) -> None:
        """A checkpoint was made."""
        self._saved_at = time.monotonic()

    # ---- what is told ------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make its working directory a git repository."""
        if self._logbook is not None:
            self._logbook.list(self.state)
            self._logbook.commit(self.state)

    def _write(self, facts: Sequence[Fact]) -> None:
        if self._logbook is None:
            if self.state.initialized is None:
                return
            self._logbook = Logbook(self._saver.data, self.state)
            self._logbook.take(facts)
            self._logbook.list(self.state)
        else:
            self._logbook.take(facts)

    def close(self, now: int) -> None:
        """Tell of it for now, or for the last time."""
        if self._logbook is not None:
            self._logbook.list(self.state)
        self.tell(now, time.monotonic(), last=True)

    def tell(self, now: int, moment: float, *, last: bool = False) -> None:
        """Tell how it stands, when that is new or nothing was told for a while."""
        state = self.state
        if state.phase == "new":
            return
        if self._logbook is not None and moment - self._listed_at >= LISTED:
            self._listed_at = moment
            self._logbook.list(state)
        shown = (state.status, state.at, state.going and state.going.step, state.over)
        since = moment - self._told_at
        if shown == self._told and (last or since < ALIVE):
            return
        if since < SPACING and not last and self._told and shown[0] == self._told[0]:
            return
        self._told, self._told_at = shown, moment
        self._say(self.id, message(state, now))


def message(state: State, now: int) -> dict[str, Any]:
    """What is said on the progress subject about a playbook."""
    going = state.going
    step = going.step if going is not None else None
    if step is None and state.pause is not None:
        step = state.pause.step
    phase = state.phase_of(step).id if step is not None else None
    ended = now if state.completed_at is None else millis(state.completed_at)
    text = counted(state.at, state.total, "steps")
    question = portrait.asked(state)
    above = state.initialized.parent if state.initialized is not None else None
    return {
        "kind": "playbook",
        "id": state.id,
        "playbook_id": state.id,
        "status": state.status,
        "current": state.at,
        "total": state.total,
        "unit": "steps",
        "message": step,
        "phase": phase,
        "fraction": state.at / state.total if state.total else 1.0,
        "text": text,
        "eta_ms": None,
        "elapsed_seconds": max(0, ended - millis(state.created_at or stamp(now))) / 1000,
        "last_output": None,
        "asked": None if question is None else msgspec.to_builtins(question),
        "parent": None if above is None else above.playbook_id,
        "seq": state.seq,
        "time": stamp(now),
        "final": state.over,
    }
