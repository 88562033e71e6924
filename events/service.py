"""What can be asked through a door, and what is answered: the requests and replies of every verb.

A verb is a request on `brain.cmd.<kind>.<verb>`; the other doors offer the same table.  Requests refuse
fields that they do not know.
"""

from typing import Any

import msgspec

from events.asks import (
    artifact,
    dead,
    decision,
    limit,
    log,
    module,
    node,
    plan,
    playbook,
    schedule,
    tables,
    task,
    template,
    threads,
)
from events.asks import why as whys
from events.asks.dead import Again as Again
from events.asks.dead import Refused as Refused
from events.asks.node import Census as Census
from events.asks.node import Down as Down
from events.asks.node import Fail as Fail
from events.asks.node import Failing as Failing
from events.asks.node import Going as Going
from events.asks.node import Report as Report
from events.asks.rehearse import Rehearsable
from events.asks.tables import Column as Column
from events.asks.tables import Difference as Difference
from events.asks.tables import Nothing as Nothing
from events.asks.tables import Rebuilt as Rebuilt
from events.asks.tables import Sql as Sql
from events.asks.tables import Table as Table
from events.asks.tables import Verified as Verified
from events.message import Message
from events.spec import Strict, Submit
from events.verb import Verb as Verb

MESSAGE = "Execution queued. Check monitor for output."


class Named(Strict):
    """One execution."""

    execution_id: str


class Get(Strict):
    """One execution, by its id or by the key it was submitted with."""

    execution_id: str | None = None
    idempotency_key: str | None = None
    min_seq: int | None = None


class Wait(Strict):
    """Wait for the end."""

    execution_id: str
    timeout_ms: int = 30_000


class Result(Strict):
    """What came out."""

    execution_id: str
    max_bytes: int = 262_144


class Logs(Strict):
    """Read output from an offset on."""

    execution_id: str
    stream: str = "both"
    offset: int = 0
    max_bytes: int = 262_144
    encoding: str = "text"


class List(Strict):
    """Executions, newest first."""

    status: str | None = None
    module: str | None = None
    label: str | None = None
    plan_id: str | None = None
    limit: int = 50
    before: int | None = None
    """Only those born before this sequence: `next` of the page before."""


class Where(Strict):
    """Which executions; what is not named does not matter."""

    status: str | None = None
    label: str | None = None
    plan_id: str | None = None
    module: str | None = None


class Cancel(Strict):
    """Stop one by its id, or all that `where` fits, of those that are not over."""

    execution_id: str | None = None
    where: Where | None = None
    limit: int = 100
    """How many at most; the newest come first."""
    reason: str | None = None
    grace_ms: int | None = None
    min_seq: int | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Retry(Strict):
    """Do it again, as a new execution: one by its id, or all that `where` fits, of those that are over."""

    execution_id: str | None = None
    where: Where | None = None
    limit: int = 100
    """How many at most; the newest come first."""
    secrets: dict[str, str] = {}
    idempotency_key: str | None = None
    min_seq: int | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Reorder(Strict):
    """Change the place of an execution that waits."""

    execution_id: str
    priority: str | int | None = None
    to: str | None = None
    """`first` or `last` of its level."""
    from_seq: int = 0
    """With `first`: before those only that were queued after this event."""


class Events(Strict):
    """The facts of one execution."""

    execution_id: str
    after_seq: int = 0
    limit: int = 1000


class Accepted(Message, omit_defaults=False):
    """A command was stored."""

    execution_id: str
    status: str
    message: str
    monitor_url: str
    seq: int
    duplicate: bool = False
    retry_of: str | msgspec.UnsetType = msgspec.UNSET


class Held(Message, omit_defaults=False):
    """What it waits for."""

    reason: str
    by: str
    until: str | None = None


class Detail(Message, omit_defaults=False):
    """Progress in numbers."""

    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None
    fraction: float | None = None
    eta_ms: int | None = None
    estimated: bool = False


class Outcome(Message, omit_defaults=False):
    """The result of one execution; `exit_code` is -1 when there is none."""

    execution_id: str
    exit_code: int
    signal: str | None
    success: bool
    stdout: str
    stderr: str
    truncated: bool
    duration_ms: int | None
    log_path: str | None
    error: dict[str, Any] | None
    stdout_sha256: str | None = None
    stderr_sha256: str | None = None
    value: Any = None
    """What a job returned."""


