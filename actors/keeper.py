"""The keeper is the parent of all commands; it outlives the node, so none dies and no exit code is lost.

    python -m actors.keeper --data DIR [--linger SECONDS]

One per data folder (a lock on DIR/keeper/lock).  It listens on DIR/keeper/socket: one JSON object per line.
An attempt is named by (execution, attempt).  Times are Unix seconds, spans say their unit.

Asked:

    spawn   execution attempt argv env cwd stdin|null stdout stderr grace_ms timeout_ms|null
            [deadline_ms_elapsed: so much of the timeout is used up]
            [limits: {memory_bytes cpu_seconds open_files}|null]
    kill    execution attempt reason grace_ms     TERM the whole tree, KILL what is left after the grace
    forget  execution attempt                     its end is stored elsewhere
    list    ping    retire(end when no command is left)
    adopt   execution attempt                     "I am its parent now, I shall tell how it ends"
    ended   execution attempt exit_code signal user_seconds system_seconds max_rss_bytes     ... and so it did

Told to everybody:

    spawned       execution attempt pid start_time started_at
    spawn_failed  execution attempt errno code message
    exited        execution attempt pid exit_code|null signal|null killed|null started_at ended_at
                  user_seconds system_seconds max_rss_bytes     the main process and its whole tree are gone
    lost          execution attempt pid|null                       gone, and nobody knows how

Answered to who asked: `attempts {attempts: [...]}` (each as it was last told, with `state` intent, running,
failed, exited or lost), `pong {pid}`, `killing {execution attempt reason}`, `unknown {execution attempt
request}`, `adopted`, `refused {message}`.  A second `spawn` of an attempt answers what became of the first.

An intent is written before the start and an exit before it is told (journal.py).  SIGTERM: nothing new is
started (`spawn_failed`, code ESHUTDOWN, not kept), and the keeper ends with its last command.

This process does not import logging, argparse, typing or pathlib: that would double what it adds to a bare
interpreter.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time

from actors import linux
from actors.children import Children, say
from actors.journal import OVER, Journal

TYPE_CHECKING = False  # what `typing` says too; importing it costs the keeper 0.7 MB
if TYPE_CHECKING:
    from actors.journal import Record

BATCH = 16  # requests taken per round, so that a lot of spawns does not delay the exits
LINE = 32 << 20  # bytes of one request; more is not a request
BACKLOG = 64 << 20  # bytes a client may leave unread
SHUT = {
    "type": "spawn_failed",
    "errno": errno.ESHUTDOWN,
    "code": "ESHUTDOWN",
    "message": "the keeper is ending",
}


class Door:
    """One client: its connection, what it asked that is not done, what it was told and has not read."""

    def __init__(self, sock: socket.socket):
        self.sock, self.inbox, self.outbox = sock, b"", bytearray()
        self.lines: list[bytes] = []  # the next one last
        self.open, self.writing = True, False

    def read(self) -> None:
        """Take in what there is."""
        try:
            lot = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            lot = b""
        *lines, self.inbox = (self.inbox + lot).split(b"\n")
        self.lines[:0] = reversed(lines)
        self.open = bool(lot) and len(self.inbox) < LINE

    def flush(self) -> None:
        """Hand out what the client takes."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except BlockingIOError:
            self.open = self.open and len(self.outbox) < BACKLOG
        except OSError:
            self.open = False


