"""An execution: one piece of work, from the wish to its one and only end.

      new ---> held ---> queued ---> running ---> over
                 |         |  ^         |          ^
                 |         |  `- lost --'          |
                 `---------`------ cancelled ------'

Whatever is asked and whatever crashes, it ends at most once: `completed`, `failed`, `cancelled` or
`timed_out`.
"""

from typing import TYPE_CHECKING, Literal

import msgspec

from events.errors import AlreadyOver, Conflict, IdempotencyConflict, NotFound, Problem
from events.message import Command, Event, Message
from events.ports import Decider
from events.spec import Spec

if TYPE_CHECKING:
    from events.codec import Fact

LOST_IN_A_ROW = 3
"""An execution whose attempts were lost so many times in a row is poisoned."""


class Progress(Message):
    """How far it is, in its own words."""

    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None
    fraction: float | None = None
    """Between 0 and 1."""
    estimated: bool = False


class End(Message):
    """How an attempt ended, and what it left behind."""

    exit_code: int | None = None
    signal: str | None = None
    """`SIGKILL`, ... when a signal ended it."""
    ended_at: str | None = None
    """When the process ended, which may be before anybody noticed."""
    duration_ms: int | None = None
    pid: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str | None = None
    stderr_sha256: str | None = None
    last_output: str | None = None
    last_output_at: str | None = None
    progress: Progress | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None


# ---- what happened ---------------------------------------------------------------------------------------


class Held(Event):
    """It must wait for something first."""

    spec: Spec
    digest: str
    reason: str
    taken_by: str
    until: str | None = None
    retry_of: str | None = None


class Queued(Event):
    """Any free worker of its module may take it."""

    spec: Spec | None = None
    """What to run; left out when an earlier event said it."""
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same key."""
    taken_by: str = ""
    """The node that took the command; it keeps the values of secrets."""
    retry_of: str | None = None


class Started(Event):
    """A node took it, for the n-th time."""

    attempt: int
    node: str
    boot: str
    log_path: str
    stdout_offset: int = 0
    """Where the output of this attempt begins."""
    stderr_offset: int = 0


class Progressed(Event):
    """It said how far it is, or showed that it lives."""

    attempt: int
    progress: Progress | None = None
    pid: int | None = None
    last_output: str | None = None
    last_output_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0


class AttemptFailed(Event):
    """An attempt failed; another follows."""

    attempt: int
    error: Problem
    end: End


class AttemptLost(Event):
    """Nobody can say how an attempt ended: its keeper, its node or its machine went away."""

    attempt: int
    reason: str


class CancelRequested(Event):
    """Somebody wants it stopped."""

    reason: str | None = None
    grace_ms: int | None = None


class Completed(Event):
    """It ended well."""

    attempt: int
    end: End


class Failed(Event):
    """It ended badly."""

    attempt: int
    error: Problem
    end: End


class Cancelled(Event):
    """It was stopped on request."""

    attempt: int
    error: Problem
    end: End


class TimedOut(Event):
    """It was stopped because it took too long."""

    attempt: int
    error: Problem
    end: End


# ---- what can be asked -----------------------------------------------------------------------------------


class Submit(Command):
    """Run this."""

    spec: Spec
    digest: str
    taken_by: str
    retry_of: str | None = None
    held: str | None = None
    """Why it has to wait first, if it has to."""
    until: str | None = None


class Release(Command):
    """What it waited for has come."""


class Start(Command):
    """A node is taking it."""

    node: str
    boot: str
    log_path: str
    stdout_offset: int = 0
    stderr_offset: int = 0


class Report(Command):
    """Something was seen of a running attempt."""

    attempt: int
    progress: Progress | None = None
    pid: int | None = None
    last_output: str | None = None
    last_output_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0


Why = Literal["exited", "spawn_failed", "timeout", "cancelled", "output_limit", "io"]


class Finish(Command):
    """An attempt ended, and this is why."""

    attempt: int
    why: Why
    end: End
    text: str = ""
    """What to say of it when a number does not say it all."""
    errno: str | None = None
    """The system's name of the error (`ENOENT`, `EACCES`, ...) when it could not be started."""


class Lose(Command):
    """An attempt is gone and nobody knows how it ended."""

    attempt: int
    reason: str


class Cancel(Command):
    """Stop it."""

    reason: str | None = None
    grace_ms: int | None = None


