"""A long-lived entity that says all of itself now and then is read from there on, by any log."""

import threading
from collections.abc import Sequence
from typing import Any

from bus.bridge import Bridge
from bus.log import Log
from bus.memory import Memory
from events.calendar import When
from events.ports import Ask, Loaded, Outcome
from events.schedule import SCHEDULE, Create, Created, Look, Tick
from events.spec import Shell, Spec

NOW = 1_800_000_000_000
ID = "sched_long"


def asked(log: Any, command: Any) -> Outcome:
    """Have one command decided."""
    over, found = threading.Event(), list[Outcome]()

    def done(outcomes: Sequence[Outcome]) -> None:
        found.extend(outcomes)
        over.set()

    log.handle([Ask(SCHEDULE, ID, command)], done)
    assert over.wait(30)
    assert found[0].error is None, found[0].error
    return found[0]


def loaded(log: Log) -> Loaded:
    """Read it."""
    over, found = threading.Event(), list[Loaded]()

    def done(lot: Sequence[Loaded]) -> None:
        found.extend(lot)
        over.set()

    log.load(SCHEDULE, [ID], done)
    assert over.wait(30)
    return found[0]


def test_a_schedule_of_many_ticks_is_read_from_its_last_summary_on(bridge: Bridge) -> None:
    log, memory = Log(bridge, lambda: NOW), Memory(lambda: NOW)
    wish = Created(when=When(every_ms=1000), spec=Spec(shell=Shell(command="true")), catch_up="all")
    for each in (log, memory):
        asked(each, Create(created=wish, now_ms=NOW))
        for step in range(1, 15):
            asked(each, Tick(now_ms=NOW + step * 100_000))
    last = asked(memory, Look())
    other = Log(bridge, lambda: NOW)
    seen = asked(other, Look()).snapshot
    assert seen.n == last.snapshot.n > 1400
    assert (seen.hash, seen.seq) == ((fresh := asked(log, Look()).snapshot).hash, fresh.seq)
    assert (seen.state.cursor, seen.state.runs) == (NOW + 1_400_000, 1400)
    assert seen.state == fresh.state
    found = loaded(Log(bridge, lambda: NOW))
    assert found.snapshot.state == fresh.state
    assert (found.facts[0].name, found.facts[-1].n) == ("carried", seen.n)
    assert len(found.facts) < 500
    # It goes on from there: the next decision is made on what was read.
    after = asked(other, Tick(now_ms=NOW + 1_500_000))
    assert after.snapshot.state.runs == 1500
    for each in (log, other):
        asked(each, Look())
    bridge.call(log.stop(), 5)
    bridge.call(other.stop(), 5)
