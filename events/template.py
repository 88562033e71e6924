"""A template: a plan that is kept under a name, and started with other parameters each time.

      new ---> kept ---> deleted ---> kept

Saving it again makes its next version; the earlier ones can still be started.
"""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from events import checking
from events.errors import NotFound, Validation
from events.ids import TOKEN
from events.message import Command, Event, Message
from events.ports import Decider
from events.steps import Definition

if TYPE_CHECKING:
    from events.codec import Fact

# ---- what happened ---------------------------------------------------------------------------------------


class Saved(Event):
    """There is a new version of it."""

    version: int
    definition: Definition
    digest: str = ""
    """A hash of the definition, by which the same one is not kept twice in a row."""
    comment: str | None = None


class Deleted(Event):
    """It cannot be started any more; what was started of it goes on."""

    reason: str | None = None


# ---- what can be asked -----------------------------------------------------------------------------------


class Save(Command):
    """Keep this under the name."""

    name: str
    definition: Definition
    digest: str
    comment: str | None = None


class Delete(Command):
    """Keep it no more."""

    reason: str | None = None


class Look(Command):
    """See what it is; changes nothing."""


AnyEvent = Saved | Deleted
AnyCommand = Save | Delete | Look
EVENTS = (Saved, Deleted)


class State(Message):
    """A template, as its events tell it."""

    id: str = ""
    phase: Literal["new", "kept", "deleted"] = "new"
    versions: tuple[Saved, ...] = ()
    """All that there ever were, the first one first."""
    created_at: str | None = None
    saved_at: str | None = None
    seq: int = 0

    @property
    def current(self) -> Saved | None:
        """What is started when no version is named."""
        return self.versions[-1] if self.versions and self.phase == "kept" else None

    def version(self, number: int | None = None) -> Saved:
        """One version, the last one unless it is named; `NotFound` says which there are."""
        if self.current is None:
            raise NotFound(f"Template not found: {self.id}" if self.id else "Template not found")
        if number is None:
            return self.current
        if not 1 <= number <= len(self.versions):
            raise NotFound(f"Template {self.id} has no version {number}: there are 1 to {len(self.versions)}")
        return self.versions[number - 1]


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case _, Save(name=name) if not TOKEN.fullmatch(name):
            raise Validation(f"bad template name {name!r}: use a-z, 0-9, _ and -, at most 64", field="name")
        case "kept", Save(digest=digest) if state.versions[-1].digest == digest:
            return ()
        case _, Save(definition=definition, digest=digest, comment=comment):
            checking.check(definition)
            version = len(state.versions) + 1
            return (Saved(version=version, definition=definition, digest=digest, comment=comment),)
        case "new", _:
            raise NotFound("Template not found")
        case _, Look():
            return ()
        case "deleted", Delete():
            return ()
        case _, Delete(reason=reason):
            return (Deleted(reason=reason),)
        case _:
            raise NotFound("Template not found")


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    change = msgspec.structs.replace
    state = change(state, id=fact.entity, seq=fact.seq)
    match fact.event:
        case Saved() as saved:
            return change(
                state,
                phase="kept",
                versions=(*state.versions, saved),
                created_at=state.created_at or fact.time,
                saved_at=fact.time,
            )
        case Deleted():
            return change(state, phase="deleted")
        case _:
            return state


def wanted(saved: Saved, items: list[Any] | None = None, count: int | None = None) -> Definition:
    """What is started of it; a batch may get its items or its count now."""
    definition = saved.definition
    if items is None and count is None:
        return definition
    if definition.operations is None:
        field = "items" if items is not None else "count"
        raise Validation(
            f"{field}: this template is a plan of steps, and only a batch has {field}", field=field
        )
    if items is not None and count is not None:
        raise Validation("items and count: give one of them", field="count")
    operations = msgspec.structs.replace(definition.operations, items=items, count=count)
    return msgspec.structs.replace(definition, operations=operations)


TEMPLATE = Decider("template", State(), decide, evolve)
