"""One job in hand: what its worker runs, what its handler may ask for meanwhile, and what came of it."""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from actors.plugin import Cancelled
from events import codec, execution
from events.execution import End, Progress, State
from events.ports import Delivery, Snapshot

OUTPUT_MAX = 64 * 1024 * 1024
"""Bytes that one attempt may print; what is beyond is left out, and the result says so."""
VALUE_MAX = 512 * 1024
"""The largest result of a job, in bytes of JSON."""
REMEMBER_SECONDS = 30.0


class Interrupted(BaseException):
    """Thrown into a handler whose time is up."""


@dataclass(slots=True, eq=False)
class Task:
    """A job from the moment it was offered until its end is stored; shared by the foreman and its worker."""

    entity: str
    snapshot: Snapshot[State]
    delivery: Delivery | None
    queued: int
    """The sequence of the `queued` that offered it."""
    worker: str
    want: "Callable[[Task], None]"
    """Has it claimed, because its handler needs that."""
    store: "Callable[[Task, str, Any, Callable[[Any], None]], None]"
    """Stores what a part gave, and answers it or an error."""
    claim: Literal["no", "asked", "yes"] = "no"
    claimed: threading.Event = field(default_factory=threading.Event)
    begun: bool = False
    """A worker has it."""
    began_ms: int = 0
    began: float = 0.0
    """When its handler was called, by the monotonic clock; 0 before."""
    alive: float = 0.0
    """When it last showed a sign of life."""
    cancelled: bool = False
    asked: float = 0.0
    """When it was asked to stop, or its time was up; 0 before."""
    hits: int = 0
    """How often it was interrupted."""
    stop: Callable[[], None] | None = None
    """Ends an async handler."""
    thread: int = 0
    """Where its handler runs; 0 when it does not."""
    over: bool = False
    """Somebody has decided how it ended."""
    finish: execution.Finish | execution.Lose | None = None
    ending: bool = False
    """Its output is on its way out, and its end will be stored behind it."""
    progress: Progress | None = None
    text: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    printed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def state(self) -> State:
        """What the log says of it."""
        return self.snapshot.state

    @property
    def attempt(self) -> int:
        """Which attempt this is, claimed or not."""
        return self.state.attempt + (self.claim != "yes")

    @property
    def deadline(self) -> float | None:
        """When its time is up, by the monotonic clock."""
        timeout = self.state.spec.timeout_ms
        return None if timeout is None or not self.began else self.began + timeout / 1000

    def remaining(self) -> float | None:
        """Seconds until then."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def close(self, why: execution.Why, text: str = "", value: Any = None) -> bool:
        """Decide how it ended; only the first who does is heard."""
        with self.lock:
            if self.over:
                return False
            self.over = True
        now = time.time_ns() // 1_000_000
        end = End(
            value=value,
            ended_at=codec.stamp(now),
            duration_ms=max(0, now - self.began_ms) if self.began_ms else 0,
            progress=self.progress,
        )
        self.finish = execution.Finish(attempt=self.attempt, why=why, end=end, text=text)
        return True

    def give_up(self, reason: str) -> bool:
        """Say that it is lost; only the first who decides is heard."""
        with self.lock:
            if self.over:
                return False
            self.over = True
        self.finish = execution.Lose(attempt=self.attempt, reason=reason)
        return True

    # ---- what its handler may ask for: the port of its context -------------------------------------------

    def say(self, message: str | None, current: float | None, total: float | None, unit: str | None) -> None:
        """Note how far it is; the foreman tells."""
        fraction = min(1.0, max(0.0, current / total)) if current is not None and total else None
        self.progress = Progress(current=current, total=total, unit=unit, message=message, fraction=fraction)
        self.alive = time.monotonic()

    def write(self, text: str, stream: str = "stdout") -> None:
        """Add to its output."""
        data = text.encode(errors="replace")
        with self.lock:
            room = OUTPUT_MAX - self.printed
            if room <= 0:
                return
            self.printed += len(data)
            self.text.append((stream, data[:room]))
        self.alive = time.monotonic()

    def taken(self) -> list[tuple[str, bytes]]:
        """Take what was written since the last time."""
        with self.lock:
            text, self.text = self.text, []
        return text

    def recall(self, name: str) -> tuple[bool, Any]:
        """Whether a part is done, and what it gave."""
        memory = self.state.memory
        return name in memory, memory.get(name)

    def remember(self, name: str, value: Any) -> Any:
        """Keep what a part gave; returns once it is stored."""
        plain = msgspec.to_builtins(value)
        if not self.claimed.is_set():
            self.want(self)
            if not self.claimed.wait(REMEMBER_SECONDS):
                raise TimeoutError("the log does not answer")
        done, kept = threading.Event(), list[Any]()

        def stored(answer: Any) -> None:
            kept.append(answer)
            done.set()

        self.store(self, name, plain, stored)
        if not done.wait(REMEMBER_SECONDS):
            raise TimeoutError("the log does not answer")
        if isinstance(kept[0], BaseException):
            raise kept[0]
        self.alive = time.monotonic()
        return kept[0]

    # ---- ending it ---------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Throw into its handler, as far as Python can."""
        self.hits += 1
        with self.lock:
            stop, thread = self.stop, self.thread
            if stop is not None:
                stop()
            elif thread:
                kind = Cancelled if self.cancelled else Interrupted
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))

    def leave(self) -> None:
        """Its handler has returned: nothing may be thrown any more."""
        with self.lock:
            self.stop, self.thread = None, 0


class Port:
    """What a context sees of its task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.write, self.recall, self.remember = task.write, task.recall, task.remember
        self.progress = task.say

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._task.cancelled
