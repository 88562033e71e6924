"""A troupe goes on playing: the fallen are replaced, nothing sent to them is lost, and it stops in order."""

import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from actors.actor import Actor, Fault, NotForActors, StartFailed
from actors.supervisor import (
    PAUSE_MAX_SECONDS,
    Child,
    DeadLetter,
    Exhausted,
    Restarted,
    Supervisor,
    pause_before,
)
from events.errors import NotFound
from tests.waiting import PATIENCE, until


class Player(Actor):
    """Writes into a book that outlives it; raises what it is told to."""

    def __init__(self, book: list[Any]) -> None:
        super().__init__()
        self.book = book

    def on_start(self) -> None:
        self.book.append(f"{self.name} enters")

    def receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        self.book.append(message)
        return message

    def on_stop(self) -> None:
        self.book.append(f"{self.name} leaves")


class Office:
    """What a supervisor reports, and the troupe itself."""

    def __init__(self, *children: Child, **given: Any) -> None:
        self.restarted: list[Restarted] = []
        self.dead: list[DeadLetter] = []
        self.exhausted: list[Exhausted] = []
        self.troupe = Supervisor(
            children,
            record=self.restarted.append,
            on_poison=self.dead.append,
            escalate=self.exhausted.append,
            **given,
        )


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] -- pytest calls it
    yield
    for supervisor in pykka.ActorRegistry.get_by_class(Supervisor):  # it would replace the others
        supervisor.stop(timeout=PATIENCE)
    pykka.ActorRegistry.stop_all(timeout=PATIENCE)
    assert pykka.ActorRegistry.get_all() == []


def test_actors_enter_in_order_and_leave_in_reverse() -> None:
    book: list[Any] = []
    office = Office(*(Child(name, lambda: Player(book)) for name in ("a", "b", "c")))
    office.troupe.begin()
    assert office.troupe.halt() == ()
    assert book == ["a enters", "b enters", "c enters", "c leaves", "b leaves", "a leaves"]
    assert office.troupe.halt() == ()
    assert [row.state for row in office.troupe.census()] == ["stopped"] * 3
    assert office.restarted == []


def test_if_one_cannot_start_the_start_says_so_and_the_others_leave() -> None:
    book: list[Any] = []

    def impossible() -> Player:
        raise OSError("no stage")

    office = Office(Child("a", lambda: Player(book)), Child("b", impossible))
    with pytest.raises(StartFailed, match="no stage"):
        office.troupe.begin()
    assert book == ["a enters", "a leaves"]
    assert [row.state for row in office.troupe.census()] == ["stopped", "failed"]


def test_the_fallen_are_replaced_and_their_letters_handed_on() -> None:
    book: list[Any] = []
    gate = threading.Event()
    office = Office(Child("a", lambda: Player(book)))
    address = office.troupe.address("a")
    address.tell("sent before the start")
    office.troupe.begin()
    first = [True]

    def once() -> None:
        gate.wait(PATIENCE)
        if first and first.pop():
            raise SystemExit(1)
        book.append("the second time")

    address.tell(once)
    for number in range(3):
        address.tell(number)
    gate.set()
    until(lambda: 2 in book and office.restarted)  # it is told after the successor began
    assert book == ["a enters", "sent before the start", "a enters", "the second time", 0, 1, 2]
    (news,) = office.restarted
    assert (news.name, news.reason, news.error, news.restarts) == ("a", "crashed", "SystemExit(1)", 1)
    assert (news.pause_seconds, news.waiting) == (0.0, 4)
    assert office.dead == []
    assert address.ask("well?", timeout=PATIENCE) == "well?"


def test_a_message_that_keeps_killing_becomes_a_dead_letter() -> None:
    book: list[Any] = []
    deadly = ValueError("deadly")
    office = Office(Child("a", lambda: Player(book)))
    office.troupe.begin()
    office.troupe.address("a").tell(deadly)
    office.troupe.address("a").tell("behind it")
    until(lambda: "behind it" in book and len(office.restarted) == 2)
    assert office.dead == [DeadLetter("a", deadly, "poison", "ValueError('deadly')")]
    assert [news.restarts for news in office.restarted] == [1, 2]
    assert office.restarted[0].pause_seconds == 0 < office.restarted[1].pause_seconds


def test_too_many_restarts_escalate_and_stop_everybody() -> None:
    book: list[Any] = []
    office = Office(Child("a", lambda: Player(book)), Child("b", lambda: Player([])), restarts=2, seconds=30)
    office.troupe.begin()
    address = office.troupe.address("b")
    for _ in range(2):
        address.tell(ValueError("deadly"))
    assert office.troupe.join(PATIENCE)
    assert office.exhausted == [Exhausted("b", "ValueError('deadly')", 2, 30)]
    assert [letter.reason for letter in office.dead] == ["poison", "unread"]
    assert [row.state for row in office.troupe.census()] == ["stopped", "failed"]
    assert book == ["a enters", "a leaves"]
    with pytest.raises(pykka.ActorDeadError):
        address.tell("anybody?")


