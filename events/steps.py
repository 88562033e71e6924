"""What a plan consists of: steps in an order, beside each other or by their needs, or many like operations.

A definition is kept as it was written: what stands as `${...}` in it is filled in when a step starts.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from events import params
from events.errors import Validation
from events.message import Message
from events.params import Param, Reference
from events.spec import Retries, Strict, Submit

Strategy = Literal["serial", "parallel", "graph", "batch"]
OnFailure = Literal["none", "rollback"]

WINDOW = 64
"""As many operations of a batch run at once when it does not say."""


class Step(Strict):
    """One step: an execution, or a whole plan of its own."""

    name: str
    do: Submit | None = None
    """What is run, with what stands beside it."""
    plan: "Definition | None" = None
    """A plan that runs in place of a command."""
    values: dict[str, Any] = {}
    """What the parameters of that plan are."""
    needs: list[str] = []
    """Steps that have to be over first (graph)."""
    when: str | None = None
    """A condition; where it does not hold, the step is skipped."""
    allow_failure: bool = False
    """Where it fails, the plan goes on as if it had not."""
    undo: Submit | None = None
    """What takes it back."""
    retries: Retries | None = None
    timeout_ms: int | None = None


class Operations(Strict):
    """Many like operations: the same for every item, or so many times."""

    do: Submit
    items: list[Any] | str | None = None
    """What `${item}` is in each of them; or a reference such as `${params.files}`."""
    count: int | str | None = None
    """How often, in place of items; or a reference."""
    undo: Submit | None = None
    """What takes one of them back."""


class Definition(Message):
    """What is to be done, and in which order."""

    name: str = ""
    strategy: Strategy = "serial"
    stop_on_error: bool | None = None
    """Start nothing more after a failure; unsaid it is so for `serial` and with `on_failure = "rollback"`."""
    max_concurrency: int | None = None
    """How many may run at once; unsaid: all (batch: 64, serial: always one)."""
    on_failure: OnFailure = "none"
    params: dict[str, Param] = {}
    steps: tuple[Step, ...] = ()
    operations: Operations | None = None
    description: str | None = None
    labels: tuple[str, ...] = ()
    """Of the plan, and of all that it runs."""
    priority: str | int | None = None
    """Of its executions that do not name one."""
    working_dir: str | None = None
    """Of its executions that do not name one."""
    env: dict[str, str] = {}
    """Of all its executions, where they do not say otherwise."""

    @property
    def stops(self) -> bool:
        """Whether nothing more is started after a failure."""
        if self.stop_on_error is not None:
            return self.stop_on_error
        return self.strategy == "serial" or self.on_failure == "rollback"

    @property
    def limit(self) -> int:
        """How many may run at once."""
        match self.strategy:
            case "serial":
                return 1
            case "batch":
                return self.max_concurrency or WINDOW
            case _:
                return self.max_concurrency or max(1, len(self.steps))


def size(definition: Definition) -> int:
    """How many steps or operations there are."""
    many = definition.operations
    if many is None:
        return len(definition.steps)
    if isinstance(many.items, list):
        return len(many.items)
    return many.count if isinstance(many.count, int) else 0


def counted(definition: Definition, given: dict[str, Any]) -> Definition:
    """A batch with its items or its count at hand, where parameters give them."""
    many = definition.operations
    if many is None:
        return definition

    def look(reference: Reference) -> Any:
        return params.reach(given, reference.path, str(reference))

    news: dict[str, Any] = {}
    if isinstance(many.items, str):
        news["items"] = params.whole(many.items, look)
        if not isinstance(news["items"], list):
            raise Validation(f"items is {params.written(news['items'])[:60]}: give a list", field="items")
    if isinstance(many.count, str):
        count: Any = params.whole(many.count, look)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise Validation(f"count is {params.written(count)[:60]}: give a number from 0 on", field="count")
        news["count"] = count
    return msgspec.structs.replace(definition, operations=msgspec.structs.replace(many, **news))


def mapped(definition: Definition, change: Callable[[str, Submit], Submit], within: str = "") -> Definition:
    """Change everything that is run by a plan and the plans in it.

    It is told by the step's name, with those of the steps around it (`outer/inner`), and `/undo` for what
    takes it back; an operation of a batch has no name of its own, what takes it back is `undo`.
    """

    def changed(name: str, ask: Submit | None) -> Submit | None:
        return None if ask is None else change(name, ask)

    made: list[Step] = []
    for step in definition.steps:
        name = f"{within}{step.name}"
        plan = None if step.plan is None else mapped(step.plan, change, f"{name}/")
        do, undo = changed(name, step.do), changed(f"{name}/undo", step.undo)
        made.append(msgspec.structs.replace(step, plan=plan, do=do, undo=undo))
    many = definition.operations
    if many is not None:
        undo = changed(f"{within}undo", many.undo)
        many = msgspec.structs.replace(many, do=change(within.rstrip("/"), many.do), undo=undo)
    return msgspec.structs.replace(definition, steps=tuple(made), operations=many)
