"""Large texts lie in the object store `BRAIN_BLOBS` under the SHA-256 of their content.

The format is that of every NATS client (nats-architecture-and-design, ADR-20): chunks on a subject of their
own, and one message that describes them.  They are read and written here piece by piece, because nats-py
reads 8 MB/s and holds all of it in memory.
"""

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus import streams
from bus.bridge import Bridge
from bus.pull import Lot, Pull
from bus.tasks import Tasks
from events.errors import HindbrainError, Internal, NotFound, TooLarge, Unavailable, Validation
from events.spec import BLOB_MAX

log = logging.getLogger(__name__)

CHUNK = 128 * 1024
"""Bytes of one piece, as other clients cut them."""
WINDOW = 4 * 1024 * 1024
"""Bytes on their way at a time, in either direction."""
SILENT_SECONDS = 15.0
"""After so long without a piece the rest is not coming."""
AT_ONCE = 2
"""Blobs that are fetched at a time."""
_NAME = re.compile(r"[0-9a-f]{64}")
_NUID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Wire(Protocol):
    """Whoever can ask the server something: a bridge, or a client in a loop of its own."""

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        within: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> Msg:
        """Send it and wait for the one reply."""
        ...


class _Options(msgspec.Struct):
    max_chunk_size: int | None = None
    link: Any = None


class _Info(msgspec.Struct):
    """The message that describes an object."""

    name: str
    nuid: str = ""
    size: int = 0
    chunks: int = 0
    digest: str = ""
    deleted: bool = False
    options: _Options | None = None


