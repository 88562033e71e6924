"""What is wrong with a plan before anything of it starts; every problem names the field that it stands in.

A field is a path in the plan as it is written, such as `steps[2].needs`; what a step runs stands beside its
name there.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from events import condition, params, spec
from events.errors import Validation
from events.ids import TOKEN
from events.params import Reference, near
from events.spec import Submit
from events.steps import Definition, Step
from events.steps import mapped as mapped

STEPS_MOST = 10_000
DEEP = 8
"""So many plans can be nested."""
CONCURRENCY_MOST = 10_000
OPERATIONS_MOST = 100_000_000
NAME_MOST = 200
_TEXTS = ("code", "stdin", "shell.command")


class Trouble(NamedTuple):
    """Something is wrong."""

    field: str
    text: str


def check(definition: Definition) -> None:
    """Raise `Validation` for the first of all problems; its details name the others too."""
    found = list(problems(definition))
    if found:
        more = [{"field": each.field, "message": each.text} for each in found[:20]]
        raise Validation(found[0].text, field=found[0].field, **({"problems": more} if found[1:] else {}))


def problems(definition: Definition, field: str = "", deep: int = 1) -> Iterator[Trouble]:
    """Everything that is wrong with a plan."""
    dot = f"{field}." if field else ""
    yield from _head(definition, dot)
    yield from (Trouble(f"{dot}{at}", text) for at, text in params.check(definition.params))
    if definition.strategy == "batch":
        yield from _batch(definition, dot)
        return
    if definition.operations is not None:
        yield Trouble(f"{dot}do", 'do, items and count go with strategy = "batch"')
    if not definition.steps:
        yield Trouble(f"{dot}steps", "a plan needs at least one step")
    if len(definition.steps) > STEPS_MOST:
        yield Trouble(f"{dot}steps", f"a plan has at most {STEPS_MOST} steps: use a batch")
        return
    index: dict[str, int] = {}
    for place, step in enumerate(definition.steps):
        index.setdefault(step.name, place)
    before, troubles = _order(definition, index, dot)
    yield from troubles
    for place, step in enumerate(definition.steps):
        here = _Here(definition, index, before[place], f"{dot}steps[{place}].", step.name)
        yield from _step(here, step, index[step.name] != place, deep)


def _head(definition: Definition, dot: str) -> Iterator[Trouble]:
    if len(definition.name) > NAME_MOST:
        yield Trouble(f"{dot}name", f"the name is longer than {NAME_MOST} characters")
    limit = definition.max_concurrency
    if limit is not None and not 1 <= limit <= CONCURRENCY_MOST:
        yield Trouble(
            f"{dot}max_concurrency",
            f"max_concurrency is {limit}: it must be between 1 and {CONCURRENCY_MOST}",
        )
    for label in definition.labels:
        if not TOKEN.fullmatch(label):
            yield Trouble(f"{dot}labels", f"bad label {label!r}: use a-z, 0-9, _ and -, at most 64")
    for name in definition.env:
        if not spec.ENV_NAME.fullmatch(name):
            yield Trouble(f"{dot}env", f"bad environment name {name!r}: use letters, digits and _")
    if definition.priority is not None:
        try:
            spec.urgency(definition.priority)
        except Validation as error:
            yield _said(error, dot)


def _said(error: Validation, dot: str) -> Trouble:
    text = error.message.removeprefix("Validation error: ")
    return Trouble(f"{dot}{error.details.get('field', '')}".rstrip("."), text)


# ---- the order of steps ----------------------------------------------------------------------------------


def _order(definition: Definition, index: Mapping[str, int], dot: str) -> tuple[list[int], list[Trouble]]:
    """Which steps are over before each one (as bits), and what is wrong with their needs."""
    steps, troubles = definition.steps, list[Trouble]()
    needs: list[list[int]] = []
    for place, step in enumerate(steps):
        field = f"{dot}steps[{place}].needs"
        if step.needs and definition.strategy == "parallel":
            troubles.append(Trouble(field, 'needs go with strategy = "graph"'))
        known: list[int] = []
        for at, name in enumerate(step.needs):
            other = index.get(name)
            if other is None:
                others = [each for each in index if each != step.name]
                text = f"step {step.name!r} needs unknown step {name!r}, {near(name, others)}"
                troubles.append(Trouble(f"{field}[{at}]", text))
            elif other == place:
                troubles.append(Trouble(f"{field}[{at}]", f"step {name!r} needs itself"))
            elif other > place and definition.strategy == "serial":
                text = f"step {step.name!r} needs {name!r}, which comes later: change their order"
                troubles.append(Trouble(f"{field}[{at}]", text))
            else:
                known.append(other)
        needs.append(known)
    if definition.strategy == "serial":
        return [(1 << place) - 1 for place in range(len(steps))], troubles
    if definition.strategy == "parallel":
        return [0] * len(steps), troubles
    before = _before(needs)
    if len(done := [each for each in before if each is not None]) < len(needs):
        circle = _circle(needs, [place for place, each in enumerate(before) if each is None])
        text = "the needs go in a circle: " + " -> ".join(steps[place].name for place in circle)
        troubles.append(Trouble(f"{dot}steps[{circle[0]}].needs", text))
    del done
    # Of steps in a circle everything counts as known, so that the circle is the only complaint.
    return [(1 << len(steps)) - 1 if each is None else each for each in before], troubles


def _before(needs: list[list[int]]) -> list[int | None]:
    """All that is over before each step, as bits; None for those in a circle or behind one."""
    found: list[int | None] = [None] * len(needs)
    waiting = [len(each) for each in needs]
    dependents: list[list[int]] = [[] for _ in needs]
    for place, each in enumerate(needs):
        for need in each:
            dependents[need].append(place)
    row = [place for place, count in enumerate(waiting) if not count]
    for place in row:
        bits = 0
        for need in needs[place]:
            bits |= (found[need] or 0) | 1 << need
        found[place] = bits
        for other in dependents[place]:
            waiting[other] -= 1
            if not waiting[other]:
                row.append(other)
    return found


def _circle(needs: list[list[int]], stuck: list[int]) -> list[int]:
    """One way round, beginning and ending with the same step."""
    among, way = set(stuck), [stuck[0]]
    while True:
        step = next(need for need in needs[way[-1]] if need in among)
        if step in way:
            return [*way[way.index(step) :], step]
        way.append(step)


# ---- a step ----------------------------------------------------------------------------------------------


class _Here(NamedTuple):
    """Where in a plan something stands, and what is known there."""

    definition: Definition
    places: Mapping[str, int]
    before: int
    dot: str
    name: str
    batch: bool = False

    def trouble(self, field: str, text: str) -> Trouble:
        return Trouble(f"{self.dot}{field}".rstrip("."), text)

    def wrong(self, reference: Reference, *, own: bool = False) -> str | None:
        """What is wrong with a reference, if anything."""
        root, path = reference.root, reference.path
        if root == "params":
            if path and path[0] in self.definition.params:
                return None
            known = list(self.definition.params)
            return f"unknown parameter {path[0]!r}, {near(path[0], known)}" if path else "params needs a name"
        if root != "steps":
            return None
        if not path or path[0] not in self.places:
            return f"unknown step {path[0]!r}, {near(path[0], list(self.places))}" if path else "name a step"
        if len(path) < 2 or path[1] not in condition.FACTS:
            meant = (
                near(path[1], condition.FACTS) if len(path) > 1 else "name one of status, exit_code, outputs"
            )
            return f"{reference}: {meant}"
        if path[1] == "outputs" and len(path) < 3:
            return f"{reference} needs a key: {reference}.<key>"
        if path[1] != "outputs" and len(path) > 2:
            return f"{reference}: there is nothing in {path[1]}"
        if own and path[0] == self.name:
            return None
        if not self.before >> self.places[path[0]] & 1:
            return self._later(path[0])
        return None

    def _later(self, other: str) -> str:
        match self.definition.strategy:
            case "graph":
                return f"step {self.name!r} does not wait for {other!r}: add {other!r} to its needs"
            case "serial":
                return f"step {self.name!r} comes before {other!r}, so it cannot know of it"
            case _:
                return (
                    f'steps of a parallel plan cannot know of each other ({other!r}): use strategy = "graph"'
                )


def _step(here: _Here, step: Step, twice: bool, deep: int) -> Iterator[Trouble]:
    if not TOKEN.fullmatch(step.name):
        yield here.trouble("name", f"bad step name {step.name!r}: use a-z, 0-9, _ and -, at most 64")
    if twice:
        yield here.trouble("name", f"there are two steps named {step.name!r}")
    if len(set(step.needs)) < len(step.needs):
        yield here.trouble("needs", f"step {step.name!r} names a need twice")
    if (step.do is None) == (step.plan is None):
        forms = ", ".join((*spec.FORMS, "plan", "steps"))
        much = "runs several things" if step.do is not None else "runs nothing"
        yield here.trouble("", f"step {step.name!r} {much}: give exactly one of {forms}")
    if step.when is not None:
        yield from _when(here, step.when)
    if step.do is not None:
        yield from _ask(here, step, step.do, "")
    if step.undo is not None:
        yield from _ask(here, step, step.undo, "undo.")
    if step.plan is not None:
        yield from _nested(here, step, step.plan, deep)
    elif step.values:
        yield here.trouble("values", "values are for the parameters of a plan, and this step runs none")


def _when(here: _Here, text: str) -> Iterator[Trouble]:
    try:
        parsed = condition.parse(text)
    except Validation as error:
        yield _said(error, here.dot)
        return
    for reference in condition.asked(parsed):
        if wrong := here.wrong(reference):
            yield here.trouble("when", f"when: {wrong}")


def _ask(here: _Here, step: Step | None, ask: Submit, at: str) -> Iterator[Trouble]:
    """What is wrong with something that is to be run."""
    if step is not None and not at:
        news: dict[str, Any] = {}
        if step.retries is not None:
            news["retries"] = step.retries
        if step.timeout_ms is not None:
            news |= {"timeout_ms": step.timeout_ms, "timeout": None}
        ask = msgspec.structs.replace(ask, **news)
    if ask.idempotency_key is not None:
        yield here.trouble(
            f"{at}idempotency_key", "leave idempotency_key out: what a plan runs has a key already"
        )
    try:
        spec.check(ask)
    except Validation as error:
        yield _said(error, f"{here.dot}{at}")
    if not params.refers(ask):
        return
    fine = True
    for place in params.places(ask):
        if "${" not in place.text:
            continue
        for text in _texts(here, place, own=at == "undo."):
            fine = False
            yield here.trouble(f"{at}{place.field}", text)
    if fine:
        try:
            params.fill(ask, lambda _: "", batch=here.batch)
        except Validation as error:
            yield _said(error, f"{here.dot}{at}")


def _texts(here: _Here, place: params.Place, *, own: bool) -> Iterator[str]:
    plain = place.field not in _TEXTS
    if plain:
        yield from params.slips(place.text)
    for reference in params.references(place.text, batch=True):
        if reference.root in ("item", "index") and not here.batch:
            if plain:
                yield f"${{{reference}}}: only an operation of a batch has an item and an index"
        elif reference.root == "steps" and here.batch:
            yield f"${{{reference}}}: an operation of a batch knows of no steps"
        elif wrong := here.wrong(reference, own=own):
            yield wrong


def _nested(here: _Here, step: Step, plan: Definition, deep: int) -> Iterator[Trouble]:
    if deep >= DEEP:
        yield here.trouble("plan", f"plans are nested more than {DEEP} deep")
        return
    for name, value in (("retries", step.retries), ("timeout_ms", step.timeout_ms)):
        if value is not None:
            yield here.trouble(name, f"{name} is for a command: give it to the steps of the plan")
    yield from problems(plan, f"{here.dot}plan", deep + 1)
    open_ = dict[str, Any]()
    for place in params.places(step.values, "values"):
        for reference in params.references(place.text):
            open_[place.field.split(".")[1].split("[")[0]] = None
            if wrong := here.wrong(reference):
                yield here.trouble(place.field, wrong)
    fixed = {name: value for name, value in step.values.items() if name not in open_}
    declared = {name: each for name, each in plan.params.items() if name not in open_}
    for name in sorted(set(open_) - set(plan.params)):
        yield here.trouble(f"values.{name}", f"unknown parameter {name!r}, {near(name, list(plan.params))}")
    try:
        params.resolve(declared, fixed, "values")
    except Validation as error:
        yield _said(error, here.dot)


# ---- a batch ---------------------------------------------------------------------------------------------


def _batch(definition: Definition, dot: str) -> Iterator[Trouble]:
    many = definition.operations
    if definition.steps:
        yield Trouble(f"{dot}steps", "a batch has no steps: it does the same (do) for all its items")
    if many is None:
        yield Trouble(f"{dot}do", "a batch needs do: what is to be run for every item")
        return
    here = _Here(definition, {}, 0, dot, "", batch=True)
    yield from _ask(here, None, many.do, "do.")
    if many.undo is not None:
        yield from _ask(here, None, many.undo, "undo.")
    if many.items is not None and many.count is not None:
        yield Trouble(f"{dot}count", "items and count: give one of them")
    if isinstance(many.count, int) and not 0 <= many.count <= OPERATIONS_MOST:
        yield Trouble(f"{dot}count", f"count is {many.count}: it must be between 0 and {OPERATIONS_MOST}")
    for name, wanted in (("items", "list"), ("count", "integer")):
        text = getattr(many, name)
        if isinstance(text, str):
            found = list(params.references(text))
            root = found[0].root if len(found) == 1 and f"${{{found[0]}}}" == text else ""
            if root != "params":
                yield Trouble(f"{dot}{name}", f"{name} is {text!r}: give {name}, or one ${{params.<name>}}")
            elif wrong := here.wrong(found[0]):
                yield Trouble(f"{dot}{name}", wrong)
            elif len(found[0].path) == 1 and definition.params[found[0].path[0]].type != wanted:
                yield Trouble(
                    f"{dot}{name}", f"parameter {found[0].path[0]!r} must be of type {wanted} for {name}"
                )
