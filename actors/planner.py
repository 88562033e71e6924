"""The planner leads plans: it starts a step when its needs are met, and says how the plan ended."""

from collections.abc import Sequence

from actors.clerk import Table
from actors.role import Role
from events.codec import Fact


class Planner(Role):
    """Played by one node at a time."""

    name = "planner"
    questions = ("SELECT 1",)

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what the tables say."""

    def learn(self, fact: Fact) -> None:
        """Take note of what happened."""

    def act(self) -> None:
        """Do what is due."""
