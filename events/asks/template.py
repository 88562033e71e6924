"""What can be asked of templates, and what is answered."""

from typing import Any

from events.asks.plan import Accepted
from events.asks.tree import Tree
from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Save(Strict):
    """Keep a plan or a batch under a name; the same name again is its next version."""

    name: str
    plan: Tree
    comment: str | None = None


class Get(Strict):
    """One template."""

    name: str
    version: int | None = None
    """The last one unless it is named."""


class List(Strict):
    """Templates by name."""

    limit: int = 50
    after: str | None = None
    """Only names behind this one: `next` of the page before."""
    min_seq: int | None = None


class Start(Strict):
    """Run it."""

    template: str
    version: int | None = None
    params: dict[str, Any] = {}
    """What its parameters are."""
    items: list[Any] | None = None
    """The items of a batch, in place of those that it was kept with."""
    count: int | None = None
    secrets: dict[str, str] = {}
    working_dir: str | None = None
    """Of all that does not name one."""
    labels: list[str] = []
    idempotency_key: str | None = None


class Delete(Strict):
    """Keep it no more; what was started of it goes on."""

    name: str
    reason: str | None = None


class Changed(Message, omit_defaults=False):
    """What a template is after a change."""

    name: str
    version: int
    changed: bool
    seq: int


class Template(Message, omit_defaults=False):
    """One template as the doors show it."""

    name: str
    version: int
    versions: int
    description: str | None
    strategy: str
    params: dict[str, Any]
    steps: list[str]
    """The names of its steps; none for a batch."""
    comment: str | None
    created_at: str | None
    saved_at: str | None
    seq: int


class One(Message, omit_defaults=False):
    """One template, and the plan that it keeps."""

    template: Template
    plan: dict[str, Any]


class Page(Message, omit_defaults=False):
    """A page of templates."""

    templates: list[Template]
    next: str | None


VERBS = (
    Verb("template", "save", Save, Changed, "Keep a plan under a name, with typed parameters."),
    Verb("template", "get", Get, One, "One template with its plan, in one version."),
    Verb("template", "list", List, Page, "Templates by name."),
    Verb("template", "start", Start, Accepted, "Run a template with these parameters."),
    Verb("template", "delete", Delete, Changed, "Keep it no more."),
)
