"""What can be asked of tasks, and what is answered."""

from typing import Any

from events.ir import PhaseIR, TaskIR
from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Submit(Strict):
    """Take a task on; phases that are behind it are not done again."""

    task: TaskIR
    starting_engine: str | None = None
    """Who does the next phase of it, in place of the engine that the phase prefers."""


class Import(Strict):
    """Take on tasks of another system, as that wrote them down; all of them, or none."""

    tasks: list[dict[str, Any]]
    source: str = ""
    """What that system is called."""
    workspace: str | None = None


class Handoff(Strict):
    """Give a phase to another engine; the one that has it lets go first."""

    task_id: str
    to_engine: str
    phase_id: str | None = None
    """The one that stands now when left out."""
    reason: str = ""
    work: dict[str, Any] | None = None
    """What is to be done, where that engine needs it said otherwise."""
    values: dict[str, Any] | None = None
    keep: list[str] | None = None


class Get(Strict):
    """One task."""

    task_id: str


class Wait(Strict):
    """Wait until it is over or paused."""

    task_id: str
    timeout_ms: int = 30_000


class Change(Strict):
    """One task that shall go on."""

    task_id: str


class Cancel(Strict):
    """Stop it, and what runs of it."""

    task_id: str
    reason: str | None = None


class List(Strict):
    """Tasks, newest first."""

    status: str | None = None
    """`pending running paused done failed cancelled`."""
    workspace: str | None = None
    source: str | None = None
    limit: int = 50
    before: int | None = None
    """Only those born before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Accepted(Message, omit_defaults=False):
    """A task was taken on."""

    task_id: str
    status: str
    message: str
    seq: int
    duplicate: bool = False


class Imported(Message, omit_defaults=False):
    """What became of each, in their order."""

    tasks: list[Accepted]
    seq: int


class Task(Message, omit_defaults=False):
    """One task as the doors show it."""

    task: TaskIR
    engine: str
    """Who has it, or had it last."""
    playbook_id: str | None
    """The playbook by which its phase runs."""
    problem: dict[str, Any] | None
    """Why it failed: `{code, message, details}`."""
    reason: str | None
    """Why it is paused."""
    handoffs: list[dict[str, Any]]
    """`{phase_id, from_engine, to_engine, reason, artifacts, time}`, the first one first."""
    completed_at: str | None
    seq: int


class Waited(Task, omit_defaults=False):
    """The task, and whether it is over."""

    done: bool


class Changed(Message, omit_defaults=False):
    """What a task is after a change."""

    task_id: str
    status: str
    changed: bool
    seq: int


class Handed(Changed, omit_defaults=False):
    """Who has a phase, or will have it."""

    phase: PhaseIR
    from_engine: str


class Page(Message, omit_defaults=False):
    """A page of tasks, as rows of the table."""

    tasks: list[dict[str, Any]]
    next: int | None


VERBS = (
    Verb("task", "submit", Submit, Accepted, "Take on a task: phases that go from engine to engine."),
    Verb("task", "import", Import, Imported, "Take on tasks of another system; they run as playbooks."),
    Verb("task", "handoff", Handoff, Handed, "Give a phase of a task to another engine."),
    Verb("task", "get", Get, Task, "One task with its phases and handoffs."),
    Verb("task", "wait", Wait, Waited, "The same, once it is over or paused, or the time is up."),
    Verb("task", "resume", Change, Changed, "Let a paused task go on."),
    Verb("task", "cancel", Cancel, Changed, "Stop a task."),
    Verb("task", "list", List, Page, "Tasks, newest first."),
)
