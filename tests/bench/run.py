"""One run of the benches: how large it is, where it works, and what it found so far."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tests.bench.figures import Figure
from tests.bench.peers import Job, Peer

T = TypeVar("T", int, float)


class Run:
    """Collects figures; `folder` is for data, short enough for sockets."""

    def __init__(self, folder: Path, *, quick: bool, peers: Sequence[Peer] = ()) -> None:
        self.folder, self.quick, self.peers = folder, quick, peers
        self.figures: list[Figure] = []
        self.bench = ""
        self._places = 0
        self._began = time.monotonic()

    def beside(self, job: Job) -> Sequence[Peer]:
        """Those who are measured with such jobs."""
        return [peer for peer in self.peers if job in peer.jobs]

    def size(self, whole: T, quick: T) -> T:
        """How much of it: the whole, or a taste."""
        return quick if self.quick else whole

    def place(self) -> Path:
        """A folder that nobody used before."""
        self._places += 1
        return self.folder / str(self._places)

    def add(self, text: str, unit: str, values: Sequence[float]) -> None:
        """Note a figure."""
        figure = Figure(self.bench, text, unit, tuple(values))
        self.figures.append(figure)
        self.note(f"{text}: {figure.cell} {unit}")

    def ratio(self, text: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
        """Note how our values relate to others of the same repetitions."""
        self.add(text, "ratio", [mine / other for mine, other in zip(ours, theirs, strict=True)])

    def note(self, text: str) -> None:
        """Say how it goes; the figures themselves go to standard output at the end."""
        sys.stderr.write(f"{time.monotonic() - self._began:7.1f} s  {self.bench}: {text}\n")
        sys.stderr.flush()
