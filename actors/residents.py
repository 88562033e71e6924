"""Modules that live in the node itself: commands, the monitor and the scaler.

They have no hosts, and the node's supervisor heals them; like every module they have a place in the log, and
can be paused.  What the actor `modules` and such an actor have to tell each other stands here.
"""

from collections.abc import Collection
from dataclasses import dataclass

from events.module import MOST, Profile

ROLES = {"commands": "executor", "monitor": "monitor", "scaler": "scaler"}
"""The role of a node that makes it have one of them."""


@dataclass(slots=True)
class Resident:
    """One of them on this node."""

    profile: Profile
    paused: bool = True
    """It does nothing; so it is until the log was read."""
    active: int = 0
    """How much it has in hand."""
    completed: int = 0
    failed: int = 0


def residents(roles: Collection[str], slots: int) -> dict[str, Resident]:
    """Those of a node with these roles; `slots` is how many commands it runs at once."""
    profiles = {
        "commands": Profile(category="commands", priority="high", workers=min(slots, MOST)),
        "monitor": Profile(category="monitoring", priority="critical"),
        "scaler": Profile(category="monitoring", priority="high"),
    }
    return {name: Resident(profiles[name]) for name, role in ROLES.items() if role in roles}
