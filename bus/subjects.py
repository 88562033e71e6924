"""Every subject of the bus is built and read here, and this is the map.

    brain.evt.<kind>.<id>.<n>.<event>                    the log; n is the entity's version
    brain.evt.execution.<id>.<n>.queued.<module>.<priority>    the log is the queue of work too
    brain.fact.<the same tail>                           what the log stored, said again for everybody
    brain.cmd.<kind>.<verb>                              a command, answered
    brain.inbox.<kind>.<verb>                            a command, stored first
    brain.out.<id>.<stdout|stderr>                       output of an execution
    brain.progress.<kind>.<id>                           how far it is
    brain.tel.node.<node>, brain.tel.execution.<id>      samples and heartbeats
    brain.dead.inbox.<sequence>                          an inbox message that was refused
    brain.node.<node>.<verb>                             from node to node, never for clients
    brain.lease.<role>                                   who holds a role now

A token is 1 to 64 of `a-z 0-9 _ -`, or the id of an artifact.  What is not is refused with `Validation`.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from events.artifact import ID
from events.errors import Validation
from events.ids import TOKEN

ROOT = "brain"
QUEUED = "queued"
Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_EVENT = re.compile(
    rf"{ROOT}\.(evt|fact)\.({TOKEN.pattern})\.({TOKEN.pattern}|{ID.pattern})\.({_NUMBER.pattern})\.({TOKEN.pattern})"
    rf"(?:\.({TOKEN.pattern})\.({TOKEN.pattern}))?"
)


class Event(msgspec.Struct, frozen=True, tag=True):
    """An event in the log, or with `fact` as it is told to everybody."""

    kind: str
    id: str
    n: int
    event: str
    module: str | None = None
    priority: str | None = None
    fact: bool = False

    def __str__(self) -> str:
        tail = () if self.module is None else (_token(self.module), _token(self.priority or ""))
        if bool(tail) != _tailed(self.kind, self.event):
            raise Validation("module and priority belong to the queued event of an execution, only there")
        return _join("fact" if self.fact else "evt", self.kind, self.id, _number(self.n), self.event, *tail)


class Request(msgspec.Struct, frozen=True, tag=True):
    """A command, asked for at once or with `stored` put into the inbox."""

    kind: str
    verb: str
    stored: bool = False

    def __str__(self) -> str:
        return _join("inbox" if self.stored else "cmd", self.kind, self.verb)


class Output(msgspec.Struct, frozen=True, tag=True):
    """A piece of what an execution wrote."""

    id: str
    stream: Stream

    def __str__(self) -> str:
        if self.stream not in STREAMS:
            raise Validation(f"no such output stream: {self.stream!r}")
        return _join("out", self.id, self.stream)


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far something is."""

    kind: str
    id: str

    def __str__(self) -> str:
        return _join("progress", self.kind, self.id)


class Telemetry(msgspec.Struct, frozen=True, tag=True):
    """A sample of a node or of an execution."""

    kind: Literal["node", "execution"]
    id: str

    def __str__(self) -> str:
        if self.kind not in {"node", "execution"}:
            raise Validation(f"there is no telemetry of a {self.kind!r}")
        return _join("tel", self.kind, self.id)


class Dead(msgspec.Struct, frozen=True, tag=True):
    """An inbox message that was refused, by its sequence there."""

    sequence: int

    def __str__(self) -> str:
        return _join("dead", "inbox", _number(self.sequence))


class Peer(msgspec.Struct, frozen=True, tag=True):
    """A request from one node to another."""

    node: str
    verb: str

    def __str__(self) -> str:
        return _join("node", self.node, self.verb)


class Lease(msgspec.Struct, frozen=True, tag=True):
    """The holder of a role."""

    role: str

    def __str__(self) -> str:
        return _join("lease", self.role)


Subject = Event | Request | Output | Progress | Telemetry | Dead | Peer | Lease


def event(
    kind: str, entity: str, n: int, event: str, module: str | None = None, priority: str | None = None
) -> str:
    """Name an event of the log; `module` and `priority` exactly for an execution's `queued`."""
    return str(Event(kind, entity, n, event, module, priority))


