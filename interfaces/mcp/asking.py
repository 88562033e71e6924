"""Tools that ask the tables, and tools for plans."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from events.asks.plan import Plan
from events.asks.tables import Column
from events.errors import TooLarge
from events.message import Message
from events.spec import Strict
from interfaces.mcp.tools import READS, RUNS, Call, begun, cut, tokens, tool

STEPS_MAX = 200


class Sql(Strict):
    """A query."""

    query: Annotated[str, Meta(description="One SELECT in DuckDB's dialect.")]
    seq: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="As of this event, including it.")] = (
        None
    )
    at: Annotated[str | None, Meta(description="As of this time: 2026-01-31T12:00:00Z.")] = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="The most rows.")] = 100
    max_tokens: Annotated[
        int, Meta(ge=100, le=100_000, description="The most tokens of the answer; a token is 3 bytes.")
    ] = 8000


class Table(Message, omit_defaults=False):
    """The rows; `truncated` when there were more than fit."""

    columns: list[Column]
    rows: list[list[Any]]
    seq: int
    truncated: bool


class PlanSubmit(Strict):
    """A plan, and what its parameters are."""

    plan: Annotated[
        dict[str, Any],
        Meta(
            description="What a plan file says, as JSON: name, strategy (graph, serial or parallel), "
            "max_concurrency, params, and steps: a list of {name, one form (shell: {command}, code, "
            "exec: {program, args}, script: {path}), needs: [names], when, timeout_ms, retries: {max}, "
            'allow_failure, undo}. Example: {"name": "checks", "strategy": "graph", "steps": [{"name": '
            '"build", "shell": {"command": "make"}}, {"name": "test", "shell": {"command": "make test"}, '
            '"needs": ["build"]}]}'
        ),
    ]
    values: Annotated[dict[str, Any], Meta(description="Values of its parameters.")] = {}
    idempotency_key: Annotated[str | None, Meta(description="The same key never runs twice.")] = None


class Planned(Message, omit_defaults=True):
    """It is stored, and will run."""

    plan_id: str
    status: str
    message: str
    monitor_url: str
    duplicate: bool | UnsetType = UNSET


class PlanStatus(Strict):
    """Which plan."""

    plan_id: str


class Step(Message, omit_defaults=True):
    """One step; its output is that of its execution."""

    name: str
    status: str
    execution_id: str | None = None
    plan_id: str | None = None
    exit_code: int | None = None
    error: str | None = None
    reason: str | None = None
    outputs: dict[str, Any] = {}


class PlanStanding(Message, omit_defaults=False):
    """How a plan stands."""

    id: str
    name: str
    status: str
    progress: str
    completed: int
    failed: int
    skipped: int
    running: int
    total: int | None
    elapsed_seconds: float | None
    error: dict[str, Any] | None
    steps: list[Step]
    steps_left_out: int | UnsetType = UNSET
    failed_operations: list[int] | UnsetType = UNSET


@tool(READS, "Ask the tables")
async def sql(call: Call, ask: Sql) -> Table:
    """A read-only query over what ran, now or as of any past moment.

    Tables: executions (id, status, command, description, labels, exit_code, error, created_at, started_at,
    completed_at, duration_ms, progress, last_output, stdout, stderr, plan_id, seq), events (seq, time, kind,
    entity, n, event, by, data), plans, plan_steps, schedules, limits, findings, decisions, nodes.
    DESCRIBE is not needed: SELECT table_name, column_name FROM duckdb_columns() lists all.
    """
    past = ask.seq is not None or ask.at is not None
    fresh = None if past else await call.patiently(call.engine.last_seq)
    how = {"seq": ask.seq, "at": ask.at, "min_seq": fresh, "limit": ask.limit}
    given = {name: value for name, value in how.items() if value is not None}
    table = await call.patiently(lambda: call.engine.sql(ask.query, **given))
    room = ask.max_tokens * 3 - len(msgspec.json.encode(msgspec.structs.replace(table, rows=[])))
    rows: list[list[Any]] = []
    for row in table.rows:
        room -= len(msgspec.json.encode(row)) + 1
        if room < 0:
            break
        rows.append(row)
    if table.rows and not rows:
        raise TooLarge(
            f"the first row alone has {tokens(msgspec.json.encode(table.rows[0]))} tokens: "
            "ask for fewer columns, shorten them with left(column, 200), or raise max_tokens",
            field="max_tokens",
        )
    cut_off = table.truncated or len(rows) < len(table.rows)
    return Table(columns=table.columns, rows=rows, seq=table.seq, truncated=cut_off)


@tool(RUNS, "Run a plan")
async def plan_submit(call: Call, ask: PlanSubmit) -> Planned:
    """Run many commands in an order, in the background, and answer the plan's id at once.

    Follow it with plan_status, wait and cancel. Nothing of a plan that has a mistake is run; the error says
    where it is.
    """
    more = {"values": ask.values or None, "idempotency_key": ask.idempotency_key}
    reply = await call.engine.submit_plan(("plan", "submit"), {**ask.plan, **more})
    return begun(Planned, reply)


@tool(READS, "How a plan stands")
async def plan_status(call: Call, ask: PlanStatus) -> PlanStanding:
    """How a plan stands, with each of its steps and what came of it."""
    plan = msgspec.convert((await call.request("plan", "get", plan_id=ask.plan_id))["plan"], Plan)
    steps = [
        Step(
            name=each.name,
            status=each.status,
            execution_id=each.execution_id,
            plan_id=each.plan_id,
            exit_code=each.exit_code,
            error=None if each.error is None else cut(str(each.error.get("message")), 200),
            reason=each.reason,
            outputs=each.outputs,
        )
        for each in plan.steps[:STEPS_MAX]
    ]
    left = len(plan.steps) - len(steps)
    return PlanStanding(
        id=plan.id,
        name=plan.name,
        status=plan.status,
        progress=plan.progress,
        completed=plan.completed,
        failed=plan.failed,
        skipped=plan.skipped,
        running=plan.running,
        total=plan.total,
        elapsed_seconds=plan.elapsed_seconds,
        error=plan.error,
        steps=steps,
        steps_left_out=left or UNSET,
        failed_operations=plan.failed_operations[:STEPS_MAX] or UNSET,
    )
