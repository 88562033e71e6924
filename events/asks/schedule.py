"""What can be asked of schedules, and what is answered."""

from typing import Any

import msgspec

from events.asks import plan as plans
from events.asks import template as templates
from events.message import Message
from events.schedule import GRACE_MS, CatchUp, Overlap
from events.spec import Strict, Submit
from events.verb import Verb


class Create(Strict):
    """Submit something when its time comes: one of `submit plan template`, at one of `at every_ms cron`.

    `submit` takes what `execution.submit` takes, `plan` what `plan.submit` takes, `template` what
    `template.start` takes; secrets cannot be scheduled.
    """

    submit: Submit | None = None
    plan: plans.Submit | None = None
    template: templates.Start | None = None
    at: str | None = None
    """Once, then (RFC 3339 with a zone)."""
    every_ms: int | None = None
    """Again and again, counted from `starts`; without it the first one comes after this time."""
    cron: str | None = None
    """Five fields (minute hour day-of-month month day-of-week), or six with seconds first; `@daily`, ..."""
    zone: str = "UTC"
    """The IANA time zone of the cron expression."""
    starts: str | None = None
    """Nothing before this time."""
    ends: str | None = None
    """Nothing after this time."""
    catch_up: CatchUp = "once"
    """What is made up for when nobody was there: nothing, the last tick, or all of them (at most 1,000)."""
    overlap: Overlap = "allow"
    """What a tick does while the last one still runs: go on beside it, be skipped, cancel it, or wait."""
    grace_ms: int = GRACE_MS
    """A tick that comes later than this counts as missed."""
    description: str | None = None
    idempotency_key: str | None = None


class Get(Strict):
    """One schedule."""

    schedule_id: str
    count: int = 5
    """How many of the ticks to come are told."""


class List(Strict):
    """Schedules, newest first."""

    status: str | None = None
    """`active paused done deleted`; without it all that are not deleted."""
    limit: int = 50
    before: int | None = None
    """Only those born before this sequence: `next` of the page before."""
    min_seq: int | None = None


class Pause(Strict):
    """Do not tick until it is resumed."""

    schedule_id: str
    reason: str | None = None


class Resume(Strict):
    """Tick again; what would have come meanwhile is not made up for."""

    schedule_id: str


class Run(Strict):
    """Submit it now, beside the ticks to come."""

    schedule_id: str


class Delete(Strict):
    """Never tick again; what it submitted goes on."""

    schedule_id: str
    reason: str | None = None


class Created(Message, omit_defaults=False):
    """A schedule was stored."""

    schedule_id: str
    status: str
    message: str
    next: list[str]
    """The ticks to come, at most five."""
    seq: int
    duplicate: bool = False


class Changed(Message, omit_defaults=False):
    """What a schedule is after a change."""

    schedule_id: str
    status: str
    changed: bool
    next: list[str]
    seq: int


class Started(Message, omit_defaults=False):
    """What was submitted."""

    schedule_id: str
    tick: str
    seq: int
    execution_id: str | msgspec.UnsetType = msgspec.UNSET
    plan_id: str | msgspec.UnsetType = msgspec.UNSET


class Schedule(Message, omit_defaults=False):
    """One schedule as the doors show it."""

    id: str
    status: str
    description: str | None
    what: str
    """`submit`, `plan` or `template`."""
    command: str
    """What it runs, on one line."""
    when: str
    """When it runs, on one line."""
    at: str | None
    every_ms: int | None
    cron: str | None
    zone: str
    starts: str | None
    ends: str | None
    catch_up: str
    overlap: str
    grace_ms: int
    request: dict[str, Any]
    created_at: str | None
    next: list[str]
    last: dict[str, Any] | None
    """The last tick that submitted something."""
    passed: dict[str, Any] | None
    """The last tick that did not, and why."""
    runs: int
    seq: int


class One(Message):
    """One schedule."""

    schedule: Schedule


class Page(Message, omit_defaults=False):
    """A page of schedules."""

    schedules: list[Schedule]
    next: int | None


VERBS = (
    Verb("schedule", "create", Create, Created, "Submit something once or again and again, at its time."),
    Verb("schedule", "get", Get, One, "One schedule with its last and its next ticks."),
    Verb("schedule", "list", List, Page, "Schedules, newest first."),
    Verb("schedule", "pause", Pause, Changed, "Have it tick no more until it is resumed."),
    Verb("schedule", "resume", Resume, Changed, "Have it tick again."),
    Verb("schedule", "run", Run, Started, "Submit it now, and answer the id."),
    Verb("schedule", "delete", Delete, Changed, "Have it never tick again."),
)
