"""When something is to happen: once, at every so often, or by a cron expression in a time zone.

Everything is in milliseconds since 1970; a tick is never found twice, and each is later than the one before.

A cron expression has five fields (minute, hour, day of month, month, day of week) or six (seconds first),
with `*`, `a-b`, `a,b`, `*/n`, names, `L` (last day of the month), `LW` (last weekday), `5L` (last Friday) and
`MON#2` (second Monday); `@hourly @daily @weekly @monthly @yearly` are known.  Day of month and day of week
must both fit if either begins with a star, else one of them is enough, as in cron(8).

When clocks change, an expression that names every hour follows time as it passes: `*/15 * * * *` goes on
every fifteen minutes.  Any other follows the clock on the wall: what stands in the hour that is left out
happens once, at its end; what stands in the hour that comes twice happens the first time only.
"""

import datetime as dt
import difflib
import zoneinfo
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from cronsim import CronSim, CronSimError

from events.clock import millis, stamp
from events.errors import Validation
from events.message import Message

EVERY_MIN_MS = 100
EVERY_MAX_MS = 366 * 24 * 60 * 60 * 1000
CRON_LETTERS = 256
LAST_YEAR = 9000
"""Nothing is planned after it: calendars of computers end in 9999."""
WINDOW_MS = 60_000
SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 (0 and 7 are Sunday) or SUN-SAT",
}


class When(Message):
    """One of `at`, `every_ms` and `cron`."""

    at: str | None = None
    every_ms: int | None = None
    cron: str | None = None
    zone: str = "UTC"
    """An IANA time zone, for cron."""
    starts: str | None = None
    """No tick before this; `every_ms` counts from it, its first tick is this moment."""
    ends: str | None = None
    """No tick after this."""


def check(when: When) -> None:
    """Refuse what never comes or cannot be read; `Validation` says which field, and what is allowed."""
    given = [name for name in ("at", "every_ms", "cron") if getattr(when, name) is not None]
    if len(given) != 1:
        text = f"{' and '.join(given)} are given" if given else "nothing says when"
        raise Validation(f"{text}: give exactly one of at, every_ms and cron", field=(given or ["cron"])[-1])
    for name in ("at", "starts", "ends"):
        if getattr(when, name) is not None:
            moment(getattr(when, name), name)
    if when.starts is not None and when.ends is not None and millis(when.ends) < millis(when.starts):
        raise Validation("ends is before starts", field="ends")
    if when.every_ms is not None and not EVERY_MIN_MS <= when.every_ms <= EVERY_MAX_MS:
        raise Validation(
            f"every_ms is {when.every_ms}: it must be between {EVERY_MIN_MS} and {EVERY_MAX_MS}",
            field="every_ms",
        )
    zone(when.zone)
    if when.cron is not None:
        _Cron.read(when.cron, when.zone)


def moment(text: str, field: str) -> int:
    """Read a time in RFC 3339 as milliseconds since 1970; one without an offset is refused."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Validation(f"{field} is {text!r}: write it like 2026-01-31T12:00:00Z", field=field) from None
    if time.tzinfo is None:
        raise Validation(f"{field} is {text!r}: end it with Z or an offset such as +01:00", field=field)
    if not 1970 < time.year < LAST_YEAR:
        raise Validation(f"{field} is {text!r}: it must lie between 1971 and {LAST_YEAR}", field=field)
    return round(time.timestamp() * 1000)


@lru_cache(maxsize=1024)
def zone(name: str) -> zoneinfo.ZoneInfo:
    """Find a time zone by its IANA name; the nearest name is said when there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), 1)
        meant = f", did you mean {near[0]}?" if near else ": use an IANA name such as Europe/Berlin"
        raise Validation(f"unknown time zone {name[:64]!r}{meant}", field="zone") from None


def ticks(when: When, after: int, born: int) -> Iterator[int]:
    """All ticks later than `after`, soonest first; `born` is when an interval without `starts` began."""
    first = after if when.starts is None else max(after, millis(when.starts) - 1)
    last = None if when.ends is None else millis(when.ends)
    for tick in _ticks(when, first, born):
        if last is not None and tick > last:
            return
        yield tick


