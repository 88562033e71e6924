"""What people answer, held against the schema of the question."""

from typing import Any

import jsonschema_rs

from events import phases
from events.errors import Conflict, Validation


def check(schema: dict[str, Any], value: Any) -> None:
    """Refuse an answer that does not fit, with what the schema says about it."""
    try:
        validator = jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise Conflict(f"the schema of the question is none: {error}") from None
    found = [f"{_where(error)}{error.message}" for error in validator.iter_errors(value)]
    if found:
        raise Validation("; ".join(found[:5]), field="value", problems=found[:20])


def schemas(definition: phases.Definition, field: str = "") -> None:
    """Refuse questions whose schema is none, and defaults that do not fit theirs."""
    for at, phase in enumerate(definition.phases):
        for place, step in enumerate(phase.steps):
            here = f"{field}phases[{at}].steps[{place}]"
            if step.playbook is not None:
                schemas(step.playbook, f"{here}.playbook.")
            if step.input is None:
                continue
            try:
                jsonschema_rs.validator_for(step.input.schema)
            except (ValueError, jsonschema_rs.ValidationError) as error:
                text = str(error).split("\n", 1)[0]
                raise Validation(f"step {step.name!r}: {text}", field=f"{here}.input.schema") from None
            if step.input.default is not None:
                try:
                    check(step.input.schema, step.input.default)
                except Validation as error:
                    error.details["field"] = f"{here}.input.default"
                    raise


def _where(error: "jsonschema_rs.ValidationError") -> str:
    path = ".".join(map(str, error.instance_path))
    return f"{path}: " if path else ""
