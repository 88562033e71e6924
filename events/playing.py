"""What a playbook wants to run, with all values filled in, and what is said at the end of a phase."""

from typing import Any

import msgspec

from events import condition, estimate, ids, params, steps
from events.errors import Validation
from events.journey import Going, State
from events.message import Message
from events.params import Look, Reference
from events.phases import Definition, Phase, Step
from events.played import Cell
from events.spec import Submit

SUMMARY_MOST = 64 * 1024
"""Bytes of a summary."""


class Nested(Message):
    """A playbook that runs as a step of another one."""

    definition: Definition
    params: dict[str, Any] = {}


class Planned(Message):
    """A plan that runs as a step."""

    definition: steps.Definition
    params: dict[str, Any] = {}


KINDS = {"execution": "execution", "plan": "plan", "playbook": "playbook"}


def child(playbook: str, step: str, run: int, does: str) -> str:
    """The id of what a step runs, always the same one: submitting it twice makes one."""
    return ids.derived(KINDS[does], f"{playbook}/{step}/{run}")


def papers(entity: str, workspace: str, path: str | None) -> dict[str, str]:
    """Where the files about a playbook lie; a relative path is below the data folder of a node."""
    folder = f"{path or f'workspaces/{workspace}'}/playbooks/{entity}"
    return {
        "progress_log_path": f"{folder}/playbook_progress.log",
        "feature_list_path": f"{folder}/playbook_feature_list.json",
    }


def child_of(state: State, going: Going) -> str | None:
    """The id of what runs; None for a sleep and for a question."""
    if going.does not in KINDS:
        return None
    return child(state.id, going.step, going.run, going.does)


def wish(state: State, going: Going) -> Submit | Planned | Nested:
    """What is to be run, with all values filled in; `Validation` when a value is not there."""
    step, look = state.step(going.step), _look(state)
    plan = state.definition
    if step.plan is not None:
        return Planned(definition=_common(plan, step.plan), params=params.values(step.values, look))
    if step.playbook is not None:
        nested = _common(plan, step.playbook)
        return Nested(definition=nested, params=params.values(step.values, look))
    assert step.do is not None  # noqa: S101  checked before it was stored
    ask = params.fill(step.do, look)
    if step.mcp is not None:
        # As values, not as text: what a value is must not become a part of the JSON around it.
        arguments = params.values(step.mcp.arguments, look)
        ask = msgspec.structs.replace(ask, exec=step.mcp.call(arguments))
    news: dict[str, Any] = {}
    if plan.labels:
        news["labels"] = list(dict.fromkeys((*ask.labels, *plan.labels)))
    if plan.env:
        news["env"] = {name: text for name, text in plan.env.items() if name not in ask.secrets} | ask.env
    if ask.working_dir is None:
        news["working_dir"] = plan.working_dir
    if plan.priority is not None and ask.priority == "medium":
        news["priority"] = plan.priority
    return msgspec.structs.replace(ask, **news) if news else ask


def _common(outer: Definition, inner: Any) -> Any:
    """What the playbook says for all that it runs."""
    return msgspec.structs.replace(
        inner,
        labels=tuple(dict.fromkeys((*inner.labels, *outer.labels))),
        env={**outer.env, **inner.env},
        working_dir=inner.working_dir or outer.working_dir,
        priority=inner.priority if inner.priority is not None else outer.priority,
    )


def holds(state: State, step: Step) -> bool:
    """Whether the condition of a step holds."""
    look = _look(state)

    def asked(reference: Reference) -> Any:
        try:
            return look(reference)
        except Validation:
            return None

    return step.when is None or condition.holds(condition.parse(step.when), asked)


def message(state: State, step: Step) -> str:
    """What somebody is asked."""
    return "" if step.input is None else params.text(step.input.message, _lenient(state))


def summary(state: State, phase: Phase) -> tuple[str, tuple[str, ...]]:
    """What is said at the end of a phase, its template or what its steps did; and its artifacts."""
    cells = {step.name: state.cells[step.name] for step in phase.steps}
    artifacts = tuple(
        dict.fromkeys(each for cell in cells.values() if cell.result for each in cell.result.artifacts)
    )
    if phase.summary is None:
        return told(phase, cells), artifacts
    text = params.text(phase.summary, _lenient(state))
    return text.encode()[:SUMMARY_MOST].decode(errors="ignore"), artifacts


def told(phase: Phase, cells: dict[str, Cell]) -> str:
    """What the steps of a phase did, in a sentence for each that is worth one."""
    done = [name for name, cell in cells.items() if cell.status == "completed"]
    said = [f"{phase.name or phase.id}: {len(done)} of {estimate.number(len(cells), 'steps')} completed"]
    for name, cell in cells.items():
        result = cell.result
        if cell.status == "skipped":
            said.append(f"{name} was skipped")
        elif cell.status != "completed":
            why = f": {result.error.message}" if result is not None and result.error is not None else ""
            said.append(f"{name} {cell.status}{why}")
        elif result is not None and result.outputs:
            outputs = ", ".join(f"{key}={params.written(each)[:120]}" for key, each in result.outputs.items())
            said.append(f"{name} left {outputs}"[:500])
    return ("; ".join(said) + ".")[:4000]


def _look(state: State) -> Look:
    def look(reference: Reference) -> Any:
        root, path = reference.root, reference.path
        if root == "params":
            values = state.initialized.params if state.initialized is not None else {}
            return params.reach(values, path, str(reference))
        cell = state.cells.get(path[0])
        if cell is None:
            raise Validation(f"${{{reference}}}: there is no step {path[0]!r}", field=str(reference))
        if path[1] == "status":
            return cell.status
        if cell.result is None:
            raise Validation(
                f"${{{reference}}}: step {path[0]!r} is {cell.status} and left nothing", field=str(reference)
            )
        if path[1] == "exit_code":
            return cell.result.exit_code
        return params.reach(cell.result.outputs, path[2:], str(reference))

    return look


def _lenient(state: State) -> Look:
    """A text for people leaves out what is not there."""
    look = _look(state)

    def found(reference: Reference) -> Any:
        try:
            return look(reference)
        except Validation:
            return "(nothing)"

    return found
