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
from typing import Literal, NamedTuple

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / ".cache" / "peers"
PYTHON = PLACE / "bin" / "python"
PINNED = ("huey==3.5.4", "dramatiq[redis]==2.2.1", "redis==8.1.0")
BULLMQ = ("bullmq@6.7.0", "ioredis@6.0.0")
HUEY, DRAMATIQ = "tests.bench.guests.withhuey", "tests.bench.guests.withdramatiq"

_ours: list[subprocess.Popen[bytes]] = []


Job = Literal["true", "nothing"]
"""What one job does: run /bin/true, or nothing."""


class Peer(NamedTuple):
    """One of them, in one setting."""

    name: str
    text: str
    client: tuple[str, ...]
    store: str
    worker: tuple[str, ...]
    jobs: tuple[Job, ...] = ("true", "nothing")
    """What it is measured with."""

    def seconds(self, count: int, job: Job = "true", flight: int = 0) -> float:
        """From the first job until the last result is stored; who can, has no more than `flight` open."""
        return self._client(job, "rate", str(count), str(flight))[0]

    def latencies(self, count: int) -> list[float]:
        """From a job until its result is back, one after the other, in ms."""
        return [seconds * 1000 for seconds in self._client("true", "latency", str(count))]

    def _client(self, job: Job, *what: str) -> list[float]:
        environ = {
            **os.environ,
            "BENCH_STORE": self.store,
            "BENCH_JOB": job,
            "BENCH_MODULES": str(PLACE / "node"),
            "PYTHONPATH": str(ROOT),
        }
        with _working(self.worker, environ):
            command = [*self.client, *what]
            done = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)


@contextlib.contextmanager
def _working(command: Sequence[str], environ: dict[str, str]) -> Generator[None]:
    worker = _start(command, env=environ)
    try:
        yield
    finally:
        _stop(worker)


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
    huey = (str(PYTHON), "-m", consumer, f"{HUEY}.queue", *poll)
    found = [Peer("Huey/SQLite", text, _python(HUEY), sqlite, (*huey, "-w", "2"))]
    port, reason = _redis(folder)
    if port:
        store = f"redis:{port}"
        text = "Redis, appendfsync always, 4 processes"
        found.append(Peer("Huey/Redis", text, _python(HUEY), store, (*huey, "-w", "4")))
        text = "Redis, appendfsync always, 2 processes of 16 threads"
        worker = (str(PYTHON), "-m", "dramatiq", DRAMATIQ, "-p", "2", "-t", "16")
        found.append(Peer("Dramatiq/Redis", text, _python(DRAMATIQ), store, worker))
        if why := _bullmq():
            reason = why
        else:
            text = "Redis, appendfsync always, 1 process, 100 at a time"
            guest = ("node", str(ROOT / "tests/bench/guests/withbullmq.mjs"))
            found.append(Peer("BullMQ/Redis", text, guest, store, (*guest, "worker"), ("nothing",)))
    return Found(found, _versions(port), [reason] if reason else [])


def _python(guest: str) -> tuple[str, ...]:
    return str(PYTHON), "-m", "tests.bench.guests.client", guest


def _bullmq() -> str:
    """Install it; why it is not there, or nothing."""
    if shutil.which("npm") is None:
        return "BullMQ, because there is no npm."
    place = PLACE / "node"
    if not all((place / "node_modules" / each.partition("@")[0]).exists() for each in BULLMQ):
        place.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-fund", "--no-audit", "--silent", "--prefix", str(place)]
        if code := subprocess.call([*command, *BULLMQ], stdout=subprocess.DEVNULL):
            return f"BullMQ, because npm ended with {code}."
    return ""


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
