"""A command that says nothing of itself is measured by its earlier runs."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors import history
from actors.history import History, Learned
from events.errors import HindbrainError, Unavailable
from events.spec import Exec, Spec

SPEC = Spec(exec=Exec(program="make", args=["test"]))


class Tables:
    """The tables, which answer when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Any], Callable[[bytes | HindbrainError], None]]] = []

    def request(
        self,
        kind: str,  # noqa: ARG002  the shape of the port
        verb: str,  # noqa: ARG002 -- as it is called
        body: bytes,
        timeout: float,  # noqa: ARG002 -- as it is called
        done: Callable[[bytes | HindbrainError], None],
    ) -> None:
        self.asked.append((msgspec.json.decode(body)["params"], done))

    def answer(self, *rows: tuple[int, int]) -> None:
        _, done = self.asked.pop(0)
        done(msgspec.json.encode({"rows": rows, "seq": 1}))


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def past(tables: Tables) -> History:
    told: list[History] = []

    def tell(message: Learned) -> None:
        told[0].learned(message)

    told.append(History(tables, tell))
    return told[0]


def test_the_tables_are_asked_once_for_what_lives_long_enough(past: History, tables: Tables) -> None:
    assert past.guess(SPEC, 0.5, 0) is None
    assert not tables.asked
    for _ in range(3):
        assert past.guess(SPEC, 1.5, 0) is None
    assert [params for params, _ in tables.asked] == [["exec", "make test", None]]
    tables.answer((10_000, 0), (10_000, 0))
    found = past.guess(SPEC, 4.0, 0)
    assert found is not None
    assert (found.fraction, found.eta_ms) == (0.4, 6000)
    assert not tables.asked


def test_an_estimate_is_said_to_be_one(past: History, tables: Tables) -> None:
    past.guess(SPEC, 1.0, 0)
    tables.answer((8000, 0), (12_000, 0))
    found = past.guess(SPEC, 5.0, 0)
    assert found is not None
    said = history.shown({"status": "running", "text": "running", "fraction": None}, found)
    assert said["estimated"]
    assert (said["fraction"], said["status"]) == (0.5, "running")
    assert said["eta_low_ms"] < said["eta_ms"] < said["eta_high_ms"]
    assert history.progress(found).estimated


def test_many_commands_cost_few_questions_at_once(past: History, tables: Tables) -> None:
    for number in range(100):
        past.guess(Spec(exec=Exec(program=f"p{number}")), 2.0, 0)
    assert len(tables.asked) == history.AT_ONCE


def test_tables_that_do_not_answer_leave_no_estimate(past: History, tables: Tables) -> None:
    past.guess(SPEC, 2.0, 0)
    _, done = tables.asked.pop()
    done(Unavailable("not now"))
    assert past.guess(SPEC, 2.0, 0) is None
