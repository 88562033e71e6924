"""A node: one running Hindbrain.  It only records; there is nothing to refuse."""

from typing import TYPE_CHECKING

from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact


class Started(Event):
    """A node came up."""

    boot: str
    """A new random word at every start, so that a reused name is never the same owner."""
    host: str
    pid: int
    version: str
    cores: int
    memory_bytes: int
    roles: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    """In which languages it can run code."""


class Stopped(Event):
    """A node went down in good order."""

    boot: str
    reason: str = ""


class ActorRestarted(Event):
    """A supervisor made an actor anew."""

    actor: str
    reason: str
    restarts: int
    """How often it was restarted since the node came up."""


class ProcessRestarted(Event):
    """A helper process of the node (bus, projector, keeper) died and was started anew."""

    process: str
    reason: str
    pid: int = 0


class Appointed(Event):
    """The node plays a role now that only one plays at a time."""

    role: str
    """`timer`, `planner`, `limiter` or `scaler`."""
    boot: str


class Record(Command):
    """State what happened."""

    event: "AnyEvent"


AnyEvent = Started | Stopped | ActorRestarted | ProcessRestarted | Appointed
AnyCommand = Record
EVENTS = (Started, Stopped, ActorRestarted, ProcessRestarted, Appointed)


class State(Message):
    """What is known of a node."""

    status: str = "unknown"
    boot: str = ""
    restarts: int = 0


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """A node is believed; only an end that is not its own is left out."""
    if isinstance(command.event, Stopped) and command.event.boot != state.boot:
        return ()
    return (command.event,)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    match fact.event:
        case Started(boot=boot):
            return State(status="up", boot=boot, restarts=0)
        case Stopped():
            return State(status="down", boot=state.boot, restarts=state.restarts)
        case ActorRestarted() | ProcessRestarted():
            return State(status=state.status, boot=state.boot, restarts=state.restarts + 1)
        case _:
            return state


NODE = Decider("node", State(), decide, evolve)
