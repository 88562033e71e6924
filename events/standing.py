"""An execution as its events tell it: where it stands, and what it has behind it."""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from events.executed import (
    AttemptFailed,
    AttemptLost,
    Began,
    Cancelled,
    CancelRequested,
    Completed,
    Discarded,
    End,
    Failed,
    Held,
    Prioritized,
    Progressed,
    Queued,
    Remembered,
    Started,
    Terminal,
    TimedOut,
)
from events.message import Message
from events.spec import Priority, Spec

if TYPE_CHECKING:
    from events.codec import Fact

SHUTDOWN = "shutdown"
"""Why an attempt is lost that its node gave back in good order; it does not count against the retries."""

Phase = Literal["new", "held", "queued", "running", "over"]
Status = Literal["", "scheduled", "queued", "running", "completed", "failed", "cancelled", "timed_out"]


class State(Message):
    """An execution, as its events tell it."""

    phase: Phase = "new"
    status: Status = ""
    spec: Spec = Spec()
    digest: str = ""
    taken_by: str = ""
    retry_of: str | None = None
    priority: Priority = "medium"
    """How urgent it is now; `spec.priority` is how urgent it was born."""
    held: Held | None = None
    queued: int = 0
    """The sequence of the `queued` by which it may be taken; 0 while it may not."""
    attempt: int = 0
    attempts_failed: int = 0
    """How many attempts failed or were lost, those that a node gave back not among them."""
    lost: int = 0
    """How many attempts in a row were lost."""
    last: AttemptFailed | AttemptLost | None = None
    """How the attempt before this one ended."""
    left: End = End()
    """How much output there is of attempts that are gone."""
    started: Started | None = None
    memory: dict[str, Any] = {}
    """What parts of a job gave that are done for good."""
    report: Progressed | None = None
    cancel: CancelRequested | None = None
    end: Terminal | None = None
    discarded: bool = False
    created_at: str | None = None
    queued_at: str | None = None
    first_started_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    trace: str = ""
    """The traceparent of its first event."""
    seq: int = 0

    @property
    def poisoned(self) -> bool:
        """Whether it is parked among the dead letters, or was."""
        return isinstance(self.end, Failed) and self.end.error.code == "poisoned"


def left(state: State) -> End:
    """What is known of an attempt whose end nobody saw: its last report, and what those before it wrote."""
    report = state.report
    if report is None:
        return End(stdout_bytes=state.left.stdout_bytes, stderr_bytes=state.left.stderr_bytes)
    return End(
        pid=report.pid,
        stdout_bytes=max(report.stdout_bytes, state.left.stdout_bytes),
        stderr_bytes=max(report.stderr_bytes, state.left.stderr_bytes),
        last_output=report.last_output,
        last_output_at=report.last_output_at,
        progress=report.progress,
    )


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    event, time = fact.event, fact.time
    change = msgspec.structs.replace
    state = change(state, seq=fact.seq)
    began = getattr(event, "began", None)
    if began is not None:
        state = begun(state, began, getattr(event, "attempt", 0))
    match event:
        case Held():
            status = "scheduled" if event.reason == "time" else "queued"
            state = change(state, phase="held", status=status, held=event, queued=0)
            return state if event.spec is None else _born(state, event, event.spec, fact)
        case Queued():
            state = change(state, phase="queued", status="queued", held=None, queued=fact.seq, queued_at=time)
            return state if event.spec is None else _born(state, event, event.spec, fact)
        case Prioritized():
            return change(state, priority=event.priority)
        case Started():
            return change(
                state,
                phase="running",
                status="running",
                held=None,
                queued=0,
                attempt=event.attempt,
                started=event,
                report=None,
                started_at=time,
                first_started_at=state.first_started_at or time,
            )
        case Remembered():
            return change(state, memory={**state.memory, event.part: event.value})
        case Progressed():
            return change(state, report=event)
        case CancelRequested():
            return change(state, cancel=event)
        case AttemptFailed() | AttemptLost():
            return _broken(state, event)
        case Completed() | Failed() | Cancelled() | TimedOut():
            ended = event.end.ended_at or time
            return change(
                state,
                phase="over",
                status=event.name(),
                held=None,
                queued=0,
                end=event,
                completed_at=ended,
            )
        case Discarded():
            return change(state, discarded=True)
        case _:
            return state


def begun(state: State, began: Began, attempt: int) -> State:
    """What an attempt is whose beginning is said with its end."""
    started = Started(
        attempt=attempt,
        node=began.node,
        boot=began.boot,
        log_path=began.log_path,
        worker=began.worker,
        stdout_offset=state.left.stdout_bytes,
        stderr_offset=state.left.stderr_bytes,
    )
    return msgspec.structs.replace(
        state,
        phase="running",
        held=None,
        queued=0,
        attempt=attempt,
        started=started,
        report=None,
        started_at=began.at,
        first_started_at=state.first_started_at or began.at,
    )


def _born(state: State, event: Held | Queued, spec: Spec, fact: "Fact") -> State:
    return msgspec.structs.replace(
        state,
        spec=spec,
        priority=spec.priority,
        digest=event.digest,
        taken_by=event.taken_by,
        retry_of=event.retry_of,
        created_at=fact.time,
        trace=fact.envelope.trace,
    )


def _broken(state: State, event: AttemptFailed | AttemptLost) -> State:
    """An attempt is gone; what follows is said by the next fact."""
    counts = isinstance(event, AttemptFailed) or event.reason != SHUTDOWN
    lost, report = state.lost + counts, state.report
    if isinstance(event, AttemptFailed):
        lost, end = 0, event.end
        report = Progressed(
            attempt=event.attempt,
            progress=end.progress,
            pid=end.pid,
            last_output=end.last_output,
            last_output_at=end.last_output_at,
            stdout_bytes=end.stdout_bytes,
            stderr_bytes=end.stderr_bytes,
        )
    return msgspec.structs.replace(
        state,
        phase="queued",
        status="queued",
        attempts_failed=state.attempts_failed + counts,
        lost=lost,
        last=event,
        left=event.end if isinstance(event, AttemptFailed) else left(state),
        report=report,
    )
