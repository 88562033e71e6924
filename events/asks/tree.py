"""A plan as people write it, in a request or in a file: what a step runs stands beside its name."""

from typing import Any

import msgspec

from events import spec
from events.errors import Validation
from events.params import Param
from events.spec import Strict
from events.steps import Definition, OnFailure, Operations, Step, Strategy


class Tree(Strict):
    """A plan.  Steps go one after the other, beside each other, or by their needs; or it is a batch."""

    name: str = ""
    strategy: Strategy | None = None
    """`serial parallel graph batch`; unsaid: `graph` with needs, `batch` with `do`, else `serial`."""
    stop_on_error: bool | None = None
    """Start nothing more after a failure; unsaid it is so for `serial` and with `on_failure = "rollback"`."""
    max_concurrency: int | None = None
    """How many may run at once; unsaid: all, of a batch 64."""
    on_failure: OnFailure = "none"
    """`rollback` takes back what was done when it fails."""
    params: dict[str, Param] = {}
    """What has to be given, or can be, when it starts."""
    steps: "list[Task]" = []
    do: spec.Submit | None = None
    """What is run for every item of a batch."""
    items: list[Any] | str | None = None
    """What `${item}` is in each operation; or a reference such as `${params.files}`."""
    count: int | str | None = None
    """How many operations, in place of items."""
    undo: spec.Submit | None = None
    """What takes back one operation."""
    description: str | None = None
    labels: list[str] = []
    """Of the plan, and of all that it runs."""
    priority: str | int | None = None
    """Of all that it runs and that does not name one."""
    working_dir: str | None = None
    """Of all that it runs and that does not name one."""
    env: dict[str, str] = {}
    """Of all that it runs."""


class Task(spec.Submit):
    """A step: a command with what stands beside it, or a plan of its own in `plan` or `steps`."""

    name: str
    needs: list[str] = []
    """Steps that have to be over first."""
    when: str | None = None
    """A condition, such as `steps.lint.status == 'completed'`; else the step is skipped."""
    allow_failure: bool = False
    """Where it fails, the plan goes on as if it had not."""
    undo: spec.Submit | None = None
    """What takes it back."""
    plan: Tree | None = None
    """A plan that runs in place of a command."""
    values: dict[str, Any] = {}
    """What the parameters of that plan are."""
    steps: "list[Task] | None" = None
    """The steps of such a plan, when it needs no more than these and the next four."""
    strategy: Strategy | None = None
    stop_on_error: bool | None = None
    max_concurrency: int | None = None
    on_failure: OnFailure | None = None


_INLINE = ("steps", "strategy", "stop_on_error", "max_concurrency", "on_failure")
_SHARED = ("description", "labels", "priority", "working_dir", "env")
"""What stands beside a command and beside a plan."""


def definition(tree: Tree) -> Definition:
    """The plan that is meant; `Validation` where that cannot be said."""
    steps = tuple(step(task, f"steps[{place}]") for place, task in enumerate(tree.steps))
    strategy = tree.strategy
    if strategy is None:
        graph = any(task.needs for task in tree.steps)
        strategy = "batch" if tree.do is not None and not tree.steps else "graph" if graph else "serial"
    operations = None
    if tree.do is not None:
        operations = Operations(do=tree.do, items=tree.items, count=tree.count, undo=tree.undo)
    else:
        for name in ("items", "count", "undo"):
            if getattr(tree, name) is not None:
                raise Validation(f"{name} goes with do: what is to be run for every item", field=name)
    return Definition(
        name=tree.name,
        strategy=strategy,
        stop_on_error=tree.stop_on_error,
        max_concurrency=tree.max_concurrency,
        on_failure=tree.on_failure,
        params=tree.params,
        steps=steps,
        operations=operations,
        description=tree.description,
        labels=tuple(tree.labels),
        priority=tree.priority,
        working_dir=tree.working_dir,
        env=tree.env,
    )


def step(task: Task, field: str = "") -> Step:
    """The step that is meant."""
    plan = _plan(task, field)
    fields = {name: getattr(task, name) for name in spec.Submit.__struct_fields__}
    do: spec.Submit | None = spec.Submit(**fields)
    if plan is not None:
        beside = [name for name in fields if name not in _SHARED and fields[name] != _BARE[name]]
        if not any(name in beside for name in spec.FORMS):
            do = None
            if beside:
                raise Validation(
                    f"{beside[0]} is for a command, not for a plan", field=f"{field}.{beside[0]}"
                )
    elif not any(fields[name] is not None for name in spec.FORMS):
        do = None
    return Step(
        name=task.name,
        do=do,
        plan=plan,
        values=task.values,
        needs=task.needs,
        when=task.when,
        allow_failure=task.allow_failure,
        undo=task.undo,
    )


_BARE = {name: getattr(spec.Submit(), name) for name in spec.Submit.__struct_fields__}


def _plan(task: Task, field: str) -> Definition | None:
    inline = [name for name in _INLINE if getattr(task, name) is not None]
    if task.plan is not None and inline:
        raise Validation(f"{inline[0]} belongs into plan", field=f"{field}.{inline[0]}")
    if task.plan is not None:
        inner = _within(task.plan, f"{field}.plan")
    elif task.steps is not None:
        inner = _within(
            Tree(
                strategy=task.strategy,
                stop_on_error=task.stop_on_error,
                max_concurrency=task.max_concurrency,
                on_failure=task.on_failure or "none",
                steps=task.steps,
            ),
            field,
        )
    elif inline:
        raise Validation(f"{inline[0]} goes with steps or plan", field=f"{field}.{inline[0]}")
    else:
        return None
    return msgspec.structs.replace(
        inner,
        description=inner.description if inner.description is not None else task.description,
        labels=tuple(dict.fromkeys((*inner.labels, *task.labels))),
        priority=inner.priority if inner.priority is not None or task.priority == "medium" else task.priority,
        working_dir=inner.working_dir if inner.working_dir is not None else task.working_dir,
        env={**task.env, **inner.env},
    )


def _within(tree: Tree, field: str) -> Definition:
    try:
        return definition(tree)
    except Validation as error:
        inner = str(error.details.get("field", ""))
        error.details["field"] = f"{field}.{inner}" if inner else field
        raise
