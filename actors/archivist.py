"""The archivist keeps the content of artifacts: it puts it where it belongs, and checks it when it is read.

Moving content takes time, so it has a thread of its own.  How it comes in stands in `actors/registering.py`.
"""

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from actors import clerk
from actors.clerk import Gather, Table, check_page
from actors.depot import Local
from actors.home import Home, milliseconds
from actors.registering import Collect, Registering
from actors.rooms import Rooms, Shelves, Then
from events import artifact, codec
from events.artifact import ARTIFACT, Registered
from events.asks import artifact as asks
from events.asks.rehearse import Line
from events.errors import (
    Damaged,
    HindbrainError,
    Internal,
    NotFound,
    Refusal,
    Validation,
)
from events.ports import Ask, Blobs, Call, Doors, Loaded, Log, Outcome, Peers

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
        self._home, self._log, self._doors, self._peers = home, journal, doors, peers
        self._shelves, self.rooms = shelves, Rooms(home, shelves, journal, tell)
        self._registering = Registering(home, self.rooms, journal, blobs)
        self._pruned = time.monotonic()

    # ---- the mailbox -------------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Asked(asks.Register() as ask, call):
                self._guard(call, partial(self._registering.register, ask, call))
            case Asked(asks.Get() as ask, call):
                self._guard(call, partial(self._get, ask, call))
            case Asked(asks.Prune() as ask, call):
                self._guard(call, partial(self._prune, ask, call))
            case Collect():
                self._registering.collect(message)
            case Then(call, act):
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

    # ---- reading -----------------------------------------------------------------------------------------

    def _get(self, ask: asks.Get, call: Call) -> None:
        if not artifact.ID.fullmatch(ask.artifact_id):
            raise NotFound(f"Artifact not found: {ask.artifact_id}", artifact_id=ask.artifact_id)
        if ask.offset < 0:
            raise Validation("offset is negative", field="offset")
        if not 1 <= ask.max_bytes <= asks.READ:
            raise Validation(f"max_bytes must be between 1 and {asks.READ}", field="max_bytes")

        def read(loaded: Sequence[Loaded]) -> None:
            self.rooms.then(call, lambda: self._found(ask, call, loaded[0]))

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
        elif self.rooms.elsewhere(registered) and not call.by.startswith("node"):

            def passed(answer: bytes | HindbrainError) -> None:
                (call.refuse if isinstance(answer, HindbrainError) else call.answer)(answer)  # type: ignore[arg-type]  # each takes what it is given

            self._peers.ask(registered.node, "artifact-get", call.body, PEER_SECONDS, passed)
        else:
            self.rooms.open(registered.workspace_id, call, lambda path: self._read(ask, call, state, path))

    def _read(self, ask: asks.Get, call: Call, state: artifact.State, path: str | None) -> None:
        registered, sha256 = state.registered, state.sha256
        assert registered is not None  # noqa: S101  looked at before
        shelf = self.rooms.depot(registered.backend, registered.workspace_id, path)
        copy: Path | None = None
        source = shelf.path(sha256) if isinstance(shelf, Local) else (copy := self.rooms.file())
        try:
            if copy is not None:
                shelf.fetch(sha256, copy)
            data = _checked(source, sha256, state.id, ask.offset, ask.max_bytes)
        except (FileNotFoundError, NotFound) as error:
            raise Damaged(f"the content of {state.id} is gone: {error}", artifact_id=state.id) from None
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
        check_page(ask.limit, 1000)
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
                    len(wanted), lambda all_: self.rooms.then(call, lambda: self._removed(call, all_))
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
                self.rooms.open(registered.workspace_id, call, partial(self._drop, state, registered))
        self.rooms.then(call, lambda: call.answer(codec.encode(said)))

    def _drop(self, state: artifact.State, registered: Registered, path: str | None) -> None:
        self.rooms.depot(registered.backend, registered.workspace_id, path).remove(state.sha256)


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


def _sighed(error: HindbrainError) -> None:
    log.warning("old artifacts are not removed now: %s", error)