def command(kind: str, verb: str) -> str:
    """Name a command that is answered."""
    return str(Request(kind, verb))


def inbox(kind: str, verb: str) -> str:
    """Name a command that is stored first."""
    return str(Request(kind, verb, stored=True))


def output(entity: str, stream: Stream) -> str:
    """Name the output of an execution."""
    return str(Output(entity, stream))


def progress(kind: str, entity: str) -> str:
    """Name the progress of an entity."""
    return str(Progress(kind, entity))


def telemetry(kind: Literal["node", "execution"], entity: str) -> str:
    """Name the samples of a node or an execution."""
    return str(Telemetry(kind, entity))


def dead(sequence: int) -> str:
    """Name the refused inbox message of that sequence."""
    return str(Dead(sequence))


def peer(node: str, verb: str) -> str:
    """Name a request from node to node."""
    return str(Peer(node, verb))


def lease(role: str) -> str:
    """Name the holder of a role."""
    return str(Lease(role))


def entity(kind: str, entity: str) -> str:
    """Filter for everything that happened to one entity: the fence of an append, and its history."""
    return f"{ROOT}.evt.{_word(kind)}.{_token(entity)}.>"


@lru_cache(1024)
def waiting(module: str, priority: str) -> str:
    """Say how the subject of an execution's `queued` ends."""
    return f"{QUEUED}.{_token(module)}.{_token(priority)}"


def queue(module: str, priority: str) -> str:
    """Filter for the waiting work of a module at one priority."""
    return f"{ROOT}.evt.execution.*.*.{waiting(module, priority)}"


def fact(subject: str) -> str:
    """Say under which subject the event of that subject is told to everybody."""
    prefix = f"{ROOT}.evt."
    if not subject.startswith(prefix):
        raise Validation(f"not an event of the log: {subject!r}")
    return f"{ROOT}.fact.{subject[len(prefix) :]}"


def parse(subject: str) -> Subject:
    """Read any subject of the map; refuses every other with `Validation`."""
    if found := _EVENT.fullmatch(subject):
        room, kind, entity, n, event, module, priority = found.groups()
        if (module is not None) == _tailed(kind, event):
            return Event(kind, entity, int(n), event, module, priority, room == "fact")
    read = _read(subject.split("."))
    if read is None or str(read) != subject:
        raise Validation(f"not a subject of the map: {subject!r}")
    return read


def _read(tokens: list[str]) -> Subject | None:
    match tokens:
        case ["brain", ("cmd" | "inbox") as room, kind, verb]:
            return Request(kind, verb, stored=room == "inbox")
        case ["brain", "out", id, ("stdout" | "stderr") as stream]:
            return Output(id, stream)
        case ["brain", "progress", kind, id]:
            return Progress(kind, id)
        case ["brain", "tel", ("node" | "execution") as kind, id]:
            return Telemetry(kind, id)
        case ["brain", "dead", "inbox", sequence] if _NUMBER.fullmatch(sequence):
            return Dead(int(sequence))
        case ["brain", "node", node, verb]:
            return Peer(node, verb)
        case ["brain", "lease", role]:
            return Lease(role)
        case _:
            return None


def _tailed(kind: str, event: str) -> bool:
    """Whether the subject of an event names a module and a priority."""
    return event == QUEUED and kind == "execution"


def _join(room: str, *tokens: str) -> str:
    return ".".join((ROOT, room, *map(_token, tokens)))


@lru_cache(1024)
def _word(token: str) -> str:
    """Check what is one of a few."""
    return _token(token)


def _token(token: str) -> str:
    if not TOKEN.fullmatch(token) and not ID.fullmatch(token):
        raise Validation(f"not a word for a subject: {token!r} (1 to 64 of a-z 0-9 _ -)")
    return token


def _number(number: int) -> str:
    if number < 0:
        raise Validation(f"not a number for a subject: {number}")
    return str(number)