def test_one_that_cannot_be_replaced_is_tried_again_until_the_budget_is_spent() -> None:
    made: list[int] = []

    def factory() -> Player:
        made.append(1)
        if len(made) in (2, 3):
            raise OSError("not now")
        return Player([])

    office = Office(Child("a", factory))
    office.troupe.begin()
    office.troupe.fail("a", at_once=True)
    until(lambda: office.restarted)
    assert len(made) == 4
    assert "not now" in office.restarted[0].error
    assert office.exhausted == []


@pytest.mark.parametrize(
    ("restart", "again"), [("permanent", True), ("transient", False), ("temporary", False)]
)
def test_who_ends_in_good_order_is_replaced_only_if_permanent(restart: Any, again: bool) -> None:
    book: list[Any] = []
    office = Office(Child("a", lambda: Player(book), restart))
    office.troupe.begin()
    pykka.ActorRegistry.get_by_class(Player)[0].stop(timeout=PATIENCE)
    if again:
        until(lambda: office.restarted)
        assert office.restarted[0].reason == "ended"
    else:
        until(lambda: office.troupe.census()[0].state == "ended")
        assert office.restarted == []


def test_a_temporary_one_is_not_replaced_and_its_letters_are_accounted_for() -> None:
    office = Office(Child("a", lambda: Player([]), "temporary"))
    address = office.troupe.address("a")
    error = ValueError("deadly")
    address.tell(error)
    address.tell("unread")
    office.troupe.begin()
    until(lambda: len(office.dead) == 2)
    assert [(letter.message, letter.reason) for letter in office.dead] == [
        (error, "unread"),
        ("unread", "unread"),
    ]
    assert office.restarted == []
    assert office.troupe.census()[0].state == "failed"


def test_who_hangs_is_reported_and_does_not_hold_up_the_others() -> None:
    book: list[Any] = []
    gate, held = threading.Event(), threading.Event()

    def hang() -> None:
        held.set()
        gate.wait(PATIENCE)

    office = Office(Child("a", lambda: Player(book)), Child("b", lambda: Player([]), shutdown_seconds=0.05))
    office.troupe.begin()
    office.troupe.address("b").tell(hang)
    office.troupe.address("b").tell("unread")
    assert held.wait(PATIENCE)
    row = office.troupe.census()[1]
    assert (row.current, row.length) == ("function", 1)
    assert row.busy_seconds is not None
    (hung,) = office.troupe.halt()
    assert (hung.name, hung.current) == ("b", "function")
    assert hung.busy_seconds >= 0.05
    assert office.troupe.unread == {"b": 1}
    assert book == ["a enters", "a leaves"]
    gate.set()
    until(lambda: not [actor for actor in pykka.ActorRegistry.get_all() if actor.is_alive()])


def test_the_census_tells_how_everybody_is_doing() -> None:
    office = Office(Child("a", lambda: Player([])), Child("b", lambda: Player([])))
    assert [row.state for row in office.troupe.census()] == ["new", "new"]
    office.troupe.begin()
    address = office.troupe.address("a")
    for number in range(3):
        address.ask(number, timeout=PATIENCE)
    office.troupe.fail("a")
    address.tell("dies here, and is read by the successor")
    until(lambda: office.troupe.census()[0].handled == 4)
    a, b = office.troupe.census()
    assert (a.name, a.state, a.restarts, a.length, a.busy_seconds) == ("a", "running", 1, 0, None)
    assert a.last_error == repr(Fault("a was told to fail"))
    assert (b.name, b.handled, b.restarts, b.last_error) == ("b", 0, 0, "")


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    office = Office(Child("executor", lambda: Player([])))
    with pytest.raises(NotFound, match="did you mean executor"):
        office.troupe.address("exekutor")


def test_two_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="two actors of one name"):
        Office(Child("a", lambda: Player([])), Child("a", lambda: Player([])))


def test_an_actor_may_not_ask() -> None:
    office = Office(Child("a", lambda: Player([])), Child("b", lambda: Player([])))
    office.troupe.begin()
    other = office.troupe.address("b")
    with pytest.raises(NotForActors):
        office.troupe.address("a").ask(lambda: other.ask("hm", timeout=1), timeout=PATIENCE)


def test_an_error_of_those_who_are_told_does_not_stop_the_troupe(caplog: pytest.LogCaptureFixture) -> None:
    def deaf(_: object) -> None:
        raise OSError("nobody listens")

    troupe = Supervisor([Child("a", lambda: Player([]))], record=deaf)
    troupe.begin()
    troupe.fail("a", at_once=True)
    until(lambda: troupe.census()[0].restarts == 1)
    assert troupe.address("a").ask("well?", timeout=PATIENCE) == "well?"
    assert "nobody could be told" in caplog.text


def test_stopping_before_the_start_is_fine() -> None:
    office = Office(Child("a", lambda: Player([])))
    assert office.troupe.halt() == ()
    office.troupe.begin()
    assert office.troupe.join(PATIENCE)
    assert [row.state for row in office.troupe.census()] == ["new"]


def test_pauses_double_up_to_a_limit() -> None:
    assert pause_before(1) == 0
    for restart in range(2, 40):
        top = min(PAUSE_MAX_SECONDS, 0.1 * 2 ** (restart - 2))
        assert top / 2 <= pause_before(restart) <= top
