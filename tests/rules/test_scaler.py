"""The scaler: what it decides is in the log before it is done, and nobody decides it twice."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from actors.home import Home
from actors.residents import Resident
from actors.scaler import LAST, Scaler
from bus.memory import Memory
from events.decision import Made
from events.errors import HindbrainError, Unavailable
from events.module import Profile
from events.policy import Policy
from events.ports import Ask, Outcome
from events.scaling import TOTAL_MAX, Decision, ModuleLook, Snapshot

NOW = 1_767_225_600_000


class Lease:
    """A lease that is held as long as the test says."""

    left = 4.0


class World:
    """A log, its tables, and modules that a test moves."""

    def __init__(self) -> None:
        self.log, self.now, self.deaf = Memory(lambda: self.now), NOW, False
        self.modules: tuple[ModuleLook, ...] = ()
        self.done: list[Decision] = []
        self.late: list[Callable[[], None]] = []
        """What was seen and not told yet, while `slow`."""
        self.slow, self.falls = False, False

    def see(self, workers: int = 5, busy: int = 0) -> None:
        self.modules = (ModuleLook(name="search_engine", category="phase2", workers=workers, busy=busy),)

    def look(self, done: Callable[[Snapshot], None]) -> None:
        seen = Snapshot(time_ms=self.now, modules=self.modules, categories=(), total_max=TOTAL_MAX)
        if self.slow:
            self.late.append(lambda: done(seen))
        else:
            done(seen)

    def act(self, made: Decision) -> None:
        """Do it, unless the scaler falls before it can."""
        if not self.falls:
            self.done.append(made)

    def handle(self, asks: Sequence[Ask], done: Callable[[Sequence[Outcome]], None]) -> None:
        if self.deaf and asks[0].decider.kind == "decision":
            done([Outcome(ask, ask.known, error=Unavailable()) for ask in asks])  # type: ignore[arg-type]  # unread
        else:
            self.log.handle(asks, done)

    def request(
        self,
        kind: str,
        verb: str,
        body: bytes,
        timeout: float,  # noqa: ARG002  the shape of the port
        done: Callable[[bytes | HindbrainError], None],
    ) -> None:
        assert (kind, verb, msgspec.json.decode(body)["sql"]) == ("query", "sql", LAST)
        rows = [[msgspec.to_builtins(each.data)] for each in self.made[-1:]]
        seq = len(self.log.since())
        done(msgspec.json.encode({"columns": [], "rows": rows, "seq": seq, "truncated": False}))

    @property
    def made(self) -> list[Made]:
        return [fact.event for fact in self.log.since() if isinstance(fact.event, Made)]

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.made]


class Play:
    """One scaler on a node of its own; what it is told is read at once."""

    def __init__(self, world: World, node: str = "node_a", policy: Policy | None = None) -> None:
        self.world, self.lease = world, Lease()
        self.resident = Resident(Profile(), paused=False)
        home = Home(node, f"boot_{node}", "http://localhost", residents={"scaler": self.resident})
        journal: Any = world
        self.scaler = Scaler(
            *(home, self.lease, journal, world, self.tell),
            look=world.look,
            act=world.act,
            policy=policy,
            clock=lambda: world.now,
        )

    def tell(self, message: Any) -> None:
        self.scaler.receive(message)

    def tick(self, seconds: float = 10.0) -> list[str]:
        """Let time pass for the world; what was decided meanwhile."""
        before = len(self.world.made)
        self.world.now += round(seconds * 1000)
        self.scaler.tick()
        return self.world.types[before:]


@pytest.fixture
def world() -> World:
    return World()


def test_it_decides_once_in_a_tick_and_has_it_done(world: World) -> None:
    play = Play(world)
    world.see(busy=5)
    assert play.tick() == ["scale_up"]
    (done,) = world.done
    assert (done.module, done.before, done.after) == ("search_engine", 5, 7)
    assert play.tick(9.9) == []
    world.see(busy=5, workers=7)
    assert play.tick(0.1) == []
    assert world.made[0].data["snapshot"]["time_ms"] == NOW + 10_000
    assert world.made[0].data["policy"] == msgspec.to_builtins(Policy())


def test_what_nobody_carried_out_is_decided_again_at_the_next_tick(world: World) -> None:
    play = Play(world)
    world.see(busy=5)
    assert [play.tick(), play.tick()] == [["scale_up"], ["scale_up"]]
    assert {each.after for each in world.done} == {7}, "which is the same wish once more"


def test_of_two_that_believe_it_is_theirs_one_decides_and_acts(world: World) -> None:
    one, other = Play(world), Play(world, "node_b")
    world.see(busy=5)
    assert one.tick() == ["scale_up"]
    assert other.tick(0.0) == []
    assert len(world.done) == 1


def test_one_that_falls_between_the_fact_and_the_deed_decides_nothing_twice(world: World) -> None:
    world.see(busy=5)
    world.falls = True
    assert Play(world).tick() == ["scale_up"]
    world.falls = False
    again = Play(world)
    assert again.tick(0.0) == []
    assert again.tick() == ["scale_up"], "still so at the next tick, so decided on what is seen then"
    assert len(world.done) == 1


def test_what_is_only_said_is_not_done_and_is_said_once_whoever_scales(world: World) -> None:
    play = Play(world)
    world.see(workers=7, busy=1)
    assert [play.tick(), play.tick(), play.tick()] == [["scale_down_suggested"], [], []]
    play.lease.left = 0.0
    assert play.tick() == []
    heir = Play(world, "node_b")
    assert [heir.tick(), heir.tick()] == [[], []]
    world.see(workers=7, busy=5)
    assert heir.tick() == []
    world.see(workers=7, busy=1)
    assert heir.tick() == ["scale_down_suggested"], "it was over in between"
    assert world.done == []


def test_what_could_not_be_stored_is_neither_done_nor_forgotten(world: World) -> None:
    play = Play(world)
    world.see(workers=7, busy=1)
    world.deaf = True
    assert play.tick() == []
    world.see(busy=5)
    assert play.tick() == []
    assert world.done == []
    world.deaf = False
    world.see(workers=7, busy=1)
    assert [play.tick(), play.tick()] == [["scale_down_suggested"], []]


def test_nothing_is_decided_on_a_look_that_came_too_late(world: World) -> None:
    play, world.slow = Play(world), True
    world.see(busy=5)
    assert [play.tick(), play.tick()] == [[], []]
    world.late[0]()
    assert world.made == []
    world.late[1]()
    assert world.types == ["scale_up"]


def test_a_paused_one_decides_nothing_and_goes_on_when_it_is_resumed(world: World) -> None:
    play = Play(world)
    world.see(busy=5)
    play.resident.paused = True
    assert play.tick() == []
    play.resident.paused = False
    assert play.tick() == ["scale_up"]


def test_whoever_loses_the_role_decides_no_more(world: World) -> None:
    play = Play(world)
    world.see(busy=4)
    assert play.tick() == []
    play.lease.left = 0.0
    world.see(busy=5)
    assert play.tick() == []
    assert world.done == []
