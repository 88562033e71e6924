"""Whatever is asked of a schedule, at whatever time by whichever clock, some things always hold."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import calendar, codec, schedule
from events.calendar import When
from events.codec import Envelope, Fact, millis, stamp
from events.errors import Conflict, IdempotencyConflict, NotFound, Refusal
from events.schedule import (
    ALL_MOST,
    AnyCommand,
    AnyEvent,
    Create,
    Created,
    Delete,
    Look,
    Pause,
    Resume,
    Run,
    State,
    Tick,
    Ticked,
    decide,
    evolve,
)
from events.spec import Shell, Spec

BORN = millis("2026-03-28T20:00:00Z")
ID = "sched_1"
SPEC = Spec(shell=Shell(command="true"))
whens = st.one_of(
    st.builds(When, every_ms=st.integers(500, 20_000)),
    st.sampled_from(
        [
            When(cron="* * * * * *"),
            When(cron="*/10 * * * *", zone="Europe/Berlin"),
            When(cron="30 2 * * *", zone="Europe/Berlin"),
            When(at=stamp(BORN + 5000)),
            When(every_ms=1000, starts=stamp(BORN + 3000), ends=stamp(BORN + 30_000)),
        ]
    ),
)
wishes = st.builds(
    Created,
    when=whens,
    spec=st.just(SPEC),
    catch_up=st.sampled_from(["skip", "once", "all"]),
    overlap=st.sampled_from(["allow", "skip", "cancel", "queue"]),
    grace_ms=st.sampled_from([0, 1000, 30_000]),
    digest=st.just("d"),
)
clock = st.integers(BORN - 10_000, BORN + 100_000) | st.integers(BORN, BORN + 86_400_000)
active = st.sampled_from([(), ("exec_1",)])
commands: st.SearchStrategy[AnyCommand] = st.one_of(
    st.builds(Tick, now_ms=clock, active=active),
    st.builds(Tick, now_ms=clock, active=active),
    st.just(Pause()),
    st.builds(Resume, now_ms=clock),
    st.builds(Run, now_ms=clock),
    st.just(Look()),
)


def fact(n: int, event: Any) -> Fact:
    return Fact(
        seq=n,
        kind="schedule",
        entity=ID,
        n=n,
        event=event,
        envelope=Envelope(id=str(n), time=stamp(BORN)),
        subject="s",
        body=codec.encode(event),
    )


def run(wish: Created, asked: Sequence[AnyCommand]) -> tuple[State, list[AnyEvent]]:
    """Let it happen; refused commands change nothing."""
    state, events = State(), list[AnyEvent]()
    for command in (Create(created=wish, now_ms=BORN), *asked):
        try:
            decided = decide(state, command)
        except Refusal:
            continue
        for event in decided:
            events.append(event)
            state = evolve(state, fact(len(events), event))
    return state, events


def ticked(events: Sequence[AnyEvent]) -> list[Ticked]:
    return [event for event in events if isinstance(event, Ticked)]


def due(wish: Created, until: int) -> list[int]:
    return list(takewhile(lambda tick: tick <= until, calendar.ticks(wish.when, BORN, BORN)))


asked = st.lists(commands, max_size=20)


@settings(max_examples=60, deadline=None)
@given(wishes, asked)
def test_no_tick_is_decided_twice_and_no_id_is_given_twice(wish: Created, asked: list[AnyCommand]) -> None:
    _, events = run(wish, asked)
    last = 0
    for event in ticked(events):
        if event.manual:
            continue
        assert last < millis(event.first or event.tick) <= millis(event.tick)
        last = millis(event.tick)
    ids = [event.child for event in ticked(events) if event.child]
    assert len(set(ids)) == len(ids)
    assert all((event.child is None) == (event.skipped is not None) for event in ticked(events))


@settings(max_examples=60, deadline=None)
@given(wishes, asked, st.integers(BORN, BORN + 90_000))
def test_every_tick_of_an_unpaused_life_is_granted_or_passed_over(
    wish: Created, asked: list[AnyCommand], now: int
) -> None:
    calm = [command for command in asked if not isinstance(command, Pause)]
    _, events = run(wish, [*calm, *[Tick(now_ms=now)] * 210])
    spans = [(millis(e.first or e.tick), millis(e.tick)) for e in ticked(events) if not e.manual]
    until = max([now, *(command.now_ms for command in calm if isinstance(command, Tick))])
    for tick in due(wish, min(until, BORN + 90_000)):
        if tick <= now:
            assert sum(low <= tick <= high for low, high in spans) == 1
    granted = {millis(e.tick) for e in ticked(events) if e.child and not e.manual}
    assert granted <= set(due(wish, until))


@settings(max_examples=60, deadline=None)
@given(wishes, st.lists(st.integers(0, 60_000), min_size=1, max_size=10))
def test_with_all_and_allow_each_tick_is_granted_whoever_was_away(wish: Created, naps: list[int]) -> None:
    wish = Created(when=wish.when, spec=SPEC, catch_up="all")
    now, asked = BORN, list[AnyCommand]()
    for nap in naps:
        now += nap
        asked += [Tick(now_ms=now)] * 3
    asked += [Tick(now_ms=now)] * 20
    _, events = run(wish, asked)
    wanted = due(wish, now)
    if len(wanted) <= ALL_MOST:
        assert [millis(event.tick) for event in ticked(events)] == wanted


@settings(max_examples=60, deadline=None)
@given(wishes, st.integers(0, 86_400_000))
def test_after_downtime_the_policy_says_what_is_made_up_for(wish: Created, nap: int) -> None:
    now = BORN + nap
    wish = Created(when=wish.when, spec=SPEC, catch_up=wish.catch_up, grace_ms=wish.grace_ms)
    _, events = run(wish, [Tick(now_ms=now)] * 12)
    granted = [millis(event.tick) for event in ticked(events) if event.child]
    late = [tick for tick in granted if tick < now - wish.grace_ms]
    missed = {tick for tick in due(wish, now) if tick < now - wish.grace_ms}
    match wish.catch_up:
        case "skip":
            assert late == []
        case "once":
            assert late == sorted(missed)[-1:]
        case _:
            assert late == [tick for tick in due(wish, now)[-ALL_MOST:] if tick in missed][: len(late)]
            assert len(granted) <= ALL_MOST
    timely = [tick for tick in due(wish, now) if tick >= now - wish.grace_ms]
    if len(late) + len(timely) <= 100:
        assert granted[len(late) :] == timely


@settings(max_examples=60, deadline=None)
@given(wishes, asked, commands)
def test_what_was_decided_changes_nothing_when_it_is_asked_again(
    wish: Created, asked: list[AnyCommand], command: AnyCommand
) -> None:
    """A run by hand is wanted once more each time; ticks that are left over come with the next look."""
    if isinstance(command, Run):
        return
    once, first = run(wish, [*asked, *[command] * 15])
    twice, second = run(wish, [*asked, *[command] * 16])
    if not isinstance(command, Tick) or command.active or wish.overlap == "allow":
        assert (once, first) == (twice, second) or len(first) > 1000


@settings(max_examples=60, deadline=None)
@given(wishes, asked)
def test_nothing_ticks_while_it_is_paused_and_what_was_missed_then_is_gone(
    wish: Created, asked: list[AnyCommand]
) -> None:
    state, events = run(wish, [*asked, Pause(), Tick(now_ms=BORN + 50_000)])
    assert not [e for e in events if isinstance(e, Ticked) and state.phase != "paused"]
    resumed = BORN + 200_000_000
    _, after = run(wish, [*asked, Pause(), Resume(now_ms=resumed), Tick(now_ms=resumed)])
    assert all(millis(event.tick) < resumed for event in ticked(after[len(events) :]))
    assert not ticked(after[len(events) :])


@settings(max_examples=60, deadline=None)
@given(wishes, asked, st.integers(BORN, BORN + 1_000_000))
def test_overlap_says_what_happens_while_the_last_one_runs(
    wish: Created, asked: list[AnyCommand], now: int
) -> None:
    state, events = run(wish, asked)
    if state.phase != "active":
        return
    made = ticked(decide(state, Tick(now_ms=now, active=("exec_9",))))
    granted = [event for event in made if event.child]
    match wish.overlap:
        case "skip" | "queue":
            assert granted == []
        case "cancel":
            assert len(granted) <= 1
            assert all(event.cancels == ("exec_9",) for event in granted)
        case _:
            assert all(event.cancels == () for event in granted)
    if wish.overlap == "queue":
        assert all(event.skipped in ("missed", "limit") for event in made)
    free = ticked(decide(state, Tick(now_ms=now)))
    if wish.overlap != "allow":
        assert len([event for event in free if event.child]) <= 1
    assert len(events) >= 1


@settings(max_examples=60, deadline=None)
@given(wishes, asked, commands)
def test_deleted_is_deleted(wish: Created, asked: list[AnyCommand], command: AnyCommand) -> None:
    state, _ = run(wish, [*asked, Delete()])
    assert state.status == "deleted"
    match command:
        case Tick() | Look():
            assert decide(state, command) == ()
        case _:
            with pytest.raises(Conflict):
                decide(state, command)
    assert decide(state, Delete()) == ()


@settings(max_examples=60, deadline=None)
@given(wishes, asked)
def test_every_event_names_the_tick_that_comes_next(wish: Created, asked: list[AnyCommand]) -> None:
    state, events = run(wish, asked)
    told = next(
        (
            e.next
            for e in reversed(events)
            if not isinstance(e, schedule.Paused | schedule.Deleted | schedule.Carried)
        ),
        None,
    )
    if state.phase == "active":
        assert state.coming(1) == ([told] if told else [])
        assert state.status == ("active" if told else "done")


@given(wishes)
def test_the_same_wish_again_is_the_same_schedule_and_another_one_is_refused(wish: Created) -> None:
    state, _ = run(wish, [])
    assert decide(state, Create(created=wish, now_ms=BORN + 5)) == ()
    with pytest.raises(IdempotencyConflict):
        decide(state, Create(created=Created(when=wish.when, digest="e"), now_ms=BORN))


@given(commands)
def test_what_does_not_exist_is_not_found(command: AnyCommand) -> None:
    with pytest.raises(NotFound):
        decide(State(), command)


some: dict[str, Any] = {
    "when": When(every_ms=1000),
    "tick": stamp(BORN),
    "at": stamp(BORN),
    "execution_id": "e",
    "state": State(),
}
events_of_any_kind = st.sampled_from(
    [event(**{n: some[n] for n in event.__struct_fields__ if n in some}) for event in schedule.EVENTS]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(events_of_any_kind, max_size=12))
def test_evolve_takes_any_facts_in_any_order(events: list[AnyEvent]) -> None:
    """Facts are facts, also those that today's rules would never have made."""
    state = State()
    for n, event in enumerate(events, 1):
        state = evolve(state, fact(n, event))
        assert state.seq == n
        assert state.status


