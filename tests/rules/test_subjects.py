"""Whatever is built can be read back, and nothing else can."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import subjects
from events.errors import Validation

WORD = re.compile(r"[a-z0-9_-]{1,64}")
tokens = st.from_regex(WORD, fullmatch=True)
numbers = st.integers(min_value=0, max_value=2**63 - 1)
facts = st.booleans()

plain = st.builds(
    subjects.Event, tokens, tokens, numbers, tokens.filter(lambda event: event != subjects.QUEUED), fact=facts
)
queued = st.builds(
    subjects.Event, st.just("execution"), tokens, numbers, st.just(subjects.QUEUED), tokens, tokens, facts
)
everything = st.one_of(
    plain,
    queued,
    st.builds(subjects.Request, tokens, tokens, st.booleans()),
    st.builds(subjects.Output, tokens, st.sampled_from(subjects.STREAMS)),
    st.builds(subjects.Progress, tokens, tokens),
    st.builds(subjects.Telemetry, st.sampled_from(["node", "execution"]), tokens),
    st.builds(subjects.Dead, numbers),
    st.builds(subjects.Peer, tokens, tokens),
    st.builds(subjects.Lease, tokens),
)


def covers(pattern: str, subject: str) -> bool:
    """Match as the server does."""
    expression = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(expression, subject) is not None


@given(everything)
def test_every_subject_reads_back_as_what_it_was_built_from(subject: subjects.Subject) -> None:
    assert subjects.parse(str(subject)) == subject


@given(st.text(max_size=80))
def test_text_is_either_refused_or_is_exactly_the_subject_it_reads_as(text: str) -> None:
    try:
        read = subjects.parse(text)
    except Validation:
        return
    assert str(read) == text


@given(st.text(max_size=70).filter(lambda text: not WORD.fullmatch(text)))
def test_what_is_no_word_is_refused_everywhere(word: str) -> None:
    builders = (
        lambda: subjects.event("execution", word, 1, "started"),
        lambda: subjects.event("execution", "exec_1", 1, "queued", "commands", word),
        lambda: subjects.command(word, "submit"),
        lambda: subjects.inbox("execution", word),
        lambda: subjects.output(word, "stdout"),
        lambda: subjects.progress("execution", word),
        lambda: subjects.telemetry("node", word),
        lambda: subjects.peer(word, "secret"),
        lambda: subjects.lease(word),
        lambda: subjects.entity("execution", word),
        lambda: subjects.queue(word, "high"),
    )
    for build in builders:
        with pytest.raises(Validation):
            build()


@given(plain.map(lambda event: str(event).replace("brain.fact.", "brain.evt.")))
def test_a_fact_is_the_event_under_its_public_name(subject: str) -> None:
    told = subjects.parse(subjects.fact(subject))
    assert isinstance(told, subjects.Event)
    assert told.fact
    assert str(told).removeprefix("brain.fact.") == subject.removeprefix("brain.evt.")


def test_the_map_gives_the_names_that_programs_rely_on() -> None:
    assert subjects.event("execution", "exec_1", 3, "started") == "brain.evt.execution.exec_1.3.started"
    assert (
        subjects.event("execution", "exec_1", 1, "queued", "commands", "high")
        == "brain.evt.execution.exec_1.1.queued.commands.high"
    )
    assert subjects.command("execution", "submit") == "brain.cmd.execution.submit"
    assert subjects.inbox("execution", "submit") == "brain.inbox.execution.submit"
    assert subjects.output("exec_1", "stderr") == "brain.out.exec_1.stderr"
    assert subjects.progress("execution", "exec_1") == "brain.progress.execution.exec_1"
    assert subjects.telemetry("node", "a") == "brain.tel.node.a"
    assert subjects.dead(7) == "brain.dead.inbox.7"
    assert subjects.peer("a", "secret") == "brain.node.a.secret"


def test_filters_cover_their_own_and_nothing_else() -> None:
    queued = subjects.event("execution", "exec_1", 1, "queued", "commands", "high")
    assert covers(subjects.queue("commands", "high"), queued)
    assert not covers(subjects.queue("commands", "low"), queued)
    assert not covers(subjects.queue("commands", "high"), subjects.event("execution", "exec_1", 2, "started"))
    assert covers(subjects.entity("execution", "exec_1"), queued)
    assert not covers(subjects.entity("execution", "exec_2"), queued)


@pytest.mark.parametrize(
    "build",
    [
        lambda: subjects.event("execution", "exec_1", 1, "queued"),
        lambda: subjects.event("execution", "exec_1", 1, "started", "commands", "high"),
        lambda: subjects.event("execution", "exec_1", -1, "started"),
        lambda: subjects.command("*", ">"),
        lambda: subjects.fact("brain.cmd.execution.submit"),
        lambda: subjects.parse("brain.evt.execution.exec_1.01.started"),
    ],
)
def test_what_has_no_place_on_the_map_is_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(Validation):
        build()
