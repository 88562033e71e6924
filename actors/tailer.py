"""The tailer follows the output files of running commands and tells the world what is new in them.

Commands write straight into files, so output costs them nothing, never blocks them, and survives this node.
The files are looked at every 50 ms while they grow and every 200 ms while they are silent.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import history
from actors.files import STREAMS, Files
from actors.history import History, Learned
from actors.tail import (
    FAST,
    SLOW,
    Anew,
    Drain,
    Drained,
    Flooded,
    Follow,
    Found,
    Note,
    Over,
    Ran,
    Reconnected,
    Sent,
    Tail,
)
from actors.track import Track, chunk, now
from actors.vault import Mask
from events import codec, execution, view
from events.execution import EXECUTION, State
from events.ports import Ask, Chunk, Log, Outlet

log = logging.getLogger(__name__)

WINDOW = 4 * 1024 * 1024
"""Bytes of one execution that may be under way to the bus."""
TURN = 16
"""Pieces of one execution that are read before another one has its turn."""
GUESSED = 1.0
"""Seconds between two messages about a command of which only its history tells how far it is."""
SHOWN = 0.1
"""Seconds between two progress messages of one execution: at most ten a second."""
ENDED_SECONDS, ENDED_MAX = 60.0, 1000
"""For how long, and of how many that ended, the output may be sent again."""
DOUBT = 0.5
"""Seconds until what may not have arrived is looked up."""


class Tailer:
    """Reads files in turn, sends what is new, and keeps an eye on progress."""

    every = FAST

    def __init__(
        self,
        files: Files,
        outlet: Outlet,
        journal: Log,
        tell: Callable[[Any], None],
        executor: Callable[[Any], None],
        history: History,
        reports: dict[str, execution.Progressed],
    ) -> None:
        self._files, self._outlet, self._log = files, outlet, journal
        self._tell, self._executor, self._history = tell, executor, history
        self._reports = reports
        """What listeners were told last of what runs; the log hears of it later."""
        self._tails: dict[str, Tail] = {}
        self._ended: dict[str, tuple[float, Tail]] = {}
        """What was over lately: its output may have to be sent again."""
        self._anew = True

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Follow():
                self._follow(message)
            case Ran(entity, pid):
                if tail := self._tails.get(entity):
                    tail.pid = pid
            case Drain(entity):
                self._drain(entity)
            case Sent(entity, upto, size, sure):
                self._sent(entity, upto, size, sure)
            case Found(entity, stream, offset):
                self._found(entity, stream, offset)
            case Over():
                self._over(message)
            case Reconnected():
                self._reconnected()
            case Note(entity, state, pid):
                self._write_meta(entity, state, pid)
            case Learned():
                self._history.learned(message)
            case _:
                raise TypeError(f"the tailer has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Look at every file whose time has come."""
        if self._anew:
            self._anew = False
            self._executor(Anew())
        moment = time.monotonic()
        for entity, (_, tail) in self._ended.items():
            if tail.doubts:
                self._inquire(entity, tail)
        for entity, tail in list(self._tails.items()):
            if tail.doubts:
                self._inquire(entity, tail)
            if moment >= tail.due:
                grew = self._pump(entity, tail)
                self._report(entity, tail, moment)
                tail.pause = FAST if grew else min(SLOW, tail.pause * 1.3)
                tail.due = moment + tail.pause

    # ---- following -------------------------------------------------------------------------------------

    def _follow(self, message: Follow) -> None:
        entity, state = message.entity, message.state
        started = state.started
        if started is None:
            raise ValueError(f"{entity} was not started")
        known = self._tails.get(entity)
        if known is not None and known.state.attempt == state.attempt:
            return
        starts = {"stdout": started.stdout_offset, "stderr": started.stderr_offset}
        hidden = bool(message.secrets)
        tracks = {
            stream: Track(
                self._files.output(entity, stream),
                self._files.raw(entity, stream) if hidden else None,
                Mask(message.secrets),
                starts[stream],
            )
            for stream in STREAMS
        }
        self._ended.pop(entity, None)
        tail = self._tails[entity] = Tail(state, tracks, Mask(message.secrets))
        if message.adopted or state.attempt > 1:
            self._look_up(entity, tail)

    def _look_up(self, entity: str, tail: Tail) -> None:
        """Ask the bus how much of the output it has: an earlier process may have sent some, or lost some."""
        tail.doubts = dict.fromkeys(STREAMS, 0.0)
        self._inquire(entity, tail)

    def _inquire(self, entity: str, tail: Tail) -> None:
        moment = time.monotonic()
        for stream, due in tail.doubts.items():
            if due <= moment:
                tail.doubts[stream] = float("inf")
                self._outlet.offset(
                    entity, stream, lambda offset, stream=stream: self._tell(Found(entity, stream, offset))
                )

    def _found(self, entity: str, stream: str, offset: int | None) -> None:
        over = self._ended.get(entity)
        tail = self._tails.get(entity) or (over and over[1])
        if tail is None or stream not in tail.doubts:
            return
        if offset is None:
            tail.doubts[stream] = time.monotonic() + DOUBT
            return
        del tail.doubts[stream]
        track = tail.tracks[stream]
        track.sent = track.stored = min(offset, track.size())
        if entity in self._tails:
            self._step(entity, tail)
        elif not tail.doubts:
            self._mend(entity, tail)

    def _pump(self, entity: str, tail: Tail) -> bool:
        """Read and send what is new, within the window; True when there was something."""
        if tail.doubts:
            return False
        chunks: list[Chunk] = []
        stamp = now()
        for stream, track in tail.tracks.items():
            size = track.size()
            while min(track.read, track.sent) < size and len(chunks) < TURN:
                at = min(track.read, track.sent)
                fresh, unsent = track.read == at, track.sent == at
                if unsent and tail.flying >= WINDOW:
                    break
                data = track.piece()
                if not data:
                    break
                if fresh:
                    track.look(data)
                    tail.output_at, tail.last = codec.stamp(stamp), stream
                    self._note_time(entity, track, stream, at, len(data), stamp)
                if unsent:
                    track.sent += len(data)
                    tail.flying += len(data)
                    chunks.append(chunk(entity, stream, tail.state.attempt, at, data, codec.stamp(stamp)))
        if chunks:
            self._send(entity, tail, chunks)
        self._measure(entity, tail)
        return bool(chunks)

    def _send(self, entity: str, tail: Tail, chunks: Sequence[Chunk]) -> None:
        upto = {stream: track.sent for stream, track in tail.tracks.items()}
        size = sum(len(each.data) for each in chunks)
        self._outlet.output(chunks, lambda sure: self._tell(Sent(entity, upto, size, sure)))

    def _note_time(self, entity: str, track: Track, stream: str, at: int, size: int, stamp: int) -> None:
        """Write down when a piece came, unless an earlier process did."""
        known = track.timed
        if known is None:
            known = sum(piece[3] for piece in self._files.pieces(entity) if piece[1] == stream)
        new = at + size - max(at, known)
        track.timed = max(known, at + size)
        if new > 0:
            fd = os.open(
                self._files.times(entity), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(fd, f"{stamp} {stream} {new}\n".encode())
            finally:
                os.close(fd)

    def _sent(self, entity: str, upto: dict[str, int], size: int, sure: bool) -> None:
        tail = self._tails.get(entity)
        if tail is None:
            return
        tail.flying -= size
        if sure:
            for stream, track in tail.tracks.items():
                track.stored = max(track.stored, upto[stream])
        elif not tail.doubts:
            self._look_up(entity, tail)
        self._step(entity, tail)

    def _step(self, entity: str, tail: Tail) -> None:
        if tail.draining:
            self._drain(entity)
        elif tail.flying < WINDOW // 2:
            self._pump(entity, tail)

    def _measure(self, entity: str, tail: Tail) -> None:
        limits = tail.state.spec.limits
        if limits and limits.output_bytes is not None and not tail.flooded:
            written = sum(max(0, track.size() - track.start) for track in tail.tracks.values())
            if written > limits.output_bytes:
                tail.flooded = True
                self._executor(Flooded(entity))

    # ---- the end ---------------------------------------------------------------------------------------

    def _drain(self, entity: str) -> None:
        tail = self._tails.get(entity)
        if tail is None:
            log.warning("%s ended, but nobody followed it", entity)
            return
        if not tail.draining:
            tail.draining = True
            for track in tail.tracks.values():
                track.finish()
        while self._pump(entity, tail):
            if tail.flying >= WINDOW:
                return
        if tail.doubts or tail.flying:
            return
        tail.due = float("inf")
        tail.hear(entity, self._files.progress(entity))
        self._executor(Drained(entity, tail.end()))

    def _write_meta(self, entity: str, state: State, pid: int | None) -> None:
        shown = view.execution(entity, state, now())
        self._files.write_meta(entity, msgspec.to_builtins(shown) | {"pid": pid})

    def _over(self, message: Over) -> None:
        entity, state = message.entity, message.state
        self._write_meta(entity, state, message.pid)
        self._files.sweep(entity, message.made)
        self._reports.pop(entity, None)
        tail = self._tails.pop(entity, None)
        if tail is None and state.end is not None:
            sizes = {"stdout": state.end.end.stdout_bytes, "stderr": state.end.end.stderr_bytes}
            stamp = codec.stamp(now())
            n = state.attempt
            ends = [Chunk(entity, each, size, n, stamp, b"", end=True) for each, size in sizes.items()]
            self._outlet.output(ends, _hoped)
        elif tail is not None:
            tail.close()
            tail.over = state.end is not None
            self._ended[entity] = (time.monotonic(), tail)
            self._close(entity, tail)
            while len(self._ended) > ENDED_MAX:
                self._ended.pop(next(iter(self._ended)))

    def _close(self, entity: str, tail: Tail) -> None:
        """Send the markers that close its streams unless an attempt follows; in doubt, look what is there."""
        if not tail.over:
            return

        def done(sure: bool) -> None:
            if not sure:
                self._tell(Reconnected())

        self._outlet.output(tail.ends(entity, codec.stamp(now())), done)

    # ---- what the bus lost -----------------------------------------------------------------------------

    def _reconnected(self) -> None:
        """Output is confirmed before it is on the disk, so a server that was killed may have lost some."""
        since = time.monotonic() - ENDED_SECONDS
        self._ended = {entity: late for entity, late in self._ended.items() if late[0] > since}
        ended = {entity: tail for entity, (_, tail) in self._ended.items()}
        for entity, tail in (ended | self._tails).items():
            if not tail.doubts:
                self._look_up(entity, tail)

    def _mend(self, entity: str, tail: Tail) -> None:
        """Send again what is missing of an execution that is over, and its end markers."""
        for stream, track in tail.tracks.items():
            while track.sent < track.read:
                data = track.piece()
                if not data:
                    break
                piece = chunk(entity, stream, tail.state.attempt, track.sent, data, codec.stamp(now()))
                track.sent += len(data)
                self._outlet.output([piece], _hoped)
        tail.close()
        self._close(entity, tail)

    # ---- progress --------------------------------------------------------------------------------------

    def _report(self, entity: str, tail: Tail, moment: float) -> None:
        """Say how far it is: to listeners at most ten times a second, to the log far less often.

        The log hears at most once a second, and at most once per sixtieth of the age, so that a command that
        runs for a day leaves hundreds of facts and not tens of thousands.
        """
        tail.hear(entity, self._files.progress(entity))
        progress, sizes, age = tail.progress, tail.sizes, moment - tail.began
        guess = None
        if progress is None and age >= history.FROM_SECONDS and not tail.draining:
            ran = (now() - codec.millis(tail.state.started_at or codec.stamp(now()))) / 1000
            guess = self._history.guess(tail.state.spec, ran, sum(sizes.values()))
        report = tail.report()
        if guess is not None:
            report = msgspec.structs.replace(report, progress=history.progress(guess))
        seen = (report.progress and report.progress.fraction, progress, tail.pid, *sizes.values())
        fresh = seen != tail.shown and moment - tail.shown_at >= SHOWN and (progress or any(sizes.values()))
        if fresh or (guess is not None and moment - tail.shown_at >= GUESSED):
            tail.shown, tail.shown_at = seen, moment
            said = execution.Progressed(**msgspec.structs.asdict(report))
            # As the log would give it back: a number is 6.0 in both.
            self._reports[entity] = msgspec.convert(msgspec.to_builtins(said), execution.Progressed)
            state = msgspec.structs.replace(tail.state, report=said)
            told = view.announcement(entity, state, now())
            self._outlet.progress("execution", entity, history.shown(told, guess) if guess else told)
        late = moment - tail.noted_at >= max(1.0, age / 60)
        if age >= 1 and late and seen != tail.noted and not tail.draining:
            tail.noted, tail.noted_at = seen, moment
            by = f"node:{tail.state.started.node if tail.state.started else ''}"
            self._log.handle([Ask(EXECUTION, entity, report, by=by)], _unheard)


def _hoped(sure: bool) -> None:
    """What is mended a second time in vain is found by the next look, after the next reconnection."""
    if not sure:
        log.info("output that was sent again may be missing still")


def _unheard(outcomes: Sequence[Any]) -> None:
    """A report that was refused or lost is followed by another, or by the end, which says more."""
    for outcome in outcomes:
        if outcome.error:
            log.debug("%s: report not stored: %s", outcome.ask.entity, outcome.error)
