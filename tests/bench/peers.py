"""Others who run work in the background, with every commit on the disk, in an environment of their own.

Their workers are up only while they are measured.  They get all jobs at once, as many as they can take.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / ".cache" / "peers"
PYTHON = PLACE / "bin" / "python"
PINNED = ("huey==3.5.4", "dramatiq[redis]==2.2.1", "redis==8.1.0")
HUEY, DRAMATIQ = "tests.bench.guests.withhuey", "tests.bench.guests.withdramatiq"

_ours: list[subprocess.Popen[bytes]] = []


class Peer(NamedTuple):
    """One of them, in one setting."""

    name: str
    text: str
    module: str
    store: str
    worker: tuple[str, ...]

    def seconds(self, count: int) -> float:
        """From the first job until the last result is stored."""
        return self._client("rate", count)[0]

    def latencies(self, count: int) -> list[float]:
        """From a job until its result is back, one after the other, in ms."""
        return [seconds * 1000 for seconds in self._client("latency", count)]

    def _client(self, what: str, count: int) -> list[float]:
        with self._working():
            command = [PYTHON, "-m", "tests.bench.guests.client", self.module, what, str(count)]
            done = subprocess.run(command, cwd=ROOT, env=self._environ(), stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def _working(self) -> Generator[None]:
        worker = _start([str(PYTHON), "-m", *self.worker], env=self._environ())
        try:
            yield
        finally:
            _stop(worker)

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "BENCH_STORE": self.store, "PYTHONPATH": str(ROOT)}


class Found(NamedTuple):
    """Who can be measured, in which versions, and why somebody cannot."""

    peers: Sequence[Peer]
    versions: dict[str, str]
    skipped: Sequence[str]


def prepare(folder: Path) -> Found:
    """Install what is missing, and start a Redis that syncs every commit."""
    _install()
    poll = ("-d", "0.005", "-m", "0.005", "-q", "-n", "-k", "process")
    consumer = "huey.bin.huey_consumer"
    sqlite = f"sqlite:{folder / 'huey.db'}"
    text = "SQLite, synchronous=FULL, 2 processes"
    found = [Peer("Huey/SQLite", text, HUEY, sqlite, (consumer, f"{HUEY}.queue", *poll, "-w", "2"))]
    port, reason = _redis(folder)
    if port:
        store = f"redis:{port}"
        text = "Redis, appendfsync always, 4 processes"
        found.append(Peer("Huey/Redis", text, HUEY, store, (consumer, f"{HUEY}.queue", *poll, "-w", "4")))
        text = "Redis, appendfsync always, 2 processes of 16 threads"
        worker = ("dramatiq", DRAMATIQ, "-p", "2", "-t", "16")
        found.append(Peer("Dramatiq/Redis", text, DRAMATIQ, store, worker))
    return Found(found, _versions(port), [reason] if reason else [])


def end() -> None:
    """Stop whatever is left of what was started here."""
    for process in tuple(_ours):
        _stop(process)


def _install() -> None:
    marker = PLACE / "installed.txt"
    wanted = "\n".join(PINNED)
    if marker.exists() and marker.read_text() == wanted:
        return
    venv.create(PLACE, clear=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *PINNED], check=True, stdout=sys.stderr)
    marker.write_text(wanted)


def _redis(folder: Path) -> tuple[int, str]:
    """Its port, or 0 and why there is none."""
    if shutil.which("redis-server") is None:
        if os.geteuid() or shutil.which("apt-get") is None:
            return 0, "the peers with Redis, because there is no redis-server and only root can install it."
        # No run level, no service: the package would start a server of its own.
        environ = {**os.environ, "RUNLEVEL": "1"}
        for words in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", "redis-server"]):
            code = subprocess.call(["apt-get", *words], env=environ, stdout=subprocess.DEVNULL)
            if code:
                return 0, f"the peers with Redis, because `apt-get {words[0]}` ended with {code}."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "appendfsync": "always"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = _start(["redis-server", *words, "--save", ""])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return port, ""
        time.sleep(0.05)
    return 0, "the peers with Redis, because redis-server does not come up."


def _versions(redis: int) -> dict[str, str]:
    names: tuple[str, ...] = ("huey", "dramatiq")
    code = f"import importlib.metadata as m; print(*(m.version(name) for name in {names}))"
    said = subprocess.run([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    found: dict[str, str] = dict(zip(names, said, strict=True))
    if redis:
        words = subprocess.run(["redis-server", "--version"], stdout=subprocess.PIPE, text=True, check=True)
        found["redis-server"] = words.stdout.split("v=")[1].split()[0]
    return found


def _start(command: Sequence[str], env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    _ours.append(process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started: it leads a session of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    if process in _ours:
        _ours.remove(process)
