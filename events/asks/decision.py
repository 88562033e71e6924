"""What can be asked of the history of decisions."""

from typing import Any

from events.message import Message
from events.spec import Strict
from events.verb import Verb


class List(Strict):
    """Decisions, newest first."""

    module: str | None = None
    type: str | None = None
    limit: int = 50
    before: int | None = None
    """Only those before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Decision(Message, omit_defaults=False):
    """What was decided about a module."""

    seq: int
    id: str
    time: str
    type: str
    module: str
    context: str
    """Why, in a sentence."""
    data: dict[str, Any]
    """What follows, and of the scaler the policy and all that it saw: `{decision, policy, snapshot}`."""


class Page(Message, omit_defaults=False):
    """A page of decisions."""

    decisions: list[Decision]
    next: int | None


VERBS: tuple[Verb, ...] = (
    Verb("decision", "list", List, Page, "What was decided about modules, newest first, and why."),
)
