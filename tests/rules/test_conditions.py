"""Conditions of steps: what they mean, and what is said of one that means nothing."""

from typing import Any

import pytest

from events import condition
from events.errors import Validation
from events.params import Reference

KNOWN: dict[str, Any] = {
    "steps.lint.status": "completed",
    "steps.lint.exit_code": 3,
    "steps.lint.outputs.count": "12",
    "steps.lint.outputs.ready": "true",
    "steps.my-step.outputs.a.b": 1.5,
    "params.target": "prod",
    "params.draft": False,
    "params.list": [],
}


def look(reference: Reference) -> Any:
    return KNOWN.get(str(reference))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("steps.lint.status == 'completed'", True),
        ('steps.lint.status == "completed"', True),
        ("steps.lint.status != 'completed'", False),
        ("steps.lint.exit_code > 2 and steps.lint.exit_code < 4", True),
        ("steps.lint.exit_code == 3.0", True),
        ("steps.lint.outputs.count > 5", True),
        ("steps.lint.outputs.count == 12", True),
        ("steps.lint.outputs.count == '12'", True),
        ("steps.lint.outputs.count < 5", False),
        ("steps.lint.outputs.ready == true", True),
        ("steps.lint.outputs.ready", True),
        ("steps.my-step.outputs.a.b >= 1.5", True),
        ("steps.my-step.outputs.a.b <= -1", False),
        ("steps.lint.outputs.nothing == null", True),
        ("steps.lint.outputs.nothing > 1", False),
        ("steps.lint.outputs.nothing < 1", False),
        ("steps.lint.status < 5", False),
        ("steps.lint.exit_code == true", False),
        ("not params.draft", True),
        ("params.list", False),
        ("params.draft or params.target == 'prod'", True),
        ("params.draft and params.target == 'prod' or true", True),
        ("params.draft and (params.target == 'prod' or true)", False),
        ("not not params.target", True),
        ("not params.draft == true", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    assert condition.holds(condition.parse(text), look) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "when: it is empty"),
        ("steps.lint.status = 'completed'", "when: '=' at character 19: write =="),
        ("steps.lint.status == completed", "unknown name 'completed' at character 22: write texts in quotes"),
        ("step.lint.status == 'x'", "unknown name 'step.lint.status' at character 1, did you mean 'steps'?"),
        (
            "steps.lint.state == 'x'",
            "'steps.lint.state' at character 1 does not say what of the step: did you mean 'status'?",
        ),
        (
            "steps.lint",
            "'steps.lint' at character 1 does not say what of the step: there are exit_code, outputs, status",
        ),
        (
            "steps.lint.outputs == 1",
            "'steps.lint.outputs' at character 1 needs a key: steps.lint.outputs.<key>",
        ),
        ("steps.lint.status.x == 1", "there is nothing in status"),
        ("params == 1", "params needs a name: params.<name>"),
        ("params.a == 'x", "the text that begins at character 13 has no end"),
        ("params.a ==", "a value is missing before 'the end' at character 12"),
        ("(params.a", "the bracket at character 1 is not closed"),
        ("params.a params.b", "'params.b' at character 10 is one too many: join conditions with and, or"),
        ("params.a && params.b", "'&& params.' at character 10 is not understood"),
        ("1x == 1", "'1x == 1' at character 1 is not understood"),
        ("not " * 60 + "true", "it is nested more than 50 deep"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Validation) as caught:
        condition.parse(text)
    assert said in caught.value.message
    assert caught.value.details["field"] == "when"


def test_what_it_asks_for_is_known() -> None:
    parsed = condition.parse("not steps.a.status == 'x' and (params.b or steps.c.outputs.d > 1)")
    assert list(map(str, condition.asked(parsed))) == ["steps.a.status", "params.b", "steps.c.outputs.d"]
