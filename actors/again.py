"""Many executions run again in one request, each as a new one; one that cannot does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import msgspec

from actors import clerk
from actors.clerk import Table
from actors.submitting import Stored, Submitting, wished
from events import service
from events.errors import HindbrainError, NotFound, Validation
from events.execution import EXECUTION, TERMINAL
from events.ports import Ask, Call, Doors, Loaded, Log, Outcome

MOST = 1000
"""How many one request runs again, or takes off a list."""

T = TypeVar("T")
Turns = Callable[[Call, Callable[[], None]], None]
"""Has something done in the gateway's thread; what it raises is the answer to the call."""


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


@dataclass(slots=True)
class Batch:
    """What became of all of them."""

    retried: list[service.Again]
    refused: list[service.Refused]
    seq: int = 0


class Again:
    """Finds them, reads them, and submits them anew."""

    def __init__(self, journal: Log, doors: Doors, submitting: Submitting, turn: Turns) -> None:
        self._log, self._doors, self._submitting, self._turn = journal, doors, submitting, turn

    def retry(self, ask: service.Retry, call: Call) -> None:
        """Answer a request that names no single execution."""
        sql, params = _query(ask)

        def answer(batch: Batch) -> None:
            made = service.Retried(retried=batch.retried, refused=batch.refused, seq=batch.seq)
            clerk.answer(call, lambda: made)

        def chosen(rows: list[list[Any]]) -> None:
            self.many(call, [row[0] for row in rows], ask.secrets, ask.idempotency_key, answer)

        self.choose(call, sql, params, chosen)

    def choose(
        self, call: Call, sql: str, params: Sequence[Any], then: Callable[[list[list[Any]]], None]
    ) -> None:
        """Ask the tables, and go on with the rows in the gateway's thread."""

        def done(found: Table | HindbrainError) -> None:
            if isinstance(found, HindbrainError):
                call.refuse(found)
            else:
                self._turn(call, lambda: then(found.rows))

        clerk.ask(self._doors, sql, params, done)

    def many(
        self,
        call: Call,
        entities: Sequence[str],
        secrets: dict[str, str],
        key: str | None,
        done: Callable[[Batch], None],
    ) -> None:
        """Run these again; each has a key of its own below `key`, so that a repeat makes nothing twice."""
        names = list(dict.fromkeys(entities))
        if not names:
            done(Batch([], []))
            return

        def read(loaded: list[Loaded]) -> None:
            self._turn(call, lambda: self._submit(call, loaded, secrets, key, done))

        self._log.load(EXECUTION, names, Gather(len(names), read))

    def _submit(
        self,
        call: Call,
        loaded: list[Loaded],
        secrets: dict[str, str],
        key: str | None,
        done: Callable[[Batch], None],
    ) -> None:
        batch = Batch([], [])
        asks: list[Ask] = []
        for each in loaded:
            try:
                asks.append(self._one(call, each, secrets, key))
            except HindbrainError as error:
                batch.refused.append(_refused(each.entity, error))

        def stored(outcomes: list[Outcome]) -> None:
            for outcome in outcomes:
                self._settle(outcome, batch)
            done(batch)

        if asks:
            self._log.handle(asks, Gather(len(asks), stored))
        else:
            done(batch)

    def _one(self, call: Call, each: Loaded, secrets: dict[str, str], key: str | None) -> Ask:
        entity, state = each.entity, each.snapshot.state
        if each.error:
            raise each.error
        if each.snapshot.n == 0:
            raise NotFound(f"Execution not found: {entity}", execution_id=entity)
        own = {name: value for name, value in secrets.items() if name in state.spec.secrets}
        wish = wished(entity, state, own, None if key is None else f"{key}/{entity}")
        ask, stored = self._submitting.submission(call, wish, retry_of=entity)
        return replace(ask, tag=stored)

    def _settle(self, outcome: Outcome, batch: Batch) -> None:
        stored: Stored = outcome.ask.tag
        old, snapshot = stored.retry_of or "", outcome.snapshot
        if error := self._submitting.settle(stored, outcome):
            batch.refused.append(_refused(old, error))
            return
        seq = outcome.facts[0].seq if outcome.facts else snapshot.seq
        batch.seq = max(batch.seq, seq)
        batch.retried.append(
            service.Again(
                execution_id=outcome.ask.entity,
                retry_of=old,
                status=snapshot.state.status,
                seq=seq,
                duplicate=not outcome.facts,
            )
        )


def _refused(entity: str, error: HindbrainError) -> service.Refused:
    return service.Refused(execution_id=entity, error=msgspec.to_builtins(error.problem))


def _query(ask: service.Retry) -> tuple[str, list[Any]]:
    where = ask.where or service.Where()
    over = [event.name() for event in TERMINAL]
    if where.status is not None and where.status not in over:
        raise Validation(f"where.status is {where.status!r}: use {', '.join(over)}", field="where.status")
    if not 1 <= ask.limit <= MOST:
        raise Validation(f"limit must be between 1 and {MOST}", field="limit")
    params: list[Any] = []
    parts = [f"status IN ({', '.join(repr(name) for name in over)})"]
    for text, value in (
        ("status = ?", where.status),
        ("list_contains(labels, ?)", where.label),
        ("plan_id = ?", where.plan_id),
        ("module = ?", where.module),
    ):
        if value is not None:
            parts.append(text)
            params.append(value)
    if not params:
        raise Validation("where is empty: name a status, label, plan_id or module", field="where")
    sql = f"SELECT id FROM executions WHERE {' AND '.join(parts)} ORDER BY seq DESC LIMIT {ask.limit}"  # noqa: S608 -- only words of ours
    return sql, params
