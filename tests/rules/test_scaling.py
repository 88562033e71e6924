"""Whatever is seen, the scaler keeps within the cap, says one thing of a module, and would say it again."""

from math import factorial
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.memory import Memory
from events import decision, scaling
from events.decision import DECISION, Made
from events.errors import Validation
from events.look import Phase
from events.policy import BOUNDS, Policy, read
from events.ports import Ask
from events.queueing import needed, waits
from events.scaling import (
    CATEGORIES,
    TOTAL_MAX,
    URGENCY,
    CategoryLook,
    ModuleLook,
    Snapshot,
    decide,
    standing,
)
from events.spec import Priority

NOW = 1_767_225_600_000


def look(name: str = "search_engine", category: str = "phase2", workers: int = 5, **more: Any) -> ModuleLook:
    return ModuleLook(name=name, category=category, workers=workers, **more)


USUAL = tuple(CategoryLook(name=name, max=most, base=most) for name, most in CATEGORIES.items())


def snapshot(
    *modules: ModuleLook,
    total: int = TOTAL_MAX,
    categories: tuple[CategoryLook, ...] = USUAL,
    standing: tuple[str, ...] = (),
) -> Snapshot:
    return Snapshot(time_ms=NOW, modules=modules, categories=categories, total_max=total, standing=standing)


def said(found: tuple[scaling.Decision, ...]) -> list[tuple[Any, ...]]:
    return [
        (each.type, each.module, each.before, each.after, each.max_before, each.max_after) for each in found
    ]


CLASSIC, SHRINKING = Policy(), Policy(auto_scale_down=True, cooldown_seconds=60.0)
TARGET = Policy(kind="target")


@pytest.mark.parametrize(
    ("modules", "total", "decisions"),
    [
        ([look(busy=4)], 50, []),
        ([look(busy=5)], 50, [("scale_up", "search_engine", 5, 7, 5, 7)]),
        ([look(busy=5, queued=90)], 6, [("scale_up", "search_engine", 5, 6, 5, 6)]),
        ([look(busy=5)], 5, [("refused", "search_engine", 5, 5, 5, 5)]),
        ([look(busy=5), look("other", "core", 45, busy=20)], 50, [("refused", "search_engine", 5, 5, 5, 5)]),
        ([look(busy=5, state="paused")], 50, []),
        ([look(busy=3, category="monitoring")], 50, []),
        ([look(workers=0, queued=3)], 50, [("scale_up", "search_engine", 0, 2, 5, 7)]),
        ([look(workers=0)], 50, []),
        ([look(busy=5, max=5)], 50, [("refused", "search_engine", 5, 5, 5, 5)]),
        ([look(workers=7, busy=1)], 50, [("scale_down_suggested", "search_engine", 7, 5, 5, 5)]),
        ([look(workers=7, busy=1, min=7)], 50, []),
        ([look(workers=10, busy=3)], 50, []),
        ([look(state="error")], 50, [("self_heal", "search_engine", 5, 5, 5, 5)]),
        ([look(busy=5, stuck=1)], 50, [("restart", "search_engine", 5, 5, 5, 5)]),
    ],
)
def test_the_classic_rules(modules: list[ModuleLook], total: int, decisions: list[Any]) -> None:
    assert said(decide(snapshot(*modules, total=total), CLASSIC)) == decisions


def test_the_urgent_and_the_crowded_come_first_when_there_is_room_for_few() -> None:
    modules = (
        look("a", "phase1", 2, busy=2, queued=9),
        look("b", "core", 2, busy=2, queued=1, priority="critical"),
        look("c", "phase2", 1, busy=1, queued=5, priority="high"),
        look("d", "phase2", 1, busy=1, queued=7, priority="high"),
    )
    found = said(decide(snapshot(*modules, total=9), CLASSIC))
    assert [each[:4] for each in found] == [
        ("scale_up", "b", 2, 4),
        ("scale_up", "d", 1, 2),
        ("refused", "a", 2, 2),
    ]


