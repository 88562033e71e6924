"""The other processes of a node, as the warden sees them."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from bus.server import External, Server

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
TABLES = {
    *(("query", verb) for verb in ("sql", "rebuild", "verify", "why", "status")),
    ("execution", "list"),
    ("decision", "list"),
}
"""Verbs that the projector's process answers; all others are the node's."""


def tables(node: str) -> str:
    """How the projector's process of a node is called by the other."""
    return f"{node}-tables"


class Bus:
    """The NATS server: dead or sick, it is started again."""

    name = "nats"

    def __init__(self, server: Server | External) -> None:
        self._server = server
        self._sick = 0

    def ill(self) -> str | None:
        """Dead at once; sick only when it says so several times, because a busy server may be late."""
        reason = self._server.healthy()
        if reason is None:
            self._sick = 0
            return None
        self._sick += 1
        return reason if self._sick >= 6 or "died" in reason or "not started" in reason else None

    def restart(self) -> int:
        """Start it again on its port; answers its pid."""
        self._sick = 0
        self._server.restart()
        return self._server.pid or 0


class Projector:
    """The process that folds the log into tables."""

    name = "projector"

    def __init__(self, data: Path, url: str, node: str, quack: bool) -> None:
        self._data = data
        self._what = {"data": str(data), "url": url, "node": node, "quack": quack}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id, 0 when there is none."""
        return self._process.pid if self._process else 0

    def ill(self) -> str | None:
        """Why it must be started again."""
        with self._lock:
            if self._process is None:
                return "it was never started"
            code = self._process.poll()
            return None if code is None else f"it ended with {code}"

    def restart(self) -> int:
        """Start it; what was left of it is ended first."""
        self.stop()
        with self._lock:
            logs = self._data / "logs"
            logs.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(logs / "projector.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "interfaces.child", "interfaces.projector"],
                    # It ends when this pipe does, so it cannot outlive its node.
                    stdin=subprocess.PIPE,
                    stdout=fd,
                    stderr=fd,
                    start_new_session=True,
                )
                if self._process.stdin is not None:
                    self._process.stdin.write(json.dumps(self._what).encode() + b"\n")
                    self._process.stdin.flush()
            finally:
                os.close(fd)
            return self._process.pid

    def stop(self) -> None:
        """End it; it has nothing to lose."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the projector does not end by itself: killing it")
            process.kill()
            process.wait()
