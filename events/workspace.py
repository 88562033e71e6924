"""A workspace: a folder that playbooks share, with the artifacts that they leave there."""

from typing import TYPE_CHECKING, Literal

import msgspec

from events.errors import Conflict, NotFound, Validation
from events.ids import TOKEN
from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact

DEFAULT = "default"


class Opened(Event):
    """There is a workspace of this name."""

    path: str | None = None
    """Its folder; unsaid it lies under the data folder of each node."""
    description: str | None = None


class Open(Command):
    """There shall be such a workspace."""

    name: str
    path: str | None = None
    description: str | None = None
    new: bool = False
    """Its path is meant: refuse another one."""


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = Opened
AnyCommand = Open | Look
EVENTS = (Opened,)


class State(Message):
    """A workspace, as its events tell it."""

    id: str = ""
    phase: Literal["new", "open"] = "new"
    opened: Opened | None = None
    created_at: str | None = None
    seq: int = 0


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case _, Open(name=name) if not TOKEN.fullmatch(name):
            raise Validation(f"bad workspace name {name!r}: use a-z, 0-9, _ and -, at most 64", field="name")
        case "new", Open(path=path, description=description):
            if path is not None and not path.startswith("/"):
                raise Validation(f"path is {path!r}: it must begin with /", field="path")
            return (Opened(path=path, description=description),)
        case "new", _:
            raise NotFound("Workspace not found")
        case _, Open(path=path, new=True) if state.opened is not None and path != state.opened.path:
            raise Conflict(
                f"workspace {state.id} is there already, at {state.opened.path or 'its own place'}"
            )
        case _:
            return ()


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    state = msgspec.structs.replace(state, id=fact.entity, seq=fact.seq)
    match fact.event:
        case Opened():
            return msgspec.structs.replace(state, phase="open", opened=fact.event, created_at=fact.time)
        case _:
            return state


WORKSPACE = Decider("workspace", State(), decide, evolve)
