"""The streams of the bus, as data; they are made or checked whenever a node starts.

BRAIN_EVENTS      the log: for good, gapless, atomic batches, what it stored is said again as `brain.fact.>`
BRAIN_OUTPUT      what executions wrote, the last 7 days or 1 GiB
BRAIN_TELEMETRY   samples and heartbeats, the last day or 256 MiB
BRAIN_INBOX       commands that are stored first; a handled one is erased
BRAIN_DEAD        what was refused or keeps crashing
OBJ_BRAIN_BLOBS   the object store `BRAIN_BLOBS`: large texts under their hash
OBJ_BRAIN_ARTIFACTS   the object store `BRAIN_ARTIFACTS`: artifacts that are kept on the bus
BRAIN_LEASES      who holds a role now; the server lets it expire
"""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, PersistMode, RePublish, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from events.errors import Damaged, Unavailable, Validation

log = logging.getLogger(__name__)

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY = 86400.0

EVENTS = "BRAIN_EVENTS"
OUTPUT = "BRAIN_OUTPUT"
TELEMETRY = "BRAIN_TELEMETRY"
INBOX = "BRAIN_INBOX"
DEAD = "BRAIN_DEAD"
BLOBS = "BRAIN_BLOBS"
ARTIFACTS = "BRAIN_ARTIFACTS"
LEASES = "BRAIN_LEASES"


class _Admin(Protocol):
    """The two calls of nats-py that its own types leave half unknown."""

    async def add_stream(self, config: StreamConfig) -> StreamInfo: ...

    async def update_stream(self, config: StreamConfig) -> StreamInfo: ...


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One stream as it has to be; bytes, seconds, and 0 for no limit."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age: float = 0.0
    full: DiscardPolicy = DiscardPolicy.NEW
    per_subject: int = -1
    duplicate_window: float = 0.1
    """Seconds in which a known `Nats-Msg-Id` is refused; 0.1 is the shortest that the server takes."""
    atomic: bool = False
    lazy: bool = False
    """Confirmed before it is on the disk."""
    lasting: bool = False
    """No message can be deleted."""
    expiring: bool = False
    """A message may carry its own time to live."""
    rollup: bool = False
    unrepeated: bool = False
    """Its sequences begin at the milliseconds since 1970 of its making, so none ever comes twice."""
    republish: tuple[str, str] | None = None

    def config(self) -> StreamConfig:
        """Say it in the words of the server."""
        source, destination = self.republish or ("", "")
        return StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            storage=StorageType.FILE,
            num_replicas=1,
            max_bytes=self.max_bytes,
            max_age=self.max_age,
            max_msgs_per_subject=self.per_subject,
            discard=self.full,
            duplicate_window=self.duplicate_window,
            deny_delete=self.lasting,
            allow_rollup_hdrs=self.rollup,
            allow_direct=True,
            allow_atomic=self.atomic,
            allow_msg_ttl=self.expiring,
            persist_mode=PersistMode.ASYNC if self.lazy else None,
            republish=RePublish(src=source, dest=destination) if self.republish else None,
        )


