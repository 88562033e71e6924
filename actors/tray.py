"""Where many threads lay what one actor takes: it is told once, however much lies there."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Tray(Generic[T]):
    """Things on their way to somebody who takes all of them at once; `tell` calls that somebody.

    An error may be thrown into whoever adds, at any place: then nobody is called until somebody adds again
    after a `take`.  So whoever takes also looks now and then without being called.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._things: deque[T] = deque()
        self._called = False

    def add(self, thing: T) -> None:
        """Lay one more there.  From any thread."""
        self._things.append(thing)
        if not self._called:
            self._called = True
            self._tell()

    def take(self) -> list[T]:
        """Take everything, in the order in which it came."""
        self._called = False
        return [self._things.popleft() for _ in range(len(self._things))]
