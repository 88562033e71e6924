"""What can be asked through a door, and what is answered: the requests and replies of every verb.

A verb is a request on `brain.cmd.<kind>.<verb>`; the other doors offer the same table.  Requests refuse
fields that they do not know.
"""

from typing import Any, NamedTuple

import msgspec

from events.message import Message
from events.spec import Strict, Submit

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


class Cancel(Strict):
    """Stop it."""

    execution_id: str
    reason: str | None = None
    grace_ms: int | None = None


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


class Retry(Strict):
    """Do it again, as a new execution."""

    execution_id: str
    secrets: dict[str, str] = {}
    idempotency_key: str | None = None


class Events(Strict):
    """The facts of one execution."""

    execution_id: str
    after_seq: int = 0
    limit: int = 1000


class Sql(Strict):
    """Ask the tables."""

    sql: str
    params: list[Any] | dict[str, Any] | None = None
    seq: int | None = None
    """As of this sequence, including that event."""
    at: str | None = None
    """As of this time (RFC 3339)."""
    min_seq: int | None = None
    limit: int = 1000
    timeout_ms: int = 5000


class Nothing(Strict):
    """No arguments."""


class Fail(Strict):
    """Make an actor fail at its next message; only where the fault switch is on."""

    name: str


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


class One(Message):
    """One execution."""

    execution: Execution


class Waited(Message, omit_defaults=False):
    """The execution, and whether it is over."""

    execution: Execution
    done: bool


class Stopped(Message, omit_defaults=False):
    """What a cancellation did."""

    execution_id: str
    status: str
    changed: bool
    seq: int


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


class Column(Message):
    """A column of an answer."""

    name: str
    type: str


class Table(Message, omit_defaults=False):
    """The answer to a query; `truncated` when there were more rows than asked for."""

    columns: list[Column]
    rows: list[list[Any]]
    seq: int
    truncated: bool


class Census(Message):
    """All actors of a node."""

    actors: list[dict[str, Any]]


class Report(Message):
    """A node and what it can do, by name."""

    node: dict[str, Any]


class Down(Strict):
    """Stop this node."""

    wait_seconds: float | None = None
    """Let running commands end for so long first; without it they run on and the next node adopts them."""
    cancel: bool = False
    """Cancel what runs."""


class Going(Message):
    """The node is going down."""

    node: str


class Rebuilt(Message):
    """The tables were folded again from their copy of the log."""

    seq: int
    events: int
    seconds: float


class Difference(Message):
    """A place where the tables are not what the log says."""

    table: str
    key: str
    text: str


class Verified(Message, omit_defaults=False):
    """What is wrong with the tables; nothing is good."""

    differences: list[Difference]
    seq: int


class Failing(Message):
    """Which actor will fail at its next message."""

    name: str


class Verb(NamedTuple):
    """One line of the table below."""

    kind: str
    name: str
    request: type[Strict]
    reply: type[Message]
    text: str


VERBS = (
    Verb("execution", "submit", Submit, Accepted, "Store a command and answer with its id at once."),
    Verb("execution", "get", Get, One, "One execution with its state, progress and result."),
    Verb("execution", "wait", Wait, Waited, "The same, once it is over or the time is up."),
    Verb("execution", "cancel", Cancel, Stopped, "Stop it: TERM, grace, KILL for its whole process tree."),
    Verb("execution", "result", Result, Came, "Exit code and output of an execution that is over."),
    Verb("execution", "logs", Logs, Output, "Output from an offset on."),
    Verb("execution", "list", List, Page, "Executions, newest first."),
    Verb("execution", "retry", Retry, Accepted, "Run the same again as a new execution."),
    Verb("execution", "events", Events, Rows, "The facts of one execution."),
    Verb("query", "sql", Sql, Table, "A read-only query over the tables, now or as of any past moment."),
    Verb("query", "rebuild", Nothing, Rebuilt, "Fold all tables again from the stored events."),
    Verb(
        "query",
        "verify",
        Nothing,
        Verified,
        "Compare all tables with the stored events; check their chain.",
    ),
    Verb("node", "info", Nothing, Report, "What this node is, and which languages it can run."),
    Verb("node", "down", Down, Going, "Stop the node in good order."),
    Verb("actor", "list", Nothing, Census, "All actors with mailbox length, age and restarts."),
    Verb(
        "actor", "fail", Fail, Failing, "Make an actor fail at its next message (with the fault switch on)."
    ),
)