class Execution(Message, omit_defaults=False):
    """One execution as the doors show it."""

    id: str
    status: str
    description: str | None
    command: str
    started: str | None
    elapsed_seconds: float | None
    progress: str | None
    progress_detail: Detail | None
    last_output: str | None
    exit_code: int | None
    attempt: int
    node: str | None
    result: Outcome | None
    error: dict[str, Any] | None
    created_at: str | None
    started_at: str | None
    completed_at: str | None
    seq: int
    module: str
    priority: str
    labels: list[str]
    language: str | None
    signal: str | None
    reason: str | None
    held: Held | None
    log_path: str | None
    stdout_bytes: int
    stderr_bytes: int
    retry_of: str | None
    plan_id: str | None = None
    playbook_id: str | None = None
    step: str | None = None
    """Which step of the plan or the playbook it is."""
    attempts_failed: int | None = None
    """How many attempts failed or were lost."""
    retries: int | None = None
    """How many attempts may follow the first one."""
    why: str | None = None
    """Why it stands where it stands, in a sentence."""


class One(Message):
    """One execution."""

    execution: Execution


class Waited(Message, omit_defaults=False):
    """The execution, and whether it is over."""

    execution: Execution
    done: bool


class Stopped(Rehearsable, omit_defaults=False):
    """What a cancellation did to one execution; or to many, in `cancelled`."""

    seq: int
    execution_id: str | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET
    changed: bool | msgspec.UnsetType = msgspec.UNSET
    cancelled: list[str] | msgspec.UnsetType = msgspec.UNSET
    """Which of many were stopped, or were asked to."""
    refused: list[Refused] | msgspec.UnsetType = msgspec.UNSET


class Reordered(Message, omit_defaults=False):
    """Where it stands now."""

    execution_id: str
    status: str
    priority: str
    changed: bool
    passed: int
    """How many were put behind it, each of which says so in the log."""
    seq: int


class Retried(Rehearsable, omit_defaults=False):
    """One execution runs again, answered like a submission; or many, in `retried`."""

    seq: int
    execution_id: str | msgspec.UnsetType = msgspec.UNSET
    status: str | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    monitor_url: str | msgspec.UnsetType = msgspec.UNSET
    duplicate: bool | msgspec.UnsetType = msgspec.UNSET
    retry_of: str | msgspec.UnsetType = msgspec.UNSET
    retried: list[Again] | msgspec.UnsetType = msgspec.UNSET
    refused: list[Refused] | msgspec.UnsetType = msgspec.UNSET


class Came(Message):
    """The result."""

    result: Outcome


class Piece(Message):
    """A piece of output; `base64` in place of `text` when that was asked for."""

    stream: str
    offset: int
    time: str | None = None
    text: str | None = None
    base64: str | None = None


class Output(Message, omit_defaults=False):
    """Output; `end` once the execution is over and there is no more."""

    chunks: list[Piece]
    next_offset: int
    end: bool


class Page(Message, omit_defaults=False):
    """A page of executions."""

    executions: list[dict[str, Any]]
    next: int | None


class Row(Message, omit_defaults=False):
    """One fact with its envelope."""

    seq: int
    id: str
    time: str
    kind: str
    entity: str
    n: int
    event: str
    cause: str
    by: str
    prev: str
    trace: str
    data: msgspec.Raw


class Rows(Message):
    """Facts, oldest first."""

    events: list[Row]


VERBS: tuple[Verb, ...] = (
    Verb("execution", "submit", Submit, Accepted, "Store a command and answer with its id at once."),
    Verb("execution", "get", Get, One, "One execution with its state, progress and result."),
    Verb("execution", "wait", Wait, Waited, "The same, once it is over or the time is up."),
    Verb("execution", "cancel", Cancel, Stopped, "Stop one or many: TERM, grace, KILL for the whole tree."),
    Verb("execution", "result", Result, Came, "Exit code and output of an execution that is over."),
    Verb("execution", "logs", Logs, Output, "Output from an offset on."),
    Verb("execution", "list", List, Page, "Executions, newest first."),
    Verb("execution", "retry", Retry, Retried, "Run one or many again, each as a new execution."),
    Verb("execution", "reorder", Reorder, Reordered, "Change the priority of one that waits, or its place."),
    Verb("execution", "events", Events, Rows, "The facts of one execution."),
    *tables.VERBS,
    *whys.VERBS,
    *log.VERBS,
    *node.VERBS,
    *dead.VERBS,
    *limit.VERBS,
    *schedule.VERBS,
    *plan.VERBS,
    *template.VERBS,
    *module.VERBS,
    *threads.VERBS,
    *decision.VERBS,
    *artifact.VERBS,
    *playbook.VERBS,
    *task.VERBS,
)
