"""What can happen to a plan, and what can be asked of it.  The rules stand in `events/plan.py`."""

from typing import Any, Literal

from events.errors import Problem
from events.message import Command, Event, Message
from events.steps import Definition

Ended = Literal["completed", "failed", "cancelled", "timed_out"]
"""How a step or an operation can end that was started."""


class Launch(Message):
    """A step starts, for the n-th time."""

    step: str
    run: int = 1


class Skip(Message):
    """A step is passed over."""

    step: str
    run: int
    reason: str
    """`when`, `needs <step>`, `stopped` (after a failure) or `cancelled`."""


class Parent(Message):
    """The plan that a plan is a step of."""

    plan_id: str
    step: str
    run: int


class Result(Message):
    """How a step ended, or what takes it back; of a batch `step` is the operation's number."""

    step: str
    run: int = 1
    status: Ended
    execution_id: str | None = None
    plan_id: str | None = None
    """In place of an execution, when the step is a plan."""
    exit_code: int | None = None
    error: Problem | None = None
    outputs: dict[str, Any] = {}
    duration_ms: int | None = None


# ---- what happened ---------------------------------------------------------------------------------------


class Submitted(Event):
    """There is a plan."""

    definition: Definition
    params: dict[str, Any] = {}
    """What its parameters are, defaults among them."""
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same key."""
    taken_by: str = ""
    """The node that took the command; it keeps the values of secrets."""
    template: str | None = None
    version: int | None = None
    """Which version of the template."""
    parent: Parent | None = None
    schedule_id: str | None = None
    open: bool = False
    """More operations may come until it is sealed."""
    total: int | None = None
    """How many steps or operations it has, as far as that is known."""


class Extended(Event):
    """There are more operations."""

    items: tuple[Any, ...] = ()
    count: int = 0
    """How many, when they have no items."""


class Sealed(Event):
    """No more operations will come."""

    total: int


class StepsStarted(Event):
    """These steps start now."""

    steps: tuple[Launch, ...]


class StepsSkipped(Event):
    """These steps are passed over."""

    steps: tuple[Skip, ...]


class StepEnded(Event):
    """A step is over."""

    step: str
    run: int
    status: Ended
    execution_id: str | None = None
    plan_id: str | None = None
    exit_code: int | None = None
    error: Problem | None = None
    outputs: dict[str, Any] = {}
    duration_ms: int | None = None


class Advanced(Event):
    """Operations of a batch ended, and the next ones start."""

    ended: tuple[tuple[int, Ended], ...] = ()
    """Number and status."""
    first: int = 0
    """Where in the row of what is to be done the next ones begin."""
    count: int = 0
    """How many start."""


class Paused(Event):
    """Nothing more is started until it is resumed; what runs goes on."""

    reason: str | None = None


class Resumed(Event):
    """It goes on."""


class CancelRequested(Event):
    """Nothing more is started, and what runs is to be stopped."""

    reason: str | None = None
    grace_ms: int | None = None
    rollback: bool = False
    """What was done is taken back once all has stopped."""


class Completed(Event):
    """It ended well; of a batch, operations may have failed all the same."""

    completed: int = 0
    failed: int = 0
    skipped: int = 0


class Failed(Event):
    """It ended badly."""

    error: Problem
    completed: int = 0
    failed: int = 0
    skipped: int = 0


class Cancelled(Event):
    """It was stopped on request."""

    error: Problem
    completed: int = 0
    failed: int = 0
    skipped: int = 0


class RollbackStarted(Event):
    """What was done is taken back, the last first."""

    steps: tuple[str, ...] = ()
    """In the order in which they are taken back; left out for a batch."""
    count: int = 0
    reason: str | None = None


class UndoStarted(Event):
    """A step is taken back now."""

    step: str
    run: int = 1
    """The number of the try; a later one has a higher number."""


class StepUndone(Event):
    """A step is taken back."""

    step: str
    run: int = 1
    execution_id: str | None = None
    plan_id: str | None = None


class RolledBack(Event):
    """Everything is taken back that can be."""


class RollbackFailed(Event):
    """A step could not be taken back; those before it stay as they are."""

    step: str
    run: int = 1
    execution_id: str | None = None
    plan_id: str | None = None
    error: Problem


class RerunRequested(Event):
    """Steps run once more, and what the others did is kept."""

    steps: tuple[str, ...] = ()
    """Left out for a batch, of which all failed operations run again."""
    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Submit(Command):
    """Do this."""

    definition: Definition
    params: dict[str, Any] = {}
    """Values of parameters."""
    digest: str = ""
    taken_by: str = ""
    template: str | None = None
    version: int | None = None
    parent: Parent | None = None
    schedule_id: str | None = None
    open: bool = False


class Extend(Command):
    """Add operations."""

    items: tuple[Any, ...] = ()
    count: int = 0
    offset: int | None = None
    """How many there are before these; by it, a page that comes twice is added once."""


class Seal(Command):
    """No more will come."""


class Advance(Command):
    """Steps ended, or what takes them back."""

    ended: tuple[Result, ...] = ()
    undone: tuple[Result, ...] = ()


class Pause(Command):
    """Start nothing more until it is resumed."""

    reason: str | None = None


class Resume(Command):
    """Go on."""


class Cancel(Command):
    """Start nothing more, and stop what runs."""

    reason: str | None = None
    grace_ms: int | None = None


class Rollback(Command):
    """Take back what was done; what still runs is cancelled first."""

    reason: str | None = None


class Rerun(Command):
    """Run steps once more: those that failed, those named, or one and all that come after it."""

    steps: tuple[str, ...] = ()
    """These, and those that depend on them; with neither: what failed, and what was not reached."""
    from_step: str | None = None
    """This one and all that come after it."""
    reason: str | None = None


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = (
    Submitted
    | Extended
    | Sealed
    | StepsStarted
    | StepsSkipped
    | StepEnded
    | Advanced
    | Paused
    | Resumed
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
    | RollbackStarted
    | UndoStarted
    | StepUndone
    | RolledBack
    | RollbackFailed
    | RerunRequested
)
AnyCommand = Submit | Extend | Seal | Advance | Pause | Resume | Cancel | Rollback | Rerun | Look
EVENTS = (
    Submitted,
    Extended,
    Sealed,
    StepsStarted,
    StepsSkipped,
    StepEnded,
    Advanced,
    Paused,
    Resumed,
    CancelRequested,
    Completed,
    Failed,
    Cancelled,
    RollbackStarted,
    UndoStarted,
    StepUndone,
    RolledBack,
    RollbackFailed,
    RerunRequested,
)
