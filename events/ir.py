"""A task as everybody can say it, whatever runs it: the intermediate representation between engines.

A task has phases in a row.  Each names the engine that shall do it (`playbook:<name>`,
`mcp:<server>/<tool>`, `plan:<template>`, `job:<plugin>:<type>`, `remote:<url>`) and what that is given.  In
`values`, `${steps.<phase>.outputs.<key>}` is what an earlier phase left.
"""

import re
from typing import Any, Literal

from events.errors import Validation
from events.ids import TOKEN
from events.spec import Strict

TaskStatus = Literal["pending", "running", "paused", "done", "failed", "cancelled"]
PhaseStatus = Literal["pending", "running", "paused", "done", "failed", "cancelled", "skipped"]
BEHIND = ("done", "skipped")
"""Of a phase that needs no engine any more."""
ENDS = ("done", "failed", "cancelled")
PHASES_MOST = 1000
ENGINE = re.compile(r"([a-z][a-z0-9_-]{0,63}):(\S{1,500})")

WORDS: dict[str, TaskStatus] = {
    **dict.fromkeys(("pending", "todo", "open", "new", "queued", "created", "scheduled"), "pending"),
    **dict.fromkeys(("running", "working", "in_progress", "started", "active", "submitted"), "running"),
    **dict.fromkeys(("paused", "input_required", "waiting", "waiting_input", "blocked", "held"), "paused"),
    **dict.fromkeys(("done", "completed", "complete", "success", "succeeded", "closed", "finished"), "done"),
    **dict.fromkeys(("failed", "error", "failure", "timed_out", "timeout", "lost"), "failed"),
    **dict.fromkeys(("cancelled", "canceled", "aborted", "stopped", "skipped"), "cancelled"),
}
"""What others call a status; inside there are only the words of `TaskStatus`."""


class ArtifactReference(Strict):
    """An artifact that belongs to a task."""

    id: str
    name: str = ""
    phase_id: str | None = None
    """The phase that left it; of none, the task came with it."""


class ExecutionMetadata(Strict):
    """What else is known of a task: what it is called, where it came from, how it may run."""

    title: str = ""
    description: str | None = None
    labels: tuple[str, ...] = ()
    source: str = ""
    """Who had it before: `mcp`, `playbook`, the address of another Hindbrain, ..."""
    source_id: str = ""
    """What it is called there."""
    source_status: str = ""
    """The word for its status there."""
    supports_resume: bool = True
    """Whether checkpoints are made of it."""
    working_dir: str | None = None
    extra: dict[str, Any] = {}
    """All else that its source said; kept as it is."""


class PhaseIR(Strict):
    """A part of a task that one engine does."""

    id: str
    name: str = ""
    preferred_engine: str
    status: PhaseStatus = "pending"
    work: dict[str, Any] = {}
    """For `playbook:` and what may become one: the playbook, as a playbook file says it."""
    values: dict[str, Any] = {}
    """Its parameters, the arguments of the tool, or the data of the job."""
    keep: tuple[str, ...] = ()
    """Files that it leaves, as patterns in its working directory; they are kept as artifacts.

    A playbook says that of its own steps.
    """
    there: str = ""
    """For `remote:`, the engine that does it there; unsaid, `work` is run as the playbook or plan it is."""
    outputs: dict[str, Any] = {}
    """What it left for the phases after it."""
    artifacts: tuple[str, ...] = ()
    summary: str = ""
    error: dict[str, Any] | None = None
    run: int = 0
    """How often an engine was given it."""
    started_at: str | None = None
    ended_at: str | None = None


class TaskIR(Strict):
    """A task, between engines and between systems."""

    task_id: str = ""
    intent_instance_id: str | None = None
    """What it is for, in the words of whoever asks."""
    workspace_id: str = "default"
    actor_id: str = ""
    """On whose behalf."""
    current_phase: str | None = None
    status: TaskStatus = "pending"
    phases: tuple[PhaseIR, ...] = ()
    artifacts: tuple[ArtifactReference, ...] = ()
    metadata: ExecutionMetadata = ExecutionMetadata()
    created_at: str | None = None
    updated_at: str | None = None
    last_checkpoint_at: str | None = None

    def phase(self, phase_id: str) -> PhaseIR | None:
        """One of its phases."""
        return next((each for each in self.phases if each.id == phase_id), None)

    @property
    def next(self) -> PhaseIR | None:
        """The first phase that is not behind it."""
        return next((each for each in self.phases if each.status not in BEHIND), None)


class HandoffEvent(Strict):
    """A phase of a task goes from one engine to another."""

    task_ir: TaskIR
    from_engine: str
    to_engine: str
    phase_id: str
    reason: str = ""
    artifacts: tuple[str, ...] = ()
    time: str = ""


def parted(engine: str, field: str = "preferred_engine") -> tuple[str, str]:
    """Part `mcp:files/read` into `mcp` and `files/read`; `Validation` for what is no engine."""
    match = ENGINE.fullmatch(engine)
    if match is None:
        raise Validation(
            f"{engine!r} is no engine: write playbook:NAME, mcp:SERVER/TOOL, plan:TEMPLATE, "
            "job:PLUGIN:TYPE or remote:URL",
            field=field,
        )
    return match[1], match[2]


def status(word: str, field: str = "status") -> TaskStatus:
    """Read the source's word for a status as ours."""
    found = WORDS.get(re.sub(r"[\s-]+", "_", word.strip().lower()))
    if found is None:
        raise Validation(f"unknown status {word!r}: use {', '.join(TaskStatus.__args__)}", field=field)
    return found


def check(task: TaskIR) -> None:
    """Refuse a task that cannot be, whatever the engines; `Validation` names the field."""
    if not TOKEN.fullmatch(task.workspace_id):
        raise Validation(
            f"bad workspace name {task.workspace_id!r}: use a-z, 0-9, _ and -, at most 64",
            field="task.workspace_id",
        )
    if not task.phases and task.status not in ENDS:
        raise Validation("a task needs at least one phase", field="task.phases")
    if len(task.phases) > PHASES_MOST:
        raise Validation(f"a task has at most {PHASES_MOST} phases", field="task.phases")
    seen: set[str] = set()
    for at, phase in enumerate(task.phases):
        if not TOKEN.fullmatch(phase.id):
            text = f"bad phase id {phase.id!r}: use a-z, 0-9, _ and -, at most 64"
            raise Validation(text, field=f"task.phases[{at}].id")
        if phase.id in seen:
            raise Validation(f"there are two phases with the id {phase.id!r}", field=f"task.phases[{at}].id")
        seen.add(phase.id)
        parted(phase.preferred_engine, f"task.phases[{at}].preferred_engine")
