"""Many executions run again in one request, each as a new one; one that cannot does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors import choosing, clerk
from actors.clerk import Gather, Table, Turns
from actors.rehearsing import read
from actors.submitting import Stored, Submitting, wished
from events import rehearsal, service
from events.asks.rehearse import Line
from events.errors import HindbrainError, NotFound
from events.execution import EXECUTION, State
from events.message import Message
from events.ports import Ask, Call, Doors, Loaded, Log, Outcome


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
        """Answer a request that names no single execution, or only rehearses."""
        if ask.execution_id is not None:
            self.rehearse(call, [ask.execution_id], ask.secrets, _rehearsed)
            return
        sql, params = choosing.over(ask.where, ask.limit)

        def answer(batch: Batch) -> None:
            made = service.Retried(retried=batch.retried, refused=batch.refused, seq=batch.seq)
            clerk.answer(call, lambda: made)

        def chosen(rows: list[list[Any]]) -> None:
            names = [row[0] for row in rows]
            if ask.rehearse:
                self.rehearse(call, names, ask.secrets, _rehearsed)
            else:
                self.many(call, names, ask.secrets, ask.idempotency_key, answer)

        self.choose(call, sql, params, chosen, ask.min_seq)

    def rehearse(
        self,
        call: Call,
        names: Sequence[str],
        secrets: dict[str, str],
        reply: Callable[[list[Line]], Message],
    ) -> None:
        """Answer what running these again would do."""

        def line(each: Loaded) -> Line:
            state = each.snapshot.state
            try:
                wished(each.entity, state, _own(secrets, state), None)
            except HindbrainError as error:
                return Line(id=each.entity, text=f"nothing: {error.message}")
            return Line(id=each.entity, text=f"it {state.status}: {state.spec.text} would run again")

        read(self._log, call, EXECUTION, names, line, reply)

    def choose(
        self,
        call: Call,
        sql: str,
        params: Sequence[Any],
        then: Callable[[list[list[Any]]], None],
        min_seq: int | None = None,
    ) -> None:
        """Ask the tables, and go on with the rows in the gateway's thread."""

        def done(found: Table | HindbrainError) -> None:
            if isinstance(found, HindbrainError):
                call.refuse(found)
            else:
                self._turn(call, lambda: then(found.rows))

        clerk.ask(self._doors, sql, params, done, min_seq=min_seq)

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
        wish = wished(entity, state, _own(secrets, state), None if key is None else f"{key}/{entity}")
        ask, stored = self._submitting.submission(call, wish, retry_of=entity)
        return msgspec.structs.replace(ask, tag=stored)

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


def _own(secrets: dict[str, str], state: State) -> dict[str, str]:
    """Those of the given secrets that are its own."""
    return {name: value for name, value in secrets.items() if name in state.spec.secrets}


def _rehearsed(lines: list[Line]) -> Message:
    return service.Retried(seq=0, rehearsed=lines, note=rehearsal.AGAIN)


def _refused(entity: str, error: HindbrainError) -> service.Refused:
    return service.Refused(execution_id=entity, error=msgspec.to_builtins(error.problem))
