"""What was ever written can still be read: one line of every shape, as it once stood in the log."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bus import subjects
from events import codec
from events.codec import KINDS, Envelope, Fact

GOLDEN = Path(__file__).parent.parent / "golden" / "events.jsonl"


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One stored event: what it was, byte for byte, and what its entity's next one called it."""

    subject: str
    id: str
    time: str
    body: str
    hash: str
    cause: str = ""
    by: str = ""
    prev: str = ""

    @property
    def place(self) -> subjects.Event:
        place = subjects.parse(self.subject)
        assert isinstance(place, subjects.Event)
        return place

    @property
    def envelope(self) -> Envelope:
        return Envelope(id=self.id, time=self.time, cause=self.cause, by=self.by, prev=self.prev)


LINES = [msgspec.json.decode(line, type=Line) for line in GOLDEN.read_text().splitlines()]
by_subject = pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.place.kind}-{line.place.event}")


def test_there_is_a_line_of_every_shape() -> None:
    shapes = {(kind, event.name()) for kind in KINDS for event in codec.events_of(kind)}
    assert {(line.place.kind, line.place.event) for line in LINES} == shapes


@by_subject
def test_it_still_reads_as_the_event_that_its_subject_names(line: Line) -> None:
    event = codec.decode(line.place.kind, line.body.encode())
    assert event.name() == line.place.event


@by_subject
def test_nothing_that_it_says_is_lost(line: Line) -> None:
    """Every field of the line has a value in the event; a renamed field would fall back to its default."""
    event = codec.decode(line.place.kind, line.body.encode())
    said: dict[str, Any] = msgspec.json.decode(line.body)
    again: dict[str, Any] = msgspec.json.decode(codec.encode(event))
    assert again == said


@by_subject
def test_its_hash_is_what_it_was(line: Line) -> None:
    assert codec.chain(line.subject, line.envelope, line.body.encode()) == line.hash


@by_subject
def test_the_rules_still_take_it(line: Line) -> None:
    module, place = KINDS[line.place.kind], line.place
    event = codec.decode(place.kind, line.body.encode())
    fact = Fact(
        seq=1,
        kind=place.kind,
        entity=place.id,
        n=place.n,
        event=event,
        envelope=line.envelope,
        subject=line.subject,
        body=line.body.encode(),
    )
    assert module.evolve(module.State(), fact) is not None
