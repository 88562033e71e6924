"""Checkpoints: what has to be known to go on, packed, stored under its hash, and read back whole.

They lie in the object store of the bus, so every node can go on from them.  What a step left in its own file
(`$HINDBRAIN_CHECKPOINT`) is stored beside it, under its own hash.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import zstandard

from actors.home import milliseconds
from events import codec, playbook
from events.errors import Damaged, HindbrainError, TooLarge, Trouble
from events.playbook import State
from events.played import SCHEMA_VERSION, CheckpointCreated, Memory, Reason, Save
from events.ports import Blobs

log = logging.getLogger(__name__)

LEVEL = 3
RAW_MOST = 256 * 1024 * 1024
"""Bytes of a checkpoint when it is unpacked."""
FILE_MOST = 64 * 1024 * 1024
"""Bytes that a step may leave in `$HINDBRAIN_CHECKPOINT`; more is not kept."""

Made = Callable[[Save | HindbrainError], None]
Read = Callable[[Memory | HindbrainError], None]


def pack(memory: Memory) -> tuple[bytes, int]:
    """Turn a memory into bytes; also says how many there were before they were compressed."""
    raw = codec.encode(memory)
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(raw), len(raw)


def unpack(data: bytes, checkpoint: CheckpointCreated) -> Memory:
    """Read it back; `Damaged` names the checkpoint, and what is wrong with it."""
    name = checkpoint.checkpoint_id
    found = hashlib.sha256(data).hexdigest()
    if found != checkpoint.checksum:
        raise damaged(name, f"it has the SHA-256 {found}, not {checkpoint.checksum}")
    if checkpoint.compression != "zstd":
        raise damaged(name, f"it is packed with {checkpoint.compression!r}, which this version does not know")
    if checkpoint.schema_version > SCHEMA_VERSION:
        raise damaged(
            name, f"its schema is {checkpoint.schema_version}; this version reads up to {SCHEMA_VERSION}"
        )
    try:
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=RAW_MOST)
        return msgspec.json.decode(raw, type=Memory)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise damaged(name, str(error)) from None


def damaged(name: str, why: str) -> Damaged:
    """A checkpoint that cannot be gone on from."""
    return Damaged(f"checkpoint {name} is damaged: {why}", checkpoint_id=name)


class Saver:
    """Stores and reads checkpoints on a node; callbacks come from any thread."""

    def __init__(self, data: Path, blobs: Blobs) -> None:
        self.data, self._blobs = data, blobs

    def folder(self, workspace: str, path: str | None) -> Path:
        """The folder of a workspace on this node."""
        return Path(path) if path else self.data / "workspaces" / workspace

    def of(self, state: State) -> Path:
        """The folder of the workspace of a playbook."""
        known = state.initialized
        return self.folder(state.definition.workspace, known.workspace_path if known else None)

    def path(self, text: str) -> Path:
        """A path as executions mean it."""
        return self.data / text

    def work(self, execution: str) -> Path:
        """Where an execution runs that names no other place."""
        return self.data / "work" / execution

    def file(self, state: State, step: str) -> Path:
        """What `$HINDBRAIN_CHECKPOINT` names in a step, on this node."""
        return self.of(state) / "checkpoints" / state.id / step

    def place(self, state: State, step: str) -> str:
        """The same for any node: below its data folder, unless the workspace lies elsewhere."""
        known = state.initialized
        path = known.workspace_path if known else None
        return f"{path or f'workspaces/{state.definition.workspace}'}/checkpoints/{state.id}/{step}"

    def save(self, state: State, reason: Reason, done: Made) -> None:
        """Store a checkpoint of a state; `done` gets the command that makes it known."""
        going = state.going
        blob = None if going is None or going.does != "execution" else self._left(state, going.step)
        if blob is None or going is None:
            self._store(state, reason, {}, done)
            return

        def kept(answer: str | HindbrainError, step: str = going.step) -> None:
            if isinstance(answer, HindbrainError):
                done(answer)
            else:
                self._store(state, reason, {step: answer}, done)

        self._blobs.put(blob, kept)

    def _left(self, state: State, step: str) -> bytes | None:
        """What the step that runs has left so far."""
        path = self.file(state, step)
        try:
            size = path.stat().st_size
            if size > FILE_MOST:
                log.warning("%s has %d bytes: too large to be kept in a checkpoint", path, size)
                return None
            return path.read_bytes() if size else None
        except OSError:
            return None

    def _store(self, state: State, reason: Reason, blobs: dict[str, str], done: Made) -> None:
        # What an earlier checkpoint brought for steps to come is still to be known.
        memory = state.memory({**state.blobs, **blobs})
        data, raw = pack(memory)
        behind = state.spot(state.at - 1) if state.at else None

        def stored(answer: str | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                done(answer)
                return
            checkpoint = CheckpointCreated(
                checkpoint_id=playbook.checkpoint_id(state, reason),
                reason=reason,
                at=state.at,
                phase_id=behind[0].id if behind else None,
                step=behind[1].name if behind else None,
                checksum=answer,
                size=len(data),
                raw_size=raw,
                position=state.seq,
            )
            done(Save(checkpoint=checkpoint, now_ms=milliseconds()))

        self._blobs.put(data, stored)

    def read(self, checkpoint: CheckpointCreated, done: Read) -> None:
        """Read a checkpoint and what belongs to it; `Damaged` when it is not what was stored, or gone."""
        name = checkpoint.checkpoint_id

        def fetched(data: bytes | HindbrainError) -> None:
            if isinstance(data, HindbrainError):
                done(data if _later(data) else damaged(name, data.message))
                return
            try:
                memory = unpack(data, checkpoint)
            except HindbrainError as error:
                done(error)
                return
            self._whole(name, memory, list(memory.blobs.items()), done)

        self._bytes(checkpoint.checksum, fetched)

    def _whole(self, name: str, memory: Memory, left: list[tuple[str, str]], done: Read) -> None:
        """See that what steps left is there too."""
        if not left:
            done(memory)
            return
        step, sha256 = left.pop()

        def fetched(data: bytes | HindbrainError) -> None:
            if isinstance(data, bytes):
                self._whole(name, memory, left, done)
            elif _later(data):
                done(data)
            else:
                done(damaged(name, f"what step {step} left is not whole: {data.message}"))

        self._bytes(sha256, fetched)

    def restore(
        self, state: State, step: str, sha256: str, done: Callable[[HindbrainError | None], None]
    ) -> None:
        """Put back what a step left, before it starts again."""
        path = self.file(state, step)

        def fetched(data: bytes | HindbrainError) -> None:
            if isinstance(data, HindbrainError):
                done(data)
                return
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                with open(part, "xb", opener=_private) as file:
                    file.write(data)
                part.replace(path)
            except OSError as error:
                log.warning("%s cannot be put back: %s", path, error)
            done(None)

        self._bytes(sha256, fetched)

    def _bytes(self, sha256: str, done: Callable[[bytes | HindbrainError], None]) -> None:
        """A blob in memory, checked."""
        folder = self.data / "incoming"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / secrets.token_hex(8)

        def fetched(error: HindbrainError | None) -> None:
            if error is not None:
                done(error)
                return
            try:
                data = path.read_bytes()
            finally:
                path.unlink(missing_ok=True)
            done(data if len(data) <= RAW_MOST else TooLarge(f"{sha256} has {len(data)} bytes"))

        self._blobs.fetch(sha256, str(path), fetched)


def _later(error: HindbrainError) -> bool:
    """Whether the same may well be possible in a moment."""
    return isinstance(error, Trouble) and error.status in (503, 504) and "stopped coming" not in error.message


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
