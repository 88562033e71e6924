"""The archivist keeps the content of artifacts: it puts it where it belongs, and checks it when it is read.

Moving content takes time, so it has a thread of its own.  The content is put first and the fact stored after
it, so that what the log says is kept is there; and it is looked for once more after the fact, because it
may have been removed in between.
"""

import base64
import binascii
import hashlib
import logging
import mimetypes
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from actors import clerk, depot
from actors.clerk import Gather, Table
from actors.depot import Local
from actors.home import Home, milliseconds
from events import artifact, codec, workspace
from events.artifact import ARTIFACT, Referenced, Registered
from events.asks import artifact as asks
from events.asks.rehearse import Line
from events.errors import (
    Damaged,
    HindbrainError,
    Internal,
    NotFound,
    Refusal,
    TooLarge,
    Validation,
)
from events.ports import Ask, Blobs, Call, Depot, Doors, Loaded, Log, Outcome, Peers, Place
from events.workspace import WORKSPACE

log = logging.getLogger(__name__)

PEER_SECONDS = 30.0
PRUNE_SECONDS = 3600.0
"""How often old artifacts are looked for, where the settings say that they are not kept for ever."""
UNNEEDED = """
SELECT id, size FROM artifacts WHERE status = 'kept' AND "references" = 0 AND touched_at < ?1::TIMESTAMP
AND (?2 IS NULL OR workspace_id = ?2) AND (backend <> 'local' OR node = ?3) ORDER BY seq LIMIT ?4
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody asks for an artifact to be registered, read or pruned."""

    ask: asks.Register | asks.Get | asks.Prune
    call: Call


@dataclass(frozen=True, slots=True)
class Collect:
    """A step left files: keep those that the patterns fit."""

    folder: Path
    patterns: Sequence[str]
    workspace: str
    reference: Referenced
    done: Callable[[list[asks.Kept] | HindbrainError], None]
    """Called from any thread."""


