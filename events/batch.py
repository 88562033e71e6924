"""The operations of a batch: a long row, a window that moves over it, and what became of those behind it."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from events.message import Event, Message
from events.pages import PAGE, Pages
from events.planned import Advanced, Ended, Extended, RerunRequested, Result, Sealed, Submitted


class Batch(Message):
    """Many like operations; each goes by its number, which counts from 0."""

    items: Pages = Pages()
    plain: bool = False
    """It has no items, only a count."""
    size: int = 0
    """How many are known so far."""
    sealed: bool = False
    todo: Pages | None = None
    """The numbers of those that run, when it is not all of them in their order."""
    cursor: int = 0
    """How many of these have been started."""
    run: int = 1
    outstanding: frozenset[int] = frozenset()
    completed: int = 0
    failures: Pages = Pages()
    """The numbers of those that did not end well, in the order of their ends."""
    undoable: bool = False
    ended: Pages = Pages()
    """Of a batch that can be taken back, the numbers of those that ended well, in that order."""
    undone: int = 0
    tries: int = 0
    """How often anything was tried to be taken back."""

    @property
    def row(self) -> int:
        """How many are to be run, as far as is known."""
        return self.size if self.todo is None else self.todo.size

    def number(self, place: int) -> int:
        """Which operation stands at a place of the row."""
        return place if self.todo is None else self.todo.at(place)

    def item(self, number: int) -> Any:
        """What an operation is about; its number when there are no items."""
        return number if self.plain else self.items.at(number)


def born(event: Submitted) -> Batch:
    """Begin."""
    many = event.definition.operations
    assert many is not None  # noqa: S101  the definition was checked before it was stored
    items = many.items if isinstance(many.items, list) else None
    count = many.count if isinstance(many.count, int) else 0
    return Batch(
        items=Pages().added(items or ()),
        plain=items is None,
        size=count if items is None else len(items),
        sealed=not event.open,
        undoable=many.undo is not None,
    )


def apply(batch: Batch, event: Event) -> Batch:
    """What an event changes."""
    change = msgspec.structs.replace
    match event:
        case Extended():
            size = batch.size + (event.count if batch.plain else len(event.items))
            return change(batch, items=batch.items.added(event.items), size=size)
        case Sealed():
            return change(batch, sealed=True)
        case Advanced():
            return _advanced(batch, event)
        case RerunRequested():
            return _again(batch)
        case _:
            return batch


def _advanced(batch: Batch, event: Advanced) -> Batch:
    gone = {number for number, _ in event.ended}
    well = [number for number, status in event.ended if status == "completed"]
    badly = [number for number, status in event.ended if status != "completed"]
    fresh = range(event.first, event.first + event.count)
    return msgspec.structs.replace(
        batch,
        outstanding=(batch.outstanding - gone).union(map(batch.number, fresh)),
        cursor=max(batch.cursor, event.first + event.count),
        completed=batch.completed + len(well),
        failures=batch.failures.added(badly),
        ended=batch.ended.added(well) if batch.undoable else batch.ended,
    )


def _again(batch: Batch) -> Batch:
    """Those that did not end well run again, and those that were never started run."""
    again = left(batch)
    return msgspec.structs.replace(
        batch,
        todo=_paged(again),
        cursor=0,
        run=batch.run + 1,
        sealed=True,
        completed=batch.size - len(again),
        failures=Pages(),
        ended=_paged(list(batch.ended)[: batch.ended.size - batch.undone]) if batch.undone else batch.ended,
        undone=0,
    )


def _paged(numbers: list[int]) -> Pages:
    pages = Pages()
    for first in range(0, len(numbers), PAGE):
        pages = pages.added(numbers[first : first + PAGE])
    return pages


def left(batch: Batch) -> list[int]:
    """What would have to run for all to have ended well, in its order."""
    undone = list(batch.ended)[batch.ended.size - batch.undone :] if batch.undone else []
    return sorted({*batch.failures, *map(batch.number, range(batch.cursor, batch.row)), *undone})


def undone(batch: Batch) -> Batch:
    """One more is taken back."""
    return msgspec.structs.replace(batch, undone=batch.undone + 1)


def undoing(batch: Batch) -> int | None:
    """The number of the operation to be taken back next."""
    place = batch.ended.size - batch.undone - 1
    return None if place < 0 else batch.ended.at(place)


def ended(batch: Batch, results: Sequence[Result]) -> tuple[tuple[int, Ended], ...]:
    """Those of the results that are news."""
    return tuple(_news(batch, results))


def _news(batch: Batch, results: Sequence[Result]) -> Iterator[tuple[int, Ended]]:
    seen: set[int] = set()
    for each in results:
        number = int(each.step) if each.step.isdecimal() else -1
        if each.run == batch.run and number in batch.outstanding and number not in seen:
            seen.add(number)
            yield number, each.status
