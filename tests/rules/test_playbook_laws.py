"""Playbooks: whatever is asked and however steps end, what is behind it never runs again.

It is long because all laws share one machine that plays random playbooks.
"""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec, faults, phases, playbook, playing
from events.errors import (
    AlreadyOver,
    Conflict,
    HindbrainError,
    IdempotencyConflict,
    NotOver,
    Problem,
    Validation,
)
from events.message import Event
from events.phases import Definition, Input, Phase, Step
from events.playbook import PLAYBOOK, State
from events.played import Memory, Result
from events.spec import Shell, Submit

RUN = Submit(shell=Shell(command="true"))
ENTITY = "play_x"


class Tale:
    """A playbook and a clock."""

    def __init__(self, definition: Definition, **more: Any) -> None:
        self.state, self.n, self.now = State(), 0, 1_000_000
        self.events: list[Event] = []
        self.memories: dict[str, Memory] = {}
        initialized = playbook.Initialized(definition=definition, digest="d", **more)
        self.ask(playbook.Initialize(initialized=initialized, now_ms=self.now))

    def ask(self, command: Any) -> list[Event]:
        events = list(PLAYBOOK.decide(self.state, command))
        for event in events:
            self.n += 1
            time = codec.stamp(self.now)
            body = codec.encode(event)
            fact = codec.Fact(
                seq=self.n,
                kind="playbook",
                entity=ENTITY,
                n=self.n,
                event=codec.decode("playbook", body),
                envelope=codec.Envelope(id="x", time=time),
                subject="",
                body=body,
            )
            self.state = PLAYBOOK.evolve(self.state, fact)
        self.events += events
        return events

    def save(self, reason: Any = "step") -> str:
        """Store a checkpoint, as the conductor does."""
        name = playbook.checkpoint_id(self.state, reason)
        memory = msgspec.json.decode(codec.encode(self.state.memory()), type=Memory)
        checkpoint = playbook.CheckpointCreated(
            checkpoint_id=name,
            reason=reason,
            at=self.state.at,
            checksum="c",
            size=1,
            raw_size=1,
            position=self.state.seq,
        )
        self.memories[name] = memory
        self.ask(playbook.Save(checkpoint=checkpoint, now_ms=self.now))
        return name

    def end(self, status: Any = "completed", **more: Any) -> list[Event]:
        """What runs ends like that."""
        going = self.state.going
        assert going is not None
        error = None if status == "completed" else Problem(code="command_failed", message="it did not work")
        result = Result(step=going.step, run=going.run, status=status, error=error, **more)
        return self.ask(playbook.Advance(ended=result, now_ms=self.now))

    def settle(self) -> "Tale":
        """Store what is due."""
        while playbook.due(self.state):
            self.save("step" if self.state.checkpoints else "start")
        return self

    def through(self, status: Any = "completed") -> "Tale":
        """Let all that is left end like that."""
        self.settle()
        while self.state.going is not None:
            self.end(status, outputs={"k": self.state.going.step})
            self.settle()
        return self

    @property
    def started(self) -> list[str]:
        return [each.step for each in self.events if isinstance(each, playbook.StepStarted)]


def book(*sizes: int, **more: Any) -> Definition:
    count = iter(range(100))
    return Definition(
        name="b",
        phases=tuple(
            Phase(id=f"p{at}", steps=tuple(Step(name=f"s{next(count)}", do=RUN) for _ in range(size)))
            for at, size in enumerate(sizes)
        ),
        **more,
    )


def one(step: Step, **more: Any) -> Definition:
    return Definition(phases=(Phase(id="p", steps=(step,)),), **more)


# ---- the usual way ---------------------------------------------------------------------------------------


def test_nothing_goes_on_before_its_checkpoint_is_stored() -> None:
    tale = Tale(book(2))
    assert tale.started == []
    tale.save("start")
    assert tale.started == ["s0"]
    tale.end()
    assert tale.started == ["s0"]
    tale.save()
    assert tale.started == ["s0", "s1"]
    tale.end()
    assert not tale.state.over
    tale.save()
    assert tale.state.status == "completed"


