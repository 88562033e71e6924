"""Playbooks for programs: start, checkpoint, resume, sum up, and find one's bearings."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from events.errors import Timeout, Unavailable, Validation

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

WAIT_SECONDS = 60.0
ANSWER_SECONDS = 15.0
AWAY_MOST = 60
"""So often in a row may a node not answer."""


class Playbooks:
    """The playbooks that an engine reaches."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine

    async def run(self, playbook: Mapping[str, Any] | str | Path, **more: Any) -> str:
        """Start a playbook, given as `brain.cmd.playbook.run` takes it or as a file; answers its id."""
        if not isinstance(playbook, Mapping):
            playbook = await asyncio.to_thread(written, Path(playbook))
        return (await self._engine.submit_plan(("playbook", "run"), {**playbook, **more}))["playbook_id"]

    async def initialize_playbook_execution(
        self, execution_id: str, playbook_code: str | Path, workspace_id: str | None = None
    ) -> dict[str, Any]:
        """Start the playbook of a file under a key of one's own; a repeat starts nothing."""
        playbook = await asyncio.to_thread(written, Path(playbook_code))
        body = {**playbook, "idempotency_key": execution_id}
        if workspace_id is not None:
            body["workspace"] = workspace_id
        return await self._engine.submit_plan(("playbook", "run"), body)

    async def get(self, playbook_id: str) -> dict[str, Any]:
        """One playbook with all its steps."""
        return (await self._ask("get", playbook_id=playbook_id))["playbook"]

    async def wait(
        self, playbook_id: str, timeout_seconds: float | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Wait until it is over or paused, also while the node is away; gives it, and whether it is over."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        away = 0
        while True:
            left = WAIT_SECONDS if deadline is None else max(0.0, min(WAIT_SECONDS, deadline - loop.time()))
            try:
                reply = await self._engine.request(
                    "playbook",
                    "wait",
                    left + ANSWER_SECONDS,
                    playbook_id=playbook_id,
                    timeout_ms=round(left * 1000),
                )
            except (Timeout, Unavailable):
                away += 1
                if away > AWAY_MOST or (deadline is not None and loop.time() >= deadline):
                    raise
                await asyncio.sleep(1)
                continue
            away, found = 0, reply["playbook"]
            late = deadline is not None and loop.time() >= deadline
            if reply["done"] or found["status"] == "paused" or late:
                return found, reply["done"]

    def progress(self, playbook_id: str) -> AsyncIterator[dict[str, Any]]:
        """How far it is, live; the last one has `final: true`."""
        return self._engine.progress(playbook_id)

    async def answer(
        self, playbook_id: str, value: Any, *, step: str | None = None, by: str | None = None
    ) -> None:
        """Answer what it asks; `Validation`: it does not fit, `Conflict`: somebody else was first."""
        await self._ask("answer", playbook_id=playbook_id, value=value, step=step, by=by)

    async def pause(self, playbook_id: str, reason: str | None = None) -> dict[str, Any]:
        """Start nothing more until it is resumed."""
        return await self._ask("pause", playbook_id=playbook_id, reason=reason)

    async def cancel(self, playbook_id: str, reason: str | None = None) -> dict[str, Any]:
        """Start nothing more, and stop what runs."""
        return await self._ask("cancel", playbook_id=playbook_id, reason=reason)

    async def create_checkpoint(self, playbook_id: str) -> str:
        """Make a checkpoint now and answer its id."""
        return (await self._ask("checkpoint", playbook_id=playbook_id))["checkpoint_id"]

    async def resume_from_checkpoint(
        self, playbook_id: str, checkpoint_id: str | None = None
    ) -> dict[str, Any]:
        """Go on, from the last checkpoint or from one by its id; `Damaged` when that is not whole."""
        return await self._ask("resume", playbook_id=playbook_id, checkpoint_id=checkpoint_id)

    async def validate_checkpoint_data(self, playbook_id: str, checkpoint_id: str | None = None) -> bool:
        """Whether a checkpoint is whole: its checksum, its schema, and what belongs to it."""
        return (await self._ask("validate", playbook_id=playbook_id, checkpoint_id=checkpoint_id))["valid"]

    async def list_checkpoints(self, playbook_id: str) -> list[dict[str, Any]]:
        """All its checkpoints, the first one first."""
        return (await self._ask("checkpoints", playbook_id=playbook_id))["checkpoints"]

    async def fork(self, playbook_id: str, checkpoint_id: str | None = None, **values: Any) -> str:
        """Begin another run that shares the past up to a checkpoint; answers its id."""
        body = {"playbook_id": playbook_id, "checkpoint_id": checkpoint_id, "set": values}
        return (await self._engine.submit_plan(("playbook", "fork"), body))["playbook_id"]

    async def diff(self, playbook_id: str, other_id: str) -> dict[str, Any]:
        """What is different between two runs."""
        return await self._ask("diff", playbook_id=playbook_id, other_id=other_id)

    async def write_phase_summary(
        self,
        playbook_id: str,
        phase_id: str,
        summary: str,
        artifacts: Sequence[str] = (),
        by: str | None = None,
    ) -> None:
        """Sum up a phase, in place of what was said at its end."""
        body = {"phase_id": phase_id, "summary": summary, "artifacts": list(artifacts), "by": by}
        await self._ask("summarize", playbook_id=playbook_id, **body)

    async def load_phase_summaries(self, playbook_id: str) -> list[dict[str, Any]]:
        """What was said at the end of each phase, in their order."""
        return (await self._ask("summaries", playbook_id=playbook_id))["summaries"]

    async def get_phase_context(self, playbook_id: str, max_tokens: int | None = None) -> str:
        """What whoever goes on has to know, within so many tokens."""
        return (await self._ask("context", playbook_id=playbook_id, max_tokens=max_tokens))["context"]

    async def get_bearings(self, playbook_id: str) -> dict[str, Any]:
        """Where it stands: what is done, what failed, what is next, and what there is."""
        return await self._ask("bearings", playbook_id=playbook_id)

    async def _ask(self, verb: str, **payload: Any) -> dict[str, Any]:
        return await self._engine.request("playbook", verb, ANSWER_SECONDS, **payload)


def written(file: Path) -> dict[str, Any]:
    """Read a playbook file into a request; a Python program is a playbook of one step."""
    from interfaces.planfile import read_playbook

    if file.suffix == ".py":
        return _program(file)
    return msgspec.to_builtins(read_playbook(file).tree)


def _program(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise Validation(f"{file} cannot be read: there is no such file", field="file")
    run = {"program": sys.executable, "args": [str(file.absolute())]}
    name = re.sub(r"[^a-z0-9_-]", "-", file.stem.lower())[:64]
    return {"name": file.stem, "phases": [{"id": "main", "steps": [{"name": name, "exec": run}]}]}
