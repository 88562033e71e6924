"""A writer of the log that lets executions live their lives as fast as they are stored."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from bus.bridge import Bridge
from bus.log import Log
from events import ids
from events.execution import EXECUTION, End, Finish, Start, State, Submit
from events.ports import Ask, Outcome, Snapshot
from events.spec import Exec, Spec

NEW: Snapshot[Any] = Snapshot(State())
SPEC = Spec(exec=Exec(program="/bin/true"), working_dir="/tmp")
SUBMIT = Submit(
    spec=SPEC, digest="8ebe76aac7480e7750debc406c7894f7", taken_by="node_01m822x8xt1xjcgpm29xccnmsx"
)
START = Start(node="node_01m822x8xt1xjcgpm29xccnmsx", boot="4f0b7d9e43496618", log_path="/x/exec_stdout.log")
END = End(exit_code=0, ended_at="2026-01-01T00:00:00.000Z", duration_ms=2, pid=4711, cpu_seconds=0.001)
FINISH = Finish(attempt=1, why="exited", end=END)
WITHIN = 300.0


def clock() -> int:
    return int(time.time() * 1000)


class Writer:
    """Appends whole lives: `queued`, `started`, `completed` of one execution after the other."""

    def __init__(self, bridge: Bridge) -> None:
        self._log = Log(bridge, clock)
        self._over = threading.Event()
        self._left = self._open = 0
        self._asked: dict[int, float] = {}
        self._took: list[float] = []
        self._error: BaseException | None = None

    def write(self, count: int, waiting: int) -> tuple[float, list[float]]:
        """Append so many events; the seconds for all of them, and for each."""
        self._left, self._open, self._took = count, 0, []
        self._over.clear()
        begun = time.perf_counter()
        self._ask([self._first() for _ in range(min(waiting, count))])
        if not self._over.wait(WITHIN):
            raise RuntimeError(f"only {len(self._took)} of {count} events were stored in {WITHIN:g} s")
        if self._error is not None:
            raise self._error
        return time.perf_counter() - begun, self._took

    def _first(self) -> Ask:
        return Ask(EXECUTION, ids.fresh("execution", clock()), SUBMIT, by="bench", known=NEW)

    def _ask(self, asks: Sequence[Ask]) -> None:
        now = time.perf_counter()
        asks = asks[: self._left]
        self._left -= len(asks)
        self._open += len(asks)
        for ask in asks:
            self._asked[id(ask)] = now
        if asks:
            self._log.handle(asks, self._done)

    def _done(self, outcomes: Sequence[Outcome]) -> None:
        now = time.perf_counter()
        self._open -= len(outcomes)
        following: list[Ask] = []
        for outcome in outcomes:
            if outcome.error is not None:
                self._error, self._left = outcome.error, 0
            self._took.append(now - self._asked.pop(id(outcome.ask)))
            match outcome.ask.command:
                case Submit():
                    following.append(self._next(outcome, START))
                case Start():
                    following.append(self._next(outcome, FINISH))
                case _:
                    following.append(self._first())
        self._ask(following)
        if not self._open:
            self._over.set()

    def _next(self, outcome: Outcome, command: Start | Finish) -> Ask:
        return Ask(EXECUTION, outcome.ask.entity, command, by="bench", known=outcome.snapshot)
