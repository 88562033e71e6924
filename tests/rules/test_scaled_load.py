"""A load that doubles, drops and spikes, tick by tick: the classic rules, and the log that repeats them."""

import random

import msgspec
import pytest

from bus.memory import Memory
from events import codec, decision, scaling
from events.codec import Fact
from events.decision import DECISION, Made
from events.policy import Policy
from events.ports import Ask
from events.scaling import CategoryLook, ModuleLook, Snapshot

NOW, TICK_MS, CAP = 1_767_225_600_000, 10_000, 14

Row = tuple[int, int, int, str]
"""How much work there is at a tick, how many workers, how many of them are busy, and what is decided."""

SUGGESTED: list[Row] = [
    (4, 5, 4, ""),
    (3, 5, 3, ""),
    (4, 5, 4, ""),
    (5, 5, 5, "scale_up 7"),
    (7, 7, 7, "scale_up 9"),
    (7, 9, 7, ""),
    (9, 9, 9, "scale_up 11"),
    (7, 11, 7, ""),
    (8, 11, 8, ""),
    (9, 11, 9, ""),
    (0, 11, 0, "scale_down_suggested 9"),
    (2, 11, 2, ""),
    (0, 11, 0, ""),
    (0, 11, 0, ""),
    (0, 11, 0, ""),
    (40, 11, 11, "scale_up 13"),
    (40, 13, 13, "scale_up 14"),
    (39, 14, 14, "refused 14"),
    (39, 14, 14, ""),
    (39, 14, 14, ""),
    (1, 14, 1, "scale_down_suggested 12"),
    (0, 14, 0, ""),
    (0, 14, 0, ""),
    (1, 14, 1, ""),
    (0, 14, 0, ""),
    (0, 14, 0, ""),
]
"""Five may become fourteen by two while all are busy; that too few are is said once, until 40 % are."""
ENDED: list[Row] = [
    (4, 5, 4, ""),
    (3, 5, 3, ""),
    (4, 5, 4, ""),
    (5, 5, 5, "scale_up 7"),
    (7, 7, 7, "scale_up 9"),
    (7, 9, 7, ""),
    (9, 9, 9, "scale_up 11"),
    (7, 11, 7, ""),
    (8, 11, 8, ""),
    (9, 11, 9, ""),
    (0, 11, 0, "scale_down 9"),
    (2, 9, 2, ""),
    (0, 9, 0, "scale_down 7"),
    (0, 7, 0, ""),
    (0, 7, 0, "scale_down 5"),
    (40, 5, 5, "scale_up 7"),
    (40, 7, 7, "scale_up 9"),
    (39, 9, 9, "scale_up 11"),
    (39, 11, 11, "scale_up 13"),
    (39, 13, 13, "scale_up 14"),
    (1, 14, 1, ""),
    (0, 14, 0, "scale_down 12"),
    (0, 12, 0, ""),
    (1, 12, 1, "scale_down 10"),
    (0, 10, 0, ""),
    (0, 10, 0, "scale_down 8"),
]
"""Where workers end by themselves: two at a time, and none within two ticks of the last change."""


def load(seed: int) -> list[int]:
    """How much work is there at each tick: some, twice as much, next to nothing, far too much, nothing."""
    chance = random.Random(seed)
    levels = ((4, 4), (8, 6), (1, 5), (40, 5), (0, 6))
    return [max(0, level + chance.choice((-1, 0, 1))) for level, ticks in levels for _ in range(ticks)]


class World:
    """One module that scales as it is told, and the log of what was decided."""

    def __init__(self, policy: Policy) -> None:
        self.log, self.policy, self.now = Memory(lambda: self.now), policy, NOW
        self.standing: tuple[str, ...] = ()
        self.category = CategoryLook(name="phase2", max=5, base=5)
        self.module = ModuleLook(name="search_engine", category="phase2", workers=5, min=1)

    def tick(self, work: int) -> Row:
        self.now += TICK_MS
        workers = self.module.workers
        busy = min(work, workers)
        self.module = msgspec.structs.replace(self.module, busy=busy, queued=work - busy)
        seen = scaling.exact(
            Snapshot(
                time_ms=self.now,
                modules=(self.module,),
                categories=(self.category,),
                total_max=CAP,
                standing=self.standing,
            )
        )
        made = scaling.decide(seen, self.policy)
        self.standing = scaling.standing(seen, self.policy)
        for each in made:
            entity = decision.entity(self.now // TICK_MS, each.module)
            self.log.handle([Ask(DECISION, entity, scaling.make(each, seen, self.policy))], lambda _: None)
            if each.type in scaling.DONE:
                self.module = msgspec.structs.replace(
                    self.module, workers=each.after, last_scaled_at=self.now
                )
                self.category = msgspec.structs.replace(self.category, max=each.max_after)
        return work, workers, busy, " ".join(f"{each.type} {each.after}" for each in made)


@pytest.mark.parametrize(
    ("policy", "table"), [(Policy(), SUGGESTED), (Policy(auto_scale_down=True, cooldown_seconds=20.0), ENDED)]
)
def test_it_follows_the_rules_exactly(policy: Policy, table: list[Row]) -> None:
    world = World(policy)
    assert [world.tick(work) for work in load(7)] == table
    for fact in world.log.since():
        assert again(fact) == fact.body


def again(fact: Fact) -> bytes:
    """Decide once more on what the log says was seen."""
    told = scaling.seen(msgspec.json.decode(fact.body, type=Made))
    assert told is not None
    (made,) = scaling.decide(told.snapshot, told.policy)
    (event,) = decision.decide(decision.State(), scaling.make(made, told.snapshot, told.policy))
    return codec.encode(event)
