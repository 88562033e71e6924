"""Dead letters: executions that lost their worker three times in a row, parked until somebody looks."""

from typing import Any

from events.asks.rehearse import Rehearsable
from events.message import Message
from events.spec import Strict
from events.verb import Verb


class List(Strict):
    """Parked executions, newest first."""

    module: str | None = None
    limit: int = 50
    before: int | None = None
    """Only those that were parked before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Get(Strict):
    """One parked execution."""

    execution_id: str


class Retry(Strict):
    """Run parked executions again, each as a new one; the old ones are not parked any more."""

    execution_id: str | None = None
    all: bool = False
    """Every one that is parked (of `module`, when given), in place of one."""
    module: str | None = None
    limit: int = 1000
    secrets: dict[str, str] = {}
    idempotency_key: str | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Discard(Strict):
    """Take executions off the list of parked ones; they stay in the log as they are."""

    execution_id: str | None = None
    all: bool = False
    """Every one that is parked (of `module`, when given), in place of one."""
    module: str | None = None
    limit: int = 1000
    reason: str | None = None
    rehearse: bool = False
    """Only say what would happen."""


class Letter(Message, omit_defaults=False):
    """One parked execution: what it was, and what became of its attempts."""

    execution_id: str
    command: str
    description: str | None
    module: str
    node: str | None
    attempts: int
    error: dict[str, Any] | None
    parked_at: str | None
    discarded: bool
    """Somebody took it off the list."""
    seq: int


class Letters(Message, omit_defaults=False):
    """A page of parked executions."""

    letters: list[Letter]
    next: int | None


class One(Message, omit_defaults=False):
    """A parked execution with its facts, oldest first."""

    letter: Letter
    events: list[dict[str, Any]]


class Again(Message, omit_defaults=False):
    """One that runs again: `execution_id` is the new execution, `retry_of` the old one."""

    execution_id: str
    retry_of: str
    status: str
    seq: int
    duplicate: bool = False


class Refused(Message, omit_defaults=False):
    """One that could not be dealt with, and why."""

    execution_id: str
    error: dict[str, Any]


class Retried(Rehearsable, omit_defaults=False):
    """What runs again, and what could not."""

    retried: list[Again]
    refused: list[Refused]
    seq: int


class Discarded(Rehearsable, omit_defaults=False):
    """What is off the list now, and what could not be taken off."""

    discarded: list[str]
    refused: list[Refused]
    seq: int


VERBS = (
    Verb("dead", "list", List, Letters, "Executions that lost their worker three times, newest first."),
    Verb("dead", "get", Get, One, "One of them with everything that happened to it."),
    Verb("dead", "retry", Retry, Retried, "Run one or all of them again as new executions."),
    Verb("dead", "discard", Discard, Discarded, "Take one or all of them off the list."),
)
