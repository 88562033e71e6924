"""Several writers on one server: they contend, believe what is no more, and still make one history."""

import threading
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from bus import frames, subjects
from bus.bridge import Bridge
from bus.log import Log
from bus.server import Server
from events import execution
from events.errors import AlreadyOver, Internal, NotFound
from events.execution import EXECUTION, Cancel
from events.ports import Ask, Outcome
from tests.contract.logs import (
    NEW,
    START,
    SUBMIT,
    WITHIN,
    Lots,
    clock,
    consistent,
    fresh,
    handle,
    load,
    submitted,
)


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
    heads = log._heads  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- no honest way leads to a false belief
    head = heads.get(source)
    assert head is not None
    heads.put(ghost, head)


def test_what_was_stored_is_told_as_brain_fact(bridge: Bridge) -> None:
    told: list[str] = []
    arrived = threading.Event()

    def hear(message: Any) -> None:
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


def test_what_the_asker_knows_is_gone_by_and_checked_by_the_stream(server: Server, bridge: Bridge) -> None:
    other = Bridge(server.url("node"))
    other.start()
    try:
        first, second = Log(bridge, clock), Log(other, clock)
        names = submitted(first, 20)
        born = {name: load(first, EXECUTION, name).snapshot for name in names}
        for outcome in handle(second, [Ask(EXECUTION, name, START, known=born[name]) for name in names[:10]]):
            assert outcome.error is None
            assert outcome.snapshot.n == 2
        # What is known is old by now: the stream refuses, and it is decided on what there is.
        handle(first, [Ask(EXECUTION, name, Cancel()) for name in names[10:]])
        late = handle(
            Log(other, clock), [Ask(EXECUTION, each, START, known=born[each]) for each in names[10:]]
        )
        assert {type(outcome.error) for outcome in late} == {AlreadyOver}
        # And what never was is no ground to stand on.
        lie = msgspec.structs.replace(born[names[0]], n=9, seq=born[names[0]].seq + 1000)
        (told,) = handle(Log(other, clock), [Ask(EXECUTION, names[0], Cancel(), known=lie)])
        assert isinstance(told.error, Internal)
        for name in names:
            consistent(load(first, EXECUTION, name), EXECUTION)
    finally:
        other.stop()
