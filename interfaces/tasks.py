"""Tasks for programs: take one on, hand it to another engine, follow it, and write it in others' words."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from actors import translation
from events import legacy
from events.errors import NotFound, Timeout, Unavailable, Validation
from events.ir import HandoffEvent, TaskIR
from events.task import named

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

ANSWER_SECONDS = 15.0
WAIT_SECONDS = 60.0
AWAY_MOST = 60
"""So often in a row may a node not answer."""
IMPORT_MOST = 200
"""Tasks that are imported with one request."""


class Tasks:
    """The tasks that an engine reaches."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine

    async def initiate_task_execution(
        self, task_ir: TaskIR | Mapping[str, Any], starting_engine: str | None = None
    ) -> dict[str, Any]:
        """Take a task on: its next phase starts, in this engine if one is named; a repeat starts nothing.

        Gives `{task_id, status, seq, duplicate, ...}`.  A task without an id gets one with each call.
        """
        body: dict[str, Any] = {"task": msgspec.to_builtins(task_ir)}
        if starting_engine is not None:
            body["starting_engine"] = starting_engine
        if not body["task"].get("task_id"):
            body["task"] = {**body["task"], "task_id": self._engine.key()}
        return await self._engine.insist("task", "submit", body)

    async def get(self, task_id: str) -> dict[str, Any]:
        """One task, with its phases and handoffs."""
        return await self._ask("get", task_id=task_id)

    async def exported(self, task_id: str) -> TaskIR:
        """One task as it is now, for others."""
        return msgspec.convert((await self.get(task_id))["task"], TaskIR)

    async def wait(self, task_id: str, timeout_seconds: float | None = None) -> tuple[dict[str, Any], bool]:
        """Wait until it is over or paused, also while the node is away; gives it, and whether it is over."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        away = 0
        while True:
            left = WAIT_SECONDS if deadline is None else max(0.0, min(WAIT_SECONDS, deadline - loop.time()))
            ask = {"task_id": task_id, "timeout_ms": round(left * 1000)}
            try:
                found = await self._engine.request("task", "wait", left + ANSWER_SECONDS, **ask)
            except (Timeout, Unavailable):
                away += 1
                if away > AWAY_MOST or (deadline is not None and loop.time() >= deadline):
                    raise
                await asyncio.sleep(1)
                continue
            away, late = 0, deadline is not None and loop.time() >= deadline
            if found["done"] or found["task"]["status"] == "paused" or late:
                return found, found["done"]

    async def handoff(self, task_id: str, to_engine: str, **more: Any) -> dict[str, Any]:
        """Give a phase to another engine; `more` is what `task.handoff` takes beside it."""
        return await self._ask("handoff", task_id=task_id, to_engine=to_engine, **more)

    async def resume(self, task_id: str) -> dict[str, Any]:
        """Let a paused task go on."""
        return await self._ask("resume", task_id=task_id)

    async def cancel(self, task_id: str, reason: str | None = None) -> dict[str, Any]:
        """Stop it, and what runs of it."""
        return await self._ask("cancel", task_id=task_id, reason=reason)

    async def taken_on(
        self, records: Sequence[dict[str, Any]], source: str = "", workspace: str | None = None
    ) -> list[dict[str, Any]]:
        """Take on tasks of another system; `Validation` names the first that cannot be read."""
        for number, record in enumerate(records, 1):
            try:
                translation.check(translation.plain(legacy.task(record, source, workspace)))
            except Validation as error:
                text = error.message.removeprefix("Validation error: ")
                raise Validation(f"task {number}: {text}", field="tasks") from None
        made: list[dict[str, Any]] = []
        for at in range(0, len(records), IMPORT_MOST):
            lot = list(records[at : at + IMPORT_MOST])
            reply = await self._ask("import", tasks=lot, source=source, workspace=workspace)
            made += reply["tasks"]
        return made

    async def _ask(self, verb: str, **payload: Any) -> dict[str, Any]:
        return await self._engine.request("task", verb, ANSWER_SECONDS, **payload)


class HandoffHandler:
    """Takes handoffs, of tasks that are here and of those that come with the handoff."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._tasks = Tasks(engine)

    async def handle_handoff(self, event: HandoffEvent | Mapping[str, Any]) -> dict[str, Any]:
        """Give the phase to the engine it is for; a task that nobody here knows is taken on with it.

        Gives `{task_id, status, changed, seq, ...}`.
        """
        try:
            given = msgspec.convert(msgspec.to_builtins(event), HandoffEvent)
        except msgspec.ValidationError as error:
            raise Validation(f"this is no handoff: {error}", field="event") from None
        task = given.task_ir
        more = {"phase_id": given.phase_id, "reason": given.reason}
        phase = task.phase(given.phase_id)
        if phase is None:
            raise Validation(f"the task has no phase {given.phase_id!r}", field="phase_id")
        try:
            return await self._tasks.handoff(named(task.task_id), given.to_engine, **more)
        except NotFound:
            if task.next is None or task.next.id != given.phase_id:
                raise Validation(
                    f"phase {given.phase_id!r} is not the next one of this task", field="phase_id"
                ) from None
            reply = await self._tasks.initiate_task_execution(task, given.to_engine)
            return {**reply, "changed": not reply["duplicate"]}


def read(file: Path, kind: str | None = None) -> TaskIR:
    """Read a task from a file: as `task export` writes it, as a playbook, or as a task of MCP."""
    from interfaces import positions
    from interfaces.adapters import MCPIRAdapter, PlaybookIRAdapter
    from interfaces.planfile import read_playbook

    try:
        text = file.read_text()
        tree = positions.parse(text, file.suffix.lower()).tree
    except OSError as error:
        raise Validation(f"{file} cannot be read: {error.strerror}", field="file") from None
    except positions.Faulty as error:
        raise Validation(f"{file}:{error.line}: {error.text}", field="file") from None
    if kind is None and isinstance(tree, dict):
        kind = _kind(cast("dict[str, Any]", tree))
    if kind == "mcp":
        return MCPIRAdapter().from_mcp(text)
    if kind == "playbook":
        return PlaybookIRAdapter().from_playbook(
            msgspec.json.encode(read_playbook(file).tree).decode(), ".json"
        )
    try:
        return msgspec.convert(tree, TaskIR)
    except msgspec.ValidationError as error:
        raise Validation(f"{file} is no task: {error}", field="file") from None


def _kind(tree: dict[str, Any]) -> str:
    """Whose words these are."""
    phases: Any = tree.get("phases")
    rows = cast("list[Any]", phases) if isinstance(phases, list) else []
    ours = bool(rows) and "preferred_engine" in str(rows[0])
    return "mcp" if "taskId" in tree else "ir" if ours or "task_id" in tree else "playbook"
