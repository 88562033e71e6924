"""Whatever is asked of an execution, and in whatever order, some things always hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec, execution
from events.codec import Envelope, Fact
from events.errors import AlreadyOver, IdempotencyConflict, Refusal
from events.execution import (
    EVENTS,
    TERMINAL,
    AnyCommand,
    AnyEvent,
    Cancel,
    End,
    Finish,
    Lose,
    Queued,
    Release,
    Report,
    Start,
    State,
    Submit,
    decide,
    evolve,
)
from events.spec import Shell, Spec

WHYS = ["exited", "spawn_failed", "timeout", "cancelled", "output_limit", "io"]
attempts = st.integers(0, 3)
texts = st.none() | st.text(max_size=5)
ends = st.builds(End, exit_code=st.none() | st.integers(0, 2), signal=st.none() | st.just("SIGKILL"))
commands: st.SearchStrategy[AnyCommand] = st.one_of(
    st.builds(
        Submit,
        spec=st.just(Spec(shell=Shell(command="true"))),
        digest=st.sampled_from(["a", "b"]),
        taken_by=st.just("one"),
        held=st.sampled_from([None, "time", "dependency"]),
    ),
    st.just(Release()),
    st.just(Start(node="one", boot="b", log_path="/x")),
    st.builds(Report, attempt=attempts, last_output=texts),
    st.builds(Finish, attempt=attempts, why=st.sampled_from(WHYS), end=ends),
    st.builds(Lose, attempt=attempts, reason=st.text(max_size=5)),
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
likely = st.lists(commands, max_size=12).map(
    lambda rest: [Submit(spec=Spec(shell=Shell(command="true")), digest="a", taken_by="one"), *rest]
)
asked = likely | histories


@given(asked)
def test_it_ends_at_most_once_and_nothing_follows_the_end(asked: list[AnyCommand]) -> None:
    state, events = run(asked)
    ended = [at for at, event in enumerate(events) if isinstance(event, TERMINAL)]
    assert ended in ([], [len(events) - 1])
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
    """Only a report may be repeated into the history: each of them says what was seen then."""
    state, events = run(asked)
    once, first = run([*asked, command])
    twice, second = run([*asked, command, command])
    if isinstance(command, Report):
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
        case Cancel() | Submit(digest=state.digest):
            assert decide(state, command) == ()
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
    assert all(event.spec is None for event in events[1:] if isinstance(event, Queued))


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
