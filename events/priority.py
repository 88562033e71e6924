"""How urgent something is: five levels in strict order."""

from typing import Literal, get_args

from events.errors import Validation

Priority = Literal["critical", "high", "medium", "low", "idle"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""Strict order, most urgent first; the numbers 1 to 5 name them too."""


def urgency(given: str | int) -> Priority:
    """Read a priority as people say it: its name, or 1 for the most urgent to 5."""
    match given:
        case bool():
            pass
        case int() if 1 <= given <= len(PRIORITIES):
            return PRIORITIES[given - 1]
        case str():
            for name in PRIORITIES:
                if name == given.lower():
                    return name
        case _:
            pass
    raise Validation(f"unknown priority {given!r}: use {', '.join(PRIORITIES)} or 1 to 5", field="priority")
