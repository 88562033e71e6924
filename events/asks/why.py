"""Why something stands where it stands, and what is going on at all."""

from typing import Any

from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Why(Strict):
    """One execution, plan, schedule or playbook."""

    execution_id: str | None = None
    plan_id: str | None = None
    schedule_id: str | None = None
    playbook_id: str | None = None
    min_seq: int | None = None


class Sentence(Message, omit_defaults=False):
    """Something that is so, and the fact it rests on; null where it rests on there being none."""

    text: str
    seq: int | None


class Explained(Message, omit_defaults=False):
    """Why it stands where it stands."""

    id: str
    status: str
    sentences: list[Sentence]


class Status(Strict):
    """No arguments."""

    min_seq: int | None = None


class Background(Message, omit_defaults=False):
    """What goes on in the background, newest first."""

    message: str
    operations: list[dict[str, Any]]
    """`jobId` or `batchId`, `type`, `status`, `plugin`, `progress` and `currentTask` of each."""


VERBS = (
    Verb("query", "why", Why, Explained, "Why something waits, runs or ended, each sentence with its fact."),
    Verb("query", "status", Status, Background, "What goes on in the background."),
)
