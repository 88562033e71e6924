"""The commands of one keeper: how they begin, how their trees end, what is written before it is told.

A command whose keeper died is watched by the next one, but its exit code belongs to whoever is its parent
now (`claim`). An execution is over when its main process and everybody of its tree has ended.
"""

from __future__ import annotations

import errno
import heapq
import os
import sys
import time

from actors import linux, tree
from actors.journal import OVER, STATES, Journal
from actors.launch import launch

TYPE_CHECKING = False  # what `typing` says too; importing it costs the keeper 0.7 MB
if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.journal import Key, Record

PATIENCE = 1.0  # seconds for a new parent to speak up for an attempt of a keeper that died
POLL = 0.2  # seconds between looks at processes that are not our children
LOOK = 0.1  # seconds between looks at a tree that was asked to end
SWEEP = 0.02  # seconds between looks at a tree that is killed
DOUBTS = 5  # how often a process in the middle of an exec is looked at again, SWEEP apart
TYPES = {state: kind for kind, state in STATES.items()}


def say(text: str) -> None:
    """Write a line to keeper.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} keeper[{os.getpid()}] {text}\n")


class Attempt:
    """A command that has not ended, or whose tree has not."""

    __slots__ = (
        "adopted",
        "asked",
        "began",
        "claim",
        "end",
        "grace",
        "key",
        "kill_at",
        "killed",
        "look_at",
        "tree",
        "usage",
    )

    def __init__(self, record: Record, *, adopted: bool = False):
        self.key: Key = (record["execution"], record["attempt"])
        self.began: float = record["started_at"]
        self.grace: float = record["grace_ms"] / 1000
        self.killed: str | None = record.get("reason")
        self.asked, self.kill_at, self.look_at = False, 0.0, 0.0
        self.usage = [0.0, 0.0, 0]
        self.end: tuple[int | None, int | None] | None = None
        self.adopted = adopted
        self.claim: object = None  # the client that is its parent now
        paths = (record["stdout"], record["stderr"])
        self.tree = tree.Tree(*self.key, record.get("pid") or 0, record.get("start_time") or 0, paths)

    def add(self, user: float, system: float, rss: int) -> None:
        """Count what one of its processes used."""
        self.usage = [self.usage[0] + user, self.usage[1] + system, max(self.usage[2], rss)]


class Children:
    """All attempts of one data folder.

    `tell` is called with every message for everybody, `hold` with a pidfd that is readable when it is time
    to `watch`.
    """

    def __init__(self, journal: Journal, tell: Callable[[Record], None], hold: Callable[[int], None]):
        self.journal, self.tell, self.hold, self.pid = journal, tell, hold, os.getpid()
        self.attempts: dict[Key, Attempt] = {}
        self.mains: dict[int, Attempt] = {}
        self.orphans: dict[int, Attempt | None] = {}
        self.doubts: dict[int, int] = {}
        self.draining: dict[Key, Attempt] = {}
        self.killing: dict[Key, Attempt] = {}
        self.adopted: dict[Key, Attempt] = {}
        self.timers: list[tuple[float, Key]] = []
        self.born, self.poll_at = time.monotonic(), 0.0

    def due(self) -> list[float]:
        """Moments (monotonic) at which `work` has something to do without anybody asking."""
        moments = [one.look_at for one in self.killing.values()]
        if self.timers:
            moments.append(self.timers[0][0])
        if self.adopted:
            moments.append(self.poll_at)
        if self.doubts:
            moments.append(time.monotonic() + SWEEP)
        return moments

    def work(self) -> None:
        """Do all that is due."""
        self.reap()
        self.settle()
        self.watch()
        self.expire()
        self.sweep()

    def item(self, record: Record) -> Record:
        """What is known of an attempt, as it was told last."""
        return {"type": TYPES[record["state"]], **record}

    def record(self, message: Record) -> None:
        """Write down and then tell; on a full disk it is told all the same, and written when it can be."""
        if not self.journal.append(message):
            say(f"the journal could not be written, {len(self.journal.owed)} bytes wait")
        self.tell(message)

    def spawn(self, request: Record) -> Record | None:
        """Start a command, once: a second request for the same attempt answers what became of the first."""
        name: Record = {"execution": str(request["execution"]), "attempt": int(request["attempt"])}
        key = (name["execution"], name["attempt"])
        if known := self.journal.attempts.get(key):
            return self.item(known)
        failed: Record = {"type": "spawn_failed", **name}
        timeout, deadline, now = request.get("timeout_ms"), None, time.time()
        if timeout is not None:
            # The monotonic clock runs since boot for all processes: a keeper that comes later can read it.
            deadline = time.monotonic() + (timeout - request.get("deadline_ms_elapsed", 0)) / 1000
        intent = {"type": "intent", **name, "stdout": request["stdout"], "stderr": request["stderr"]}
        intent |= {"grace_ms": request["grace_ms"], "deadline": deadline, "started_at": now}
        try:
            if not self.journal.append(intent):
                raise OSError(errno.ENOSPC, "the keeper's journal cannot be written")  # noqa: TRY301 - told below
            pid = launch(request)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            number = (isinstance(error, OSError) and error.errno) or errno.EINVAL
            code = errno.errorcode.get(number, "EINVAL")
            self.record({**failed, "errno": number, "code": code, "message": str(error)})
            return None
        seen = linux.stat(pid)  # always there: a child that ended stays until it is reaped
        start = seen.start if seen else 0
        attempt = Attempt({**intent, "pid": pid, "start_time": start})
        self.attempts[key] = self.mains[pid] = attempt
        if deadline is not None:
            heapq.heappush(self.timers, (deadline, key))
        self.record({"type": "spawned", **name, "pid": pid, "start_time": start, "started_at": now})
        return None

    def recover(self) -> None:
        """Take up what a keeper before us left: what still runs is watched, but is not our child."""
        if self.journal.torn:
            say(f"{self.journal.torn} torn lines in the journal")
        left = [one for one in self.journal.attempts.values() if one["state"] not in OVER]
        table = linux.table() if left else {}
        for record in left:
            attempt = Attempt(record, adopted=True)
            name = {"execution": attempt.key[0], "attempt": attempt.key[1]}
            if record["boot_id"] != self.journal.boot:
                self.record({"type": "lost", **name, "pid": record.get("pid")})
                continue
            if not record.get("pid"):  # the keeper died between the start and writing it down
                found = sorted(
                    attempt.tree.members(table).values(), key=lambda one: (one.session != one.pid, one.start)
                )
                if not found:
                    self.record({"type": "lost", **name, "pid": None})
                    continue
                found_as = {"pid": found[0].pid, "start_time": found[0].start}
                attempt = Attempt({**record, **found_as}, adopted=True)
                self.record({"type": "spawned", **name, **found_as, "started_at": attempt.began})
            self.attempts[attempt.key] = self.adopted[attempt.key] = attempt
            if record["deadline"] is not None:
                heapq.heappush(self.timers, (record["deadline"], attempt.key))
            if attempt.killed:
                self.kill(attempt, attempt.killed, attempt.grace)
            if (fd := linux.pidfd(attempt.tree.pid)) is not None:
                self.hold(fd)

    def reap(self) -> None:
        """Take in all children that ended."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.doubts.pop(pid, None)
            if attempt := self.mains.pop(pid, None):
                code = os.waitstatus_to_exitcode(status)
                attempt.end = (code, None) if code >= 0 else (None, -code)
                self.draining[attempt.key] = attempt
            else:
                attempt = self.orphans.pop(pid, None)
            if attempt:
                unit = 1024 if linux.LINUX else 1
                attempt.add(usage.ru_utime, usage.ru_stime, usage.ru_maxrss * unit)

    def settle(self) -> None:
        """End the attempts whose main process has ended and of whose tree nobody is left.

        All orphans of our commands are our children; without any there is nothing to look at.
        """
        if not self.draining:
            return
        busy: set[Key] = set()
        for pid in linux.children(self.pid) if linux.LINUX else ():
            if pid in self.mains:
                continue
            if pid not in self.orphans and (seen := linux.stat(pid)):
                found, sure = tree.owner(seen, self.attempts)
                self.doubts[pid] = self.doubts.get(pid, 0) + 1
                if found or sure or self.doubts[pid] > DOUBTS:
                    self.orphans[pid] = found
                    del self.doubts[pid]
            if attempt := self.orphans.get(pid):
                busy.add(attempt.key)
        if not self.doubts:
            for attempt in [one for one in self.draining.values() if one.key not in busy]:
                self.over(attempt)

    def over(self, attempt: Attempt) -> None:
        """Write down and tell how an attempt ended."""
        for kept in (self.attempts, self.draining, self.killing, self.adopted):
            kept.pop(attempt.key, None)
        if len(self.timers) > 1000 + 2 * len(self.attempts):  # those of attempts that ended in time
            self.timers = [one for one in self.timers if one[1] in self.attempts]
            heapq.heapify(self.timers)
        message: Record = {
            "type": "lost",
            "execution": attempt.key[0],
            "attempt": attempt.key[1],
            "pid": attempt.tree.pid,
        }
        if attempt.end:
            message |= {
                "type": "exited",
                "exit_code": attempt.end[0],
                "signal": attempt.end[1],
                "killed": attempt.killed,
            }
            message |= {
                "started_at": attempt.began,
                "ended_at": time.time(),
                "max_rss_bytes": attempt.usage[2],
            }
            message |= {"user_seconds": attempt.usage[0], "system_seconds": attempt.usage[1]}
        self.record(message)

    def watch(self) -> None:
        """Look at processes that are not our children; how they end is for their parent to tell, or lost."""
        now = time.monotonic()
        if not self.adopted or now < self.poll_at:
            return
        self.poll_at = now + POLL
        table: dict[int, linux.Stat] = {}
        for attempt in [*self.adopted.values()]:
            seen = linux.stat(attempt.tree.pid)
            if seen and seen.start == attempt.tree.start and seen.state not in tree.GONE:
                continue
            if not attempt.end and (attempt.claim or now < self.born + PATIENCE):
                continue
            table = table or linux.table()
            if not attempt.tree.members(table):
                self.over(attempt)

    def expire(self) -> None:
        """Kill what has used up its time."""
        while self.timers and self.timers[0][0] <= time.monotonic():
            attempt = self.attempts.get(heapq.heappop(self.timers)[1])
            if attempt and not attempt.killed:
                self.kill(attempt, "timeout", attempt.grace)

    def kill(self, attempt: Attempt, reason: str, grace: float) -> None:
        """Begin to kill a tree.  The first reason stays; a later wish can only make it sooner."""
        now = time.monotonic()
        if attempt.key not in self.killing:
            attempt.kill_at, self.killing[attempt.key] = now + grace, attempt
        if attempt.killed is None:
            attempt.killed = reason
            name = {"execution": attempt.key[0], "attempt": attempt.key[1]}
            self.journal.append({"type": "killing", **name, "reason": reason, "grace_ms": int(grace * 1000)})
        attempt.kill_at = min(attempt.kill_at, now + grace)
        attempt.look_at = min(attempt.look_at, attempt.kill_at)

    def sweep(self) -> None:
        """Ask the trees that shall end, then kill them, and look again until nobody is left."""
        now = time.monotonic()
        due = [one for one in self.killing.values() if one.look_at <= now]
        if not due:
            return
        table = linux.table()
        for attempt in due:
            if now >= attempt.kill_at:
                attempt.tree.kill(table)
                attempt.look_at = now + SWEEP
                continue
            if attempt.asked:
                attempt.tree.members(table)  # to know them even when they lose their parents
            else:
                attempt.tree.ask(table)
                attempt.asked = True
            attempt.look_at = min(now + LOOK, attempt.kill_at)
        self.orphans = {pid: one for pid, one in self.orphans.items() if one}
