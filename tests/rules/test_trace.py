"""A trace is kept when somebody sent one, and begun when nobody did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.memory import Memory
from events import trace
from events.codec import Fact
from events.execution import EXECUTION, Cancel, Start, Submit
from events.ports import Ask
from events.spec import Shell, Spec

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SUBMIT = Submit(spec=Spec(shell=Shell(command="true")), digest="d", taken_by="n")
START = Start(node="n", boot="b", log_path="/x")

hexes = st.text("0123456789abcdef", min_size=1, max_size=32)


def run(*asks: Ask) -> list[Fact]:
    log = Memory(lambda: 0)
    log.handle(asks, lambda _: None)
    return log.since()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-9",
        SENT + "-more",
        SENT.upper(),
        SENT.replace("00-4", "ff-4"),
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        SENT + "\nX: y",
        "cc-" + SENT[3:] + "-" + "x" * 600,
    ],
)
def test_what_is_no_traceparent_counts_as_not_sent(text: str) -> None:
    assert trace.read(text) == ""


def test_a_later_version_is_read_as_far_as_this_one_goes() -> None:
    assert trace.read("cc-" + SENT[3:-2] + "03-what-the-future-brings") == SENT
    assert trace.read(f" {SENT} ") == SENT


def test_every_event_carries_the_trace_that_was_sent_with_the_first() -> None:
    other = SENT.replace("4bf9", "0000")
    told = run(
        Ask(EXECUTION, "exec_1", SUBMIT, trace=SENT),
        Ask(EXECUTION, "exec_1", START),
        Ask(EXECUTION, "exec_1", Cancel(), trace=other),
    )
    assert [(fact.name, fact.envelope.trace) for fact in told] == [
        (name, SENT) for name in ("queued", "started", "cancel_requested")
    ]


def test_without_one_an_execution_begins_a_trace_of_its_own_and_is_its_root() -> None:
    one, two, again = run(
        Ask(EXECUTION, "exec_1", SUBMIT), Ask(EXECUTION, "exec_2", SUBMIT), Ask(EXECUTION, "exec_1", START)
    )
    first, second = trace.parse(one.envelope.trace), trace.parse(two.envelope.trace)
    assert first is not None
    assert second is not None
    assert first.trace != second.trace
    assert first.span == trace.span("exec_1")
    assert again.envelope.trace == one.envelope.trace


@given(st.lists(hexes, min_size=1, max_size=4))
def test_what_happens_inside_a_span_stays_in_the_trace(names: list[str]) -> None:
    inner = trace.parse(trace.under(SENT, *names))
    outer = trace.parse(SENT)
    assert inner is not None
    assert outer is not None
    assert (inner.trace, inner.flags) == (outer.trace, outer.flags)
    assert inner.span == trace.span(*names) != outer.span
    assert trace.read(str(inner)) == str(inner)
    assert trace.under("", *names) == ""
