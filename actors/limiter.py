"""The limiter lets work go that waits for a limit or an idle system, and ages what waits too long."""

from collections.abc import Sequence

from actors.clerk import Table
from actors.role import Role
from events.codec import Fact


class Limiter(Role):
    """Played by one node at a time."""

    name = "limiter"
    questions = ("SELECT 1",)

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what the tables say."""

    def learn(self, fact: Fact) -> None:
        """Take note of what happened."""

    def act(self) -> None:
        """Do what is due."""
