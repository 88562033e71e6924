"""What whoever goes on has to know: within the budget, failures in it, and useful for a thousand steps."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import bearings, phases
from events.errors import Problem
from events.journey import State
from events.phases import Definition, Phase, Step
from events.played import Cell, Initialized, Result, Summary
from events.spec import Shell, Submit

GOLDEN = Path(__file__).parent.parent / "golden" / "context.txt"
RUN = Submit(shell=Shell(command="make step"))
words = st.text(max_size=60) | st.just("ünïcödé 日本語 " * 3)


def state(rows: list[tuple[str, str]], said: list[str], size: int = 10) -> State:
    """A playbook whose steps ended so, `size` steps a phase, with what was said of its phases."""
    names = [f"s{n}" for n in range(len(rows))]
    made = tuple(
        Phase(
            id=f"p{at}",
            name=f"Part {at}",
            steps=tuple(Step(name=n, do=RUN) for n in names[start : start + size]),
        )
        for at, start in enumerate(range(0, len(names), size))
    )
    definition = Definition(name="long", phases=made)
    cells: dict[str, Cell] = {}
    for name, (status, text) in zip(names, rows, strict=True):
        error = None if status == "completed" else Problem(code="command_failed", message=text or "no")
        result = Result(
            step=name, status="completed" if error is None else "failed", error=error, outputs={"k": text}
        )
        cells[name] = Cell(step=name, phase_id="p0", status=status, run=1, result=result)  # type: ignore[arg-type]  # a status
    at = next((n for n, (status, _) in enumerate(rows) if status != "completed"), len(rows))
    return State(
        id="play_x",
        phase="active",
        initialized=Initialized(definition=definition, params={"who": "world"}),
        definition=definition,
        row=phases.row(definition),
        cells=cells,
        at=at,
        summaries={
            f"p{n}": Summary(phase_id=f"p{n}", summary=text) for n, text in enumerate(said[: len(made)])
        },
    )


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["completed", "completed", "failed", "timed_out"]), words),
        min_size=1,
        max_size=60,
    ),
    said=st.lists(words, max_size=6),
    budget=st.integers(1, 20_000) | st.integers(1, 200),
)
def test_a_budget_is_never_exceeded_and_failures_are_in_it_whenever_a_line_fits(
    rows: list[tuple[str, str]], said: list[str], budget: int
) -> None:
    there = state(rows, said)
    text = bearings.context(there, [], budget)
    assert bearings.tokens(text) == -(-len(text.encode()) // 3) <= budget
    failed = [name for name, cell in there.cells.items() if cell.status != "completed"]
    if failed and budget >= 20:
        assert text.startswith("FAILED ")


def test_failures_come_first_then_the_newest() -> None:
    there = state([("completed", "a")] * 3 + [("failed", "it broke")], ["old", "new"], size=2)
    lines = bearings.context(
        there, [{"id": "art_1", "name": "f", "size": 3, "phase_id": "p0"}], 4000
    ).splitlines()
    assert lines[0] == "FAILED s3: it broke"
    assert "long is running in phase p1, at step s3, 3 of 4 steps done." in lines[1]
    assert lines.index("Summary of Part 1: new") < lines.index("Summary of Part 0: old")
    assert any("art_1 f (3 bytes, p0)" in line for line in lines)
    assert lines[-1].startswith("Done s0")


def test_the_context_of_a_thousand_steps_is_useful() -> None:
    rows = [("completed", f"result {n}") for n in range(990)] + [
        ("failed", "Command failed with exit code 2")
    ]
    rows += [("pending", "")] * 9
    there = state(rows, [f"Part {n} built 10 of 10 pages." for n in range(99)])
    artifacts: list[dict[str, Any]] = [
        {"id": f"art_{n:064x}", "name": f"page-{n}.html", "size": n, "phase_id": "p1"}
        for n in range(1000, 1005)
    ]
    text = bearings.context(there, artifacts, 1000)
    assert bearings.tokens(text) <= 1000
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("budget", [50, 200, 1000, 20_000])
def test_more_room_says_more(budget: int) -> None:
    rows = [("completed", f"result {n}") for n in range(100)]
    there = state(rows, [f"summary {n}" for n in range(10)])
    less, more = bearings.context(there, [], budget), bearings.context(there, [], budget * 2)
    assert set(less.splitlines()) <= set(more.splitlines())
