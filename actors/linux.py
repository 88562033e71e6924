"""What the kernel knows about processes, and what is left of it where the kernel is not Linux.

Every call that only Linux has is in this file.  What other systems get instead:

| here                | Linux                           | elsewhere                                      |
|---------------------|---------------------------------|------------------------------------------------|
| `boot_id`           | /proc/sys/kernel/random/boot_id | `sysctl kern.bootsessionuuid`, else "unknown"  |
| `stat`, `table`     | /proc/PID/stat                  | `ps`, start times in seconds instead of ticks  |
| `children`          | /proc/PID/task/*/children       | the parents in `table`                         |
| `environ`, `output` | /proc/PID/environ, /proc/PID/fd | nothing: no attribution by marker or open file |
| `subreaper`         | prctl(PR_SET_CHILD_SUBREAPER)   | refused: orphans go to the init process        |
| `pidfd`, `send`     | pidfd_open, pidfd_send_signal   | `kill` right after the start time was compared |

A process is (boot id, pid, start time); a bare pid is nobody, because pids are used again.
"""

import os
import signal
import sys
import time

LINUX = sys.platform == "linux"
PR_SET_CHILD_SUBREAPER = 36


class Stat:
    """One process as the kernel tells it; `start` is field 22 of /proc/PID/stat, in ticks since boot."""

    __slots__ = ("_env", "_output", "pid", "ppid", "session", "start", "state")

    def __init__(self, pid: int, state: str, ppid: int, session: int, start: int):
        self.pid, self.state, self.ppid, self.session, self.start = pid, state, ppid, session, start
        self._env: bytes | None = None
        self._output: set[tuple[int, int]] | None = None

    def env(self) -> bytes:
        """Read its environment, once."""
        if self._env is None:
            self._env = environ(self.pid)
        return self._env

    def output(self) -> set[tuple[int, int]]:
        """Name the files open as its stdout and stderr, looked up once."""
        if self._output is None:
            self._output = output(self.pid)
        return self._output


def boot_id() -> str:
    """Name this boot of the machine; processes written down under another name are gone."""
    if LINUX:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - pathlib costs memory
            return file.read().strip()
    return _ask("sysctl", "-n", "kern.bootsessionuuid").strip() or "unknown"


def _read(path: str) -> bytes:
    """Everything in a file of /proc, nothing when the process is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        got = os.read(fd, 65536)
        lot = got
        while len(got) == 65536:
            got = os.read(fd, 65536)
            lot += got
    except OSError:  # ESRCH: it died between open and read
        return b""
    else:
        return lot
    finally:
        os.close(fd)


def stat(pid: int) -> Stat | None:
    """Look at one process; None when there is none.  A zombie is still there (state Z)."""
    if not LINUX:
        return _ps("-p", str(pid)).get(pid)
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The name is in brackets and may hold blanks and brackets itself: count from the last one.
    field = text[text.rindex(b")") + 2 :].split(None, 20)
    return Stat(pid, field[0].decode(), int(field[1]), int(field[3]), int(field[19]))


def table() -> dict[int, Stat]:
    """Look at all processes."""
    if not LINUX:
        return _ps("-A")
    found: dict[int, Stat] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib costs memory
        if name.isdigit() and (seen := stat(int(name))):
            found[seen.pid] = seen
    return found


def _ask(*argv: str) -> str:
    """What another program prints, for systems without /proc."""
    import subprocess

    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    ).stdout


def _ps(*which: str) -> dict[int, Stat]:
    """Ask `ps`; the process group stands for the session there."""
    found: dict[int, Stat] = {}
    for line in _ask("ps", *which, "-o", "pid=,ppid=,pgid=,state=,lstart=").splitlines():
        pid, ppid, group, state, born = line.split(None, 4)
        start = int(time.mktime(time.strptime(born.strip(), "%a %b %d %H:%M:%S %Y")))
        found[int(pid)] = Stat(int(pid), state[0], int(ppid), int(group), start)
    return found


def children(pid: int) -> list[int]:
    """Name the children of a process, zombies among them."""
    if not LINUX:
        return [one.pid for one in table().values() if one.ppid == pid]
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib costs memory
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        found.extend(map(int, _read(f"/proc/{pid}/task/{task}/children").split()))
    return found


def environ(pid: int) -> bytes:
    """Read what a process got as its environment, separated by NUL; empty for zombies and during an exec."""
    return _read(f"/proc/{pid}/environ") if LINUX else b""


def output(pid: int) -> set[tuple[int, int]]:
    """Name the files (device, inode) open as stdout and stderr of a process."""
    found: set[tuple[int, int]] = set()
    if LINUX:
        for fd in (1, 2):
            try:
                seen = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116 - pathlib costs memory
            except OSError:  # closed, gone, or not ours to read
                continue
            found.add((seen.st_dev, seen.st_ino))
    return found


def subreaper() -> bool:
    """Become the parent of all orphans below us; says whether the system can do that."""
    if not LINUX:
        return False
    import ctypes

    return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def pidfd(pid: int) -> int | None:
    """Hold on to a process: readable when it ended.  None where that cannot be had, or nobody is there."""
    if not LINUX:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # ESRCH, or ENOSYS before Linux 5.3, or EMFILE: the caller polls
        return None


def send(pid: int, start: int, *signals: int) -> bool:
    """Signal a process if it is still the one that started then; says whether it was."""
    fd = pidfd(pid)
    try:
        seen = stat(pid)
        if seen is None or seen.start != start:
            return False
        for number in signals:
            if fd is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return False
    else:
        return True
    finally:
        if fd is not None:
            os.close(fd)
