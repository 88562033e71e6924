"""Only the supervisor makes actors: it starts them in order, replaces the fallen, and stops them in reverse.

Others hold an `Address`, a name that outlives the actor behind it: what is sent while nobody reads waits in
the mailbox.  A crash is answered by a successor, at once the first time, then after a pause that doubles,
until more than `restarts` are needed within `seconds` (all actors together); then the supervisor escalates
and stops all.

It is long because the rules of restarting only make sense together.
"""

import difflib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeVar

import pykka

from actors.actor import Actor, Crashed, Ended, StartFailed, asking, refuse_all
from actors.mailbox import LIMIT, Mailbox, Tick
from events.errors import NotFound

log = logging.getLogger(__name__)

Dead = pykka.ActorDeadError
"""Nobody reads what is told any more."""

T = TypeVar("T")

PAUSE_SECONDS = 0.1  # before the second restart; doubles with each further one
PAUSE_MAX_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """What is known of an actor before it exists.

    `permanent` is always replaced, `transient` only after a crash, `temporary` never.  `shutdown_seconds`
    is how long it may take to stop before it is reported as hung; `limit` how many letters its mailbox
    holds.
    """

    name: str
    factory: Callable[[], Actor]
    restart: Literal["permanent", "transient", "temporary"] = "permanent"
    shutdown_seconds: float = 5.0
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Restarted:
    """An actor was replaced, for the n-th time; `waiting` letters were handed on to the new one."""

    name: str
    reason: Literal["crashed", "ended"]
    error: str
    restarts: int
    pause_seconds: float
    waiting: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """An actor failed although it had been replaced `restarts` times within `seconds`: that will not heal."""

    name: str
    error: str
    restarts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message nobody will read: two actors died of it (`poison`), or its reader is gone (`unread`)."""

    name: str
    message: Any
    reason: Literal["poison", "unread"]
    error: str


@dataclass(frozen=True, slots=True)
class Hung:
    """An actor was still busy with `current` when its time to stop was over; its thread lives on."""

    name: str
    current: str
    busy_seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the census; times in seconds, `busy_seconds` None when the actor waits for messages."""

    name: str
    state: str
    length: int
    oldest_seconds: float
    high_water: int
    handled: int
    restarts: int
    last_error: str
    current: str
    busy_seconds: float | None
    since_seconds: float


@dataclass(slots=True, eq=False)
class Post:
    """A place in the troupe: the mailbox and the history stay while actors come and go."""

    child: Child
    mailbox: Mailbox
    actor: Actor | None = None
    state: str = "new"  # new running waiting ended failed stopped hung
    since: float = field(default_factory=time.monotonic)
    restarts: int = 0
    crashes: deque[float] = field(default_factory=deque[float])
    reason: Literal["crashed", "ended"] = "crashed"
    last_error: str = ""
    pause: float = 0.0
    due: float | None = None

    def turn(self, state: str) -> None:
        """Enter another state, now."""
        self.state, self.since = state, time.monotonic()


