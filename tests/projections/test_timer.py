"""The timer on real tables and a log in memory: what is due is done once, whoever plays and whoever died."""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.home import Home
from actors.role import Told
from actors.timer import Timer
from bus.memory import Memory
from events import execution
from events.calendar import When
from events.clock import millis, stamp
from events.codec import Fact
from events.errors import HindbrainError, Unavailable
from events.execution import EXECUTION, End, Finish, Held, Queued
from events.ports import Ask, Outcome
from events.schedule import SCHEDULE, Create, Created, Pause, Run, Tick, Ticked
from events.spec import Retries, Shell, Spec
from projections.queries import Queries
from projections.record import Record
from projections.store import Store

BORN = millis("2026-03-28T20:00:00Z")
ID = "sched_1"


class Lease:
    left = 4.0


class Player:
    """One node that plays the timer; what it is told waits until the test lets it be read."""

    def __init__(self, world: "World", name: str) -> None:
        self.letters: deque[Any] = deque()
        self.lease = Lease()
        home = Home(name, f"boot-{name}", "http://localhost")
        self.timer = Timer(home, self.lease, world.log, world, self.letters.append)
        world.players.append(self)

    def read(self, count: int = 1_000_000) -> None:
        while self.letters and count:
            self.timer.receive(self.letters.popleft())
            count -= 1

    def settle(self) -> None:
        """Go on until nothing more comes of it."""
        for _ in range(50):
            self.timer.tick()
            self.read()


class World:
    """A clock that the test moves, a log in memory, and real tables of it."""

    def __init__(self, folder: Path) -> None:
        self.now = BORN
        self.log = Memory(lambda: self.now)
        self.players: list[Player] = []
        self.store = Store(folder / "brain.duckdb")
        self.queries = Queries(self.store)
        self.log.follow(self._tell)

    def _tell(self, facts: Any) -> None:
        for player in self.players:
            role = player.timer
            theirs: list[Fact] = [
                f for f in facts if f.kind != "execution" or f.entity in role.watched or f.name in role.heeds
            ]
            player.letters.append(Told(theirs))

    def request(
        self,
        kind: str,
        verb: str,
        body: bytes,
        timeout: float,  # noqa: ARG002  the shape of the port
        done: Callable[[bytes | HindbrainError], None],
    ) -> None:
        if kind != "query":
            done(Unavailable(f"nobody answers {kind}.{verb}"))
            return
        ask = msgspec.json.decode(body)
        for fact in self.log.since(self.store.bookmark().seq):
            e = fact.envelope
            row = Record(
                fact.seq, fact.subject, e.id, e.time, e.cause, e.by, e.prev, e.trace, None, fact.body
            )
            self.store.apply([row])
        answer = self.queries.ask(ask["sql"], limit=ask["limit"])
        done(msgspec.json.encode({"columns": [], "rows": answer.rows, "seq": answer.seq}))

    def ask(self, decider: Any, entity: str, command: Any) -> Outcome:
        found: list[Outcome] = []
        self.log.handle([Ask(decider, entity, command, by="test")], found.extend)
        return found[0]

    def create(self, **wish: Any) -> None:
        made = Created(when=When(every_ms=1000), spec=Spec(shell=Shell(command="true")), **wish)
        self.ask(SCHEDULE, ID, Create(created=made, now_ms=self.now))

    def end(self, execution_id: str) -> None:
        """Have it run and end."""
        self.ask(EXECUTION, execution_id, execution.Start(node="n", boot="b", log_path="/x"))
        self.ask(EXECUTION, execution_id, Finish(attempt=1, why="exited", end=End(exit_code=0)))

    @property
    def granted(self) -> list[Ticked]:
        events = [fact.event for fact in self.log.since()]
        return [event for event in events if isinstance(event, Ticked) and event.child]

    def born(self) -> list[str]:
        return [f.entity for f in self.log.since() if f.kind == "execution" and f.n == 1]

    def status(self, entity: str) -> str:
        found: list[str] = []
        self.log.load(
            EXECUTION, [entity], lambda lot: found.extend(each.snapshot.state.status for each in lot)
        )
        return found[0]