@dataclass(frozen=True, slots=True)
class _Then:
    """Something about a request goes on; what it raises is the answer."""

    call: Call
    act: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where artifacts can lie: what the settings say."""

    data: Path
    backend: str = "local"
    url: str | None = None
    keep_days: float | None = None
    bus: Any = None


class _Job:
    """One registration on its way."""

    def __init__(self, ask: asks.Register, call: Call) -> None:
        self.ask, self.call = ask, call
        self.source, self.sha256, self.ours, self.known = Path(), "", False, False

    def clear(self) -> None:
        """Remove the file that was made for it."""
        if self.ours:
            self.source.unlink(missing_ok=True)


class Archivist:
    """Registers, reads and prunes, for the doors and for playbooks."""

    every = 1.0

    def __init__(
        self,
        home: Home,
        shelves: Shelves,
        journal: Log,
        doors: Doors,
        peers: Peers,
        blobs: Blobs,
        tell: Callable[[Any], None],
    ) -> None:
        self._home, self._shelves, self._log, self._doors = home, shelves, journal, doors
        self._peers, self._blobs, self._tell = peers, blobs, tell
        self._depots: dict[tuple[str, Path], Depot] = {}
        self._incoming = shelves.data / "incoming"
        self._pruned = time.monotonic()

    # ---- the mailbox -------------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Asked(asks.Register() as ask, call):
                self._guard(call, partial(self._register, ask, call))
            case Asked(asks.Get() as ask, call):
                self._guard(call, partial(self._get, ask, call))
            case Asked(asks.Prune() as ask, call):
                self._guard(call, partial(self._prune, ask, call))
            case Collect():
                self._collect(message)
            case _Then(call, act):
                self._guard(call, act)
            case _:
                raise TypeError(f"the archivist has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Remove what is too old, every hour."""
        days, now = self._shelves.keep_days, time.monotonic()
        if days is None or now - self._pruned < PRUNE_SECONDS:
            return
        self._pruned = now
        ask = asks.Prune(older_seconds=days * 86400, reason="retention")
        call = Call("artifact", "prune", b"", lambda _: None, _sighed, by=f"node:{self._home.node}")
        self._guard(call, partial(self._prune, ask, call))

    def _guard(self, call: Call, act: Callable[[], None]) -> None:
        try:
            act()
        except HindbrainError as error:
            call.refuse(error)
        except OSError as error:
            call.refuse(Internal(f"artifacts cannot be kept or read: {error}"))

    def _then(self, call: Call, act: Callable[[], None]) -> None:
        self._tell(_Then(call, act))

    # ---- where things are --------------------------------------------------------------------------------

    def _depot(self, backend: str, workspace_id: str, path: str | None) -> Depot:
        folder = Path(path) if path else self._shelves.data / "workspaces" / workspace_id
        key = (backend, folder)
        if key not in self._depots:
            place = Place(folder=folder / "artifacts", url=self._shelves.url, bus=self._shelves.bus)
            self._depots[key] = depot.maker(backend)(place)
        return self._depots[key]

    def _elsewhere(self, registered: Registered) -> bool:
        """Whether its content lies in a folder of another node."""
        return registered.backend == "local" and registered.node not in ("", self._home.node)

    def _open(self, name: str, call: Call, act: Callable[[str | None], None]) -> None:
        """Have a workspace of that name; `act` gets its folder."""

        def opened(outcomes: Sequence[Outcome]) -> None:
            outcome = outcomes[0]
            if outcome.error is not None:
                call.refuse(outcome.error)
                return
            state: workspace.State = outcome.snapshot.state
            path = state.opened.path if state.opened else None
            self._then(call, lambda: act(path))

        ask = Ask(WORKSPACE, name, workspace.Open(name=name), by=call.by, trace=call.trace)
        self._log.handle([ask], opened)

    # ---- keeping -----------------------------------------------------------------------------------------

    def _register(self, ask: asks.Register, call: Call) -> None:
        job = _Job(ask, call)
        depot.maker(ask.backend or self._shelves.backend)
        given = [name for name in ("text", "base64", "blob", "path") if getattr(ask, name) is not None]
        if len(given) != 1:
            raise Validation(f"give one of text, base64, blob and path, not {len(given)}", field="text")
        workspace.decide(workspace.State(), workspace.Open(name=ask.workspace))
        if not ask.name.strip():
            raise Validation("name is empty", field="name")
        if ask.blob is None:
            self._take(job)
            return
        job.source, job.ours = self._file(), True

        def fetched(error: HindbrainError | None) -> None:
            if error is None:
                self._then(call, lambda: self._keep(job, ask.blob or ""))
            else:
                call.refuse(error)

        self._blobs.fetch(ask.blob, str(job.source), fetched)

    def _take(self, job: _Job) -> None:
        """The content stands in the request, or in a file."""
        ask = job.ask
        if ask.path is not None:
            job.source = Path(ask.path)
            if not job.source.is_absolute():
                raise Validation(f"path is {ask.path!r}: it must be absolute", field="path")
            try:
                with job.source.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise Validation(f"{ask.path} cannot be read: {error.strerror}", field="path") from None
            self._keep(job, sha256)
            return
        try:
            content = (
                (ask.text or "").encode()
                if ask.base64 is None
                else base64.b64decode(ask.base64, validate=True)
            )
        except binascii.Error as error:
            raise Validation(f"base64: {error}", field="base64") from None
        if len(content) > asks.INLINE:
            raise TooLarge(
                f"the content has {len(content)} bytes, at most {asks.INLINE} fit into a request: put it "
                "into the object store BRAIN_BLOBS, and name it by its hash in blob",
                limit=asks.INLINE,
            )
        job.source, job.ours = self._file(), True
        job.source.write_bytes(content)
        self._keep(job, hashlib.sha256(content).hexdigest())

    def _file(self) -> Path:
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        return self._incoming / secrets.token_hex(8)

    def _keep(self, job: _Job, sha256: str) -> None:
        ask, call = job.ask, job.call
        job.sha256 = sha256
        if ask.sha256 is not None and ask.sha256 != sha256:
            job.clear()
            raise Validation(f"the content has the SHA-256 {sha256}, not {ask.sha256}", field="sha256")

        def read(loaded: Sequence[Loaded]) -> None:
            state: artifact.State = loaded[0].snapshot.state
            if loaded[0].error is not None:
                job.clear()
                call.refuse(loaded[0].error)
                return
            known = state.registered if state.phase == "kept" else None
            job.known = known is not None
            name = known.workspace_id if known else ask.workspace
            self._open(name, call, lambda path: self._put(job, known, path))

        self._log.load(ARTIFACT, [artifact.named(sha256)], read)

    def _put(self, job: _Job, known: Registered | None, path: str | None) -> None:
        ask, call = job.ask, job.call
        size = job.source.stat().st_size
        registered = Registered(
            title=ask.name,
            size=size,
            media_type=ask.media_type or mimetypes.guess_type(ask.name)[0] or "application/octet-stream",
            backend=known.backend if known else ask.backend or self._shelves.backend,
            node=known.node if known else self._home.node,
            workspace_id=known.workspace_id if known else ask.workspace,
            labels=tuple(ask.labels),
            metadata=ask.metadata,
        )
        self._there(job, registered, path)
        by = ask.reference
        reference = (
            None if by is None else Referenced(by=by, phase_id=ask.phase_id, step=ask.step, title=ask.name)
        )
        command = artifact.Register(registered=registered, reference=reference)

        def stored(outcomes: Sequence[Outcome]) -> None:
            self._then(call, lambda: self._stored(job, outcomes[0], path))

        self._log.handle(
            [Ask(ARTIFACT, artifact.named(job.sha256), command, by=call.by, trace=call.trace)], stored
        )

    def _there(self, job: _Job, registered: Registered, path: str | None) -> None:
        """See that the content is where it has to be."""
        if self._elsewhere(registered):
            return
        shelf = self._depot(registered.backend, registered.workspace_id, path)
        if shelf.size(job.sha256) != registered.size:
            shelf.put(job.sha256, job.source)

    def _stored(self, job: _Job, outcome: Outcome, path: str | None) -> None:
        try:
            if outcome.error is not None:
                raise outcome.error
            state: artifact.State = outcome.snapshot.state
            if state.registered is None:
                raise Internal(f"{state.id} was not registered")
            self._there(job, state.registered, path)
        finally:
            job.clear()
        kept = asks.Kept(
            artifact_id=state.id,
            sha256=state.sha256,
            size=state.registered.size,
            workspace_id=state.registered.workspace_id,
            backend=state.registered.backend,
            seq=outcome.snapshot.seq,
            duplicate=job.known,
        )
        job.call.answer(codec.encode(kept))

    def _collect(self, wish: Collect) -> None:
        """Keep what a step left: every file that a pattern fits, under its path from the folder."""
        found: list[Path] = []
        for pattern in wish.patterns:
            try:
                some = sorted(each for each in wish.folder.glob(pattern) if each.is_file())
            except (OSError, ValueError, NotImplementedError) as error:
                wish.done(Validation(f"artifacts: {pattern!r} is no pattern for files: {error}"))
                return
            if not some:
                wish.done(NotFound(f"artifacts: nothing in {wish.folder} fits {pattern!r}"))
                return
            found += some
        gather = Gather[asks.Kept | HindbrainError](len(found), partial(_collected, wish.done))
        for path in found:
            ask = asks.Register(
                name=str(path.relative_to(wish.folder)),
                path=str(path),
                workspace=wish.workspace,
                reference=wish.reference.by,
                phase_id=wish.reference.phase_id,
                step=wish.reference.step,
            )
            call = Call(
                "artifact",
                "register",
                b"",
                lambda body: gather([msgspec.json.decode(body, type=asks.Kept)]),
                lambda error: gather([error]),
                by=f"node:{self._home.node}",
            )
            self._guard(call, partial(self._register, ask, call))

    # ---- reading -----------------------------------------------------------------------------------------

    def _get(self, ask: asks.Get, call: Call) -> None:
        if not artifact.ID.fullmatch(ask.artifact_id):
            raise NotFound(f"Artifact not found: {ask.artifact_id}", artifact_id=ask.artifact_id)
        if ask.offset < 0:
            raise Validation("offset is negative", field="offset")
        if not 1 <= ask.max_bytes <= asks.READ:
            raise Validation(f"max_bytes must be between 1 and {asks.READ}", field="max_bytes")

        def read(loaded: Sequence[Loaded]) -> None:
            self._then(call, lambda: self._found(ask, call, loaded[0]))

        self._log.load(ARTIFACT, [ask.artifact_id], read)

    def _found(self, ask: asks.Get, call: Call, loaded: Loaded) -> None:
        state: artifact.State = loaded.snapshot.state
        if loaded.error is not None:
            raise loaded.error
        registered = state.registered
        if registered is None:
            raise NotFound(f"Artifact not found: {ask.artifact_id}", artifact_id=ask.artifact_id)
        if not ask.content:
            call.answer(codec.encode(asks.One(artifact=shown(state))))
        elif state.phase == "removed":
            raise NotFound(f"the content of {state.id} was removed", artifact_id=state.id)
        elif self._elsewhere(registered) and not call.by.startswith("node"):

            def passed(answer: bytes | HindbrainError) -> None:
                (call.refuse if isinstance(answer, HindbrainError) else call.answer)(answer)  # type: ignore[arg-type]  # each takes what it is given

            self._peers.ask(registered.node, "artifact-get", call.body, PEER_SECONDS, passed)
        else:
            self._open(registered.workspace_id, call, lambda path: self._read(ask, call, state, path))

    def _read(self, ask: asks.Get, call: Call, state: artifact.State, path: str | None) -> None:
        registered, sha256 = state.registered, state.sha256
        assert registered is not None  # noqa: S101  looked at before
        shelf = self._depot(registered.backend, registered.workspace_id, path)
        copy: Path | None = None
        if isinstance(shelf, Local):
            source = shelf.path(sha256)
        else:
            source = copy = self._file()
            shelf.fetch(sha256, copy)
        try:
            data = _checked(source, sha256, state.id, ask.offset, ask.max_bytes)
        except FileNotFoundError:
            raise Damaged(f"the content of {state.id} is gone: {source} is not there") from None
        finally:
            if copy is not None:
                copy.unlink(missing_ok=True)
        after = ask.offset + len(data)
        one = asks.One(
            artifact=shown(state),
            base64=base64.b64encode(data).decode(),
            next_offset=after,
            end=after >= registered.size,
        )
        call.answer(codec.encode(one))

    # ---- removing ----------------------------------------------------------------------------------------

    def _prune(self, ask: asks.Prune, call: Call) -> None:
        if ask.older_seconds < 0:
            raise Validation("older_seconds is negative", field="older_seconds")
        if not 1 <= ask.limit <= 1000:
            raise Validation("limit must be between 1 and 1000", field="limit")
        before = milliseconds() - round(ask.older_seconds * 1000)

        def found(table: Table | HindbrainError) -> None:
            if isinstance(table, HindbrainError):
                call.refuse(table)
            elif ask.rehearse:
                lines = [Line(id=row[0], text=f"removed, {row[1]} bytes") for row in table.rows]
                said = asks.Pruned(removed=[], bytes=0, seq=table.seq, rehearsed=lines, note=FINAL)
                call.answer(codec.encode(said))
            else:
                command = artifact.Remove(before_ms=before, reason=ask.reason)
                wanted = [Ask(ARTIFACT, row[0], command, by=call.by, trace=call.trace) for row in table.rows]
                gather = Gather[Outcome](
                    len(wanted), lambda all_: self._then(call, lambda: self._removed(call, all_))
                )
                self._log.handle(wanted, gather) if wanted else gather([])

        params = [codec.stamp(before), ask.workspace, self._home.node, ask.limit]
        clerk.ask(self._doors, UNNEEDED, params, found, min_seq=ask.min_seq)

    def _removed(self, call: Call, outcomes: Sequence[Outcome]) -> None:
        """The facts are there: now the content goes.  Who needs it by now is not among them."""
        gone = [outcome for outcome in outcomes if outcome.facts]
        for outcome in outcomes:
            if outcome.error is not None and not isinstance(outcome.error, Refusal):
                log.warning("%s is not removed now: %s", outcome.ask.entity, outcome.error)
        states: list[artifact.State] = [outcome.snapshot.state for outcome in gone]
        sizes = [state.registered.size for state in states if state.registered]
        said = asks.Pruned(
            removed=[state.id for state in states],
            bytes=sum(sizes),
            seq=max((outcome.snapshot.seq for outcome in gone), default=0),
        )
        for state in states:
            if (registered := state.registered) is not None:
                self._open(registered.workspace_id, call, partial(self._drop, state, registered))
        self._then(call, lambda: call.answer(codec.encode(said)))

    def _drop(self, state: artifact.State, registered: Registered, path: str | None) -> None:
        self._depot(registered.backend, registered.workspace_id, path).remove(state.sha256)


