"""A task as a playbook, and back: each phase is a phase of one step, named after it.

What a playbook has no word for (who had the task before, how far it was, what its phases left) stands in its
`metadata` under `task`.  A playbook that is nobody's task is a task of one phase.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from actors import engines
from events import faults, ir, params
from events.asks import book
from events.errors import Validation
from events.ir import PhaseIR, TaskIR
from events.params import Reference

KEY = "task"
_OWN = ("status", "outputs", "artifacts", "summary", "error", "run", "started_at", "ended_at")
"""Of a phase, what a playbook file has no word for."""
_ALSO = ("task_id", "intent_instance_id", "actor_id", "current_phase", "status", "artifacts")
_TIMES = ("created_at", "updated_at", "last_checkpoint_at")
_SAID = ("source", "source_id", "source_status", "supports_resume", "extra")


def playbook(task: TaskIR) -> dict[str, Any]:
    """Say a task as a playbook, in the tree of a playbook file; `Validation` where an engine cannot."""
    metadata, known = task.metadata, _told(task, (*_ALSO, *_TIMES)) | _told(task.metadata, _SAID)
    phases = {each.id: told for each in task.phases if (told := _told(each, _OWN))}
    tree = {
        "name": metadata.title,
        "description": metadata.description,
        "workspace": task.workspace_id,
        "labels": list(metadata.labels),
        "working_dir": metadata.working_dir,
        "metadata": {KEY: known | ({"phases": phases} if phases else {})},
        "phases": [_part(each) for each in task.phases],
    }
    return {key: each for key, each in tree.items() if each not in (None, [], "")}


def _part(phase: PhaseIR) -> dict[str, Any]:
    part = {"id": phase.id, "name": phase.name} if phase.name else {"id": phase.id}
    return part | {"steps": [{"name": phase.id} | engines.step(phase)]}


def _told(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Those fields that say something."""
    whole: dict[str, Any] = msgspec.to_builtins(value)
    return {name: whole[name] for name in names if name in whole}


def task(tree: dict[str, Any]) -> TaskIR:
    """Read a playbook, in the tree of a playbook file, as a task."""
    known = tree.get("metadata", {}).get(KEY)
    fields = {"workspace_id": tree.get("workspace") or "default"}
    said = {"title": tree.get("name", ""), "description": tree.get("description")}
    said |= {"labels": tree.get("labels", ()), "working_dir": tree.get("working_dir")}
    if known is None:
        name = tree.get("name") or "playbook"
        phase = {"id": "playbook", "name": name, "preferred_engine": f"playbook:{_word(name)}"}
        work = {key: each for key, each in tree.items() if key != "name"}
        fields |= {"phases": [phase | {"work": work}], "metadata": said | {"source": "playbook"}}
        return _made(fields)
    left = known.get("phases", {})
    fields["phases"] = [_phase(part, left.get(part["id"], {})) for part in tree["phases"]]
    fields["metadata"] = said | {name: known[name] for name in _SAID if name in known}
    fields |= {name: known[name] for name in (*_ALSO, *_TIMES) if name in known}
    return _made(fields)


def _phase(part: dict[str, Any], left: dict[str, Any]) -> dict[str, Any]:
    if len(part.get("steps", ())) != 1:
        raise Validation(f"phase {part['id']!r} of a task has one step", field="phases")
    (step,) = part["steps"]
    read = engines.read({key: each for key, each in step.items() if key != "name"})
    return msgspec.to_builtins(read) | {"id": part["id"], "name": part.get("name", "")} | left


def _made(fields: dict[str, Any]) -> TaskIR:
    try:
        return msgspec.convert(fields, TaskIR)
    except msgspec.ValidationError as error:
        raise Validation(f"this is no task: {error}", field="task") from None


def _word(name: str) -> str:
    return "-".join(name.split()) or "playbook"


# ---- one phase, as it runs -------------------------------------------------------------------------------


class Run(msgspec.Struct, frozen=True):
    """By which playbook a phase runs."""

    tree: dict[str, Any]
    """As a playbook file says it."""
    values: dict[str, Any]
    wrapped: bool
    """It is one step of a playbook that was made for it, and what that leaves is what the phase leaves."""


def run(task: TaskIR, phase: PhaseIR) -> Run:
    """The playbook by which a phase runs, with what earlier ones left filled in."""
    filled = params.values(phase.values, _look(task))
    step = engines.step(msgspec.structs.replace(phase, values=params.escaped(filled)))
    common = {"workspace": task.workspace_id, "working_dir": task.metadata.working_dir}
    labels = list(task.metadata.labels)
    if "playbook" in step:
        tree = step["playbook"]
        tree = {key: each for key, each in common.items() if each is not None and not tree.get(key)} | tree
        tree["labels"] = list(dict.fromkeys((*tree.get("labels", ()), *labels)))
        return Run(tree, filled, wrapped=False)
    part = {"id": phase.id, "name": phase.name, "steps": [{"name": phase.id} | step]}
    tree = {"name": phase.preferred_engine, "phases": [part], "labels": labels}
    return Run({key: each for key, each in (tree | common).items() if each is not None}, {}, wrapped=True)


def _look(task: TaskIR) -> Callable[[Reference], Any]:
    def look(reference: Reference) -> Any:
        phase = task.phase(reference.path[0]) if reference.path else None
        if reference.root != "steps" or phase is None or len(reference.path) < 2:
            raise Validation(f"${{{reference}}}: name a phase, such as ${{steps.fetch.outputs.path}}")
        if reference.path[1] == "status":
            return phase.status
        if reference.path[1] != "outputs":
            raise Validation(f"${{{reference}}}: name one of status, outputs")
        return params.reach(phase.outputs, reference.path[2:], str(reference))

    return look


def check(task: TaskIR) -> None:
    """Refuse a task that its engines could not do; `Validation` names the phase."""
    ir.check(task)
    if task.status in ir.ENDS:
        return
    made = book.definition(msgspec.convert(playbook(task), book.Book))
    faults.check(made)


def plain(task: TaskIR) -> TaskIR:
    """A task as it is kept: the names of playbooks and plans are those of the engines."""
    return msgspec.structs.replace(task, phases=tuple(engines.plain(each) for each in task.phases))
