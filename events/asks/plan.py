"""What can be asked of plans and batches, and what is answered."""

from typing import Any

import msgspec

from events import spec
from events.asks.rehearse import Rehearsable
from events.asks.tree import Tree
from events.asks.tree import definition as definition
from events.errors import Validation
from events.message import Message
from events.spec import Strict
from events.steps import Definition, OnFailure, Operations
from events.verb import Verb

TIP = "Use the status tool to check progress"
PAGE_MOST = 100_000
"""Operations of one message."""


class Submit(Tree):
    """Run a plan: what a plan file says, and beside it what is needed to start it."""

    values: dict[str, Any] = {}
    """What its parameters are."""
    secrets: dict[str, str] = {}
    """Secrets of all its executions; those of one step stand in the step."""
    idempotency_key: str | None = None


class Named(Strict):
    """One plan."""

    plan_id: str


class Get(Strict):
    """One plan, by its id or by the key it was submitted with."""

    plan_id: str | None = None
    idempotency_key: str | None = None
    min_seq: int | None = None


class Wait(Strict):
    """Wait for the end."""

    plan_id: str
    timeout_ms: int = 30_000


class List(Strict):
    """Plans and batches, newest first."""

    status: str | None = None
    """`running paused completed failed cancelled`."""
    label: str | None = None
    template: str | None = None
    parent: str | None = None
    """Only plans that are steps of this one; without it those that are steps of none."""
    limit: int = 50
    before: int | None = None
    """Only those born before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Cancel(Strict):
    """Start nothing more, and stop what runs."""

    plan_id: str
    reason: str | None = None
    grace_ms: int | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Pause(Strict):
    """Start nothing more until it is resumed; what runs goes on."""

    plan_id: str
    reason: str | None = None


class Resume(Strict):
    """Go on."""

    plan_id: str


class Rerun(Strict):
    """Run steps once more: those that failed, those that are named, or one and all that come after it."""

    plan_id: str
    steps: list[str] = []
    """These, and those that depend on them."""
    from_step: str | None = None
    """This one and all that come after it; what is before it keeps its results."""
    reason: str | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Rollback(Strict):
    """Take back what was done; what still runs is cancelled first."""

    plan_id: str
    reason: str | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Result(Strict):
    """What came of the steps."""

    plan_id: str


class Batch(Strict):
    """Run the same for many items, or many times; what one message cannot hold comes with `add`."""

    do: spec.Submit
    """What is run; `${item}` and `${index}` (from 0) are filled in."""
    items: list[Any] | None = None
    count: int | None = None
    undo: spec.Submit | None = None
    """What takes back one of them."""
    open: bool = False
    """More will be added until it is sealed."""
    name: str = ""
    description: str | None = None
    max_concurrency: int | None = None
    """How many run at once; 64 when it does not say."""
    stop_on_error: bool | None = None
    """Start nothing more after a failure."""
    on_failure: OnFailure = "none"
    labels: list[str] = []
    priority: str | int | None = None
    working_dir: str | None = None
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    idempotency_key: str | None = None


class Add(Strict):
    """Add operations to a batch that is open."""

    plan_id: str
    items: list[Any] | None = None
    count: int | None = None
    offset: int | None = None
    """How many it has before these; by it a page that is sent twice is added once."""


class Seal(Strict):
    """No more operations will come."""

    plan_id: str


class Accepted(Message, omit_defaults=False):
    """A plan was stored."""

    plan_id: str
    status: str
    message: str
    monitor_url: str
    seq: int
    duplicate: bool = False
    batchId: str | msgspec.UnsetType = msgspec.UNSET  # noqa: N815  a public name
    """The same id, for a batch."""
    tip: str | msgspec.UnsetType = msgspec.UNSET


class Changed(Rehearsable, omit_defaults=False):
    """What a plan is after a change."""

    plan_id: str
    status: str
    rollback: str
    changed: bool
    seq: int
    steps: list[str] | msgspec.UnsetType = msgspec.UNSET
    """Which steps that is about: those that run again, or are taken back."""
    total: int | msgspec.UnsetType | None = msgspec.UNSET
    """How many operations a batch has by now, while more may come."""


class Stage(Message, omit_defaults=False):
    """One step as the doors show it."""

    name: str
    status: str
    """`pending running completed failed cancelled timed_out skipped`."""
    run: int
    command: str
    needs: list[str]
    when: str | None
    allow_failure: bool
    execution_id: str | None
    plan_id: str | None
    exit_code: int | None
    error: dict[str, Any] | None
    outputs: dict[str, Any]
    duration_ms: int | None
    reason: str | None
    """Why it was skipped."""
    undo: str | None
    """`none` when it can be taken back and was not, `running`, `done` or `failed`; null when it cannot be."""


class Plan(Message, omit_defaults=False):
    """One plan or batch as the doors show it."""

    id: str
    name: str
    description: str | None
    strategy: str
    status: str
    rollback: str
    """`none running done failed`."""
    over: bool
    total: int | None
    """How many steps or operations it has; null while more may come."""
    completed: int
    failed: int
    skipped: int
    running: int
    progress: str
    fraction: float | None
    max_concurrency: int
    error: dict[str, Any] | None
    rollback_error: dict[str, Any] | None
    reason: str | None
    """Why it is paused, or was cancelled."""
    labels: list[str]
    params: dict[str, Any]
    template: str | None
    version: int | None
    parent: dict[str, Any] | None
    schedule_id: str | None
    steps: list[Stage]
    failed_operations: list[int]
    """The numbers of the first 1,000 operations that failed."""
    reruns: int
    created_at: str | None
    completed_at: str | None
    elapsed_seconds: float | None
    seq: int


class One(Message, omit_defaults=False):
    """One plan."""

    plan: Plan


class Waited(Message, omit_defaults=False):
    """The plan, and whether it is over."""

    plan: Plan
    done: bool


class Page(Message, omit_defaults=False):
    """A page of plans, in short."""

    plans: list[dict[str, Any]]
    next: int | None


class Entry(Message, omit_defaults=False):
    """What came of one step; one that could not even be started has an error here."""

    step: str
    execution_id: str | None
    plan_id: str | None
    status: str
    exit_code: int | None
    error: dict[str, Any] | None
    outputs: dict[str, Any]
    duration_ms: int | None


class Outcome(Message, omit_defaults=False):
    """What came of a plan; of a batch `results` names the operations that failed, at most 1,000."""

    plan_id: str
    status: str
    success: bool
    rollback: str
    total: int
    completed: int
    failed: int
    skipped: int
    duration_ms: int | None
    error: dict[str, Any] | None
    results: list[Entry]
    seq: int


class Came(Message):
    """The result."""

    result: Outcome


def batch(ask: Batch) -> Definition:
    """The plan that a batch is."""
    for name, count in (("items", len(ask.items or ())), ("count", ask.count or 0)):
        if name == "items" and count > PAGE_MOST:
            raise Validation(f"items: at most {PAGE_MOST} in one message, add the others", field="items")
    items = ask.items
    if items is None and ask.count is None:
        if not ask.open:
            raise Validation("give items, or a count, or open a batch (open) and add them", field="items")
        items = []
    return Definition(
        name=ask.name,
        strategy="batch",
        stop_on_error=ask.stop_on_error,
        max_concurrency=ask.max_concurrency,
        on_failure=ask.on_failure,
        operations=Operations(do=ask.do, items=items, count=ask.count, undo=ask.undo),
        description=ask.description,
        labels=tuple(ask.labels),
        priority=ask.priority,
        working_dir=ask.working_dir,
        env=ask.env,
    )


VERBS = (
    Verb("plan", "submit", Submit, Accepted, "Store a plan and answer with its id at once."),
    Verb("plan", "get", Get, One, "One plan with all its steps."),
    Verb("plan", "wait", Wait, Waited, "The same, once it is over or the time is up."),
    Verb("plan", "list", List, Page, "Plans and batches, newest first."),
    Verb("plan", "cancel", Cancel, Changed, "Start nothing more of it, and stop what runs."),
    Verb("plan", "pause", Pause, Changed, "Start nothing more of it until it is resumed."),
    Verb("plan", "resume", Resume, Changed, "Let it go on."),
    Verb("plan", "rerun", Rerun, Changed, "Run steps of a plan that is over once more."),
    Verb("plan", "rollback", Rollback, Changed, "Take back what it did, the last first."),
    Verb("plan", "result", Result, Came, "What came of every step of a plan that is over."),
    Verb("batch", "submit", Batch, Accepted, "Run the same for many items, or many times."),
    Verb("batch", "add", Add, Changed, "Add operations to a batch that is open."),
    Verb("batch", "seal", Seal, Changed, "Say that no more operations will come."),
)
