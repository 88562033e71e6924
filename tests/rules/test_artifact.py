"""Artifacts: registered once, however often, and never removed while somebody needs them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import artifact, codec, workspace
from events.artifact import ARTIFACT, Referenced, Register, Registered, Release, Remove, State
from events.errors import Conflict, HindbrainError, NotFound, Validation
from events.message import Event
from events.ports import Decider

ENTITY = artifact.named("ab" * 32)


def told(decider: Decider[Any], state: Any, command: Any, seq: int = 1) -> tuple[Any, list[Event]]:
    """Decide, and take in what was decided; `seq` is the time too, in seconds."""
    events = list(decider.decide(state, command))
    for event in events:
        envelope = codec.Envelope(id="x", time=codec.stamp(seq * 1000))
        fact = codec.Fact(
            seq=seq, kind="artifact", entity=ENTITY, n=1, event=event, envelope=envelope, subject="", body=b""
        )
        state = decider.evolve(state, fact)
    return state, events


def kept(*needed: str, **more: Any) -> State:
    state = State()
    for who in needed or (None,):
        reference = None if who is None else Referenced(by=who)
        command = Register(registered=Registered(title="a", size=1, **more), reference=reference)
        state, _ = told(ARTIFACT, state, command)
    return state


def test_the_same_content_is_registered_once() -> None:
    state, again = told(ARTIFACT, kept(), Register(registered=Registered(title="a", size=1)))
    assert again == []
    assert state.sha256 == "ab" * 32


def test_another_name_is_news_but_the_content_stays_where_it_is() -> None:
    there = kept(backend="nats", node="one", workspace_id="research")
    other = Registered(title="b", size=1, backend="local", node="two")
    state, _ = told(ARTIFACT, there, Register(registered=other))
    assert state.registered == Registered(
        title="b", size=1, backend="nats", node="one", workspace_id="research"
    )


def test_what_is_needed_is_not_removed_and_the_refusal_names_who_needs_it() -> None:
    with pytest.raises(Conflict, match="play_b"):
        ARTIFACT.decide(kept("play_a", "play_b"), Remove(before_ms=2**62))


def test_what_was_touched_since_is_not_removed() -> None:
    assert ARTIFACT.decide(kept(), Remove(before_ms=1000)) == ()
    assert ARTIFACT.decide(kept(), Remove(before_ms=1001)) != ()


def test_a_playbook_that_lets_go_lets_go_of_all_its_phases() -> None:
    state, said = kept("play_a"), Registered(title="a", size=1)
    for phase in ("one", "two"):
        reference = Referenced(by="play_a", phase_id=phase)
        state, _ = told(ARTIFACT, state, Register(registered=said, reference=reference))
    state, events = told(ARTIFACT, state, Release(by="play_a"))
    assert events == [artifact.Released(by="play_a", count=3)]
    assert state.references == {}


def test_what_was_removed_can_come_back() -> None:
    state, _ = told(ARTIFACT, kept(), Remove(before_ms=2**62))
    assert state.phase == "removed"
    state, _ = told(ARTIFACT, state, Register(registered=Registered(title="a", size=1)))
    assert state.phase == "kept"


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(NotFound):
        ARTIFACT.decide(State(), Release(by="anybody"))


words = st.sampled_from(["play_a", "play_b", "exec_c"])
commands = st.one_of(
    st.builds(
        Register,
        registered=st.builds(Registered, title=st.sampled_from("ab"), size=st.just(1)),
        reference=st.none() | st.builds(Referenced, by=words, phase_id=st.sampled_from([None, "p", "q"])),
    ),
    st.builds(Release, by=words),
    st.builds(Remove, before_ms=st.integers(0, 30_000)),
)


@settings(max_examples=200, deadline=None)
@given(asked=st.lists(commands, max_size=20))
def test_whatever_is_asked_it_is_never_removed_while_somebody_needs_it(asked: list[Any]) -> None:
    state, count = State(), 0
    for second, command in enumerate(asked, 1):
        needed = bool(state.references)
        try:
            state, events = told(ARTIFACT, state, command, second)
        except HindbrainError:
            continue
        for event in events:
            match event:
                case artifact.Removed():
                    assert not needed
                case Referenced():
                    count += 1
                case artifact.Released(count=less):
                    count -= less
                case _:
                    pass
        assert count == len(state.references)


def test_a_workspace_is_opened_once_and_keeps_its_path() -> None:
    opened = workspace.decide(workspace.State(), workspace.Open(name="r", path="/srv/r"))
    assert opened == (workspace.Opened(path="/srv/r"),)
    state = workspace.State(id="r", phase="open", opened=opened[0])
    assert workspace.decide(state, workspace.Open(name="r")) == ()
    with pytest.raises(Conflict):
        workspace.decide(state, workspace.Open(name="r", path="/srv/other", new=True))


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "x" * 65])
def test_a_workspace_needs_a_name_that_is_a_word(name: str) -> None:
    with pytest.raises(Validation):
        workspace.decide(workspace.State(), workspace.Open(name=name))


def test_a_workspace_has_an_absolute_path_or_none() -> None:
    with pytest.raises(Validation):
        workspace.decide(workspace.State(), workspace.Open(name="r", path="srv/r"))