class Keeper:
    """All attempts of one data folder, and everybody who asks about them."""

    def __init__(self, data: str, linger: float):
        self.folder, self.linger, self.pid = f"{data}/keeper", linger, os.getpid()
        self.doors: list[Door] = []
        self.selector = selectors.DefaultSelector()
        self.ending = self.retired = False
        self.born = self.busy = time.monotonic()
        self.journal = Journal(f"{self.folder}/journal.jsonl", linux.boot_id())
        self.children = Children(
            self.journal, self.tell, lambda fd: self.selector.register(fd, selectors.EVENT_READ) and None
        )

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until nobody needs a keeper any more."""
        listener, wake = self.listen(), self.hear()
        self.children.recover()
        while not self.finished():
            for key, events in self.selector.select(self.patience()):
                if key.fileobj is listener:
                    self.welcome(listener)
                elif key.fileobj == wake:
                    os.read(wake, 4096)
                elif isinstance(key.data, Door):
                    if events & selectors.EVENT_READ:
                        key.data.read()
                else:  # the pidfd of an adopted process: it ended
                    self.selector.unregister(key.fileobj)
                    os.close(key.fd)
                    self.children.poll_at = 0.0
            for door in self.doors:
                for _ in range(min(BATCH, len(door.lines))):
                    self.answer(door, door.lines.pop())
            self.children.work()
            self.deliver()
        listener.close()
        os.unlink(f"{self.folder}/socket")  # noqa: PTH108 - pathlib costs memory
        for door in self.doors:
            door.sock.settimeout(1.0)
            door.flush()
            door.sock.close()

    def listen(self) -> socket.socket:
        """Open the socket, by its short name from its folder: a socket address holds 107 bytes."""
        os.chdir(self.folder)
        if os.path.lexists("socket"):  # of a keeper that was killed; we hold the lock
            os.unlink("socket")  # noqa: PTH108 - pathlib costs memory
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("socket")
        os.chmod("socket", 0o600)  # noqa: PTH101 - pathlib costs memory
        listener.listen(64)
        listener.setblocking(False)
        os.chdir("/")
        self.selector.register(listener, selectors.EVENT_READ)
        return listener

    def hear(self) -> int:
        """Let signals wake the loop: a child that ended, and the wish that we end."""

        def end(*_: object) -> None:
            self.ending = True

        def wake(*_: object) -> None:
            """Only a signal with a handler writes to the wakeup pipe."""

        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, wake)
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.selector.register(read, selectors.EVENT_READ)
        return read

    def patience(self) -> float | None:
        """Seconds until something is due without anybody asking; None when nothing is."""
        if any(door.lines for door in self.doors):
            return 0
        due = self.children.due()
        if self.journal.owed:
            due.append(time.monotonic() + 1)
        if not self.doors and not self.children.attempts:
            due.append(self.busy + self.linger)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def finished(self) -> bool:
        """Whether nobody needs us: no command left, and no client or no wish of one."""
        now = time.monotonic()
        if self.children.attempts or (self.doors and not self.ending and not self.retired):
            self.busy = now
            return False
        return self.ending or self.retired or now >= self.busy + self.linger

    def welcome(self, listener: socket.socket) -> None:
        """Let a client in."""
        try:
            sock, _ = listener.accept()
        except OSError:  # it went away again, or there is no file left for it: it will try again
            return
        sock.setblocking(False)
        door = Door(sock)
        self.doors.append(door)
        self.selector.register(sock, selectors.EVENT_READ, door)
        self.retired = False

    def deliver(self) -> None:
        """Send everybody what is theirs, and see off who has gone."""
        if self.journal.owed:
            self.journal.settle()
        self.journal.compact()
        for door in [*self.doors]:
            door.flush()
            if not door.open and not door.lines:
                self.selector.unregister(door.sock)
                door.sock.close()
                self.doors.remove(door)
                for one in self.children.adopted.values():
                    one.claim = None if one.claim is door else one.claim
            elif (
                not door.open
            ):  # it went away, what it asked is still to do: do not hear its end again and again
                self.selector.modify(door.sock, selectors.EVENT_WRITE, door)
            elif door.writing != bool(door.outbox):
                door.writing = bool(door.outbox)
                write = selectors.EVENT_WRITE if door.writing else 0
                self.selector.modify(door.sock, selectors.EVENT_READ | write, door)

    # -- what is asked -------------------------------------------------------------------------------------

    def answer(self, door: Door, line: bytes) -> None:
        """Do what a line asks; what cannot be understood is refused, never fatal."""
        try:
            request: Record = json.loads(line)
            kind = request["type"]
            if kind == "spawn":
                if self.ending:
                    self.tell({**SHUT, "execution": request["execution"], "attempt": request["attempt"]})
                elif known := self.children.spawn(request):
                    self.tell(known, door)
            elif kind == "list":
                items = [self.children.item(one) for one in self.journal.attempts.values()]
                self.tell({"type": "attempts", "attempts": items}, door)
            elif kind == "ping":
                self.tell({"type": "pong", "pid": self.pid}, door)
            elif kind == "retire":
                self.retired = True
            elif kind in ("kill", "forget", "adopt", "ended"):
                self.about(door, kind, request)
            else:
                self.tell({"type": "refused", "message": f"unknown request {kind!r}"}, door)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self.tell({"type": "refused", "message": f"{type(error).__name__}: {error}"}, door)

    def about(self, door: Door, kind: str, request: Record) -> None:
        """Do what concerns one attempt."""
        name = {"execution": request["execution"], "attempt": request["attempt"]}
        key = (request["execution"], request["attempt"])
        record, attempt = self.journal.attempts.get(key), self.children.attempts.get(key)
        if record is None:
            if kind != "forget":
                self.tell({"type": "unknown", **name, "request": kind}, door)
        elif kind == "forget":
            if record["state"] in OVER:
                self.journal.append({"type": "forgotten", **name})
            else:
                self.tell({"type": "refused", "message": f"{key} has not ended"}, door)
        elif attempt is None:
            self.tell(self.children.item(record), door)
        elif kind == "kill":
            self.children.kill(attempt, str(request["reason"]), float(request["grace_ms"]) / 1000)
            self.tell({"type": "killing", **name, "reason": attempt.killed}, door)
        elif attempt.adopted and kind == "adopt":
            attempt.claim = door
            self.tell(
                {
                    "type": "adopted",
                    **name,
                    "pid": attempt.tree.pid,
                    "stdout": record["stdout"],
                    "stderr": record["stderr"],
                },
                door,
            )
        elif attempt.adopted and kind == "ended":
            attempt.end = (request["exit_code"], request["signal"])
            attempt.add(request["user_seconds"], request["system_seconds"], request["max_rss_bytes"])
            self.children.poll_at = 0.0

    def tell(self, message: Record, door: Door | None = None) -> None:
        """Say something to one client, or to all."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        for one in (door,) if door else self.doors:
            one.outbox += line


