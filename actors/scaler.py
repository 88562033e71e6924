"""The scaler looks at all modules every ten seconds, decides by its policy, and has that done.

Its decisions are facts before anything is done about them, under ids made of the moment and the module: of
two scalers, or of one that fell and came again, one decides.  What was decided and not done is so again at
the next look and decided again, so nothing has to be remembered about it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.clerk import Table
from actors.home import milliseconds
from actors.role import Role
from events import decision, scaling
from events.codec import Fact
from events.decision import DECISION
from events.policy import Policy
from events.ports import Ask, Outcome
from events.scaling import Decision, Seen, Snapshot

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
LAST = "SELECT data FROM decisions WHERE json_exists(data, '$.snapshot') ORDER BY seq DESC LIMIT 1"

Look = Callable[[Callable[[Snapshot], None]], None]
"""Looks at all modules, and gives what it saw to its argument."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen at a tick."""

    tick: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Stored:
    """The log answered decisions."""

    outcomes: Sequence[Outcome]


class Scaler(Role):
    """Played by one node at a time."""

    name = "scaler"
    questions = (LAST,)

    def __init__(
        self,
        *args: Any,
        look: Look,
        act: Callable[[Decision], None],
        policy: Policy | None = None,
        every_seconds: float = EVERY_SECONDS,
        clock: Callable[[], int] = milliseconds,
    ) -> None:
        super().__init__(*args)
        self._look_at, self._carry_out = look, act
        self._policy = policy or Policy()
        self._every_ms, self._clock = max(1, round(every_seconds * 1000)), clock
        self._standing: tuple[str, ...] | None = None
        """What was said and still stands; None: the log has to say."""
        self._tick = 0
        """Ticks are counted since 1970, so they are the same whoever scales."""

    def tick(self) -> None:
        """Forget what stands when the role is another's: it will have said more."""
        if self.tenure.left <= 0:
            self._standing = None
        super().tick()

    def begin(self, answers: Sequence[Table]) -> None:
        """Begin with what stood at the last decision; anything that came up since would be a decision too."""
        if self._standing is not None:
            return
        self._standing = ()
        for (data,) in answers[0].rows:
            seen = msgspec.convert(data, Seen)
            self._standing = scaling.standing(seen.snapshot, seen.policy)

    def learn(self, fact: Fact) -> None:
        """Nothing is learned of facts: a look sees all there is."""

    def act(self) -> None:
        """Look, once in a tick."""
        if self.home.paused("scaler"):
            return
        tick = self._clock() // self._every_ms
        if tick != self._tick:
            self._tick = tick
            self._look_at(lambda snapshot: self.tell(Looked(tick, snapshot)))

    def hear(self, message: Any) -> None:
        """Decide on what was seen, and have done what was decided."""
        match message:
            case Looked(tick, snapshot):
                if tick == self._tick:
                    self._decide(tick, snapshot)
            case Stored(outcomes):
                for outcome in outcomes:
                    self._stored(outcome)
            case _:
                super().hear(message)

    def _decide(self, tick: int, snapshot: Snapshot) -> None:
        seen = scaling.exact(msgspec.structs.replace(snapshot, standing=self._standing or ()))
        made, self._standing = scaling.judge(seen, self._policy)
        asks = [
            Ask(
                DECISION,
                decision.entity(tick, each.module),
                scaling.make(each, seen, self._policy),
                by=self.by,
                tag=each,
            )
            for each in made
        ]
        self.decide(asks, Stored)

    def _stored(self, outcome: Outcome) -> None:
        made: Decision = outcome.ask.tag
        if outcome.error is not None:
            log.warning("the decision about %s is not stored: %s", made.module, outcome.error)
            # Nobody has heard it, so it is news at the next look.
            self._standing = tuple(each for each in self._standing or () if each != made.key)
        elif outcome.facts:
            log.info("%s %s: %s", made.type, made.module, made.reason)
            if made.type in scaling.DONE:
                self._carry_out(made)
