"""What is asked of the keeper and what it says, with types; on the wire a line of JSON each (keeper.py)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use; None is no limit.  Past `cpu_seconds` it gets XCPU, a second later KILL."""

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a command.  Without `stdin` it reads nothing; `stdout` and `stderr` are appended to."""

    execution: str
    attempt: int
    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdout: str
    stderr: str
    stdin: str | None = None
    timeout_ms: int | None = None
    deadline_ms_elapsed: int = 0
    grace_ms: int = 5000
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Spawned:
    """It runs.  `start_time` is the kernel's (linux.Stat), `started_at` Unix seconds."""

    kind: ClassVar[str] = "spawned"
    execution: str
    attempt: int
    pid: int
    start_time: int
    started_at: float


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """It never ran: no such program or folder, no right to it, no room.  `code` is the name of the errno."""

    kind: ClassVar[str] = "spawn_failed"
    execution: str
    attempt: int
    errno: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    """It and its whole tree are gone.  `killed` is why we did it; times and memory are of its tree."""

    kind: ClassVar[str] = "exited"
    execution: str
    attempt: int
    pid: int
    exit_code: int | None
    signal: int | None
    killed: str | None
    started_at: float
    ended_at: float
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Lost:
    """It is gone and nobody knows how it ended."""

    kind: ClassVar[str] = "lost"
    execution: str
    attempt: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Killing:
    """The keeper kills it, for the reason that came first."""

    kind: ClassVar[str] = "killing"
    execution: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The keeper never heard of it, or was told to forget it."""

    kind: ClassVar[str] = "unknown"
    execution: str
    attempt: int
    request: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """The keeper waits for us to tell how it ends."""

    kind: ClassVar[str] = "adopted"
    execution: str
    attempt: int
    pid: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The keeper could not make sense of a request."""

    kind: ClassVar[str] = "refused"
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The keeper is there."""

    kind: ClassVar[str] = "pong"
    pid: int


@dataclass(frozen=True, slots=True)
class Attempts:
    """All the keeper knows, told at every (re)connection: what is in neither list it never heard of."""

    kind: ClassVar[str] = "attempts"
    running: tuple[Spawned, ...] = ()
    ended: tuple[SpawnFailed | Exited | Lost, ...] = ()


End = SpawnFailed | Exited | Lost
Message = Spawned | End | Killing | Unknown | Adopted | Refused | Pong | Attempts
KINDS: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    one.kind: (one, tuple(each.name for each in fields(one)))
    for one in (Spawned, SpawnFailed, Exited, Lost, Killing, Unknown, Adopted, Refused, Pong)
}


def read(message: dict[str, Any]) -> Message:
    """Make a typed message of what the keeper said; fields of a newer keeper are left out."""
    if message["type"] == "attempts":
        known = [read(one) for one in message["attempts"] if one["state"] != "intent"]
        running = tuple(one for one in known if isinstance(one, Spawned))
        return Attempts(running, tuple(one for one in known if isinstance(one, SpawnFailed | Exited | Lost)))
    if message["type"] not in KINDS:
        return Refused(f"a keeper of another version says {message['type']!r}")
    kind, names = KINDS[message["type"]]
    return cast("Message", kind(**{name: message[name] for name in names}))
