"""Tasks in the words of others: a playbook file, or a task of MCP.  Both ways, and pure.

What an adapter is given is only the other side's text; what that has no word for, it carries along where the
other side keeps such things (`metadata` of a playbook, `_meta` of MCP).
"""

import json
from typing import Any, cast

import msgspec

from actors import translation
from events import ir
from events.asks.book import Book
from events.errors import Validation
from events.ir import PhaseIR, TaskIR, TaskStatus
from interfaces import positions
from interfaces.positions import Faulty

META = "hindbrain/task"
"""The key under `_meta` (MCP 2025-11-25, `_meta`: a prefix, a slash, a name)."""
SERVER, TOOL = "brain", "task_submit"
"""Who is called for a task that is more than the call of one tool."""
TO_MCP: dict[TaskStatus, str] = {
    "pending": "working",
    "running": "working",
    "paused": "input_required",
    "done": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""Our words in those of MCP tasks."""


class PlaybookIRAdapter:
    """A task as a playbook file (JSON), and such a file (JSON, YAML or TOML) as a task."""

    def to_playbook(self, task: TaskIR) -> str:
        """Write a task as a playbook; `Validation` when an engine cannot say it."""
        return _written(translation.playbook(translation.plain(task)))

    def from_playbook(self, text: str, suffix: str = ".json") -> TaskIR:
        """Read a playbook as a task; `suffix` says how it is written: `.json`, `.yaml` or `.toml`."""
        try:
            tree = json.loads(text) if suffix == ".json" else positions.parse(text, suffix).tree
        except json.JSONDecodeError as error:
            raise Validation(f"line {error.lineno}: {error.msg}", field="text") from None
        except Faulty as error:
            raise Validation(f"line {error.line}: {error.text}", field="text") from None
        try:
            msgspec.convert(tree, Book)
        except msgspec.ValidationError as error:
            raise Validation(f"this is no playbook: {error}", field="text") from None
        return translation.plain(translation.task(cast("dict[str, Any]", tree)))


class MCPIRAdapter:
    """A task as a task of MCP: the request it stands for, and how it is; and back.

    A task of one phase for `mcp:<server>/<tool>` is the call of that tool.  Any other is a call of our own
    server, which takes tasks.
    """

    def to_mcp(self, task: TaskIR) -> str:
        """Write a task as a task of MCP, as `tasks/get` answers it, with the request it was made of."""
        task = translation.plain(task)
        phase = _call(task)
        given = {"name": TOOL, "arguments": {"task": _bare(task)}}
        if phase is not None:
            given = {"name": _tool(phase)[1], "arguments": phase.values}
        wire = {
            "taskId": task.task_id,
            "status": TO_MCP[task.status],
            "statusMessage": task.status,
            "createdAt": task.created_at,
            "lastUpdatedAt": task.updated_at,
            "ttlMs": None,
            "request": {"method": "tools/call", "params": given},
            "_meta": {META: _meta(task, phase)},
        }
        return _written(wire)

    def from_mcp(self, text: str, server: str = SERVER) -> TaskIR:
        """Read a task of MCP; `server` is who has it, where the text does not say."""
        try:
            wire = msgspec.json.decode(text, type=_Wire)
        except msgspec.MsgspecError as error:
            raise Validation(f"this is no task of MCP: {error}", field="text") from None
        meta = wire.meta.get(META, {})
        call = wire.request.params if wire.request is not None else _Call(name="", arguments={})
        if "task" in call.arguments and call.name == TOOL and meta.get("server", SERVER) == SERVER:
            return _made({**call.arguments["task"], **meta.get("task", {}), **_news(wire, meta)})
        if not call.name:
            raise Validation("it does not say which request it stands for: give request", field="request")
        phase = {"id": "call", "values": call.arguments} | meta.get("phase", {})
        phase["preferred_engine"] = f"mcp:{meta.get('server', server)}/{call.name}"
        if "task" not in meta:
            status = ir.status(wire.status)
            over = {"status": status} if status in ir.ENDS else {}
            source = {"source": "mcp", "source_id": wire.task_id, "source_status": wire.status}
            metadata = {"title": call.name, **source}
            return _made({"phases": [phase | over], **over, "metadata": metadata} | _news(wire, meta))
        return _made(meta["task"] | {"phases": [phase]} | _news(wire, meta))


class _Call(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _Request(msgspec.Struct):
    params: _Call
    method: str = "tools/call"


class _Wire(msgspec.Struct, rename="camel"):
    """What we read of a task of MCP; it may say more."""

    task_id: str
    status: str
    created_at: str | None = None
    last_updated_at: str | None = None
    request: _Request | None = None
    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict[str, Any])


def _call(task: TaskIR) -> PhaseIR | None:
    """The only phase of a task that is the call of one tool."""
    if len(task.phases) != 1 or not task.phases[0].preferred_engine.startswith("mcp:"):
        return None
    return task.phases[0]


def _tool(phase: PhaseIR) -> tuple[str, str]:
    server, _, tool = ir.parted(phase.preferred_engine)[1].partition("/")
    return server, tool


_WIRED = ("task_id", "status", "created_at", "updated_at")
"""What a task of MCP says in words of its own."""


def _bare(task: TaskIR) -> dict[str, Any]:
    whole: dict[str, Any] = msgspec.to_builtins(task)
    return {name: each for name, each in whole.items() if name not in _WIRED}


def _meta(task: TaskIR, phase: PhaseIR | None) -> dict[str, Any]:
    # Theirs has fewer words for a status, and no empty id.
    known = {"status": task.status, "task_id": task.task_id}
    if phase is None:
        return {"server": SERVER, "task": known}
    whole = {name: each for name, each in _bare(task).items() if name != "phases"} | known
    own = {"values", "preferred_engine"}
    left = {name: each for name, each in msgspec.to_builtins(phase).items() if name not in own}
    return {"server": _tool(phase)[0], "task": whole, "phase": left}


def _news(wire: _Wire, meta: dict[str, Any]) -> dict[str, Any]:
    """What the other side says itself; its status holds where it is no longer what ours was."""
    news: dict[str, Any] = {"created_at": wire.created_at, "updated_at": wire.last_updated_at}
    was = meta.get("task", {}).get("status")
    if was is not None and TO_MCP.get(was) != wire.status:
        news["status"] = ir.status(wire.status)
    return {name: each for name, each in news.items() if each is not None}


def _made(fields: dict[str, Any]) -> TaskIR:
    try:
        return msgspec.convert(fields, TaskIR)
    except msgspec.ValidationError as error:
        raise Validation(f"this is no task: {error}", field="text") from None


def _written(tree: Any) -> str:
    return json.dumps(tree, indent=2)
