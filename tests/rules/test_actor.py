"""An actor fails alone, loses nothing, and can be stopped at any time."""

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from actors.actor import Actor, ActorCrashed, Crashed, Ended, Fault, StartFailed
from actors.mailbox import Mailbox, MailboxFull
from actors.supervisor import Child, Supervisor
from events.errors import NotFound
from tests.waiting import PATIENCE, until


class Listener(Actor):
    """Does what it is told: raises errors, calls functions, keeps the rest."""

    def __init__(self) -> None:
        super().__init__(name="listener")
        self.heard: list[Any] = []
        self.ticks = 0
        self.stops = 0

    def receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        self.heard.append(message)
        return message

    def tick(self) -> None:
        self.ticks += 1

    def on_stop(self) -> None:
        self.stops += 1


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] -- pytest calls it
    yield
    pykka.ActorRegistry.stop_all(timeout=PATIENCE)
    assert pykka.ActorRegistry.get_all() == []


def begun(**given: Any) -> Listener:
    actor = Listener()
    actor.begin(**given)
    return actor


def ask(actor: Actor, message: Any) -> Any:
    return actor.actor_ref.ask(message, timeout=PATIENCE)


def test_messages_are_read_in_order_and_asks_are_answered() -> None:
    actor = begun()
    for number in range(100):
        actor.mailbox.tell(number)
    assert ask(actor, "last") == "last"
    assert actor.heard == [*range(100), "last"]
    until(lambda: actor.mailbox.handled == 101)


def test_a_plain_object_can_be_the_logic() -> None:
    class Counter:
        every = 0.001

        def __init__(self) -> None:
            self.sum = 0
            self.ticked = threading.Event()

        def receive(self, message: int) -> int:
            self.sum += message
            return self.sum

        def tick(self) -> None:
            self.ticked.set()

    counter = Counter()
    actor = Actor(counter, name="counter")
    actor.begin()
    assert ask(actor, 3) == 3
    assert counter.ticked.wait(PATIENCE)


def test_starting_by_pykkas_own_door_works_too() -> None:
    reference = Listener.start()
    assert reference.ask("hello", timeout=PATIENCE) == "hello"
    assert reference.stop(timeout=PATIENCE)
    with pytest.raises(pykka.ActorDeadError):
        reference.tell("anybody?")


@pytest.mark.parametrize(
    "error", [ValueError("x"), asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()]
)
@pytest.mark.parametrize("asked", [False, True])
def test_whatever_it_dies_of_it_dies_alone(error: BaseException, asked: bool) -> None:
    reports: list[Crashed | Ended] = []
    other, actor = begun(), begun(report=reports.append, mailbox=Mailbox(), name="weak")
    if asked:
        with pytest.raises(ValueError if isinstance(error, ValueError) else ActorCrashed):
            ask(actor, error)
    else:
        actor.mailbox.tell(error)
    until(lambda: reports)
    (crash,) = reports
    assert isinstance(crash, Crashed)
    assert (crash.name, crash.error, crash.message, crash.poison) == ("weak", error, error, False)
    assert len(actor.mailbox) == (0 if asked else 1)  # a tell waits for the successor, an ask was answered
    assert not actor.actor_ref.is_alive()
    assert ask(other, "well?") == "well?"


def test_a_letter_that_killed_two_actors_is_poison() -> None:
    reports: list[Crashed | Ended] = []
    box = Mailbox()
    box.tell(ValueError("deadly"))
    box.tell("behind it")
    for _ in range(2):
        begun(mailbox=box, report=reports.append).join(PATIENCE)
    assert [isinstance(crash, Crashed) and crash.poison for crash in reports] == [False, True]
    third = begun(mailbox=box, report=reports.append)
    until(lambda: third.heard == ["behind it"])


def test_a_refusal_answers_an_ask_without_ending_the_actor() -> None:
    actor = begun()
    with pytest.raises(NotFound):
        ask(actor, NotFound("no such thing"))
    assert ask(actor, "still here") == "still here"


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(1)])
def test_starting_fails_where_it_is_started(error: BaseException) -> None:
    class Stillborn(Listener):
        def on_start(self) -> None:
            raise error

    with pytest.raises(StartFailed) as caught:
        Stillborn().begin()
    assert caught.value.__cause__ is error
    with pytest.raises(StartFailed):
        Stillborn.start()


