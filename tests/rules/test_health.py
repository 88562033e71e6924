"""What about a module is worth a look: each finding begins where its rule says, and not before."""

from typing import Any

import pytest

from events import health
from events.look import ModuleLook


def module(**more: Any) -> ModuleLook:
    return ModuleLook(name="indexer", category="core", workers=2, **more)


def types(**more: Any) -> list[str]:
    return [each.type for each in health.judge([module(**more)])]


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ({}, []),
        ({"completed": 8, "failed": 1}, []),
        ({"completed": 7, "failed": 3}, ["success_rate"]),
        ({"completed": 8, "failed": 2}, []),
        ({"completed": 1000, "failed": 10}, []),
        ({"completed": 1000, "failed": 11}, ["failures"]),
        ({"completed": 1, "failed": 11}, ["success_rate", "failures"]),
        ({"queued": 1, "oldest_queued_seconds": 15.0}, []),
        ({"queued": 1, "oldest_queued_seconds": 15.1}, ["deaf"]),
        ({"queued": 9, "busy": 2, "oldest_queued_seconds": 60.0}, []),
        ({"queued": 9, "busy": 2, "oldest_queued_seconds": 60.1}, ["queue_age"]),
        ({"queued": 9, "state": "paused", "oldest_queued_seconds": 9000.0}, []),
    ],
)
def test_a_finding_begins_where_its_rule_says(seen: dict[str, Any], found: list[str]) -> None:
    assert types(**seen) == found


def test_the_sentence_says_what_was_seen() -> None:
    (found,) = health.judge(
        [module(completed=5, failed=6, errors=("a", "indexer:add exec_1: ValueError: no"))]
    )
    assert found.about == "indexer"
    assert "45% of 11 jobs" in found.text
    assert found.text.endswith("the last one: indexer:add exec_1: ValueError: no")
