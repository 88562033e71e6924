"""A clerk answers what one command to one entity, or one question to the tables, can answer."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from events import codec
from events.errors import HindbrainError, Internal, NotFound, Validation
from events.message import Command, Message
from events.ports import Ask, Call, Decider, Doors, Log, Outcome, Snapshot

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0
ROWS_MAX = 100_000

T = TypeVar("T")
Turns = Callable[[Call, Callable[[], None]], None]
"""Has something done in the gateway's thread; what it raises is the answer to the call."""
Verbs = dict[tuple[str, str], Callable[[Any, Call], None]]
"""What is done for a verb: gets the decoded request and the call to answer."""


class Gather(Generic[T]):
    """Answers that come in lots, until all of them are there."""

    def __init__(self, count: int, done: Callable[[list[T]], None]) -> None:
        self._count, self._done = count, done
        self._found: list[T] = []

    def __call__(self, lot: Sequence[T]) -> None:
        """Some more have come."""
        self._found += lot
        if len(self._found) >= self._count:
            self._done(self._found)


def kindly(call: Call, unknown: NotFound) -> Call:
    """The same call, whose refusal names what was not found."""
    bare = unknown.message.partition(":")[0]

    def refuse(error: HindbrainError) -> None:
        call.refuse(unknown if error.message == bare else error)

    return msgspec.structs.replace(call, refuse=refuse)


class Table(msgspec.Struct):
    """What the tables answer."""

    rows: list[list[Any]]
    seq: int


class Clerk:
    """What every desk needs: to command the log, to ask the tables, and to answer.  From any thread.

    Replies are made in the loop of the bus and must be quick; whatever they raise is the answer.
    """

    def __init__(self, journal: Log, doors: Doors) -> None:
        self._log, self._doors = journal, doors

    def command(
        self,
        call: Call,
        decider: Decider[Any],
        entity: str,
        command: Command,
        reply: Callable[[Outcome], Message],
        *,
        new: bool = False,
    ) -> None:
        """Have it decided and stored; answer what `reply` makes of the outcome.  `new`: expect no entity."""
        known = Snapshot(decider.initial) if new else None
        ask = Ask(decider, entity, command, by=call.by, trace=call.trace, known=known)

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                answer(call, lambda outcome=outcome: outcome.error or reply(outcome))

        self._log.handle([ask], done)

    def question(
        self,
        call: Call,
        sql: str,
        params: Sequence[Any],
        reply: Callable[[Table], Message],
        *,
        min_seq: int | None = None,
    ) -> None:
        """Ask the tables and answer what `reply` makes of the rows."""

        def done(found: Table | HindbrainError) -> None:
            answer(call, lambda: found if isinstance(found, HindbrainError) else reply(found))

        ask(self._doors, sql, params, done, min_seq=min_seq)


def check_page(limit: int, most: int, status: str | None = None, statuses: Sequence[str] = ()) -> None:
    """Refuse a page of a list that cannot be; `Validation` says what can."""
    if not 1 <= limit <= most:
        raise Validation(f"limit must be between 1 and {most}", field="limit")
    if status is not None and status not in statuses:
        raise Validation(f"unknown status {status!r}: use {', '.join(statuses)}", field="status")


def ask(
    doors: Doors,
    sql: str,
    params: Sequence[Any],
    done: Callable[[Table | HindbrainError], None],
    *,
    min_seq: int | None = None,
    seconds: float = ASK_SECONDS,
) -> None:
    """Ask the tables of this installation; `done` is called in the loop of the bus."""
    body = {"sql": sql, "params": list(params), "limit": ROWS_MAX, "timeout_ms": int(seconds * 1000)}
    if min_seq is not None:
        body["min_seq"] = min_seq

    def read(reply: bytes | HindbrainError) -> None:
        if isinstance(reply, HindbrainError):
            done(reply)
            return
        try:
            table: Table | HindbrainError = msgspec.json.decode(reply, type=Table)
        except msgspec.MsgspecError as error:
            table = Internal(f"the tables answered something else: {error}")
        done(table)

    doors.request("query", "sql", msgspec.json.encode(body), seconds + 1, read)


def answer(call: Call, make: Callable[[], Message | HindbrainError]) -> None:
    """Answer a call with what is made, or with what that raises."""
    try:
        made = make()
    except HindbrainError as error:
        made = error
    except Exception as error:
        log.exception("%s.%s failed", call.kind, call.verb)
        made = Internal(f"{call.kind}.{call.verb} failed: {error}")
    if isinstance(made, HindbrainError):
        call.refuse(made)
    else:
        call.answer(codec.encode(made))
