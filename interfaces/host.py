"""A worker host: a process in which the workers of one module run the handlers of jobs.

    python -m interfaces.child interfaces.host

reads lines of JSON (`events/hosting.py`), of which the first says who it is.

It takes work from the queue and states ends in the log by itself.  When its standard input ends, its node is
gone: it finishes what it has in hand, and ends.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from actors import heap, manifest, worker
from actors.actor import Actor
from actors.attempt import Heard, Offered
from actors.files import Files
from actors.foreman import Done, Foreman
from actors.home import milliseconds
from actors.pool import LARGEST
from actors.rights import administrators
from actors.supervisor import Child, Exhausted, Supervisor
from actors.task import Task
from actors.tray import Tray
from bus.bridge import Bridge
from bus.doors import Doors
from bus.feed import Feed
from bus.log import Log
from bus.output import Outlet
from bus.permissions import INBOX
from bus.work import Work
from events import hosting
from events.errors import HindbrainError
from interfaces.hosts import lock

log = logging.getLogger(__name__)

HEARD = ("cancel_requested", "attempt_lost")
MAILBOX = 1_000_000
RESTARTS = 1000
"""Workers may die of what handlers do; the host goes on, and its module counts."""
_read = msgspec.json.Decoder(hosting.ToHost)


class Pipe:
    """The way back to the node."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def say(self, message: hosting.FromHost) -> None:
        """Write a line; a node that is gone hears nothing."""
        try:
            with self._lock:
                self._file.write(msgspec.json.encode(message) + b"\n")
                self._file.flush()
        except OSError:  # the end of the input tells, too
            return


class Asking:
    """The verbs of this installation, for handlers."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def request(
        self, kind: str, verb: str, body: Mapping[str, Any], timeout: float
    ) -> "Future[dict[str, Any]]":
        """Ask any verb."""
        future: Future[dict[str, Any]] = Future()

        def done(answer: bytes | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                future.set_exception(answer)
            else:
                future.set_result(msgspec.json.decode(answer))

        self._doors.request(kind, verb, msgspec.json.encode(body), timeout, done)
        return future


class Host:
    """Everything of one host."""

    def __init__(self, begin: hosting.Begin, pipe: Pipe) -> None:
        self._begin, self._pipe = begin, pipe
        self._bridge = Bridge(begin.url, name=begin.host, inbox=INBOX["host"])
        self._loaded: manifest.Loaded | None = None
        self._supervisor: Supervisor | None = None
        self._stop: list[Any] = []

    def start(self) -> None:
        """Load the plugin, start the workers, take work."""
        begin, bridge = self._begin, self._bridge
        bridge.start()
        jobs = Asking(Doors(bridge, administrators(Path(begin.data))))
        loaded = self._loaded = manifest.load(begin.module, begin.source, jobs, begin.overrides)
        profile = loaded.manifest.profile
        if profile.cpu_affinity:
            os.sched_setaffinity(0, profile.cpu_affinity)
        journal, outlet, files = Log(bridge, milliseconds), Outlet(bridge), Files(Path(begin.data))
        work = Work(bridge, lambda lot: self._tell(Offered(lot)), begin.module)
        many = begin.workers or (1 if profile.isolation == "process" else min(LARGEST, profile.workers))
        names = tuple(f"{begin.host}/{number}" for number in range(1, max(1, many) + 1))

        done = Tray[Task](lambda: self._tell(Done()))

        def foreman() -> Actor:
            addresses = {name: supervisor.address(name).tell for name in names}
            logic = Foreman(
                *(begin, profile, loaded.handlers, journal, work, outlet, files, addresses),
                *(done, self._tell, self._pipe.say, self._end),
            )
            return Actor(logic, name="foreman")

        def make(name: str) -> Child:
            logic = worker.Worker(name, loaded.manifest.name, loaded.handlers, jobs, done.add)
            return Child(name, lambda: Actor(logic, name=name), limit=MAILBOX)

        supervisor = self._supervisor = Supervisor(
            [*map(make, names), Child("foreman", foreman, restart="temporary", limit=MAILBOX)],
            restarts=RESTARTS,
            escalate=_escalate,
            on_poison=lambda letter: log.error("%s cannot go on: %s", letter.name, letter.error),
        )
        supervisor.begin()
        worker.route()
        feed = Feed(bridge, lambda facts: self._tell(Heard(facts)), HEARD)
        feed.start()
        work.start()
        self._stop += [work.stop, feed.stop]
        self._pipe.say(hosting.Ready(pid=os.getpid(), manifest=loaded.manifest, names=names))
        log.info("%s takes jobs of %s", begin.host, ", ".join(loaded.handlers))

    def listen(self, lines: BinaryIO) -> None:
        """Do what the node says, until it says no more."""
        for line in lines:
            message = _read.decode(line)
            if isinstance(message, hosting.Query):
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
            elif not isinstance(message, hosting.Begin):
                self._tell(message)
        log.info("the node is gone: finishing what is in hand")
        self._tell(hosting.Retire())

    def _tell(self, message: Any) -> None:
        if self._supervisor is not None:
            self._supervisor.address("foreman").tell(message)

    def _answer(self, query: hosting.Query) -> None:
        """Ask the plugin's code, which may take its time."""
        try:
            value = self._ask(query)
            msgspec.json.encode(value)
            self._pipe.say(hosting.Reply(id=query.id, value=value))
        except Exception as error:  # noqa: BLE001  whatever the plugin raises is the answer
            log.warning("%s %s was refused: %s", query.what, query.name, error)
            text = str(error) if isinstance(error, ValueError | HindbrainError) else repr(error)
            self._pipe.say(hosting.Reply(id=query.id, error=text))

    def _ask(self, query: hosting.Query) -> Any:
        if self._loaded is None:
            raise ValueError("the plugin is not loaded yet")
        if query.what == "check":
            self._loaded.handlers[query.name].read(query.data)
            return None
        if query.what == "resource":
            say = self._loaded.resources[query.name].handler
            return None if say is None else msgspec.to_builtins(say(self._loaded.context))
        tool = self._loaded.tools[query.name]
        if tool.handler is None:
            raise ValueError(f"{query.name} has no handler")
        kind = tool.schema
        given = query.data if kind is None or isinstance(kind, dict) else msgspec.convert(query.data, kind)
        return msgspec.to_builtins(tool.handler(given, self._loaded.context))

    def _end(self) -> None:
        """Nothing is in hand any more: let go of everything; a handler that hangs cannot hold this up."""
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        for stop in self._stop:
            try:
                stop()
            except HindbrainError:
                log.info("something did not stop in good order", exc_info=True)
        self._bridge.stop()
        logging.shutdown()
        os._exit(0)


def _escalate(row: Exhausted) -> None:
    log.critical("%s failed %d times in %.0f s", row.name, row.restarts, row.seconds)
    os._exit(70)


def main() -> None:
    """Run until there is nothing more to do."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    os.umask(0o077)
    # Whoever interrupts the node in its terminal does not mean its hosts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = sys.stdin.buffer
    begin = _read.decode(lines.readline())
    if not isinstance(begin, hosting.Begin):
        raise SystemExit("the first line must say who this host is")
    pipe = Pipe(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    lock(Path(begin.data), begin.host)
    host = Host(begin, pipe)
    try:
        host.start()
    except Exception as error:
        log.exception("%s cannot start", begin.host)
        text = str(error) if isinstance(error, HindbrainError) else f"{type(error).__name__}: {error}"
        pipe.say(hosting.Sorry(reason=text))
        os._exit(69)
    heap.settle()
    host.listen(lines)
    threading.Event().wait()
