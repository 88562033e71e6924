"""Where the rooms meet: what actors, the bus and the projections may ask of each other.

Everything here may be called from any thread.  What takes time answers through a callback, in lots, from a
thread of the giver; the callback must be quick (`tell` an actor) and must not raise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from events.message import Command, Event

if TYPE_CHECKING:
    from events.codec import Fact
    from events.errors import HindbrainError

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Decider(Generic[S]):
    """The pure rules of one kind of entity (https://thinkbeforecoding.com/post/2021/12/17/functional-event-sourcing-decider)."""

    kind: str
    initial: S
    decide: Callable[[S, Any], Sequence[Event]]
    evolve: "Callable[[S, Fact], S]"
    trace: Callable[[S], str] | None = None
    """To which trace an entity belongs; None: what is asked of it need not belong to the same one."""


class Snapshot(msgspec.Struct, Generic[S], frozen=True):
    """An entity as far as somebody knows it."""

    state: S
    n: int = 0
    """Its version: how many events it has."""
    seq: int = 0
    """The sequence of its last event in the stream."""
    hash: str = ""
    """The chain hash of its last event, `prev` of the next; empty when whoever knows it did not look."""
    time: str = ""
    """Of its last event."""


class Ask(msgspec.Struct, frozen=True):
    """One command for one entity."""

    decider: Decider[Any]
    entity: str
    command: Command
    by: str = ""
    cause: str = ""
    trace: str = ""
    """A traceparent, or nothing; an entity that belongs to a trace stays in its own."""
    known: Snapshot[Any] | None = None
    """What the asker believes the entity to be.  Only a head start: the log checks it before it stores."""
    tag: Any = None
    """Whatever the asker wants to find again in the outcome."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of an `Ask`."""

    ask: Ask
    snapshot: Snapshot[Any]
    """The entity afterwards; with an error, as it was found."""
    facts: "Sequence[Fact]" = ()
    """What was stored because of it; none when it had already happened."""
    error: "HindbrainError | None" = None


class Log(Protocol):
    """The truth."""

    def handle(self, asks: Sequence[Ask], done: Callable[[Sequence[Outcome]], None]) -> None:
        """Decide and store; `done` gets every outcome, in one or more lots, after the facts are durable."""
        ...

    def load(
        self, decider: Decider[Any], entities: Sequence[str], done: "Callable[[Sequence[Loaded]], None]"
    ) -> None:
        """Read whole entities; one that does not exist has the initial state and version 0."""
        ...


class Loaded(msgspec.Struct, frozen=True):
    """A whole entity."""

    entity: str
    snapshot: Snapshot[Any]
    facts: "Sequence[Fact]" = ()
    error: "HindbrainError | None" = None


class Delivery(msgspec.Struct, frozen=True):
    """One queued execution, offered to this node; exactly one of the calls must follow."""

    fact: "Fact"
    ack: Callable[[], None]
    """It moved on: never offer it again."""
    nak: Callable[[float], None]
    """Not now: offer it again after so many seconds."""
    number: int = 0
    """It is the n-th that was offered here."""


class Work(Protocol):
    """What waits to be taken."""

    def want(self, free: int, more: Sequence[int] = (), seen: int | None = None) -> None:
        """Say how many executions could be taken at once now; deliveries come to the listener in lots.

        `more`: how many further ones of each priority, most urgent first, could take the place of others.
        `seen`: the number of the last delivery that this takes into account, None for all there were.
        """
        ...


class Chunk(msgspec.Struct, frozen=True):
    """A piece of output; with `end`, the empty piece that says how long the stream became."""

    execution: str
    stream: str
    offset: int
    attempt: int
    time: str
    data: bytes
    end: bool = False


class Outlet(Protocol):
    """Where output, progress and samples go."""

    def output(self, chunks: Sequence[Chunk], done: Callable[[bool], None]) -> None:
        """Publish output in order; `done(True)` when all is stored, `done(False)` when that is not sure."""
        ...

    def offset(self, execution: str, stream: str, done: Callable[[int | None], None]) -> None:
        """Up to which offset the stored output reaches; None when that cannot be learned now."""
        ...

    def restore(self, execution: str, stream: str, path: Path, done: Callable[[bool], None]) -> None:
        """Bring a file up to what is stored of an output; `done(False)` when that cannot be done now."""
        ...

    def progress(self, kind: str, entity: str, message: dict[str, Any]) -> None:
        """Tell whoever listens; lossy."""
        ...

    def sample(self, subject: tuple[str, str], message: dict[str, Any]) -> None:
        """Publish telemetry about `(node, id)` or `(execution, id)`; lossy."""
        ...


class Call(msgspec.Struct, frozen=True):
    """A request that came in through a door; `answer` takes the reply's body, `refuse` an error."""

    kind: str
    verb: str
    body: bytes
    answer: Callable[[bytes], None]
    refuse: "Callable[[HindbrainError], None]"
    by: str = "client"
    trace: str = ""
    key: str = ""
    """An idempotency key of the carrier, used when the body has none."""
    token: str = ""
    """What its caller showed, to be taken for an administrator."""


class Blobs(Protocol):
    """Large texts under their hash, in the object store of the bus."""

    def put(self, source: bytes | Path, done: "Callable[[str | HindbrainError], None]") -> None:
        """Put a blob; `done` gets its hash, or an error."""
        ...

    def fetch(self, sha256: str, path: str, done: "Callable[[HindbrainError | None], None]") -> None:
        """Write the blob to a private file; `NotFound` when nobody has it, `TooLarge` over the limit."""
        ...


class Depot(Protocol):
    """Where the content of artifacts lies, each under its SHA-256 in hex.

    Everything may be done twice; what cannot be done raises `OSError` or one of our errors.  The calls wait,
    and come from one thread.
    """

    def put(self, sha256: str, source: Path) -> None:
        """Keep the content of a file; what is there already stays."""
        ...

    def size(self, sha256: str) -> int | None:
        """How many bytes of it there are; None when it is not there."""
        ...

    def fetch(self, sha256: str, target: Path) -> None:
        """Write the content to a new file; `NotFound` or `FileNotFoundError` when it is not there."""
        ...

    def remove(self, sha256: str) -> None:
        """Keep it no more."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What a depot is made with."""

    folder: Path
    """The folder `artifacts` of the workspace; it need not be there."""
    url: str | None = None
    """The setting `artifacts.url`."""
    bus: Any = None
    """The connection to NATS, for the depot that lies there."""


class Peers(Protocol):
    """The other nodes."""

    def ask(
        self,
        node: str,
        verb: str,
        payload: bytes,
        timeout: float,
        done: "Callable[[bytes | HindbrainError], None]",
    ) -> None:
        """Ask one node, for so many seconds; `Unavailable` when it does not answer."""
        ...


class Doors(Protocol):
    """The verbs of this installation, for actors that have a question themselves."""

    def request(
        self,
        kind: str,
        verb: str,
        body: bytes,
        timeout: float,
        done: "Callable[[bytes | HindbrainError], None]",
    ) -> None:
        """Ask through the front door."""
        ...


class Address(Protocol):
    """Where an actor can be told something, whoever plays it at the moment."""

    def tell(self, message: Any) -> None:
        """Leave a message; does not wait."""
        ...
