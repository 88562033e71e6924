"""The desk for limits: sets them, and lists them with what is at them."""

from collections.abc import Callable, Iterable, Sequence

from actors import clerk, pages
from actors.clerk import Table, Verbs
from events import ids, limit
from events.asks import limit as asks
from events.codec import Fact
from events.errors import HindbrainError, Validation
from events.limit import LIMIT, On, State
from events.ports import Call, Doors, Loaded, Log, Outcome
from events.spec import DAY_MS, KEY_MAX

MAX = 100_000
_NAME_MAX = 48
HEADS = "SELECT entity FROM events WHERE kind = 'limit' AND event IN ('set', 'opened') GROUP BY entity"
"""Every page of every limit."""
WAITING = (
    "SELECT held->>'$.by', count(*) FROM executions WHERE status = 'queued'"
    " AND (held->>'$.reason') = 'limit' GROUP BY 1"
)


class Limits:
    """Answers the verbs of limits, in the thread of the gateway."""

    def __init__(self, journal: Log, doors: Doors, told: Callable[[Sequence[Fact]], None]) -> None:
        """Prepare; `told` gets the facts of a limit before its setting is answered."""
        self._log, self._doors, self._told = journal, doors, told

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {("limit", "set"): self._set, ("limit", "list"): self._list}

    def _set(self, ask: asks.Set, call: Call) -> None:
        on, target = _target(ask)
        _check(ask)
        first = limit.base(on, target)
        command = limit.Put(on=on, target=target, max=ask.max, rate=ask.rate)

        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                call.refuse(outcome.error)
                return
            state: State = outcome.snapshot.state
            changed = asks.Changed(
                limit_id=first,
                on=on,
                target=target,
                max=state.max,
                rate=state.rate,
                changed=bool(outcome.facts),
                seq=outcome.snapshot.seq,
            )
            self._told(outcome.facts)
            clerk.answer(call, lambda: changed)

        pages.ask(self._log, first, command, call.by, done, call.trace)

    def _list(self, ask: asks.List, call: Call) -> None:
        """The tables know which there are and what waits, the log who is at them."""
        waiting: dict[str, int] = {}

        def counted(answer: Table | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                call.refuse(answer)
                return
            waiting.update({str(by): int(count) for by, count in answer.rows})
            clerk.ask(self._doors, HEADS, (), found, min_seq=ask.min_seq)

        def found(answer: Table | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                call.refuse(answer)
                return
            heads = last_pages(str(row[0]) for row in answer.rows)
            lot: list[Loaded] = []

            def loaded(some: Sequence[Loaded]) -> None:
                lot.extend(some)
                if len(lot) == len(heads):
                    clerk.answer(call, lambda: _listed(lot, waiting))

            if heads:
                self._log.load(LIMIT, heads, loaded)
            else:
                clerk.answer(call, lambda: asks.Listed(limits=[]))

        clerk.ask(self._doors, WAITING, (), counted, min_seq=ask.min_seq)


def last_pages(entities: Iterable[str]) -> list[str]:
    """Of each limit the last page that anybody has seen."""
    last: dict[str, int] = {}
    for entity in entities:
        first, number = limit.place(entity)
        last[first] = max(number, last.get(first, 0))
    return [limit.page(first, number) for first, number in last.items()]


def _listed(lot: Sequence[Loaded], waiting: dict[str, int]) -> asks.Listed | HindbrainError:
    shown: list[asks.Limit] = []
    for each in lot:
        if each.error is not None:
            return each.error
        state: State = each.snapshot.state
        if state.force and state.on is not None:
            by = f"limit {state.target}" if state.on == "key" else f"{state.on} {state.target}"
            shown.append(
                asks.Limit(
                    id=limit.place(each.entity)[0],
                    on=state.on,
                    target=state.target,
                    max=state.max,
                    rate=state.rate,
                    holders=sorted(state.holders),
                    waiting=waiting.get(by, 0),
                    seq=each.snapshot.seq,
                )
            )
    return asks.Listed(limits=sorted(shown, key=lambda each: (each.on, each.target)))


def _target(ask: asks.Set) -> tuple[On, str]:
    kinds: tuple[tuple[On, str | None], ...] = (("node", ask.node), ("module", ask.module), ("key", ask.key))
    given: list[tuple[On, str]] = [(on, name) for on, name in kinds if name is not None]
    if len(given) != 1:
        raise Validation("give exactly one of node, module and key", field="key")
    on, name = given[0]
    if on == "key" and not 1 <= len(name) <= KEY_MAX:
        raise Validation(f"key must have 1 to {KEY_MAX} characters", field="key")
    if on != "key" and (not ids.TOKEN.fullmatch(name) or len(name) > _NAME_MAX or "--" in name):
        raise Validation(
            f"{name!r} is no {on}: `hindbrain info` names the node, 'commands' is the module", field=on
        )
    return on, name


def _check(ask: asks.Set) -> None:
    if ask.max is not None and not 0 <= ask.max <= MAX:
        raise Validation(f"max must be between 0 and {MAX}", field="max")
    if ask.rate is None:
        return
    if ask.node is not None:
        raise Validation("a node has no rate: limit a module or a key", field="rate")
    if not 1 <= ask.rate.count <= MAX:
        raise Validation(f"rate.count must be between 1 and {MAX}", field="rate.count")
    if not 1 <= ask.rate.per_ms <= DAY_MS:
        raise Validation("rate.per_ms must be between 1 and a day", field="rate.per_ms")
