"""One suite for both logs: what one promises, the other keeps."""

import threading
from typing import Any

import pytest

from bus import subjects
from bus.bridge import Bridge
from bus.log import Log
from bus.memory import Memory
from events import codec, execution, node
from events.errors import AlreadyOver, Internal, NotFound, TooLarge, Validation
from events.execution import EXECUTION, Cancel, Release, Submit
from events.ports import Ask, Decider, Outcome
from events.ports import Log as AnyLog
from events.spec import Shell, Spec
from tests.contract.logs import (
    NEW,
    START,
    SUBMIT,
    Lots,
    clock,
    consistent,
    fresh,
    handle,
    load,
    several,
    submitted,
)


@pytest.fixture(params=["memory", "nats"])
def log(request: pytest.FixtureRequest) -> AnyLog:
    if request.param == "memory":
        return Memory(clock)
    return Log(request.getfixturevalue("bridge"), clock)


def test_what_is_decided_is_stored_and_comes_back_as_facts(log: AnyLog) -> None:
    name = fresh()
    ask = Ask(EXECUTION, name, SUBMIT, by="client", cause="c", trace="00-1-2-01", known=NEW, tag=7)
    (outcome,) = handle(log, [ask])
    (fact,) = outcome.facts
    assert outcome.ask is ask
    assert outcome.error is None
    assert fact.subject == subjects.event("execution", name, 1, "queued", "commands", "medium")
    assert (fact.envelope.by, fact.envelope.cause, fact.envelope.trace) == ("client", "c", "00-1-2-01")
    assert (outcome.snapshot.n, outcome.snapshot.seq, outcome.snapshot.state.phase) == (1, fact.seq, "queued")
    loaded = load(log, EXECUTION, name)
    assert tuple(loaded.facts) == (fact,)
    assert loaded.snapshot == outcome.snapshot
    consistent(loaded, EXECUTION)


def test_an_entity_that_does_not_exist_has_the_initial_state(log: AnyLog) -> None:
    assert load(log, EXECUTION, fresh()).snapshot == NEW


def test_a_released_execution_is_queued_under_the_module_and_priority_it_was_held_with(log: AnyLog) -> None:
    name = fresh()
    spec = Spec(shell=Shell(command="true"), module="builds", priority="high")
    hold = Submit(spec=spec, digest="d", taken_by="one", held="time")
    _, released = handle(
        log, [Ask(EXECUTION, name, hold, known=NEW), Ask(EXECUTION, name, Release(reason="time"), known=NEW)]
    )
    assert released.facts[0].subject.endswith(".2.queued.builds.high")
    consistent(load(log, EXECUTION, name), EXECUTION)


def test_started_and_cancelled_in_one_flush_exactly_one_is_stored(log: AnyLog) -> None:
    """Both would fit the queued execution; a log that decides both on it stores both."""
    names = submitted(log, 40)
    asks = [Ask(EXECUTION, name, command) for name in names for command in (Cancel(), START)]
    outcomes = handle(log, asks)
    for name, cancelled, started in zip(names, outcomes[::2], outcomes[1::2], strict=True):
        assert [fact.name for fact in cancelled.facts] == ["cancelled"]
        assert isinstance(started.error, AlreadyOver)
        loaded = load(log, EXECUTION, name)
        assert [fact.name for fact in loaded.facts] == ["queued", "cancelled"]
        consistent(loaded, EXECUTION)


def test_a_refusal_and_nothing_to_do_are_answers(log: AnyLog) -> None:
    (name,) = submitted(log)
    asks = [
        Ask(EXECUTION, fresh(), START, known=NEW),
        Ask(EXECUTION, name, SUBMIT, known=NEW),
        Ask(EXECUTION, "Not A Word", SUBMIT, known=NEW),
        Ask(EXECUTION, name, START, by="a\r\nNats-Rollup: all"),
    ]
    missing, repeated, nameless, injected = handle(log, asks)
    assert isinstance(missing.error, NotFound)
    assert (repeated.error, list(repeated.facts), repeated.snapshot.n) == (None, [], 1)
    assert isinstance(nameless.error, Validation)
    assert isinstance(injected.error, Validation)