@settings(max_examples=60, deadline=None)
@given(wishes, asked)
def test_every_event_reads_back_as_it_was_written(wish: Created, asked: list[AnyCommand]) -> None:
    for event in run(wish, asked)[1]:
        assert codec.decode("schedule", codec.encode(event)) == event


@settings(max_examples=30, deadline=None)
@given(wishes, asked)
def test_what_carries_all_of_it_changes_nothing(wish: Created, asked: list[AnyCommand]) -> None:
    state, events = run(wish, asked)
    again = evolve(State(), fact(len(events) + 1, schedule.Carried(state=state)))
    same = msgspec.structs.replace(state, seq=again.seq, since=0)
    assert again == same


def test_a_long_life_says_all_of_it_again_and_again() -> None:
    """The log looks for it among the last 500 events."""
    wish = Created(when=When(every_ms=1000), spec=SPEC, catch_up="all")
    asked: list[AnyCommand] = []
    for step in range(1, 21):
        asked += [Run(now_ms=BORN + step), Tick(now_ms=BORN + step * 100_000)]
    _, events = run(wish, asked)
    carried = [at for at, event in enumerate(events) if isinstance(event, schedule.Carried)]
    assert len(events) > 2000
    assert all(high - low < 450 for low, high in pairwise([0, *carried, len(events)]))
    assert [millis(e.tick) for e in ticked(events) if not e.manual] == due(wish, BORN + 2_000_000)
