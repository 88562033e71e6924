"""What is told of a plan while it goes on: every change, at most ten times a second, and the end."""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from events import codec, estimate, plan
from events.estimate import Pace
from events.planned import Launch
from events.ports import Snapshot

SPACING = 0.12
"""Seconds between two messages of one plan that need not be told at once."""
WINDOW, MOST = 1.05, 9
"""No more than so many in a second, as those who listen count it, and then the last one."""
SHOWN = 200
"""Characters of what is said to be at work."""
ALIVE = 2.0
"""A plan of which nothing changes is told of again after so many seconds: its time goes on."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a plan stands: what is counted, and what is at work."""

    status: str
    rollback: str = "none"
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    total: int | None = None
    """None while nobody knows how many there will be."""
    running: int = 0
    unit: str = "operations"
    current: str | None = None
    """What was started last and still runs."""
    command: str | None = None
    """The command line of that."""
    text: str | None = None
    """What is to be said in place of numbers, such as which step is taken back."""
    batch: bool = False
    began: str | None = None
    ended: str | None = None
    parent: str | None = None
    """The plan it is a step of."""
    seq: int = 0
    final: bool = False

    @property
    def done(self) -> int:
        """How many are over, well or not."""
        return self.completed + self.failed + self.skipped


def standing(snapshot: Snapshot[plan.State], last: tuple[Launch, str, str | None] | None) -> Standing:
    """How a plan stands; `last` is what was started last, its command, and what it is said to be for."""
    state = snapshot.state
    many, description = state.batch is not None, state.definition.description
    verb, unit = estimate.words(description)
    current = command = text = None
    above = state.submitted.parent if state.submitted is not None else None
    if last is not None and not state.over:
        launch, command, purpose = last
        current = launch.step
        if state.batch is not None and launch.step.isdecimal():
            item = state.batch.item(int(launch.step))
            what = f"{verb} {unit[:-1]}" if unit != "operations" else "Operation"
            which = item if isinstance(item, str) else json.dumps(item)
            current = (purpose or estimate.doing(what, which))[:SHOWN]
    if state.rollback == "running" and state.undo is not None:
        text = estimate.doing("Taking back", state.undo.step)
    return Standing(
        status=state.status,
        rollback=state.rollback,
        completed=state.completed,
        failed=state.failed,
        skipped=state.skipped,
        total=state.total,
        running=state.outstanding,
        unit=unit if many else "steps",
        current=current,
        command=command,
        text=text,
        batch=many,
        began=state.created_at,
        ended=state.completed_at,
        parent=above.plan_id if above is not None else None,
        seq=snapshot.seq,
        final=state.over,
    )


class Teller:
    """Tells of one plan; `say` publishes a message."""

    def __init__(self, plan: str, say: Callable[[dict[str, Any]], None]) -> None:
        self._plan, self._say = plan, say
        self._pace: Pace | None = None
        self._paused: float | None = None
        self._sent: deque[float] = deque(maxlen=MOST)
        self._shown: tuple[Any, ...] = ()
        self._over = False

    def took(self, milliseconds: float) -> None:
        """One of its operations took so long."""
        if self._pace is not None:
            self._pace.took(milliseconds)

    def silent(self, moment: float) -> bool:
        """Whether nothing was told for so long that it should be, though nothing changed."""
        return not self._over and bool(self._sent) and moment - self._sent[-1] >= ALIVE

    def tell(self, standing: Standing, now: int, moment: float) -> bool:
        """Tell how it stands unless that is known or too soon; False when it has to be tried again.

        `now` is in milliseconds since 1970, `moment` in seconds of a clock that does not jump.
        """
        pace = self._keep_pace(standing, moment * 1000)
        if self._over and standing.final:
            return True
        shown = (
            standing.status,
            standing.rollback,
            standing.done,
            standing.total,
            standing.current,
            standing.text,
        )
        if not standing.final:
            if shown == self._shown and not (standing.status == "running" and self.silent(moment)):
                return True
            crowded = len(self._sent) == MOST and moment - self._sent[0] < WINDOW
            # Steps are told one by one as they start, operations a tenth of a second at a time.
            soon = standing.batch and bool(self._sent) and moment - self._sent[-1] < SPACING
            if crowded or soon:
                return False
        self._shown, self._over = shown, standing.final
        self._sent.append(moment)
        self._say(message(self._plan, standing, pace, now))
        return True

    def _keep_pace(self, standing: Standing, moment: float) -> Pace:
        if self._pace is None:
            self._pace = Pace(moment, standing.done)
        if standing.status == "paused":
            self._paused = self._paused or moment
        elif self._paused is not None:
            self._pace.pause(moment - self._paused)
            self._paused = None
        self._pace.note(moment, standing.done)
        return self._pace


def message(plan: str, standing: Standing, pace: Pace | None, now: int) -> dict[str, Any]:
    """What is said on the progress subject about a plan."""
    total, done = standing.total, standing.done
    left = None if total is None else max(0, total - done)
    average = eta = None
    if pace is not None and left and not standing.final:
        average = pace.average(left, min(left, standing.running))
        eta = None if average is None else round(left * average)
    if standing.final:
        eta = 0
    elapsed = None
    if standing.began is not None:
        ended = codec.millis(standing.ended) if standing.ended else now
        elapsed = max(0, ended - codec.millis(standing.began)) / 1000
    if standing.final and elapsed is not None and done:
        average = elapsed * 1000 / done
    text = standing.text or estimate.counted(done, total, standing.unit)
    said: dict[str, Any] = {
        "kind": "plan",
        "id": plan,
        "plan_id": plan,
        "status": standing.status,
        "rollback": standing.rollback,
        "current": done,
        "total": total,
        "unit": standing.unit,
        "message": standing.current,
        "fraction": None if total is None else min(1.0, done / total) if total else 1.0,
        "text": text,
        "eta_ms": eta,
        "eta": estimate.remaining(eta),
        "elapsed_seconds": elapsed,
        "last_output": None,
        "completed": standing.completed,
        "failed": standing.failed,
        "running": standing.running,
        "current_command": standing.command,
        "completedOperations": standing.completed,
        "totalOperations": total,
        "failedOperations": standing.failed,
        "currentOperation": standing.current,
        "estimatedTimeRemaining": eta,
        "averageOperationTime": None if average is None else round(average, 3),
        "parent": standing.parent,
        "seq": standing.seq,
        "time": codec.stamp(now),
        "timestamp": codec.stamp(now),
        "final": standing.final,
    }
    if standing.batch:
        said["batchId"] = plan
    return said