def test_the_end_of_a_phase_is_summed_up_with_its_artifacts() -> None:
    template = Definition(
        phases=(
            Phase(
                id="p",
                summary="${steps.s.outputs.n} of ${params.all}, ${steps.s.outputs.none}",
                steps=(Step(name="s", do=RUN),),
            ),
        ),
        params={"all": phases.Param(type="integer", default=9)},
    )
    tale = Tale(template).settle()
    events = tale.end(outputs={"n": 3}, artifacts=("art_a", "art_a", "art_b"))
    said = events[-1]
    assert isinstance(said, playbook.PhaseSummary)
    assert (said.summary, said.artifacts) == ("3 of 9, (nothing)", ("art_a", "art_b"))


def test_a_run_without_checkpoints_goes_on_at_once() -> None:
    tale = Tale(book(1, 1), supports_resume=False)
    with pytest.raises(Conflict, match="supports_resume"):
        tale.save("command")
    tale.end()
    tale.end()
    assert tale.state.status == "completed"
    assert not tale.state.checkpoints


def test_a_repeat_under_the_same_key_starts_nothing() -> None:
    tale = Tale(book(1))
    same = playbook.Initialize(initialized=playbook.Initialized(definition=book(1), digest="d"), now_ms=1)
    assert tale.ask(same) == []
    other = playbook.Initialize(initialized=playbook.Initialized(definition=book(1), digest="e"), now_ms=1)
    with pytest.raises(IdempotencyConflict):
        tale.ask(other)


def test_a_step_whose_condition_does_not_hold_is_skipped() -> None:
    definition = Definition(
        phases=(
            Phase(
                id="p", steps=(Step(name="a", do=RUN), Step(name="b", do=RUN, when="steps.a.exit_code == 1"))
            ),
            Phase(id="q", steps=(Step(name="c", do=RUN),)),
        )
    )
    tale = Tale(definition).settle()
    tale.end(exit_code=0)
    tale.settle()
    assert tale.started == ["a", "c"]
    assert tale.state.cells["b"].status == "skipped"
    assert tale.state.ended == {"p": "completed"}


# ---- failures --------------------------------------------------------------------------------------------


def test_a_step_that_fails_leaves_it_paused_at_the_checkpoint_before_it() -> None:
    tale = Tale(book(2)).settle()
    tale.end()
    name = tale.save()
    tale.end("failed")
    assert tale.state.status == "paused"
    assert tale.state.pause is not None
    assert (tale.state.pause.step, tale.state.pause.checkpoint_id) == ("s1", name)
    tale.ask(playbook.Resume(now_ms=tale.now))
    assert tale.state.going is not None
    assert (tale.state.going.step, tale.state.going.run) == ("s1", 2)
    assert tale.through().state.status == "completed"
    assert Counter(tale.started) == {"s0": 1, "s1": 2}


def test_with_on_error_fail_it_has_failed_and_can_be_resumed_from_its_last_checkpoint() -> None:
    tale = Tale(book(2, on_error="fail")).settle()
    tale.end()
    name = tale.save()
    tale.end("timed_out")
    assert tale.state.status == "failed"
    tale.ask(playbook.Resume(checkpoint_id=name, memory=tale.memories[name], now_ms=tale.now))
    assert tale.through().state.status == "completed"
    assert tale.started == ["s0", "s1", "s1"]


def test_what_may_fail_is_passed() -> None:
    definition = Definition(
        phases=(Phase(id="p", steps=(Step(name="a", do=RUN, allow_failure=True), Step(name="b", do=RUN))),)
    )
    tale = Tale(definition).settle()
    tale.end("failed")
    tale.settle()
    assert tale.started == ["a", "b"]


# ---- by hand ---------------------------------------------------------------------------------------------


def test_what_runs_goes_on_while_it_is_paused_and_nothing_follows() -> None:
    tale = Tale(book(2)).settle()
    tale.ask(playbook.Pause(reason="later"))
    tale.end()
    tale.settle()
    assert (tale.state.status, tale.started) == ("paused", ["s0"])
    assert tale.ask(playbook.Pause()) == []
    tale.ask(playbook.Resume(now_ms=tale.now))
    assert tale.started == ["s0", "s1"]


