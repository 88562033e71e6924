"""The pages of a limit: which one is the last, and how something is asked of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from events import limit
from events.errors import Conflict, HindbrainError
from events.limit import LIMIT, AnyCommand, State
from events.ports import Ask, Loaded, Log, Outcome, Snapshot

TRIES = 5
"""So often a page may be closed under the hands of somebody before that is an error."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last page of a limit; one that is closed has no successor yet."""

    entity: str
    snapshot: Snapshot[State]


def find(journal: Log, first: str, done: Callable[[Head | HindbrainError], None]) -> None:
    """Find the last page in few steps, however many there are; `done` is called where the log answers."""

    def look(closed: int, absent: int | None, last: Snapshot[State]) -> None:
        """`closed` is known to be there and not to be open; `absent`, if any, not to be there."""
        number = closed * 2 if absent is None else (closed + absent) // 2

        def got(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                snapshot = each.snapshot
                if each.error is not None:
                    done(each.error)
                elif snapshot.n and snapshot.state.next is None:
                    done(Head(each.entity, snapshot))
                elif snapshot.n:
                    go(number, absent, snapshot)
                else:
                    go(closed, number, last)

        journal.load(LIMIT, [limit.page(first, number)], got)

    def go(closed: int, absent: int | None, last: Snapshot[State]) -> None:
        if absent == closed + 1:
            done(Head(limit.page(first, closed), last))
        else:
            look(closed, absent, last)

    def began(loaded: Sequence[Loaded]) -> None:
        for each in loaded:
            if each.error is not None:
                done(each.error)
            elif each.snapshot.state.next is None:
                done(Head(first, each.snapshot))
            else:
                go(1, None, each.snapshot)

    journal.load(LIMIT, [first], began)


def opening(head: Head, by: str) -> Ask | None:
    """What opens the page after one that is closed."""
    state = head.snapshot.state
    if state.next is None:
        return None
    return Ask(LIMIT, state.next, limit.Open(opened=limit.carried(state)), by=by)


def ask(
    journal: Log, first: str, command: AnyCommand, by: str, done: Callable[[Outcome], None], trace: str = ""
) -> None:
    """Ask something of a limit, on whichever page it is by then."""

    def attempt(left: int) -> None:
        def found(head: Head | HindbrainError) -> None:
            wish = Ask(LIMIT, first, command, by=by, trace=trace)
            if isinstance(head, HindbrainError):
                done(Outcome(wish, Snapshot(LIMIT.initial), error=head))
                return
            entity = head.snapshot.state.next or head.entity
            wish = Ask(LIMIT, entity, command, by=by, trace=trace)
            if (opened := opening(head, by)) is not None:
                journal.handle([opened], _nothing)
            journal.handle([wish], decided)

        def decided(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                closed = isinstance(outcome.error, Conflict) and "next" in outcome.error.details
                if closed and left:
                    attempt(left - 1)
                else:
                    done(outcome)

        find(journal, first, found)

    attempt(TRIES)


def _nothing(outcomes: Sequence[Outcome]) -> None:
    """Whether it was opened is told by what is asked of it next."""
