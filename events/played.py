"""What can happen to a playbook, and what can be asked of it.  The rules stand in `events/playbook.py`.

It is long because it is one list: everything that can be said of a playbook.
"""

from typing import Any, Literal

from events.errors import Problem
from events.message import Command, Event, Message
from events.phases import Definition, Kind

SCHEMA_VERSION = 1
"""Of what a checkpoint holds."""
Ended = Literal["completed", "failed", "cancelled", "timed_out"]
Reason = Literal["start", "step", "timer", "command"]
"""Why a checkpoint is made."""
CellStatus = Literal["pending", "running", "completed", "failed", "cancelled", "timed_out", "skipped"]


class Result(Message):
    """How a step ended, and what it left."""

    step: str
    run: int = 1
    status: Ended
    execution_id: str | None = None
    plan_id: str | None = None
    playbook_id: str | None = None
    exit_code: int | None = None
    error: Problem | None = None
    outputs: dict[str, Any] = {}
    artifacts: tuple[str, ...] = ()
    """Ids of what it left."""
    duration_ms: int | None = None


class Cell(Message):
    """One step as it stands."""

    step: str = ""
    phase_id: str = ""
    status: CellStatus = "pending"
    run: int = 0
    """Which run of it that is; 0 before the first."""
    result: Result | None = None
    reason: str = ""
    """Why it was skipped."""
    started_at: str | None = None
    ended_at: str | None = None


class Summary(Message):
    """What was said at the end of a phase."""

    phase_id: str
    summary: str
    artifacts: tuple[str, ...] = ()
    by: str = "playbook"


class Memory(Message, omit_defaults=False):
    """What a checkpoint holds: all that has to be known to go on from there."""

    schema_version: int = SCHEMA_VERSION
    playbook_id: str = ""
    name: str = ""
    version: str = ""
    position: int = 0
    """The last event that is in it, in the log."""
    at: int = 0
    """How many steps of the row are behind it."""
    params: dict[str, Any] = {}
    cells: tuple[Cell, ...] = ()
    """The steps that are behind it."""
    summaries: tuple[Summary, ...] = ()
    """What was said of the phases that are over."""
    blobs: dict[str, str] = {}
    """What steps left in `$HINDBRAIN_CHECKPOINT`: the SHA-256 of each, in the object store `BRAIN_BLOBS`."""


class Mark(Message):
    """How a phase stands after something went back."""

    phase_id: str
    status: Literal["pending", "completed"]


class Parent(Message):
    """The playbook that a playbook is a step of."""

    playbook_id: str
    step: str
    run: int


class Fork(Message):
    """Where a playbook branched off."""

    playbook_id: str
    checkpoint_id: str
    set: dict[str, Any] = {}
    """Parameters that are other than there."""


# ---- what happened ---------------------------------------------------------------------------------------


class Initialized(Event):
    """There is a run of a playbook."""

    definition: Definition
    params: dict[str, Any] = {}
    digest: str = ""
    """A hash of the request, by which a repeat is told from another wish under the same key."""
    taken_by: str = ""
    """The node that took the command; it keeps the values of secrets."""
    workspace_path: str | None = None
    """The folder of its workspace, when that does not lie under the data folder."""
    progress_log_path: str = ""
    """Where its story is told for people; a relative path is below the data folder of a node."""
    feature_list_path: str = ""
    """Where its steps are listed, each with whether it is done."""
    intent_instance_id: str | None = None
    supports_resume: bool = True
    """Whether checkpoints are made."""
    parent: Parent | None = None
    fork: Fork | None = None


class PhaseStarted(Event):
    """A phase begins."""

    phase_id: str


class PhaseEnded(Event):
    """A phase is over."""

    phase_id: str
    status: Literal["completed", "failed", "cancelled"]


class StepStarted(Event):
    """A step starts, for the n-th time."""

    phase_id: str
    step: str
    run: int
    does: Kind
    until: str | None = None
    """When a sleep is over, or an answer has to be there."""


class StepSkipped(Event):
    """A step is passed over, because its condition does not hold."""

    phase_id: str
    step: str
    reason: str = "when"


class StepEnded(Event):
    """A step is over."""

    phase_id: str
    step: str
    run: int
    status: Ended
    execution_id: str | None = None
    plan_id: str | None = None
    playbook_id: str | None = None
    exit_code: int | None = None
    error: Problem | None = None
    outputs: dict[str, Any] = {}
    artifacts: tuple[str, ...] = ()
    duration_ms: int | None = None


