"""How the node talks to its keeper, and what it does when the keeper dies.

The keeper is found or started, asked what it knows (`Attempts`), and then heard by one thread that hands
messages over in lots.  A keeper that dies is replaced, and all that was asked and not answered is asked
again: starting is safe to ask twice.  Its commands become children of this process (a subreaper); their
exit codes are taken from the kernel here and given to the new keeper, which writes them down and tells them
like any others.

Only children named by the keeper are waited for, one by one: other libraries here have children of their own.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from actors import linux
from actors.kept import (
    Adopted,
    Attempts,
    Exited,
    Killing,
    Limits,
    Lost,
    Message,
    Pong,
    Refused,
    Spawn,
    Spawned,
    SpawnFailed,
    Unknown,
    read,
)
from actors.reach import dial, launch
from actors.tree import GONE, Tree

__all__ = [
    "Adopted",
    "Attempts",
    "Exited",
    "Keeper",
    "KeeperUnavailable",
    "Killing",
    "Limits",
    "Lost",
    "Message",
    "Pong",
    "Refused",
    "Spawn",
    "SpawnFailed",
    "Spawned",
    "Unknown",
]

log = logging.getLogger(__name__)

SPAWN = tuple(each.name for each in fields(Spawn))
AGAIN = 1.0  # seconds until what a callback failed on is told again
WATCH = 0.05  # seconds between looks at commands taken over from a keeper that died
Key = tuple[str, int]


class KeeperUnavailable(Exception):
    """No keeper answers, and none could be started."""


@dataclass(slots=True)
class Ward:
    """A command of a keeper that died, now our child."""

    tree: Tree
    attempt: int
    end: dict[str, Any] | None = None


class Keeper:
    """The node's side of the keeper of a data folder.

    `on_messages` gets lots of messages in the thread of this client, `Attempts` first; when it raises, that
    is logged and all is told again from the keeper's memory.  An end may be told more than once, until it
    is forgotten.
    """

    def __init__(
        self,
        data: Path,
        on_messages: Callable[[list[Message]], None],
        *,
        subreaper: bool = True,
        linger: float = 10.0,
    ):
        self.folder, self.on_messages = data.absolute() / "keeper", on_messages
        self.subreaper, self.linger = subreaper, linger
        self.pid: int | None = None
        self._lock = threading.Lock()
        self._outbox: list[bytes] = []
        self._open: dict[
            Key, dict[str, dict[str, Any]]
        ] = {}  # asked and not over: sent again to a new keeper
        self._wards: dict[Key, Ward] = {}
        self._children: set[int] = set()
        self._ready, self._stop = threading.Event(), threading.Event()
        self._wake_read, self._wake_write = -1, -1
        self._again: float | None = None
        self._thread: threading.Thread | None = None

    # -- for everybody -------------------------------------------------------------------------------------

    def start(self, seconds: float = 10.0) -> None:
        """Find or start the keeper; its first `Attempts` is handed over then.  Raises KeeperUnavailable."""
        if self._thread:
            return
        if self.subreaper and not linux.subreaper():
            log.warning("this system has no subreapers: commands of a keeper that dies end as lost")
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)
        self._thread.start()
        if not self._ready.wait(seconds):
            self.close()
            raise KeeperUnavailable(
                f"no keeper answers in {self.folder} after {seconds} s; see keeper.log there"
            )

    def spawn(self, request: Spawn) -> None:
        """Ask for a command; answered by `Spawned`, `SpawnFailed` or what became of that attempt before."""
        # Not `asdict`: it copies the whole environment, name by name.
        body = {name: getattr(request, name) for name in SPAWN}
        body["limits"] = None if request.limits is None else asdict(request.limits)
        self._ask({"type": "spawn", **body}, keep=True)

    def kill(self, execution: str, attempt: int, reason: str, grace_ms: int) -> None:
        """Ask to end a tree: TERM, KILL after `grace_ms`; answered by `Killing`, `Unknown` or its end."""
        request = {
            "type": "kill",
            "execution": execution,
            "attempt": attempt,
            "reason": reason,
            "grace_ms": grace_ms,
        }
        self._ask(request, keep=True)

    def forget(self, execution: str, attempt: int) -> None:
        """Say that the end of an attempt is stored for good elsewhere."""
        self._ask({"type": "forget", "execution": execution, "attempt": attempt})

    def list(self) -> None:
        """Ask for `Attempts`."""
        self._ask({"type": "list"})

    def ping(self) -> None:
        """Ask for `Pong`."""
        self._ask({"type": "ping"})

    def retire(self) -> None:
        """Say that no node is here any more: the keeper ends with its last command."""
        self._ask({"type": "retire"})

    def close(self) -> None:
        """Stop listening; the keeper and its commands go on.  What was asked before is sent first (1 s)."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        self._wake()
        if thread is not threading.current_thread():
            thread.join()
            os.close(self._wake_read)
            os.close(self._wake_write)
        self._ready.clear()

    # -- the thread ----------------------------------------------------------------------------------------

    def _ask(self, request: dict[str, Any], *, keep: bool = False) -> None:
        with self._lock:
            if keep:
                self._open.setdefault((request["execution"], request["attempt"]), {})[request["type"]] = (
                    request
                )
            self._outbox.append(msgspec.json.encode(request) + b"\n")
            first = len(self._outbox) == 1
        if first:
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except (
            OSError
        ):  # the pipe is full, so it wakes; or the client is not started, and will look by itself
            return

    def _run(self) -> None:
        pause = 0.01
        while not self._stop.is_set():
            try:
                with self._connect() as sock:
                    self._converse(sock)
            except OSError as error:
                log.info("no keeper in %s: %s", self.folder, error)
            except Exception:
                log.exception("the talk with the keeper broke off; trying again")
            self._reap_keepers()
            self._stop.wait(pause)
            pause = min(pause * 2, 1.0) if not self._ready.is_set() else 0.01

    def _connect(self) -> socket.socket:
        """Reach the keeper, starting one if nobody answers."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        until, pause, next_try = time.monotonic() + 5, 0.1, 0.0
        while True:
            try:
                return dial(self.folder)
            except OSError:
                if self._stop.is_set() or time.monotonic() > until:
                    raise
            self._reap_keepers()
            # One that ends at once (the one before is just ending, or it is broken): again, less often.
            if not self._children and time.monotonic() >= next_try:
                self._children.add(launch(self.folder, self.linger))
                next_try, pause = time.monotonic() + pause, min(pause * 2, 2.0)
            self._stop.wait(0.01)

    def _reap_keepers(self) -> None:
        for pid in [*self._children]:
            try:
                done = os.waitpid(pid, os.WNOHANG)[0]
            except ChildProcessError:
                done = pid
            if done:
                self._children.discard(pid)

    def _converse(self, sock: socket.socket) -> None:
        """Talk until one of us leaves."""
        sock.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(sock, selectors.EVENT_READ)
        selector.register(self._wake_read, selectors.EVENT_READ)
        with self._lock:
            asked = [one for kinds in self._open.values() for one in kinds.values()]
            lines = [{"type": "ping"}, {"type": "list"}, *asked]
            forgets = [one for one in self._outbox if b'"type":"forget"' in one]
            self._outbox = [
                json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines
            ] + forgets
        out, rest = bytearray(), b""
        last: float | None = None
        try:
            while True:
                if self._stop.is_set() and last is None:
                    last = time.monotonic() + 1
                with self._lock:
                    out += b"".join(self._outbox)
                    self._outbox.clear()
                if last and (not out or time.monotonic() > last):
                    return
                selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if out else 0))
                for key, events in selector.select(self._patience(last)):
                    if key.fileobj is not sock:
                        os.read(self._wake_read, 4096)
                        continue
                    if events & selectors.EVENT_WRITE:
                        del out[: sock.send(out[: 1 << 18])]
                    if events & selectors.EVENT_READ:
                        lot = sock.recv(1 << 18)
                        if not lot:
                            return
                        *whole, rest = (rest + lot).split(b"\n")
                        self._hear([read(json.loads(line)) for line in whole])
                self._tend()
        finally:
            selector.close()

    def _patience(self, last: float | None) -> float | None:
        due = [WATCH] if self._wards or last else []
        if self._again is not None:
            due.append(max(0.0, self._again - time.monotonic()))
        return min(due) if due else None

    def _hear(self, lot: list[Message]) -> None:
        """Note what is answered, take over what is ours, and hand the lot on."""
        ready = False
        for message in lot:
            match message:
                case Pong(pid=pid):
                    self.pid = pid
                case Attempts(running=running, ended=ended):
                    ready = True
                    for one in running if self.subreaper else ():
                        self._claim(one)
                    self._answered(ended)
                case Adopted(execution=execution, attempt=attempt, pid=pid, stdout=out, stderr=err):
                    seen = linux.stat(pid)
                    if seen and seen.ppid == os.getpid():
                        key = (execution, attempt)
                        self._wards.setdefault(
                            key, Ward(Tree(execution, attempt, pid, seen.start, (out, err)), attempt)
                        )
                case SpawnFailed() | Exited() | Lost() | Unknown():
                    self._answered((message,))
                case Spawned():
                    with self._lock:
                        self._open.get((message.execution, message.attempt), {}).pop("spawn", None)
                case Refused(message=text):
                    log.warning("the keeper refused: %s", text)
                case Killing():
                    pass
        if lot:
            try:
                self.on_messages(lot)
            except Exception:
                log.exception("%d messages of the keeper were not taken; asking for them again", len(lot))
                self._again = time.monotonic() + AGAIN
        if ready:
            self._ready.set()

    def _answered(self, ends: tuple[SpawnFailed | Exited | Lost | Unknown, ...]) -> None:
        with self._lock:
            for one in ends:
                key = (one.execution, one.attempt)
                self._open.pop(key, None) if not isinstance(one, Unknown) else self._open.get(key, {}).pop(
                    "kill", None
                )
        for one in ends:
            ward = None if isinstance(one, Unknown) else self._wards.pop((one.execution, one.attempt), None)
            if ward:
                self._bury(ward)

    def _claim(self, one: Spawned) -> None:
        """Tell a new keeper that a command of the one before is our child now."""
        ward = self._wards.get((one.execution, one.attempt))
        if ward and ward.end:
            self._ask({"type": "adopt", "execution": one.execution, "attempt": one.attempt})
            self._ask(ward.end)
            return
        seen = linux.stat(one.pid)
        if seen and seen.start == one.start_time and seen.ppid == os.getpid():
            self._ask({"type": "adopt", "execution": one.execution, "attempt": one.attempt})

    def _tend(self) -> None:
        """Take the exit codes of commands that became our children, and ask again what was not taken."""
        if self._again is not None and time.monotonic() >= self._again:
            self._again = None
            self.list()
        for (execution, attempt), ward in [*self._wards.items()]:
            if ward.end is None:
                try:
                    pid, status, usage = os.wait4(ward.tree.pid, os.WNOHANG)
                except ChildProcessError:  # somebody here waits for all children: its exit code is theirs
                    log.exception("the exit code of %s was taken by somebody else in this process", execution)
                    del self._wards[execution, attempt]
                    continue
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    ward.end = {"type": "ended", "execution": execution, "attempt": attempt, "pid": pid}
                    ward.end |= {
                        "exit_code": code if code >= 0 else None,
                        "signal": -code if code < 0 else None,
                    }
                    ward.end |= {"user_seconds": usage.ru_utime, "system_seconds": usage.ru_stime}
                    ward.end |= {"max_rss_bytes": usage.ru_maxrss * (1024 if linux.LINUX else 1)}
                    self._ask(ward.end)
            self._bury(ward)

    def _bury(self, ward: Ward) -> None:
        """Reap the orphans of a command taken over; nobody else knows them."""
        for pid in linux.children(os.getpid()):
            seen = linux.stat(pid)
            if seen is None or pid == ward.tree.pid or seen.start < ward.tree.start:
                continue
            # A dead one shows neither environment nor files: it was seen alive, or shares the session.
            mine = ward.tree.owns(seen)
            if not mine and ward.tree.marked(seen.env()):
                ward.tree.seen[pid] = seen.start
            if mine and seen.state in GONE:
                os.waitpid(pid, os.WNOHANG)
