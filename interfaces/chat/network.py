"""What a chat network can do, and how it says no."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.errors import Refusal, Unavailable


class Away(Unavailable):
    """The network does not answer, or takes no more now."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds
        """How long the network asks to be left alone; None when it did not say."""


class Denied(Refusal):
    """The network will never take this message."""


class Heard(msgspec.Struct, frozen=True):
    """What somebody wrote in a chat."""

    id: str
    user: str
    text: str
    to: str = ""
    """The message that it is a reply to."""
    age_seconds: float = 0.0
    """How long ago it was written, by the clock of the network."""


class Network(Protocol):
    """A room of one chat network.  Everything may raise `Away`, what says something `Denied` too."""

    name: str
    edits: bool
    """Whether a message can be changed."""
    hears: bool
    """Whether it can be listened to."""

    async def say(self, text: str, key: str) -> str:
        """Post a message and give what the network calls it; the same key posts it only once, if it can."""
        ...

    async def edit(self, message: str, text: str) -> None:
        """Change a message."""
        ...

    async def heard(self, since: str) -> tuple[Sequence[Heard], str]:
        """Wait for what people write after a place, and give it with the next place; "" is from now on."""
        ...

    async def close(self) -> None:
        """Let go of it; twice is fine."""
        ...