@contextmanager
def opened(patch: pytest.MonkeyPatch) -> Generator[World]:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        patch.setattr("actors.timer.milliseconds", lambda: world.now)
        try:
            yield world
        finally:
            world.store.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    with opened(monkeypatch) as world:
        yield world


def test_each_tick_is_one_execution_of_that_schedule(world: World) -> None:
    world.create()
    player = Player(world, "node_a")
    for _ in range(60):
        world.now += 100
        player.settle()
    assert [event.tick for event in world.granted] == [stamp(BORN + 1000 * n) for n in range(1, 7)]
    assert world.born() == [event.execution_id for event in world.granted]
    queued = [f.event for f in world.log.since() if isinstance(f.event, Queued)]
    assert {event.spec.schedule_id for event in queued if event.spec} == {ID}


def test_what_was_granted_by_one_that_died_is_submitted_by_the_next(world: World) -> None:
    world.create(catch_up="all")
    world.now += 5000
    world.ask(SCHEDULE, ID, Tick(now_ms=world.now))
    assert (len(world.granted), world.born()) == (5, [])
    Player(world, "node_b").settle()
    assert world.born() == [event.execution_id for event in world.granted]
    assert len(world.granted) == 5


def test_a_run_by_hand_whose_desk_died_is_submitted_too(world: World) -> None:
    world.create()
    player = Player(world, "node_a")
    player.settle()
    world.ask(SCHEDULE, ID, Run(now_ms=world.now))
    player.settle()
    assert world.born() == [event.execution_id for event in world.granted]
    assert [event.manual for event in world.granted] == [True]


def test_after_downtime_the_policy_is_kept(world: World) -> None:
    world.create(catch_up="once", grace_ms=1000)
    Player(world, "node_a").settle()
    world.now += 60_500
    Player(world, "node_b").settle()
    assert [event.tick for event in world.granted] == [stamp(BORN + 59_000), stamp(BORN + 60_000)]


def test_a_paused_schedule_says_nothing(world: World) -> None:
    world.create()
    player = Player(world, "node_a")
    player.settle()
    world.ask(SCHEDULE, ID, Pause())
    world.now += 5000
    player.settle()
    Player(world, "node_b").settle()
    assert world.granted == []


def test_overlap_skip_waits_for_the_end_of_the_last_one(world: World) -> None:
    world.create(overlap="skip")
    player = Player(world, "node_a")
    for _ in range(4):
        world.now += 1000
        player.settle()
    assert len(world.granted) == 1
    # Another one takes over, and learns from the tables what still runs.
    player.lease.left = 0.0
    other = Player(world, "node_b")
    world.now += 1000
    other.settle()
    assert len(world.granted) == 1
    world.end(world.granted[0].execution_id or "")
    other.read()
    world.now += 1000
    other.settle()
    assert len(world.granted) == 2


def test_overlap_cancel_stops_the_last_one(world: World) -> None:
    world.create(overlap="cancel")
    player = Player(world, "node_a")
    for _ in range(3):
        world.now += 1000
        player.settle()
    states = [world.status(event.execution_id or "") for event in world.granted]
    assert states == ["cancelled", "cancelled", "queued"]


def test_overlap_queue_goes_on_when_the_last_one_is_over(world: World) -> None:
    world.create(overlap="queue", catch_up="all")
    player = Player(world, "node_a")
    for _ in range(3):
        world.now += 1000
        player.settle()
    assert len(world.granted) == 1
    for count in (2, 3):
        world.end(world.granted[-1].execution_id or "")
        player.settle()
        assert len(world.granted) == count
    assert [event.tick for event in world.granted] == [stamp(BORN + 1000 * n) for n in (1, 2, 3)]


