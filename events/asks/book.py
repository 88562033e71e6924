"""A playbook as people write it, in a request or in a file: what a step runs stands beside its name."""

from typing import Any

import msgspec

from events import phases, spec
from events.asks import tree
from events.errors import Validation
from events.params import Param
from events.phases import Definition, Input, OnError, Phase, Step, Tool
from events.spec import Strict


class Book(Strict):
    """A playbook: phases in a row, each made of steps in a row."""

    name: str = ""
    version: str | int | float | None = None
    description: str | None = None
    workspace: str | None = None
    """The folder that it shares with others; `default` when left out."""
    params: dict[str, Param] = {}
    """What has to be given, or can be, when it starts."""
    phases: "list[Part]" = []
    checkpoint_every: str | None = None
    """How often a checkpoint is made inside of a long step, such as `5m`; after each step in any case."""
    on_error: OnError = "pause"
    """A step that fails leaves it paused, to be resumed; or with `fail` it has failed."""
    labels: list[str] = []
    """Of all that it runs."""
    priority: str | int | None = None
    """Of all that it runs and that does not name one."""
    working_dir: str | None = None
    """Of all that it runs and that does not name one."""
    env: dict[str, str] = {}
    """Of all that it runs."""
    git: bool = False
    """Whether its working directory becomes a git repository with a first commit, unless it is one."""
    metadata: dict[str, Any] = {}
    """What others note about it; kept as it is."""


class Part(Strict):
    """A phase: steps that belong together; its end is summed up."""

    id: str
    name: str = ""
    summary: str | None = None
    """What is said at its end, with `${steps.<name>.outputs.<key>}` in it; unsaid, what its steps did."""
    steps: "list[Task]" = []


class Task(spec.Submit):
    """A step: a command with what stands beside it; or a plan, a playbook, a question or a sleep."""

    name: str
    when: str | None = None
    """A condition, such as `steps.lint.status == 'completed'`; else the step is skipped."""
    allow_failure: bool = False
    """Where it fails, the playbook goes on as if it had not."""
    artifacts: list[str] = []
    """Files that it leaves, as patterns in its working directory: they are kept as artifacts."""
    mcp: Tool | None = None
    """A tool of an MCP server that is called in place of a command; the settings name the servers."""
    plan: tree.Tree | None = None
    """A plan that runs in place of a command."""
    playbook: Book | None = None
    """A playbook that runs in place of a command."""
    values: dict[str, Any] = {}
    """What the parameters of that plan or playbook are."""
    input: Input | None = None
    """Somebody is asked, and it goes on with the answer, which is in `outputs.answer`."""
    sleep: str | None = None
    """It goes on after so long, such as `3d`; nothing runs meanwhile."""


_BARE = {name: getattr(spec.Submit(), name) for name in spec.Submit.__struct_fields__}
_BESIDE = ("description", "labels", "priority", "working_dir", "env")
"""What may stand beside a plan and a playbook too."""


def definition(book: Book) -> Definition:
    """The playbook that is meant; `Validation` where that cannot be said."""
    made: list[Phase] = []
    for at, part in enumerate(book.phases):
        steps = tuple(_step(task, f"phases[{at}].steps[{place}]") for place, task in enumerate(part.steps))
        made.append(Phase(id=part.id, name=part.name, summary=part.summary, steps=steps))
    return Definition(
        name=book.name,
        version="" if book.version is None else str(book.version),
        description=book.description,
        workspace=book.workspace or "default",
        params=book.params,
        phases=tuple(made),
        checkpoint_every=book.checkpoint_every,
        on_error=book.on_error,
        labels=tuple(book.labels),
        priority=book.priority,
        working_dir=book.working_dir,
        env=book.env,
        git=book.git,
        metadata=book.metadata,
    )


def _step(task: Task, field: str) -> Step:
    fields = {name: getattr(task, name) for name in spec.Submit.__struct_fields__}
    form = any(fields[name] is not None for name in spec.FORMS)
    if task.mcp is not None:
        if form:
            raise Validation("mcp is given beside a command: keep one", field=f"{field}.mcp")
        fields["exec"], form = task.mcp.call(task.mcp.arguments), True
    said = [name for name in fields if name not in _BESIDE and fields[name] != _BARE[name]]
    if not form and said:
        raise Validation(f"{said[0]} is for a command, and this step runs none", field=f"{field}.{said[0]}")
    plan = playbook = None
    if task.plan is not None:
        plan = _inside(tree.definition, task.plan, f"{field}.plan")
        plan = _beside(plan, task)
    if task.playbook is not None:
        playbook = _inside(definition, task.playbook, f"{field}.playbook")
        playbook = _beside(playbook, task)
    return Step(
        name=task.name,
        do=spec.Submit(**fields) if form else None,
        mcp=task.mcp,
        plan=plan,
        playbook=playbook,
        values=task.values,
        sleep=task.sleep,
        input=task.input,
        when=task.when,
        allow_failure=task.allow_failure,
        artifacts=task.artifacts,
        description=task.description,
    )


def _beside(inner: Any, task: Task) -> Any:
    return msgspec.structs.replace(
        inner,
        description=inner.description if inner.description is not None else task.description,
        labels=tuple(dict.fromkeys((*inner.labels, *task.labels))),
        priority=inner.priority if inner.priority is not None or task.priority == "medium" else task.priority,
        working_dir=inner.working_dir if inner.working_dir is not None else task.working_dir,
        env={**task.env, **inner.env},
    )


def _inside(make: Any, given: Any, field: str) -> Any:
    try:
        return make(given)
    except Validation as error:
        inner = str(error.details.get("field", ""))
        error.details["field"] = f"{field}.{inner}" if inner else field
        raise


def seconds(text: str) -> float:
    """A duration of a playbook file in seconds."""
    return phases.span(text) / 1000
