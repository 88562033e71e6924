"""What the conductor is told of what it asked for; `turn` says in which turn it asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from events.asks.artifact import Kept
from events.errors import HindbrainError
from events.played import Save
from events.ports import Loaded, Outcome


@dataclass(frozen=True, slots=True)
class Decided:
    """The log decided on playbooks, or on what they started."""

    outcomes: Sequence[Outcome]
    turn: int


@dataclass(frozen=True, slots=True)
class Read:
    """Playbooks were read from the log."""

    loaded: Sequence[Loaded]
    turn: int


@dataclass(frozen=True, slots=True)
class Child:
    """What a step ran was read from the log."""

    loaded: Loaded
    turn: int


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was stored, or was not."""

    playbook: str
    answer: Save | HindbrainError
    turn: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a step left lies in its file again."""

    playbook: str
    error: HindbrainError | None
    turn: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a step left is kept."""

    playbook: str
    answer: list[Kept] | HindbrainError
    turn: int
