"""Where an execution's files lie in the data folder, and how its output is read back."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.folders import Folders

STREAMS = ("stdout", "stderr")


class Files:
    """The data folder, as far as executions are concerned."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.logs = data / "logs" / "executions"
        self._known: tuple[str, int, Sequence[tuple[int, str, int, int]]] = ("", 0, ())
        for folder in (self.logs, data / "run", data / "blobs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folders = Folders(data / "work")

    def output(self, entity: str, stream: str) -> Path:
        """The file that holds one stream of output."""
        return self.logs / f"{entity}_{stream}.log"

    def raw(self, entity: str, stream: str) -> Path:
        """Where a command with secrets writes, before the secrets are masked."""
        return self.data / "run" / f"{entity}_{stream}.raw"

    def times(self, entity: str) -> Path:
        """When which piece of output came: a line `<milliseconds> <stream> <bytes>` for each."""
        return self.logs / f"{entity}_times.log"

    def meta(self, entity: str) -> Path:
        """What was run and how it went, for people who only have the files."""
        return self.logs / f"{entity}_meta.json"

    def progress(self, entity: str) -> Path:
        """Where `hindbrain progress` leaves its lines."""
        return self.data / "run" / f"{entity}.progress"

    def outputs(self, entity: str, attempt: int) -> Path:
        """Where a step of a plan writes what later steps need."""
        return self.data / "run" / f"{entity}.{attempt}.outputs"

    def blob(self, sha256: str) -> Path:
        """A large text under its hash."""
        return self.data / "blobs" / sha256

    def code(self, entity: str, suffix: str) -> Path:
        """Code that is too long for an argument."""
        return self.data / "run" / f"{entity}{suffix}"

    def write_meta(self, entity: str, meta: dict[str, Any]) -> None:
        """Write the meta file, in one go."""
        content = msgspec.json.format(msgspec.json.encode(meta), indent=1) + b"\n"
        fd = os.open(self.meta(entity), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(fd, content)
            # A file that is emptied first is flushed to the disk at once by some file systems.
            if os.fstat(fd).st_size > len(content):
                os.ftruncate(fd, len(content))
        finally:
            os.close(fd)

    def sizes(self, entity: str) -> tuple[int, int]:
        """How many bytes of stdout and stderr there are."""
        return self._size(entity, "stdout"), self._size(entity, "stderr")

    def _size(self, entity: str, stream: str) -> int:
        try:
            return self.output(entity, stream).stat().st_size
        except FileNotFoundError:
            return 0

    def sweep(self, entity: str, made: list[Path]) -> None:
        """Remove what was made for a running execution and is of no use to anybody else."""
        for path in (self.progress(entity), *made):
            path.unlink(missing_ok=True)

    def pieces(self, entity: str) -> Sequence[tuple[int, str, int, int]]:
        """Every piece in the order it came: milliseconds, stream, offset in its stream, bytes."""
        path = self.times(entity)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return ()
        if self._known[:2] != (entity, size):
            # Long output is asked for page after page, and nothing has to be read again for the next one.
            self._known = (entity, size, _pieces(path.read_text()))
        return self._known[2]

    def read(self, entity: str, stream: str, offset: int, size: int) -> bytes:
        """Bytes of one stream; fewer when there are no more."""
        try:
            with self.output(entity, stream).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""


def private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; whoever is killed meanwhile leaves the old one."""
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    new.replace(path)


def _pieces(text: str) -> Sequence[tuple[int, str, int, int]]:
    found: list[tuple[int, str, int, int]] = []
    offsets: dict[str, int] = dict.fromkeys(STREAMS, 0)
    for line in text.splitlines():
        time, stream, size = line.split()
        found.append((int(time), stream, offsets[stream], int(size)))
        offsets[stream] += int(size)
    return found
