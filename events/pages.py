"""Long rows as pages: adding at the end copies a page and not the row, so that facts can be folded fast."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from events.message import Message

PAGE = 1000
"""A page with fewer values than this is filled up before another one begins."""


class Pages(Message):
    """A row that only grows."""

    pages: tuple[tuple[Any, ...], ...] = ()
    starts: tuple[int, ...] = ()
    """Where each page begins."""
    size: int = 0

    def added(self, values: Sequence[Any]) -> "Pages":
        """The same with more at the end."""
        if not values:
            return self
        size = self.size + len(values)
        if self.pages and len(self.pages[-1]) < PAGE:
            last = (*self.pages[-1], *values)
            return Pages(pages=(*self.pages[:-1], last), starts=self.starts, size=size)
        return Pages(pages=(*self.pages, tuple(values)), starts=(*self.starts, self.size), size=size)

    def at(self, position: int) -> Any:
        """One value."""
        page = bisect_right(self.starts, position) - 1
        return self.pages[page][position - self.starts[page]]

    def __iter__(self) -> Iterator[Any]:
        for page in self.pages:
            yield from page
