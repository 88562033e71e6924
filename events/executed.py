"""What can happen to an execution, and what can be asked of it.  The rules stand in `events/execution.py`."""

from typing import Any, Literal

from events.errors import Problem
from events.message import Command, Event, Message
from events.spec import Priority, Spec


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
    value: Any = None
    """What the handler of a job returned."""
    outputs: dict[str, Any] = {}
    """What a step of a plan wrote into `$HINDBRAIN_OUTPUT` for the steps after it."""
    note: str | None = None
    """What else is to be said, such as why its outputs could not be read."""


class Began(Message):
    """How an attempt began, said with its end: it was too short to be worth a fact of its own."""

    node: str
    boot: str
    at: str
    worker: str = ""
    log_path: str = ""


# ---- what happened ---------------------------------------------------------------------------------------


class Held(Event):
    """It must wait for something first, and `by` is who will let it go on."""

    spec: Spec | None = None
    """What to run; left out when an earlier event said it."""
    digest: str = ""
    reason: str
    """`time`, `backoff`, `limit` or `idle`."""
    taken_by: str = ""
    until: str | None = None
    retry_of: str | None = None
    by: str = ""
    attempt: int = 0
    """After which attempt it waits; 0 before the first."""


class Queued(Event):
    """Any free worker of its module may take it."""

    spec: Spec | None = None
    """What to run; left out when an earlier event said it."""
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same key."""
    taken_by: str = ""
    """The node that took the command; it keeps the values of secrets."""
    retry_of: str | None = None
    priority: Priority | None = None
    """Its level in the queue, where that is not the one it was born with."""
    reason: str = ""
    """Why it was queued once more, when that was not the end of a wait."""


class Prioritized(Event):
    """It is more, or less, urgent from now on."""

    priority: Priority
    reason: str = ""


class Started(Event):
    """A node took it, for the n-th time."""

    attempt: int
    node: str
    boot: str
    log_path: str
    stdout_offset: int = 0
    """Where the output of this attempt begins."""
    stderr_offset: int = 0
    worker: str = ""
    """Which worker of which host runs it, when it is a job."""


class Remembered(Event):
    """A part of a job is done for good: later attempts are told what it gave and do not do it again."""

    attempt: int
    part: str
    value: Any = None


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
    began: Began | None = None


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
    began: Began | None = None


class Failed(Event):
    """It ended badly."""

    attempt: int
    error: Problem
    end: End
    began: Began | None = None


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


class Discarded(Event):
    """It was lost with its worker again and again and was parked; now somebody has seen that."""

    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Submit(Command):
    """Run this."""

    spec: Spec
    digest: str
    taken_by: str
    retry_of: str | None = None
    held: str | None = None
    """Why it has to wait first, beyond what its spec says: `time`."""
    until: str | None = None


class Hold(Command):
    """Take it out of the queue until something has come."""

    reason: str
    by: str = ""
    until: str | None = None


class Release(Command):
    """What it waited for has come: it goes on to the next thing it has to wait for, or into the queue."""

    reason: str
    attempt: int | None = None
    """Only while it waits after this attempt (0: before the first)."""


class Prioritize(Command):
    """Make it more, or less, urgent."""

    priority: Priority
    reason: str = ""


class Requeue(Command):
    """Put it at the end of its level in the queue."""

    reason: str = ""


class Discard(Command):
    """Somebody has seen that it is parked, and does not want it listed any more."""

    reason: str | None = None


class Start(Command):
    """A node is taking it."""

    queued: int | None = None
    """The sequence of the `queued` that offered it; an older one than the last is stale."""

    node: str
    boot: str
    log_path: str
    stdout_offset: int = 0
    stderr_offset: int = 0
    worker: str = ""


class Remember(Command):
    """A part of a running job is done."""

    attempt: int
    part: str
    value: Any = None


class Report(Command):
    """Something was seen of a running attempt."""

    attempt: int
    progress: Progress | None = None
    pid: int | None = None
    last_output: str | None = None
    last_output_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0


Why = Literal["exited", "returned", "raised", "spawn_failed", "timeout", "cancelled", "output_limit", "io"]


class Finish(Command):
    """An attempt ended, and this is why."""

    attempt: int
    why: Why
    end: End
    text: str = ""
    """What to say of it when a number does not say it all."""
    errno: str | None = None
    """The system's name of the error (`ENOENT`, `EACCES`, ...) when it could not be started."""
    now_ms: int = 0
    """The present, in milliseconds since 1970, from which a pause is counted."""
    jitter: float = 0.0
    """A random number between 0 and 1."""


class Perform(Command):
    """A short job was done without a claim, and this is its whole attempt; it may be one too many."""

    queued: int
    """The sequence of the `queued` that offered it."""
    began: Began
    why: Why
    end: End
    text: str = ""
    now_ms: int = 0
    jitter: float = 0.0


class Lose(Command):
    """An attempt is gone and nobody knows how it ended."""

    attempt: int
    reason: str
    now_ms: int = 0
    jitter: float = 0.0


class Cancel(Command):
    """Stop it."""

    reason: str | None = None
    grace_ms: int | None = None


AnyEvent = (
    Held
    | Queued
    | Prioritized
    | Started
    | Remembered
    | Progressed
    | AttemptFailed
    | AttemptLost
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
    | TimedOut
    | Discarded
)
AnyCommand = (
    Submit
    | Hold
    | Release
    | Prioritize
    | Requeue
    | Start
    | Remember
    | Report
    | Finish
    | Perform
    | Lose
    | Cancel
    | Discard
)
EVENTS = (
    Held,
    Queued,
    Prioritized,
    Started,
    Remembered,
    Progressed,
    AttemptFailed,
    AttemptLost,
    CancelRequested,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    Discarded,
)
TERMINAL = (Completed, Failed, Cancelled, TimedOut)
Terminal = Completed | Failed | Cancelled | TimedOut
