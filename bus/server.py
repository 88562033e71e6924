"""The node brings its own nats-server, which outlives the node and is found again by the next one.

One server per data folder: it runs in a session of its own, listens on the loopback only, syncs every append
to the disk before it confirms it, and keeps everything in `<data>/nats` (store, log, configuration,
credentials).  It holds a lock there for as long as it lives, so that no second one ever opens its store.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from bus import daemon
from bus.daemon import Record
from bus.permissions import USERS, User, permissions
from events.errors import Unavailable, Validation

log = logging.getLogger(__name__)

MAX_PAYLOAD = 8 * 1024 * 1024
"""Bytes of one message with its headers; the server warns above that."""
READY_SECONDS = 60.0
"""A store of a million messages is ready in a second; one that must be read again in full takes longer."""


class Credentials(msgspec.Struct):
    """The name of the server and the password of each user, made once for a data folder."""

    name: str
    passwords: dict[str, str]


class External:
    """A NATS server that somebody else runs; we only use it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> None:
        """Make sure that it answers; `Unavailable` when it does not."""
        if reason := daemon.handshake(self._url):
            raise Unavailable(reason)

    def stop(self) -> None:
        """Leave it as it is: it is not ours."""

    def restart(self) -> None:
        """Make sure that it answers; it is not ours to restart."""
        self.start()

    def healthy(self) -> str | None:
        """None when it answers, else the reason."""
        return daemon.handshake(self._url)

    def url(self, user: User) -> str:  # noqa: ARG002  the one given URL serves every user
        """Where everybody connects."""
        return self._url

    @property
    def pid(self) -> int | None:
        """Its process is not known."""
        return None

    @property
    def port(self) -> int | None:
        """Where it listens."""
        return urlsplit(self._url).port

    @property
    def monitor_port(self) -> int | None:
        """Where it would answer `/healthz` is not known."""
        return None


