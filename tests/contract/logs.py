"""What tests of a log need: questions, answers and what a history has to be."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from bus import subjects
from bus.bridge import Bridge
from bus.history import Record
from bus.reader import read_range
from events import codec, execution, ids, node
from events.execution import EXECUTION, Start, Submit
from events.ports import Ask, Decider, Loaded, Outcome, Snapshot
from events.ports import Log as AnyLog
from events.spec import Shell, Spec

WITHIN = 60.0  # only keeps a test that fails from hanging
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
    assert loaded.snapshot == Snapshot(state, len(loaded.facts), seq, prev, moment)


def several(count: int, size: int = 0) -> Decider[Any]:
    """Give rules that answer everything with so many events."""
    event = node.ActorRestarted(actor="a", reason="x" * size, restarts=1)
    return Decider("node", node.State(), lambda _state, _command: (event,) * count, node.evolve)


def facts_of(bridge: Bridge, first: int = 1) -> list[Record]:
    read: list[Record] = []
    bridge.call(read_range(bridge, first, None, read.extend), WITHIN)
    return read