def test_rules_that_break_are_one_answer(log: AnyLog) -> None:
    def broken(_state: Any, _command: Any) -> tuple[()]:
        raise ZeroDivisionError

    (outcome,) = handle(log, [Ask(Decider("node", node.State(), broken, node.evolve), "one", Cancel())])
    assert isinstance(outcome.error, Internal)
    (name,) = submitted(log)
    assert handle(log, [Ask(EXECUTION, name, Cancel())])[0].error is None


def test_an_event_that_is_too_large_is_refused_and_its_neighbours_are_stored(log: AnyLog) -> None:
    names = [fresh() for _ in range(30)]
    big = Submit(spec=Spec(code="x" * 9_000_000), digest="d", taken_by="one")
    asks = [Ask(EXECUTION, name, big if at == 7 else SUBMIT, known=NEW) for at, name in enumerate(names)]
    outcomes = handle(log, asks)
    assert [type(outcome.error) for outcome in outcomes if outcome.error] == [TooLarge]
    assert isinstance(outcomes[7].error, TooLarge)
    assert load(log, EXECUTION, names[7]).snapshot.n == 0
    assert handle(log, [Ask(several(1001), names[7], Cancel())])[0].error.__class__ is TooLarge


def test_the_events_of_one_decision_stand_next_to_each_other(log: AnyLog) -> None:
    rules, name = several(3), fresh()
    asks = [Ask(rules, name, Cancel()), *(Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(5))]
    outcome = handle(log, asks)[0]
    assert [fact.seq - outcome.facts[0].seq for fact in outcome.facts] == [0, 1, 2]
    consistent(load(log, rules, name), rules)


def test_an_entity_of_thousands_of_events_is_read_whole(log: AnyLog) -> None:
    rules, name = several(900), fresh()
    handle(log, [Ask(rules, name, Cancel()) for _ in range(3)])
    loaded = load(log, rules, name)
    assert loaded.snapshot.n == 2700
    consistent(loaded, rules)


@pytest.mark.parametrize("made", ["memory", "nats"])
def test_time_of_an_entity_never_goes_back(made: str, request: pytest.FixtureRequest) -> None:
    moments = iter([5_000, 4_000, 6_000])

    def clock() -> int:
        return next(moments)

    bridge: Bridge = request.getfixturevalue("bridge")
    log: AnyLog = Memory(clock) if made == "memory" else Log(bridge, clock)
    name = fresh()
    outcomes = handle(log, [Ask(several(1), name, Cancel(), known=NEW) for _ in range(3)])
    said = [outcome.facts[0].time for outcome in outcomes]
    assert said == [codec.stamp(5_000), codec.stamp(5_000), codec.stamp(6_000)]


def test_five_hundred_at_once_over_a_hundred_entities_are_what_the_rules_say(log: AnyLog) -> None:
    names = [fresh() for _ in range(100)]
    steps = [SUBMIT, START, execution.Report(attempt=1), SUBMIT, execution.Lose(attempt=1, reason="r")]
    per_thread = [names[at::4] for at in range(4)]
    lots = Lots()

    def ask(mine: list[str]) -> None:
        for step in steps:
            for name in mine:
                log.handle([Ask(EXECUTION, name, step, known=NEW)], lots)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in per_thread]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes: list[Outcome] = lots.wait(500)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    for name in names:
        loaded = load(log, EXECUTION, name)
        said = [fact.name for fact in loaded.facts]
        assert said == ["queued", "started", "progressed", "attempt_lost", "failed"]
        consistent(loaded, EXECUTION)
    seqs = sorted(fact.seq for outcome in outcomes for fact in outcome.facts)
    assert seqs == list(range(seqs[0], seqs[0] + 500))
