"""What the actors of a node know about it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.catalogue import Catalogue
from actors.residents import Resident
from actors.rights import Rights


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
    residents: Mapping[str, Resident] = field(default_factory=dict[str, Resident])
    """Those of its actors that are modules too, by name."""
    reserved: frozenset[str] = frozenset()
    """Names that no tool of a plugin may have."""
    rights: Rights = field(default_factory=Rights)
    """Who may use which of them."""

    def paused(self, name: str) -> bool:
        """Whether one of them is to do nothing."""
        resident = self.residents.get(name)
        return resident is not None and resident.paused


def milliseconds() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