class InputRequested(Event):
    """Somebody is asked something."""

    phase_id: str
    step: str
    run: int
    message: str
    schema: dict[str, Any] = {}
    deadline: str | None = None


class InputReminded(Event):
    """Nobody has answered yet."""

    step: str
    run: int
    count: int


class InputAnswered(Event):
    """Somebody answered, or the time was up and the default holds."""

    step: str
    run: int
    value: Any = None
    answered_by: str = ""


class InputExpired(Event):
    """Nobody answered in time."""

    step: str
    run: int


class PhaseSummary(Event):
    """What came of a phase is summed up; said again, the last one holds."""

    phase_id: str
    summary: str
    artifacts: tuple[str, ...] = ()
    intent_instance_id: str | None = None
    written_by: str = "playbook"
    """`playbook`, or whoever wrote it."""


class CheckpointCreated(Event):
    """All that has to be known to go on from here lies in the object store, under its checksum."""

    checkpoint_id: str
    reason: Reason
    at: int
    """How many steps are behind it."""
    phase_id: str | None = None
    step: str | None = None
    """The last step that is in it."""
    checksum: str
    """The SHA-256 of what is stored."""
    size: int
    """Bytes that are stored."""
    raw_size: int
    """Bytes before they were compressed."""
    compression: str = "zstd"
    schema_version: int = SCHEMA_VERSION
    position: int = 0
    """The last event that is in it, in the log."""


class Paused(Event):
    """Nothing more is started until it is resumed; what runs goes on."""

    reason: str | None = None
    step: str | None = None
    """The step that failed, if one did."""
    error: Problem | None = None
    checkpoint_id: str | None = None
    """From where it would go on."""


class Resumed(Event):
    """It goes on."""

    checkpoint_id: str | None = None
    memory: Memory | None = None
    """What it goes on from, where that is not where it stood."""
    again: tuple[str, ...] = ()
    """Steps that are to be done because of that, whether they were before or not."""
    phases: tuple[Mark, ...] = ()
    """How the phases stand because of that."""


class CancelRequested(Event):
    """Nothing more is started, and what runs is to be stopped."""

    reason: str | None = None
    grace_ms: int | None = None


class Completed(Event):
    """It ended well."""


class Failed(Event):
    """It ended badly."""

    error: Problem


class Cancelled(Event):
    """It was stopped on request."""

    error: Problem


# ---- what can be asked -----------------------------------------------------------------------------------


class Initialize(Command):
    """Do this."""

    initialized: Initialized
    memory: Memory | None = None
    """What a fork knows from its beginning."""
    now_ms: int


class Advance(Command):
    """A step ended."""

    ended: Result
    now_ms: int


class Tick(Command):
    """See what is due."""

    now_ms: int


class Save(Command):
    """A checkpoint is stored."""

    checkpoint: CheckpointCreated
    now_ms: int


class Answer(Command):
    """Answer what somebody was asked; whether it fits the schema was looked at before."""

    value: Any = None
    by: str = ""
    step: str | None = None
    """Which question, unless it is the one that waits."""
    now_ms: int


class Summarize(Command):
    """Sum up a phase, in place of what was said at its end."""

    phase_id: str
    summary: str
    artifacts: tuple[str, ...] = ()
    by: str = ""


class Pause(Command):
    """Start nothing more until it is resumed."""

    reason: str | None = None


class Resume(Command):
    """Go on, from where it stands or from a checkpoint."""

    checkpoint_id: str | None = None
    memory: Memory | None = None
    """What that checkpoint holds."""
    now_ms: int


class Cancel(Command):
    """Start nothing more, and stop what runs."""

    reason: str | None = None
    grace_ms: int | None = None
    now_ms: int


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = (
    Initialized
    | PhaseStarted
    | PhaseEnded
    | StepStarted
    | StepSkipped
    | StepEnded
    | InputRequested
    | InputReminded
    | InputAnswered
    | InputExpired
    | PhaseSummary
    | CheckpointCreated
    | Paused
    | Resumed
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
)
AnyCommand = Initialize | Advance | Tick | Save | Answer | Summarize | Pause | Resume | Cancel | Look
EVENTS = (
    Initialized,
    PhaseStarted,
    PhaseEnded,
    StepStarted,
    StepSkipped,
    StepEnded,
    InputRequested,
    InputReminded,
    InputAnswered,
    InputExpired,
    PhaseSummary,
    CheckpointCreated,
    Paused,
    Resumed,
    CancelRequested,
    Completed,
    Failed,
    Cancelled,
)