def definitions(*, events_bytes: int = 64 * GIB, inbox_window: float = 120.0) -> tuple[Definition, ...]:
    """List all streams; `inbox_window` is how long (seconds) the inbox refuses a message id it has seen."""
    return (
        Definition(
            name=EVENTS,
            subjects=("brain.evt.>",),
            max_bytes=events_bytes,
            atomic=True,
            lasting=True,
            republish=("brain.evt.>", "brain.fact.>"),
        ),
        Definition(
            name=OUTPUT,
            subjects=("brain.out.>",),
            max_bytes=GIB,
            max_age=7 * DAY,
            full=DiscardPolicy.OLD,
            lazy=True,
        ),
        Definition(
            name=TELEMETRY,
            subjects=("brain.tel.>",),
            max_bytes=256 * MIB,
            max_age=DAY,
            full=DiscardPolicy.OLD,
            lazy=True,
        ),
        Definition(
            name=INBOX,
            subjects=("brain.inbox.>",),
            max_bytes=4 * GIB,
            duplicate_window=inbox_window,
            unrepeated=True,
        ),
        Definition(name=DEAD, subjects=("brain.dead.>",), max_bytes=GIB),
        *(
            Definition(
                name=f"OBJ_{bucket}",
                subjects=(f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"),
                max_bytes=64 * GIB,
                rollup=True,
            )
            for bucket in (BLOBS, ARTIFACTS)
        ),
        Definition(
            name=LEASES, subjects=("brain.lease.>",), max_bytes=16 * MIB, per_subject=1, expiring=True
        ),
    )


async def ensure(
    js: JetStreamContext, wanted: Sequence[Definition] | None = None, marker: Path | None = None
) -> None:
    """Make every stream that is missing, and check the others.

    Limits and windows that changed are updated.  What cannot change without losing its meaning is refused
    with `Validation`; a log that was here once (`marker` says so) and is gone is `Damaged`; a server that
    does not answer is `Unavailable`.
    """
    for definition in definitions() if wanted is None else wanted:
        try:
            await _ensure(js, definition, marker if definition.name == EVENTS else None)
        except APIError as error:
            raise Validation(
                f"the stream {definition.name} cannot be made as it has to be: {error}"
            ) from error
        except (NatsError, TimeoutError) as error:
            raise Unavailable(
                f"the stream {definition.name} cannot be looked at: {error!r}; a node joins with the URL of "
                "`hindbrain info --join`, the one of `info --json` is for clients"
            ) from error


async def _ensure(js: JetStreamContext, definition: Definition, marker: Path | None) -> None:
    try:
        found = (await js.stream_info(definition.name)).config
    except NotFoundError:
        if marker is not None and marker.exists():  # noqa: ASYNC240  one look at a local file, at start-up
            raise Damaged(
                f"the log is lost: {definition.name} was in this data folder, as {marker} remembers, and is "
                "not there any more. Stop the node and put back the folder nats/store from a copy, or import "
                "an export; to begin again with an empty log, remove that file"
            ) from None
        config = definition.config()
        if definition.unrepeated:
            config.first_seq = time.time_ns() // 1_000_000
        found = (await cast(_Admin, js).add_stream(config)).config
        log.info("made the stream %s", definition.name)
    drift = compare(definition, found)
    if drift and drift.keys() <= _SAFE:
        found = (await cast(_Admin, js).update_stream(definition.config())).config
        log.info("updated the stream %s: %s", definition.name, _spell(drift))
        drift = compare(definition, found)
    if drift:
        raise Validation(
            f"the stream {definition.name} is not as it has to be: {_spell(drift)}. It was made or changed "
            "by something else; change it back with a NATS tool, or use another data folder"
        )
    if marker is not None and not marker.exists():  # noqa: ASYNC240  one look at a local file, at start-up
        _remember(marker)


_SAFE = {"max_bytes", "max_age", "duplicate_window"}
_CHECKED = (
    "subjects",
    "retention",
    "storage",
    "num_replicas",
    "max_bytes",
    "max_age",
    "max_msgs",
    "max_msgs_per_subject",
    "max_msg_size",
    "discard",
    "discard_new_per_subject",
    "duplicate_window",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "allow_direct",
    "allow_atomic",
    "allow_msg_ttl",
    "allow_msg_schedules",
    "persist_mode",
    "republish",
    "subject_transform",
    "sealed",
    "no_ack",
    "mirror",
    "sources",
)


def compare(definition: Definition, found: StreamConfig) -> dict[str, tuple[Any, Any]]:
    """Say which options of a stream differ: what it has to be, and what it is."""
    have, want = _plain(found), _plain(definition.config())
    return {name: (want[name], have[name]) for name in _CHECKED if want[name] != have[name]}


def _plain(config: StreamConfig) -> dict[str, Any]:
    plain: dict[str, Any] = {name: getattr(config, name) for name in _CHECKED}
    for name, value in list(plain.items()):
        # The server leaves out what is off or without limit, and it spells "no limit" as 0 or -1.
        if value in (None, False, -1, 0, "", [], "limits", "default"):
            plain[name] = None
        elif isinstance(value, RePublish):
            plain[name] = (value.src, value.dest, bool(value.headers_only))
        elif isinstance(value, list):
            plain[name] = sorted(map(str, cast(list[object], value)))
    return plain


def _spell(drift: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} has to be {want!r} and is {have!r}" for name, (want, have) in drift.items())


def _remember(marker: Path) -> None:
    descriptor = os.open(marker, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(
            "BRAIN_EVENTS was made here. Without this file, an empty one is made when it is missing.\n"
        )
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(marker.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
