"""Secrets of a plan: values go into the vault of the node that takes it, names and hashes into the log.

In the file of a plan a value stands under its step and its name, and under its name alone where all its steps
have it in common: that is how an execution finds what it needs.
"""

from typing import Any

import msgspec

from actors import languages
from actors.vault import Vault, split
from events import plan, spec
from events.checking import mapped
from events.errors import Validation
from events.steps import Definition

Values = dict[str, str]


def hide(definition: Definition, vault: Vault, secrets: Values) -> tuple[Definition, Values]:
    """Part a plan from the values of its secrets, and see that this node has the languages it needs.

    `secrets` are those of everything that it runs.
    """
    found: Values = {}
    env, shared = _parted(definition.env)
    shared |= secrets

    def change(name: str, ask: spec.Submit) -> spec.Submit:
        own, hidden = _parted(ask.env)
        mine = {**shared, **ask.secrets, **hidden}
        for each, value in mine.items():
            place = f"{name}/{each}" if name else each
            if found.setdefault(place, value) != value:
                raise Validation(f"{each} is two different secrets", field="secrets")
        return msgspec.structs.replace(
            ask,
            env=own,
            secrets=dict(sorted(vault.hashes(mine).items())),
            language=_language(ask, name),
        )

    made = mapped(definition, change)
    return msgspec.structs.replace(made, env=env), found


def _parted(env: Values) -> tuple[Values, Values]:
    """What is still to be filled in is no value yet; what fills it is a parameter or an output."""
    own, hidden = split(env)
    own |= {name: value for name, value in hidden.items() if "${" in value}
    return own, {name: value for name, value in hidden.items() if name not in own}


def _language(ask: spec.Submit, name: str) -> str | None:
    if ask.code is None or (ask.language is not None and "${" in ask.language):
        return ask.language
    row = languages.find(ask.language or "python")
    if row.program is None:
        raise Validation(
            f"{row.name} is not installed on this node: install {' or '.join(row.programs)}, "
            f"or use one of {', '.join(languages.available())}",
            field=f"{name}.language" if name else "language",
        )
    return row.name


def keep(entity: str, definition: Definition, values: Values, vault: Vault) -> bool:
    """Keep the values for a plan and for the plans in it; False when that was done before.

    A plan that is a step has executions of its own, so it has a file of its own.
    """
    if not values:
        return False
    kept = vault.put(entity, _common(values) if definition.strategy == "batch" else values)
    for step in definition.steps:
        if step.plan is not None:
            within = inner(values, step.name)
            keep(_inside(entity, step.name, 1), step.plan, within, vault)
    return kept


def inner(values: Values, step: str) -> Values:
    """What a plan that is a step needs, under the names that it has there."""
    root = f"{step}/"
    return {name.removeprefix(root): value for name, value in values.items() if name.startswith(root)}


def drop(entity: str, definition: Definition, vault: Vault) -> None:
    """Forget the values of a plan and of the plans in it."""
    vault.drop(entity)
    for step in definition.steps:
        run = 1
        while step.plan is not None and vault.get(inside := _inside(entity, step.name, run)) is not None:
            drop(inside, step.plan, vault)
            run += 1


def renew(entity: str, state: plan.State, vault: Vault) -> None:
    """Keep the values for plans in a plan that are about to run once more, as plans of their own again."""
    values = vault.get(entity) or {}
    for step in state.steps:
        if step.plan is not None:
            again = _inside(entity, step.name, state.cells[step.name].run + 1)
            keep(again, step.plan, inner(values, step.name), vault)


def _inside(entity: str, step: str, run: int) -> str:
    return plan.child(entity, step, run, nested=True)


def wanted(definition: Definition) -> bool:
    """Whether it has secrets at all."""
    found: list[Any] = []

    def look(_: str, ask: spec.Submit) -> spec.Submit:
        found.extend(ask.secrets)
        return ask

    mapped(definition, look)
    return bool(found)


def nameless(definition: Definition) -> Definition:
    """The same without the hashes, of which every node makes its own."""

    def bare(_: str, ask: spec.Submit) -> spec.Submit:
        return msgspec.structs.replace(ask, secrets=dict.fromkeys(ask.secrets, ""))

    return mapped(definition, bare)


def _common(values: Values) -> Values:
    """What takes an operation back is no step: its secrets stand beside those of the operation."""
    found: Values = {}
    for name, value in values.items():
        place = name.removeprefix("undo/") if name.startswith("undo/") and name.count("/") == 1 else name
        if found.setdefault(place, value) != value:
            raise Validation(f"{place} is one secret for an operation and its undo", field="secrets")
    return found
