"""What waits for an actor lies in its mailbox: two lanes, bounded, and longer-lived than the actor.

The system lane (`Stop`, `Tick`, reports of crashes) is read first and never refuses.  The lane of letters
holds at most `limit` of them and refuses to the caller, who alone can slow down.  Times are seconds of the
monotonic clock.
"""

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import pykka
from pykka import messages

from events.errors import Limit

LIMIT = 10_000


class MailboxFull(Limit):
    """The actor has too much to read already; send again later, or slow down what sends."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Come to an end before reading anything else."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Do now what is repeated."""


@dataclass(slots=True, eq=False)
class Letter:
    """One message under way: who wants the answer, since when it waits, how often an actor died of it."""

    message: Any
    reply: pykka.Future[Any] | None
    since: float
    deaths: int = 0
    system: bool = False


class Mailbox:
    """Everything that waits for one name.  Any thread may put; one thread at a time takes."""

    def __init__(self, limit: int = LIMIT, name: str = "") -> None:
        self.name = name
        self.limit = limit
        self.high_water = 0
        self.handled = 0
        self.current: Letter | None = None
        self.current_since: float | None = None
        self._letters: deque[Letter] = deque()
        self._system: deque[Letter] = deque()
        # One token per letter: SimpleQueue waits with a timeout in C, a Condition does so in Python.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        """Count the letters that wait, without the system lane and the one being read."""
        return len(self._letters)

    def __bool__(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        """Whether nobody will ever read here again."""
        return self._closed

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest waiting letter has waited, in seconds; 0 when none waits."""
        with self._lock:
            return time.monotonic() - self._letters[0].since if self._letters else 0.0

    @property
    def busy_seconds(self) -> float | None:
        """For how long the current message has been in hand, in seconds; None when the actor is idle."""
        since = self.current_since
        return None if since is None else time.monotonic() - since

    def tell(self, message: Any, reply: pykka.Future[Any] | None = None) -> None:
        """Leave a letter.  Raises `MailboxFull`, or `pykka.ActorDeadError` when nobody will read it."""
        letter = Letter(message, reply, time.monotonic())
        with self._lock:
            if self._closed:
                raise pykka.ActorDeadError(f"{self.name or 'the actor'} has ended and reads nothing any more")
            waiting = len(self._letters)
            if waiting >= self.limit:
                raise MailboxFull(f"{self.name or 'the actor'} has {waiting} messages waiting already")
            self._letters.append(letter)
            if waiting >= self.high_water:
                self.high_water = waiting + 1
        self._tokens.put(None)

    def urge(self, message: Any, reply: pykka.Future[Any] | None = None) -> bool:
        """Put a message into the system lane, which is read first; say False when nobody will read it."""
        letter = Letter(message, reply, time.monotonic(), system=True)
        with self._lock:
            if self._closed:
                return False
            self._system.append(letter)
        self._tokens.put(None)
        return True

    def give_back(self, letter: Letter) -> None:
        """Put a letter back as the next to be read: its reader died of it, the successor shall try once."""
        with self._lock:
            if not (self._letters and self._letters[0] is letter):
                self._letters.appendleft(letter)
            self.high_water = max(self.high_water, len(self._letters))
        self._tokens.put(None)

    def nudge(self) -> None:
        """Have the reader look once more: whoever died while it waited may have taken a token with it."""
        self._tokens.put(None)

    def take(self, timeout: float | None = None) -> Letter | None:
        """Wait up to `timeout` seconds (None: for ever) for the next letter; None when there is none."""
        try:
            if timeout is not None and timeout <= 0:
                self._tokens.get_nowait()
            else:
                self._tokens.get(timeout=timeout)
        except queue.Empty:
            return None
        with self._lock:
            lane = self._system or self._letters
            if not lane:  # they were emptied at once, their tokens come one by one
                return None
            # An error may be thrown into this thread at any place: the letter is always in one of both.
            letter = self.current = lane[0]
            self.current_since = time.monotonic()
            lane.popleft()
            return letter

    def done(self, handled: bool = True) -> None:
        """Note that nobody has the current message in hand any more, and whether it was dealt with."""
        letter, self.current, self.current_since = self.current, None, None
        if handled and letter is not None and not letter.system:
            self.handled += 1

    def drop_orders(self) -> list[Letter]:
        """Empty the system lane: a stop or a tick was meant for the actor that is gone, not for the next."""
        with self._lock:
            orders = list(self._system)
            self._system.clear()
        return orders

    def close(self) -> list[Letter]:
        """Refuse from now on, and hand out what nobody will read any more, oldest first.  Twice is fine."""
        with self._lock:
            self._closed = True
            left = [*self._system, *self._letters]
            self._system.clear()
            self._letters.clear()
        self._tokens.put(None)  # wakes a reader that was left behind
        return left

    def put(self, envelope: Any, /) -> None:
        """Take an envelope of pykka: its stop order overtakes, everything else is a letter."""
        reply = cast("pykka.Future[Any] | None", envelope.reply_to)
        # pykka gives its stop order no public name, and ActorRegistry.stop_all() sends exactly that one.
        order = messages._ActorStop  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if not isinstance(envelope.message, order):
            self.tell(envelope.message, reply)
        elif not self.urge(Stop(), reply) and reply is not None:
            reply.set(None)
