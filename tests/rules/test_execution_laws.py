"""Whatever is asked of an execution, and in whatever order, some things always hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec, execution
from events.codec import Envelope, Fact
from events.errors import AlreadyOver, Conflict, IdempotencyConflict, Refusal
from events.execution import (
    EVENTS,
    TERMINAL,
    AnyCommand,
    AnyEvent,
    Cancel,
    Discard,
    Discarded,
    End,
    Finish,
    Hold,
    Lose,
    Prioritize,
    Queued,
    Release,
    Report,
    Requeue,
    Start,
    State,
    Submit,
    decide,
    evolve,
    waits,
)
from events.spec import PRIORITIES, REASONS, Retries, Shell, Spec

WHYS = ["exited", "spawn_failed", "timeout", "cancelled", "output_limit", "io"]
attempts = st.integers(0, 3)
texts = st.none() | st.text(max_size=5)
ends = st.builds(End, exit_code=st.none() | st.integers(0, 2), signal=st.none() | st.just("SIGKILL"))
policies = st.builds(
    Retries,
    max=st.integers(0, 4),
    backoff_ms=st.sampled_from([0, 1, 100, 1000]),
    factor=st.sampled_from([1.0, 1.5, 2.0, 100.0]),
    max_backoff_ms=st.sampled_from([1000, 5000]),
    on_exit=st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=2),
    on=st.none() | st.lists(st.sampled_from(REASONS), min_size=1),
    budget_ms=st.none() | st.integers(1, 3000),
)
specs = st.builds(
    Spec,
    shell=st.just(Shell(command="true")),
    priority=st.sampled_from(PRIORITIES),
    retries=st.none() | policies,
    concurrency_key=st.sampled_from([None, "tenant"]),
)
moments, jitters = st.integers(0, 10_000), st.floats(0, 1)
reasons = st.sampled_from(["time", "backoff", "limit", "idle"])
commands: st.SearchStrategy[AnyCommand] = st.one_of(
    st.builds(
        Submit,
        spec=specs,
        digest=st.sampled_from(["a", "b"]),
        taken_by=st.just("one"),
        held=st.sampled_from([None, "time", "dependency"]),
    ),
    st.builds(Release, reason=reasons, attempt=st.none() | attempts),
    st.builds(Hold, reason=reasons),
    st.builds(Prioritize, priority=st.sampled_from(PRIORITIES)),
    st.just(Requeue()),
    st.just(Discard()),
    st.builds(Start, node=st.just("one"), boot=st.just("b"), log_path=st.just("/x")),
    st.builds(Report, attempt=attempts, last_output=texts),
    st.builds(Finish, attempt=attempts, why=st.sampled_from(WHYS), end=ends, now_ms=moments, jitter=jitters),
    st.builds(
        Lose,
        attempt=attempts,
        reason=st.text(max_size=5) | st.just("shutdown"),
        now_ms=moments,
        jitter=jitters,
    ),
    st.builds(Cancel, reason=texts),
)


def fact(n: int, event: Any) -> Fact:
    return Fact(
        seq=n,
        kind="execution",
        entity="e",
        n=n,
        event=event,
        envelope=Envelope(id=str(n), time=codec.stamp(n)),
        subject="s",
        body=codec.encode(event),
    )


def run(asked: list[AnyCommand]) -> tuple[State, list[AnyEvent]]:
    """Let it happen; refused commands change nothing."""
    state, events = State(), list[AnyEvent]()
    for command in asked:
        try:
            decided = decide(state, command)
        except Refusal:
            continue
        for event in decided:
            events.append(event)
            state = evolve(state, fact(len(events), event))
    return state, events


histories = st.lists(commands, max_size=25)


@st.composite
def lives(draw: st.DrawFn, last: bool = False) -> list[AnyCommand]:
    """A submission, and what fits the state then, with now and then something that does not."""
    asked: list[AnyCommand] = [Submit(spec=draw(specs), digest="a", taken_by="one")]
    for _ in range(draw(st.integers(0, 20))):
        state, _ = run(asked)
        n = state.attempt
        if draw(st.integers(0, 5)) == 0:
            asked.append(draw(commands))
        elif state.phase == "held" and state.held:
            asked.append(Release(reason=state.held.reason, attempt=draw(st.sampled_from([None, n]))))
        elif state.phase == "queued":
            asked.append(Start(node="one", boot="b", log_path="/x", queued=state.queued))
        elif state.phase == "running":
            finish = st.builds(
                Finish,
                attempt=st.just(n),
                why=st.sampled_from(["exited", "exited", "timeout", "io"]),
                end=ends,
                now_ms=moments,
                jitter=jitters,
            )
            lose = st.builds(Lose, attempt=st.just(n), reason=st.just("gone"), now_ms=moments)
            asked.append(draw(finish | lose))
    return asked


asked = lives() | histories


@given(asked)
def test_it_ends_at_most_once_and_nothing_follows_the_end(asked: list[AnyCommand]) -> None:
    """Only that it was seen among the dead letters may be said of what is over."""
    state, events = run(asked)
    alive = [event for event in events if not isinstance(event, Discarded)]
    ended = [at for at, event in enumerate(alive) if isinstance(event, TERMINAL)]
    assert ended in ([], [len(alive) - 1])
    assert events[: len(alive)] == alive
    assert (state.phase == "over") == bool(ended)
    assert (state.end is not None) == bool(ended)


@given(asked)
def test_attempts_count_up_one_by_one(asked: list[AnyCommand]) -> None:
    state, events = run(asked)
    started = [event.attempt for event in events if isinstance(event, execution.Started)]
    assert started == list(range(1, len(started) + 1))
    assert state.attempt == len(started)


@given(asked)
def test_only_what_is_queued_is_started(asked: list[AnyCommand]) -> None:
    _, events = run(asked)
    waiting = (execution.Queued, execution.AttemptFailed, execution.AttemptLost)
    moves = [event for event in events if isinstance(event, (*waiting, execution.Started))]
    for before, event in zip([None, *moves], moves, strict=False):
        if isinstance(event, execution.Started):
            assert isinstance(before, waiting)


@given(asked, commands)
def test_what_was_decided_changes_nothing_when_it_is_asked_again(
    asked: list[AnyCommand], command: AnyCommand
) -> None:
    """Only a report and a place in the queue may be repeated: they say what was so, or wanted, then."""
    state, events = run(asked)
    once, first = run([*asked, command])
    twice, second = run([*asked, command, command])
    if isinstance(command, Requeue):
        assert (twice.phase, twice.attempt, len(second) - len(first)) in (
            (once.phase, once.attempt, 0),
            ("queued", once.attempt, 1),
        )
    elif isinstance(command, Release):
        assert (twice, second) == (once, first) or twice.phase == "queued" or twice.held != once.held
    elif isinstance(command, Report):
        assert (twice.phase, twice.attempt, twice.report) == (once.phase, once.attempt, once.report)
    else:
        assert (twice, second) == (once, first)
    assert first[: len(events)] == events
    assert state.attempt <= once.attempt


@given(asked, commands)
def test_over_is_over(asked: list[AnyCommand], command: AnyCommand) -> None:
    state, _ = run([*asked, Cancel()])
    if state.phase != "over":
        return
    match command:
        case Cancel() | Release() | Submit(digest=state.digest):
            assert decide(state, command) == ()
        case Discard() if state.poisoned:
            assert isinstance(state.discarded or decide(state, command)[0], bool | Discarded)
        case Discard():
            with pytest.raises(Conflict):
                decide(state, command)
        case Submit():
            with pytest.raises(IdempotencyConflict):
                decide(state, command)
        case _:
            with pytest.raises(AlreadyOver):
                decide(state, command)


@given(asked)
def test_the_first_event_says_what_to_run_and_none_after_it_does(asked: list[AnyCommand]) -> None:
    state, events = run(asked)
    if events:
        assert isinstance(events[0], execution.Held | execution.Queued)
        assert state.spec == events[0].spec
    born = (Queued, execution.Held)
    assert all(event.spec is None for event in events[1:] if isinstance(event, born))


@given(asked)
def test_no_more_attempts_than_retries_allow(asked: list[AnyCommand]) -> None:
    """What a node gave back in good order does not count."""
    state, events = run(asked)
    most = state.spec.retries.max if state.spec.retries else 0
    given_back = sum(isinstance(e, execution.AttemptLost) and e.reason == "shutdown" for e in events)
    assert state.attempt <= most + 1 + given_back
    assert state.attempts_failed <= most + 1


@given(asked)
def test_three_lost_in_a_row_are_the_end(asked: list[AnyCommand]) -> None:
    state, events = run(asked)
    row = most = 0
    for event in events:
        match event:
            case execution.AttemptLost(reason=reason) if reason != "shutdown":
                row += 1
            case execution.AttemptFailed():
                row = 0
            case _:
                pass
        most = max(most, row)
    assert most <= execution.LOST_IN_A_ROW
    if state.poisoned:
        assert most == execution.LOST_IN_A_ROW


@given(lives())
def test_a_pause_is_within_its_bounds_and_its_budget(asked: list[AnyCommand]) -> None:
    state, failed, first = State(), 0, None
    n = 0
    for command in asked:
        try:
            decided = decide(state, command)
        except Refusal:
            continue
        for event in decided:
            n += 1
            match event:
                case execution.Started():
                    first = n if first is None else first
                case execution.AttemptFailed():
                    failed += 1
                case execution.AttemptLost(reason=reason):
                    failed += reason != "shutdown"
                case execution.Held(reason="backoff", until=str(until)) if isinstance(command, Finish | Lose):
                    policy = state.spec.retries
                    assert policy is not None
                    wait = codec.millis(until) - command.now_ms
                    rule = min(policy.max_backoff_ms, policy.backoff_ms * policy.factor ** (failed - 1))
                    assert rule - 1 <= wait <= min(policy.max_backoff_ms, rule * 1.25) + 1
                    if policy.budget_ms is not None and first is not None:
                        assert command.now_ms + wait - first <= policy.budget_ms
                case _:
                    pass
            state = evolve(state, fact(n, event))


@given(lives())
def test_only_what_is_named_is_tried_again(asked: list[AnyCommand]) -> None:
    state, events = run(asked)
    policy = state.spec.retries
    for event in events:
        if isinstance(event, execution.AttemptFailed):
            assert policy is not None
            if event.error.code == "command_failed" and policy.on_exit is not None:
                assert event.end.exit_code in policy.on_exit
            else:
                assert event.error.code in (policy.on or ("command_failed", "lost", "io"))


@given(lives())
def test_waits_are_passed_in_order_and_none_is_left_out(asked: list[AnyCommand]) -> None:
    """Of what nobody reordered or held by hand: before every attempt the same gates, in the same order."""
    if any(isinstance(command, Prioritize | Hold | Requeue) for command in asked):
        return
    state, events = run(asked)
    gates = list(waits(state.spec))
    since: list[str] = []
    for event in events:
        match event:
            case execution.Held(reason=reason, attempt=n):
                assert n == sum(isinstance(each, execution.Started) for each in events[: events.index(event)])
                since.append(reason)
            case Queued():
                assert [reason for reason in since if reason in gates] == gates
                assert since[len(since) - len(gates) :] == gates
            case execution.Started():
                since = []
            case _:
                pass


@given(asked, st.integers(0, 3))
def test_a_stale_attempt_never_decides(asked: list[AnyCommand], back: int) -> None:
    state, _ = run(asked)
    if state.phase != "running" or back == 0:
        return
    for command in (Finish(attempt=state.attempt - back, why="exited", end=End(exit_code=0)),):
        with pytest.raises(Conflict):
            decide(state, command)


@given(asked)
def test_an_offer_from_before_the_last_place_in_the_queue_is_stale(asked: list[AnyCommand]) -> None:
    state, _ = run(asked)
    if state.phase == "queued":
        with pytest.raises(Conflict):
            decide(state, Start(node="one", boot="b", log_path="/x", queued=state.queued - 1))
        assert decide(state, Start(node="one", boot="b", log_path="/x", queued=state.queued))


@given(asked, st.sampled_from(PRIORITIES))
def test_whoever_is_queued_again_is_queued_where_it_belongs_now(asked: list[AnyCommand], to: Any) -> None:
    state, _ = run(asked)
    if state.phase != "queued" or to == state.priority:
        return
    said, moved = decide(state, Prioritize(priority=to))
    assert said == execution.Prioritized(priority=to)
    if to == "idle":
        assert isinstance(moved, execution.Held)
        assert (moved.reason, moved.by) == ("idle", "limiter")
    else:
        assert isinstance(moved, Queued)
        assert (moved.priority or state.spec.priority) == to


some: dict[str, Any] = {
    "spec": Spec(shell=Shell(command="true")),
    "attempt": 1,
    "end": End(ended_at="2026-01-01T00:00:00.000Z"),
    "error": execution.Problem(code="c", message="m"),
    "reason": "r",
    "digest": "d",
    "taken_by": "one",
    "node": "one",
    "boot": "b",
    "log_path": "/x",
    "part": "p",
    "priority": "high",
}
events_of_any_kind = st.sampled_from(
    [event(**{name: some[name] for name in event.__struct_fields__ if name in some}) for event in EVENTS]
    + [Queued()]
)


@settings(max_examples=200)
@given(st.lists(events_of_any_kind, max_size=12))
def test_evolve_takes_any_facts_in_any_order(events: list[AnyEvent]) -> None:
    """Facts are facts, also those that today's rules would never have made."""
    state = State()
    for n, event in enumerate(events, 1):
        state = evolve(state, fact(n, event))
        assert state.seq == n


@given(asked)
def test_every_event_reads_back_as_it_was_written(asked: list[AnyCommand]) -> None:
    for event in run(asked)[1]:
        assert codec.decode("execution", codec.encode(event)) == event
