"""The facts of one entity, what the rules make of them, and how a sentence about them is said."""

from collections.abc import Callable
from typing import Any

from events import codec, estimate
from events.asks.why import Sentence
from events.ports import Decider

Rows = Callable[..., list[dict[str, Any]]]
"""Answers a query with its parameters."""

_FACTS = (
    'SELECT seq, id, time, kind, entity, n, event, "by", data::VARCHAR AS body FROM events'
    " WHERE kind = ? AND entity = ? ORDER BY seq"
)


class Story:
    """The facts of one entity, and what they make."""

    def __init__(self, rows: Rows, decider: Decider[Any], entity: str) -> None:
        self.facts = [_fact(row) for row in rows(_FACTS, decider.kind, entity)]
        self.entity = entity
        self.state = decider.initial
        for fact in self.facts:
            self.state = decider.evolve(self.state, fact)

    def last(self, *names: str) -> codec.Fact | None:
        """The last fact of these names."""
        return next((fact for fact in reversed(self.facts) if fact.name in names), None)


def _fact(row: dict[str, Any]) -> codec.Fact:
    body = str(row["body"]).encode()
    return codec.Fact(
        seq=row["seq"],
        kind=row["kind"],
        entity=row["entity"],
        n=row["n"],
        event=codec.decode(row["kind"], body),
        envelope=codec.Envelope(id=row["id"], time=row["time"], by=row["by"]),
        subject="",
        body=body,
    )


def say(text: str, fact: codec.Fact | int | None) -> Sentence:
    """Say something, and which fact it rests on."""
    return Sentence(text=text, seq=fact.seq if isinstance(fact, codec.Fact) else fact)


def who(by: str) -> str:
    """By whom."""
    return f" by {by}" if by else ""


def because(reason: str | None) -> str:
    """For which reason, when one was given."""
    return f": {reason}" if reason else ""


def soon(until: str | None, now: int) -> str:
    """How long that is from now, when it is still to come."""
    left = codec.millis(until) - now if until else 0
    return f", in {estimate.duration(left)}" if left > 0 else ""
