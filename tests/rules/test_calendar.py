"""When something happens next: intervals, single moments, and cron over changes of the clocks."""

import datetime as dt
import zoneinfo
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import calendar
from events.calendar import When
from events.codec import millis, stamp
from events.errors import Validation

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BEGIN, END = millis("2019-01-01T00:00:00Z"), millis("2027-01-01T00:00:00Z")


def local(moment: int, zone: str) -> str:
    return f"{dt.datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)):%m-%d %H:%M%z}"


def after(cron: str, zone: str, time: str, count: int) -> list[str]:
    """The next ticks, as the clock on the wall shows them there."""
    found = calendar.coming(When(cron=cron, zone=zone), millis(time), 0, count)
    return [local(tick, zone) for tick in found]


@cache
def changes(zone: str) -> list[int]:
    """The moments from 2019 to 2026 at which the clocks there are changed."""
    tz = ZoneInfo(zone)

    def offset(moment: int) -> dt.timedelta | None:
        return dt.datetime.fromtimestamp(moment / 1000, tz).utcoffset()

    found: list[int] = []
    for day in range(BEGIN, END, DAY):
        if offset(day) != offset(day + DAY):
            low, high = day, day + DAY
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high)
    return found


ZONES = sorted(zone for zone in zoneinfo.available_timezones() if zone.count("/") == 1)
minutes = st.sets(st.integers(0, 59), min_size=1, max_size=4)
hours = st.just(set(range(24))) | st.sets(st.integers(0, 23), min_size=1, max_size=4) | st.just({0, 1, 2, 3})
weekdays = st.just(set(range(7))) | st.sets(st.integers(0, 6), min_size=1, max_size=6)


def written(fields: set[int], whole: int) -> str:
    return "*" if len(fields) == whole else ",".join(map(str, sorted(fields)))


def model(minute: set[int], hour: set[int], weekday: set[int], zone: str, low: int, high: int) -> list[int]:
    """The ticks in `(low, high]`, by a look at every minute that passes and every minute on the wall."""
    tz = ZoneInfo(zone)

    def fits(wall: dt.datetime) -> bool:
        return wall.minute in minute and wall.hour in hour and wall.isoweekday() % 7 in weekday

    real = [dt.datetime.fromtimestamp(moment / 1000, tz) for moment in range(low, high + 1, MINUTE)]
    if len(hour) == 24:
        ticks = {round(each.timestamp() * 1000) for each in real if fits(each)}
    else:
        first: dict[dt.datetime, dt.datetime] = {}
        for each in real:
            first.setdefault(each.replace(tzinfo=None, fold=0), each)
        ticks = set[int]()
        wall, end = min(first), max(first)
        last = wall
        missing: list[dt.datetime] = []
        while wall <= end:
            if wall in first:
                gap, missing = any(map(fits, missing)), []
                if fits(wall) or gap:
                    ticks.add(round(first[wall].timestamp() * 1000))
                last = wall
            else:
                missing.append(wall)
            wall += dt.timedelta(minutes=1)
        assert last == end
    return sorted(tick for tick in ticks if low < tick <= high)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(ZONES), minutes, hours, weekdays, st.integers(-36, 4))
def test_around_every_change_of_clocks_it_ticks_as_the_wall_and_the_minutes_say(
    data: st.DataObject, zone: str, minute: set[int], hour: set[int], weekday: set[int], lead: int
) -> None:
    moments = changes(zone) or [millis("2024-02-28T12:00:00Z")]
    change = data.draw(st.sampled_from(moments)) // MINUTE * MINUTE
    low, high = change + lead * HOUR, change + 40 * HOUR
    cron = f"{written(minute, 60)} {written(hour, 24)} * * {written(weekday, 7)}"
    when = When(cron=cron, zone=zone)
    found = list(takewhile(lambda tick: tick <= high, calendar.ticks(when, low, 0)))
    # What was ticked before the window is not ticked in it, though the wall may show it again.
    wanted = [each for each in model(minute, hour, weekday, zone, low - 30 * HOUR, high) if each > low]
    assert [local(each, zone) for each in found] == [local(each, zone) for each in wanted]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ZONES), minutes, hours, st.integers(BEGIN, END), st.integers(1, 30))
