"""The foreman of a host takes jobs from the queue of its module, has workers run them, and states their ends.

A job is claimed in the log before its handler runs.  One whose handler is `repeatable` is run at once, and
claimed only when it takes longer than a moment; if it was quicker, its whole attempt is one fact.

It is long because a job's whole way through a host stands in one place: taken, run, watched and ended.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors import pulse
from actors.attempt import Claimed, Finished, Heard, Looked, Offered, born
from actors.files import Files
from actors.home import milliseconds
from actors.plugin import Handler
from actors.printing import Printing
from actors.pulse import Pulse
from actors.slots import Slots
from actors.task import Task
from actors.tray import Tray
from events import codec, execution, hosting
from events.errors import Conflict, HindbrainError, NotFound
from events.execution import EXECUTION, Began, State
from events.module import Profile
from events.ports import Ask, Delivery, Loaded, Log, Outcome, Outlet, Snapshot, Work

log = logging.getLogger(__name__)

MOMENT_SECONDS = 0.2
"""A repeatable job that takes longer is claimed like every other."""
AGAIN_SECONDS = 1.0
FOREIGN_SECONDS = 3.0
BEAT_SECONDS = 0.5
HARD = 1.05
"""At so many times the limit of its memory a host does not wait for the jobs in hand."""


@dataclass(frozen=True, slots=True)
class Done:
    """Workers are free again, and how their jobs ended is decided: they lie in the tray."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a job has written is safe."""

    task: Task


@dataclass(frozen=True, slots=True)
class Eager:
    """A running job has to be claimed before it can go on."""

    task: Task


