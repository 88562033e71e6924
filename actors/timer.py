"""The timer does what a time has come for: held executions, retries, schedules."""

from collections.abc import Sequence

from actors.clerk import Table
from actors.role import Role
from events.codec import Fact


class Timer(Role):
    """Played by one node at a time."""

    name = "timer"
    questions = ("SELECT 1",)

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what the tables say."""

    def learn(self, fact: Fact) -> None:
        """Take note of what happened."""

    def act(self) -> None:
        """Do what is due."""
