"""Tools for playbooks: long chains that are remembered step by step, and wait for people."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from events.asks import playbook as asks
from events.message import Message
from events.spec import Strict
from interfaces.mcp.tools import READS, RUNS, STEERS, STOPS, Call, begun, tool

LIST_MAX = 200
SHOWN = ("id", "name", "status", "phase", "step", "completed", "total", "created_at", "completed_at")

Id = Annotated[str, Meta(description="The id that playbook_run answered, play_...")]


class PlaybookRun(Strict):
    """A playbook, and what its parameters are."""

    playbook: Annotated[
        dict[str, Any],
        Meta(
            description="What a playbook file says, as JSON: name, params, on_error (pause or fail), and "
            "phases: a list of {id, steps: [...]}, which go one after the other. A step is {name} with a "
            "form as in a plan, or plan, sleep ('3d'), or input: {message, schema}, which waits for "
            "playbook_answer. Example: "
            '{"name": "release", "phases": [{"id": "build", "steps": [{"name": "make", "shell": {"command": '
            '"make"}}, {"name": "sure", "input": {"message": "Ship it?", "schema": {"type": "boolean"}}}]}]}'
        ),
    ]
    values: Annotated[dict[str, Any], Meta(description="Values of its parameters.")] = {}
    idempotency_key: Annotated[str | None, Meta(description="The same key never runs twice.")] = None


class PlaybookBegun(Message, omit_defaults=True):
    """It is stored, and will run."""

    playbook_id: str
    status: str
    message: str
    monitor_url: str
    duplicate: bool | UnsetType = UNSET


class PlaybookList(Strict):
    """Which playbooks."""

    status: Annotated[
        str | None,
        Meta(description="running, paused, waiting_input, completed, failed or cancelled."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 20
    before: Annotated[int | None, Meta(description="`next` of the page before.")] = None


class PlaybooksListed(Message, omit_defaults=False):
    """A page of playbooks, newest first."""

    playbooks: list[dict[str, Any]]
    next: int | None


class Named(Strict):
    """Which playbook."""

    playbook_id: Id


class PlaybookAnswer(Strict):
    """An answer to what a playbook asks."""

    playbook_id: Id
    value: Annotated[Any, Meta(description="What fits the schema of the question.")]
    step: Annotated[str | None, Meta(description="Which question; the one that waits when left out.")] = None


class PlaybookPause(Strict):
    """Which playbook, and why."""

    playbook_id: Id
    reason: Annotated[str | None, Meta(description="Why, for the log.")] = None


class PlaybookResume(Strict):
    """Which playbook, and from where."""

    playbook_id: Id
    checkpoint_id: Annotated[
        str | None, Meta(description="One of playbook_checkpoints; from where it stands when left out.")
    ] = None


class PlaybookChanged(Message, omit_defaults=False):
    """What the playbook is now."""

    playbook_id: str
    status: str
    changed: bool
    seq: int


@tool(RUNS, "Run a playbook")
async def playbook_run(call: Call, ask: PlaybookRun) -> PlaybookBegun:
    """Run a long chain of steps that may wait for people, pause where it fails, and go on from there.

    Answers its id at once. Follow it with wait and playbook_bearings, stop it with cancel.
    """
    more = {"values": ask.values or None, "idempotency_key": ask.idempotency_key}
    reply = await call.engine.submit_plan(("playbook", "run"), {**ask.playbook, **more})
    return begun(PlaybookBegun, reply)


@tool(READS, "Which playbooks there are")
async def playbook_list(call: Call, ask: PlaybookList) -> PlaybooksListed:
    """Playbooks in short, newest first."""
    given: dict[str, Any] = msgspec.to_builtins(ask)
    fresh = await call.patiently(call.engine.last_seq)
    page = await call.request("playbook", "list", **given | {"limit": ask.limit, "min_seq": fresh})
    rows = [{name: row[name] for name in SHOWN if row.get(name) is not None} for row in page["playbooks"]]
    return PlaybooksListed(playbooks=rows, next=page["next"])


@tool(READS, "Where a playbook stands")
async def playbook_bearings(call: Call, ask: Named) -> asks.Bearings:
    """Where a playbook stands: what is done, what failed, what is next, and what it asks (`asked`).

    Everything that whoever goes on with it has to know, in one answer.
    """
    return msgspec.convert(
        await call.request("playbook", "bearings", playbook_id=ask.playbook_id), asks.Bearings
    )


@tool(STEERS, "Answer a playbook")
async def playbook_answer(call: Call, ask: PlaybookAnswer) -> PlaybookChanged:
    """Answer the question that a playbook waits with; the first answer that fits its schema wins."""
    body = {"playbook_id": ask.playbook_id, "step": ask.step, "by": "agent", "value": ask.value}
    reply = await call.engine.call("playbook", "answer", body)
    return msgspec.convert(reply, PlaybookChanged)


@tool(STOPS, "Pause a playbook")
async def playbook_pause(call: Call, ask: PlaybookPause) -> PlaybookChanged:
    """Have a playbook start nothing more until it is resumed; what runs goes on."""
    return await _change(call, "pause", ask)


@tool(RUNS, "Resume a playbook")
async def playbook_resume(call: Call, ask: PlaybookResume) -> PlaybookChanged:
    """Have a playbook go on, from where it stands or from a checkpoint; what came after is done again."""
    return await _change(call, "resume", ask)


@tool(READS, "Checkpoints of a playbook")
async def playbook_checkpoints(call: Call, ask: Named) -> asks.Checkpoints:
    """All checkpoints of a playbook, the first one first; playbook_resume goes on from any of them."""
    reply = await call.request("playbook", "checkpoints", playbook_id=ask.playbook_id)
    return msgspec.convert(reply, asks.Checkpoints)


async def _change(call: Call, verb: str, ask: Strict) -> PlaybookChanged:
    body: dict[str, Any] = msgspec.to_builtins(ask)
    return msgspec.convert(await call.engine.request("playbook", verb, **body), PlaybookChanged)