def test_asking_tick_by_tick_finds_the_same_as_asking_once(
    zone: str, minute: set[int], hour: set[int], begin: int, count: int
) -> None:
    """A timer asks again after every tick, and another timer may go on from any of them."""
    when = When(cron=f"{written(minute, 60)} {written(hour, 24)} * * *", zone=zone)
    at_once = calendar.coming(when, begin, 0, count)
    one_by_one: list[int] = []
    for _ in range(count):
        one_by_one += calendar.coming(when, one_by_one[-1] if one_by_one else begin, 0)
    assert one_by_one == at_once
    assert sorted(set(at_once)) == at_once


def test_in_the_missing_hour_nothing_is_skipped() -> None:
    assert after("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) == [
        "03-29 03:00+0200",
        "03-30 02:30+0200",
    ]
    assert after("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3) == [
        "03-29 03:00+0200",
        "03-29 03:30+0200",
        "03-30 02:00+0200",
    ]


def test_in_the_repeated_hour_nothing_happens_twice() -> None:
    assert after("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2) == [
        "11-01 01:30-0400",
        "11-02 01:30-0500",
    ]


def test_what_names_every_hour_goes_on_as_time_passes() -> None:
    assert after("30 * * * *", "America/New_York", "2026-11-01T05:00:00Z", 3) == [
        "11-01 01:30-0400",
        "11-01 01:30-0500",
        "11-01 02:30-0500",
    ]
    spring = calendar.coming(
        When(cron="*/15 * * * *", zone="Europe/Berlin"), millis("2026-03-29T00:00:00Z"), 0, 20
    )
    assert [b - a for a, b in pairwise(spring)] == [15 * MINUTE] * 19


