"""How a capsule is made: everything that belongs to what was asked for, read from a node, secrets masked."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
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
    sums: dict[str, str] = {}
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "w+b") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            lines: list[Line] = []
            for each in found.executions:
                await _meta(engine, archive, sums, "execution", each)
                lines += [_line(row) for row in await engine.events(each)]
                await _output(engine, archive, sums, each)
            for kind, names in (("plan", found.plans), ("playbook", found.playbooks)):
                for each in names:
                    await _meta(engine, archive, sums, kind, each)
                    lines += [_line(row) for row in await belongings.facts(engine, kind, each)]
            kept: list[str] = []
            for each in found.artifacts:
                facts = await belongings.facts(engine, "artifact", each)
                lines += [_line(row) for row in facts]
                if facts[-1]["event"] != "removed":
                    await _artifact(engine, archive, sums, each)
                    kept.append(each)
            checkpoints = [
                name for each in found.playbooks for name in await _checkpoints(engine, archive, sums, each)
            ]
            lines.sort(key=lambda line: line.seq)
            _put(archive, sums, "events.jsonl", b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
            manifest = Manifest(
                FORMAT,
                version,
                made_at,
                found.executions,
                len(lines),
                sums,
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


def _put(archive: zipfile.ZipFile, sums: dict[str, str], name: str, content: bytes) -> None:
    archive.writestr(name, content)
    sums[name] = hashlib.sha256(content).hexdigest()


async def _meta(
    engine: "ExecutionEngine", archive: zipfile.ZipFile, sums: dict[str, str], kind: str, entity: str
) -> None:
    reply = await engine.call(kind, "get", {f"{kind}_id": entity})
    _put(archive, sums, f"meta/{entity}.json", msgspec.json.encode(masked(reply[kind])))


async def _artifact(
    engine: "ExecutionEngine", archive: zipfile.ZipFile, sums: dict[str, str], entity: str
) -> None:
    digest = hashlib.sha256()
    with archive.open(f"artifacts/{entity}", "w", force_zip64=True) as file:
        async for piece in ArtifactRegistry(engine).pieces(entity):
            file.write(piece)
            digest.update(piece)
    sums[f"artifacts/{entity}"] = digest.hexdigest()


async def _checkpoints(
    engine: "ExecutionEngine", archive: zipfile.ZipFile, sums: dict[str, str], playbook: str
) -> list[str]:
    """Put down what each checkpoint holds; of one that is damaged, what is wrong with it."""
    made = (await engine.request("playbook", "checkpoints", playbook_id=playbook))["checkpoints"]
    names = [each["checkpoint_id"] for each in made]
    for each in names:
        which = {"playbook_id": playbook, "checkpoint_id": each, "data": True}
        reply = await engine.call("playbook", "validate", which, 60.0)
        _put(archive, sums, f"checkpoints/{each}.json", msgspec.json.encode(masked(reply)))
    return names


async def _output(
    engine: "ExecutionEngine", archive: zipfile.ZipFile, sums: dict[str, str], execution_id: str
) -> None:
    pieces: list[tuple[int, str, int]] = []
    for stream in STREAMS:
        name, digest = inside(execution_id, stream), hashlib.sha256()
        with archive.open(name, "w", force_zip64=True) as file:
            async for chunk in engine.output(execution_id, {stream: 0}, follow=False):
                file.write(chunk.data)
                digest.update(chunk.data)
                pieces.append((millis(chunk.time) if chunk.time else 0, stream, len(chunk.data)))
        sums[name] = digest.hexdigest()
    # Of pieces of the same moment, those of one stream stay in their order.
    pieces.sort(key=lambda piece: piece[0])
    lines = "".join(f"{time} {stream} {size}\n" for time, stream, size in pieces)
    _put(archive, sums, inside(execution_id, "times"), lines.encode())


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
