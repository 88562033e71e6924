"""Orders about what waits: more or less urgent, first or last of its level."""

from collections.abc import Callable
from typing import Any

from actors import clerk
from actors.clerk import Gather, Table, Turns, Verbs
from events import execution, ids, service, spec, undoing
from events.errors import Conflict, HindbrainError, Limit, NotFound, Validation
from events.execution import EXECUTION, State
from events.message import Command
from events.ports import Ask, Call, Doors, Loaded, Log, Outcome, Snapshot

MOST = 1000
"""How many may be put behind one that is to be the first."""
AHEAD = """
SELECT id FROM executions
WHERE status = 'queued' AND held IS NULL AND module = ? AND priority = ? AND seq < ? AND seq > ?
ORDER BY seq LIMIT 1001
"""
"""What stands before it in the queue: the log is the queue, so the sequence is the place."""


class Orders:
    """The desk of `execution.reorder`."""

    def __init__(self, journal: Log, doors: Doors, turn: Turns) -> None:
        self._log, self._doors, self._turn = journal, doors, turn

    @property
    def verbs(self) -> Verbs:
        """What it answers."""
        return {("execution", "reorder"): self._reorder}

    def _reorder(self, ask: service.Reorder, call: Call) -> None:
        if ask.to not in (None, "first", "last"):
            raise Validation(f"to is {ask.to!r}: use first or last", field="to")
        if ask.priority is None and ask.to is None:
            raise Validation("give a priority, or to: first or last", field="priority")
        if not ids.TOKEN.fullmatch(ask.execution_id):
            raise _unknown(ask.execution_id)
        priority = None if ask.priority is None else spec.urgency(ask.priority)

        def read(loaded: list[Loaded]) -> None:
            self._turn(call, lambda: self._begin(call, ask, priority, loaded[0]))

        self._log.load(EXECUTION, [ask.execution_id], Gather(1, read))

    def _begin(
        self, call: Call, ask: service.Reorder, priority: spec.Priority | None, loaded: Loaded
    ) -> None:
        state = loaded.snapshot.state
        if loaded.error:
            raise loaded.error
        if loaded.snapshot.n == 0:
            raise _unknown(ask.execution_id)
        if state.phase == "running":
            raise Conflict("it runs already: only what waits has a place in the queue")
        if ask.to is not None and state.held is not None:
            text = f"it waits for {state.held.reason} ({state.held.by}), and is not in the queue yet"
            raise Conflict(text, held=state.held.reason)
        if priority is None:
            self._place(call, ask, loaded.snapshot, changed=False)
            return
        command = execution.Prioritize(priority=priority, reason=undoing.REORDERED)

        def done(outcome: Outcome) -> None:
            self._place(call, ask, outcome.snapshot, changed=bool(outcome.facts))

        self._decide(call, ask.execution_id, command, done)

    def _place(self, call: Call, ask: service.Reorder, found: Snapshot[State], *, changed: bool) -> None:
        """Its priority is what it should be; now its place on that level."""
        state = found.state
        if ask.to == "first" and state.phase == "queued":
            self._first(call, ask, found, changed=changed)
        elif ask.to == "last" and state.phase == "queued" and not changed:
            command = execution.Requeue(reason=undoing.REORDERED)
            self._decide(
                call,
                ask.execution_id,
                command,
                lambda outcome: self._answer(call, ask, outcome.snapshot, changed=True, passed=0),
            )
        else:
            self._answer(call, ask, found, changed=changed, passed=0)

    def _first(self, call: Call, ask: service.Reorder, found: Snapshot[State], *, changed: bool) -> None:
        """Put everything that stands before it to the end of the level, in the order in which it stands."""
        state = found.state

        def ahead(table: Table | HindbrainError) -> None:
            if isinstance(table, HindbrainError):
                call.refuse(table)
                return
            if len(table.rows) > MOST:
                text = f"more than {MOST} wait before it: give it a higher priority instead"
                call.refuse(Limit(text, limit=MOST))
                return
            if not table.rows:
                self._answer(call, ask, found, changed=changed, passed=0)
                return
            names = [row[0] for row in table.rows]

            def read(loaded: list[Loaded]) -> None:
                requeue(names, {each.entity: each.snapshot for each in loaded})

            self._log.load(EXECUTION, names, Gather(len(names), read))

        def requeue(names: list[str], known: dict[str, Snapshot[State]]) -> None:
            # They were read first, so that all are decided at once, and stored in the order they stand in.
            command = execution.Requeue(reason=f"{undoing.BEHIND}{ask.execution_id}")
            asks = [
                Ask(EXECUTION, name, command, by=call.by, trace=call.trace, known=known[name])
                for name in names
            ]
            self._log.handle(asks, Gather(len(asks), moved))

        def moved(outcomes: list[Outcome]) -> None:
            # One that was taken or stopped meanwhile is out of the way too.
            passed = sum(bool(outcome.facts) for outcome in outcomes)
            seq = max([found.seq, *(outcome.snapshot.seq for outcome in outcomes)])
            self._answer(call, ask, found, changed=changed or passed > 0, passed=passed, seq=seq)

        params: list[Any] = [state.spec.module, state.priority, state.queued, ask.from_seq]
        clerk.ask(self._doors, AHEAD, params, ahead, min_seq=found.seq)

    def _decide(self, call: Call, entity: str, command: Command, done: Callable[[Outcome], None]) -> None:
        def decided(outcomes: list[Outcome]) -> None:
            if (error := outcomes[0].error) is not None:
                call.refuse(error)
            else:
                done(outcomes[0])

        ask = Ask(EXECUTION, entity, command, by=call.by, trace=call.trace)
        self._log.handle([ask], Gather(1, decided))

    def _answer(
        self,
        call: Call,
        ask: service.Reorder,
        found: Snapshot[State],
        *,
        changed: bool,
        passed: int,
        seq: int | None = None,
    ) -> None:
        made = service.Reordered(
            execution_id=ask.execution_id,
            status=found.state.status,
            priority=found.state.priority,
            changed=changed,
            passed=passed,
            seq=seq or found.seq,
        )
        clerk.answer(call, lambda: made)


def _unknown(entity: str) -> NotFound:
    return NotFound(f"Execution not found: {entity}", execution_id=entity)
