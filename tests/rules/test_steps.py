"""A playbook as a Python program: what was done is remembered, and a changed order is shown."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import Validation
from interfaces.steps import Changed, Steps

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(returned=st.lists(values, max_size=8), stops=st.lists(st.integers(0, 8), max_size=4))
def test_whatever_happens_each_step_runs_once(
    tmp_path_factory: pytest.TempPathFactory, returned: list[Any], stops: list[int]
) -> None:
    path = tmp_path_factory.mktemp("s") / "memory"
    ran: list[int] = []

    def run(until: int) -> list[Any]:
        steps, got = Steps(path), list[Any]()
        for number, value in enumerate(returned[:until]):

            def do(number: int = number, value: Any = value) -> Any:
                ran.append(number)
                return value

            got.append(steps.step(f"s{number}", do))
        return got

    for stop in stops:
        assert run(stop) == returned[:stop]
    assert run(len(returned)) == returned
    assert ran == list(range(len(returned)))


def test_a_step_that_fails_is_not_remembered(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Steps(tmp_path / "m").step("a", fail)
    assert Steps(tmp_path / "m").step("a", lambda: 1) == 1


def test_another_order_is_shown_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m"
    first = Steps(path)
    for name in ("fetch", "index", "publish"):
        first.step(name, str, name)
    before = path.read_bytes()
    again = Steps(path)
    again.step("fetch", str, "fetch")
    with pytest.raises(Changed) as changed:
        again.step("publish", str, "publish")
    assert "-index\n+publish" in changed.value.message
    assert path.read_bytes() == before


def test_a_line_that_was_cut_off_never_was(tmp_path: Path) -> None:
    path = tmp_path / "m"
    Steps(path).step("a", lambda: 1)
    with path.open("ab") as file:
        file.write(b'{"step":"b","va')
    steps = Steps(path)
    assert steps.step("a", lambda: 2) == 1
    assert steps.step("b", lambda: 3) == 3
    assert Steps(path).step("a", lambda: 4) == 1


def test_what_cannot_be_written_down_and_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "m")
    with pytest.raises(Validation, match="no JSON"):
        steps.step("a", object)
    steps = Steps(None)
    steps.step("a", int)
    with pytest.raises(Validation, match="two steps named 'a'"):
        steps.step("a", int)
