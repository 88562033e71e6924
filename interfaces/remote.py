"""A phase of a task at another Hindbrain: handed over, followed, and taken back, through its HTTP door.

The task there has an id that belongs to the playbook which asks, so whoever asks again, in a later attempt
or after a resume, finds the same one.  Nothing is given up because nobody answers: it is asked again.
"""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from actors.engines import there
from events import ids, params
from events.clock import stamp
from events.errors import Damaged, HindbrainError, Unavailable, Validation
from events.ir import ExecutionMetadata, PhaseIR, TaskIR

if TYPE_CHECKING:
    from interfaces.settings import Settings

ANSWER_SECONDS, WAIT_SECONDS, AGAIN_SECONDS = 30.0, 20.0, 1.0
FAILED = 1


class Refused(HindbrainError):
    """The other Hindbrain refused."""

    code, status = "conflict", 409


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    """What `hindbrain call remote:URL task` takes."""

    engine: str = ""
    work: dict[str, Any] = {}
    values: dict[str, Any] = {}
    keep: tuple[str, ...] = ()
    name: str = ""
    folder: str = "taken"


class Door:
    """The HTTP door of another Hindbrain."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url, self._token = urlsplit(url), token
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise Validation(f"{url!r} is no address: write http://HOST:PORT", field="url")

    async def ask(self, kind: str, verb: str, **body: Any) -> dict[str, Any]:
        """Ask a verb; `Refused` for an error, `Unavailable` when nobody answers."""
        return await asyncio.to_thread(self._ask, f"/api/{kind}/{verb}", body)

    async def insist(self, kind: str, verb: str, **body: Any) -> dict[str, Any]:
        """The same, again and again until somebody answers."""
        told = False
        while True:
            try:
                return await self.ask(kind, verb, **body)
            except Unavailable as error:
                if not told:
                    sys.stderr.write(f"{stamp(_now())} {error.message}; asking again\n")
                told = True
                await asyncio.sleep(AGAIN_SECONDS)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        where = self._url
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        line = kind(where.hostname or "", where.port, timeout=ANSWER_SECONDS)
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            line.request("POST", where.path.rstrip("/") + path, msgspec.json.encode(body), headers)
            reply = line.getresponse()
            status, content = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{where.netloc} does not answer: {error}") from None
        finally:
            line.close()
        try:
            answer: Any = json.loads(content)
        except ValueError:
            raise Unavailable(f"{where.netloc} is no Hindbrain, or not ready: status {status}") from None
        if status < 400:
            return answer
        error = answer.get("error", {})
        text = f"{where.netloc} refused: {error.get('message', status)}"
        if status >= 500 and error.get("code") in ("unavailable", "timeout", "unknown_outcome"):
            raise Unavailable(text)
        raise Refused(text)


async def followed(settings: "Settings", url: str, arguments: dict[str, Any]) -> int:
    """Hand a phase over, follow it, and bring back what it left; gives the exit code."""
    try:
        given = msgspec.convert(arguments, _Given)
    except msgspec.ValidationError as error:
        raise Validation(f"a phase cannot be said like this: {error}", field="arguments") from None
    door = Door(url, settings.remotes.get(url) or settings.remotes.get(url.rstrip("/")))
    task = _task(given)
    loop, mine = asyncio.get_running_loop(), asyncio.current_task()
    if mine is not None:
        loop.add_signal_handler(signal.SIGTERM, mine.cancel)
    try:
        found = await _done(door, task)
    except asyncio.CancelledError:
        reason = "whoever handed it over was told to stop"
        await door.ask("task", "cancel", task_id=task.task_id, reason=reason)
        return 128 + signal.SIGTERM
    return await _taken(door, found, Path(given.folder))


def _task(given: _Given) -> TaskIR:
    asker = os.environ.get("HINDBRAIN_PLAYBOOK_ID") or os.environ.get("HINDBRAIN_EXECUTION_ID")
    name = ids.derived("task", asker) if asker else ids.fresh("task", _now())
    phase = PhaseIR(
        id="phase",
        name=given.name,
        preferred_engine="remote:",
        there=given.engine,
        work=given.work,
        # What is filled in already is not to be filled in once more.
        values=params.escaped(given.values),
        keep=given.keep,
    )
    phase = msgspec.structs.replace(phase, preferred_engine=there(phase), there="")
    metadata = ExecutionMetadata(title=given.name, source="remote", source_id=asker or "")
    return TaskIR(task_id=name, phases=(phase,), metadata=metadata)


async def _done(door: Door, task: TaskIR) -> dict[str, Any]:
    """Have the task taken on, or go on, and wait until it is over or paused."""
    reply = await door.insist("task", "submit", task=msgspec.to_builtins(task))
    named, wait = reply["task_id"], round(WAIT_SECONDS * 1000)
    if reply["duplicate"] and reply["status"] == "paused":
        await door.insist("task", "resume", task_id=named)
    elif reply["duplicate"] and reply["status"] == "failed":
        engine = task.phases[0].preferred_engine
        await door.insist("task", "handoff", task_id=named, to_engine=engine, reason="once more")
    while True:
        found = await door.insist("task", "wait", task_id=named, timeout_ms=wait)
        if found["done"] or found["task"]["status"] == "paused":
            return found


async def _taken(door: Door, found: dict[str, Any], folder: Path) -> int:
    """Bring back what a task left there: files, outputs, and how it ended."""
    task = msgspec.convert(found["task"], TaskIR)
    phase = task.phases[0]
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    names: set[str] = set()
    for reference in task.artifacts:
        name = await _fetched(door, reference.id, folder, names)
        names.add(name)
        print(f"{reference.id}  {folder / name}")  # noqa: T201  its output is what it says
    if phase.summary:
        print(phase.summary)  # noqa: T201  the same
    if task.status != "done":
        error: dict[str, Any] = found["problem"] or phase.error or {}
        why = error.get("message") or found["reason"] or ""
        sys.stderr.write(f"{task.task_id} is {task.status} there: {why}\n")
        return FAILED
    if path := os.environ.get("HINDBRAIN_OUTPUT"):
        await asyncio.to_thread(Path(path).write_bytes, msgspec.json.encode(phase.outputs))
    return 0


async def _fetched(door: Door, artifact: str, folder: Path, names: set[str]) -> str:
    """Write one artifact into a folder and give its name there; `Damaged` when it is not what it was."""
    offset, end, sha, pieces = 0, False, hashlib.sha256(), list[bytes]()
    name = artifact
    while not end:
        reply = await door.insist("artifact", "get", artifact_id=artifact, content=True, offset=offset)
        piece = base64.b64decode(reply["base64"])
        sha.update(piece)
        pieces.append(piece)
        offset, end = reply["next_offset"], reply["end"]
        name = Path(reply["artifact"]["name"]).name or artifact
    if artifact != f"art_{sha.hexdigest()}":
        raise Damaged(f"{artifact} came back as something else", artifact_id=artifact)
    if name in names:
        name = f"{artifact[4:12]}-{name}"
    await asyncio.to_thread((folder / name).write_bytes, b"".join(pieces))
    return name


def _now() -> int:
    return time.time_ns() // 1_000_000
