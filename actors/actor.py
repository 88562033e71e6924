"""An actor reads its mailbox in a thread of its own, and when it fails it fails alone.

Whatever escapes from a message (`SystemExit` and `CancelledError` too, at which pykka stops every actor of
the process) ends this one actor and is reported as `Crashed`.  The letter it died of goes back to the front
of the mailbox, once: the successor reads it again.  If that one dies of it too, nobody reads it again
(`Crashed.poison`). The sender of an `ask` has been answered by the error, so an ask is never read twice.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import pykka

from actors.mailbox import Letter, Mailbox, Stop, Tick
from events.errors import Refusal

log = logging.getLogger(__name__)

_here = threading.local()  # `.actor`: the name of the actor whose thread this is


class Fault(RuntimeError):
    """Somebody threw the fault switch: this crash was ordered."""


class StartFailed(RuntimeError):
    """An actor could not begin; the error that kept it from it is the cause."""


class ActorCrashed(RuntimeError):
    """The actor died of the question, by an error such as SystemExit that would end the asker too."""


class NotForActors(RuntimeError):
    """An actor asked and would wait for the answer: two that do so wait for each other.  Actors tell."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """An actor died of an error, with `message` in hand (None: it died in `tick` or at its end)."""

    actor: "Actor"
    name: str
    error: BaseException
    message: Any
    poison: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """An actor came to its end in good order."""

    actor: "Actor"
    name: str


class Logic(Protocol):
    """What an actor thinks with: a plain object that can be tested without a thread."""

    def receive(self, message: Any) -> Any:
        """Deal with one message; what it returns answers an ask."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """Logic that also has something to do every so many seconds."""

    every: float

    def tick(self) -> None:
        """Do once what is repeated."""
        ...


class Actor(pykka.ThreadingActor):
    """A long-lived role: subclass it, or give it a plain object as its logic.

    `every` is the pause between the end of one `tick()` and the next, in seconds (None: never); the first
    comes that long after the start.  A flood of messages does not hold up ticks, nor do slow ticks hold up
    messages.  `refusals` are errors that answer an ask without ending the actor: to refuse is an answer.
    """

    use_daemon_thread: ClassVar[bool] = True
    refusals: ClassVar[tuple[type[Exception], ...]] = (Refusal,)
    start_seconds: ClassVar[float] = 30.0
    every: float | None = None

    def __init__(self, logic: Logic | None = None, *, name: str = "") -> None:
        super().__init__()
        self.name = name or type(self).__name__.lower()
        self.logic = logic
        # Asked once: Python 3.11 takes longer for the answer than most ticks do.
        self._repeating = logic if isinstance(logic, Repeating) else None
        if self._repeating is not None:
            self.every = self._repeating.every
        self._report: Callable[[Crashed | Ended], object] | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._faulty = False
        self._due: float | None = None
        self._last_order: Letter | None = None
        self._mailbox = Mailbox(name=self.name)
        self._move_in(self._mailbox)

    # What a role fills in.

    def receive(self, message: Any) -> Any:
        """Deal with one message; what it returns answers an ask, what it raises ends the actor."""
        if self.logic is None:
            raise TypeError(f"{self.name} has no use for a {type(message).__name__}")
        return self.logic.receive(message)

    def tick(self) -> None:
        """Do once what is repeated; tests call it directly."""
        if self._repeating is not None:
            self._repeating.tick()

    # What others do with it.

    @property
    def mailbox(self) -> Mailbox:
        """What waits for this actor, and the figures about it."""
        return self._mailbox

    def begin(
        self,
        mailbox: Mailbox | None = None,
        name: str | None = None,
        report: Callable[[Crashed | Ended], object] | None = None,
    ) -> None:
        """Start reading `mailbox` (None: an own one); returns when `on_start` is through.

        `report` hears how it ended, called from the actor's thread.  Raises `StartFailed`.
        """
        self.name = name or self.name
        self._report = report
        if mailbox is not None:
            self._move_in(mailbox)
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()

    def stop(self) -> None:
        """Ask it to end before it reads anything else; returns at once, and may be said often."""
        if self._thread is None:
            self.actor_stopped.set()
        else:
            self._mailbox.urge(Stop())

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for its end, and say whether it has come."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def fail_next(self) -> None:
        """Throw the fault switch, for drills: it dies of a `Fault` at its next message, or at its beat."""
        self._faulty = True

    def after(self, seconds: float) -> None:
        """Ask, from the actor's own thread, for a `tick()` in so many seconds at the latest."""
        due = time.monotonic() + seconds
        self._due = due if self._due is None else min(self._due, due)

    # How it lives.

    def _move_in(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        # pykka only puts into the inbox; the loop that would get its private envelopes out again is
        # replaced below.
        self.actor_inbox = self.actor_ref.actor_inbox = cast("Any", mailbox)

    def _start_actor_loop(self) -> None:
        self._thread = threading.Thread(target=self._actor_loop, name=f"actor-{self.name}", daemon=True)
        self._thread.start()
        if not self._started.wait(self.start_seconds):
            # Should it ever get through, it must not touch what waits for its successor.
            self.actor_stopped.set()
            self._report = None
            self._move_in(Mailbox(name=self.name))
            raise StartFailed(f"{self.name} did not start within {self.start_seconds} seconds")
        if self._error is not None:
            raise StartFailed(f"{self.name} did not start: {self._error!r}") from self._error

    def _actor_loop(self) -> None:
        _here.actor = self.name
        ending: Crashed | Ended | None = Ended(self, self.name)
        try:
            if not self.actor_stopped.is_set():
                self.on_start()
                self._started.set()
                ending = self._live()
        except BaseException as error:  # noqa: BLE001  whatever it is, it must not reach another actor
            self._error, ending = error, None  # the one who starts it is told, by the error itself
        self.actor_stopped.set()
        pykka.ActorRegistry.unregister(self.actor_ref)
        last = [] if self._last_order is None else [self._last_order]
        refuse_all([*last, *self._mailbox.drop_orders()], self.name)
        report = self._report
        if report is None:
            self._close()
        elif ending is not None:
            report(ending)
        self._started.set()

    def _live(self) -> Crashed | Ended:
        if self.every is not None:
            self.after(self.every)
        letter: Letter | None = None
        try:
            while not self.actor_stopped.is_set() and not self._mailbox.closed:
                letter = None
                if self._due is not None and time.monotonic() >= self._due:
                    self._tick()
                wait = None if self._due is None else self._due - time.monotonic()
                letter = self._mailbox.take(wait)
                if letter is not None:
                    self._read(letter)
                    self._mailbox.done()
                elif not self._mailbox.closed:
                    self._drill()  # nobody writes to it: it fails at its own beat
            letter = None
            self.on_stop()
        except BaseException as error:  # noqa: BLE001  see above: pykka would stop every actor
            return self._crash(error, letter)
        return Ended(self, self.name)

    def _tick(self) -> None:
        self._due = None
        self.tick()
        if self.every is not None:
            self.after(self.every)

    def _read(self, letter: Letter) -> None:
        if letter.system and isinstance(letter.message, Stop):
            self.actor_stopped.set()
            self._last_order = letter  # answered when the end has come
            return
        self._drill()
        if letter.system and isinstance(letter.message, Tick):
            self._tick()
            return
        try:
            answer = self.receive(letter.message)
        except self.refusals as refusal:
            if letter.reply is None:
                raise
            _refuse(letter, refusal)
        else:
            _answer(letter, answer)

    def _drill(self) -> None:
        if self._faulty:
            self._faulty = False
            raise Fault(f"{self.name} was told to fail")

    def _crash(self, error: BaseException, letter: Letter | None) -> Crashed:
        log.error("%s crashed", self.name, exc_info=error)
        poison = False
        letter = letter or self._mailbox.current
        self._mailbox.done(handled=False)
        self._mailbox.nudge()
        if letter is not None and letter.reply is not None:
            _refuse(
                letter, error if isinstance(error, Exception) else ActorCrashed(f"{self.name}: {error!r}")
            )
        elif letter is not None and not letter.system:
            letter.deaths += 1
            poison = letter.deaths > 1
            if not poison:
                self._mailbox.give_back(letter)
        try:
            self.on_failure(type(error), error, error.__traceback__)
        except BaseException:
            log.exception("%s failed again while it cleaned up", self.name)
        return Crashed(self, self.name, error, None if letter is None else letter.message, poison)

    def _close(self) -> None:
        """Nobody follows: answer those who wait, and say what is left unread."""
        unread = refuse_all(self._mailbox.close(), self.name)
        if unread:
            log.warning("%s ended with %d messages unread", self.name, len(unread))


def refuse_all(letters: list[Letter], name: str) -> list[Letter]:
    """Tell those who asked that the actor is gone, those who stopped it that it is done; return the tells."""
    for letter in letters:
        if letter.system:
            _answer(letter, None)
        elif letter.reply is not None:
            _refuse(letter, pykka.ActorDeadError(f"{name} ended before it read the message"))
    return [letter for letter in letters if letter.reply is None and not letter.system]


def asking() -> None:
    """Raise `NotForActors` when this thread is an actor's: only doors and tests wait for answers."""
    name = getattr(_here, "actor", None)
    if name is not None:
        raise NotForActors(f"{name} may not wait for an answer; tell, and be told")


def _answer(letter: Letter, answer: Any) -> None:
    if letter.reply is not None:
        letter.reply.set(answer)


def _refuse(letter: Letter, error: Exception) -> None:
    if letter.reply is not None:
        # The asker may have given up, but a future takes one answer only, and this is the one.
        letter.reply.set_exception((type(error), error, error.__traceback__))
