"""The tasks extension (`io.modelcontextprotocol/tasks`, 2026-07-28): an execution or a plan is a task.

A client that declares the extension with a call gets a task in place of the answer, once that is stored; its
id is that of the execution, so it survives every restart.  A command that failed is a task that is completed,
with a result that says `isError`: `failed` is for errors of the protocol, and there are none here.
"""

import time
from typing import TYPE_CHECKING, Any

import mcp_types as wire
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from events.asks.plan import Plan
from events.clock import millis
from events.service import Execution
from interfaces.mcp.answers import protocol
from interfaces.mcp.table import TOOLS
from interfaces.mcp.tools import Call, quiet

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

EXTENSION = "io.modelcontextprotocol/tasks"
MISSING_CAPABILITY = -32021
"""Missing required client capability (SEP-2663)."""
POLL_LEAST_MS, POLL_MOST_MS = 500, 5000
RESULT_BYTES = 262_144
"""The most of each stream in the result of a task."""
IDS = {"execute": "execution_id", "plan_submit": "plan_id"}
"""Our tools whose work goes on behind their answer, and what names it."""

Context = ServerRequestContext[Any, Any]


class TaskParams(wire.RequestParams):
    """Which task."""

    task_id: str


class UpdateParams(TaskParams):
    """Answers for a task that waits for some."""

    input_responses: dict[str, Any]


class Tasks:
    """Makes tasks of calls, and answers what is asked about them."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine, self._call = engine, Call(engine, quiet)

    def join(self, server: "Server[Any]") -> None:
        """Add the extension to a server."""
        server.extensions[EXTENSION] = {}
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", UpdateParams, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    async def made(self, context: Context, tool: str, reply: dict[str, Any]) -> dict[str, Any] | None:
        """A task for a call that was just stored; None when the client does not know tasks."""
        if not _declared(context):
            return None
        names = (IDS.get(tool, ""),) if tool in TOOLS else ("jobId", "batchId")
        entity = next((reply[name] for name in names if name in reply), None)
        if not isinstance(entity, str):
            return None
        task = await self.task(entity)
        return {**_bare(task), "resultType": "task"}

    async def _get(self, context: Context, params: TaskParams) -> dict[str, Any]:
        needed(context)
        return await self.task(params.task_id)

    async def _update(self, context: Context, params: UpdateParams) -> dict[str, Any]:
        """Take note of answers; no task of ours asks for any, and what nobody asked for is ignored."""
        needed(context)
        await self.task(params.task_id)
        return {}

    async def _cancel(self, context: Context, params: TaskParams) -> dict[str, Any]:
        needed(context)
        name = "plan_id" if params.task_id.startswith("plan_") else "execution_id"
        kind = name.removesuffix("_id")
        with protocol():
            await self._call.request(kind, "cancel", **{name: params.task_id}, reason="tasks/cancel")
        return {}

    async def task(self, entity: str) -> dict[str, Any]:
        """One task as it is now."""
        with protocol():
            if entity.startswith("plan_"):
                plan = (await self._call.request("plan", "get", plan_id=entity))["plan"]
                return await self._plan(msgspec.convert(plan, Plan))
            return await self._execution(await self._call.patiently(lambda: self._engine.get_status(entity)))

    async def _execution(self, now: Execution) -> dict[str, Any]:
        task = _task(now.id, now.created_at, now.completed_at or now.started_at, now.completed_at is not None)
        if now.completed_at is None:
            return task | {"status": "working", "statusMessage": now.progress or now.status}
        if now.status == "cancelled":
            return task | {"status": "cancelled", "statusMessage": now.why or "cancelled"}
        outcome = await self._call.patiently(lambda: self._engine.get_result(now.id, RESULT_BYTES))
        said = {"execution_id": now.id, "status": now.status, "result": msgspec.to_builtins(outcome)}
        said |= {"message": now.why or "Completed.", "monitor_url": await self._monitor("executions", now.id)}
        return task | _completed(said, now.status, outcome.stdout + outcome.stderr)

    async def _plan(self, now: Plan) -> dict[str, Any]:
        task = _task(now.id, now.created_at, now.completed_at, now.over)
        if not now.over:
            return task | {"status": "working", "statusMessage": f"{now.status}: {now.progress}"}
        if now.status == "cancelled":
            return task | {"status": "cancelled", "statusMessage": now.reason or "cancelled"}
        outcome = (await self._call.request("plan", "result", plan_id=now.id))["result"]
        message = (now.error or {}).get("message") or "Completed."
        said = {"plan_id": now.id, "status": now.status, "result": outcome, "message": message}
        said["monitor_url"] = await self._monitor("plans", now.id)
        status = "completed" if outcome["success"] else "failed"
        return task | _completed(said, status, "")

    async def _monitor(self, room: str, entity: str) -> str:
        node = (await self._call.request("node", "info"))["node"]
        return f"{node.get('http_url', '')}/{room}/{entity}"


def _task(entity: str, created: str | None, updated: str | None, over: bool) -> dict[str, Any]:
    born = created or ""
    age = max(0, round(time.time() * 1000) - millis(born)) if born else 0
    poll = min(POLL_MOST_MS, max(POLL_LEAST_MS, age // 10))
    task: dict[str, Any] = {
        "taskId": entity,
        "createdAt": born,
        "lastUpdatedAt": updated or born,
        "ttlMs": None,
    }
    return task if over else task | {"pollIntervalMs": poll}


def _completed(said: dict[str, Any], status: str, text: str) -> dict[str, Any]:
    shown = text or f"{said['status']}: {said['message']}"
    if status != "completed" and text:
        shown = f"{said['message']}\n{text}"
    result = {
        "content": [{"type": "text", "text": shown}],
        "structuredContent": said,
        "isError": status != "completed",
        "resultType": "complete",
    }
    return {"status": "completed", "statusMessage": said["status"], "result": result}


def _bare(task: dict[str, Any]) -> dict[str, Any]:
    """A new task carries no result, even if it is over already: the first tasks/get brings that."""
    if task["status"] == "working":
        return task
    kept = ("taskId", "createdAt", "lastUpdatedAt", "ttlMs")
    bare = {name: task[name] for name in kept}
    return bare | {"status": "working", "pollIntervalMs": POLL_LEAST_MS}


def _declared(context: Context) -> bool:
    if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    told = context.session.client_capabilities
    return bool(told and told.extensions and EXTENSION in told.extensions)


def needed(context: Context) -> None:
    """Refuse who does not know tasks."""
    if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(wire.METHOD_NOT_FOUND, "Method not found", context.method)
    if not _declared(context):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(MISSING_CAPABILITY, f"the client has to declare {EXTENSION}", needed)