def test_in_a_category_workers_go_where_most_waits() -> None:
    modules = (look("a", workers=2, busy=2, queued=1), look("b", workers=3, busy=3, queued=2))
    assert said(decide(snapshot(*modules), CLASSIC)) == [
        ("scale_up", "a", 2, 3, 5, 6),
        ("scale_up", "b", 3, 4, 6, 7),
    ]
    one = (look("a", workers=2, busy=2, queued=1), look("b", workers=3, busy=2, queued=2))
    assert decide(snapshot(*one), CLASSIC) == (), "one worker of the category is free"


def test_a_suggestion_and_a_refusal_are_said_once_until_they_are_clearly_over() -> None:
    policy = Policy(hysteresis_percent=10.0)

    def follow(busy: list[int], workers: int, total: int) -> list[list[str]]:
        found: list[list[str]] = []
        before: tuple[str, ...] = ()
        for each in busy:
            seen = snapshot(look(workers=workers, busy=each), total=total, standing=before)
            found.append([one.type for one in decide(seen, policy)])
            before = standing(seen, policy)
        return found

    low = [["scale_down_suggested"]]
    assert follow([1, 1, 3, 1, 4, 1], 10, 50) == [*low, [], [], [], [], *low], (
        "30 % may come and go, 40 % not"
    )
    full = [["refused"]]
    assert follow([20, 20, 19, 20, 18, 20], 20, 20) == [*full, [], [], [], [], *full]


def test_workers_end_on_their_own_only_where_that_is_wanted_and_never_in_a_hurry() -> None:
    raised = (CategoryLook(name="phase2", max=7, base=5),)
    quiet = look(workers=7, busy=1, last_scaled_at=NOW - 59_999)
    assert decide(snapshot(quiet, categories=raised), SHRINKING) == ()
    calm = look(workers=7, busy=1, last_scaled_at=NOW - 60_000)
    found = decide(snapshot(calm, categories=raised), SHRINKING)
    assert said(found) == [("scale_down", "search_engine", 7, 5, 7, 5)]
    usual = (CategoryLook(name="phase2", max=6, base=5),)
    assert said(decide(snapshot(calm, categories=usual), SHRINKING))[0][4:] == (6, 5)


def test_healing_has_a_budget_and_growing_pauses() -> None:
    def heal(*ago: float) -> list[str]:
        times = tuple(NOW - int(each * 1000) for each in ago)
        return [each.type for each in decide(snapshot(look(state="error", restarted_at=times)), CLASSIC)]

    assert heal() == ["self_heal"]
    assert heal(4.9) == []
    assert heal(5) == ["self_heal"]
    assert heal(60, 9.9) == []
    assert heal(60, 10) == ["self_heal"]
    assert heal(299, 200, 100, 90, 80) == ["refused"]
    assert heal(300, 200, 100, 90, 80) == ["self_heal"], "the first one is out of the window"
    broken = snapshot(look(state="error", restarted_at=(NOW,) * 5))
    again = msgspec.structs.replace(broken, standing=standing(broken, CLASSIC))
    assert decide(again, CLASSIC) == ()


def test_the_target_is_kept_with_as_few_workers_as_do() -> None:
    busy = look(workers=2, busy=2, arrivals_per_second=4.0, service_seconds=1.0)
    found = decide(snapshot(busy), TARGET)
    assert said(found) == [("scale_up", "search_engine", 2, 5, 5, 8)]
    quiet = msgspec.structs.replace(busy, workers=9, busy=4, arrivals_per_second=1.0)
    assert said(decide(snapshot(quiet), TARGET)) == [("scale_down", "search_engine", 9, 7, 5, 5)]
    unsaid = msgspec.structs.replace(TARGET, auto_scale_down=False)
    assert said(decide(snapshot(quiet), unsaid))[0][0] == "scale_down_suggested"
    crowd = look(workers=1, busy=1, queued=30, service_seconds=0.5)
    assert said(decide(snapshot(crowd, total=6), TARGET))[0][:4] == ("scale_up", "search_engine", 1, 6)
    unknown = look(workers=1, busy=1, queued=30)
    assert said(decide(snapshot(unknown), TARGET))[0][:4] == ("scale_up", "search_engine", 1, 3)


