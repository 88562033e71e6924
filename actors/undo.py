"""The desk of `log.undo`: finds what takes a fact back, and asks for that as anybody would."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import clerk, pages
from actors.clerk import Gather, Table, Turns, Verbs
from events import execution, limit, plan, schedule, template, undoing
from events.asks import log as asks
from events.codec import Fact
from events.errors import Conflict, HindbrainError, NotFound, Validation
from events.ports import Ask, Call, Decider, Doors, Loaded, Log, Outcome
from events.undoing import Counter

DECIDERS: dict[str, Decider[Any]] = {
    "execution": execution.EXECUTION,
    "plan": plan.PLAN,
    "schedule": schedule.SCHEDULE,
    "limit": limit.LIMIT,
    "template": template.TEMPLATE,
}
WHOSE = "SELECT kind, entity FROM events WHERE seq = ?"


class Undo:
    """Takes facts back; `verbs` answers what is asked for that."""

    def __init__(self, journal: Log, doors: Doors, verbs: Verbs, turn: Turns) -> None:
        self._log, self._doors, self._others, self._turn = journal, doors, verbs, turn

    @property
    def verbs(self) -> Verbs:
        """What it answers."""
        return {("log", "undo"): self._undo}

    def _undo(self, ask: asks.Undo, call: Call) -> None:
        if ask.seq < 1:
            raise Validation("seq is the number of an event, from 1 on", field="seq")

        def found(table: Table | HindbrainError) -> None:
            if isinstance(table, HindbrainError):
                call.refuse(table)
                return
            self._turn(call, lambda: self._read(ask, call, table.rows))

        clerk.ask(self._doors, WHOSE, [ask.seq], found, min_seq=ask.seq)

    def _read(self, ask: asks.Undo, call: Call, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            raise NotFound(f"There is no event {ask.seq}", seq=ask.seq)
        kind, entity = map(str, rows[0])
        if kind not in DECIDERS:
            raise Conflict(f"event {ask.seq} is about a {kind}: nothing of that can be taken back")

        def read(loaded: list[Loaded]) -> None:
            self._turn(call, lambda: self._weigh(ask, call, loaded[0]))

        self._log.load(DECIDERS[kind], [entity], Gather(1, read))

    def _weigh(self, ask: asks.Undo, call: Call, loaded: Loaded) -> None:
        if loaded.error is not None:
            raise loaded.error
        fact = next((each for each in loaded.facts if each.seq == ask.seq), None)
        if fact is None:
            raise Conflict(f"event {ask.seq} was carried on since, and cannot be taken back", seq=ask.seq)
        counter = undoing.counter(loaded.facts, ask.seq)
        if fact.kind != "limit":
            self._go(ask, call, fact, counter, loaded)
            return

        def head(last: pages.Head | HindbrainError) -> None:
            def go() -> None:
                if isinstance(last, HindbrainError):
                    raise last
                if not undoing.in_force(fact, last.snapshot.state):
                    raise Conflict("the limit was changed since", seq=ask.seq)
                self._go(ask, call, fact, counter, loaded)

            self._turn(call, go)

        pages.find(self._log, limit.place(loaded.entity)[0], head)

    def _go(self, ask: asks.Undo, call: Call, fact: Fact, counter: Counter, loaded: Loaded) -> None:
        def done(reply: dict[str, Any]) -> None:
            made = asks.Undone(
                undone=fact.seq,
                event=f"{fact.kind} {fact.name}",
                id=fact.entity,
                text=counter.text,
                changed=bool(reply.get("changed", False)),
                seq=int(reply.get("seq", fact.seq)),
                reply=reply,
            )
            clerk.answer(call, lambda: made)

        if ask.rehearse:
            done({})
        elif isinstance(counter.request, undoing.Restore):
            self._restore(call, counter.request, loaded, done)
        else:
            verb = self._others[counter.kind, counter.verb]
            inner = Call(
                counter.kind,
                counter.verb,
                b"",
                lambda body: done(msgspec.json.decode(body)),
                call.refuse,
                by=call.by,
                trace=call.trace,
            )
            verb(counter.request, inner)

    def _restore(
        self, call: Call, wish: undoing.Restore, loaded: Loaded, done: Callable[[dict[str, Any]], None]
    ) -> None:
        command = undoing.wanted(loaded.snapshot.state, wish)

        def stored(outcomes: list[Outcome]) -> None:
            outcome = outcomes[0]
            if outcome.error is not None:
                call.refuse(outcome.error)
            else:
                done({"changed": bool(outcome.facts), "seq": outcome.snapshot.seq})

        ask = Ask(template.TEMPLATE, wish.name, command, by=call.by, trace=call.trace)
        self._log.handle([ask], Gather(1, stored))
