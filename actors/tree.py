"""Which processes belong to an execution, and how none of them gets away.

A process belongs to an attempt when any of these holds:

1. it was seen to belong before (same pid, same start time);
2. its environment carries the attempt's marker;
3. it stands in a session that a member began (the main process begins one);
4. its stdout or stderr is the attempt's file;
5. its parent belongs.

A process which clears its environment, begins its own session, sends its output elsewhere and loses its
parent before anybody looked belongs to nobody.
"""

from __future__ import annotations

import os
import signal

from actors import linux

TYPE_CHECKING = False  # what `typing` says too; importing it costs the keeper 0.7 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MARKER, NUMBER = "HINDBRAIN_EXECUTION_ID", "HINDBRAIN_ATTEMPT"
GONE = "ZX"  # states of processes that only wait to be reaped
SWEEPS = 50  # a fork bomb that is stopped this often is nearly all stopped; the next round goes on


class Tree:
    """The processes of one attempt as far as they were seen; `pid` and `start` name its main process."""

    __slots__ = ("files", "mark", "paths", "pid", "seen", "start")

    def __init__(self, execution: str, attempt: int, pid: int, start: int, paths: Iterable[str]):
        self.mark = (f"{MARKER}={execution}".encode(), f"{NUMBER}={attempt}".encode())
        self.pid, self.start = pid, start
        self.paths = tuple(paths)
        self.files: frozenset[tuple[int, int]] | None = None
        # Without a pid nobody is known yet: 0 would name the session of the kernel's threads and of whatever
        # came from outside of our pid namespace.
        self.seen: dict[int, int] = {pid: start} if pid else {}

    def marked(self, environ: bytes) -> bool:
        """Whether an environment carries the marker of this attempt."""
        first, second = self.mark
        return first in environ and {first, second} <= set(environ.split(b"\0"))

    def writes(self, process: linux.Stat) -> bool:
        """Whether a process has one of the attempt's files as its stdout or stderr."""
        if self.files is None:
            found: set[tuple[int, int]] = set()
            for path in self.paths:
                try:
                    seen = os.stat(path)  # noqa: PTH116 - pathlib costs memory
                except OSError:  # moved away meanwhile
                    continue
                if (seen.st_mode & 0o170000) == 0o100000:  # /dev/null belongs to everybody
                    found.add((seen.st_dev, seen.st_ino))
            self.files = frozenset(found)
        return bool(self.files and not self.files.isdisjoint(process.output()))

    def owns(self, process: linux.Stat) -> bool:
        """Whether a process belongs here by rule 1, 3 or 4, and remember it if so."""
        mine = (
            self.seen.get(process.pid) == process.start
            or (self.pid > 0 and process.session == self.pid)
            or self.seen.get(process.session, process.start + 1) <= process.start
            or self.writes(process)
        )
        if mine:
            self.seen[process.pid] = process.start
        return mine

    def members(self, table: dict[int, linux.Stat]) -> dict[int, linux.Stat]:
        """Find all living processes of the attempt in a table of all processes, and remember them."""
        self._refresh(table)
        later = [one for one in table.values() if one.start >= self.start and one.pid not in (1, os.getpid())]
        found: dict[int, linux.Stat] = {}
        for one in later:
            if self.seen.get(one.pid) == one.start or self.marked(one.env()) or self.writes(one):
                found[one.pid] = one
        size = -1
        while size != len(found):
            size = len(found)
            # A session is named by the pid that began it, which is used again only when the session is empty.
            sessions = {
                one.session for one in found.values() if one.session in self.seen or one.session in found
            }
            if self.pid and (self.pid not in table or table[self.pid].start == self.start):
                sessions.add(self.pid)
            for one in later:
                if one.pid not in found and (one.ppid in found or one.session in sessions):
                    found[one.pid] = one
        self.seen.update({one.pid: one.start for one in found.values()})
        return {pid: one for pid, one in found.items() if one.state not in GONE}

    def _refresh(self, table: dict[int, linux.Stat]) -> None:
        """Forget remembered pids that somebody else has now; keep the dead ones that still name a session."""
        sessions = {one.session for one in table.values()}
        for pid, start in list(self.seen.items()):
            now = table.get(pid)
            if (now and now.start != start) or (now is None and pid not in sessions and pid != self.pid):
                del self.seen[pid]

    def ask(self, table: dict[int, linux.Stat]) -> None:
        """TERM everybody, and wake the stopped ones so that they hear it."""
        for one in self.members(table).values():
            linux.send(one.pid, one.start, signal.SIGTERM, signal.SIGCONT)

    def kill(self, table: dict[int, linux.Stat]) -> int:
        """KILL everybody; answers how many there were.

        All are stopped first: a process with a signal waiting cannot finish a fork, so when a look finds
        nobody new, nobody new can come.
        """
        stopped: dict[int, int] = {}
        for _ in range(SWEEPS):
            fresh = [one for one in self.members(table).values() if stopped.get(one.pid) != one.start]
            if not fresh:
                break
            for one in fresh:
                stopped[one.pid] = one.start
                linux.send(one.pid, one.start, signal.SIGSTOP)
            table = linux.table()
        for pid, start in stopped.items():
            linux.send(pid, start, signal.SIGKILL)
        return len(stopped)


def owner(process: linux.Stat, attempts: dict[tuple[str, int], Any]) -> tuple[Any, bool]:
    """Tell which of some attempts with a `tree` a process without a parent belongs to, None for nobody.

    The second value is False when it is worth asking again: in the middle of an exec the environment is
    empty.
    """
    environ = process.env()
    if MARKER.encode() in environ:
        for one in attempts.values():
            if one.tree.marked(environ):
                one.tree.seen[process.pid] = process.start
                return one, True
    # The youngest first: its pid, the name of its session, may have been that of an older one before.
    for one in reversed(attempts.values()):
        if one.tree.owns(process):
            return one, True
    return None, bool(environ) or process.state in GONE
