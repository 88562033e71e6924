"""Artifacts on their way in: the content is put first, and the fact stored after it.

So what the log says is kept is there; and it is looked for once more after the fact, because it may have been
removed in between.
"""

import base64
import binascii
import hashlib
import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from actors import depot
from actors.clerk import Gather
from actors.home import Home
from actors.rooms import Rooms
from events import artifact, codec, workspace
from events.artifact import ARTIFACT, Referenced, Registered
from events.asks import artifact as asks
from events.errors import HindbrainError, Internal, NotFound, TooLarge, Validation
from events.ports import Ask, Blobs, Call, Loaded, Log, Outcome


@dataclass(frozen=True, slots=True)
class Collect:
    """A step left files: keep those that the patterns fit."""

    folder: Path
    patterns: Sequence[str]
    workspace: str
    reference: Referenced
    done: Callable[[list[asks.Kept] | HindbrainError], None]
    """Called from any thread."""


class _Job:
    """One registration on its way."""

    def __init__(self, ask: asks.Register, call: Call) -> None:
        self.ask, self.call = ask, call
        self.source, self.sha256, self.ours, self.known = Path(), "", False, False

    def clear(self) -> None:
        """Remove the file that was made for it."""
        if self.ours:
            self.source.unlink(missing_ok=True)


class Registering:
    """Keeps what doors and playbooks bring, in the thread of the archivist."""

    def __init__(self, home: Home, rooms: Rooms, journal: Log, blobs: Blobs) -> None:
        self._home, self.rooms, self._log, self._blobs = home, rooms, journal, blobs

    def register(self, ask: asks.Register, call: Call) -> None:
        """Keep some content and answer its id."""
        job = _Job(ask, call)
        depot.maker(ask.backend or self.rooms.shelves.backend)
        given = [name for name in ("text", "base64", "blob", "path") if getattr(ask, name) is not None]
        if len(given) != 1:
            raise Validation(f"give one of text, base64, blob and path, not {len(given)}", field="text")
        workspace.decide(workspace.State(), workspace.Open(name=ask.workspace))
        if not ask.name.strip():
            raise Validation("name is empty", field="name")
        if ask.blob is None:
            self._take(job)
            return
        job.source, job.ours = self.rooms.file(), True

        def fetched(error: HindbrainError | None) -> None:
            if error is None:
                self.rooms.then(call, lambda: self._keep(job, ask.blob or ""))
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
        job.source, job.ours = self.rooms.file(), True
        job.source.write_bytes(content)
        self._keep(job, hashlib.sha256(content).hexdigest())

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
            self.rooms.open(name, call, lambda path: self._put(job, known, path))

        self._log.load(ARTIFACT, [artifact.named(sha256)], read)

    def _put(self, job: _Job, known: Registered | None, path: str | None) -> None:
        ask, call = job.ask, job.call
        size = job.source.stat().st_size
        registered = Registered(
            title=ask.name,
            size=size,
            media_type=ask.media_type or mimetypes.guess_type(ask.name)[0] or "application/octet-stream",
            backend=known.backend if known else ask.backend or self.rooms.shelves.backend,
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
            self.rooms.then(call, lambda: self._stored(job, outcomes[0], path))

        self._log.handle(
            [Ask(ARTIFACT, artifact.named(job.sha256), command, by=call.by, trace=call.trace)], stored
        )

    def _there(self, job: _Job, registered: Registered, path: str | None) -> None:
        """See that the content is where it has to be."""
        if self.rooms.elsewhere(registered):
            return
        shelf = self.rooms.depot(registered.backend, registered.workspace_id, path)
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

    def collect(self, wish: Collect) -> None:
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
            self.rooms.then(call, partial(self.register, ask, call))


def _collected(
    done: Callable[[list[asks.Kept] | HindbrainError], None], found: list[asks.Kept | HindbrainError]
) -> None:
    errors = [each for each in found if isinstance(each, HindbrainError)]
    done(errors[0] if errors else [each for each in found if isinstance(each, asks.Kept)])
