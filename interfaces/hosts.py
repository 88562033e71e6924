"""Worker hosts as the node holds them: processes with a pipe each way, and a lock that says who lives."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from events import hosting

log = logging.getLogger(__name__)

_read = msgspec.json.Decoder(hosting.FromHost)


class HostProcess:
    """One host; `said` gets what it says, in a thread of its own, and None when it will say no more."""

    def __init__(
        self, data: Path, begin: hosting.Begin, said: Callable[[hosting.FromHost | None], None]
    ) -> None:
        self._said, self._name = said, begin.host
        folder = data / "logs" / "hosts"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(
            folder / f"{begin.module}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "interfaces.child", "interfaces.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=fd,
                start_new_session=True,
                env=_environment(),
            )
        finally:
            os.close(fd)
        self._lock = threading.Lock()
        self.say(begin)
        threading.Thread(target=self._listen, name=f"hear-{begin.host}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def say(self, message: hosting.ToHost) -> None:
        """Write a line to it; one that is gone hears nothing."""
        stdin = self._process.stdin
        try:
            with self._lock:
                if stdin is not None:
                    stdin.write(msgspec.json.encode(message) + b"\n")
                    stdin.flush()
        except (OSError, ValueError):  # it is gone, which its exit code tells too
            log.debug("%s hears nothing any more", self._name)

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once, with everything that its handlers started and that stayed in its session."""
        try:
            os.killpg(self._process.pid, 9)
        except ProcessLookupError:
            self._process.kill()

    def _listen(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        for line in stdout:
            try:
                message = _read.decode(line)
            except msgspec.MsgspecError as error:
                log.warning("%s says what nobody understands: %s", self._name, error)
                continue
            self._said(message)
        self._said(None)


def lock(data: Path, host: str) -> int:
    """Show that a host lives, as long as its process does; answers the file that must stay open."""
    path = _place(data, host)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def alive(data: Path, host: str) -> bool:
    """Whether a host lives, of this node or of one that ran on its data folder before."""
    try:
        fd = os.open(_place(data, host), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    _place(data, host).unlink(missing_ok=True)
    return False


def _place(data: Path, host: str) -> Path:
    return data / "hosts" / f"{host}.lock"


def _environment() -> dict[str, str]:
    """Ours, so that a host can import what this process can: a node may run inside of somebody's program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