class Foreman:
    """Claims, hands out, watches, ends."""

    every = 0.1

    def __init__(
        self,
        begin: hosting.Begin,
        profile: Profile,
        handlers: Mapping[str, Handler],
        journal: Log,
        work: Work,
        outlet: Outlet,
        files: Files,
        workers: Mapping[str, Callable[[Any], None]],
        done: Tray[Task],
        tell: Callable[[Any], None],
        say: Callable[[hosting.FromHost], None],
        end: Callable[[], None],
    ) -> None:
        self._begin, self._profile, self._handlers = begin, profile, handlers
        self._log, self._files = journal, files
        self._workers, self._tray = workers, done
        self._tell, self._say, self._end = tell, say, end
        self._printing = Printing(files, outlet, self._report, lambda task: tell(Written(task)))
        self._idle = deque(workers)
        self._slots = Slots(len(workers), work, self._offer)
        self._slots.ready = not begin.paused
        self._tasks: dict[str, Task] = {}
        """By execution, until the end is stored."""
        self._hands: dict[str, Task] = {}
        """By worker, until it is free again."""
        self._claims: list[Ask] = []
        self._ends: list[Ask] = []
        self._again: list[Task] = []
        self._pulse, self._beat = Pulse(workers), 0.0
        self._leaving: str | None = None
        self._patience: float | None = None
        self._over = False

    # ---- the mailbox -----------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Offered(deliveries):
                self._slots.take(deliveries)
            case Done():
                self._done()
            case Claimed(outcomes):
                for outcome in outcomes:
                    self._claimed(outcome)
            case Finished(outcomes):
                for outcome in outcomes:
                    self._finished(outcome)
            case Heard(facts):
                self._heard(facts)
            case Looked(delivery, loaded):
                self._looked(delivery, loaded)
            case Written(task):
                self._store_end(task)
            case Eager(task):
                self._claim(task)
            case hosting.Pause(on=on):
                self._slots.ready = not on
            case hosting.Retire(seconds=seconds):
                self._patience = None if seconds is None else time.monotonic() + seconds
                self._leave("it was told to end")
            case _:
                raise TypeError(f"the foreman has no use for a {type(message).__name__}")
        self._turn()

    def tick(self) -> None:
        """Look after what is in hand."""
        now = time.monotonic()
        self._slots.tick()
        self._done()
        again, self._again = self._again, []
        for task in again:
            self._store_end(task)
        for task in list(self._hands.values()):
            self._watch(task, now)
        if self._patience is not None and now > self._patience:
            self._give_back("shutdown")
        if self._profile.memory_bytes is not None:
            self._heed(pulse.memory(), self._profile.memory_bytes)
        if now - self._beat >= BEAT_SECONDS:
            self._beat = now
            self._tell_pulse(now)
        self._turn()

    def _turn(self) -> None:
        self._slots.fill()
        if self._claims:
            claims, self._claims = self._claims, []
            self._log.handle(claims, self._are_claimed)
        if self._ends:
            ends, self._ends = self._ends, []
            self._log.handle(ends, self._are_stored)
        if self._leaving is not None and not self._tasks and not self._over:
            self._over = True
            self._end()

    # ---- taking ----------------------------------------------------------------------------------------

    def _offer(self, delivery: Delivery) -> None:
        """There is a worker for it."""
        fact = delivery.fact
        if fact.entity in self._tasks:
            delivery.nak(AGAIN_SECONDS)
        elif fact.n == 1:
            self._take(delivery, born(fact))
        else:
            self._slots.defer()
            self._log.load(
                EXECUTION, [fact.entity], lambda loaded: self._tell(Looked(delivery, next(iter(loaded))))
            )

    def _looked(self, delivery: Delivery, loaded: Loaded) -> None:
        """What it was before is known now; an offer that something newer has overtaken is over."""
        self._slots.resume()
        state = loaded.snapshot.state
        if loaded.error is not None:
            delivery.nak(AGAIN_SECONDS)
        elif state.queued > delivery.fact.seq or state.phase in ("running", "over"):
            delivery.ack()
        elif not self._slots.free or delivery.fact.entity in self._tasks:
            delivery.nak(0.0)
        else:
            self._take(delivery, loaded.snapshot)

    def _take(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        job = snapshot.state.spec.job
        handler = self._handlers.get(job.type) if job else None
        if handler is None or not self._idle:
            # Another host of this module may have another version of the plugin, or a worker that is free.
            delivery.nak(FOREIGN_SECONDS if handler is None else 0.0)
            return
        worker = self._idle.popleft()
        entity, seq = delivery.fact.entity, delivery.fact.seq
        task = Task(
            entity, snapshot, delivery, seq, worker, lambda each: self._tell(Eager(each)), self._remember
        )
        self._tasks[entity] = self._hands[worker] = task
        self._slots.enter()
        log.debug("job started job_id=%s type=%s worker=%s", entity, job.type if job else "", worker)
        if handler.options.repeatable:
            self._workers[worker](task)
        else:
            self._claim(task)

    def _claim(self, task: Task) -> None:
        if task.claim != "no" or task.over:
            return
        task.claim = "asked"
        left = task.state.left
        command = execution.Start(
            node=self._begin.node,
            boot=self._begin.boot,
            log_path=str(self._files.output(task.entity, "stdout")),
            stdout_offset=left.stdout_bytes,
            stderr_offset=left.stderr_bytes,
            worker=task.worker,
            queued=task.queued,
        )
        self._claims.append(self._ask(task, command, task.snapshot))

    def _ask(self, task: Task, command: execution.AnyCommand, known: Snapshot[State] | None = None) -> Ask:
        return Ask(EXECUTION, task.entity, command, by=f"node:{self._begin.node}", known=known, tag=task)

    def _are_claimed(self, outcomes: Sequence[Outcome]) -> None:
        self._tell(Claimed(outcomes))

    def _are_stored(self, outcomes: Sequence[Outcome]) -> None:
        self._tell(Finished(outcomes))

    def _claimed(self, outcome: Outcome) -> None:
        task: Task = outcome.ask.tag
        state, us = outcome.snapshot.state, self._begin
        started = state.started
        ours = (
            state.phase == "running"
            and started is not None
            and (started.boot, started.worker) == (us.boot, task.worker)
        )
        if outcome.error is None or ours:
            task.snapshot, task.claim = outcome.snapshot, "yes"
            self._let(task, ack=True)
            task.claimed.set()
            self._printing.announce(task, task.state)
            if task.ending:
                self._store_end(task)
            elif not task.begun and self._hands.get(task.worker) is task:
                self._workers[task.worker](task)
            return
        self._let(task, ack=isinstance(outcome.error, Conflict | NotFound))
        self._drop(task)
        if not task.begun:
            self._free(task)
        elif not task.over:
            # It runs, and somebody else has it now: what it does here is for nothing.
            task.cancelled, task.over = True, True
            task.interrupt()

    def _let(self, task: Task, ack: bool) -> None:
        delivery, task.delivery = task.delivery, None
        if delivery is not None:
            delivery.ack() if ack else delivery.nak(AGAIN_SECONDS)

    # ---- ending ----------------------------------------------------------------------------------------

    def _done(self) -> None:
        """Workers are free."""
        for task in self._tray.take():
            self._free(task)
            self._close(task)

    def _close(self, task: Task) -> None:
        """How it ended is decided."""
        if task.finish is not None and not task.ending and self._tasks.get(task.entity) is task:
            task.ending = True
            if self._printing.end(task):
                self._store_end(task)

    def _free(self, task: Task) -> None:
        if self._hands.get(task.worker) is task:
            del self._hands[task.worker]
            self._idle.append(task.worker)
            self._slots.leave(task.began or time.monotonic())

    def _drop(self, task: Task) -> None:
        if self._tasks.get(task.entity) is task:
            del self._tasks[task.entity]
        self._printing.forget(task)

    def _store_end(self, task: Task) -> None:
        finish = self._printing.finish(task)
        if finish is None or task.claim == "asked" or self._tasks.get(task.entity) is not task:
            return  # it is stored once its claim is answered
        finish = msgspec.structs.replace(finish, now_ms=milliseconds(), jitter=random.random())  # noqa: S311 -- no secret
        command: execution.AnyCommand = finish
        known = None
        if task.claim == "no":
            if isinstance(finish, execution.Lose):
                self._let(task, ack=False)
                self._drop(task)
                return
            began = Began(
                node=self._begin.node,
                boot=self._begin.boot,
                at=codec.stamp(task.began_ms),
                worker=task.worker,
                log_path=str(self._files.output(task.entity, "stdout")),
            )
            given = {name: getattr(finish, name) for name in ("why", "end", "text", "now_ms", "jitter")}
            command, known = execution.Perform(queued=task.queued, began=began, **given), task.snapshot
        self._ends.append(self._ask(task, command, known))

    def _finished(self, outcome: Outcome) -> None:
        task: Task = outcome.ask.tag
        if outcome.error is not None and not isinstance(outcome.error, Conflict | NotFound):
            log.warning("%s: its end cannot be stored yet: %s", task.entity, outcome.error)
            self._again.append(task)
            return
        if outcome.error is not None:
            log.warning("%s: its end was decided elsewhere: %s", task.entity, outcome.error)
        self._let(task, ack=True)
        self._count(task)
        task.snapshot = outcome.snapshot
        if outcome.error is None:
            self._printing.announce(task, task.state)
        self._drop(task)

    def _count(self, task: Task) -> None:
        """One more has ended here."""
        self._pulse.ended(task)
        limit = self._profile.recycle_jobs
        if limit is not None and self._pulse.spent >= limit:
            self._leave(f"it has done {self._pulse.spent} jobs")

    # ---- watching --------------------------------------------------------------------------------------

    def _watch(self, task: Task, now: float) -> None:
        """Progress, time limits, requests to stop, and silence."""
        if not task.began:
            return
        self._printing.look(task, now)
        if task.claim == "no" and not task.over and now - task.began > MOMENT_SECONDS:
            self._claim(task)
        spec, silence = task.state.spec, self._profile.max_silence_seconds
        deadline, alone = task.deadline, self._profile.isolation == "process"
        if not task.over and deadline is not None and now > deadline:
            if task.close("timeout"):
                task.asked = now
                self._close(task)
        elif (
            not task.over
            and now - task.alive > silence
            and task.give_up(f"{task.worker} showed no sign of life for {silence:g} s")
        ):
            task.asked = now
            self._close(task)
        if not task.asked:
            return
        waited = now - task.asked
        cancel = task.state.cancel
        given = cancel.grace_ms if cancel is not None and cancel.grace_ms is not None else spec.grace_ms
        grace = 0.0 if task.over else given / 1000
        if waited >= grace and not task.hits:
            task.interrupt()
        elif waited >= grace + (0.3 if alone else 1.0 + task.hits):
            if task.hits < 3 and not alone:
                task.interrupt()
                return
            if task.cancelled and task.close("cancelled", "it did not stop"):
                self._close(task)
            self._leave(f"{task.worker} does not come back from {task.entity}", expected=False)
            if self._patience is None:
                self._patience = now + (0.0 if alone else 60.0)

    def _heard(self, facts: Sequence[codec.Fact] | None) -> None:
        if facts is None:
            known = [task.entity for task in self._tasks.values() if task.claim == "yes"]
            if known:
                self._log.load(EXECUTION, known, self._reread)
            return
        for fact in facts:
            task = self._tasks.get(fact.entity)
            if task is None or fact.seq <= task.snapshot.seq:
                continue
            if isinstance(fact.event, execution.CancelRequested):
                task.snapshot = Snapshot(execution.evolve(task.state, fact), fact.n, fact.seq)
                task.cancelled, task.asked = True, time.monotonic()
                if task.stop is not None:
                    task.interrupt()
            elif isinstance(fact.event, (*execution.TERMINAL, execution.AttemptLost)) and not task.over:
                log.warning("%s was ended by somebody else: stopping it", fact.entity)
                task.cancelled, task.over, task.asked = True, True, time.monotonic()
                self._drop(task)

    def _reread(self, loaded: Sequence[Loaded]) -> None:
        self._tell(Heard([fact for each in loaded for fact in each.facts]))

    def _leave(self, reason: str, expected: bool = True) -> None:
        """Take nothing more, and end when nothing is in hand."""
        if self._leaving is None:
            self._leaving = reason
            self._slots.draining = True
            self._say(hosting.Ended(reason=reason, expected=expected))

    def _give_back(self, reason: str) -> None:
        """Wait no longer: what is in hand goes back to the queue, or is lost."""
        self._patience = None
        for task in list(self._tasks.values()):
            if not task.over and task.give_up(reason):
                self._close(task)

    def _tell_pulse(self, now: float) -> None:
        """Say how this host is doing."""
        self._say(self._pulse.beat(self._hands, now))

    def _heed(self, memory: int, limit: int) -> None:
        """Leave when it is too much; when it is far too much, at once, and whoever wants more is stopped."""
        if memory > limit:
            self._leave(f"it uses {memory} bytes of memory, more than {limit}", expected=False)
        if memory > limit * HARD:
            self._give_back(f"its host used {memory} bytes of memory, more than {limit}")
            for task in self._hands.values():
                if not task.hits:
                    task.interrupt()

    # ---- what handlers need ----------------------------------------------------------------------------

    def _report(self, task: Task, command: execution.Report) -> None:
        self._log.handle([self._ask(task, command)], _noted)

    def _remember(self, task: Task, part: str, value: Any, stored: Callable[[Any], None]) -> None:
        """Called in the thread of a worker."""
        command = execution.Remember(attempt=task.attempt, part=part, value=value)

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.error is not None:
                    stored(outcome.error)
                else:
                    task.snapshot = outcome.snapshot
                    stored(outcome.snapshot.state.memory.get(part))

        self._log.handle([self._ask(task, command)], done)


def _noted(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        error: HindbrainError | None = outcome.error
        if error is not None:
            log.debug("%s: progress was not stored: %s", outcome.ask.entity, error)
