"""Tools that have something run, wait for it, stop it, and say how it stands."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from events.asks.plan import Plan
from events.asks.playbook import Playbook
from events.errors import Timeout, Unavailable
from events.message import Message
from events.service import Came, Execution, Outcome
from events.spec import Strict
from events.view import age
from interfaces.mcp.tools import PAUSE_SECONDS, READS, RUNS, STOPS, Call, cut, tool

WAIT_MAX_SECONDS = 45
"""Hosts give up on a call after a minute."""
LAG_SECONDS, LAG_LOOKS = 0.3, 6
"""What is told at once is stored within a second, and only then stands in an answer."""
LIST_MAX = 200
RESTING = ("paused", "waiting_input")
"""A playbook in these goes on when somebody says so."""
COMMAND_LETTERS = 120

KINDS = {"plan": "plan", "play": "playbook"}
"""What an id begins with, and what it names; anything else is an execution."""

Id = Annotated[str, Meta(description="The id that execute answered, exec_...")]
AnyId = Annotated[
    str, Meta(description="Of an execution (exec_...), plan (plan_...) or playbook (play_...).")
]


class Execute(Strict):
    """What to run."""

    code: Annotated[str, Meta(description="The source code.")]
    language: Annotated[
        str | None, Meta(description="python when left out; bash, sh, node and others that are installed.")
    ] = None
    timeout: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Seconds after which it is stopped.")
    ] = None
    description: Annotated[str | None, Meta(description="What it is for, for people.")] = None
    working_dir: Annotated[
        str | None, Meta(description="An absolute path; a fresh folder when left out.")
    ] = None
    labels: Annotated[list[str], Meta(description="Words to find it by.")] = []
    idempotency_key: Annotated[
        str | None,
        Meta(description="The same key never runs twice: send it again when an answer did not come."),
    ] = None


class Queued(Message, omit_defaults=True):
    """It is stored, and will run."""

    execution_id: str
    status: str
    message: str
    monitor_url: str
    duplicate: bool | UnsetType = UNSET
    """It was asked for before."""


class Brief(Message, omit_defaults=False):
    """An execution, a plan or a playbook in short; what does not apply is left out."""

    id: str
    status: str
    started: str | None
    last_output: str | None
    progress: str | None
    elapsed_seconds: float | None
    eta_seconds: float | UnsetType = UNSET
    exit_code: int | UnsetType | None = UNSET
    error: dict[str, Any] | UnsetType = UNSET
    why: str | UnsetType = UNSET


class Status(Strict):
    """One, or all that goes on."""

    execution_id: Annotated[
        str | None, Meta(description="exec_..., plan_... or play_...; left out: everything that goes on.")
    ] = None


class Standing(Message):
    """How one execution stands; or all that goes on."""

    execution: Brief | UnsetType = UNSET
    message: str | UnsetType = UNSET
    operations: list[dict[str, Any]] | UnsetType = UNSET


class Wait(Strict):
    """What to wait for."""

    execution_id: AnyId
    timeout_seconds: Annotated[
        float, Meta(ge=0, le=WAIT_MAX_SECONDS, description="How long to wait at most; 45 is the most.")
    ] = 30
    cursor: Annotated[
        str | None,
        Meta(description="From an earlier wait: come back as soon as anything is different since then."),
    ] = None


class Waited(Message, omit_defaults=False):
    """How it stands now; ask again with the cursor while it is not done."""

    execution: Brief
    done: bool
    cursor: str


class Cancel(Strict):
    """What to stop."""

    execution_id: AnyId
    reason: Annotated[str | None, Meta(description="Why, for the log.")] = None


class Stopped(Message, omit_defaults=False):
    """What it is now; `changed` is false when it was over already."""

    execution_id: str
    status: str
    changed: bool
    seq: int


class List(Strict):
    """Which executions."""

    status: Annotated[
        str | None, Meta(description="held, queued, running, completed, failed, cancelled or timed_out.")
    ] = None
    label: str | None = None
    plan_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 20
    before: Annotated[int | None, Meta(description="`next` of the page before.")] = None


class Listed(Message, omit_defaults=False):
    """A page of executions, newest first."""

    executions: list[dict[str, Any]]
    next: int | None


class Result(Strict):
    """Whose result."""

    execution_id: Id
    max_bytes: Annotated[int, Meta(ge=0, le=1_048_576, description="The most of each stream.")] = 16_384


@tool(RUNS, "Run code in the background")
async def execute(call: Call, ask: Execute) -> Queued:
    """Run code in the background and answer its id at once.

    It is stored before the answer, and goes on whatever happens to this connection. Follow it with wait, read
    what it writes with output, and what came of it with result.
    """
    reply = await call.engine.submit(msgspec.to_builtins(ask))
    return Queued(
        execution_id=reply.execution_id,
        status=reply.status,
        message=reply.message,
        monitor_url=reply.monitor_url,
        duplicate=True if reply.duplicate else UNSET,
    )


@tool(READS, "How it stands")
async def status(call: Call, ask: Status) -> Standing:
    """How an execution, plan or playbook stands now; without an id, everything in the background."""
    if ask.execution_id is not None:
        return Standing(execution=await brief(call, ask.execution_id))
    fresh = await call.patiently(call.engine.last_seq)
    reply = await call.request("query", "status", min_seq=fresh)
    return Standing(message=reply["message"], operations=reply["operations"])


@tool(READS, "Wait for it")
async def wait(call: Call, ask: Wait) -> Waited:
    """Wait until it is over, at most 45 seconds; with a cursor, until anything about it is different.

    A playbook that is paused or asks something (waiting_input) is not waited for either.

    A timeout is no error: done is false, and the cursor leads on. For what takes long, do something else
    meanwhile and use catch_up; it runs on by itself.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ask.timeout_seconds):
            looks = 1
            async for said in follow(call, ask.execution_id):
                await _tell(call, said)
                if said["final"] or said["status"] in RESTING:
                    break
                if ask.cursor is not None and await _moved(call, ask.execution_id, ask.cursor, looks):
                    break
                looks = LAG_LOOKS
    now = await brief(call, ask.execution_id)
    return Waited(execution=now, done=now.exit_code is not UNSET, cursor=_mark(now))