def test_a_cancelled_run_stops_when_its_step_has() -> None:
    tale = Tale(book(2)).settle()
    tale.ask(playbook.Cancel(reason="enough", now_ms=tale.now))
    assert not tale.state.over
    tale.end("cancelled")
    assert tale.state.status == "cancelled"
    assert tale.ask(playbook.Cancel(now_ms=tale.now)) == []
    with pytest.raises(AlreadyOver):
        tale.ask(playbook.Pause())


def test_a_running_one_is_not_taken_back_to_a_checkpoint() -> None:
    tale = Tale(book(2)).settle()
    name = tale.state.current
    assert tale.ask(playbook.Resume(now_ms=tale.now)) == []
    with pytest.raises(NotOver):
        tale.ask(playbook.Resume(checkpoint_id=name, memory=Memory(), now_ms=tale.now))


def test_a_summary_by_hand_replaces_the_one_of_its_end() -> None:
    tale = Tale(book(1)).through()
    tale.ask(playbook.Summarize(phase_id="p0", summary="all is well", by="ada"))
    assert tale.state.summaries["p0"].summary == "all is well"
    assert tale.ask(playbook.Summarize(phase_id="p0", summary="all is well", by="ada")) == []
    with pytest.raises(Validation, match="there are p0"):
        tale.ask(playbook.Summarize(phase_id="p1", summary="x"))


# ---- sleeping and asking ---------------------------------------------------------------------------------


def test_a_sleep_is_over_when_its_time_comes_and_not_before() -> None:
    tale = Tale(one(Step(name="s", sleep="365d"))).settle()
    assert tale.state.wake == tale.now + 365 * 86_400_000
    tale.now += 365 * 86_400_000 - 1
    assert tale.ask(playbook.Tick(now_ms=tale.now)) == []
    tale.now += 1
    tale.ask(playbook.Tick(now_ms=tale.now))
    assert tale.settle().state.status == "completed"


def question(**more: Any) -> Tale:
    return Tale(one(Step(name="q", input=Input(message="well?", **more)))).settle()


def test_the_first_answer_wins_and_a_repeat_of_it_is_harmless() -> None:
    tale = question()
    assert tale.state.status == "waiting_input"
    tale.ask(playbook.Answer(value={"ok": True}, by="ada", now_ms=tale.now))
    result = tale.state.cells["q"].result
    assert result is not None
    assert result.outputs == {"answer": {"ok": True}, "by": "ada"}
    assert tale.ask(playbook.Answer(value={"ok": True}, by="ada", now_ms=tale.now)) == []
    with pytest.raises(Conflict, match="by ada"):
        tale.ask(playbook.Answer(value={"ok": True}, by="bob", now_ms=tale.now))


def test_nobody_can_answer_what_nobody_asked() -> None:
    with pytest.raises(Conflict, match="nobody is asked"):
        Tale(book(1)).settle().ask(playbook.Answer(value=1, now_ms=1))


def test_at_the_deadline_the_default_holds_or_the_step_has_timed_out() -> None:
    tale = question(deadline="1m", default="no")
    tale.now += 60_000
    tale.ask(playbook.Tick(now_ms=tale.now))
    assert tale.state.answers["q"].answered_by == "deadline"
    assert tale.settle().state.status == "completed"
    tale = question(deadline="1m")
    tale.now += 60_000
    tale.ask(playbook.Tick(now_ms=tale.now))
    assert (tale.state.status, tale.state.cells["q"].status) == ("paused", "timed_out")
    with pytest.raises(Conflict):
        tale.ask(playbook.Answer(value="late", now_ms=tale.now))
    tale.ask(playbook.Resume(now_ms=tale.now))
    assert tale.state.status == "waiting_input"


def test_it_reminds_as_often_as_was_wished() -> None:
    tale = question(remind="10s", deadline="25s")
    count = 0
    while tale.state.status == "waiting_input":
        tale.now = tale.state.wake or 0
        count += any(isinstance(e, playbook.InputReminded) for e in tale.ask(playbook.Tick(now_ms=tale.now)))
    assert count == 2


# ---- checkpoints -----------------------------------------------------------------------------------------


def outcome(state: State) -> Any:
    """What there is at the end, times and runs aside."""
    cells = {
        name: (cell.status, cell.result.outputs if cell.result else None)
        for name, cell in state.cells.items()
    }
    return state.status, state.at, cells, {name: each.summary for name, each in state.summaries.items()}


