"""Recorded work, run again under a policy: exact where a person can count along, and always the same."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import scaling
from events.backtest import Recorded, differences
from events.crew import Arrival, Waits, waits
from events.look import TOTAL_MAX, CategoryLook, ModuleLook, Snapshot
from events.policy import Policy
from events.queueing import waits as expected
from events.scaling import Seen
from events.simulation import Outcome, simulate

NOW = 1_767_225_600_000


def start(*modules: ModuleLook, total: int = TOTAL_MAX) -> Snapshot:
    categories = (CategoryLook(name="phase2", max=5, base=5),)
    return Snapshot(time_ms=NOW, modules=modules, categories=categories, total_max=total)


def crew(workers: int, name: str = "a", **more: int) -> ModuleLook:
    return ModuleLook(name=name, category="phase2", workers=workers, min=more.get("min", 1))


def came(*seconds: float, lasts: float = 1.0, module: str = "a", priority: str = "medium") -> list[Arrival]:
    return [
        Arrival(NOW + round(each * 1000), module, round(lasts * 1000), priority) for each in sorted(seconds)
    ]


def told(outcome: Outcome) -> list[tuple[float, str, int, int]]:
    return [
        ((each.time_ms - NOW) / 1000, each.decision.type, each.decision.before, each.decision.after)
        for each in outcome.decisions
    ]


CLASSIC, SHRINKING = Policy(), Policy(auto_scale_down=True, cooldown_seconds=60.0)


def test_one_worker_takes_one_after_the_other() -> None:
    outcome = simulate(came(0, 0, 0.5), start(crew(1)), CLASSIC)
    assert outcome.waits == Waits(count=3, p50_ms=1000, p95_ms=1500, max_ms=1500)
    assert (outcome.peak_workers, outcome.worker_seconds, outcome.decisions) == (1, 3.0, ())
    assert simulate([], start(crew(1)), CLASSIC).waits == Waits()


def test_the_urgent_is_taken_first() -> None:
    work = [*came(0, 0.1, 0.2), *came(0.3, priority="critical")]
    outcome = simulate(work, start(crew(1)), CLASSIC)
    assert outcome.waits.max_ms == 2800, "of those that came before it, two wait for the critical one"


def test_workers_start_where_all_are_busy_and_end_after_their_work() -> None:
    work = [*came(*[0.0] * 8, lasts=25), *came(60, 70, 80, 120)]
    outcome = simulate(work, start(crew(2)), SHRINKING)
    assert told(outcome) == [
        (10, "scale_up", 2, 4),
        (20, "scale_up", 4, 6),
        (30, "scale_up", 6, 8),
        (90, "scale_down", 8, 6),
    ]
    assert outcome.waits.max_ms == 25_000, (
        "of the eight two begin at once, four later, two with the first ends"
    )
    assert outcome.peak_workers == 8
    spent = 2 * 10 + 4 * 10 + 6 * 10 + 8 * 60 + 6 * 31
    assert outcome.worker_seconds == spent


def test_the_cap_holds_and_what_has_no_workers_at_all_waits_for_ever() -> None:
    outcome = simulate(came(*[0.0] * 9, lasts=60), start(crew(2), total=3), CLASSIC)
    assert told(outcome)[:2] == [(10, "scale_up", 2, 3), (20, "refused", 3, 3)]
    assert outcome.peak_workers == 3
    none = simulate(came(0, 1), start(crew(0, min=0), crew(3, "b"), total=3), CLASSIC)
    assert [(each.module, each.unserved) for each in none.modules] == [("a", 2), ("b", 0)]


def test_long_silence_costs_nothing_and_changes_nothing() -> None:
    year = 365 * 86_400
    outcome = simulate(came(0, year), start(crew(9)), SHRINKING)
    assert told(outcome)[:4] == [
        (10, "scale_down", 9, 7),
        (70, "scale_down", 7, 5),
        (130, "scale_down", 5, 3),
        (190, "scale_down", 3, 1),
    ]
    assert outcome.waits.max_ms == 0


def test_a_silence_is_passed_over_only_when_nothing_can_change_in_it() -> None:
    """Workers of the target end minutes after the last work came, when nothing is there any more."""
    policy = Policy(kind="target", cooldown_seconds=0.0)
    busy = came(*[each / 4 for each in range(400)], lasts=2)
    outcome = simulate([*busy, *came(86_400)], start(crew(9)), policy)
    ended = [each.time_ms for each in outcome.decisions if each.decision.type == "scale_down"]
    assert outcome.decisions[-1].decision.after == 1
    assert NOW + 300_000 < max(ended) < NOW + 500_000


def test_the_mean_wait_is_that_of_erlang() -> None:
    """Poisson arrivals and exponential durations on fixed workers: the formula and the simulation agree."""
    chance, at, work = random.Random(11), 0.0, list[Arrival]()
    for _ in range(60_000):
        at += chance.expovariate(3.0)
        work.append(Arrival(NOW + round(at * 1000), "a", round(chance.expovariate(1.0) * 1000)))
    outcome = simulate(work, start(crew(4), total=4), CLASSIC)
    predicted = next(wait for count, wait in enumerate(expected(3.0, 1.0)) if count == 4)
    served = sorted(_waits_of(work, 4))
    assert outcome.waits == waits(served)
    assert sum(served) / len(served) / 1000 == pytest.approx(predicted, rel=0.1)


def _waits_of(work: list[Arrival], workers: int) -> list[int]:
    """Waits of first come, first served, counted another way: who is free first takes the next one."""
    free, found = [0] * workers, list[int]()
    for each in work:
        soonest = min(range(workers), key=lambda index: free[index])
        begun = max(each.at_ms, free[soonest])
        free[soonest] = begun + each.duration_ms
        found.append(begun - each.at_ms)
    return found


@settings(deadline=None, max_examples=50)
@given(
    work=st.lists(
        st.builds(
            Arrival,
            st.integers(NOW, NOW + 300_000),
            st.sampled_from(["a", "b"]),
            st.integers(0, 60_000),
            st.sampled_from(["critical", "medium", "idle"]),
        ),
        max_size=60,
    ),
    policy=st.builds(
        Policy,
        kind=st.sampled_from(["classic", "target"]),
        auto_scale_down=st.booleans(),
        step=st.integers(1, 3),
        cooldown_seconds=st.sampled_from([0.0, 30.0]),
    ),
    total=st.integers(4, 12),
    seed=st.randoms(use_true_random=False),
)
def test_all_work_is_done_once_within_the_cap_and_again_the_same(
    work: list[Arrival], policy: Policy, total: int, seed: random.Random
) -> None:
    begin = start(crew(2), crew(2, "b"), total=total)
    outcome = simulate(work, begin, policy)
    assert outcome.waits.count == len(work)
    assert outcome.peak_workers <= total
    mixed = sorted(work, key=lambda _: seed.random())
    again = simulate(mixed, begin, policy)
    assert msgspec.json.encode(again) == msgspec.json.encode(outcome)


# ---- decided again ---------------------------------------------------------------------------------------


def recorded(policy: Policy) -> list[Recorded]:
    """What a scaler would have written down while it saw some moments."""
    found: list[Recorded] = []
    for tick, busy in enumerate([5, 7, 1, 1, 9]):
        module = crew(7, busy=0) if busy > 7 else crew(7)
        module = msgspec.structs.replace(module, busy=min(busy, 7), last_scaled_at=NOW)
        seen = scaling.exact(msgspec.structs.replace(start(module), time_ms=NOW + tick * 100_000))
        found += [
            Recorded(len(found) + 1, Seen(decision=each, policy=policy, snapshot=seen))
            for each in scaling.decide(seen, policy)
        ]
    return found


def test_the_same_policy_differs_in_nothing_and_another_in_something() -> None:
    log = recorded(CLASSIC)
    assert [each.seen.decision.type for each in log] == [
        *("scale_up", "scale_down_suggested", "scale_down_suggested", "scale_up")
    ]
    assert differences(log, CLASSIC) == []
    found = differences(log, SHRINKING)
    assert [
        (each.seq, each.recorded and each.recorded.type, each.instead and each.instead.type) for each in found
    ] == [
        (2, "scale_down_suggested", "scale_down"),
        (3, "scale_down_suggested", "scale_down"),
    ]
    assert [each.seq for each in differences(log, Policy(step=1))] == [1, 2, 3, 4]
    assert [each.instead for each in differences(log, Policy(low_percent=5))] == [None, None]
    assert differences(log, SHRINKING, "other") == []
    assert msgspec.json.encode(differences(log, SHRINKING)) == msgspec.json.encode(found)