def test_the_formula_of_erlang_says_what_the_books_say() -> None:
    """L. Kleinrock, Queueing Systems 1, 3.5; with one worker it is M/M/1: load / (1 - load) x service."""
    wait = dict(zip(range(12), waits(0.8, 1.0), strict=False))
    assert wait[0] == float("inf")
    assert wait[1] == pytest.approx(4.0)
    assert wait[2] == pytest.approx(0.8**2 / (4 - 0.8**2))
    heavy = dict(zip(range(30), waits(20.0, 1.0), strict=False))
    assert heavy[20] == float("inf")
    last = 20.0**22 / factorial(22) * 22 / (22 - 20)
    queued = last / (sum(20.0**k / factorial(k) for k in range(22)) + last)
    assert heavy[22] == pytest.approx(queued * 1.0 / (22 - 20)), "Erlang C as it is usually written"
    assert needed(0.0, 1.0, 0, 1.0, 50) == 0
    assert needed(0.0, 1.0, 30, 1.0, 50) == 30
    assert needed(90.0, 1.0, 0, 1.0, 50) == 50


# ---- laws ------------------------------------------------------------------------------------------------


@st.composite
def modules(draw: st.DrawFn, name: str) -> ModuleLook:
    workers = draw(st.integers(0, 12))
    return ModuleLook(
        name=name,
        category=draw(st.sampled_from([*CATEGORIES, "mine"])),
        priority=draw(st.sampled_from(list(get_args(Priority)))),
        state=draw(st.sampled_from([*get_args(Phase), "running", "running", "running"])),
        workers=workers,
        min=draw(st.integers(0, workers)),
        max=draw(st.none() | st.integers(workers, 14)),
        busy=draw(st.integers(0, workers) | st.just(workers)),
        stuck=draw(st.sampled_from([0, 0, 0, 1])),
        queued=draw(st.sampled_from([0, 1, 7, 5000])),
        errors=draw(st.sampled_from([(), ("no route",)])),
        arrivals_per_second=draw(st.floats(0, 100, allow_nan=False)),
        service_seconds=draw(st.floats(0, 100, allow_nan=False)),
        last_scaled_at=draw(st.integers(NOW - 100_000, NOW)),
        restarted_at=tuple(sorted(draw(st.lists(st.integers(NOW - 400_000, NOW), max_size=6)))),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    looks = tuple(draw(modules(f"module{number}")) for number in range(draw(st.integers(0, 6))))
    seen = snapshot(*looks, total=draw(st.integers(0, 60)))
    return msgspec.structs.replace(seen, standing=draw(st.sampled_from([(), standing(seen, CLASSIC)])))


policies = st.builds(
    Policy,
    kind=st.sampled_from(["classic", "target"]),
    step=st.integers(1, 5),
    low_percent=st.floats(0, 100, allow_nan=False),
    hysteresis_percent=st.floats(0, 100, allow_nan=False),
    auto_scale_down=st.sampled_from([None, True, False]),
    restarts=st.integers(0, 5),
    target_wait_ms=st.floats(1, 60_000, allow_nan=False),
)


@given(seen=snapshots(), policy=policies)
def test_the_total_is_never_above_the_cap_and_no_module_below_its_minimum(
    seen: Snapshot, policy: Policy
) -> None:
    found = decide(seen, policy)
    wanted = {each.name: each.workers for each in seen.modules}
    wanted |= {each.module: each.after for each in found if each.type in scaling.DONE}
    assert sum(wanted.values()) <= max(seen.total_max, seen.workers)
    by_name = {each.name: each for each in seen.modules}
    for each in found:
        module = by_name[each.module]
        assert each.after >= module.min
        assert module.max is None or each.after <= max(module.max, each.before)
        assert each.after >= min(module.busy, module.workers), "nobody is stopped at work"
        assert module.category != "monitoring"


@given(seen=snapshots(), policy=policies)
def test_of_a_module_one_thing_is_said_and_it_says_which_way(seen: Snapshot, policy: Policy) -> None:
    found = decide(seen, policy)
    assert len({each.module for each in found}) == len(found)
    for each in found:
        match each.type:
            case "scale_up":
                assert each.after > each.before
                assert each.max_after - each.max_before == each.after - each.before
            case "scale_down":
                assert each.after < each.before
                assert each.max_after <= each.max_before
            case "scale_down_suggested":
                assert each.after < each.before
                assert each.max_after == each.max_before
            case _:
                assert (each.after, each.max_after) == (each.before, each.max_before)
        assert bool(each.key) == (each.type not in scaling.DONE)
        assert each.reason


@given(seen=snapshots(), policy=policies)
def test_the_same_is_seen_the_same_is_decided_byte_for_byte(seen: Snapshot, policy: Policy) -> None:
    """Whatever the log keeps of a decision is enough to make it again."""
    exact, log = scaling.exact(seen), Memory(lambda: NOW)
    asks = [
        Ask(DECISION, decision.entity(1, each.module), scaling.make(each, exact, policy))
        for each in decide(exact, policy)
    ]
    log.handle(asks, lambda _: None)
    log.handle(asks, lambda _: None)
    facts = log.since()
    assert len(facts) == len(asks), "who comes second decides nothing"
    for fact in facts:
        event = msgspec.json.decode(fact.body, type=Made)
        told = scaling.seen(event)
        assert told is not None
        (again,) = (each for each in decide(told.snapshot, told.policy) if each.module == event.module)
        (made,) = decision.decide(decision.State(), scaling.make(again, told.snapshot, told.policy))
        assert msgspec.json.encode(made) == fact.body
        mixed = msgspec.structs.replace(told.snapshot, modules=told.snapshot.modules[::-1])
        assert decide(mixed, told.policy) == decide(told.snapshot, told.policy), "in whatever order"


@given(seen=snapshots(), policy=policies)
def test_what_was_said_and_still_stands_is_not_said_again(seen: Snapshot, policy: Policy) -> None:
    again = msgspec.structs.replace(seen, standing=standing(seen, policy))
    assert all(each.type in scaling.DONE for each in decide(again, policy))


# ---- policy files ----------------------------------------------------------------------------------------


def test_a_policy_is_data_with_defaults() -> None:
    assert read({}) == Policy()
    given_ = {"kind": "target", "target_wait": "250ms", "cooldown": "5m", "restart_pause_seconds": 1}
    assert read(given_) == Policy(
        kind="target", target_wait_ms=250.0, cooldown_seconds=300.0, restart_pause_seconds=1.0
    )
    for field in msgspec.structs.fields(Policy):
        assert read({field.name: field.default}) == Policy()
    assert {*BOUNDS} | {"kind", "auto_scale_down"} == {field.name for field in msgspec.structs.fields(Policy)}
    assert list(URGENCY) == list(get_args(Priority))


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"target_wait_mss": 3}, "unknown key 'target_wait_mss', did you mean 'target_wait_ms'?"),
        ({"step": 0}, "step is 0: it must be between 1 and 1000"),
        ({"step": "two"}, "step: Expected `int`, got `str`"),
        ({"cooldown": "soon"}, "cooldown is 'soon': write 250ms, 90s, 5m, 2h or 3d"),
        ({"cooldown": 90}, "cooldown is 90: write 250ms, 90s, 5m, 2h or 3d"),
        ({"cooldown": "9000d"}, "cooldown"),
        ({"cooldown": "1s", "cooldown_seconds": 1}, "say the same"),
        ({"kind": "magic"}, "kind: Invalid enum value 'magic'"),
        ({"slack": float("nan")}, "slack is nan"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(tree: dict[str, Any], text: str) -> None:
    with pytest.raises(Validation) as error:
        read(tree)
    assert text in error.value.message
    assert error.value.details["field"] in (*tree,)