@pytest.mark.parametrize("at", range(8))
def test_going_on_from_every_checkpoint_comes_to_the_same_end(at: int) -> None:
    tale = Tale(book(3, 1, 3)).through()
    end = outcome(tale.state)
    name = tale.state.checkpoints[at].checkpoint_id
    before = len(tale.started)
    with pytest.raises(AlreadyOver):
        tale.ask(playbook.Resume(now_ms=tale.now))
    tale.ask(playbook.Resume(checkpoint_id=name, memory=tale.memories[name], now_ms=tale.now))
    assert outcome(tale.through().state) == end
    assert tale.started[before:] == [f"s{n}" for n in range(at, 7)]


@pytest.mark.parametrize("at", range(8))
def test_a_fork_shares_the_past_and_does_not_run_it_again(at: int) -> None:
    tale = Tale(book(3, 1, 3)).through()
    name = tale.state.checkpoints[at].checkpoint_id
    fork = Tale.__new__(Tale)
    fork.state, fork.n, fork.now, fork.events, fork.memories = State(), 0, tale.now, [], {}
    initialized = playbook.Initialized(
        definition=book(3, 1, 3), fork=playbook.Fork(playbook_id=ENTITY, checkpoint_id=name)
    )
    fork.ask(playbook.Initialize(initialized=initialized, memory=tale.memories[name], now_ms=1))
    assert outcome(fork.through().state) == outcome(tale.state)
    assert fork.started == [f"s{n}" for n in range(at, 7)]


# ---- whatever is asked -----------------------------------------------------------------------------------

kinds = st.sampled_from(
    [
        *(["end", "end", "end", "save", "save", "save"]),
        *("fail", "cancelled", "stale", "pause", "resume", "back", "cancel", "tick", "answer", "summarize"),
    ]
)
steps = st.sampled_from(
    [
        Step(name="", do=RUN),
        Step(name="", do=RUN, allow_failure=True),
        Step(name="", do=RUN, when="1 == 2"),
        Step(name="", sleep="1s"),
        Step(name="", input=Input(message="?", deadline="5s", remind="1s")),
    ]
)
definitions = st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=3)


def named(rows: list[list[Step]], on_error: Any) -> Definition:
    count = iter(range(100))
    return Definition(
        phases=tuple(
            Phase(
                id=f"p{at}",
                steps=tuple(msgspec.structs.replace(each, name=f"s{next(count)}") for each in row),
            )
            for at, row in enumerate(rows)
        ),
        on_error=on_error,
    )


def act(tale: Tale, kind: str, pick: int) -> list[Event]:
    state, going = tale.state, tale.state.going
    match kind:
        case "end" | "fail" | "cancelled" if going is not None and going.does == "execution":
            return tale.end({"end": "completed", "fail": "failed"}.get(kind, kind))
        case "stale":
            return tale.ask(
                playbook.Advance(ended=Result(step="s0", run=99, status="failed"), now_ms=tale.now)
            )
        case "save":
            tale.save("step" if playbook.due(state) else "timer")
            return []
        case "pause":
            return tale.ask(playbook.Pause())
        case "resume":
            return tale.ask(playbook.Resume(now_ms=tale.now))
        case "back" if tale.memories:
            name = sorted(tale.memories)[pick % len(tale.memories)]
            return tale.ask(playbook.Resume(checkpoint_id=name, memory=tale.memories[name], now_ms=tale.now))
        case "cancel":
            return tale.ask(playbook.Cancel(now_ms=tale.now))
        case "tick":
            return tale.ask(playbook.Tick(now_ms=tale.now))
        case "answer":
            return tale.ask(playbook.Answer(value=1, by="me", now_ms=tale.now))
        case "summarize":
            return tale.ask(playbook.Summarize(phase_id="p0", summary="s"))
        case _:
            return []


