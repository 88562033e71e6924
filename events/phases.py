"""What a playbook consists of: phases in a row, each made of steps in a row.

A definition is kept as it was written: what stands as `${...}` in it is filled in when a step starts.
"""

import re
from typing import Any, Literal

import msgspec

from events import steps
from events.errors import Validation
from events.message import Message
from events.params import Param
from events.spec import Exec, Shell, Strict, Submit

Kind = Literal["execution", "plan", "playbook", "sleep", "input"]
OnError = Literal["pause", "fail"]

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LONGEST_MS = 3660 * UNITS["d"]
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def span(text: str, field: str = "") -> int:
    """Read a duration such as `90s`, `1h30m` or `3d` as milliseconds."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise Validation(f"{text!r} is no duration: write 90s, 5m, 1h30m or 3d", field=field)
    found = round(sum(float(number) * UNITS[unit] for number, unit in parts))
    if not 0 <= found <= LONGEST_MS:
        raise Validation(f"{text!r} is too long: at most ten years", field=field)
    return found


class Input(Strict):
    """A question to a person; the first answer that fits wins."""

    message: str
    schema: dict[str, Any] = {}
    """A JSON Schema that an answer has to fit."""
    deadline: str | None = None
    """How long it may take, such as `3d`; then the step has timed out, or `default` is the answer."""
    default: Any = None
    remind: str | None = None
    """How often to remind, such as `1h`."""


class Tool(Strict):
    """A tool of an MCP server that the settings name (`mcp`)."""

    server: str
    tool: str
    arguments: dict[str, Any] = {}

    def call(self, arguments: dict[str, Any]) -> Exec:
        """The command that calls it."""
        written = msgspec.json.encode(arguments).decode()
        return Exec(program="hindbrain", args=["call", self.server, self.tool, written])


class Step(Strict):
    """One step: an execution, a plan, a playbook of its own, a sleep, or a question."""

    name: str
    do: Submit | None = None
    mcp: Tool | None = None
    """The tool that its execution calls."""
    plan: steps.Definition | None = None
    playbook: "Definition | None" = None
    values: dict[str, Any] = {}
    """What the parameters of that plan or playbook are."""
    sleep: str | None = None
    input: Input | None = None
    when: str | None = None
    """A condition; where it does not hold, the step is skipped."""
    allow_failure: bool = False
    """Where it fails, the playbook goes on as if it had not."""
    artifacts: list[str] = []
    """Files that it leaves, as patterns in its working directory; they are kept as artifacts."""
    description: str | None = None

    @property
    def kind(self) -> Kind:
        """What it does."""
        match self:
            case Step(plan=steps.Definition()):
                return "plan"
            case Step(playbook=Definition()):
                return "playbook"
            case Step(sleep=str()):
                return "sleep"
            case Step(input=Input()):
                return "input"
            case _:
                return "execution"


class Phase(Strict):
    """Steps that belong together; its end is summed up."""

    id: str
    name: str = ""
    summary: str | None = None
    """What is said at its end, with `${steps.<name>.outputs.<key>}` in it; unsaid, what its steps did."""
    steps: tuple[Step, ...] = ()


class Definition(Message):
    """What is to be done, and in which order."""

    name: str = ""
    version: str = ""
    description: str | None = None
    workspace: str = "default"
    params: dict[str, Param] = {}
    phases: tuple[Phase, ...] = ()
    checkpoint_every: str | None = None
    """How often inside of a long step, such as `5m`; after each step in any case."""
    on_error: OnError = "pause"
    """What a failed step does to it: it waits to be resumed, or it has failed."""
    labels: tuple[str, ...] = ()
    priority: str | int | None = None
    working_dir: str | None = None
    env: dict[str, str] = {}
    git: bool = False
    """Whether the files of its beginning are committed in its working directory."""
    metadata: dict[str, Any] = {}
    """What others note about it; kept as it is."""


class Spot(Message):
    """A place in the row of all steps."""

    phase: int
    step: int


def row(definition: Definition) -> tuple[Spot, ...]:
    """All steps, one after the other."""
    return tuple(
        Spot(phase=at, step=place)
        for at, phase in enumerate(definition.phases)
        for place in range(len(phase.steps))
    )


_STAND_IN = Submit(shell=Shell(command="true"))


def flat(definition: Definition) -> steps.Definition:
    """The same as a serial plan: by it steps, references, conditions and secrets are looked at."""
    return steps.Definition(
        name=definition.name,
        params=definition.params,
        steps=tuple(_as_step(step) for phase in definition.phases for step in phase.steps),
        labels=definition.labels,
        priority=definition.priority,
        working_dir=definition.working_dir,
        env=definition.env,
    )


def _as_step(step: Step) -> steps.Step:
    inner = step.plan if step.playbook is None else flat(step.playbook)
    do = step.do
    if do is None and step.kind in ("sleep", "input"):
        do = msgspec.structs.replace(_STAND_IN, description=step.input.message if step.input else None)
    return steps.Step(
        name=step.name,
        do=do,
        plan=inner,
        values=step.values,
        when=step.when,
        allow_failure=step.allow_failure,
    )


def raised(definition: Definition, plan: steps.Definition) -> Definition:
    """The playbook again, with what `flat` made of it changed, such as its secrets hidden."""
    change, left = msgspec.structs.replace, iter(plan.steps)
    phases: list[Phase] = []
    for phase in definition.phases:
        made: list[Step] = []
        for step in phase.steps:
            plain = next(left)
            match step.kind:
                case "execution":
                    made.append(change(step, do=plain.do))
                case "plan":
                    made.append(change(step, plan=plain.plan))
                case "playbook" if step.playbook is not None and plain.plan is not None:
                    made.append(change(step, playbook=raised(step.playbook, plain.plan)))
                case _:
                    made.append(step)
        phases.append(change(phase, steps=tuple(made)))
    return change(definition, phases=tuple(phases), env=plan.env)