@tool(STOPS, "Stop it")
async def cancel(call: Call, ask: Cancel) -> Stopped:
    """Stop an execution with its whole process tree, or a plan or a playbook with all that runs of it."""
    kind = KINDS.get(ask.execution_id.partition("_")[0])
    if kind is not None:
        body = {f"{kind}_id": ask.execution_id, "reason": ask.reason}
        reply = await call.request(kind, "cancel", **body) | {"execution_id": ask.execution_id}
    else:
        body = {"execution_id": ask.execution_id, "reason": ask.reason}
        reply = await call.request("execution", "cancel", **body)
    return msgspec.convert(reply, Stopped)


@tool(READS, "What ran")
async def list_(call: Call, ask: List) -> Listed:
    """Executions in short, newest first."""
    body: dict[str, Any] = msgspec.to_builtins(ask)
    page = await call.request("execution", "list", **body | {"limit": ask.limit})
    kept = ("id", "status", "description", "command", "started", "elapsed_seconds", "progress", "exit_code")
    rows = [{name: row[name] for name in kept if row[name] is not None} for row in page["executions"]]
    for row in rows:
        row["command"] = cut(row["command"], COMMAND_LETTERS)
    return Listed(executions=rows, next=page["next"])


@tool(READS, "What came of it")
async def result(call: Call, ask: Result) -> Came:
    """Exit code, stdout and stderr of an execution that is over; not_over before (then use wait)."""
    outcome: Outcome = await call.patiently(lambda: call.engine.get_result(ask.execution_id, ask.max_bytes))
    return Came(result=outcome)


async def brief(call: Call, entity: str) -> Brief:
    """Say in short how an execution or a plan stands."""
    if entity.startswith("plan_"):
        plan = (await call.request("plan", "get", plan_id=entity))["plan"]
        return _plan(msgspec.convert(plan, Plan))
    if entity.startswith("play_"):
        playbook = (await call.request("playbook", "get", playbook_id=entity))["playbook"]
        return _playbook(msgspec.convert(playbook, Playbook))
    return _execution(await call.patiently(lambda: call.engine.get_status(entity)))


def _execution(now: Execution) -> Brief:
    over = now.completed_at is not None
    eta = None if over or now.progress_detail is None else now.progress_detail.eta_ms
    return Brief(
        id=now.id,
        status=now.status,
        started=now.started,
        last_output=now.last_output,
        progress=now.progress,
        elapsed_seconds=now.elapsed_seconds,
        eta_seconds=UNSET if eta is None else eta / 1000,
        exit_code=now.exit_code if over else UNSET,
        error=now.error or UNSET,
        why=now.why if now.why and not over else UNSET,
    )


def _plan(now: Plan) -> Brief:
    elapsed = now.elapsed_seconds
    return Brief(
        id=now.id,
        status=now.status,
        started=None if elapsed is None or now.over else age(elapsed),
        last_output=None,
        progress=now.progress,
        elapsed_seconds=elapsed,
        exit_code=(0 if now.status == "completed" and not now.failed else 1) if now.over else UNSET,
        error=now.error or UNSET,
        why=now.reason or UNSET,
    )


def _playbook(now: Playbook) -> Brief:
    over = now.completed_at is not None
    elapsed = now.elapsed_seconds
    return Brief(
        id=now.id,
        status=now.status,
        started=None if elapsed is None or over else age(elapsed),
        last_output=None,
        progress=f"{now.completed}/{now.total}",
        elapsed_seconds=elapsed,
        exit_code=(0 if now.status == "completed" else 1) if over else UNSET,
        error=now.error or (now.pause or {}).get("error") or UNSET,
        why=now.asked.message if now.asked else (now.pause or {}).get("reason") or UNSET,
    )


async def follow(call: Call, entity: str) -> AsyncGenerator[dict[str, Any]]:
    """Every change of its progress, also over a while without a node."""
    while True:
        try:
            told = cast("AsyncGenerator[dict[str, Any]]", call.engine.progress(entity))
            async with contextlib.aclosing(told) as changes:
                async for said in changes:
                    yield said
        except (Timeout, Unavailable):
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def _moved(call: Call, entity: str, cursor: str, looks: int) -> bool:
    """Whether it is different from what was seen there; what was told a moment ago may not be stored yet."""
    for look in range(looks):
        if look:
            await asyncio.sleep(LAG_SECONDS)
        if _mark(await brief(call, entity)) != cursor:
            return True
    return False


def _mark(now: Brief) -> str:
    """Name what was seen, so that a later wait knows what is different."""
    seen = (now.status, now.progress, now.last_output, now.exit_code is UNSET)
    return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:12]


async def _tell(call: Call, said: dict[str, Any]) -> None:
    elapsed, eta = said.get("elapsed_seconds") or 0.0, said.get("eta_ms")
    total = None if eta is None else elapsed + eta / 1000
    words = [said["status"], said.get("text"), said.get("message"), said.get("last_output")]
    await call.tell(elapsed, total, ": ".join(dict.fromkeys(filter(None, words))))
