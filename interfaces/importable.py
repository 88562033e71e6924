"""What of a task can be stored: a function by the name under which others find it, and plain data."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import manifest
from events.errors import Validation


def task(module: str, function: Callable[..., Any] | str, args: Sequence[Any]) -> dict[str, Any]:
    """Say what a module is to run, as its verb takes it; `Validation` for what cannot be kept."""
    try:
        given = msgspec.json.decode(msgspec.json.encode(list(args)))
    except (TypeError, ValueError) as error:
        raise Validation(f"args are stored, so they must be plain data: {error}", field="args") from error
    named = function if isinstance(function, str) else path(function)
    if isinstance(function, str) and function.partition(":")[0] in (module, function):
        if len(given) > 1:
            raise Validation(f"the handler {named} takes one argument, not {len(given)}", field="args")
        return {"handler": named, "data": given[0] if given else {}}
    return {"function": named, "args": given}


def path(function: Callable[..., Any]) -> str:
    """Say where a function is imported from, `package.module:name`; `Validation` when it cannot be."""
    home, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if home == "__main__":
        why = "is defined in the program itself: move it to a module that can be imported"
    elif not home or not name or "<" in name:
        why = "has no name by which it can be imported: define it with `def` at the top of a module"
    elif manifest.find(f"{home}:{name}") != function:
        why = f"is not what {home}:{name} is: give a function that is found under its own name"
    else:
        return f"{home}:{name}"
    raise Validation(
        f"{name or function!r} {why}, or name a handler; another process runs it, maybe much later, so only "
        "what can be found again can be stored (any function will do with enabled=False)",
        field="function",
    )