FINAL = "This cannot be taken back; the same content can be registered again."


def shown(state: artifact.State) -> asks.Artifact:
    """An artifact as the doors show it."""
    known = state.registered
    assert known is not None  # noqa: S101  what was found was registered
    return asks.Artifact(
        id=state.id,
        status=state.phase,
        name=known.title,
        size=known.size,
        media_type=known.media_type,
        sha256=state.sha256,
        backend=known.backend,
        node=known.node,
        workspace_id=known.workspace_id,
        labels=list(known.labels),
        metadata=known.metadata,
        references=[
            {"by": each.by, "phase_id": each.phase_id, "step": each.step, "name": each.title}
            for each in state.references.values()
        ],
        created_at=state.created_at,
        seq=state.seq,
    )


def _checked(source: Path, sha256: str, entity: str, offset: int, size: int) -> bytes:
    """A piece of a file; whoever reads its beginning has all of it checked."""
    with source.open("rb") as file:
        if offset == 0 and (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
            raise Damaged(
                f"{entity} is damaged: what lies in {source} has the SHA-256 {found}", artifact_id=entity
            )
        file.seek(offset)
        return file.read(size)


def _collected(
    done: Callable[[list[asks.Kept] | HindbrainError], None], found: list[asks.Kept | HindbrainError]
) -> None:
    errors = [each for each in found if isinstance(each, HindbrainError)]
    done(errors[0] if errors else [each for each in found if isinstance(each, asks.Kept)])


def _sighed(error: HindbrainError) -> None:
    log.warning("old artifacts are not removed now: %s", error)
