"""What a server can do to a log: stand still, die, be full.  Nothing acknowledged is lost or stored twice."""

import asyncio
import os
import signal
from collections.abc import Generator

import pytest

from bus.bridge import Bridge
from bus.log import Log
from bus.reader import verify
from bus.server import Server
from bus.streams import definitions, ensure
from events.errors import Unavailable, UnknownOutcome
from events.execution import EXECUTION, Cancel
from events.ports import Ask, Outcome
from tests.contract.logs import NEW, START, SUBMIT, WITHIN, Lots, clock, facts_of, fresh, handle, submitted
from tests.waiting import until


@pytest.fixture
def cruel(own: Server) -> Generator[tuple[Server, Bridge]]:
    bridge = Bridge(own.url("node"), heartbeat=0.5)
    bridge.start()
    bridge.call(ensure(bridge.js), WITHIN)
    yield own, bridge
    bridge.stop()


def test_a_server_that_never_comes_back_ends_in_an_unknown_outcome(cruel: tuple[Server, Bridge]) -> None:
    server, bridge = cruel
    log = Log(bridge, clock, patience=1.0)
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
        until(lambda seen=seen: len(lots.lots) > seen)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
    outcomes: list[Outcome] = lots.wait(asked)
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
