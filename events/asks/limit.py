"""What can be asked of limits, and what is answered."""

from events.limit import Rate
from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Set(Strict):
    """Let no more than this be at it; give one of `node module key`.  Neither `max` nor `rate`: no limit.

    What is at it already goes on; a lower number is in force for whatever begins from now on.
    """

    node: str | None = None
    """How many commands a node runs at once, in place of its setting."""
    module: str | None = None
    """How many executions of a module run at once, on all nodes together."""
    key: str | None = None
    """How many executions with this `concurrency_key` are at it at once, from their release to their end."""
    max: int | None = None
    rate: Rate | None = None
    """So many are released in any stretch of `per_ms` milliseconds."""


class List(Strict):
    """Every limit there is."""

    min_seq: int | None = None


class Changed(Message, omit_defaults=False):
    """The limit as it is now."""

    limit_id: str
    on: str
    target: str
    max: int | None
    rate: Rate | None
    changed: bool
    """Whether it was another before."""
    seq: int


class Limit(Message, omit_defaults=False):
    """A limit and who is at it."""

    id: str
    on: str
    """`node`, `module` or `key`."""
    target: str
    """Which one."""
    max: int | None
    rate: Rate | None
    holders: list[str]
    """The executions that have a place now; of a node nobody is written down."""
    waiting: int
    """How many executions are held for it."""
    seq: int


class Listed(Message):
    """Limits, by what they are on."""

    limits: list[Limit]


VERBS: tuple[Verb, ...] = (
    Verb("limit", "set", Set, Changed, "Limit a node, a module or a key, at once; null takes it away."),
    Verb("limit", "list", List, Listed, "All limits, with who is at it and how many wait."),
)
