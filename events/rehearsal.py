"""What a command would do: the rules decide, and nobody stores what they say."""

from collections.abc import Sequence
from typing import Any

from events import execution, plan
from events.asks.rehearse import Line
from events.errors import HindbrainError
from events.estimate import number
from events.message import Command, Event
from events.ports import Decider

FINAL = "A cancel cannot be taken back."
AGAIN = "What runs again is a new execution: it can be cancelled, and what it does cannot be taken back."
BACK = "What is taken back is done once more only by a rerun."
OFF = "What is off the list stays in the log, and does not come back to the list."
SHOWN = 20
"""Names of steps that are said one by one."""


def line(decider: Decider[Any], entity: str, state: Any, command: Command) -> Line:
    """What a command would do to one entity, as it is now."""
    try:
        events = decider.decide(state, command)
    except HindbrainError as error:
        return Line(id=entity, text=f"nothing: {error.message}")
    return Line(id=entity, text=told(state, events))


def told(state: Any, events: Sequence[Event]) -> str:
    """What would be so after these events."""
    for event in events:
        match event:
            case execution.Cancelled():
                return f"it is {state.status} and would never start"
            case execution.CancelRequested():
                node = f" on {state.started.node}" if state.started else ""
                return f"it runs{node}: its process tree would be stopped"
            case execution.Discarded():
                return "it would be off the list of dead letters"
            case plan.CancelRequested(rollback=True):
                return f"{_stops(state)}; then what it did would be taken back"
            case plan.CancelRequested() | plan.Cancelled():
                return _stops(state)
            case plan.RerunRequested(steps=steps):
                return f"would run again: {_names(steps)}" if steps else "what failed would run again"
            case plan.RollbackStarted(steps=steps, count=count):
                return f"would be taken back: {_names(steps) or number(count, 'operations')}"
            case _:
                pass
    return "nothing: it is so already"


def _stops(state: plan.State) -> str:
    unit = "operations" if state.batch is not None else "steps"
    stops = f"{number(state.outstanding, unit)} would be stopped"
    if state.total is None:
        return f"{stops}, and no more would start"
    left = max(0, state.total - state.done - state.outstanding)
    return f"{stops}, {left} more would never start"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