def test_starting_is_not_waited_for_for_ever() -> None:
    gate = threading.Event()

    class Slow(Listener):
        start_seconds = 0.02

        def on_start(self) -> None:
            gate.wait(PATIENCE)

    box = Mailbox()
    box.tell("for the successor")
    slow = Slow()
    with pytest.raises(StartFailed):
        slow.begin(mailbox=box, report=lambda _: None)
    gate.set()
    assert slow.join(PATIENCE)
    assert slow.heard == []
    assert len(box) == 1


def test_a_full_mailbox_refuses_but_not_the_system() -> None:
    box = Mailbox(limit=3, name="busy")
    for number in range(3):
        box.tell(number)
    with pytest.raises(MailboxFull, match="busy has 3"):
        box.tell(3)
    actor = Listener()
    actor.begin(mailbox=box)
    until(lambda: actor.heard == [0, 1, 2])
    assert box.high_water == 3
    assert len(box) == 0


def test_stop_overtakes_what_waits_and_those_who_asked_are_told() -> None:
    gate, held = threading.Event(), threading.Event()
    actor = begun()
    actor.mailbox.tell(lambda: (held.set(), gate.wait(PATIENCE)))
    assert held.wait(PATIENCE)
    assert actor.mailbox.busy_seconds is not None
    question = actor.actor_ref.ask("too late", block=False)
    actor.mailbox.tell("too late as well")
    assert actor.mailbox.oldest_seconds > 0
    actor.stop()
    gate.set()
    assert actor.join(PATIENCE)
    with pytest.raises(pykka.ActorDeadError):
        question.get(timeout=PATIENCE)
    assert actor.heard == []
    with pytest.raises(pykka.ActorDeadError):
        actor.mailbox.tell("gone")


def test_stopping_is_fine_before_the_start_twice_and_halfway() -> None:
    early = Listener()
    early.stop()
    early.begin()
    assert early.join(PATIENCE)
    assert early.stops == 0

    twice = begun()
    twice.stop()
    twice.stop()
    assert twice.join(PATIENCE)
    twice.stop()
    assert twice.stops == 1

    class Halfway(Listener):
        def on_start(self) -> None:
            self.stop()

    halfway = Halfway()
    halfway.begin()
    assert halfway.join(PATIENCE)


def test_ticks_come_although_messages_flood_and_messages_although_ticks_are_slow() -> None:
    class Ticking(Listener):
        every = 0.001

        def tick(self) -> None:
            super().tick()
            threading.Event().wait(0.003)

    actor = Ticking()
    actor.begin()
    for number in range(2000):
        actor.mailbox.tell(number)
    until(lambda: len(actor.heard) == 2000)
    until(lambda: actor.ticks >= 3)


def test_the_fault_switch_kills_at_the_next_message_and_loses_nothing() -> None:
    reports: list[Crashed | Ended] = []
    box = Mailbox()
    first = begun(mailbox=box, report=reports.append)
    first.fail_next()
    box.tell("precious")
    until(lambda: reports)
    assert isinstance(reports[0], Crashed)
    assert isinstance(reports[0].error, Fault)
    second = begun(mailbox=box, report=reports.append)
    until(lambda: second.heard == ["precious"])


def test_telling_is_fast() -> None:
    box = Mailbox(limit=30_000)
    actor = begun(mailbox=box)
    best = 0.0
    for _ in range(5):
        since = time.perf_counter()
        for number in range(20_000):
            box.tell(number)
        best = max(best, 20_000 / (time.perf_counter() - since))
        until(lambda: len(box) == 0)
    assert actor.mailbox is box
    assert best > 50_000, f"{best:.0f} tells a second"


class Snatching:
    """Tokens of a mailbox; the first is lost with its taker, as when an error is thrown at that place."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.snatched = inner, False

    def put(self, token: None) -> None:
        self._inner.put(token)

    def get_nowait(self) -> None:
        self.get(timeout=0)

    def get(self, timeout: float | None = None) -> None:
        self._inner.get(timeout=timeout)
        if not self.snatched:
            self.snatched = True
            raise RuntimeError("thrown into the thread")


def test_a_letter_is_read_although_its_token_went_down_with_the_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Ear:
        def receive(self, message: Any) -> None:
            heard.put(message)

    supervisor = Supervisor([Child("ear", lambda: Actor(Ear(), name="ear"))])
    mailbox: Any = getattr(supervisor.address("ear"), "_mailbox")  # noqa: B009  nobody else needs it
    monkeypatch.setattr(mailbox, "_tokens", Snatching(getattr(mailbox, "_tokens")))  # noqa: B009  the same
    supervisor.begin()
    try:
        supervisor.address("ear").tell("one")
        assert heard.get(timeout=10) == "one"
    finally:
        supervisor.halt()
