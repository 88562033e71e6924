"""What can be asked of a node and its actors, and what is answered."""

from typing import Any

from events.asks.tables import Nothing
from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Fail(Strict):
    """Make an actor fail at its next message; only where the fault switch is on."""

    name: str


class Census(Message):
    """All actors of a node."""

    actors: list[dict[str, Any]]


class Report(Message):
    """A node and what it can do, by name."""

    node: dict[str, Any]


class Down(Strict):
    """Stop this node."""

    wait_seconds: float | None = None
    """Let running commands end for so long first; without it they run on and the next node adopts them."""
    cancel: bool = False
    """Cancel what runs."""


class Going(Message):
    """The node is going down."""

    node: str


class Failing(Message):
    """Which actor will fail at its next message."""

    name: str


VERBS = (
    Verb("node", "info", Nothing, Report, "What this node is, and which languages it can run."),
    Verb("node", "down", Down, Going, "Stop the node in good order."),
    Verb("actor", "list", Nothing, Census, "All actors with mailbox length, age and restarts."),
    Verb(
        "actor", "fail", Fail, Failing, "Make an actor fail at its next message (with the fault switch on)."
    ),
)
