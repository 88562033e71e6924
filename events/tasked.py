"""What is said of tasks: what happened, and what can be asked."""

from typing import Any, Literal

from events.errors import Problem
from events.ir import ArtifactReference, PhaseIR, TaskIR
from events.message import Command, Event

Over = Literal["done", "failed", "cancelled", "handed_over"]


# ---- what happened ---------------------------------------------------------------------------------------


class Submitted(Event):
    """There is a task."""

    task: TaskIR
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same id."""


class PhaseStarted(Event):
    """An engine is given a phase, for the n-th time."""

    phase_id: str
    engine: str
    run: int


class PhaseEnded(Event):
    """An engine is through with a phase; or it let go of it, when it was handed over."""

    phase_id: str
    engine: str
    run: int
    status: Over
    outputs: dict[str, Any] = {}
    artifacts: tuple[ArtifactReference, ...] = ()
    """What it left, with what the task has from before: all that there is now."""
    left: tuple[str, ...] = ()
    """The artifacts that this phase left."""
    summary: str = ""
    error: Problem | None = None
    checkpoint_at: str | None = None
    """When the last checkpoint of it was made."""


class HandedOver(Event):
    """A phase goes to another engine, with what the task has so far."""

    phase_id: str
    from_engine: str
    to_engine: str
    reason: str = ""
    artifacts: tuple[str, ...] = ()
    phase: PhaseIR | None = None
    """The phase as it is said to that engine, where that is other than before."""


class Paused(Event):
    """Its engine waits for somebody to put something right."""

    phase_id: str
    reason: str = ""
    error: Problem | None = None
    mark: int = 0
    """Which pause of that engine it is."""


class Resumed(Event):
    """It goes on."""


class CancelRequested(Event):
    """It is to be stopped."""

    reason: str | None = None


class Completed(Event):
    """All phases are behind it."""


class Failed(Event):
    """A phase failed."""

    error: Problem


class Cancelled(Event):
    """It was stopped on request."""

    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Submit(Command):
    """Do this."""

    task: TaskIR
    digest: str = ""


class Handoff(Command):
    """Give a phase to another engine."""

    phase_id: str
    to_engine: str
    reason: str = ""
    phase: PhaseIR | None = None


class End(Command):
    """An engine is through with a phase."""

    phase_id: str
    run: int
    status: Over
    outputs: dict[str, Any] = {}
    left: tuple[ArtifactReference, ...] = ()
    summary: str = ""
    error: Problem | None = None
    checkpoint_at: str | None = None


class Hold(Command):
    """The engine of a phase waits."""

    run: int
    mark: int
    reason: str = ""
    error: Problem | None = None


class Resume(Command):
    """Go on."""


class Cancel(Command):
    """Stop it."""

    reason: str | None = None


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = (
    Submitted
    | PhaseStarted
    | PhaseEnded
    | HandedOver
    | Paused
    | Resumed
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
)
AnyCommand = Submit | Handoff | End | Hold | Resume | Cancel | Look
EVENTS = (
    Submitted,
    PhaseStarted,
    PhaseEnded,
    HandedOver,
    Paused,
    Resumed,
    CancelRequested,
    Completed,
    Failed,
    Cancelled,
)
ENDS = (Completed, Failed, Cancelled)
