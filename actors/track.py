"""One stream of output as it grows: read once, in order, from its file."""

import hashlib
import os
import time
from pathlib import Path

from actors.progress import Gauge, LastLine
from actors.vault import Mask
from events.ports import Chunk

PIECE = 64 * 1024
"""The largest chunk, in bytes."""


class Track:
    """A file of output: what was read of it, what was sent, and what that says."""

    def __init__(self, path: Path, raw: Path | None, mask: Mask, start: int) -> None:
        self.path, self._raw, self._mask = path, raw, mask
        self.read = 0
        """Up to where it was looked at."""
        self.sent = 0
        """Up to where it was handed on."""
        self.stored = 0
        """Up to where it is known to be stored."""
        self.start = start
        """Where the present attempt begins."""
        self.sha = hashlib.sha256()
        self.gauge, self.last = Gauge(), LastLine()
        self._file: int | None = None
        self._raw_read = 0
        self.timed: int | None = None
        """Up to where the times of its pieces are written down."""
        self._raw_base: int | None = None

    def size(self) -> int:
        """How many bytes there are."""
        if self._raw is not None:
            self._unmask(end=False)
        try:
            return os.stat(self._file if self._file is not None else self.path).st_size  # noqa: PTH116 -- of a descriptor
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def finish(self) -> None:
        """The command is gone: what was held back of a masked stream is settled."""
        if self._raw is not None:
            self._unmask(end=True)

    def piece(self) -> bytes:
        """The next bytes that were not looked at or not handed on; empty at the end."""
        at = min(self.read, self.sent)
        if self._file is None:
            try:
                self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        return os.pread(self._file, min(PIECE, abs(self.read - self.sent) or PIECE), at)

    def look(self, data: bytes) -> None:
        """Learn from bytes that are new."""
        self.sha.update(data)
        self.read += len(data)
        if self.read > self.start:
            self.gauge.feed(data)
            self.last.feed(data)

    def _unmask(self, end: bool) -> None:
        """Copy what a command with secrets wrote into the file that others read, without the secrets.

        The copy keeps every offset, so its size says how far an earlier process had come.
        """
        assert self._raw is not None  # noqa: S101 -- callers ask first
        if self._raw_base is None:
            self._raw_base = self.path.stat().st_size - self.start if self.path.exists() else 0
            self._raw_read = self._raw_base
        try:
            source = os.open(self._raw, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        target = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while data := os.pread(source, 1 << 20, self._raw_read):
                self._raw_read += len(data)
                os.write(target, self._mask.feed(data))
            if end:
                os.write(target, self._mask.feed(b"", end=True))
        finally:
            os.close(source)
            os.close(target)


def chunk(entity: str, stream: str, attempt: int, offset: int, data: bytes, stamp: str) -> Chunk:
    """A piece of output, ready to be sent."""
    return Chunk(entity, stream, offset, attempt, stamp, data)


def now() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
