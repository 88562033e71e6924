"""What a keeper knows after it died anywhere is what its journal says, no more and no less."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.journal import OVER, Journal, replay

Known = dict[tuple[str, int], dict[str, Any]]

keys = st.tuples(st.sampled_from("abc"), st.integers(1, 2))
kinds = st.sampled_from(["intent", "spawned", "spawn_failed", "killing", "exited", "lost", "forgotten"])


def record(kind: str, key: tuple[str, int], pid: int) -> dict[str, Any]:
    return {"type": kind, "execution": key[0], "attempt": key[1], "pid": pid}


records = st.builds(record, kinds, keys, st.integers(1, 9))
RANK = {"intent": 0, "running": 1, "failed": 2, "exited": 2, "lost": 2}


def lines(some: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one).encode() + b"\n" for one in some]


@given(st.lists(records, max_size=30), st.data())
def test_any_prefix_of_a_journal_says_what_its_whole_lines_say(
    some: list[dict[str, Any]], data: st.DataObject
):
    whole = b"".join(lines(some))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    complete = cut[: cut.rfind(b"\n") + 1]
    known, _, torn = replay(cut.splitlines(keepends=True))
    tail = cut[len(complete) :]
    if torn:
        assert tail
        assert known == replay(complete.splitlines(keepends=True))[0]
    else:  # nothing torn, or only the newline was
        assert known == replay([*complete.splitlines(keepends=True), tail])[0]


@given(st.lists(records, max_size=30))
def test_a_state_never_goes_back_and_only_what_ended_is_forgotten(some: list[dict[str, Any]]):
    before: Known = {}
    for count in range(len(some) + 1):
        after, _, _ = replay(lines(some[:count]))
        for key, one in before.items():
            if key not in after:
                assert one["state"] in OVER
            else:
                assert RANK[after[key]["state"]] >= RANK[one["state"]]
                if one["state"] in OVER:
                    assert after[key] == one
        before = after


@given(st.lists(records, max_size=30), st.booleans())
def test_a_compacted_journal_says_the_same(some: list[dict[str, Any]], more: bool):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "journal.jsonl")
        journal = Journal(path, "boot-1")
        for one in some:
            journal.append(one)
        known = {key: dict(one) for key, one in journal.attempts.items()}
        assert journal.compact(force=True)
        if more:
            one = {"type": "intent", "execution": "z", "attempt": 1}
            journal.append(one)
            known["z", 1] = {"state": "intent", "boot_id": "boot-1", "execution": "z", "attempt": 1}
        journal.close()
        again = Journal(path, "boot-2")
        assert again.attempts == known
        assert again.torn == 0
        again.close()


def test_a_torn_last_line_costs_only_itself(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(str(path), "boot")
    journal.append({"type": "intent", "execution": "a", "attempt": 1})
    journal.append({"type": "spawned", "execution": "a", "attempt": 1, "pid": 7})
    journal.close()
    path.write_bytes(path.read_bytes()[:-9])
    again = Journal(str(path), "boot")
    again.append({"type": "lost", "execution": "a", "attempt": 1, "pid": None})
    again.close()
    known, _, torn = replay(path.read_bytes().splitlines(keepends=True))
    assert torn == 1
    assert known["a", 1]["state"] == "lost"


def test_a_journal_that_is_mostly_forgotten_becomes_short(tmp_path: Path):
    journal = Journal(str(tmp_path / "journal.jsonl"), "boot")
    for number in range(1500):
        name = {"execution": f"e{number}", "attempt": 1}
        for kind in ("intent", "spawned", "exited", "forgotten"):
            journal.append({"type": kind, **name})
            journal.compact()
    assert journal.attempts == {}
    assert journal.lines < 4001
    assert len((tmp_path / "journal.jsonl").read_bytes().splitlines()) == journal.lines
    journal.close()


def test_every_attempt_remembers_the_boot_it_began_in(tmp_path: Path):
    path = str(tmp_path / "journal.jsonl")
    for boot in ("first", "second"):
        journal = Journal(path, boot)
        journal.append({"type": "intent", "execution": boot, "attempt": 1})
        journal.close()
    known, _, _ = replay(Path(path).read_bytes().splitlines(keepends=True))
    assert {key[0]: one["boot_id"] for key, one in known.items()} == {"first": "first", "second": "second"}
