"""The desk of the dead letters: executions that were lost with their worker three times in a row."""

from typing import Any

import msgspec

from actors import clerk
from actors.again import Again, Batch
from actors.choosing import MOST
from actors.clerk import Gather, Verbs, check_page
from actors.rehearsing import rehearse
from events import codec, execution, ids, rehearsal, view
from events.asks import dead
from events.asks.rehearse import Line
from events.errors import Conflict, HindbrainError, NotFound, Validation
from events.execution import EXECUTION, State
from events.message import Message
from events.ports import Ask, Call, Loaded, Log, Outcome

PARKED = """
SELECT id FROM executions
WHERE reason = 'poisoned'
AND id NOT IN (SELECT entity FROM events WHERE kind = 'execution' AND event = 'discarded')
"""


class Dead:
    """Lists, shows, runs again, takes off."""

    def __init__(self, journal: Log, again: Again) -> None:
        self._log, self._again = journal, again

    @property
    def verbs(self) -> Verbs:
        """What it answers."""
        return {
            ("dead", "list"): self._list,
            ("dead", "get"): self._get,
            ("dead", "retry"): self._retry,
            ("dead", "discard"): self._discard,
        }

    def _list(self, ask: dead.List, call: Call) -> None:
        check_page(ask.limit, MOST)
        parts, params = [PARKED], list[Any]()
        for text, value in ((" AND module = ?", ask.module), (" AND seq < ?", ask.before)):
            if value is not None:
                parts.append(text)
                params.append(value)
        sql = f"{''.join(parts)} ORDER BY seq DESC LIMIT {ask.limit + 1}"

        def chosen(rows: list[list[Any]]) -> None:
            names = [row[0] for row in rows][: ask.limit]
            more = len(rows) > ask.limit

            def read(loaded: list[Loaded]) -> None:
                letters = sorted((_letter(each) for each in loaded), key=lambda each: -each.seq)
                following = letters[-1].seq if more and letters else None
                clerk.answer(call, lambda: dead.Letters(letters=letters, next=following))

            if names:
                self._log.load(EXECUTION, names, Gather(len(names), read))
            else:
                clerk.answer(call, lambda: dead.Letters(letters=[], next=None))

        self._again.choose(call, sql, params, chosen, ask.min_seq)

    def _get(self, ask: dead.Get, call: Call) -> None:
        def read(loaded: list[Loaded]) -> None:
            def make() -> Message:
                _check(loaded[0])
                rows = [msgspec.json.decode(codec.encode(view.row(fact))) for fact in loaded[0].facts]
                return dead.One(letter=_letter(loaded[0]), events=rows)

            clerk.answer(call, make)

        self._log.load(EXECUTION, [_named(ask.execution_id)], Gather(1, read))

    def _retry(self, ask: dead.Retry, call: Call) -> None:
        def retry(names: list[str]) -> None:
            if ask.rehearse:
                self._again.rehearse(call, names, ask.secrets, rehearsed)
            else:
                self._again.many(call, names, ask.secrets, ask.idempotency_key, stored)

        def rehearsed(lines: list[Line]) -> Message:
            return dead.Retried(retried=[], refused=[], seq=0, rehearsed=lines, note=rehearsal.AGAIN)

        def stored(batch: Batch) -> None:
            old = [each.retry_of for each in batch.retried]
            asks = self._asks(call, old, "retried")

            def off(outcomes: list[Outcome]) -> None:
                seq = max([batch.seq, *(outcome.snapshot.seq for outcome in outcomes)])
                made = dead.Retried(retried=batch.retried, refused=batch.refused, seq=seq)
                clerk.answer(call, lambda: made)

            self._log.handle(asks, Gather(len(asks), off)) if asks else off([])

        self._chosen(ask, call, retry)

    def _discard(self, ask: dead.Discard, call: Call) -> None:
        def discard(names: list[str]) -> None:
            if ask.rehearse:
                command = execution.Discard(reason=ask.reason)
                rehearse(self._log, call, EXECUTION, names, command, rehearsed)
                return
            asks = self._asks(call, names, ask.reason)
            self._log.handle(asks, Gather(len(asks), done)) if asks else done([])

        def rehearsed(lines: list[Line]) -> Message:
            return dead.Discarded(discarded=[], refused=[], seq=0, rehearsed=lines, note=rehearsal.OFF)

        def done(outcomes: list[Outcome]) -> None:
            refused = [
                dead.Refused(execution_id=each.ask.entity, error=msgspec.to_builtins(each.error.problem))
                for each in outcomes
                if each.error is not None
            ]
            gone = [each.ask.entity for each in outcomes if each.error is None]
            seq = max((each.snapshot.seq for each in outcomes), default=0)
            clerk.answer(call, lambda: dead.Discarded(discarded=gone, refused=refused, seq=seq))

        self._chosen(ask, call, discard)

    def _chosen(self, ask: dead.Retry | dead.Discard, call: Call, then: Any) -> None:
        """Go on with the one that is named, if it is parked, or with all that are."""
        if (ask.execution_id is None) == (not ask.all):
            raise Validation("give execution_id, or all: true", field="execution_id")
        if ask.execution_id is not None:
            name = ask.execution_id

            def read(loaded: list[Loaded]) -> None:
                try:
                    _check(loaded[0])
                except HindbrainError as error:
                    call.refuse(error)
                else:
                    then([name])

            self._log.load(EXECUTION, [_named(name)], Gather(1, read))
            return
        check_page(ask.limit, MOST)
        module = "" if ask.module is None else " AND module = ?"
        params = [] if ask.module is None else [ask.module]
        sql = f"{PARKED}{module} ORDER BY seq LIMIT {ask.limit}"
        self._again.choose(call, sql, params, lambda rows: then([row[0] for row in rows]))

    def _asks(self, call: Call, names: list[str], reason: str | None) -> list[Ask]:
        command = execution.Discard(reason=reason)
        return [Ask(EXECUTION, name, command, by=call.by, trace=call.trace) for name in names]


def _check(loaded: Loaded) -> None:
    if loaded.error:
        raise loaded.error
    state: State = loaded.snapshot.state
    if loaded.snapshot.n == 0:
        raise NotFound(f"Execution not found: {loaded.entity}", execution_id=loaded.entity)
    if not state.poisoned:
        raise Conflict(f"{loaded.entity} is {state.status} and not a dead letter", execution_id=loaded.entity)


def _letter(loaded: Loaded) -> dead.Letter:
    state: State = loaded.snapshot.state
    error = getattr(state.end, "error", None)
    return dead.Letter(
        execution_id=loaded.entity,
        command=state.spec.text if loaded.snapshot.n else "",
        description=state.spec.description,
        module=state.spec.module,
        node=state.started.node if state.started else None,
        attempts=state.attempt,
        error=None if error is None else msgspec.to_builtins(error),
        parked_at=state.completed_at,
        discarded=state.discarded,
        seq=state.seq,
    )


def _named(entity: str) -> str:
    if not ids.TOKEN.fullmatch(entity):
        raise NotFound(f"Execution not found: {entity}", execution_id=entity)
    return entity
