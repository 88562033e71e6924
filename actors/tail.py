"""One execution as the tailer sees it, and what the tailer is told and tells."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from actors.files import STREAMS
from actors.progress import TEXT_CHARS
from actors.track import Track
from actors.vault import Mask
from events import execution
from events.execution import End, Progress, State
from events.ports import Chunk

log = logging.getLogger(__name__)

FAST, SLOW = 0.05, 0.2
"""Seconds between two looks at a file that grows, and at one that does not."""


@dataclass(frozen=True, slots=True)
class Follow:
    """An attempt begins: read its output from now on."""

    entity: str
    state: State
    secrets: list[str]
    adopted: bool = False
    """Some of it may have been read by an earlier process."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command has this process id."""

    entity: str
    pid: int


@dataclass(frozen=True, slots=True)
class Drain:
    """The command is gone: read the rest and say so."""

    entity: str


@dataclass(frozen=True, slots=True)
class Drained:
    """All output was read and stored; what is known of it."""

    entity: str
    end: End


@dataclass(frozen=True, slots=True)
class Flooded:
    """The output is larger than allowed."""

    entity: str


@dataclass(frozen=True, slots=True)
class Anew:
    """This tailer was just made and follows nothing: whoever runs something has to say so again."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The bus was away: what it had confirmed may be gone."""


@dataclass(frozen=True, slots=True)
class Over:
    """The end of an attempt is stored: remove what only a running one needs.

    With the end of the execution, when no attempt follows, its streams are closed too.
    """

    entity: str
    state: State
    pid: int | None = None
    made: list[Path] = field(default_factory=list[Path])


@dataclass(frozen=True, slots=True)
class Note:
    """It runs for a while already: say so in its meta file."""

    entity: str
    state: State
    pid: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The bus has, or may not have, what was handed to it."""

    entity: str
    upto: dict[str, int]
    size: int
    sure: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Up to where one stream is stored."""

    entity: str
    stream: str
    offset: int | None


@dataclass(slots=True)
class Tail:
    """What is known of one execution that is followed."""

    state: State
    tracks: dict[str, Track]
    mask: Mask
    pid: int | None = None
    due: float = 0.0
    pause: float = FAST
    flying: int = 0
    doubts: dict[str, float] = field(default_factory=dict[str, float])
    """The streams of which nobody knows how much is stored, and when to ask again."""
    draining: bool = False
    over: bool = False
    """Nothing follows, so its streams may be closed."""
    flooded: bool = False
    output_at: str | None = None
    last: str = "stdout"
    said: int = 0
    """Bytes of the progress file that were read."""
    spoken: Progress | None = None
    shown: tuple[Any, ...] = ()
    shown_at: float = 0.0
    noted: tuple[Any, ...] = ()
    began: float = field(default_factory=time.monotonic)
    noted_at: float = 0.0

    def hear(self, entity: str, path: Path) -> None:
        """Read what `hindbrain progress` left in a file."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self.said:
            return
        with path.open("rb") as file:
            file.seek(self.said)
            lines = file.read(64 * 1024)
        whole = lines[: lines.rfind(b"\n") + 1]
        self.said += len(whole)
        for line in whole.splitlines():
            try:
                said = msgspec.json.decode(line, type=_Said)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                log.warning("%s: cannot read its progress: %s", entity, error)
            else:
                self.spoken = said.masked(self.mask)

    @property
    def progress(self) -> Progress | None:
        """How far it is: what it said by `hindbrain progress`, else what its output shows."""
        if self.spoken is not None:
            return self.spoken
        for stream in STREAMS:
            if found := self.tracks[stream].gauge.progress:
                return Progress(
                    current=found.current,
                    total=found.total,
                    unit=found.unit,
                    message=found.message or None,
                    fraction=found.fraction,
                )
        return None

    @property
    def last_line(self) -> str | None:
        """The last line of the stream that wrote last, else of the other one."""
        other = STREAMS[1] if self.last == STREAMS[0] else STREAMS[0]
        return self.tracks[self.last].last.text or self.tracks[other].last.text or None

    @property
    def sizes(self) -> dict[str, int]:
        """How many bytes of each stream were read."""
        return {stream: track.read for stream, track in self.tracks.items()}

    def report(self) -> execution.Report:
        """What the log should know of it while it runs."""
        return execution.Report(
            attempt=self.state.attempt,
            progress=self.progress,
            pid=self.pid,
            last_output=self.last_line,
            last_output_at=self.output_at,
            stdout_bytes=self.tracks["stdout"].read,
            stderr_bytes=self.tracks["stderr"].read,
        )

    def end(self) -> End:
        """What is known of it once everything was read."""
        out, err = (self.tracks[stream] for stream in STREAMS)
        for track in (out, err):
            track.gauge.close()
        return End(
            stdout_bytes=out.read,
            stderr_bytes=err.read,
            stdout_sha256=out.sha.hexdigest() if out.read else None,
            stderr_sha256=err.sha.hexdigest() if err.read else None,
            last_output=self.last_line,
            last_output_at=self.output_at,
            progress=self.progress,
            pid=self.pid,
        )

    def ends(self, entity: str, stamp: str) -> list[Chunk]:
        """The markers that close its streams."""
        return [
            Chunk(entity, stream, size, self.state.attempt, stamp, b"", end=True)
            for stream, size in self.sizes.items()
        ]

    def close(self) -> None:
        """Let go of its files."""
        for track in self.tracks.values():
            track.close()


class _Said(msgspec.Struct):
    """One line of the progress file; it comes from the command, so it may hold anything."""

    current: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None

    def masked(self, mask: Mask) -> Progress:
        """The same without secrets, and no longer than a line."""
        part = None if self.current is None or not self.total else self.current / self.total
        return Progress(
            current=_short(self.current),
            total=_short(self.total),
            unit=self.unit and mask.whole(self.unit)[:TEXT_CHARS],
            message=self.message and mask.whole(self.message)[:TEXT_CHARS],
            fraction=None if part is None else min(1.0, max(0.0, part)),
        )


def _short(number: float | None) -> float | None:
    """Give a whole number as one, as long as every reader of JSON knows it."""
    return int(number) if number is not None and abs(number) < 2**53 and number.is_integer() else number
