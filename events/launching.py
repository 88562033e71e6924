"""What a plan wants to run: which executions and plans, under which ids, with all values filled in."""

from collections.abc import Sequence
from typing import Any

import msgspec

from events import batch, ids, params
from events.course import State
from events.errors import Problem, Validation
from events.message import Event, Message
from events.params import Look, Reference
from events.planned import Advanced, Ended, Launch, StepsStarted, UndoStarted
from events.spec import Submit
from events.steps import Definition, Step

UNDO = "/undo"


class Nested(Message):
    """A plan that runs as a step of another one."""

    definition: Definition
    params: dict[str, Any] = {}


class Takeback(Message):
    """The plan that ran as this step is to be taken back."""

    plan_id: str


def child(plan: str, step: str, run: int, *, nested: bool = False) -> str:
    """The id of what a step runs, always the same one: submitting it twice makes one."""
    return ids.derived("plan" if nested else "execution", f"{plan}/{step}/{run}")


def child_of(state: State, launch: Launch) -> str:
    """The id of what is launched; of a plan that is taken back, its own."""
    name, undo = _parted(launch.step)
    if state.batch is not None:
        return child(state.id, launch.step, launch.run)
    step = _step(state, name)
    if undo and step.undo is None:
        return child(state.id, name, state.cells[name].run, nested=True)
    return child(state.id, launch.step, launch.run, nested=step.plan is not None and not undo)


def launches(events: Sequence[Event], state: State) -> tuple[Launch, ...]:
    """What has to be submitted because of some events; `state` is the plan after them."""
    found: list[Launch] = []
    for event in events:
        match event:
            case StepsStarted(steps=steps):
                found += steps
            case UndoStarted(step=step, run=run):
                found.append(Launch(step=f"{step}{UNDO}", run=run))
            case Advanced(first=first, count=count) if (many := state.batch) is not None:
                row = range(first, first + count)
                found += [Launch(step=str(many.number(place)), run=many.run) for place in row]
            case _:
                pass
    return tuple(found)


def running(state: State) -> tuple[Launch, ...]:
    """All that has to be running now."""
    found = [Launch(step=name, run=run) for name, run in state.running.items()]
    if (many := state.batch) is not None:
        found = [Launch(step=str(number), run=many.run) for number in sorted(many.outstanding)]
    if state.undo is not None:
        found.append(Launch(step=f"{state.undo.step}{UNDO}", run=state.undo.run))
    return tuple(found)


def wish(state: State, launch: Launch) -> Submit | Nested | Takeback:
    """What is to be run, with all values filled in; `Validation` when a value is not there."""
    name, undo = _parted(launch.step)
    if (many := state.batch) is not None:
        operations = state.definition.operations
        assert operations is not None  # noqa: S101  a batch has operations
        ask = operations.undo if undo else operations.do
        assert ask is not None  # noqa: S101  only what can be undone is
        return _inherited(state, params.fill(ask, _look(state, None, int(name), many), batch=True))
    step, look = _step(state, name), _look(state, name)
    if undo:
        if step.undo is None:
            return Takeback(plan_id=child_of(state, launch))
        return _inherited(state, params.fill(step.undo, look))
    if step.plan is not None:
        plan = msgspec.structs.replace(
            step.plan,
            labels=tuple(dict.fromkeys((*step.plan.labels, *state.definition.labels))),
            env={**state.definition.env, **step.plan.env},
            working_dir=step.plan.working_dir or state.definition.working_dir,
            priority=step.plan.priority if step.plan.priority is not None else state.definition.priority,
        )
        return Nested(definition=plan, params=params.values(step.values, look))
    assert step.do is not None  # noqa: S101  checked before it was stored
    ask = _inherited(state, params.fill(step.do, look))
    if step.retries is not None:
        ask = msgspec.structs.replace(ask, retries=step.retries)
    if step.timeout_ms is not None:
        ask = msgspec.structs.replace(ask, timeout_ms=step.timeout_ms, timeout=None)
    return ask


def _inherited(state: State, ask: Submit) -> Submit:
    """What the plan says for all that it runs."""
    plan = state.definition
    news: dict[str, Any] = {}
    if plan.labels:
        news["labels"] = list(dict.fromkeys((*ask.labels, *plan.labels)))
    if plan.env and ask.job is None:
        news["env"] = {name: text for name, text in plan.env.items() if name not in ask.secrets} | ask.env
    if plan.working_dir is not None and ask.working_dir is None and ask.job is None:
        news["working_dir"] = plan.working_dir
    if plan.priority is not None and ask.priority == "medium":
        news["priority"] = plan.priority
    return msgspec.structs.replace(ask, **news) if news else ask


def _parted(name: str) -> tuple[str, bool]:
    return (name.removesuffix(UNDO), True) if name.endswith(UNDO) else (name, False)


def _step(state: State, name: str) -> Step:
    return state.steps[state.graph.index[name]]


def _look(state: State, own: str | None, number: int = 0, many: "batch.Batch | None" = None) -> Look:
    """Find values; what is not there cannot be filled in."""

    def look(reference: Reference) -> Any:
        root, path = reference.root, reference.path
        match root:
            case "params":
                values = state.submitted.params if state.submitted is not None else {}
                return params.reach(values, path, str(reference))
            case "index":
                return number
            case "item" if many is not None:
                return params.reach(many.item(number), path, str(reference))
            case _:
                return _of_step(state, reference, own)

    return look


def _of_step(state: State, reference: Reference, own: str | None) -> Any:
    name, what, path = reference.path[0], reference.path[1], reference.path[2:]
    cell = state.cells[name]
    if what == "status":
        return cell.status
    if cell.result is None:
        whom = "it" if name == own else f"step {name!r}"
        raise Validation(f"${{{reference}}}: {whom} is {cell.status} and left nothing", field=str(reference))
    if what == "exit_code":
        return cell.result.exit_code
    return params.reach(cell.result.outputs, path, str(reference))


def asked(state: State, reference: Reference) -> Any:
    """What a condition asks for; None for what is not there."""
    if reference.root == "steps":
        cell = state.cells.get(reference.path[0])
        if cell is None:
            return None
        if reference.path[1] == "status":
            return cell.status
        if cell.result is None:
            return None
    try:
        return _look(state, None)(reference)
    except Validation:
        return None


def result_of_plan(state: State) -> tuple[Ended, Problem | None, dict[str, Any]]:
    """How a plan ended that is a step of another one, and what its steps left, by their names."""
    status: Ended = "failed"
    if state.status in ("completed", "cancelled"):
        status = state.status
    cells = state.cells.items()
    left = {name: cell.result.outputs for name, cell in cells if cell.result and cell.result.outputs}
    return status, state.error, left