class Address:
    """A name one can write to, before its actor starts, while it runs and after it was replaced."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name = name
        self._mailbox = mailbox
        self.tell = mailbox.tell  # no call in between: it is the hottest path of the process

    def __repr__(self) -> str:
        return f"Address({self.name!r})"

    def ask(self, message: Any, timeout: float) -> Any:
        """Wait up to `timeout` seconds for the answer.

        Raises what the actor raised, `pykka.Timeout`, `MailboxFull`, `pykka.ActorDeadError`, and
        `NotForActors` when an actor tries.
        """
        asking()
        reply: pykka.ThreadingFuture[Any] = pykka.ThreadingFuture()
        self._mailbox.tell(message, reply)
        return reply.get(timeout=timeout)

    def tick(self) -> None:
        """Have the actor do now what it repeats."""
        self._mailbox.urge(Tick())


class Supervisor(Actor):
    """The one who makes the actors.

    `record` hears of every restart, `on_poison` of every message nobody will read, `escalate` of the end of
    patience.  All three are called in the supervisor's thread, and an error of theirs is logged, not
    followed.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        restarts: int = 5,
        seconds: float = 30.0,
        record: Callable[[Restarted], object] | None = None,
        on_poison: Callable[[DeadLetter], object] | None = None,
        escalate: Callable[[Exhausted], object] | None = None,
        name: str = "supervisor",
    ) -> None:
        super().__init__(name=name)
        self.restarts = restarts
        self.seconds = seconds
        self.hung: tuple[Hung, ...] = ()
        self.unread: dict[str, int] = {}
        self._record = record
        self._on_poison = on_poison
        self._escalate = escalate
        self._spent: deque[float] = deque()
        self._posts = {child.name: Post(child, Mailbox(child.limit, child.name)) for child in children}
        if len(self._posts) < len(children):
            raise ValueError(f"two actors of one name among {[child.name for child in children]}")

    # From any thread.

    def address(self, name: str) -> Address:
        """Find whom to write to; the address is good before the start and after any restart."""
        return Address(name, self._post(name).mailbox)

    def census(self) -> list[Row]:
        """Say how every actor is doing, in order of start; from any thread, without disturbing them."""
        return [_row(post) for post in self._posts.values()]

    def fail(self, name: str, *, at_once: bool = False) -> None:
        """Make an actor die of a `Fault` at its next message, or at once: a drill."""
        post = self._post(name)
        if post.actor is not None:
            post.actor.fail_next()
            if at_once:
                post.mailbox.urge(Tick())

    def halt(self) -> tuple[Hung, ...]:
        """Stop all actors in reverse order, wait for them, and say which did not come to an end in time."""
        self.stop()
        if self.join(sum(post.child.shutdown_seconds for post in self._posts.values()) + self.start_seconds):
            return self.hung
        return (*self.hung, Hung(self.name, "", 0.0))

    # In its own thread.

    def on_start(self) -> None:
        """Start everybody in order; if one cannot, stop those who could and pass its error on."""
        for post in self._posts.values():
            try:
                self._make(post)
            except StartFailed:
                post.turn("failed")
                self._stop_all()
                raise

    def receive(self, message: Any) -> None:
        """Hear how an actor ended."""
        match message:
            case Crashed() | Ended():
                post = self._posts[message.name]
                if message.actor is not post.actor:
                    return  # it was given up before
                post.actor = None
                if isinstance(message, Crashed):
                    self._crashed(post, message)
                elif post.child.restart == "permanent":
                    self._replace(post, "ended", "")
                else:
                    self._dismiss(post, "ended")
            case _:
                raise TypeError(f"a supervisor has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Start those whose pause is over."""
        now = time.monotonic()
        for post in self._posts.values():
            if post.due is not None and post.due <= now:
                self._revive(post)
        waiting = [post.due for post in self._posts.values() if post.due is not None]
        if waiting:
            self.after(max(0.0, min(waiting) - time.monotonic()))

    def on_stop(self) -> None:
        """Stop everybody, the last one first."""
        self._stop_all()

    def on_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002  pykka's signature
        exception_value: BaseException | None,  # noqa: ARG002  pykka's signature
        traceback: TracebackType | None,  # noqa: ARG002  pykka's signature
    ) -> None:
        """Nobody looks after the actors any more, so they stop too."""
        self._stop_all()

    def _post(self, name: str) -> Post:
        post = self._posts.get(name)
        if post is None:
            near = difflib.get_close_matches(name, self._posts, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise NotFound(f"Actor not found: {name}{hint}", known=list(self._posts))
        return post

    def _make(self, post: Post) -> None:
        try:
            actor = post.child.factory()
        except Exception as error:
            raise StartFailed(f"{post.child.name} could not be made: {error!r}") from error
        post.actor = actor
        try:
            actor.begin(post.mailbox, post.child.name, self.mailbox.urge)
        except StartFailed:
            post.actor = None
            raise
        post.turn("running")

    def _crashed(self, post: Post, crash: Crashed) -> None:
        if crash.poison:
            self._bury(post, crash.message, "poison", repr(crash.error))
        if post.child.restart == "temporary":
            post.last_error = repr(crash.error)
            self._dismiss(post, "failed")
        else:
            self._replace(post, "crashed", repr(crash.error))

    def _replace(self, post: Post, reason: Literal["crashed", "ended"], error: str) -> None:
        now = time.monotonic()
        post.reason = reason
        post.last_error = error or post.last_error
        for times in (self._spent, post.crashes):
            while times and times[0] < now - self.seconds:
                times.popleft()
        if len(self._spent) >= self.restarts:
            self._give_up(post)
            return
        self._spent.append(now)
        post.crashes.append(now)
        post.turn("waiting")
        post.pause = pause_before(len(post.crashes))
        post.due = now + post.pause
        if post.pause == 0:
            self._revive(post)
        else:
            self.after(post.pause)

    def _revive(self, post: Post) -> None:
        post.due = None
        waiting = len(post.mailbox)
        try:
            self._make(post)
        except StartFailed as failure:
            log.exception("%s could not be replaced", post.child.name)
            self._replace(post, "crashed", str(failure))
            return
        post.restarts += 1
        news = Restarted(post.child.name, post.reason, post.last_error, post.restarts, post.pause, waiting)
        log.warning("%s was replaced (%s), restart %d", news.name, news.reason, news.restarts)
        self._call(self._record, news)

    def _give_up(self, post: Post) -> None:
        news = Exhausted(post.child.name, post.last_error, self.restarts, self.seconds)
        log.error("%s fails too often: %s", news.name, news.error)
        self._dismiss(post, "failed")
        self._call(self._escalate, news)
        self.stop()

    def _dismiss(self, post: Post, state: str) -> None:
        post.turn(state)
        for letter in refuse_all(post.mailbox.close(), post.child.name):
            self._bury(post, letter.message, "unread", post.last_error)

    def _bury(self, post: Post, message: Any, reason: Literal["poison", "unread"], error: str) -> None:
        log.error("%s will not read a %s (%s)", post.child.name, type(message).__name__, reason)
        self._call(self._on_poison, DeadLetter(post.child.name, message, reason, error))

    def _stop_all(self) -> None:
        hung: list[Hung] = []
        for post in reversed(self._posts.values()):
            post.due = None
            actor = post.actor
            if actor is not None:
                actor.stop()
                if actor.join(post.child.shutdown_seconds):
                    post.turn("stopped")
                else:
                    post.turn("hung")
                    row = _row(post)
                    hung.append(Hung(row.name, row.current, row.busy_seconds or 0.0))
                    log.error("%s hangs in %s and was left behind", row.name, row.current or "its end")
            elif post.state in {"new", "waiting"}:
                post.turn("stopped")
            left = refuse_all(post.mailbox.close(), post.child.name)
            if left:
                self.unread[post.child.name] = len(left)
                log.warning("%s stopped with %d messages unread", post.child.name, len(left))
        self.hung = tuple(hung)

    def _call(self, callback: Callable[[T], object] | None, news: T) -> None:
        if callback is None:
            return
        try:
            callback(news)
        except Exception:
            log.exception("nobody could be told of %r", news)


def pause_before(restart: int) -> float:
    """Seconds to wait before the n-th restart in a row: none, then doubling, less up to a half by chance."""
    if restart <= 1:
        return 0.0
    # Chance keeps those who fell together from rising together; nobody gains by guessing it.
    longest = min(PAUSE_MAX_SECONDS, PAUSE_SECONDS * 2 ** min(restart - 2, 32))
    return longest * random.uniform(0.5, 1)  # noqa: S311 -- no secret


def _row(post: Post) -> Row:
    box = post.mailbox
    current = box.current
    return Row(
        name=post.child.name,
        state=post.state,
        length=len(box),
        oldest_seconds=box.oldest_seconds,
        high_water=box.high_water,
        handled=box.handled,
        restarts=post.restarts,
        last_error=post.last_error,
        current="" if current is None else type(current.message).__name__,
        busy_seconds=box.busy_seconds,
        since_seconds=time.monotonic() - post.since,
    )