class Blobs:
    """The object store, for threads; `done` is called in the loop of the bus."""

    def __init__(self, bridge: Bridge, *, limit: int = BLOB_MAX, bucket: str = streams.BLOBS) -> None:
        self._bridge = bridge
        self._limit, self._bucket = limit, bucket
        self._turn: asyncio.Semaphore | None = None
        self._tasks = Tasks("a blob failed")

    def fetch(self, sha256: str, path: str, done: Callable[[HindbrainError | None], None]) -> None:
        """Write the blob to a private file, which is there only when all of it is.

        `NotFound`: nobody has it.  `TooLarge`: over the limit.  `Validation`: the name is no hash, or the
        content does not belong to it.
        """

        async def run() -> None:
            try:
                if self._turn is None:
                    self._turn = asyncio.Semaphore(AT_ONCE)
                async with self._turn:
                    await self.get(sha256, Path(path))
            except HindbrainError as error:
                done(error)
            except OSError as error:
                done(Internal(f"the blob cannot be written: {error}"))
            else:
                done(None)

        self._bridge.post(lambda: self._tasks.spawn(run()))

    def put(self, source: bytes | Path, done: Callable[[str | HindbrainError], None]) -> None:
        """Put a blob; `done` gets its hash, or an error."""

        async def run() -> None:
            try:
                answer: str | HindbrainError = await put(
                    self._bridge, source, limit=self._limit, bucket=self._bucket
                )
            except HindbrainError as error:
                answer = error
            except OSError as error:
                answer = Internal(f"the blob cannot be read: {error}")
            done(answer)

        self._bridge.post(lambda: self._tasks.spawn(run()))

    async def size(self, sha256: str) -> int | None:
        """How many bytes a blob has; None when there is none."""
        found = await _info(self._bridge, sha256, self._bucket)
        return None if found is None else found.size

    async def remove(self, sha256: str) -> None:
        """Have it no more.  Who puts it at the same time sees by its size whether it is there."""
        found = await _info(self._bridge, sha256, self._bucket)
        if found is None:
            return
        gone = {"name": sha256, "bucket": self._bucket, "nuid": found.nuid, "deleted": True}
        await _store(
            self._bridge, _meta(sha256, self._bucket), json.dumps(gone).encode(), {"Nats-Rollup": "sub"}
        )
        chunks = {"filter": f"$O.{self._bucket}.C.{found.nuid}"}
        await self._bridge.api(f"STREAM.PURGE.OBJ_{self._bucket}", chunks)

    async def get(self, sha256: str, path: Path) -> None:
        """Write the blob to a private file; the same as `fetch`, in the loop of the bus."""
        found = await _info(self._bridge, sha256, self._bucket)
        if found is None:
            raise NotFound(f"there is no blob {sha256}", blob=sha256)
        if found.size > self._limit:
            raise TooLarge(f"the blob {sha256} has {found.size} bytes, at most {self._limit} are allowed")
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                await self._read(found, file)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    async def _read(self, info: _Info, file: IO[bytes]) -> None:
        """Copy the content and check it."""
        sha, size = hashlib.sha256(), 0
        arrived: asyncio.Queue[list[bytes]] = asyncio.Queue()

        def write(lot: list[bytes]) -> None:
            for data in lot:
                sha.update(data)
                file.write(data)

        def take(lot: Lot) -> None:
            arrived.put_nowait([message.data for _, message in lot])

        filter_subject = f"$O.{self._bucket}.C.{info.nuid}"
        pull = Pull(self._bridge, f"OBJ_{self._bucket}", lambda after: _reader(filter_subject, after), take)
        try:
            if info.size:
                await pull.start()
            biggest = (info.options.max_chunk_size if info.options else None) or CHUNK
            pull.want(max(2, WINDOW // max(1, biggest)))
            while size < info.size:
                try:
                    async with asyncio.timeout(SILENT_SECONDS):
                        lot = await arrived.get()
                except TimeoutError:
                    raise Unavailable(
                        f"the blob {info.name} stopped coming at byte {size} of {info.size}"
                    ) from None
                size += sum(map(len, lot))
                await asyncio.to_thread(write, lot)
                pull.want(len(lot))
        finally:
            await pull.stop()
        if size != info.size or sha.hexdigest() != info.name:
            raise Validation(
                f"the blob {info.name} holds something else: {size} bytes with the SHA-256 {sha.hexdigest()}"
            )


async def put(wire: Wire, source: bytes | Path, *, limit: int = BLOB_MAX, bucket: str = streams.BLOBS) -> str:
    """Put a blob and return its hash; one that is there already is not sent again.

    `TooLarge` over the limit; after `Unavailable` or `Timeout` it can be put again.
    """
    size = len(source) if isinstance(source, bytes) else (await asyncio.to_thread(source.stat)).st_size
    if size > limit:
        raise TooLarge(f"this has {size} bytes, at most {limit} are allowed", limit=limit)
    sha256 = await asyncio.to_thread(_digest, source)
    found = await _info(wire, sha256, bucket)
    if found is not None and found.size == size and found.digest == _digest_text(sha256):
        return sha256
    nuid = secrets.token_hex(11)
    chunks = 0
    waiting: list[asyncio.Task[None]] = []
    try:
        for data in _pieces(source):
            chunks += 1
            waiting.append(asyncio.ensure_future(_store(wire, f"$O.{bucket}.C.{nuid}", data)))
            if len(waiting) >= WINDOW // CHUNK:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        for task in waiting:
            task.cancel()
    described = {
        "name": sha256,
        "bucket": bucket,
        "nuid": nuid,
        "size": size,
        "chunks": chunks,
        "digest": _digest_text(sha256),
        "mtime": datetime.now(UTC).isoformat(),
        "deleted": False,
        "options": {"max_chunk_size": CHUNK},
    }
    await _store(wire, _meta(sha256, bucket), json.dumps(described).encode(), {"Nats-Rollup": "sub"})
    return sha256


async def _info(wire: Wire, sha256: str, bucket: str) -> _Info | None:
    if not _NAME.fullmatch(sha256):
        raise Validation(f"a blob is named by a SHA-256 in hex, not {sha256[:80]!r}")
    message = await wire.request(f"$JS.API.DIRECT.GET.OBJ_{bucket}.{_meta(sha256, bucket)}")
    match (message.headers or {}).get("Status"):
        case None:
            pass
        case "404":
            return None
        case status:
            raise Unavailable(f"the blob {sha256} cannot be looked at: {status}")
    try:
        found = msgspec.json.decode(message.data, type=_Info)
    except msgspec.MsgspecError as error:
        raise Validation(f"the blob {sha256} is not described as an object: {error}") from error
    if found.options is not None and found.options.link is not None:
        raise Validation(f"the blob {sha256} is only a link to another object")
    if found.deleted:
        return None
    if not _NUID.fullmatch(found.nuid):
        raise Validation(f"the blob {sha256} has the impossible place {found.nuid[:80]!r}")
    return found


async def _store(wire: Wire, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
    reply = await wire.request(subject, data, headers=headers, within=15.0)
    answer = json.loads(reply.data)
    if "error" in answer:
        raise Unavailable(f"the object store refused it: {answer['error'].get('description', '')}")


def _reader(subject: str, after: int) -> ConsumerConfig:
    return ConsumerConfig(
        filter_subject=subject,
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        mem_storage=True,
        inactive_threshold=60,
    )


def _meta(name: str, bucket: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _digest_text(sha256: str) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode()


def _digest(source: bytes | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK):
            yield source[start : start + CHUNK]
        return
    with source.open("rb") as file:
        while data := file.read(CHUNK):
            yield data