class Server:
    """The nats-server of one data folder.  Every call may come from any thread, twice, and in any order.

    `port` None takes the one it had before, else 4222, else a free one; 0 takes a free one; any other is
    taken at its word.
    """

    def __init__(self, data: Path, port: int | None = None, binary: Path | None = None) -> None:
        self._folder = data.resolve() / "nats"
        self._wanted = port
        self._binary = binary
        self._record: Record | None = None
        self._credentials: Credentials | None = None
        self._lock = threading.RLock()

    def start(self) -> None:
        """Take over the server of this folder or start one, and wait until it is ready.

        `Validation` when the port is taken, `Unavailable` when it does not become ready.
        """
        with self._lock, self._alone():
            self._credentials = self._identity()
            known = self._known()
            running = known if known is not None and known.alive else self._orphan()
            if running is None or not self._adopt(running):
                self._launch(known)

    def stop(self) -> None:
        """End the server: ask, wait 10 s, insist.  Nothing that was confirmed is lost."""
        with self._lock:
            if not self._folder.is_dir():
                return
            with self._alone():
                record, self._record = self._record or self._known(), None
                if record is None or not record.alive:
                    record = self._orphan()
                if record is not None:
                    daemon.end(record)
                (self._folder / "server.json").unlink(missing_ok=True)

    def restart(self) -> None:
        """End the server and start it again, on the same port when that is still free."""
        with self._lock:
            known = self._record or self._known()
            self.stop()
            if known is not None:
                self._write("server.json", msgspec.json.encode(known))
            self.start()

    def healthy(self) -> str | None:
        """None when all is well, else the reason: the process died, or what the server says (a full disk)."""
        record = self._record or self._known()
        if record is None:
            return "the NATS server was not started"
        if not record.alive:
            return f"the NATS server (pid {record.pid}) died"
        return daemon.health(record.monitor_port)

    def url(self, user: User) -> str:
        """Where this user connects, with the password inside; `Unavailable` before the start."""
        record, credentials = self._record, self._credentials
        if record is None or credentials is None:
            raise Unavailable("the NATS server was not started")
        return _url(user, credentials, record.port)

    @property
    def pid(self) -> int | None:
        """The server's process, None before the start."""
        return None if self._record is None else self._record.pid

    @property
    def port(self) -> int | None:
        """Where it listens for clients, None before the start."""
        return None if self._record is None else self._record.port

    @property
    def monitor_port(self) -> int | None:
        """Where it answers `/healthz`, None before the start."""
        return None if self._record is None else self._record.monitor_port

    def _adopt(self, record: Record) -> bool:
        if self._wanted not in (None, 0, record.port):
            raise Validation(
                f"the NATS server of this folder already runs on port {record.port}, not {self._wanted}: "
                f"stop it (pid {record.pid}) or leave out the port"
            )
        credentials = self._identity()
        deadline = time.monotonic() + READY_SECONDS
        while reason := daemon.handshake(_url("node", credentials, record.port), credentials.name):
            if not record.alive:
                return False
            if time.monotonic() > deadline:
                log.warning(
                    "the NATS server (pid %d) runs but is of no use and is replaced: %s", record.pid, reason
                )
                daemon.end(record)
                return False
            time.sleep(0.05)
        self._keep(record)
        log.info("took over the NATS server on port %d (pid %d)", record.port, record.pid)
        return True

    def _orphan(self) -> Record | None:
        """Find a server whose starter died before it could write the record down."""
        with self._sole() as free:
            if free is not None:
                return None
        try:
            pid = int((self._folder / "server.pid").read_text())
            conf = json.loads((self._folder / "server.conf").read_text())
            ports = [int(conf[door].rpartition(":")[2]) for door in ("listen", "http")]
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(
                f"an unknown NATS server holds {self._folder}: end it first ({error})"
            ) from error
        return Record(pid, daemon.born(pid) or "", ports[0], ports[1])

    def _launch(self, before: Record | None) -> None:
        binary = self._binary or daemon.program()
        daemon.version(binary)
        for last in (False, False, True):
            port = self._port(before)
            monitor = daemon.free_port(besides=port)
            self._configure(port, monitor)
            with self._sole() as lock:
                if lock is None:
                    raise Unavailable(f"another NATS server just began to use {self._folder}")
                command = [str(binary), "-c", str(self._folder / "server.conf")]
                pid = daemon.spawn(command, self._folder / "server.out", lock)
            record = Record(pid, daemon.born(pid) or "", port, monitor)
            self._keep(record)
            reason = daemon.ready(record, READY_SECONDS)
            if reason is None:
                log.info("started the NATS server on port %d (pid %d)", port, pid)
                return
            daemon.end(record)
            self._record = None
            (self._folder / "server.json").unlink(missing_ok=True)
            if last or not self._taken(port, monitor):
                raise Unavailable(
                    f"the NATS server did not become ready: {reason}; see {self._folder}/server.log"
                )
            before = None

    def _port(self, before: Record | None) -> int:
        match self._wanted:
            case None:
                usual = [daemon.USUAL_PORT] if before is None else [before.port, daemon.USUAL_PORT]
                return next((port for port in usual if daemon.is_free(port)), None) or daemon.free_port()
            case 0:
                return (
                    before.port if before is not None and daemon.is_free(before.port) else daemon.free_port()
                )
            case port if daemon.is_free(port):
                return port
            case port:
                raise Validation(f"port {port} is in use: choose another one, or 0 for any free one")

    def _taken(self, port: int, monitor: int) -> bool:
        """Say whether somebody took one of our ports between the look and the start."""
        return not daemon.is_free(monitor) or (self._wanted in (None, 0) and not daemon.is_free(port))

    def _keep(self, record: Record) -> None:
        self._record = record
        self._write("server.json", msgspec.json.encode(record))

    def _configure(self, port: int, monitor: int) -> None:
        credentials = self._identity()
        users: list[dict[str, Any]] = []
        for user in USERS:
            entry: dict[str, Any] = {"user": user, "password": credentials.passwords[user]}
            if (may := permissions(user)) is not None:
                entry["permissions"] = may
            users.append(entry)
        configuration = {
            "server_name": credentials.name,
            "listen": f"127.0.0.1:{port}",
            "http": f"127.0.0.1:{monitor}",
            "pid_file": str(self._folder / "server.pid"),
            "log_file": str(self._folder / "server.log"),
            "logfile_size_limit": 16 * 1024 * 1024,
            "logfile_max_num": 3,
            "max_payload": MAX_PAYLOAD,
            "jetstream": {
                "store_dir": str(self._folder / "store"),
                "sync_interval": "always",
                # Otherwise the streams' limits count against three quarters of the disk's free space of the
                # moment, and a server that restarts on a fuller disk refuses the streams it already has.
                "max_file_store": 1 << 50,
            },
            "authorization": {"users": users},
        }
        self._write("server.conf", json.dumps(configuration, indent=1).encode())

    def _identity(self) -> Credentials:
        if self._credentials is not None:
            return self._credentials
        path = self._folder / "credentials.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Credentials)
        made = Credentials(
            f"hindbrain-{secrets.token_hex(8)}", {user: secrets.token_urlsafe(32) for user in USERS}
        )
        self._write("credentials.json", msgspec.json.encode(made))
        return made

    def _known(self) -> Record | None:
        try:
            return msgspec.json.decode((self._folder / "server.json").read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            log.warning("the record of the NATS server cannot be read and is made anew: %s", error)
            return None

    def _write(self, name: str, content: bytes) -> None:
        whole = self._folder / name
        part = whole.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(whole)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """Let two nodes that start on one folder do so one after the other."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open("start.lock") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _sole(self) -> Generator[int | None]:
        """Give the lock that a server holds for life, None when one has it."""
        with self._open("server.lock") as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor

    @contextlib.contextmanager
    def _open(self, name: str) -> Generator[int]:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _url(user: User, credentials: Credentials, port: int) -> str:
    return f"nats://{user}:{quote(credentials.passwords[user], safe='')}@127.0.0.1:{port}"
