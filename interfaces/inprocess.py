"""Tasks without a node: they run in this process, by the same rules, on a log that forgets.

A task runs in the thread of whoever submits it; what a module kept while it was paused runs in the thread of
whoever resumes it, the most urgent first.
"""

import asyncio
import heapq
import inspect
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.home import milliseconds
from bus.memory import Memory
from events import codec, execution, ids, job, module, spec
from events.asks import threads
from events.codec import Fact
from events.errors import NotFound
from events.execution import EXECUTION, End
from events.message import Command
from events.module import MODULE
from events.ports import Ask, Outcome

NAME = "in-process"
Entry = tuple[int, int, str, Callable[[], Any]]
"""How urgent, the how manieth, the task's id, and what to run."""
SHOWN = 200
"""Characters of each argument that the log keeps."""


@dataclass(slots=True)
class Counts:
    """What the log says of a module."""

    state: str = ""
    since: float = 0.0
    last: float = 0.0
    active: int = 0
    queued: int = 0
    completed: int = 0
    failed: int = 0
    errors: deque[str] = field(default_factory=lambda: deque[str](maxlen=10))


class InProcess:
    """Modules of this process, which have no workers of their own."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.log = Memory(milliseconds)
        """Everything that happened."""
        self._began, self._number = time.time(), itertools.count()
        self._modules = {name: Counts() for name in modules}
        self._whose: dict[str, Counts] = {}
        self._waiting: dict[str, list[Entry]] = {name: [] for name in modules}
        self._lock = threading.Lock()
        self.log.follow(self._heard)
        for name in modules:
            self._ask(MODULE, name, module.Declare(profile=module.Profile()))
            self._ask(MODULE, name, module.Start(reason="there is no node"))

    @property
    def waiting(self) -> int:
        """How many tasks wait for their module to be resumed."""
        return sum(map(len, self._waiting.values()))

    def submit(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], level: spec.Priority
    ) -> str:
        """Run it, unless its module is paused; answers its id."""
        self._check(name)
        label = f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', function)}"
        data = {"function": label, "args": [repr(each)[:SHOWN] for each in args]}
        wish = spec.check(spec.Submit(job=job.Job(type=f"{name}:call", data=data), priority=level))
        task_id = ids.fresh("execution", milliseconds())
        digest = codec.digest([codec.encode(wish)])[:32]
        self._ask(EXECUTION, task_id, execution.Submit(spec=wish, digest=digest, taken_by=NAME))
        entry = (spec.PRIORITIES.index(level), next(self._number), task_id, lambda: function(*args))
        with self._lock:
            heapq.heappush(self._waiting[name], entry)
        self._work(name)
        return task_id

    def turn(self, name: str, verb: str, reason: str) -> str:
        """Pause or resume a module; answers its state."""
        self._check(name)
        command = module.Pause(reason=reason) if verb == "pause" else module.Resume(reason=reason)
        self._ask(MODULE, name, command)
        self._work(name)
        return self._modules[name].state

    def threads(self, name: str | None) -> dict[str, Any]:
        """Say the same as a node does of its workers."""
        if name is not None:
            self._check(name)
        every, uptime = self._modules.values(), round(time.time() - self._began, 1)
        shown = threads.Threads(
            active_threads=sum(each.active for each in every),
            total_threads=0,
            categories={},
            stats=threads.Stats(
                total_threads_created=0,
                total_tasks_completed=sum(each.completed for each in every),
                total_tasks_failed=sum(each.failed for each in every),
                threads_auto_scaled=0,
                threads_restarted=0,
                uptime=uptime,
            ),
            uptime=uptime,
            module_threads={
                each: _thread(counts) for each, counts in self._modules.items() if name in (None, each)
            },
            enabled=False,
        )
        return msgspec.to_builtins(shown)

    def _check(self, name: str) -> None:
        if name not in self._modules:
            raise NotFound(f"Module not found: {name}; there are {', '.join(self._modules)}")

    def _ask(self, decider: Any, entity: str, command: Command) -> Outcome:
        found: list[Outcome] = []
        self.log.handle([Ask(decider, entity, command, by=NAME)], found.extend)
        if found[0].error is not None:
            raise found[0].error
        return found[0]

    def _work(self, name: str) -> None:
        while entry := self._next(name):
            self._run(*entry[2:])

    def _next(self, name: str) -> Entry | None:
        with self._lock:
            waiting = self._waiting[name]
            return heapq.heappop(waiting) if waiting and self._modules[name].state == "running" else None

    def _run(self, task_id: str, run: Callable[[], Any]) -> None:
        self._ask(EXECUTION, task_id, execution.Release(reason="idle"))
        start = execution.Start(node=NAME, boot=NAME, log_path="", worker=NAME)
        attempt = self._ask(EXECUTION, task_id, start).snapshot.state.attempt
        began, value, text = time.monotonic(), None, ""
        try:
            made = run()
            value = asyncio.run(_result(made)) if inspect.isawaitable(made) else made
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a task raises is how it ended
            text = f"{type(error).__name__}: {error}"
        end = End(
            ended_at=codec.stamp(milliseconds()),
            duration_ms=round(1000 * (time.monotonic() - began)),
            pid=os.getpid(),
            value=_plain(value),
        )
        finish = execution.Finish(attempt=attempt, why="raised" if text else "returned", end=end, text=text)
        self._ask(EXECUTION, task_id, finish)

    def _heard(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.kind == "module":
                self._told(self._modules[fact.entity], fact)
            elif isinstance(fact.event, execution.Queued | execution.Held) and fact.event.spec is not None:
                counts = self._whose[fact.entity] = self._modules[fact.event.spec.module]
                counts.queued += 1
            else:
                self._went(self._whose[fact.entity], fact)

    def _told(self, counts: Counts, fact: Fact) -> None:
        match fact.event:
            case module.Started() | module.Resumed():
                counts.state, counts.since = "running", counts.since or time.time()
            case module.Paused():
                counts.state = "paused"
            case _:
                return

    def _went(self, counts: Counts, fact: Fact) -> None:
        match fact.event:
            case execution.Started():
                counts.queued -= 1
                counts.active += 1
            case execution.Completed():
                counts.active -= 1
                counts.completed += 1
            case execution.Failed(error=error):
                counts.active -= 1
                counts.failed += 1
                counts.errors.appendleft(error.message)
            case _:
                return
        counts.last = time.time()


def _thread(counts: Counts) -> threads.Thread:
    ended = counts.completed + counts.failed
    return threads.Thread(
        state=counts.state,
        category="core",
        priority="medium",
        active=counts.active,
        total=0,
        tasks_completed=counts.completed,
        tasks_failed=counts.failed,
        success_rate=round(counts.completed / ended, 4) if ended else 1.0,
        uptime=round(time.time() - counts.since, 1),
        queue_size=counts.queued,
        last_activity=counts.last or counts.since,
        errors=list(counts.errors),
    )


async def _result(made: Any) -> Any:
    return await made


def _plain(value: Any) -> Any:
    """A result as the log keeps it; of what is no plain data, what it looks like."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError):
        return repr(value)[:SHOWN]
