"""Which steps of a plan run once more when that is wanted."""

from collections.abc import Iterable

from events import batch
from events.course import State
from events.errors import Conflict, Validation
from events.params import near
from events.planned import Rerun


def chosen(state: State, command: Rerun) -> tuple[str, ...]:
    """The steps that run again: those that are meant, and those that depend on them."""
    if command.steps and command.from_step is not None:
        raise Validation("give steps or from_step, not both", field="from_step")
    if state.batch is not None:
        if command.steps or command.from_step is not None:
            raise Validation("of a batch, all that did not end well runs again: name nothing", field="steps")
        if not batch.left(state.batch):
            raise Conflict("all operations ended well: there is nothing to run again")
        return ()
    for name in (*command.steps, *filter(None, (command.from_step,))):
        if name not in state.graph.index:
            field = "steps" if command.steps else "from_step"
            raise Validation(f"unknown step {name!r}, {near(name, list(state.graph.index))}", field=field)
    if command.from_step is not None:
        first = state.graph.index[command.from_step]
        serial = state.definition.strategy == "serial"
        begin = set(range(first, len(state.steps))) if serial else {first}
    elif command.steps:
        begin = {state.graph.index[name] for name in command.steps}
    else:
        begin = _unwell(state)
    if not begin:
        raise Conflict("all steps ended well: name those that are to run again")
    places = sorted(_dependent(state, begin))
    return tuple(state.steps[place].name for place in places)


def _unwell(state: State) -> set[int]:
    """What failed without leave, what was not reached because of that, and what was taken back."""
    found: set[int] = set()
    for place, step in enumerate(state.steps):
        cell = state.cells[step.name]
        failed = cell.status in ("failed", "cancelled", "timed_out") and not step.allow_failure
        missed = cell.status == "skipped" and cell.reason in ("stopped", "cancelled")
        if failed or missed or cell.undone:
            found.add(place)
    return found


def _dependent(state: State, begin: Iterable[int]) -> set[int]:
    found, row = set(begin), list(begin)
    for place in row:
        fresh = [other for other in state.graph.readers[place] if other not in found]
        found.update(fresh)
        row += fresh
    return found