def test_one_that_ended_while_nobody_watched_does_not_hold_up_the_next(world: World) -> None:
    world.create(overlap="skip")
    player = Player(world, "node_a")
    world.now += 1000
    player.settle()
    player.lease.left = 0.0
    other = Player(world, "node_b")
    other.timer.tick()
    other.read(1)  # it has been appointed, and the tables have answered: the first one runs
    world.end(world.granted[0].execution_id or "")
    world.now += 1000
    other.settle()
    assert len(world.granted) == 2


def delayed(world: World, entity: str, ms: int, **more: Any) -> None:
    spec = Spec(shell=Shell(command="true"), **more)
    command = execution.Submit(spec=spec, digest="d", taken_by="n", until=stamp(world.now + ms))
    world.ask(EXECUTION, entity, command)


def test_what_waits_for_a_time_is_released_then_and_not_before(world: World) -> None:
    delayed(world, "exec_1", 1000)
    player = Player(world, "node_a")
    player.settle()
    delayed(world, "exec_2", 500)
    seen: list[tuple[str, str]] = []
    for _ in range(3):
        player.settle()
        seen.append((world.status("exec_1"), world.status("exec_2")))
        world.now += 500
    assert seen == [("scheduled", "scheduled"), ("scheduled", "queued"), ("queued", "queued")]


def test_a_pause_after_a_failure_ends_when_it_should(world: World) -> None:
    spec = Spec(shell=Shell(command="false"), retries=Retries(max=3, backoff_ms=1000))
    world.ask(EXECUTION, "exec_1", execution.Submit(spec=spec, digest="d", taken_by="n"))
    player = Player(world, "node_a")
    player.settle()
    waits: list[int] = []
    for attempt in (1, 2, 3):
        world.ask(EXECUTION, "exec_1", execution.Start(node="n", boot="b", log_path="/x"))
        failed = Finish(attempt=attempt, why="exited", end=End(exit_code=1), now_ms=world.now, jitter=0.0)
        world.ask(EXECUTION, "exec_1", failed)
        began = world.now
        if attempt == 2:
            player.lease.left = 0.0
            player = Player(world, "node_b")
        player.settle()
        while not isinstance(world.log.since()[-1].event, Queued):
            world.now += 100
            player.settle()
        waits.append(world.now - began)
    assert waits == [1000, 2000, 4000]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["tick", "read", "time", "new"]), st.integers(0, 1), st.integers(1, 900)),
        max_size=60,
    ),
    st.sampled_from(["all", "once", "skip"]),
)
def test_two_that_both_believe_to_be_the_timer_do_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int, int]], policy: str
) -> None:
    """The lease makes it quick and quiet; the log alone makes it exact."""
    with opened(monkeypatch) as world:
        world.create(catch_up=policy, grace_ms=0 if policy == "skip" else 1000)
        for number in range(5):
            delayed(world, f"exec_{number}", 700 * number + 100)
        players = [Player(world, "node_0"), Player(world, "node_1")]
        for what, who, amount in steps:
            match what:
                case "tick":
                    players[who].timer.tick()
                case "read":
                    players[who].read(amount % 5)
                case "time":
                    world.now += amount
                case _:
                    players[who].letters.clear()
                    world.players.remove(players[who])
                    players[who] = Player(world, f"node_{who}")
        world.now += 5000
        for player in players:
            player.settle()
        children = [event.execution_id for event in world.granted]
        assert len(set(children)) == len(children)
        assert sorted(world.born()) == sorted([*map(str, children), *(f"exec_{n}" for n in range(5))])
        released = [f.entity for f in world.log.since() if isinstance(f.event, Queued) and f.n == 2]
        assert sorted(released) == [f"exec_{n}" for n in range(5)]
        for fact in world.log.since():
            if isinstance(fact.event, Queued) and fact.n == 2:
                held = next(f.event for f in world.log.since() if f.entity == fact.entity)
                assert isinstance(held, Held)
                assert fact.time >= (held.until or "")
        if policy == "all":
            last = (world.now - BORN) // 1000
            assert [event.tick for event in world.granted] == [
                stamp(BORN + 1000 * n) for n in range(1, last + 1)
            ]