def test_a_whole_day_can_be_missing() -> None:
    """Samoa had no 30 December 2011."""
    assert after("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1) == ["12-31 00:00+1400"]


def test_midnight_can_be_missing() -> None:
    assert after("0 0 * * *", "Africa/Cairo", "2024-04-25T12:00:00Z", 2) == [
        "04-26 01:00+0300",
        "04-27 00:00+0300",
    ]


def test_seconds_stand_first_when_there_are_six_fields() -> None:
    found = calendar.coming(When(cron="*/20 * * * * *"), millis("2026-01-31T23:59:30Z"), 0, 3)
    assert [stamp(each)[11:19] for each in found] == ["23:59:40", "00:00:00", "00:00:20"]


def test_names_and_shorthands_are_known() -> None:
    assert after("@daily", "Asia/Tokyo", "2026-01-31T00:00:00Z", 1) == ["02-01 00:00+0900"]
    assert after("0 9 * feb mon#2", "UTC", "2026-01-01T00:00:00Z", 1) == ["02-09 09:00+0000"]
    assert after("0 9 L * *", "UTC", "2028-02-01T00:00:00Z", 1) == ["02-29 09:00+0000"]


@given(
    st.integers(100, DAY), st.integers(0, END), st.none() | st.integers(BEGIN, END), st.integers(-DAY, END)
)
@example(100, 1000, None, 1000)
def test_an_interval_counts_from_where_it_began(every: int, born: int, starts: int | None, late: int) -> None:
    when = When(every_ms=every, starts=None if starts is None else stamp(starts))
    found = calendar.coming(when, late, born, 3)
    anchor = born + every if starts is None else starts
    assert found[0] >= anchor
    assert found[0] > late
    assert found[0] == anchor or found[0] - every <= late
    assert [(each - anchor) % every for each in found] == [0, 0, 0]
    assert found[2] - found[0] == 2 * every


def test_a_single_moment_comes_once() -> None:
    when = When(at="2026-01-31T13:00:00+01:00")
    noon = millis("2026-01-31T12:00:00Z")
    assert calendar.coming(when, noon - 1, 0, 5) == [noon]
    assert calendar.coming(when, noon, 0, 5) == []


def test_nothing_comes_after_its_end() -> None:
    when = When(every_ms=1000, starts=stamp(10_000), ends=stamp(12_000))
    assert calendar.coming(when, 0, 0, 9) == [10_000, 11_000, 12_000]


whens = st.one_of(
    st.builds(When, every_ms=st.integers(100, 5000)),
    st.sampled_from(["* * * * *", "* * * * * *", "0 0 29 2 *", "*/7 3 * * 1"]).map(lambda c: When(cron=c)),
)


@settings(max_examples=200, deadline=None)
@given(whens, st.integers(BEGIN, END), st.integers(0, 300_000), st.integers(1, 50))
def test_looking_back_finds_the_last_ones_and_where_the_others_began(
    when: When, begin: int, length: int, most: int
) -> None:
    whole = list(
        takewhile(lambda tick: tick <= begin + length, calendar.ticks(when, begin, BEGIN - 1_000_000))
    )
    last, first = calendar.between(when, begin, begin + length, BEGIN - 1_000_000, most)
    assert last == whole[-most:]
    assert first == (whole[0] if len(whole) > most else None)


def test_looking_back_over_years_is_quick() -> None:
    """Thirty million ticks lie in between; they are not counted one by one."""
    for when in (When(cron="* * * * * *"), When(every_ms=1000)):
        last, first = calendar.between(when, END - 366 * DAY, END, 0, 1000)
        assert (len(last), last[-1]) == (1000, END)
        assert first == END - 366 * DAY + 1000


@pytest.mark.parametrize(
    ("when", "field", "says"),
    [
        (When(), "cron", "exactly one of at, every_ms and cron"),
        (When(cron="* * * * *", every_ms=1000), "cron", "exactly one"),
        (When(every_ms=5), "every_ms", "between 100"),
        (When(at="tomorrow"), "at", "2026-01-31T12:00:00Z"),
        (When(at="2026-01-31T12:00:00"), "at", "offset"),
        (When(cron="* * * *"), "cron", "4 fields"),
        (When(cron="0 25 * * *"), "cron", "hour is '25', allowed is 0-23"),
        (When(cron="61 * * * *"), "cron", "minute is '61'"),
        (When(cron="0 0 * FOO *"), "cron", "month is 'FOO'"),
        (When(cron="0 0 * * 1-9"), "cron", "day-of-week is '1-9'"),
        (When(cron="99 0 0 * * *"), "cron", "second is '99'"),
        (When(cron="0 0 31 2 *"), "cron", "day-of-month"),
        (When(cron="* * * * *", zone="Europe/Berln"), "zone", "did you mean Europe/Berlin"),
        (When(cron="* * * * *", zone="../../etc/passwd"), "zone", "unknown time zone"),
        (When(cron="* * * * *", zone="America"), "zone", "unknown time zone"),
        (
            When(every_ms=1000, starts="2026-02-01T00:00:00Z", ends="2026-01-01T00:00:00Z"),
            "ends",
            "before starts",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_says_what_to_write(when: When, field: str, says: str) -> None:
    with pytest.raises(Validation) as refused:
        calendar.check(when)
    assert refused.value.details["field"] == field
    assert says in refused.value.message


@given(st.text(max_size=30), st.sampled_from(["UTC", "Europe/Berlin"]))
@settings(max_examples=300)
@example("1/99999999999999999999999999999999 * * * *", "UTC")
@example("5#2/2 * * * 5#2/2", "UTC")
@example("0 0 * * ²L", "UTC")
def test_any_text_is_a_cron_expression_or_refused(text: str, zone: str) -> None:
    try:
        calendar.check(When(cron=text, zone=zone))
    except Validation:
        return
    assert list(islice(calendar.ticks(When(cron=text, zone=zone), 0, 0), 1))
