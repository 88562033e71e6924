"""What a chat shows: exact texts, at most one change a second, and always the end."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import chat
from events.chat import SPACING_MS, Board


def batch(n: int, m: int | None = 3, *, seq: int = 0, **more: Any) -> dict[str, Any]:
    """What is told of a batch."""
    said = {
        "kind": "plan",
        "id": "plan_b",
        "batchId": "plan_b",
        "status": "running",
        "current": n,
        "total": m,
    }
    return {**said, "message": None, "failedOperations": 0, "seq": seq or n + 1, "final": False, **more}


def told(kind: str, status: str, **more: Any) -> dict[str, Any]:
    """What is told of something else."""
    over = status in ("completed", "failed", "cancelled", "timed_out")
    said = {"kind": kind, "id": f"{kind[:4]}_x", "status": status, "current": None, "total": None}
    return {**said, "message": None, "seq": 1, "final": over, "text": status, **more}


def over(n: int, m: int | None, status: str = "completed", failed: int = 0) -> str:
    return chat.tells(batch(n, m, status=status, failedOperations=failed, final=True))


def test_a_batch_is_told_in_three_texts() -> None:
    assert chat.begins(batch(0)) == "Starting batch operation..."
    assert chat.tells(batch(1, 3, message="Generating landing:features")) == (
        "Progress: 1/3\nCurrent: Generating landing:features"
    )
    assert chat.tells(batch(0, None)) == "Progress: 0\nCurrent: Processing..."
    assert over(3, 3) == "✅ Batch operation completed: 3 operations"
    assert over(3, 3, failed=1) == "⚠️ Batch operation completed: 2 operations, 1 failed"
    assert over(2, 3, "failed", 2) == "❌ Batch operation failed: 2 of 3 operations"
    assert over(2, None, "cancelled") == "🚫 Batch operation cancelled: 2 of ? operations"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (told("plan", "queued"), "Starting plan plan_x..."),
        (
            told("plan", "running", current=1, total=2, message="build"),
            "Plan plan_x\nProgress: 1/2\nCurrent: build",
        ),
        (told("plan", "completed", current=1, total=1), "✅ Plan plan_x completed: 1 step"),
        (told("plan", "failed", current=2, total=5), "❌ Plan plan_x failed: 2 of 5 steps"),
        (
            told("playbook", "waiting_input", current=2, total=5, message="approve"),
            "Playbook play_x\nProgress: 2/5\nCurrent: approve (waiting input)",
        ),
        (told("playbook", "cancelled", current=2, total=5), "🚫 Playbook play_x cancelled: 2 of 5 steps"),
        (
            told("execution", "running", last_output="compiling"),
            "Command exec_x\nProgress: running\nCurrent: compiling",
        ),
        (told("execution", "completed", last_output="42"), "✅ Command exec_x completed\n42"),
        (told("execution", "failed", last_output=None), "❌ Command exec_x failed"),
        (told("execution", "timed_out"), "❌ Command exec_x timed out"),
    ],
)
def test_the_rest_is_told_alike(said: dict[str, Any], text: str) -> None:
    assert chat.tells(said) == text


def test_a_message_is_never_longer_than_networks_take() -> None:
    long = told("execution", "completed", last_output="x" * 9000)
    assert len(chat.tells(long)) == chat.TEXT_MOST
    question = {"message": "x" * 9000, "asked_at": "t"}
    assert chat.asks("play_x", question).endswith("…\nTo answer: !answer play_x VALUE")


def test_what_belongs_to_something_else_is_not_shown() -> None:
    board = Board(("plan", "execution"), edits=True)
    board.hear(told("execution", "running", parent="plan_b"))
    board.hear(told("playbook", "running"))
    assert board.lines == {}


def test_what_was_asked_for_is_shown_whatever_its_kind() -> None:
    board = Board((), edits=True)
    board.follow("exec_x", "execution")
    board.hear(told("execution", "completed", last_output="42"))
    assert send(board, 1000) == ["✅ Command exec_x completed\n42"]


def send(board: Board, now: int) -> list[str]:
    """Send all that is due."""
    found: list[str] = []
    while (key := board.due(now)) is not None:
        found.append(board.lines[key].text)
        board.sent(key, found[-1], f"m-{key}", now)
    return found


def test_a_question_is_a_message_of_its_own_and_closed_when_it_was_answered() -> None:
    board = Board(("playbook",), edits=True)
    asked = {"message": "Go live?", "asked_at": "2026-01-01"}
    board.hear(told("playbook", "waiting_input", current=1, total=2, asked=asked))
    question = "❓ Go live?\nTo answer: !answer play_x VALUE"
    assert set(send(board, 1000)) == {"Starting playbook play_x...", question}
    assert board.about("m-play_x?2026-01-01") == board.about("m-play_x") == "play_x"
    assert board.about("m-else") is None
    board.hear(told("playbook", "running", current=2, total=2, seq=2, asked=None))
    assert "❓ Go live?\nNo longer asked" in send(board, 9000)
    again = {"message": "Go live?", "asked_at": "2026-01-02"}
    board.hear(told("playbook", "waiting_input", current=1, total=2, seq=3, asked=again))
    assert question in send(board, 19_000)


def test_without_edits_only_questions_and_ends_are_said() -> None:
    board = Board(("plan", "playbook"), edits=False)
    asked = {"message": "Go live?", "asked_at": "2026-01-01"}
    said = [batch(0), batch(1), told("playbook", "waiting_input", current=1, total=2, asked=asked)]
    said += [
        told("playbook", "completed", current=2, total=2, seq=2),
        batch(3, final=True, status="completed"),
    ]
    heard: list[str] = []
    for n, each in enumerate(said):
        board.hear(each)
        heard += send(board, n * 2000)
    assert heard == [
        "❓ Go live?\nTo answer: !answer play_x VALUE",
        "✅ Playbook play_x completed: 2 steps",
        "✅ Batch operation completed: 3 operations",
    ]


def test_what_is_over_is_forgotten_in_the_end_but_not_before_it_was_said() -> None:
    board = Board(("plan",), edits=True)
    for n in range(chat.KEPT + 50):
        board.hear(batch(3, id=f"plan_{n}", final=True, status="completed"))
    assert len(board.lines) == chat.KEPT + 50
    assert len(send(board, 1000)) == chat.KEPT + 50
    assert len(board.lines) == chat.KEPT
    assert f"plan_{chat.KEPT + 49}" in board.lines


STEPS = st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 1)), max_size=40)


@given(steps=STEPS, edits=st.booleans(), stays=st.integers(0, 40))
def test_a_message_changes_at_most_once_a_second_and_its_end_is_always_said(
    steps: list[tuple[int, int]], edits: bool, stays: int
) -> None:
    board, now, n = Board(("plan",), edits), 1_000_000, 0
    sent: list[tuple[int, str]] = []

    def look() -> None:
        nonlocal now
        sent.extend((now, text) for text in send(board, now))

    board.hear(batch(0, 99))
    for passed, more in steps:
        now += passed
        n += more
        board.hear(batch(n, 99))
        look()
    if stays % 3 == 0:
        board = Board(("plan",), edits, board.lines)  # the door was started again
    board.hear(batch(99, 99, final=True, status="completed"))
    while (pause := board.pause_ms(now)) is not None:
        now += pause
        look()
    times, texts = [time for time, _ in sent], [text for _, text in sent]
    assert all(later - earlier >= SPACING_MS for earlier, later in itertools.pairwise(times))
    assert all(one != other for one, other in itertools.pairwise(texts))
    assert texts[-1] == "✅ Batch operation completed: 99 operations"
    if edits:
        assert len(texts) == 1 or texts[0] == "Starting batch operation..."
    else:
        assert len(texts) == 1


@given(seqs=st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_what_comes_late_changes_nothing(seqs: list[int]) -> None:
    board = Board(("plan",), edits=True)
    for seq in seqs:
        board.hear(batch(seq, 99, seq=seq))
    assert board.lines["plan_b"].wanted == chat.tells(batch(max(seqs), 99))


def test_a_clock_that_was_set_back_holds_up_nothing() -> None:
    board = Board(("plan",), edits=True)
    board.hear(batch(0))
    assert send(board, 10_000_000)
    assert send(board, 5000)
