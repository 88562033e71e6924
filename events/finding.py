"""A finding: something that a person should look at, from the moment it is seen until it is over."""

from typing import TYPE_CHECKING, Any

from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact


class Opened(Event):
    """Something is wrong."""

    type: str
    """What it is, in one word with underscores: `log_gap`, `log_chain`, `restarts`, `disk`, ..."""
    about: str
    """What it is about: a node, a stream, an actor, a table."""
    text: str
    """A sentence that says what was seen and what to do."""
    data: dict[str, Any] = {}


class Closed(Event):
    """It is over."""

    text: str = ""


class Open(Command):
    """Report it."""

    type: str
    about: str
    text: str
    data: dict[str, Any] = {}


class Close(Command):
    """Report that it is over."""

    text: str = ""


AnyEvent = Opened | Closed
AnyCommand = Open | Close
EVENTS = (Opened, Closed)


class State(Message):
    """Whether the finding stands."""

    open: bool = False


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """A finding is opened once and closed once; to say it again changes nothing."""
    match command:
        case Open(type=kind, about=about, text=text, data=data) if not state.open:
            return (Opened(type=kind, about=about, text=text, data=data),)
        case Close(text=text) if state.open:
            return (Closed(text=text),)
        case _:
            return ()


def evolve(state: State, fact: "Fact") -> State:  # noqa: ARG001 -- the shape of every evolve
    """Fold one fact into the state."""
    return State(open=isinstance(fact.event, Opened))


FINDING = Decider("finding", State(), decide, evolve)
