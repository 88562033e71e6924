"""What a job prints and how far it is: kept in its files, sent to listeners, and reported in the log."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

import msgspec

from actors.files import STREAMS, Files
from actors.home import milliseconds
from actors.task import Task
from events import codec, execution, view
from events.execution import End
from events.ports import Chunk, Outlet

TELL_SECONDS, REPORT_SECONDS = 0.1, 1.0
"""How often progress is told at most, and how often it is stored."""
CHUNK = 64 * 1024
LAST = 500
"""Characters of the last line that are kept."""


class Printed:
    """What one attempt has written."""

    def __init__(self, out: int, err: int) -> None:
        self.sizes = {"stdout": out, "stderr": err}
        self.first = dict(self.sizes)
        self.hashes = {stream: hashlib.sha256() for stream in STREAMS}
        self.last: tuple[str, str] | None = None
        """The last line that was not empty, and when it came."""
        self.told = self.reported = 0.0
        self.shown: object = None

    @property
    def any(self) -> bool:
        """Whether it wrote anything."""
        return self.sizes != self.first


class Printing:
    """Keeps the output of all jobs of a host."""

    def __init__(
        self,
        files: Files,
        outlet: Outlet,
        report: Callable[[Task, execution.Report], None],
        written: Callable[[Task], None],
    ) -> None:
        self._files, self._outlet, self._report, self._written = files, outlet, report, written
        self._printed: dict[Task, Printed] = {}

    def look(self, task: Task, now: float) -> None:
        """Pass on what is new, not too often."""
        if task.text:
            self._write(task)
        printed = self._printed.get(task)
        if task.progress is None and printed is None:
            return
        printed = self._of(task)
        shown = (task.progress, printed.last)
        if shown == printed.shown or task.over:
            return
        if now - printed.told >= TELL_SECONDS:
            printed.told = now
            self.announce(task, self._running(task, printed))
        if task.claim == "yes" and now - printed.reported >= REPORT_SECONDS:
            printed.reported, printed.shown = now, shown
            self._report(task, execution.Report(attempt=task.attempt, **self._numbers(task, printed)))

    def end(self, task: Task) -> bool:
        """Its end is decided: pass on the rest; True when that is safe, else `written` says so later."""
        if task.text:
            self._write(task)
        printed = self._printed.get(task)
        if printed is None or not printed.any or not self._last_attempt(task):
            return True
        stamp = codec.stamp(milliseconds())
        ends = [
            Chunk(task.entity, stream, printed.sizes[stream], task.attempt, stamp, b"", end=True)
            for stream in STREAMS
        ]
        self._outlet.output(ends, lambda _: self._written(task))
        return False

    def finish(self, task: Task) -> execution.Finish | execution.Lose | None:
        """Its end, with what it wrote."""
        finish, printed = task.finish, self._printed.get(task)
        if not isinstance(finish, execution.Finish) or printed is None:
            return finish
        more: dict[str, Any] = {
            "stdout_bytes": printed.sizes["stdout"],
            "stderr_bytes": printed.sizes["stderr"],
        }
        if not (printed.first["stdout"] or printed.first["stderr"]):
            more |= {f"{stream}_sha256": printed.hashes[stream].hexdigest() for stream in STREAMS}
        if printed.last is not None:
            more |= {"last_output": printed.last[0], "last_output_at": printed.last[1]}
        return msgspec.structs.replace(finish, end=msgspec.structs.replace(finish.end, **more))

    def forget(self, task: Task) -> None:
        """It is over and stored."""
        self._printed.pop(task, None)

    def announce(self, task: Task, state: execution.State) -> None:
        """Say on the progress subject where it stands."""
        self._outlet.progress("execution", task.entity, view.announcement(task.entity, state, milliseconds()))

    # ---- one by one ------------------------------------------------------------------------------------

    def _of(self, task: Task) -> Printed:
        found = self._printed.get(task)
        if found is None:
            left: End = task.state.left
            found = self._printed[task] = Printed(left.stdout_bytes, left.stderr_bytes)
        return found

    def _last_attempt(self, task: Task) -> bool:
        """Whether no later attempt can write behind this one."""
        return task.state.spec.retries is None and isinstance(task.finish, execution.Finish)

    def _write(self, task: Task) -> None:
        """Append what is new to the files, and publish it."""
        printed, chunks, now = self._of(task), list[Chunk](), milliseconds()
        stamp = codec.stamp(now)
        lines: list[str] = []
        parts = task.taken()
        for stream in STREAMS:
            data = b"".join(part for each, part in parts if each == stream)
            if not data:
                continue
            lines.append(f"{now} {stream} {len(data)}\n")
            _append(self._files.output(task.entity, stream), data)
            printed.hashes[stream].update(data)
            for start in range(0, len(data), CHUNK):
                piece = data[start : start + CHUNK]
                chunks.append(Chunk(task.entity, stream, printed.sizes[stream], task.attempt, stamp, piece))
                printed.sizes[stream] += len(piece)
            text = data.decode(errors="replace").rstrip()
            if text:
                printed.last = (text.rsplit("\n", 1)[-1][:LAST], stamp)
        _append(self._files.times(task.entity), "".join(lines).encode())
        self._outlet.output(chunks, _sent)

    def _numbers(self, task: Task, printed: Printed) -> dict[str, Any]:
        numbers: dict[str, Any] = {
            "progress": task.progress,
            "pid": os.getpid(),
            "stdout_bytes": printed.sizes["stdout"],
            "stderr_bytes": printed.sizes["stderr"],
        }
        if printed.last is not None:
            numbers |= {"last_output": printed.last[0], "last_output_at": printed.last[1]}
        return numbers

    def _running(self, task: Task, printed: Printed) -> execution.State:
        """The state as it would be if its last report were stored."""
        report = execution.Progressed(attempt=task.attempt, **self._numbers(task, printed))
        return msgspec.structs.replace(task.state, report=report, status="running")


def _append(path: Any, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _sent(good: bool) -> None:  # noqa: ARG001  the files have it all; who follows notices a gap and reads there
    return