def main() -> int:
    """Be the keeper of a data folder; exit 75 when it has one already."""
    words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    if len(sys.argv) % 2 == 0 or "--data" not in words or words.keys() - {"--data", "--linger"}:
        sys.stderr.write("usage: python -m actors.keeper --data DIR [--linger SECONDS]\n")
        return 2
    data = os.path.abspath(words["--data"])  # noqa: PTH100 - pathlib costs memory
    folder = f"{data}/keeper"
    os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib costs memory
    os.chmod(folder, 0o700)  # noqa: PTH101 - pathlib costs memory
    lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"{data} has a keeper already\n")
        return os.EX_TEMPFAIL
    if os.getsid(0) != os.getpid() and os.getpgid(0) != os.getpid():
        os.setsid()
    log = os.open(f"{folder}/keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    if not linux.subreaper():
        say("this system has no subreapers: a tree is only followed while its main process lives")
    keeper = Keeper(data, float(words.get("--linger", "10")))
    seen = linux.stat(os.getpid())
    note = {"pid": os.getpid(), "start_time": seen.start if seen else 0, "boot_id": keeper.journal.boot}
    with open(
        f"{folder}/keeper.json.new", "w", opener=lambda path, flags: os.open(path, flags, 0o600)
    ) as file:
        file.write(json.dumps(note) + "\n")
    os.rename(f"{folder}/keeper.json.new", f"{folder}/keeper.json")  # noqa: PTH104 - pathlib costs memory
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
