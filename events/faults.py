"""What is wrong with a playbook before anything of it starts; every problem names the field it stands in."""

import re
from collections.abc import Iterator

from events import checking, params, phases
from events.checking import Trouble
from events.errors import Validation
from events.ids import TOKEN
from events.phases import Definition, Phase, Step
from events.spec import FORMS

DEEP = 8
PATTERNS_MOST = 100
_STEP = re.compile(r"^steps\[(\d+)\]")
_RUNS = "runs nothing: give exactly one of"
_FORMS = ", ".join((*FORMS, "mcp", "plan", "playbook", "input", "sleep"))


def check(definition: Definition) -> None:
    """Raise `Validation` for the first of all problems; its details name the others too."""
    found = list(problems(definition))
    if found:
        more = [{"field": each.field, "message": each.text} for each in found[:20]]
        raise Validation(found[0].text, field=found[0].field, **({"problems": more} if found[1:] else {}))


def problems(definition: Definition, deep: int = 1) -> Iterator[Trouble]:
    """Everything that is wrong with a playbook."""
    if deep > DEEP:
        yield Trouble("", f"playbooks are nested more than {DEEP} deep")
        return
    if not TOKEN.fullmatch(definition.workspace):
        text = f"bad workspace name {definition.workspace!r}: use a-z, 0-9, _ and -, at most 64"
        yield Trouble("workspace", text)
    yield from _span(definition.checkpoint_every, "checkpoint_every")
    if not definition.phases:
        yield Trouble("phases", "a playbook needs at least one phase")
        return
    seen: set[str] = set()
    for at, phase in enumerate(definition.phases):
        yield from _phase(phase, f"phases[{at}].", twice=phase.id in seen, deep=deep)
        seen.add(phase.id)
    places = [f"phases[{spot.phase}].steps[{spot.step}]" for spot in phases.row(definition)]
    known: set[str] = set()
    for trouble in checking.problems(phases.flat(definition)):
        if _RUNS not in trouble.text and trouble.field != "steps":
            yield Trouble(_STEP.sub(lambda match: places[int(match[1])], trouble.field), trouble.text)
    for at, phase in enumerate(definition.phases):
        known |= {step.name for step in phase.steps}
        if phase.summary is not None:
            yield from _references(definition, phase.summary, known, f"phases[{at}].summary")


def _phase(phase: Phase, dot: str, *, twice: bool, deep: int) -> Iterator[Trouble]:
    if not TOKEN.fullmatch(phase.id):
        yield Trouble(f"{dot}id", f"bad phase id {phase.id!r}: use a-z, 0-9, _ and -, at most 64")
    if twice:
        yield Trouble(f"{dot}id", f"there are two phases with the id {phase.id!r}")
    if not phase.steps:
        yield Trouble(f"{dot}steps", f"phase {phase.id!r} needs at least one step")
    for at, step in enumerate(phase.steps):
        yield from _step(step, f"{dot}steps[{at}].", deep)


def _step(step: Step, dot: str, deep: int) -> Iterator[Trouble]:
    does = ("do", "plan", "playbook", "sleep", "input")
    given = [name for name in does if getattr(step, name) is not None]
    if len(given) != 1:
        much = "runs several things" if given else "runs nothing"
        yield Trouble(dot.rstrip("."), f"step {step.name!r} {much}: give exactly one of {_FORMS}")
    yield from _span(step.sleep, f"{dot}sleep")
    if step.input is not None:
        if not step.input.message.strip():
            yield Trouble(f"{dot}input.message", "the message is empty: say what is asked")
        yield from _span(step.input.deadline, f"{dot}input.deadline")
        yield from _span(step.input.remind, f"{dot}input.remind")
        if step.input.default is not None and step.input.deadline is None:
            yield Trouble(f"{dot}input.default", "default is what holds at the deadline: give one")
    if step.artifacts and step.do is None:
        yield Trouble(f"{dot}artifacts", "artifacts are files that a command leaves, and this step runs none")
    if len(step.artifacts) > PATTERNS_MOST:
        yield Trouble(f"{dot}artifacts", f"at most {PATTERNS_MOST} patterns")
    for at, pattern in enumerate(step.artifacts):
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            text = f"bad pattern {pattern!r}: it is for files in the working directory"
            yield Trouble(f"{dot}artifacts[{at}]", text)
    if step.playbook is not None:
        for trouble in problems(step.playbook, deep + 1):
            yield Trouble(f"{dot}playbook.{trouble.field}", trouble.text)


def _span(text: str | None, field: str) -> Iterator[Trouble]:
    if text is None:
        return
    try:
        phases.span(text)
    except Validation as error:
        yield Trouble(field, error.message.removeprefix("Validation error: "))


def _references(definition: Definition, text: str, known: set[str], field: str) -> Iterator[Trouble]:
    for reference in params.references(text):
        root, path = reference.root, reference.path
        names = list(definition.params) if root == "params" else sorted(known)
        if not path or path[0] not in names:
            what = "parameter" if root == "params" else "step"
            meant = params.near(path[0] if path else "", names)
            yield Trouble(field, f"unknown {what} {path[0] if path else ''!r}, {meant}")
        elif root == "steps" and (len(path) < 2 or path[1] not in ("status", "exit_code", "outputs")):
            yield Trouble(field, f"{reference}: name one of status, exit_code, outputs")
