"""How long something will still take, by what was seen of it so far or of what ran before.

Operations of a batch do not run at one speed for ever: a machine gets busy, later items are larger.  So the
average is taken over the longest stretch up to now in which the speed looks the same: from the beginning when
nothing changed, and from a change on when what came after it speaks clearly against what came before.
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from events.message import Message

UNKNOWN = "Calculating..."
"""What stands in place of a time until the first operation has ended."""
MARKS = 96
"""Points of the record that are kept."""
FRESH = 48
"""How many of them are recent ones, one after the other; the older ones are thinned."""
CLEAR = 3.2
"""How many standard errors apart two speeds must be to be two."""
LATELY = 500
"""Of how many that ended last it is remembered how long they took."""
LATEST = 0.08
"""The share of the time that is always looked at: whatever is shorter is a hiccup, not another speed."""
LEAST = 10
"""Ends that a stretch must have to say anything about speed."""
CALM = 0.3
"""The least variation (deviation by mean) that the durations of operations are taken to have."""
ALIKE = 1.5
"""Runs whose outputs differ by no more than this factor say by their bytes how far the next one is."""


# ---- in words --------------------------------------------------------------------------------------------


def duration(milliseconds: float) -> str:
    """Say how long: `850 ms`, `12 s`, `3 min 05 s`, `2 h 04 min`."""
    ms = max(0, round(milliseconds))
    if ms < 1000:
        return f"{ms} ms"
    seconds = round(ms / 1000)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    minutes = round(ms / 60_000)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def remaining(milliseconds: float | None) -> str:
    """Say how long it will still take, as far as that is known."""
    return UNKNOWN if milliseconds is None else duration(milliseconds)


def counted(done: int, total: int | None, unit: str = "operations") -> str:
    """Say how far it is: `2/3 sections (67%)`, and `2 sections` while nobody knows how many there will be."""
    if total is None:
        return f"{done} {unit}"
    return f"{done}/{total} {unit} ({100 * done / total if total else 100:.0f}%)"


def doing(what: str, which: str) -> str:
    """Say what is at work: `Building route: /about`; one of the two alone stands for itself."""
    return f"{what}: {which}" if what and which else what or which


def announced(description: str | None, count: int | None) -> str:
    """Say what begins: of 3 `Generating sections` is `Generating 3 sections`, else `Running 3 operations`."""
    verb, unit = words(description)
    return f"{verb} {unit}" if count is None else f"{verb} {number(count, unit)}"


def number(count: int, unit: str) -> str:
    """Say how many: `3 sections`, `1 section`."""
    return f"{count} {unit if count != 1 else unit[:-1]}"


def words(description: str | None) -> tuple[str, str]:
    """Part a description such as `Generating sections` into what is done and what is counted."""
    verb, _, unit = (description or "").strip().partition(" ")
    if verb.endswith("ing") and unit and " " not in unit and unit.endswith("s"):
        return verb, unit
    return "Running", "operations"


# ---- many operations -------------------------------------------------------------------------------------


class Mark(Message, array_like=True):
    """So many operations had ended at that moment."""

    time: float
    done: int


class Pace:
    """How quickly the operations of one plan end; told at which moment how many had ended, in order.

    Times are in milliseconds of any clock that does not jump.
    """

    def __init__(self, began: float, done: int = 0) -> None:
        self._marks = [Mark(time=began, done=done)]
        self._took: deque[float] = deque(maxlen=LATELY)

    def note(self, time: float, done: int) -> None:
        """So many have ended by now."""
        last = self._marks[-1]
        if done <= last.done:
            return
        if time <= last.time:
            self._marks[-1] = Mark(time=last.time, done=done)
        else:
            self._marks.append(Mark(time=time, done=done))
        if len(self._marks) > MARKS:
            self._thin()

    def pause(self, milliseconds: float) -> None:
        """It stood still for so long, which says nothing about its speed."""
        self._marks = [Mark(time=mark.time + milliseconds, done=mark.done) for mark in self._marks]

    def took(self, milliseconds: float) -> None:
        """One that ended lately took so long by itself."""
        self._took.append(max(0.0, milliseconds))

    def average(self, remaining: int = 1, running: int = 0) -> float | None:
        """How many milliseconds each of the remaining operations adds; None until something ended.

        With several at once that is less than one of them takes, except at the end: those that are `running`
        when nothing waits any more are not followed by others, and the longest of them is waited for.
        """
        last = self._marks[-1]
        first = self._marks[self._steady()]
        if last.done == first.done or remaining <= 0:
            return None
        pace = (last.time - first.time) / (last.done - first.done)
        if len(self._took) < LEAST or pace <= 0:
            return pace
        # Of those that were started some may wait for a place: so many really run.
        at_once = round(sum(self._took) / len(self._took) / pace)
        running = min(running, remaining, max(1, at_once))
        if running < 2:
            return pace
        return (pace * (remaining - running) + longest(self._took, running)) / remaining

    def left(self, remaining: int, running: int = 0) -> float | None:
        """How many milliseconds the remaining operations will take together; None until something ended."""
        average = self.average(remaining, running)
        return None if average is None else remaining * average

    def _thin(self) -> None:
        """Forget one of the older marks: the one whose neighbours are closest to each other for their age."""
        marks, end = self._marks, self._marks[-1].done

        def closeness(i: int) -> float:
            return (marks[i + 1].done - marks[i - 1].done) / max(1, end - marks[i].done)

        del marks[min(range(1, len(marks) - FRESH), key=closeness)]

    def _steady(self) -> int:
        """The mark from which on the speed looks the same."""
        begin = 0
        while (cut := self._break(begin)) is not None:
            begin = cut
        return begin

    def _break(self, begin: int) -> int | None:
        """Where the speed changed most clearly after a mark, if it did."""
        marks = self._marks
        first, last = marks[begin], marks[-1]
        found, most, variation = None, CLEAR, self._variation(begin)
        latest = last.time - LATEST * (last.time - marks[0].time)
        for index in range(begin + 1, len(marks) - 1):
            mark = marks[index]
            before, after = mark.done - first.done, last.done - mark.done
            if before < LEAST or after < LEAST:
                continue
            if mark.time > latest:
                break
            change = (last.time - mark.time) / after * before / (mark.time - first.time)
            clear = abs(math.log(change)) / (variation * math.sqrt(1 / before + 1 / after))
            if clear > most:
                found, most = index, clear
        return found

    def _variation(self, begin: int) -> float:
        """How much durations vary, by how neighbouring stretches differ: so that a change does not count."""
        steps = [
            ((late.time - early.time) / (late.done - early.done), late.done - early.done)
            for early, late in pairwise(self._marks[begin:])
        ]
        found = [
            ((b - a) / (a + b) * 2) ** 2 / (1 / m + 1 / n) for (a, m), (b, n) in pairwise(steps) if a + b > 0
        ]
        return max(CALM, math.sqrt(sum(found) / len(found))) if found else 1.0


def longest(took: Sequence[float], running: int) -> float:
    """How long the last of some running operations will still run, when others took so long.

    What is found running is a long one rather than a short one, and somewhere in its middle: the time that it
    still has is distributed like the time that all of them spent so long before their ends (renewal theory).
    """
    known = sorted(took)
    whole = sum(known)
    if whole <= 0:
        return 0.0
    area, rest, count, before, chance_before = 0.0, whole, len(known), 0.0, 1.0
    for each in known:
        share = (rest - each * count) / whole
        chance = 1 - (1 - max(0.0, share)) ** running
        area += (each - before) * (chance + chance_before) / 2
        before, chance_before = each, chance
        rest, count = rest - each, count - 1
    return area


# ---- one command that ran before -------------------------------------------------------------------------


class Run(Message, array_like=True):
    """How long the same command took once, and how much it wrote."""

    duration_ms: int
    bytes: int = 0


class Guess(Message):
    """How far a command seems to be, and how many milliseconds it may still take."""

    fraction: float
    eta_ms: int
    low_ms: int
    high_ms: int

    @property
    def text(self) -> str:
        """Say it as what it is: `about 40%, 12 s to 15 s left (estimated)`."""
        low, high = duration(self.low_ms), duration(self.high_ms)
        span = low if low == high else f"{low} to {high}"
        return f"about {self.fraction:.0%}, {span} left (estimated)"


def guess(runs: Sequence[Run], elapsed_ms: float, written: int) -> Guess | None:
    """Say how far a command is by earlier runs of it; None when there are none, or it outlived them all.

    Time tells it, and the bytes it wrote tell it too when all runs wrote about the same.
    """
    longer = sorted(run.duration_ms for run in runs if run.duration_ms > elapsed_ms)
    if not longer:
        return None
    typical = median(longer)
    fraction = elapsed_ms / typical
    sizes = [run.bytes for run in runs]
    if written and min(sizes) > 0 and max(sizes) <= ALIKE * min(sizes) and written <= max(sizes):
        fraction = (fraction + written / max(median(sizes), written)) / 2
    low, high = _quantile(longer, 0.1) - elapsed_ms, _quantile(longer, 0.9) - elapsed_ms
    return Guess(
        fraction=min(0.99, fraction),
        eta_ms=round(typical - elapsed_ms),
        low_ms=round(low),
        high_ms=round(high),
    )


def _quantile(ordered: Sequence[int], part: float) -> float:
    place = part * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
