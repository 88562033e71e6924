"""A node: everything of one data folder, started in order, and stopped in the other."""

import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

from actors import heap, languages
from actors.files import private
from actors.gateway import Home, milliseconds
from actors.residents import residents
from actors.rights import Rights, administrators
from actors.warden import Process
from bus import streams
from bus.bridge import Bridge
from bus.server import External, Server
from events import codec, ids, node, service
from events.errors import Conflict, HindbrainError, Unavailable
from events.ports import Call
from interfaces.mcp.table import TOOLS
from interfaces.processes import Bus, Projector
from interfaces.settings import Settings
from interfaces.troupe import Stage, Troupe

if TYPE_CHECKING:
    from interfaces.web import Web

log = logging.getLogger(__name__)

VERSION = "0.1.0"
CANCEL_SECONDS = 15.0
"""How long cancelled commands may take to end when the node goes down."""


class Node:
    """Start it, ask what it is, stop it.  One data folder has one node at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.data = settings, settings.data
        self.roles = frozenset(settings.roles)
        self.id, self.boot, self.started_at = "", secrets.token_hex(8), ""
        self._stop: list[Callable[[], object]] = []
        """What has to be undone, in the order in which it was done."""
        self._over = threading.Event()
        self._end: tuple[bool, float | None] = (False, None)
        self._server: Server | External | None = None
        self._bridge: Bridge | None = None
        self._projector: Projector | None = None
        self._troupe: Troupe | None = None
        self._web: Web | None = None
        self._written: dict[str, int] = {}
        """The processes that node.json names."""

    # ---- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; when something fails, what was started is stopped again."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_folder()
        try:
            self._start()
        except BaseException:
            self._undo()
            raise

    def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start, say so, and stay until TERM, INT or a request to go down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self.start()
        heap.settle()
        ready(self.info())
        self._over.wait()
        self.stop(*self._end)

    def _signalled(self, number: int, frame: object) -> None:  # noqa: ARG002 -- the shape of a signal handler
        self.go()

    def go(self, cancel: bool = False, wait_seconds: float | None = None) -> None:
        """Ask a node that runs to stop."""
        self._end = (cancel, wait_seconds)
        self._over.set()

    def stop(self, cancel: bool = False, wait_seconds: float | None = None) -> None:
        """Stop in good order.  Commands run on under the keeper, unless they are waited for or cancelled."""
        if self._troupe is not None:
            wait = wait_seconds if wait_seconds is not None else CANCEL_SECONDS if cancel else 0.0
            self._troupe.rest(cancel, wait)
        self._undo()

    def _undo(self) -> None:
        while self._stop:
            undo = self._stop.pop()
            try:
                undo()
            except Exception:
                log.exception("something did not stop in good order")

    def _take_folder(self) -> None:
        fd = os.open(self.data / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Conflict(
                f"a node runs already on {self.data}: use it, stop it with `hindbrain down`, "
                "or choose another folder with --data"
            ) from None
        self._stop.append(lambda: os.close(fd))

    def _start(self) -> None:
        settings = self.settings
        self.id = self._name()
        server = self._server = (
            External(settings.nats.url)
            if settings.nats.url
            else Server(self.data, settings.nats.port, settings.nats.binary)
        )
        server.start()
        self._stop.append(server.stop)
        bridge = self._bridge = Bridge(server.url("node"), name=self.id)
        bridge.start()
        self._stop.append(bridge.stop)
        wanted = streams.definitions(inbox_window=settings.inbox.window_seconds)
        marker = None if settings.nats.url else self.data / "nats" / "log.marker"
        bridge.call(streams.ensure(bridge.js, wanted, marker), 30.0)
        self.started_at = codec.stamp(milliseconds())
        if self.roles != frozenset(("nats",)):
            self._start_actors(bridge, server)
        self._write_info()
        self._stop.append(lambda: (self.data / "node.json").unlink(missing_ok=True))

    def _start_actors(self, bridge: Bridge, server: Server | External) -> None:
        settings = self.settings
        processes: list[Process] = [] if isinstance(server, External) else [Bus(server)]
        if "projector" in self.roles:
            projector = Projector(self.data, server.url("node"), self.id, settings.duckdb.quack)
            self._projector = projector
            projector.restart()
            self._stop.append(projector.stop)
            processes.append(projector)
        base = self._open_door() if "web" in self.roles else settings.base_url or "http://localhost"
        stage = Stage(
            home=Home(
                self.id,
                self.boot,
                base,
                settings.default_timeout_ms,
                settings.fault_switch,
                residents=residents(self.roles, settings.max_concurrent_executions),
                reserved=frozenset(TOOLS),
                rights=Rights(settings.right, administrators(self.data)),
            ),
            settings=settings,
            bridge=bridge,
            processes=processes,
            host_url=server.url("host"),
            pids=self._pids,
            local={
                ("node", "info"): lambda _, call: call.answer(
                    codec.encode(service.Report(node=self.report()))
                ),
                ("node", "down"): self._down,
            },
            look=self._look,
            fall=self.go,
        )
        troupe = self._troupe = Troupe(stage, self._birth())
        self._stop.append(troupe.stop)
        troupe.start()

    def _open_door(self) -> str:
        from interfaces.vitals import Vitals
        from interfaces.web import Web

        vitals = Vitals(
            node=lambda: self.id,
            version=VERSION,
            slots=self.settings.max_concurrent_executions,
            pids=self._pids,
            census=self._census,
            monitor_port=lambda: self._server.monitor_port if self._server else None,
        )
        web = self._web = Web(self.settings, vitals)
        web.start()
        self._stop.append(web.stop)
        return self.settings.http.url or web.url

    def _census(self, done: Callable[[bytes | HindbrainError], None]) -> None:
        if self._troupe is None:
            done(Unavailable("the node is starting"))
        else:
            self._troupe.census(done)

    # ---- what it is ------------------------------------------------------------------------------------

    def _name(self) -> str:
        """The name of this data folder's node, made once."""
        path = self.data / "node.id"
        if not path.exists():
            private(path, ids.fresh("node", milliseconds()))
        return path.read_text().strip()

    def _birth(self) -> node.Started:
        return node.Started(
            boot=self.boot,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=VERSION,
            cores=os.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
            roles=tuple(sorted(self.roles)),
            languages=tuple(sorted(languages.available())),
        )

    def _pids(self) -> dict[str, int]:
        found = {
            "node": os.getpid(),
            "nats": self._server.pid if self._server else None,
            "keeper": self._troupe.keeper.pid if self._troupe else None,
            "projector": self._projector.pid if self._projector else None,
        }
        return {name: pid for name, pid in found.items() if pid}

    def info(self) -> dict[str, Any]:
        """Where everything is; the URL carries the credentials of the `client` user."""
        pids = self._pids()
        return {
            "node": self.id,
            "boot": self.boot,
            "version": VERSION,
            "pid": os.getpid(),
            "data": str(self.data),
            "nats_url": self._server.url("client") if self._server else None,
            "http_url": self._web.url if self._web else None,
            **{f"{name}_pid": pids.get(name) for name in ("nats", "keeper", "projector")},
            "roles": sorted(self.roles),
            "started_at": self.started_at,
        }

    def report(self) -> dict[str, Any]:
        """What this node is and can do, without credentials."""
        info = self.info()
        url = str(info.pop("nats_url") or "")
        return info | {
            "nats_url": url.rpartition("@")[2],
            "languages": {row.name: row.program for row in languages.TABLE},
            "max_concurrent_executions": self.settings.max_concurrent_executions,
            "connected": self._bridge.connected if self._bridge else False,
            "bus": self._server.healthy() if self._server else None,
        }

    def _look(self) -> None:
        if self._written and self._written != self._pids():
            self._write_info()

    def _write_info(self) -> None:
        self._written = self._pids()
        private(self.data / "node.json", json.dumps(self.info(), indent=1))

    def _down(self, ask: service.Down, call: Call) -> None:
        call.answer(codec.encode(service.Going(node=self.id)))
        # The answer has to be on its way before the bus goes down.
        threading.Timer(0.2, self.go, (ask.cancel, ask.wait_seconds)).start()