AnyEvent = (
    Held
    | Queued
    | Started
    | Progressed
    | AttemptFailed
    | AttemptLost
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
    | TimedOut
)
AnyCommand = Submit | Release | Start | Report | Finish | Lose | Cancel
EVENTS = (
    Held,
    Queued,
    Started,
    Progressed,
    AttemptFailed,
    AttemptLost,
    CancelRequested,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
)
TERMINAL = (Completed, Failed, Cancelled, TimedOut)
Terminal = Completed | Failed | Cancelled | TimedOut

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
    held: Held | None = None
    attempt: int = 0
    lost: int = 0
    """How many attempts in a row were lost."""
    started: Started | None = None
    report: Progressed | None = None
    cancel: CancelRequested | None = None
    end: Terminal | None = None
    created_at: str | None = None
    queued_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    seq: int = 0


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new", Submit(held=str(reason)):
            return (
                Held(
                    spec=command.spec,
                    digest=command.digest,
                    reason=reason,
                    taken_by=command.taken_by,
                    until=command.until,
                    retry_of=command.retry_of,
                ),
            )
        case "new", Submit():
            return (
                Queued(
                    spec=command.spec,
                    digest=command.digest,
                    taken_by=command.taken_by,
                    retry_of=command.retry_of,
                ),
            )
        case "new", _:
            raise NotFound("Execution not found")
        case _, Submit(digest=digest) if digest == state.digest:
            return ()
        case _, Submit():
            raise IdempotencyConflict
        case "over", Cancel():
            return ()
        case "over", _:
            raise AlreadyOver
        case "held", Release():
            return (Queued(),)
        case "queued", Release():
            return ()
        case "held" | "queued", Cancel(reason=reason):
            return (Cancelled(attempt=state.attempt, error=_cancelled(reason), end=End()),)
        case "queued", Start():
            return (
                Started(
                    attempt=state.attempt + 1,
                    node=command.node,
                    boot=command.boot,
                    log_path=command.log_path,
                    stdout_offset=command.stdout_offset,
                    stderr_offset=command.stderr_offset,
                ),
            )
        case "running", Cancel(reason=reason, grace_ms=grace):
            return () if state.cancel else (CancelRequested(reason=reason, grace_ms=grace),)
        case "running", Report(attempt=n) | Finish(attempt=n) | Lose(attempt=n) if n != state.attempt:
            raise Conflict("that attempt belongs to somebody else now")
        case "running", Report():
            return (Progressed(**{name: getattr(command, name) for name in Progressed.__struct_fields__}),)
        case "running", Finish():
            return (_finish(state, command),)
        case "running", Lose(reason=reason):
            return (AttemptLost(attempt=state.attempt, reason=reason), _lost(state, reason))
        case _:
            raise Conflict(f"an execution that is {state.status} cannot do that")


def _cancelled(reason: str | None) -> Problem:
    return Problem(
        code="cancelled", message="Execution cancelled", details={"reason": reason} if reason else {}
    )


def _finish(state: State, command: Finish) -> Terminal:
    n, end = command.attempt, command.end
    match command.why:
        case "exited" if end.exit_code == 0:
            return Completed(attempt=n, end=end)
        case "exited":
            code = f"exit code {end.exit_code}" if end.signal is None else f"signal {end.signal}"
            error = Problem(code="command_failed", message=f"Command failed with {code}")
        case "spawn_failed":
            details = {"errno": command.errno} if command.errno else {}
            error = Problem(
                code="spawn_failed", message=f"Process spawn failed: {command.text}", details=details
            )
        case "timeout":
            error = Problem(code="timeout", message=f"Execution timeout after {state.spec.timeout_ms}ms")
            return TimedOut(attempt=n, error=error, end=end)
        case "cancelled":
            reason = state.cancel.reason if state.cancel else command.text or None
            return Cancelled(attempt=n, error=_cancelled(reason), end=end)
        case "output_limit":
            limit = state.spec.limits.output_bytes if state.spec.limits else None
            error = Problem(code="output_limit", message=f"Output limit of {limit} bytes reached")
        case "io":
            error = Problem(code="io", message=f"IO error: {command.text}")
    return Failed(attempt=n, error=error, end=end)


def _lost(state: State, reason: str) -> Terminal:
    """An attempt that vanished; commands are not run again unless they asked for it."""
    report = state.report or Progressed(attempt=state.attempt)
    end = End(
        pid=report.pid,
        stdout_bytes=report.stdout_bytes,
        stderr_bytes=report.stderr_bytes,
        last_output=report.last_output,
        last_output_at=report.last_output_at,
        progress=report.progress,
    )
    if state.cancel:
        return Cancelled(attempt=state.attempt, error=_cancelled(state.cancel.reason), end=end)
    if state.lost + 1 >= LOST_IN_A_ROW:
        error = Problem(code="poisoned", message=f"{state.lost + 1} attempts in a row were lost: {reason}")
    else:
        error = Problem(code="lost", message=f"Execution lost: {reason}")
    return Failed(attempt=state.attempt, error=error, end=end)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    event, time = fact.event, fact.time
    change = msgspec.structs.replace
    state = change(state, seq=fact.seq)
    match event:
        case Held():
            return change(
                state,
                phase="held",
                status="scheduled" if event.reason == "time" else "queued",
                spec=event.spec,
                digest=event.digest,
                taken_by=event.taken_by,
                retry_of=event.retry_of,
                held=event,
                created_at=time,
            )
        case Queued(spec=Spec() as spec):
            return change(
                state,
                phase="queued",
                status="queued",
                spec=spec,
                digest=event.digest,
                taken_by=event.taken_by,
                retry_of=event.retry_of,
                created_at=time,
                queued_at=time,
            )
        case Queued():
            return change(state, phase="queued", status="queued", held=None, queued_at=time)
        case Started():
            return change(
                state,
                phase="running",
                status="running",
                attempt=event.attempt,
                started=event,
                report=None,
                started_at=time,
            )
        case Progressed():
            return change(state, report=event)
        case CancelRequested():
            return change(state, cancel=event)
        case AttemptFailed():
            return change(state, phase="queued", status="queued", lost=0)
        case AttemptLost():
            return change(state, phase="queued", status="queued", lost=state.lost + 1)
        case Completed() | Failed() | Cancelled() | TimedOut():
            ended = event.end.ended_at or time
            return change(state, phase="over", status=event.name(), held=None, end=event, completed_at=ended)
        case _:
            return state


EXECUTION = Decider("execution", State(), decide, evolve)
