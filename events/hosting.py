"""What a node and a worker host say to each other, one JSON object on a line of the host's pipes.

A host is a process in which workers of one module run.  It works by itself: it takes jobs from the queue,
states their ends in the log and goes on when it hears nothing.  When its pipe from the node ends, the node is
gone; it finishes what it has in hand and ends.
"""

from typing import Any

from events.message import Message
from events.plugin import Manifest


class _Said(Message, tag_field="say", tag=str.lower):
    """One line."""


# ---- from the node ---------------------------------------------------------------------------------------


class Begin(_Said):
    """The first line: who it is and what it runs."""

    url: str
    """The bus, with the credentials of a host."""
    node: str
    boot: str
    host: str
    """Its name, never used before."""
    module: str
    source: str = ""
    """Where the plugin is found: `entry:<name>` or `package.module:name`; empty for a module without one."""
    workers: int | None = None
    """How many; without it, as the plugin says."""
    overrides: dict[str, Any] = {}
    """What the settings change of the profile that the plugin gives."""
    data: str = ""
    """The data folder of the node."""
    paused: bool = False


class Pause(_Said):
    """Take nothing more, or with `on` false, take work again."""

    on: bool = True


class Retire(_Said):
    """Take nothing more, finish what is in hand and end; give back what takes longer than so many seconds."""

    seconds: float | None = None


class Query(_Said):
    """Ask the plugin: check the data of a job, call a tool, or read a resource."""

    id: int
    what: str
    """`check`, `tool` or `resource`."""
    name: str
    data: Any = None


# ---- from the host ---------------------------------------------------------------------------------------


class Ready(_Said):
    """The plugin is loaded; workers take work."""

    pid: int
    manifest: Manifest
    names: tuple[str, ...]
    """Its workers."""

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self.names)


class Sorry(_Said):
    """It cannot run this plugin."""

    reason: str


class WorkerBeat(Message):
    """How a worker is doing."""

    name: str
    job: str | None = None
    type: str | None = None
    attempt: int = 0
    busy_seconds: float = 0.0
    silent_seconds: float = 0.0
    """Since it showed a sign of life, while it has a job."""
    completed: int = 0
    failed: int = 0


class Beat(_Said):
    """How the host is doing, twice a second."""

    workers: tuple[WorkerBeat, ...]
    memory_bytes: int
    cpu_seconds: float
    spent: int
    """How many jobs have ended here."""
    errors: tuple[str, ...] = ()
    """What jobs failed of since the last beat."""


class Reply(_Said):
    """The answer to a query; `error` says why there is none."""

    id: int
    value: Any = None
    error: str | None = None


class Ended(_Said):
    """It ends now, because of this."""

    reason: str
    expected: bool = True


ToHost = Begin | Pause | Retire | Query
FromHost = Ready | Sorry | Beat | Reply | Ended
