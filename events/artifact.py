"""An artifact: content that is kept under its hash, and who needs it.

      new ---> kept <---> removed

The id is `art_` and the SHA-256 of the content, so the same content is the same artifact, whoever registers
it and how often.  As long as anybody refers to it, it is not removed.
"""

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from events.clock import millis
from events.errors import Conflict, NotFound
from events.message import Command, Event, Message
from events.ports import Decider

if TYPE_CHECKING:
    from events.codec import Fact

PREFIX = "art_"
ID = re.compile(r"art_[0-9a-f]{64}")


def named(sha256: str) -> str:
    """The id of some content, by its SHA-256 in hex."""
    return PREFIX + sha256


# ---- what happened ---------------------------------------------------------------------------------------


class Registered(Event):
    """Its content is kept from now on."""

    title: str
    """What whoever registered it calls it, such as a file name."""
    size: int
    """Bytes."""
    media_type: str = "application/octet-stream"
    backend: str = "local"
    """Who keeps the content."""
    node: str = ""
    """The node that wrote it; content in a folder lies there."""
    workspace_id: str = "default"
    labels: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


class Referenced(Event):
    """Somebody needs it."""

    by: str
    """An execution, a plan, a playbook, or any word."""
    phase_id: str | None = None
    """Of a playbook: where it needs it."""
    step: str | None = None
    title: str | None = None
    """What it is called there."""

    @property
    def key(self) -> str:
        """What tells it from other references to the same artifact."""
        return self.by if self.phase_id is None else f"{self.by}/{self.phase_id}"


class Released(Event):
    """Somebody needs it no more."""

    by: str
    count: int
    """How many references that were."""


class Removed(Event):
    """Nobody needed it any more, and its content is gone; it can be registered again."""

    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Register(Command):
    """Its content is kept."""

    registered: Registered
    reference: Referenced | None = None


class Refer(Command):
    """Somebody needs it too."""

    reference: Referenced


class Release(Command):
    """Whoever it is needs it no more."""

    by: str


class Remove(Command):
    """Nobody has needed it since some time."""

    before_ms: int
    """Only if nothing was said of it since then (milliseconds since 1970)."""
    reason: str | None = None


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = Registered | Referenced | Released | Removed
AnyCommand = Register | Refer | Release | Remove | Look
EVENTS = (Registered, Referenced, Released, Removed)


class State(Message):
    """An artifact, as its events tell it."""

    id: str = ""
    phase: Literal["new", "kept", "removed"] = "new"
    registered: Registered | None = None
    references: dict[str, Referenced] = {}
    created_at: str | None = None
    touched: int = 0
    """When something was last said of it, in milliseconds since 1970."""
    seq: int = 0

    @property
    def sha256(self) -> str:
        """The hash of its content."""
        return self.id.removeprefix(PREFIX)


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new" | "removed", Register(registered=registered, reference=reference):
            return (registered, *([reference] if reference is not None else []))
        case "kept", Register(registered=registered, reference=reference):
            news = [] if _known(state, registered) else [_placed(state, registered)]
            fresh = reference is not None and reference.key not in state.references
            return (*news, *([reference] if fresh and reference is not None else []))
        case "new", _:
            raise NotFound("Artifact not found")
        case _, Look():
            return ()
        case "kept", Refer(reference=reference):
            return () if reference.key in state.references else (reference,)
        case _, Release(by=by):
            count = sum(each.by == by for each in state.references.values())
            return (Released(by=by, count=count),) if count else ()
        case "removed", Remove():
            return ()
        case "kept", Remove() if state.references:
            who = sorted({each.by for each in state.references.values()})
            raise Conflict(f"{state.id} is needed by {', '.join(who[:5])}", references=who)
        case "kept", Remove(before_ms=before, reason=reason):
            return (Removed(reason=reason),) if state.touched < before else ()
        case _:
            raise Conflict(f"an artifact that is {state.phase} cannot do that")


def _placed(state: State, registered: Registered) -> Registered:
    """The content stays where it was first put."""
    known = state.registered or registered
    return msgspec.structs.replace(
        registered, backend=known.backend, node=known.node, workspace_id=known.workspace_id
    )


def _known(state: State, registered: Registered) -> bool:
    """Whether nothing new is said of it."""
    known = state.registered
    if known is None:
        return False
    same = ("title", "media_type", "labels", "metadata")
    return all(getattr(known, name) == getattr(registered, name) for name in same)


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    event, change = fact.event, msgspec.structs.replace
    state = change(state, id=fact.entity, seq=fact.seq, touched=millis(fact.time))
    match event:
        case Registered():
            return change(state, phase="kept", registered=event, created_at=state.created_at or fact.time)
        case Referenced():
            return change(state, references={**state.references, event.key: event})
        case Released(by=by):
            left = {key: each for key, each in state.references.items() if each.by != by}
            return change(state, references=left)
        case Removed():
            return change(state, phase="removed")
        case _:
            return state


ARTIFACT = Decider("artifact", State(), decide, evolve)
