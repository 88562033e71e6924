"""A single role: what it knows when it begins, and what it is told meanwhile."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from actors.clerk import Table
from actors.gateway import Home
from actors.role import Role, Told
from bus.memory import Memory
from events import codec, execution
from events.codec import Envelope, Fact
from events.errors import HindbrainError, Unavailable
from events.node import Appointed
from events.spec import Spec


class Lease:
    """A lease that is held as long as the test says."""

    left = 4.0


class Tables:
    """The tables, which answer when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], Callable[[bytes | HindbrainError], None]]] = []

    def request(
        self,
        kind: str,
        verb: str,
        body: bytes,
        timeout: float,  # noqa: ARG002  the shape of the port
        done: Callable[[bytes | HindbrainError], None],
    ) -> None:
        assert (kind, verb) == ("query", "sql")
        self.asked.append((msgspec.json.decode(body), done))

    def answer(self, seq: int) -> None:
        _, done = self.asked.pop(0)
        done(msgspec.json.encode({"columns": [], "rows": [[seq]], "seq": seq, "truncated": False}))


class Scribe(Role):
    """Writes down what it learns."""

    name = "scribe"
    questions = ("SELECT 1",)

    def begin(self, answers: Sequence[Table]) -> None:
        self.said: list[Any] = [answers[0].rows[0][0]]

    def learn(self, fact: Fact) -> None:
        self.said.append(fact.seq)

    def act(self) -> None:
        self.acted = True


def fact(seq: int) -> Fact:
    event = execution.Queued(spec=Spec(code="1"), digest="d")
    envelope = Envelope(id=f"e{seq}", time=codec.stamp(seq))
    return Fact(
        seq=seq,
        kind="execution",
        entity=f"exec_{seq}",
        n=1,
        event=event,
        envelope=envelope,
        subject="",
        body=b"",
    )


class Play:
    """A role on its stage; what it is told is read at once."""

    def __init__(self) -> None:
        self.lease, self.tables, self.log = Lease(), Tables(), Memory(lambda: 0)
        home = Home("node_a", "boot_a", "http://localhost")
        self.role = Scribe(home, self.lease, self.log, self.tables, self.tell)

    def tell(self, message: Any) -> None:
        self.role.receive(message)

    @property
    def appointments(self) -> list[Appointed]:
        return [each.event for each in self.log.since() if isinstance(each.event, Appointed)]


@pytest.fixture
def play() -> Play:
    return Play()


def test_it_states_that_it_plays_and_looks_no_further_back_than_that(play: Play) -> None:
    play.role.tick()
    assert [each.role for each in play.appointments] == ["scribe"]
    assert play.tables.asked[0][0]["min_seq"] == 1
    assert not play.role.playing
    play.tables.answer(seq=5)
    assert play.role.playing


def test_what_is_told_while_it_looks_is_learned_once(play: Play) -> None:
    play.role.tick()
    play.tell(Told([fact(4), fact(6)]))
    play.tables.answer(seq=5)
    play.tell(Told([fact(7)]))
    assert play.role.said == [5, 6, 7]


def test_after_a_gap_it_looks_again_and_goes_on_meanwhile(play: Play) -> None:
    play.role.tick()
    play.tables.answer(seq=5)
    play.tell(Told(None))
    play.role.tick()
    play.tell(Told([fact(8)]))
    assert play.role.said == [5, 8]
    play.tables.answer(seq=7)
    assert play.role.said == [7, 8]


def test_without_the_lease_it_does_nothing_and_forgets(play: Play) -> None:
    play.role.tick()
    play.tables.answer(seq=5)
    play.lease.left = 0.0
    play.role.acted = False
    play.tell(Told([fact(9)]))
    play.role.tick()
    assert not play.role.acted
    assert play.role.said == [5]
    play.lease.left = 4.0
    play.role.tick()
    assert len(play.appointments) == 2


def test_an_answer_that_belongs_to_an_older_look_is_passed_over(play: Play) -> None:
    play.role.tick()
    play.tell(Told(None))
    play.role.tick()
    play.tables.answer(seq=3)
    assert not play.role.playing
    play.tables.answer(seq=6)
    assert play.role.said == [6]


def test_tables_that_do_not_answer_are_asked_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.role.AGAIN_SECONDS", 0.0)
    play.role.tick()
    _, done = play.tables.asked.pop()
    done(Unavailable("not yet"))
    assert not play.role.playing
    play.role.tick()
    assert play.tables.asked[0][0]["min_seq"] == 1
    play.tables.answer(seq=5)
    assert play.role.playing


def test_what_was_told_before_a_look_that_failed_is_known_to_the_next(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.role.AGAIN_SECONDS", 0.0)
    play.role.tick()
    _, done = play.tables.asked.pop()
    done(Unavailable("not yet"))
    play.tell(Told([fact(9)]))
    play.role.tick()
    assert play.tables.asked[0][0]["min_seq"] == 9
