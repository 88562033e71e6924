"""Facts as bytes: tagged JSON for the body, headers for the envelope, and the chain between them."""

import hashlib
from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import Any

import msgspec

from events import (
    artifact,
    decision,
    execution,
    finding,
    limit,
    module,
    node,
    plan,
    playbook,
    plugin,
    schedule,
    task,
    template,
    workspace,
)
from events.clock import millis as millis
from events.clock import stamp as stamp
from events.errors import Internal
from events.message import Event, Message

KINDS: dict[str, ModuleType] = {
    "execution": execution,
    "node": node,
    "finding": finding,
    "schedule": schedule,
    "limit": limit,
    "plan": plan,
    "template": template,
    "plugin": plugin,
    "module": module,
    "decision": decision,
    "artifact": artifact,
    "workspace": workspace,
    "playbook": playbook,
    "task": task,
}
"""What there can be facts about."""

_encoder = msgspec.json.Encoder()


class Envelope(Message):
    """What every fact carries beside its body."""

    id: str
    """A unique id of this event, made once; a retry of the append keeps it."""
    time: str
    """When it was decided, RFC 3339 UTC with milliseconds."""
    cause: str = ""
    """The id of the command or event that led to this."""
    by: str = ""
    """Who asked: `client`, `node:<id>`, `inbox`, ..."""
    prev: str = ""
    """The hash of the entity's previous event, empty for its first."""
    trace: str = ""
    """A W3C traceparent."""


class Fact(Message):
    """One stored event: where it stands, what it says, and who said it."""

    seq: int
    kind: str
    entity: str
    n: int
    """The entity's version: 1 for its first event."""
    event: Event
    envelope: Envelope
    subject: str
    body: bytes

    @property
    def time(self) -> str:
        """When it was decided."""
        return self.envelope.time

    @property
    def name(self) -> str:
        """The event's token."""
        return type(self.event).name()


def events_of(kind: str) -> tuple[type[Event], ...]:
    """All events that an entity of this kind can have."""
    return tuple(KINDS[kind].EVENTS)


@cache
def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    union: Any = events_of(kind)[0]
    for each in events_of(kind)[1:]:
        union = union | each
    return msgspec.json.Decoder(union)


def encode(message: Message) -> bytes:
    """Write a message as JSON."""
    return _encoder.encode(message)


def decode(kind: str, body: bytes) -> Event:
    """Read the body of a fact; `Internal` when this version of the program cannot."""
    try:
        return _decoder(kind).decode(body)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Internal(f"cannot read this {kind} event: {error}") from error


def chain(subject: str, envelope: Envelope, body: bytes) -> str:
    """The hash that the entity's next event carries as `prev`."""
    head = (subject, envelope.id, envelope.time, envelope.cause, envelope.by, envelope.prev)
    return hashlib.sha256("\n".join(head).encode() + b"\n" + body + b"\n").hexdigest()


def digest(parts: Iterable[bytes]) -> str:
    """The SHA-256 of some bytes, in hex."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()
