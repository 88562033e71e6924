"""A decision about a module: what was decided, why, and everything that was seen when it was.

It happens once: an id is made of the moment and the module, so whoever decides the same thing again, after a
crash or beside another, finds it made.
"""

from typing import TYPE_CHECKING, Any, Literal

from events import ids
from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact

Type = Literal[
    "scale_up",
    "scale_down_suggested",
    "scale_down",
    "self_heal",
    "restart",
    "refused",
    "pause",
    "resume",
]


class Made(Event):
    """It was decided."""

    type: str
    """`scale_up scale_down_suggested scale_down self_heal restart refused pause resume`."""
    module: str
    context: str
    """Why, in a sentence."""
    data: dict[str, Any] = {}
    """What was seen and what follows; of the scaler: `events/scaling.py`, `Seen`."""


class Make(Command):
    """Decide this."""

    type: Type
    module: str
    context: str
    data: dict[str, Any] = {}


AnyEvent = Made
AnyCommand = Make
EVENTS = (Made,)


class State(Message):
    """Whether it was made."""

    made: bool = False


def entity(tick: int, module: str) -> str:
    """The id of what is decided about a module at a tick, whoever decides it."""
    return ids.derived("decision", f"{tick}\n{module}")


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """A decision is made once; whoever comes second changes nothing."""
    if state.made:
        return ()
    return (Made(type=command.type, module=command.module, context=command.context, data=command.data),)


def evolve(state: State, fact: "Fact") -> State:  # noqa: ARG001 -- the shape of every evolve
    """Fold one fact into the state."""
    return State(made=True)


DECISION = Decider("decision", State(), decide, evolve)