def _ticks(when: When, after: int, born: int) -> Iterator[int]:
    if when.at is not None:
        tick = moment(when.at, "at")
        return iter([tick] if tick > after else [])
    if when.every_ms is not None:
        # Without a beginning of its own, the first tick comes one interval after its birth.
        anchor = born if when.starts is None else millis(when.starts)
        low = 1 if when.starts is None else 0
        return _steps(anchor, when.every_ms, max(low, (after - anchor) // when.every_ms + 1))
    return _Cron.read(when.cron or "", when.zone).ticks(after)


def _steps(anchor: int, every: int, n: int) -> Iterator[int]:
    end = 253_000_000_000_000  # the year 9987
    while (tick := anchor + n * every) < end:
        yield tick
        n += 1


def coming(when: When, after: int, born: int, count: int = 1) -> list[int]:
    """The next few ticks."""
    return list(islice(ticks(when, after, born), count))


def between(when: When, after: int, until: int, born: int, most: int) -> tuple[list[int], int | None]:
    """The last ticks in `(after, until]`, at most so many, and the first of all if there were more.

    It looks back from the end in growing windows, so a long time costs no more than what it answers.
    """
    span = WINDOW_MS if when.every_ms is None else when.every_ms * (most + 1)
    while True:
        low = max(after, until - span)
        found = [*_until(ticks(when, low, born), until)]
        if len(found) > most or low == after:
            break
        span *= 2
    if len(found) <= most:
        return found, None
    first = next(ticks(when, after, born))
    return found[-most:], first


def _until(source: Iterator[int], until: int) -> Iterator[int]:
    for tick in source:
        if tick > until:
            return
        yield tick


class _Cron:
    """A cron expression in a time zone."""

    def __init__(self, text: str, name: str) -> None:
        self._zone = zone(name)
        words = SHORT.get(text.strip().lower(), text).split()
        # With the seconds said, the library has no rules of its own for changing clocks.
        self._text = " ".join(["0", *words] if len(words) == 5 else words)
        if len(text) > CRON_LETTERS or len(words) not in (5, 6):
            raise Validation(
                f"cron has {len(words)} fields in {text[:80]!r}: write five (minute hour day-of-month month "
                "day-of-week) or six with seconds first",
                field="cron",
            )
        try:
            probe = CronSim(self._text, dt.datetime(2024, 1, 1))  # noqa: DTZ001  only its fields are read
            self._passing = len(probe.hours) == 24
            next(probe)
        except CronSimError as error:
            raise Validation(self._wrong(str(error), words, text), field="cron") from None
        except StopIteration:
            raise Validation(f"cron {text!r} never comes: no such day exists", field="cron") from None

    def _wrong(self, said: str, words: list[str], text: str) -> str:
        name = said.removeprefix("Bad ").strip()
        names = list(FIELDS)[6 - len(words) :]
        if name not in names:
            return f"cron {text!r} cannot be read: {said}"
        word = words[names.index(name)]
        return f"cron {text!r}: {name} is {word!r}, allowed is {FIELDS[name]}"

    @staticmethod
    @lru_cache(maxsize=1024)
    def read(text: str, name: str) -> "_Cron":
        """Read it once for all."""
        return _Cron(text, name)

    def ticks(self, after: int) -> Iterator[int]:
        """All ticks later than `after`."""
        here = dt.datetime.fromtimestamp(after // 1000, self._zone)
        simulated = CronSim(self._text, here if self._passing else here.replace(tzinfo=None, fold=0))
        last = after
        for time in simulated:
            if time.year >= LAST_YEAR:
                return
            tick = self._tick(time)
            if tick > last:
                last = tick
                yield tick

    def _tick(self, time: dt.datetime) -> int:
        """The moment of a time on the wall; the first of two, the end of the gap for one that is left out."""
        real = time if time.tzinfo is not None else time.replace(tzinfo=self._zone)
        there = real.astimezone(dt.UTC)
        if there.astimezone(self._zone).replace(tzinfo=None) != real.replace(tzinfo=None, fold=0):
            there = self._gap(there)
        return round(there.timestamp() * 1000)

    def _gap(self, there: dt.datetime) -> dt.datetime:
        """When the clocks were put forward, given a moment up to a day after that."""
        high = there
        low = there - dt.timedelta(days=1)
        before = low.astimezone(self._zone).utcoffset()
        while high - low > dt.timedelta(seconds=1):
            middle = low + (high - low) // 2
            if middle.astimezone(self._zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        return high.replace(microsecond=0)


def text(when: When) -> str:
    """Say it as a person would."""
    if when.at is not None:
        return f"at {when.at}"
    if when.every_ms is not None:
        return f"every {when.every_ms / 1000:g} s"
    return f"cron {when.cron} ({when.zone})"


def stamps(moments: list[int]) -> list[str]:
    """Moments as RFC 3339."""
    return [stamp(each) for each in moments]
