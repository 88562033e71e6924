"""How a capsule is made: everything that belongs to what was asked for, read from a node, secrets masked."""

import hashlib
import os
import zipfile
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from events import codec
from events.clock import millis
from events.errors import Conflict
from events.params import Param
from events.spec import SECRET_NAME
from interfaces import belongings
from interfaces.artifacts import ArtifactRegistry
from interfaces.capsule import FORMAT, STREAMS, Line, Manifest, inside

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

MASK = "***"
SECRETIVE = ("env", "params", "values")
"""Where names stand beside values: variables, and parameters of plans and playbooks."""


async def write(
    engine: "ExecutionEngine", roots: Sequence[str], path: Path, made_at: str, version: str
) -> Manifest:
    """Pack executions, plans and playbooks with all that belongs to them.

    The file appears whole or not at all.  `Conflict` when it exists, `NotFound` for what there is not.
    """
    found = await belongings.gather(engine, roots)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "w+b") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            packed = _Packing(engine, archive)
            for each in found.executions:
                await packed.execution(each)
            for kind, names in (("plan", found.plans), ("playbook", found.playbooks)):
                for each in names:
                    await packed.meta(kind, each)
                    await packed.facts(kind, each)
            kept = [each for each in found.artifacts if await packed.artifact(each)]
            checkpoints = [name for each in found.playbooks for name in await packed.checkpoints(each)]
            manifest = Manifest(
                FORMAT,
                version,
                made_at,
                found.executions,
                packed.events(),
                packed.sums,
                roots=list(roots),
                plans=found.plans,
                playbooks=found.playbooks,
                artifacts=kept,
                checkpoints=checkpoints,
            )
            archive.writestr("manifest.json", msgspec.json.format(msgspec.json.encode(manifest)))
        os.link(part, path)
    except FileExistsError as error:
        raise Conflict(f"{path} exists already") from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


class _Packing:
    """An archive that is being filled."""

    def __init__(self, engine: "ExecutionEngine", archive: zipfile.ZipFile) -> None:
        self._engine, self._archive = engine, archive
        self._lines: list[Line] = []
        self.sums: dict[str, str] = {}
        """The hash of each file in it."""

    async def execution(self, execution_id: str) -> None:
        """Put in an execution, with its facts and its output."""
        await self.meta("execution", execution_id)
        self._lines += map(_line, await self._engine.events(execution_id))
        pieces: list[tuple[int, str, int]] = []

        async def written(stream: str) -> AsyncGenerator[bytes]:
            async for chunk in self._engine.output(execution_id, {stream: 0}, follow=False):
                pieces.append((millis(chunk.time) if chunk.time else 0, stream, len(chunk.data)))
                yield chunk.data

        for stream in STREAMS:
            await self._pour(inside(execution_id, stream), written(stream))
        # Of pieces of the same moment, those of one stream stay in their order.
        pieces.sort(key=lambda piece: piece[0])
        lines = "".join(f"{time} {stream} {size}\n" for time, stream, size in pieces)
        self._put(inside(execution_id, "times"), lines.encode())

    async def meta(self, kind: str, entity: str) -> None:
        """Put in something as the doors show it."""
        reply = await self._engine.call(kind, "get", {f"{kind}_id": entity})
        self._put(f"meta/{entity}.json", msgspec.json.encode(masked(reply[kind])))

    async def facts(self, kind: str, entity: str) -> str:
        """Put in the facts of an entity, and name the last."""
        facts = await belongings.facts(self._engine, kind, entity)
        self._lines += map(_line, facts)
        return facts[-1]["event"]

    async def artifact(self, artifact_id: str) -> bool:
        """Put in an artifact; False when its content was removed, then only its facts are here."""
        if await self.facts("artifact", artifact_id) == "removed":
            return False
        await self._pour(f"artifacts/{artifact_id}", ArtifactRegistry(self._engine).pieces(artifact_id))
        return True

    async def checkpoints(self, playbook: str) -> list[str]:
        """Put in what each checkpoint holds; of one that is damaged, what is wrong with it."""
        made = (await self._engine.request("playbook", "checkpoints", playbook_id=playbook))["checkpoints"]
        names = [each["checkpoint_id"] for each in made]
        for each in names:
            which = {"playbook_id": playbook, "checkpoint_id": each, "data": True}
            reply = await self._engine.call("playbook", "validate", which, 60.0)
            self._put(f"checkpoints/{each}.json", msgspec.json.encode(masked(reply)))
        return names

    def events(self) -> int:
        """Put in the facts of all, in the order of the log, and say how many there are."""
        self._lines.sort(key=lambda line: line.seq)
        self._put("events.jsonl", b"".join(msgspec.json.encode(each) + b"\n" for each in self._lines))
        return len(self._lines)

    def _put(self, name: str, content: bytes) -> None:
        self._archive.writestr(name, content)
        self.sums[name] = hashlib.sha256(content).hexdigest()

    async def _pour(self, name: str, pieces: AsyncIterable[bytes]) -> None:
        """Put in what comes piece by piece, and may be large."""
        digest = hashlib.sha256()
        with self._archive.open(name, "w", force_zip64=True) as file:
            async for piece in pieces:
                file.write(piece)
                digest.update(piece)
        self.sums[name] = digest.hexdigest()


def _line(row: dict[str, Any]) -> Line:
    """Turn a fact into a line, values of secrets masked."""
    data: dict[str, Any] = row["data"]
    body = msgspec.json.encode(data)
    head = {name: row[name] or "" for name in ("id", "time", "cause", "by", "prev", "trace")}
    subject = f"brain.evt.{row['kind']}.{row['entity']}.{row['n']}.{row['event']}"
    if row["event"] == "queued":
        spec: dict[str, Any] = data.get("spec") or {}
        subject += f".{spec.get('module', 'commands')}.{spec.get('priority', 'medium')}"
    digest = codec.chain(subject, codec.Envelope(**head), body)
    kept = masked(data)
    if kept != data:
        body = msgspec.json.encode(kept)
    return Line(**head, seq=row["seq"], subject=subject, body=body.decode(), hash=digest, masked=kept != data)


def masked(value: Any) -> Any:
    """Give the same without values of variables and parameters whose names look like secrets."""
    match value:
        case dict():
            named = cast("dict[str, Any]", value)
            return {
                name: _hidden(cast("dict[str, Any]", each))
                if name in SECRETIVE and isinstance(each, dict)
                else masked(each)
                for name, each in named.items()
            }
        case list():
            return [masked(each) for each in cast("list[Any]", value)]
        case _:
            return value


def _hidden(named: dict[str, Any]) -> dict[str, Any]:
    return {name: _mask(each) if SECRET_NAME.search(name) else masked(each) for name, each in named.items()}


def _mask(value: Any) -> Any:
    """Hide a value; of what only says what a parameter is, its default."""
    if isinstance(value, dict) and set(cast("dict[str, Any]", value)) <= set(Param.__struct_fields__):
        declared = cast("dict[str, Any]", value)
        return declared | ({"default": MASK} if "default" in declared else {})
    return MASK
