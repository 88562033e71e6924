"""How a command begins: its own session, files for its three streams, exactly the environment it was given.

Only for a process with a single thread: the working folder is changed for the moment of the start, because
`posix_spawn` cannot do that for the child alone.  `posix_spawn` and not `fork`: it does not copy the parent.
Where the system cannot begin a session that way, the command gets a process group of its own instead.

Limits are set by a shell that then becomes the command (same pid), since `posix_spawn` cannot set them
either.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat

from actors.tree import MARKER, NUMBER

TYPE_CHECKING = False  # what `typing` says too; importing it costs the keeper 0.7 MB
if TYPE_CHECKING:
    from typing import Any

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
DEFAULTS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def launch(request: dict[str, Any]) -> int:
    """Start what a `spawn` request describes and answer its pid.

    Raises OSError (no such program, folder or input; no right to it; no room), ValueError for a NUL in a
    text.
    """
    env: dict[str, str] = {**request["env"], MARKER: request["execution"], NUMBER: str(request["attempt"])}
    argv: list[str] = request["argv"]
    fds: list[int] = []
    try:
        os.chdir(request["cwd"])
        fds.append(os.open(request.get("stdin") or os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        fds.append(os.open(request["stdout"], APPEND, 0o600))
        fds.append(os.open(request["stderr"], APPEND, 0o600))
        program = find(argv[0], env.get("PATH", os.defpath))
        if request.get("limits"):
            if "/" in argv[0]:
                check(program)
            argv = ["/bin/sh", "-c", ulimits(request["limits"]), "sh", program, *argv[1:]]
            program = "/bin/sh"
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
        try:
            return os.posix_spawn(
                program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=DEFAULTS
            )
        except NotImplementedError:  # no POSIX_SPAWN_SETSID in this C library
            return os.posix_spawn(
                program, argv, env, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=DEFAULTS
            )
    finally:
        for fd in fds:
            os.close(fd)
        os.chdir("/")  # not to keep a folder busy that somebody wants to unmount


def check(path: str) -> None:
    """Raise what `exec` would: FileNotFoundError or PermissionError."""
    if stat.S_ISDIR(os.stat(path).st_mode) or not os.access(path, os.X_OK):  # noqa: PTH116 - memory
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def find(name: str, path: str) -> str:
    """Look a program up as a shell would: a slash makes it a path, else the first on PATH that can run."""
    if "/" in name:
        return name
    refused: OSError = FileNotFoundError(errno.ENOENT, "No such program on PATH", name)
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            check(candidate)
        except PermissionError as error:
            refused = error
        except OSError:
            continue
        else:
            return candidate
    raise refused


def ulimits(limits: dict[str, int | None]) -> str:
    """Say limits to a shell: bytes of memory, seconds of CPU (XCPU, and KILL a second later), open files.

    A limit that is already stricter stays as it is.
    """
    words: list[str] = []
    if (memory := limits.get("memory_bytes")) is not None:
        words.append(f"ulimit -v {_within(memory, resource.RLIMIT_AS) // 1024}")
    if (seconds := limits.get("cpu_seconds")) is not None:
        hard = _within(int(seconds) + 1, resource.RLIMIT_CPU)
        words.append(f"ulimit -t {hard} && ulimit -S -t {min(int(seconds), hard)}")
    if (files := limits.get("open_files")) is not None:
        words.append(f"ulimit -n {_within(files, resource.RLIMIT_NOFILE)}")
    return " && ".join([*words, 'exec "$@"'])


def _within(wanted: int, kind: int) -> int:
    """The smaller of a wish and what the system allows."""
    hard = resource.getrlimit(kind)[1]
    return int(wanted) if hard == resource.RLIM_INFINITY else min(int(wanted), hard)
