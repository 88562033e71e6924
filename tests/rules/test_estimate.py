"""How long it will still take: in words, for many operations, and for a command that ran before."""

import heapq
import math
import random
from collections.abc import Iterator
from statistics import median

import pytest

from events.estimate import (
    UNKNOWN,
    Pace,
    Run,
    announced,
    counted,
    doing,
    duration,
    guess,
    remaining,
)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (850, "850 ms"),
        (999.6, "1 s"),
        (12_000, "12 s"),
        (59_499, "59 s"),
        (59_500, "1 min 00 s"),
        (185_000, "3 min 05 s"),
        (3_599_600, "1 h 00 min"),
        (7_440_000, "2 h 04 min"),
        (100 * 3_600_000, "100 h 00 min"),
    ],
)
def test_durations_are_said_in_two_units_at_most(milliseconds: float, text: str) -> None:
    assert duration(milliseconds) == text


def test_every_text_has_its_form() -> None:
    assert counted(2, 3, "sections") == "2/3 sections (67%)"
    assert counted(2, None) == "2 operations"
    assert counted(0, 0) == "0/0 operations (100%)"
    assert doing("Building route", "/about") == "Building route: /about"
    assert doing("", "make test") == "make test"
    assert announced("Generating sections", 3) == "Generating 3 sections"
    assert announced("Nightly thumbnails of everything", 5) == "Running 5 operations"
    assert announced(None, 1) == "Running 1 operation"
    assert remaining(None) == UNKNOWN == "Calculating..."
    assert remaining(3000) == "3 s"


def test_nothing_is_known_until_the_first_ends() -> None:
    pace = Pace(0.0)
    assert pace.left(10) is None
    pace.note(500, 1)
    assert pace.average() == 500
    assert pace.left(9) == 4500


def test_standing_still_on_purpose_costs_no_speed() -> None:
    pace = Pace(0.0)
    pace.note(100, 10)
    pace.pause(60_000)
    pace.note(60_200, 20)
    assert pace.left(10) == pytest.approx(100)


def simulate(count: int, at_once: int, sigma: float, seed: int) -> Iterator[tuple[float, float, float]]:
    """Run operations with log-normal durations whose speed halves at 60 %.

    Gives the share that is done, the estimate and the truth, every 100 ms of the last half of the time.
    """
    chance = random.Random(seed)
    middle = math.log(100) - sigma * sigma / 2
    running: list[tuple[float, float]] = []
    ends: list[tuple[float, float]] = []
    for number in range(count):
        begin = heapq.heappop(running)[0] if len(running) == at_once else 0.0
        took = chance.lognormvariate(middle, sigma) * (2 if number >= 0.6 * count else 1)
        heapq.heappush(running, (begin + took, begin))
        ends.append((begin + took, took))
    ends.sort()
    whole, pace, done, now = ends[-1][0], Pace(0.0), 0, 0.0
    while done < count:
        now += 100
        while done < count and ends[done][0] <= now:
            pace.took(ends[done][1])
            done += 1
        pace.note(now, done)
        if now > whole / 2 and done < count:
            guessed = pace.left(count - done, min(at_once, count - done))
            assert guessed is not None
            yield done / count, guessed, whole - now


@pytest.mark.parametrize(
    ("count", "at_once", "sigma", "share"),
    [(10_000, 64, 0.5, 0.98), (10_000, 16, 0.5, 0.98), (2000, 8, 0.5, 0.95), (1000, 4, 0.4, 0.95)],
)
def test_over_the_last_half_the_estimate_is_within_a_fifth(
    count: int, at_once: int, sigma: float, share: float
) -> None:
    off = [
        abs(guessed - truth) / truth
        for seed in range(5)
        for done, guessed, truth in simulate(count, at_once, sigma, seed)
        if done < 0.95
    ]
    assert median(off) < 0.1
    assert sum(each <= 0.2 for each in off) / len(off) >= share


def test_wild_durations_are_estimated_within_a_fifth_most_of_the_time() -> None:
    off = [
        abs(guessed - truth) / truth
        for seed in range(3)
        for done, guessed, truth in simulate(10_000, 64, 1.0, seed)
        if done < 0.95
    ]
    assert median(off) < 0.2


def test_a_command_that_ran_before_is_measured_by_its_history() -> None:
    runs = [Run(duration_ms=each) for each in (9000, 10_000, 11_000)]
    found = guess(runs, 4000, 0)
    assert found is not None
    assert found.fraction == pytest.approx(0.4)
    assert found.eta_ms == 6000
    assert 5000 <= found.low_ms < found.eta_ms < found.high_ms <= 7000
    assert found.text == "about 40%, 5 s to 7 s left (estimated)"


def test_bytes_count_where_every_run_wrote_the_same() -> None:
    runs = [Run(duration_ms=10_000, bytes=each) for each in (1000, 1010, 990)]
    found = guess(runs, 2000, 400)
    assert found is not None
    assert found.fraction == pytest.approx(0.3)


def test_what_outlived_all_its_runs_is_not_guessed_at() -> None:
    assert guess([Run(duration_ms=1000)], 1500, 0) is None
    assert guess([], 10, 0) is None
