"""What can be asked of the worker threads of all modules together, and what is answered."""

from events.message import Message
from events.spec import Strict
from events.verb import Verb


class Ask(Strict):
    """All modules, or one."""

    module: str | None = None
    min_seq: int | None = None
    """What is counted is to know of the log at least this."""


class Category(Message, omit_defaults=False):
    """The modules of a category."""

    active: int
    """Workers with a job in hand."""
    total: int
    """Workers that are up."""
    max: int
    utilisation: float
    """`active` of `max`, in percent."""


class Thread(Message, omit_defaults=False):
    """A module: its workers as they are now, and what became of all its tasks."""

    state: str
    category: str
    priority: str
    active: int
    total: int
    tasks_completed: int
    tasks_failed: int
    """Those that failed or timed out for good."""
    success_rate: float
    """A fraction from 0 to 1; 1 before anything has ended."""
    uptime: float
    """Seconds since it was started, on the node that answers."""
    queue_size: int
    last_activity: float | None
    """When a task last started or ended, else when the module did; in seconds since 1970."""
    errors: list[str]
    """What tasks failed of, the last ten, newest first."""


class Stats(Message, omit_defaults=False):
    """Since the log began."""

    total_threads_created: int
    total_tasks_completed: int
    total_tasks_failed: int
    threads_auto_scaled: int
    """How often a module was scaled by a decision."""
    threads_restarted: int
    """Workers lost with their process, and restarts of whole modules."""
    uptime: float
    """Seconds since the node that answers was started."""


class Threads(Message, omit_defaults=False):
    """Workers as the node that answers sees them, and counts of the whole installation."""

    active_threads: int
    total_threads: int
    categories: dict[str, Category]
    stats: Stats
    uptime: float
    module_threads: dict[str, Thread]
    enabled: bool
    """Whether there is a node; false where work runs in the process of whoever asks."""


VERBS = (Verb("module", "threads", Ask, Threads, "Workers by category and module, and what they have done."),)
