# ruff: noqa: S608 -- SQL is made of names of our own events; nothing of a user is in it
"""What the tables say of all schedules, and what a tick of one asks for."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec

from actors.clerk import Table
from events import codec, execution, plan, schedule
from events.asks import plan as asks
from events.clock import millis
from events.errors import Validation
from events.execution import EXECUTION
from events.plan import PLAN
from events.ports import Ask, Snapshot
from events.schedule import Created, State, Ticked

OVER = ", ".join(f"'{event.name()}'" for event in execution.TERMINAL)
_CHILD = "coalesce(data->>'$.execution_id', data->>'$.plan_id')"
_HAND = "coalesce(data->>'$.manual', 'false') = 'true'"

SCHEDULES = f"""
SELECT entity,
    max(data::VARCHAR) FILTER (event = 'created'),
    arg_max(event, seq) FILTER (event IN ('created', 'paused', 'resumed', 'deleted')),
    max(data->>'$.at') FILTER (event = 'resumed'),
    max(data->>'$.tick') FILTER (event = 'ticked' AND NOT ({_HAND})),
    count(*) FILTER (event = 'ticked' AND {_HAND}),
    count(*) FILTER (event = 'ticked' AND {_CHILD} IS NOT NULL),
    arg_max(data::VARCHAR, seq) FILTER (event = 'ticked' AND {_CHILD} IS NOT NULL),
    arg_max(data::VARCHAR, seq) FILTER (event = 'ticked' AND {_CHILD} IS NULL),
    max(seq),
    min(seq)
FROM events WHERE kind = 'schedule' GROUP BY entity
"""
"""One row for each schedule; `state` reads it."""

CHILDREN = f"""
SELECT t.entity, t.data::VARCHAR, x.id IS NULL AND p.entity IS NULL
FROM (SELECT *, data->>'$.execution_id' AS e, data->>'$.plan_id' AS p FROM events
    WHERE kind = 'schedule' AND event = 'ticked' AND {_CHILD} IS NOT NULL) t
LEFT JOIN executions x ON x.id = t.e
LEFT JOIN (SELECT entity, max(event IN ({OVER}, 'rolled_back')) AS over FROM events
    WHERE kind = 'plan' GROUP BY entity) p ON p.entity = t.p
WHERE x.completed_at IS NULL AND NOT coalesce(p.over, false)
ORDER BY t.seq
"""
"""What was granted and is not over, or was never submitted: schedule, `ticked`, whether it is missing."""


def state(row: Sequence[Any]) -> State:
    """Read one row of `SCHEDULES`; its last column is the sequence of its birth."""
    entity, body, last, resumed, tick, by_hand, runs, ran, passed, seq, _ = row
    created = cast("Created", codec.decode("schedule", str(body).encode()))
    born = millis(created.at)
    phases: dict[str, Any] = {"paused": "paused", "deleted": "over"}
    return State(
        id=entity,
        phase=phases.get(last, "active"),
        created=created,
        born=born,
        cursor=max(born, *(millis(each) for each in (resumed, tick) if each), 0),
        by_hand=by_hand,
        runs=runs,
        last=_ticked(ran),
        passed=_ticked(passed),
        seq=seq,
    )


def _ticked(body: str | None) -> Ticked | None:
    return None if body is None else cast("Ticked", codec.decode("schedule", body.encode()))


class Child(NamedTuple):
    """What a schedule submitted and is not over."""

    schedule: str
    ticked: Ticked
    missing: bool
    """It was granted, and nobody has submitted it yet."""


def children(table: Table) -> list[Child]:
    """Read the rows of `CHILDREN`."""
    return [
        Child(entity, cast("Ticked", codec.decode("schedule", str(body).encode())), missing)
        for entity, body, missing in table.rows
    ]


def submission(state: State, ticked: Ticked, node: str, by: str) -> Ask | None:
    """The execution or the plan that one tick submits; None when it is asked for at a door: a template."""
    created = state.created
    if created is not None and created.what == "plan" and ticked.plan_id is not None:
        return _plan(state, ticked, created, node, by)
    if created is None or created.spec is None or ticked.execution_id is None:
        return None
    command = execution.Submit(
        spec=msgspec.structs.replace(created.spec, schedule_id=state.id),
        digest=created.digest,
        taken_by=node,
    )
    known = Snapshot(EXECUTION.initial)
    return Ask(EXECUTION, ticked.execution_id, command, by=by, known=known, tag=(state.id, ticked))


def _plan(state: State, ticked: Ticked, created: Created, node: str, by: str) -> Ask | None:
    try:
        wanted = msgspec.convert(created.request, asks.Submit)
        definition = asks.definition(wanted)
    except (msgspec.ValidationError, Validation):
        return None  # an older version of the program took it; the door says what is wrong with it now
    command = plan.Submit(
        definition=definition,
        params=wanted.values,
        digest=created.digest,
        taken_by=node,
        schedule_id=state.id,
    )
    known = Snapshot(PLAN.initial)
    return Ask(PLAN, ticked.plan_id or "", command, by=by, known=known, tag=(state.id, ticked))


def request(state: State, ticked: Ticked) -> tuple[str, str, bytes]:
    """The request that one tick of a plan or template makes: kind, verb and body."""
    created = state.created
    assert created is not None  # noqa: S101  what has ticked was created
    kind, verb = ("plan", "submit") if created.what == "plan" else ("template", "start")
    key = schedule.key(state.id, _moment(state, ticked))
    return kind, verb, msgspec.json.encode({**(created.request or {}), "idempotency_key": key})


def _moment(state: State, ticked: Ticked) -> str:
    """The tick as it stands in the key of what it submits."""
    if not ticked.manual:
        return ticked.tick
    for count in range(state.by_hand, 0, -1):
        if schedule.child(state.id, "plan", f"{ticked.tick}#{count}") == ticked.plan_id:
            return f"{ticked.tick}#{count}"
    return ticked.tick
