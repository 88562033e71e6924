"""One suite for both logs: what one promises, the other keeps.  Then what only a server can do to us."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from nats.aio.client import Client

from bus import frames, subjects
from bus.bridge import Bridge
from bus.history import Record
from bus.log import Log
from bus.memory import Memory
from bus.reader import read_range, verify
from bus.server import Server
from bus.streams import definitions, ensure
from events import codec, execution, ids, node
from events.errors import AlreadyOver, Internal, NotFound, TooLarge, Unavailable, UnknownOutcome, Validation
from events.execution import EXECUTION, Cancel, Release, Start, Submit
from events.ports import Ask, Decider, Loaded, Outcome, Snapshot
from events.ports import Log as AnyLog
from events.spec import Shell, Spec

WITHIN = 20.0
NEW: Snapshot[Any] = Snapshot(execution.State())
SUBMIT = Submit(spec=Spec(shell=Shell(command="true")), digest="d", taken_by="one")
START = Start(node="one", boot="b", log_path="/x")


def clock() -> int:
    return int(time.time() * 1000)


def fresh() -> str:
    return ids.fresh("execution", clock())


class Lots:
    """Collects what a log answers, and in which lots."""

    def __init__(self) -> None:
        self.lots: list[list[Any]] = []
        self._changed = threading.Condition()

    def __call__(self, lot: Sequence[Any]) -> None:
        with self._changed:
            self.lots.append(list(lot))
            self._changed.notify_all()

    def wait(self, count: int, within: float = WITHIN) -> list[Any]:
        """All answers once there are so many, and never more."""
        with self._changed:
            assert self._changed.wait_for(lambda: sum(map(len, self.lots)) >= count, within), self.lots
        answers = [answer for lot in self.lots for answer in lot]
        assert len(answers) == count
        return answers


def handle(log: AnyLog, asks: Sequence[Ask], within: float = WITHIN) -> list[Outcome]:
    lots = Lots()
    log.handle(asks, lots)
    answers: list[Outcome] = lots.wait(len(asks), within)
    place = {id(ask): index for index, ask in enumerate(asks)}
    return sorted(answers, key=lambda outcome: place[id(outcome.ask)])


def load(log: AnyLog, decider: Decider[Any], entity: str) -> Loaded:
    lots = Lots()
    log.load(decider, [entity], lots)
    return lots.wait(1)[0]


def submitted(log: AnyLog, count: int = 1) -> list[str]:
    names = [fresh() for _ in range(count)]
    for outcome in handle(log, [Ask(EXECUTION, name, SUBMIT, known=NEW) for name in names]):
        assert outcome.error is None
    return names


def consistent(loaded: Loaded, decider: Decider[Any]) -> None:
    """Check that a history is what it has to be: contiguous, chained, and what the pure fold makes of it."""
    assert loaded.error is None
    state, prev, seq, moment = decider.initial, "", 0, ""
    for n, fact in enumerate(loaded.facts, 1):
        assert (fact.n, fact.envelope.prev) == (n, prev)
        assert fact.seq > seq
        assert fact.time >= moment
        assert codec.decode(fact.kind, fact.body) == fact.event
        read = subjects.parse(fact.subject)
        assert isinstance(read, subjects.Event)
        assert (read.kind, read.id, read.n, read.event) == (fact.kind, fact.entity, n, fact.name)
        state = decider.evolve(state, fact)
        prev, seq, moment = codec.chain(fact.subject, fact.envelope, fact.body), fact.seq, fact.time
    assert loaded.snapshot == Snapshot(state, len(loaded.facts), seq, prev)


def several(count: int, size: int = 0) -> Decider[Any]:
    """Give rules that answer everything with so many events."""
    event = node.ActorRestarted(actor="a", reason="x" * size, restarts=1)
    return Decider("node", node.State(), lambda _state, _command: (event,) * count, node.evolve)


@pytest.fixture(params=["memory", "nats"])
def log(request: pytest.FixtureRequest) -> AnyLog:
    if request.param == "memory":
        return Memory(clock)
    return Log(request.getfixturevalue("bridge"), clock)


# ---- both ------------------------------------------------------------------------------------------------


def test_what_is_decided_is_stored_and_comes_back_as_facts(log: AnyLog) -> None:
    name = fresh()
    ask = Ask(EXECUTION, name, SUBMIT, by="client", cause="c", trace="00-1-2-01", known=NEW, tag=7)
    (outcome,) = handle(log, [ask])
    (fact,) = outcome.facts
    assert outcome.ask is ask
    assert outcome.error is None
    assert fact.subject == subjects.event("execution", name, 1, "queued", "commands", "medium")
    assert (fact.envelope.by, fact.envelope.cause, fact.envelope.trace) == ("client", "c", "00-1-2-01")
    assert (outcome.snapshot.n, outcome.snapshot.seq, outcome.snapshot.state.phase) == (1, fact.seq, "queued")
    loaded = load(log, EXECUTION, name)
    assert tuple(loaded.facts) == (fact,)
    assert loaded.snapshot == outcome.snapshot
    consistent(loaded, EXECUTION)


def test_an_entity_that_does_not_exist_has_the_initial_state(log: AnyLog) -> None:
    assert load(log, EXECUTION, fresh()).snapshot == NEW


def test_a_released_execution_is_queued_under_the_module_and_priority_it_was_held_with(log: AnyLog) -> None:
    name = fresh()
    spec = Spec(shell=Shell(command="true"), module="builds", priority="high")
    hold = Submit(spec=spec, digest="d", taken_by="one", held="time")
    _, released = handle(
        log, [Ask(EXECUTION, name, hold, known=NEW), Ask(EXECUTION, name, Release(), known=NEW)]
    )
    assert released.facts[0].subject.endswith(".2.queued.builds.high")
    consistent(load(log, EXECUTION, name), EXECUTION)


def test_started_and_cancelled_in_one_flush_exactly_one_is_stored(log: AnyLog) -> None:
    """Both would fit the queued execution; a log that decides both on it stores both."""
    names = submitted(log, 40)
    asks = [Ask(EXECUTION, name, command) for name in names for command in (Cancel(), START)]
    outcomes = handle(log, asks)
    for name, cancelled, started in zip(names, outcomes[::2], outcomes[1::2], strict=True):
        assert [fact.name for fact in cancelled.facts] == ["cancelled"]
        assert isinstance(started.error, AlreadyOver)
        loaded = load(log, EXECUTION, name)
        assert [fact.name for fact in loaded.facts] == ["queued", "cancelled"]
        consistent(loaded, EXECUTION)


def test_a_refusal_and_nothing_to_do_are_answers(log: AnyLog) -> None:
    (name,) = submitted(log)
    asks = [
        Ask(EXECUTION, fresh(), START, known=NEW),
        Ask(EXECUTION, name, SUBMIT, known=NEW),
        Ask(EXECUTION, "Not A Word", SUBMIT, known=NEW),
        Ask(EXECUTION, name, START, by="a\r\nNats-Rollup: all"),
    ]
    missing, repeated, nameless, injected = handle(log, asks)
    assert isinstance(missing.error, NotFound)
    assert (repeated.error, list(repeated.facts), repeated.snapshot.n) == (None, [], 1)
    assert isinstance(nameless.error, Validation)
    assert isinstance(injected.error, Validation)


def test_rules_that_break_are_one_answer(log: AnyLog) -> None:
    def broken(_state: Any, _command: Any) -> tuple[()]:
        raise ZeroDivisionError

    (outcome,) = handle(log, [Ask(Decider("node", node.State(), broken, node.evolve), "one", Cancel())])
    assert isinstance(outcome.error, Internal)
    (name,) = submitted(log)
    assert handle(log, [Ask(EXECUTION, name, Cancel())])[0].error is None


def test_an_event_that_is_too_large_is_refused_and_its_neighbours_are_stored(log: AnyLog) -> None:
    names = [fresh() for _ in range(30)]
    big = Submit(spec=Spec(code="x" * 9_000_000), digest="d", taken_by="one")
    asks = [Ask(EXECUTION, name, big if at == 7 else SUBMIT, known=NEW) for at, name in enumerate(names)]
    outcomes = handle(log, asks)
    assert [type(outcome.error) for outcome in outcomes if outcome.error] == [TooLarge]
    assert isinstance(outcomes[7].error, TooLarge)
    assert load(log, EXECUTION, names[7]).snapshot.n == 0
    assert handle(log, [Ask(several(1001), names[7], Cancel())])[0].error.__class__ is TooLarge


def test_the_events_of_one_decision_stand_next_to_each_other(log: AnyLog) -> None:
    rules, name = several(3), fresh()
    asks = [Ask(rules, name, Cancel()), *(Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(5))]
    outcome = handle(log, asks)[0]
    assert [fact.seq - outcome.facts[0].seq for fact in outcome.facts] == [0, 1, 2]
    consistent(load(log, rules, name), rules)


def test_an_entity_of_thousands_of_events_is_read_whole(log: AnyLog) -> None:
    rules, name = several(900), fresh()
    handle(log, [Ask(rules, name, Cancel()) for _ in range(3)])
    loaded = load(log, rules, name)
    assert loaded.snapshot.n == 2700
    consistent(loaded, rules)


@pytest.mark.parametrize("made", ["memory", "nats"])
def test_time_of_an_entity_never_goes_back(made: str, request: pytest.FixtureRequest) -> None:
    moments = iter([5_000, 4_000, 6_000])

    def clock() -> int:
        return next(moments)

    bridge: Bridge = request.getfixturevalue("bridge")
    log: AnyLog = Memory(clock) if made == "memory" else Log(bridge, clock)
    name = fresh()
    outcomes = handle(log, [Ask(several(1), name, Cancel(), known=NEW) for _ in range(3)])
    said = [outcome.facts[0].time for outcome in outcomes]
    assert said == [codec.stamp(5_000), codec.stamp(5_000), codec.stamp(6_000)]


def test_five_hundred_at_once_over_a_hundred_entities_are_what_the_rules_say(log: AnyLog) -> None:
    names = [fresh() for _ in range(100)]
    steps = [SUBMIT, START, execution.Report(attempt=1), SUBMIT, execution.Lose(attempt=1, reason="r")]
    per_thread = [names[at::4] for at in range(4)]
    lots = Lots()

    def ask(mine: list[str]) -> None:
        for step in steps:
            for name in mine:
                log.handle([Ask(EXECUTION, name, step, known=NEW)], lots)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in per_thread]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes: list[Outcome] = lots.wait(500)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    for name in names:
        loaded = load(log, EXECUTION, name)
        said = [fact.name for fact in loaded.facts]
        assert said == ["queued", "started", "progressed", "attempt_lost", "failed"]
        consistent(loaded, EXECUTION)
    seqs = sorted(fact.seq for outcome in outcomes for fact in outcome.facts)
    assert seqs == list(range(seqs[0], seqs[0] + 500))


# ---- only on a server ------------------------------------------------------------------------------------


def facts_of(bridge: Bridge, first: int = 1) -> list[Record]:
    read: list[Record] = []
    bridge.call(read_range(bridge, first, None, read.extend), WITHIN)
    return read


def test_outcomes_of_one_batch_come_in_one_lot(bridge: Bridge) -> None:
    lots = Lots()
    Log(bridge, clock).handle([Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(200)], lots)
    lots.wait(200)
    assert len(lots.lots) == 1


def test_two_writers_that_contend_still_make_one_history_of_each_entity(
    server: Server, bridge: Bridge
) -> None:
    other = Bridge(server.url("node"))
    other.start()
    try:
        writers = [Log(bridge, clock), Log(other, clock)]
        names = submitted(writers[0], 40)
        lots = Lots()
        for _ in range(4):
            for log in writers:
                log.handle([Ask(EXECUTION, name, START) for name in names], lots)
                log.handle([Ask(EXECUTION, name, execution.Report(attempt=1)) for name in names], lots)
        for log in writers:
            log.handle([Ask(EXECUTION, name, Cancel()) for name in names], lots)
        outcomes: list[Outcome] = lots.wait(40 * 18)
        stored = [fact.envelope.id for outcome in outcomes for fact in outcome.facts]
        assert len(stored) == len(set(stored))
        kept: list[str] = []
        for name in names:
            loaded = load(writers[1], EXECUTION, name)
            consistent(loaded, EXECUTION)
            said = [fact.name for fact in loaded.facts]
            assert said.count("started") == 1
            assert said.count("cancel_requested") == 1
            kept += [fact.envelope.id for fact in loaded.facts[1:]]
        assert sorted(kept) == sorted(stored)
    finally:
        other.stop()


def test_a_culprit_in_a_batch_does_not_hurt_its_neighbours(server: Server, bridge: Bridge) -> None:
    """One writer remembers entities that another one has moved on since."""
    mine, other = Log(bridge, clock), Log(bridge, clock)
    names = submitted(mine, 100)
    for name in (names[3], names[50], names[99]):
        assert handle(other, [Ask(EXECUTION, name, Cancel())])[0].error is None
    outcomes = handle(mine, [Ask(EXECUTION, name, START) for name in names])
    refused = [name for name, outcome in zip(names, outcomes, strict=True) if outcome.error]
    assert refused == [names[3], names[50], names[99]]
    assert all(isinstance(outcome.error, AlreadyOver) for outcome in outcomes if outcome.error)
    for name in names:
        consistent(load(mine, EXECUTION, name), EXECUTION)


def test_a_culprit_whom_the_server_does_not_name_is_found_all_the_same(bridge: Bridge) -> None:
    """One of them believes in an entity that is not there: the server says 0, which is nobody."""
    log = Log(bridge, clock)
    names = submitted(log, 60)
    # A head that nobody ever stored, as after the loss of the end of a log.
    bridge.call(_believe(log, ("execution", names[41]), ("execution", ghost := fresh())), WITHIN)
    asks = [Ask(EXECUTION, name, START) for name in (*names[:41], ghost, *names[42:])]
    outcomes = handle(log, asks)
    assert [outcome.error.__class__ for outcome in outcomes if outcome.error] == [NotFound]
    assert isinstance(outcomes[41].error, NotFound)


async def _believe(log: Log, source: tuple[str, str], ghost: tuple[str, str]) -> None:
    heads = log._heads  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  no honest way leads to a false belief
    head = heads.get(source)
    assert head is not None
    heads.put(ghost, head)


def test_what_was_stored_is_told_as_brain_fact(bridge: Bridge) -> None:
    told: list[str] = []
    arrived = threading.Event()

    async def hear(message: Any) -> None:
        told.append(message.subject)
        if len(told) == 20:
            arrived.set()

    names = [fresh() for _ in range(20)]
    bridge.call(bridge.subscribe("brain.fact.execution.>", hear), WITHIN)
    outcomes = handle(Log(bridge, clock), [Ask(EXECUTION, name, SUBMIT, known=NEW) for name in names])
    assert arrived.wait(WITHIN)
    assert told == [subjects.fact(outcome.facts[0].subject) for outcome in outcomes]


def test_without_the_private_transport_it_works_the_same(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_client: Client) -> bool:
        return False

    monkeypatch.setattr(frames, "plain", never)
    log = Log(bridge, clock)
    for count in (3, 50):
        for name in submitted(log, count):
            consistent(load(log, EXECUTION, name), EXECUTION)


@pytest.fixture
def cruel(own: Server) -> Generator[tuple[Server, Bridge]]:
    bridge = Bridge(own.url("node"), heartbeat=0.5)
    bridge.start()
    bridge.call(ensure(bridge.js), WITHIN)
    yield own, bridge
    bridge.stop()


def test_a_server_that_never_comes_back_ends_in_an_unknown_outcome(cruel: tuple[Server, Bridge]) -> None:
    server, bridge = cruel
    log = Log(bridge, clock, patience=3.0)
    name = submitted(log)[0]
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        (outcome,) = handle(log, [Ask(EXECUTION, name, START)])
        assert isinstance(outcome.error, UnknownOutcome)
        assert outcome.error.details == {"entity": name}
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_killed_servers_lose_nothing_that_was_acknowledged_and_store_nothing_twice(
    cruel: tuple[Server, Bridge],
) -> None:
    server, bridge = cruel
    log = Log(bridge, clock)
    lots = Lots()
    asked = 0
    for _ in range(3):
        for _ in range(8):
            log.handle([Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(150)], lots)
            asked += 150
        seen = len(lots.lots)
        assert _until(lambda seen=seen: len(lots.lots) > seen)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
    outcomes: list[Outcome] = lots.wait(asked, 40)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    records = facts_of(bridge)
    assert [record.seq for record in records] == list(range(1, asked + 1))
    stored = {record.envelope.id: record.seq for record in records}
    assert len(stored) == asked
    assert stored == {fact.envelope.id: fact.seq for outcome in outcomes for fact in outcome.facts}
    assert bridge.call(verify(bridge), WITHIN) is None


@pytest.mark.parametrize("count", [3, 100])
def test_what_was_stored_without_an_answer_is_found_and_not_stored_again(
    cruel: tuple[Server, Bridge], count: int
) -> None:
    """The frames lie in the socket of a server that stands still; the connection is given up meanwhile."""
    server, bridge = cruel
    log, lots = Log(bridge, clock), Lots()
    submitted(log)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        log.handle([Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(count)], lots)
        bridge.call(_give_up(bridge), WITHIN)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    outcomes: list[Outcome] = lots.wait(count)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    stored = {record.envelope.id: record.seq for record in facts_of(bridge, 2)}
    assert stored == {fact.envelope.id: fact.seq for outcome in outcomes for fact in outcome.facts}
    assert sorted(stored.values()) == list(range(2, count + 2))


async def _give_up(bridge: Bridge) -> None:
    for _ in range(5):  # the turns of the loop that an append needs to reach the socket
        await asyncio.sleep(0)
    bridge.doubt("the test says so")


def test_whoever_waits_when_the_log_stops_is_told_what_is_known(cruel: tuple[Server, Bridge]) -> None:
    server, bridge = cruel
    log, lots = Log(bridge, clock), Lots()
    name = submitted(log)[0]
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        log.handle([Ask(EXECUTION, name, START), Ask(EXECUTION, name, Cancel())], lots)
        bridge.call(log.stop(), WITHIN)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    outcomes: list[Outcome] = lots.wait(2)
    assert [type(outcome.error) for outcome in outcomes] == [UnknownOutcome, Unavailable]


def test_a_full_log_says_so(own: Server) -> None:
    bridge = Bridge(own.url("node"))
    bridge.start()
    try:
        bridge.call(ensure(bridge.js, definitions(events_bytes=64 * 1024)), WITHIN)
        log = Log(bridge, clock)
        lot = [Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(300)]
        errors = {str(outcome.error) for outcome in handle(log, lot)}
        assert errors == {"the log refuses appends: maximum bytes exceeded"}
    finally:
        bridge.stop()


def _until(true: Callable[[], bool], within: float = WITHIN) -> bool:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.002)
    return True
