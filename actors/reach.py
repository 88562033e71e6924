"""Where the keeper of a folder is found, and how one is started."""

import os
import socket
import sys
import tempfile
from pathlib import Path

from actors import linux

ADDRESS = 100  # bytes of a path that fit into every system's socket address


def dial(folder: Path) -> socket.socket:
    """Connect to the socket in a folder.  Raises OSError when nobody listens.

    A path that does not fit into a socket address is shortened through /proc/self/fd, elsewhere by a
    symbolic link.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(folder / "socket")) <= ADDRESS:
            sock.connect(str(folder / "socket"))
        elif linux.LINUX:
            fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{fd}/socket")
            finally:
                os.close(fd)
        else:
            with tempfile.TemporaryDirectory(dir="/tmp") as short:
                (Path(short) / "k").symlink_to(folder)
                sock.connect(f"{short}/k/socket")
    except OSError:
        sock.close()
        raise
    return sock


def launch(folder: Path, linger: float) -> int:
    """Start a keeper for a folder's parent and answer its pid; when there is one, it ends by itself."""
    descriptor = os.open(folder / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        argv = [
            sys.executable,
            "-P",
            "-m",
            "actors.keeper",
            "--data",
            str(folder.parent),
            "--linger",
            f"{linger:g}",
        ]
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, 1), (os.POSIX_SPAWN_DUP2, descriptor, 2)]
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True, setsigmask=())
    finally:
        os.close(descriptor)
