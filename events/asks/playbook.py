"""What can be asked of playbooks, and what is answered."""

from typing import Any

import msgspec

from events.asks.book import Book
from events.asks.book import definition as definition
from events.message import Message
from events.spec import Strict
from events.verb import Verb

TOKENS = 4000
"""Tokens of a context when nobody says how many; a token is three bytes of UTF-8."""


class Run(Book):
    """Run a playbook: what a playbook file says, and beside it what is needed to start it."""

    values: dict[str, Any] = {}
    """What its parameters are."""
    secrets: dict[str, str] = {}
    """Secrets of all its executions; those of one step stand in the step."""
    idempotency_key: str | None = None
    intent_instance_id: str | None = None
    """What it is for, in the words of whoever asks."""
    supports_resume: bool = True
    """Whether checkpoints are made of it."""


class Get(Strict):
    """One playbook, by its id or by the key it was started with."""

    playbook_id: str | None = None
    idempotency_key: str | None = None


class Wait(Strict):
    """Wait until it is over or paused."""

    playbook_id: str
    timeout_ms: int = 30_000


class List(Strict):
    """Playbooks, newest first."""

    status: str | None = None
    """`running paused waiting_input completed failed cancelled`."""
    name: str | None = None
    workspace: str | None = None
    parent: str | None = None
    """Only those that are steps of this one; without it those that are steps of none."""
    fork_of: str | None = None
    """Only those that branched off from this one."""
    limit: int = 50
    before: int | None = None
    """Only those born before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Pause(Strict):
    """Start nothing more until it is resumed; what runs goes on."""

    playbook_id: str
    reason: str | None = None


class Resume(Strict):
    """Go on: from where it stands, or from a checkpoint."""

    playbook_id: str
    checkpoint_id: str | None = None
    """The last one when left out; what came after it is done again."""


class Cancel(Strict):
    """Start nothing more, and stop what runs."""

    playbook_id: str
    reason: str | None = None
    grace_ms: int | None = None


class Answer(Strict):
    """Answer what it asks; the first answer that fits the schema wins."""

    playbook_id: str
    value: Any = None
    step: str | None = None
    """Which question; the one that waits when left out."""
    by: str | None = None
    """Who answers."""


class Branch(Strict):
    """Begin another run that shares the past of this one up to a checkpoint."""

    playbook_id: str
    checkpoint_id: str | None = None
    """The last one when left out."""
    set: dict[str, Any] = {}
    """Parameters that are to be other than there."""
    secrets: dict[str, str] = {}
    idempotency_key: str | None = None


class Checkpoint(Strict):
    """Make a checkpoint now."""

    playbook_id: str


class Validate(Strict):
    """Read a checkpoint and see whether it is whole."""

    playbook_id: str
    checkpoint_id: str | None = None
    """The last one when left out."""
    data: bool = False
    """Whether to answer what it holds."""


class Named(Strict):
    """One playbook."""

    playbook_id: str


class Summarize(Strict):
    """Sum up a phase, in place of what was said at its end."""

    playbook_id: str
    phase_id: str
    summary: str
    artifacts: list[str] = []
    by: str | None = None
    """Who says so."""


class Context(Strict):
    """What somebody who goes on with it has to know, within a budget."""

    playbook_id: str
    max_tokens: int = TOKENS
    """A token is three bytes of UTF-8, the last one may be less."""


class Diff(Strict):
    """What is different between two runs."""

    playbook_id: str
    other_id: str


class Accepted(Message, omit_defaults=False):
    """A playbook was stored."""

    playbook_id: str
    status: str
    message: str
    monitor_url: str
    seq: int
    duplicate: bool = False
    fork_of: str | msgspec.UnsetType = msgspec.UNSET
    checkpoint_id: str | msgspec.UnsetType = msgspec.UNSET


class Asked(Message, omit_defaults=False):
    """A question that waits for an answer."""

    step: str
    message: str
    schema: dict[str, Any]
    asked_at: str
    deadline: str | None
    reminders: int


class Stage(Message, omit_defaults=False):
    """One step as it stands."""

    phase_id: str
    name: str
    does: str
    """`execution plan playbook sleep input`."""
    status: str
    run: int
    command: str
    execution_id: str | None
    plan_id: str | None
    playbook_id: str | None
    exit_code: int | None
    error: dict[str, Any] | None
    outputs: dict[str, Any]
    artifacts: list[str]
    reason: str | None
    until: str | None
    started_at: str | None
    ended_at: str | None
    duration_ms: int | None


class Playbook(Message, omit_defaults=False):
    """One playbook as the doors show it."""

    id: str
    name: str
    version: str
    description: str | None
    status: str
    workspace_id: str
    phase: str | None
    """The phase it is in."""
    step: str | None
    """The step that runs, or comes next."""
    completed: int
    """How many steps are behind it."""
    total: int
    params: dict[str, Any]
    phases: list[dict[str, Any]]
    """`{id, name, status, started_at, summary}`."""
    steps: list[Stage]
    asked: Asked | None
    pause: dict[str, Any] | None
    """Why it is paused: `{reason, step, error, checkpoint_id}`."""
    error: dict[str, Any] | None
    last_checkpoint: dict[str, Any] | None
    checkpoints: int
    supports_resume: bool
    intent_instance_id: str | None
    parent: dict[str, Any] | None
    fork: dict[str, Any] | None
    """Where it branched off: `{playbook_id, checkpoint_id, set}`."""
    progress_log_path: str | None
    feature_list_path: str | None
    created_at: str | None
    updated_at: str | None
    completed_at: str | None
    elapsed_seconds: float | None
    seq: int


class One(Message):
    """One playbook."""

    playbook: Playbook


class Waited(Message, omit_defaults=False):
    """The playbook, and whether it is over."""

    playbook: Playbook
    done: bool


class Page(Message, omit_defaults=False):
    """A page of playbooks, as rows of the table."""

    playbooks: list[dict[str, Any]]
    next: int | None


class Changed(Message, omit_defaults=False):
    """What a playbook is after a change."""

    playbook_id: str
    status: str
    changed: bool
    seq: int
    checkpoint_id: str | None = None
    """From where it goes on, or would."""


class Saved(Message, omit_defaults=False):
    """A checkpoint was made."""

    playbook_id: str
    checkpoint_id: str
    checksum: str
    size: int
    raw_size: int
    at: int
    position: int
    schema_version: int
    seq: int


class Valid(Message, omit_defaults=False):
    """Whether a checkpoint is whole; if not, why, and which one before it is."""

    playbook_id: str
    checkpoint_id: str
    valid: bool
    problem: dict[str, Any] | None = None
    previous: str | None = None
    data: dict[str, Any] | None = None


class Checkpoints(Message):
    """All checkpoints of a playbook, the first one first."""

    checkpoints: list[dict[str, Any]]
    seq: int


class Summaries(Message):
    """What was said at the end of each phase, in their order."""

    summaries: list[dict[str, Any]]
    seq: int


class Known(Message, omit_defaults=False):
    """What has to be known, newest and failures first, and how many tokens that is."""

    playbook_id: str
    context: str
    tokens: int
    max_tokens: int
    seq: int


class Bearings(Message, omit_defaults=False):
    """Where it stands: what is done, what failed, what is next, and what there is."""

    playbook_id: str
    status: str
    phase: str | None
    done: list[str]
    failed: list[dict[str, Any]]
    """`{step, status, error}`."""
    next: str | None
    asked: Asked | None
    artifacts: list[dict[str, Any]]
    """`{id, name, size, phase_id}`."""
    features: list[dict[str, Any]]
    """`{id, description, status, passes}`: what `playbook_feature_list.json` says."""
    summary: str
    """Where it stands in a sentence, and the last summary."""
    checkpoint_id: str | None
    progress_log_path: str | None
    feature_list_path: str | None
    seq: int


class Difference(Message, omit_defaults=False):
    """What is different: `{step, field, a, b}` for each; times where they differ by more than a tenth."""

    a: str
    b: str
    same: bool
    params: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    artifacts: list[dict[str, Any]]
    times: list[dict[str, Any]]


VERBS = (
    Verb("playbook", "run", Run, Accepted, "Store a playbook and answer with its id at once."),
    Verb("playbook", "get", Get, One, "One playbook with all its steps."),
    Verb("playbook", "wait", Wait, Waited, "The same, once it is over or paused, or the time is up."),
    Verb("playbook", "list", List, Page, "Playbooks, newest first."),
    Verb("playbook", "pause", Pause, Changed, "Start nothing more until it is resumed."),
    Verb("playbook", "resume", Resume, Changed, "Go on, from where it stands or from a checkpoint."),
    Verb("playbook", "cancel", Cancel, Changed, "Start nothing more, and stop what runs."),
    Verb("playbook", "answer", Answer, Changed, "Answer a question; the first answer that fits wins."),
    Verb("playbook", "fork", Branch, Accepted, "Begin a run that shares the past up to a checkpoint."),
    Verb("playbook", "checkpoint", Checkpoint, Saved, "Make a checkpoint now."),
    Verb("playbook", "checkpoints", Named, Checkpoints, "All checkpoints of a playbook."),
    Verb("playbook", "validate", Validate, Valid, "See whether a checkpoint is whole."),
    Verb("playbook", "summarize", Summarize, Changed, "Sum up a phase."),
    Verb("playbook", "summaries", Named, Summaries, "What was said at the end of each phase."),
    Verb("playbook", "context", Context, Known, "What whoever goes on has to know, within a budget."),
    Verb("playbook", "bearings", Named, Bearings, "Where it stands, in one answer."),
    Verb("playbook", "diff", Diff, Difference, "What is different between two runs."),
)
