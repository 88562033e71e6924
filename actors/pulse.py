"""The pulse of a worker host: what its workers have done, what they are at, and what it costs."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from actors.task import Task
from events import execution, hosting

log = logging.getLogger(__name__)

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Pulse:
    """Counts what ended here, and says how it goes."""

    def __init__(self, workers: Iterable[str]) -> None:
        self._counts = {name: [0, 0] for name in workers}
        self._errors: list[str] = []
        self.spent = 0
        """How many jobs have ended here."""

    def ended(self, task: Task) -> None:
        """One more has ended."""
        finish, job = task.finish, task.state.spec.job
        good = isinstance(finish, execution.Finish) and finish.why == "returned"
        self._counts[task.worker][0 if good else 1] += 1
        self.spent += 1
        kind = job.type if job else ""
        duration = finish.end.duration_ms if isinstance(finish, execution.Finish) else 0
        told = ("completed" if good else "failed", task.entity, kind, task.worker, duration)
        level = logging.INFO if good else logging.WARNING
        log.log(level, "job %s job_id=%s type=%s worker=%s ms=%s", *told)
        if not good:
            self._errors = [*self._errors[-9:], f"{kind} {task.entity}: {_why(finish)}"]

    def beat(self, hands: Mapping[str, Task], now: float) -> hosting.Beat:
        """How it is doing; what went wrong is said once."""
        errors, self._errors = tuple(self._errors), []
        times = os.times()
        return hosting.Beat(
            workers=tuple(self._row(name, hands.get(name), now) for name in self._counts),
            memory_bytes=memory(),
            cpu_seconds=times.user + times.system,
            spent=self.spent,
            errors=errors,
        )

    def _row(self, name: str, task: Task | None, now: float) -> hosting.WorkerBeat:
        completed, failed = self._counts[name]
        if task is None or not task.began:
            return hosting.WorkerBeat(name=name, completed=completed, failed=failed)
        job = task.state.spec.job
        return hosting.WorkerBeat(
            name=name,
            job=task.entity,
            type=job.type if job else None,
            attempt=task.attempt,
            busy_seconds=round(now - task.began, 3),
            silent_seconds=round(now - task.alive, 3),
            completed=completed,
            failed=failed,
        )


def memory() -> int:
    """How many bytes of this process are in memory."""
    return int(_STATM.read_text().split()[1]) * _PAGE


def _why(finish: execution.Finish | execution.Lose | None) -> str:
    match finish:
        case execution.Lose(reason=reason):
            return reason
        case execution.Finish(text=text, why=why):
            return text or why
        case None:
            return ""
