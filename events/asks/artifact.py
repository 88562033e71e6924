"""What can be asked of artifacts and workspaces, and what is answered."""

from typing import Any

import msgspec

from events.asks.rehearse import Rehearsable
from events.message import Message
from events.spec import Strict
from events.verb import Verb

INLINE = 256 * 1024
"""Bytes of content that may stand in a request; what is larger is a blob, or a file of the node."""
READ = 512 * 1024
"""Bytes of content in a reply."""


class Register(Strict):
    """Keep some content: one of `text base64 blob path`."""

    name: str
    """What to call it, such as a file name."""
    text: str | None = None
    """At most 256 KiB."""
    base64: str | None = None
    """At most 256 KiB of bytes."""
    blob: str | None = None
    """The SHA-256 of something that lies in the object store `BRAIN_BLOBS`, at most 200 MiB."""
    path: str | None = None
    """An absolute path of a file on the node that takes the command."""
    sha256: str | None = None
    """What the content has to hash to, else it is refused."""
    media_type: str | None = None
    """Guessed by the name when left out."""
    workspace: str = "default"
    """Where it is kept; a workspace that is not there is opened."""
    backend: str | None = None
    """Who keeps it: `local`, `nats`, or one that was installed; the node's setting when left out."""
    labels: list[str] = []
    metadata: dict[str, Any] = {}
    reference: str | None = None
    """Who needs it: an execution, a plan, a playbook, or any word; it is kept at least until released."""
    phase_id: str | None = None
    """Of a playbook: in which phase it came about."""
    step: str | None = None


class Get(Strict):
    """One artifact, with its content if that is wanted."""

    artifact_id: str
    content: bool = False
    """Whether to read it; it is checked against its hash first."""
    offset: int = 0
    max_bytes: int = READ


class List(Strict):
    """Artifacts, newest first."""

    workspace: str | None = None
    name: str | None = None
    """A pattern such as `*.whl`."""
    media_type: str | None = None
    label: str | None = None
    reference: str | None = None
    """Only those that this one needs."""
    phase_id: str | None = None
    status: str | None = None
    """`kept` or `removed`; without it those that are kept."""
    limit: int = 50
    before: int | None = None
    """Only those that were first registered before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Release(Strict):
    """Somebody needs it no more."""

    artifact_id: str
    reference: str


class Prune(Strict):
    """Remove what nobody needs, and of which nothing was said for a while."""

    older_seconds: float
    workspace: str | None = None
    limit: int = 1000
    reason: str | None = None
    rehearse: bool = False
    """Only say what would happen."""
    min_seq: int | None = None


class Kept(Message, omit_defaults=False):
    """An artifact is kept."""

    artifact_id: str
    sha256: str
    size: int
    workspace_id: str
    backend: str
    seq: int
    duplicate: bool = False
    """The content was there before."""


class Artifact(Message, omit_defaults=False):
    """One artifact as the doors show it."""

    id: str
    status: str
    name: str
    size: int
    media_type: str
    sha256: str
    backend: str
    node: str
    workspace_id: str
    labels: list[str]
    metadata: dict[str, Any]
    references: list[dict[str, Any]]
    """Who needs it: `{by, phase_id, step, name}`."""
    created_at: str | None
    seq: int


class One(Message, omit_defaults=False):
    """One artifact; `base64` is a piece of its content."""

    artifact: Artifact
    base64: str | msgspec.UnsetType = msgspec.UNSET
    next_offset: int | msgspec.UnsetType = msgspec.UNSET
    end: bool | msgspec.UnsetType = msgspec.UNSET


class Page(Message, omit_defaults=False):
    """A page of artifacts, as rows of the table."""

    artifacts: list[dict[str, Any]]
    next: int | None


class Released(Message, omit_defaults=False):
    """Who still needs it."""

    artifact_id: str
    changed: bool
    references: list[str]
    seq: int


class Pruned(Rehearsable, omit_defaults=False):
    """What was removed."""

    removed: list[str]
    bytes: int
    seq: int


class Create(Strict):
    """Open a workspace."""

    name: str
    path: str | None = None
    """Its folder, absolute; left out it lies under the data folder of each node."""
    description: str | None = None


class Workspaces(Strict):
    """All workspaces by name."""

    min_seq: int | None = None


class Opened(Message, omit_defaults=False):
    """A workspace is open."""

    workspace_id: str
    path: str | None
    changed: bool
    seq: int


class Listed(Message):
    """All workspaces, as rows of the table."""

    workspaces: list[dict[str, Any]]


VERBS = (
    Verb("artifact", "register", Register, Kept, "Keep some content under its hash."),
    Verb("artifact", "get", Get, One, "One artifact, and its content, checked against its hash."),
    Verb("artifact", "list", List, Page, "Artifacts, newest first."),
    Verb("artifact", "release", Release, Released, "Somebody needs an artifact no more."),
    Verb("artifact", "prune", Prune, Pruned, "Remove artifacts that nobody needs."),
    Verb("workspace", "create", Create, Opened, "Open a workspace: a folder that playbooks share."),
    Verb("workspace", "list", Workspaces, Listed, "All workspaces."),
)
