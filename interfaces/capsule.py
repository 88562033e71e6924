"""A capsule: executions in one file, with all that is known of them, for a place without a node.

It is a zip file:

    manifest.json                 what is inside, from where, and by which versions
    events.jsonl                  every event: seq, subject, envelope, and the body as it was written
    output/<id>_stdout.log        what they wrote, as it is
    output/<id>_stderr.log
    output/<id>_times.log         when it came, piece by piece: `<milliseconds> <stream> <bytes>`
    meta/<id>.json                the execution as the doors show it

Values of variables that look like secrets are masked; their events say so, and their own hash is then
not checked.  It is opened as a DuckDB file of its own, or shown as it is; never put into a log that lives.
"""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from events import codec, ids
from events.clock import millis
from events.errors import Conflict, Damaged, Validation
from events.spec import SECRET_NAME

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from projections.record import Record

FORMAT = 2
MASK = "***"
STREAMS = ("stdout", "stderr")
BROKEN = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What is raised over a file that is no zip file, or was damaged; RuntimeError when it is encrypted."""
TEXT_MAX = 64 * 1024 * 1024
"""Bytes of one stream that become a value in a table."""


class Line(msgspec.Struct, omit_defaults=True):
    """One event in a capsule; `hash` is what its body hashed to before anything was masked."""

    seq: int
    subject: str
    id: str
    time: str
    cause: str
    by: str
    prev: str
    trace: str
    body: str
    hash: str
    masked: bool = False


class Manifest(msgspec.Struct):
    """What is inside."""

    format: int
    version: str
    made_at: str
    executions: list[str]
    events: int
    sha256: dict[str, str]
    """The hash of each file beside this one."""


async def write(
    engine: "ExecutionEngine", execution_ids: Sequence[str], path: Path, made_at: str, version: str
) -> Manifest:
    """Pack these executions; the file appears whole or not at all.  `Conflict` when it exists."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    sums: dict[str, str] = {}
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            os.fdopen(descriptor, "w+b") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            lines: list[Line] = []
            for each in execution_ids:
                shown = msgspec.to_builtins(await engine.get_status(each))
                _put(archive, sums, f"meta/{each}.json", msgspec.json.encode(shown))
                lines += [_line(row) for row in await engine.events(each)]
                await _output(engine, archive, sums, each)
            lines.sort(key=lambda line: line.seq)
            _put(archive, sums, "events.jsonl", b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
            manifest = Manifest(FORMAT, version, made_at, list(execution_ids), len(lines), sums)
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


async def _output(
    engine: "ExecutionEngine", archive: zipfile.ZipFile, sums: dict[str, str], execution_id: str
) -> None:
    pieces: list[tuple[int, str, int]] = []
    for stream in STREAMS:
        name, digest = _inside(execution_id, stream), hashlib.sha256()
        with archive.open(name, "w", force_zip64=True) as file:
            async for chunk in engine.output(execution_id, {stream: 0}, follow=False):
                file.write(chunk.data)
                digest.update(chunk.data)
                pieces.append((millis(chunk.time) if chunk.time else 0, stream, len(chunk.data)))
        sums[name] = digest.hexdigest()
    # Of pieces of the same moment, those of one stream stay in their order.
    pieces.sort(key=lambda piece: piece[0])
    lines = "".join(f"{time} {stream} {size}\n" for time, stream, size in pieces)
    _put(archive, sums, _inside(execution_id, "times"), lines.encode())


def _inside(execution_id: str, what: str) -> str:
    return f"output/{execution_id}_{what}.log"


def _line(row: dict[str, Any]) -> Line:
    """Turn a fact into a line, values of secrets masked."""
    data: dict[str, Any] = row["data"]
    body = msgspec.json.encode(data)
    head = {name: row[name] for name in ("id", "time", "cause", "by", "prev", "trace")}
    subject = f"brain.evt.{row['kind']}.{row['entity']}.{row['n']}.{row['event']}"
    spec: dict[str, Any] = data.get("spec") or {}
    if row["event"] == "queued":
        subject += f".{spec.get('module', 'commands')}.{spec.get('priority', 'medium')}"
    digest = codec.chain(subject, codec.Envelope(**head), body)
    env = cast("dict[str, str]", spec.get("env") or {})
    masked = {name: MASK if SECRET_NAME.search(name) else value for name, value in env.items()}
    if masked != env:
        body = msgspec.json.encode(data | {"spec": spec | {"env": masked}})
    return Line(
        **head, seq=row["seq"], subject=subject, body=body.decode(), hash=digest, masked=masked != env
    )


def read(path: Path) -> tuple[Manifest, list[Line]]:
    """Open a capsule and check it: `Validation` when it is none, `Damaged` when something was changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = msgspec.json.decode(archive.read("manifest.json"), type=Manifest)
            if manifest.format != FORMAT:
                raise Validation(f"{path} has format {manifest.format}; this version reads {FORMAT}")
            for name, wanted in manifest.sha256.items():
                with archive.open(name) as file:
                    if _digest(file) != wanted:
                        raise Damaged(f"{name} in {path} was changed")
            for each in manifest.executions:
                if not ids.TOKEN.fullmatch(each):
                    raise Validation(f"{path} is no capsule: {each!r} is no id of an execution")
                for what in (*STREAMS, "times"):
                    archive.getinfo(_inside(each, what))
            lines = [
                msgspec.json.decode(line, type=Line) for line in archive.read("events.jsonl").splitlines()
            ]
        _check(path, lines)
    except FileNotFoundError as error:
        raise Validation(f"there is no file {path}") from error
    except (*BROKEN, msgspec.MsgspecError, LookupError, ValueError) as error:
        raise Validation(f"{path} is no capsule, or not a whole one ({error}): export it again") from error
    return manifest, lines


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


def _check(path: Path, lines: Sequence[Line]) -> None:
    hashes: dict[str, str] = {}
    for line in lines:
        entity = line.subject.split(".")[3]
        head = codec.Envelope(
            id=line.id, time=line.time, cause=line.cause, by=line.by, prev=line.prev, trace=line.trace
        )
        if not line.masked and codec.chain(line.subject, head, line.body.encode()) != line.hash:
            raise Damaged(f"event {line.seq} in {path} was changed", seq=line.seq)
        if line.prev != hashes.get(entity, ""):
            raise Damaged(f"the chain of {entity} in {path} breaks at event {line.seq}", seq=line.seq)
        hashes[entity] = line.hash


def into(path: Path, target: Path) -> Manifest:
    """Open a capsule as a new DuckDB file with the tables of a node, output included; needs no bus."""
    import duckdb

    from projections import replay

    manifest, lines = read(path)
    replay.into(target, records(lines), whole=False)
    with zipfile.ZipFile(path) as archive, duckdb.connect(str(target)) as con:
        con.execute("CREATE TABLE _output (id VARCHAR PRIMARY KEY, stdout VARCHAR, stderr VARCHAR)")
        for each in manifest.executions:
            texts = [_text(archive, _inside(each, stream)) for stream in STREAMS]
            con.execute("INSERT INTO _output VALUES (?, ?, ?)", [each, *texts])
        con.execute("ALTER VIEW executions RENAME TO _folded_executions")
        con.execute(
            "CREATE VIEW executions AS SELECT v.* REPLACE (t.stdout AS stdout, t.stderr AS stderr)"
            " FROM _folded_executions v LEFT JOIN _output t ON t.id = v.id"
        )
    return manifest


def unpack(path: Path, manifest: Manifest, folder: Path) -> None:
    """Put the output into a folder, under the names that it has on a node."""
    with zipfile.ZipFile(path) as archive:
        for each in manifest.executions:
            for what in (*STREAMS, "times"):
                name = _inside(each, what)
                with archive.open(name) as source, (folder / Path(name).name).open("xb") as file:
                    shutil.copyfileobj(source, file)


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        return file.read(TEXT_MAX).decode(errors="replace")


def records(lines: Sequence[Line]) -> "Iterator[Record]":
    """Give the events as the tables take them; between them are gaps, where the log told of other things."""
    from projections.record import Record

    for line in lines:
        head = (line.id, line.time, line.cause, line.by, line.prev, line.trace)
        yield Record(line.seq, line.subject, *head, None, line.body.encode())


def default_name(execution_ids: Sequence[str]) -> Path:
    """Name a capsule after what is in it."""
    return Path(f"{execution_ids[0]}.capsule" if len(execution_ids) == 1 else "executions.capsule")