@settings(max_examples=300, deadline=None)
@given(
    rows=definitions,
    on_error=st.sampled_from(["pause", "fail"]),
    asked=st.lists(st.tuples(kinds, st.integers(0, 9)), max_size=60),
    saves=st.booleans(),
)
def test_what_is_behind_it_never_runs_again(
    rows: list[list[Step]], on_error: Any, asked: list[tuple[str, int]], saves: bool
) -> None:
    tale = Tale(named(rows, on_error), supports_resume=saves)
    seen: set[tuple[str, int]] = set()
    for kind, pick in asked:
        tale.now += pick * 300
        before, count, over = tale.state, len(tale.events), tale.state.over
        try:
            act(tale, kind, pick)
        except HindbrainError:
            assert tale.state == before
            continue
        news = tale.events[count:]
        behind = {before.spot(place)[1].name for place in range(before.at)}
        back = any(isinstance(each, playbook.Resumed) and each.memory is not None for each in news)
        for event in news:
            if isinstance(event, playbook.StepStarted):
                assert back or event.step not in behind
                assert (event.step, event.run) not in seen, "no run is started twice"
                seen.add((event.step, event.run))
        resumed = any(isinstance(each, playbook.Resumed) for each in news)
        assert not over or resumed or all(isinstance(each, playbook.PhaseSummary) for each in news)
        ends = [
            each
            for each in news
            if isinstance(each, playbook.Completed | playbook.Failed | playbook.Cancelled)
        ]
        assert len(ends) <= 1
        state = tale.state
        assert state.at <= state.total
        assert state.going is None or not state.over
        assert all(state.cells[state.spot(place)[1].name].status != "pending" for place in range(state.at))
        if state.phase == "active" and state.going is None and not playbook.due(state):
            assert state.pause is not None, "somebody or something has to be waited for"


def test_secrets_and_problems_are_looked_at_in_every_step() -> None:
    assert list(faults.problems(book(1))) == []
    wrong = {
        "a playbook needs at least one phase": Definition(),
        "phase 'p' needs at least one step": Definition(phases=(Phase(id="p"),)),
        "step 's' runs nothing": one(Step(name="s")),
        "step 's' runs several things": one(Step(name="s", do=RUN, sleep="1s")),
        "'soon' is no duration": one(Step(name="s", sleep="soon")),
        "there are two steps named 's'": Definition(
            phases=(
                Phase(id="p", steps=(Step(name="s", do=RUN),)),
                Phase(id="q", steps=(Step(name="s", do=RUN),)),
            )
        ),
        "there are two phases": Definition(
            phases=(
                Phase(id="p", steps=(Step(name="s", do=RUN),)),
                Phase(id="p", steps=(Step(name="t", do=RUN),)),
            )
        ),
        "comes before 't'": Definition(
            phases=(
                Phase(
                    id="p",
                    steps=(
                        Step(name="s", do=Submit(shell=Shell(command="echo ${steps.t.status}"))),
                        Step(name="t", do=RUN),
                    ),
                ),
            )
        ),
        "bad workspace": book(1, workspace="../x"),
        "artifacts are files that a command leaves": one(Step(name="s", sleep="1s", artifacts=["x"])),
        "bad pattern": one(Step(name="s", do=RUN, artifacts=["/etc/passwd"])),
        "default is what holds at the deadline": one(Step(name="s", input=Input(message="?", default=1))),
        "unknown step 'z'": Definition(
            phases=(Phase(id="p", summary="${steps.z.status}", steps=(Step(name="s", do=RUN),)),)
        ),
    }
    for text, definition in wrong.items():
        found = [each.text for each in faults.problems(definition)]
        assert any(text in each for each in found), (text, found)
        with pytest.raises(Validation):
            faults.check(definition)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("90s", 90_000), ("1h30m", 5_400_000), ("3d", 259_200_000), ("250ms", 250), ("1.5h", 5_400_000)],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert phases.span(text) == ms


@pytest.mark.parametrize("text", ["", "3", "d", "3 days", "1h-2m", "9999d", "1x2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Validation):
        phases.span(text)


def test_the_id_of_what_a_step_runs_is_always_the_same() -> None:
    assert playing.child("play_a", "s", 1, "execution") == playing.child("play_a", "s", 1, "execution")
    assert playing.child("play_a", "s", 1, "plan").startswith("plan_")
    assert playing.child("play_a", "s", 2, "playbook") != playing.child("play_a", "s", 1, "playbook")
