"""A capsule: what ran, in one file, with all that is known of it, for a place without a node.

It is a zip file:

    manifest.json                 what is inside, from where, and by which versions
    events.jsonl                  every event: seq, subject, envelope, and the body as it was written
    output/<id>_stdout.log        what they wrote, as it is
    output/<id>_stderr.log
    output/<id>_times.log         when it came, piece by piece: `<milliseconds> <stream> <bytes>`
    artifacts/<id>                content that they left and that is still kept
    checkpoints/<id>.json         what has to be known to go on with a playbook from there
    meta/<id>.json                executions, plans and playbooks as the doors show them

Values of variables and parameters that look like secrets are masked; their events say so, and their own hash
is then not checked.  It is opened as a DuckDB file of its own, or shown as it is; never put into a log that
lives.
"""

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from events import artifact, codec, ids
from events.errors import Damaged, Validation

if TYPE_CHECKING:
    from projections.record import Record

FORMAT = 3
READS = (2, 3)
"""Format 2 held nothing but executions."""
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
    roots: list[str] = []
    """What was asked to be exported; the rest belongs to it."""
    plans: list[str] = []
    playbooks: list[str] = []
    artifacts: list[str] = []
    """Those whose content is here; of those that were removed only events are."""
    checkpoints: list[str] = []

    @property
    def page(self) -> str:
        """The page that shows what was exported."""
        roots = self.roots or self.executions
        rooms = {"exec": "/executions/", "plan": "/plans/", "play": "/playbooks/"}
        return rooms[roots[0].partition("_")[0]] + roots[0] if len(roots) == 1 else "/"

    @property
    def inside(self) -> str:
        """How much is in it, in words."""
        kinds = (("execution", self.executions), ("plan", self.plans), ("playbook", self.playbooks))
        more = (("artifact", self.artifacts), ("checkpoint", self.checkpoints))
        parts = [f"{len(of)} {name}{'s' * (len(of) != 1)}" for name, of in (*kinds, *more) if of]
        return f"{', '.join(parts)} with {self.events} events"


def read(path: Path) -> tuple[Manifest, list[Line]]:
    """Open a capsule and check it: `Validation` when it is none, `Damaged` when something was changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = msgspec.json.decode(archive.read("manifest.json"), type=Manifest)
            if manifest.format not in READS:
                raise Validation(f"{path} has format {manifest.format}; this version reads up to {FORMAT}")
            for name, wanted in manifest.sha256.items():
                with archive.open(name) as file:
                    if _digest(file) != wanted:
                        raise Damaged(f"{name} in {path} was changed")
            for each in (*manifest.executions, *manifest.plans, *manifest.playbooks, *manifest.checkpoints):
                if not ids.TOKEN.fullmatch(each):
                    raise Validation(f"{path} is no capsule: {each!r} is no id")
            for each in manifest.artifacts:
                if not artifact.ID.fullmatch(each):
                    raise Validation(f"{path} is no capsule: {each!r} is no id of an artifact")
            for name in _files(manifest):
                archive.getinfo(name)
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
            texts = [_text(archive, inside(each, stream)) for stream in STREAMS]
            con.execute("INSERT INTO _output VALUES (?, ?, ?)", [each, *texts])
        con.execute("ALTER VIEW executions RENAME TO _folded_executions")
        con.execute(
            "CREATE VIEW executions AS SELECT v.* REPLACE (t.stdout AS stdout, t.stderr AS stderr)"
            " FROM _folded_executions v LEFT JOIN _output t ON t.id = v.id"
        )
    return manifest


def unpack(path: Path, manifest: Manifest, folder: Path, logs: Path) -> None:
    """Put artifacts and checkpoints into a folder, and output under the names that it has on a node."""
    with zipfile.ZipFile(path) as archive:
        for name in _files(manifest):
            target = logs / Path(name).name if name.startswith("output/") else folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file)


def inside(execution_id: str, what: str) -> str:
    """Name the file of a stream, or of the times at which it came."""
    return f"output/{execution_id}_{what}.log"


def _files(manifest: Manifest) -> list[str]:
    return [
        *(inside(each, what) for each in manifest.executions for what in (*STREAMS, "times")),
        *(f"artifacts/{each}" for each in manifest.artifacts),
        *(f"checkpoints/{each}.json" for each in manifest.checkpoints),
    ]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        return file.read(TEXT_MAX).decode(errors="replace")


def records(lines: Sequence[Line]) -> "Iterator[Record]":
    """Give the events as the tables take them; between them are gaps, where the log told of other things."""
    from projections.record import Record

    for line in lines:
        head = (line.id, line.time, line.cause, line.by, line.prev, line.trace)
        yield Record(line.seq, line.subject, *head, None, line.body.encode())


def default_name(roots: Sequence[str]) -> Path:
    """Name a capsule after what is in it."""
    return Path(f"{roots[0]}.capsule" if len(roots) == 1 else "hindbrain.capsule")
