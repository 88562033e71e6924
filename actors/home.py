"""What the actors of a node know about it."""

import time
from dataclasses import dataclass, field

from actors.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Home:
    """Where we are."""

    node: str
    boot: str
    monitor_url: str
    default_timeout_ms: int | None = None
    fault_switch: bool = False
    catalogue: Catalogue = field(default_factory=Catalogue)
    """Which jobs there are."""


def milliseconds() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
