"""What can be asked of the log itself."""

from typing import Any

from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Undo(Strict):
    """Take back a pause, a limit, an order or a change of a template."""

    seq: int
    """The sequence of its fact, as the reply to it said."""
    rehearse: bool = False
    """Only say what would be done."""


class Undone(Message, omit_defaults=False):
    """What was done against it."""

    undone: int
    """The sequence of what was taken back."""
    event: str
    """What that was: `plan paused`, ..."""
    id: str
    text: str
    """What is so now, in a sentence."""
    changed: bool
    seq: int
    reply: dict[str, Any]
    """What the verb answered that did it."""


VERBS = (
    Verb("log", "undo", Undo, Undone, "Take back a pause, a limit, an order or a template, by its sequence."),
)
