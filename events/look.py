"""What the scaler sees at one moment, and what it can decide on it."""

from typing import Literal

from events.decision import Type
from events.message import Message
from events.spec import Priority

Phase = Literal["running", "paused", "error", "stopped"]

CATEGORIES = {
    "core": 10,
    "phase1": 5,
    "phase2": 5,
    "phase3": 8,
    "phase4": 6,
    "phase5": 4,
    "advanced": 8,
    "agi": 6,
    "monitoring": 3,
}
"""How many workers a category has at most, to begin with."""
TOTAL_MAX = 50
"""How many workers there are at most in all; it wins over the sum of the categories, which is 55."""
UNTOUCHED = "monitoring"
"""The category of what watches; it is never scaled."""
URGENCY: dict[str, int] = {"critical": 1, "high": 2, "medium": 3, "low": 4, "idle": 5}


# ---- what is seen ----------------------------------------------------------------------------------------


class ModuleLook(Message):
    """A module at one moment."""

    name: str
    category: str
    priority: Priority = "medium"
    state: Phase = "running"
    workers: int
    """How many are wanted in the whole installation; they count even where they are not up yet."""
    min: int = 0
    max: int | None = None
    """A bound of its own that only a person moves; null: none but that of all."""
    busy: int = 0
    stuck: int = 0
    """How many of the busy ones have been silent for too long."""
    queued: int = 0
    oldest_queued_seconds: float = 0.0
    completed: int = 0
    failed: int = 0
    errors: tuple[str, ...] = ()
    """What went wrong last."""
    arrivals_per_second: float = 0.0
    service_seconds: float = 0.0
    """How long one takes on average; 0: nobody knows yet."""
    last_scaled_at: int = 0
    """When the number of workers changed last, in milliseconds since 1970; 0: never."""
    restarted_at: tuple[int, ...] = ()
    """When it was restarted, in milliseconds since 1970, the last one last."""


class CategoryLook(Message):
    """A category at one moment."""

    name: str
    max: int
    base: int = 0
    """What its maximum was set to; it does not shrink below that."""


class Snapshot(Message):
    """Everything that is seen."""

    time_ms: int
    """When, in milliseconds since 1970."""
    modules: tuple[ModuleLook, ...]
    categories: tuple[CategoryLook, ...]
    total_max: int
    """How many workers there may be in all."""
    standing: tuple[str, ...] = ()
    """What was said before and still stands: the keys of those decisions."""

    @property
    def workers(self) -> int:
        """How many there are in all."""
        return sum(each.workers for each in self.modules)


# ---- what is decided -------------------------------------------------------------------------------------


class Decision(Message, omit_defaults=False):
    """One decision; to carry it out twice is to carry it out once."""

    type: Type
    module: str
    category: str
    reason: str
    before: int
    """How many workers the module has."""
    after: int
    """How many it is to have; of a suggestion, how many would do."""
    max_before: int
    max_after: int
    """The same of the maximum of its category."""
    key: str = ""
    """What is said once while it is so, by its name; empty where something is done."""
