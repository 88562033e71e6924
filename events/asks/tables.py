"""Questions to the tables, and what looks after them."""

from typing import Any

from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Sql(Strict):
    """Ask the tables."""

    sql: str
    params: list[Any] | dict[str, Any] | None = None
    seq: int | None = None
    """As of this sequence, including that event."""
    at: str | None = None
    """As of this time (RFC 3339)."""
    min_seq: int | None = None
    limit: int = 1000
    timeout_ms: int = 5000


class Nothing(Strict):
    """No arguments."""


class Column(Message):
    """A column of an answer."""

    name: str
    type: str


class Table(Message, omit_defaults=False):
    """The answer to a query; `truncated` when there were more rows than asked for."""

    columns: list[Column]
    rows: list[list[Any]]
    seq: int
    truncated: bool


class Rebuilt(Message):
    """The tables were folded again from their copy of the log."""

    seq: int
    events: int
    seconds: float


class Difference(Message):
    """A place where the tables are not what the log says."""

    table: str
    key: str
    text: str


class Verified(Message, omit_defaults=False):
    """What is wrong with the tables; nothing is good."""

    differences: list[Difference]
    seq: int


VERBS = (
    Verb("query", "sql", Sql, Table, "A read-only query over the tables, now or as of any past moment."),
    Verb("query", "rebuild", Nothing, Rebuilt, "Fold all tables again from the stored events."),
    Verb(
        "query",
        "verify",
        Nothing,
        Verified,
        "Compare all tables with the stored events; check their chain.",
    ),
)
