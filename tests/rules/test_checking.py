"""What is wrong with a plan is said before anything of it starts, with its field and what is allowed."""
# ruff: noqa: E501 -- a table is read by its rows

from typing import Any

import msgspec
import pytest

from events import checking
from events.asks import plan as asks
from events.asks import tree
from events.asks.tree import Tree
from events.errors import Validation
from events.spec import Exec, Submit
from events.steps import Definition, Operations, Step, mapped

ASK = Submit(exec=Exec(program="true"))
TRUE: dict[str, Any] = {"exec": {"program": "true"}}


def said(**given: Any) -> list[tuple[str, str]]:
    try:
        definition = tree.definition(msgspec.convert(given, Tree))
    except Validation as error:
        return [(error.details["field"], error.message.removeprefix("Validation error: "))]
    return [(each.field, each.text) for each in checking.problems(definition)]


STEPS: list[tuple[list[dict[str, Any]], str, str]] = [
    ([], "steps", "a plan needs at least one step"),
    (
        [{"name": "a b", **TRUE}],
        "steps[0].name",
        "bad step name 'a b': use a-z, 0-9, _ and -, at most 64",
    ),
    ([{"name": "a", **TRUE}, {"name": "a", **TRUE}], "steps[1].name", "there are two steps named 'a'"),
    (
        [{"name": "a"}],
        "steps[0]",
        "step 'a' runs nothing: give exactly one of code, script, exec, shell, aws, job, plan, steps",
    ),
    (
        [{"name": "a", "timeout_ms": 5, "steps": [{"name": "b", **TRUE}]}],
        "steps[0].timeout_ms",
        "timeout_ms is for a command, not for a plan",
    ),
    (
        [{"name": "a", **TRUE, "strategy": "graph"}],
        "steps[0].strategy",
        "strategy goes with steps or plan",
    ),
    (
        [{"name": "a", **TRUE, "shell": {"command": "x"}}],
        "steps[0].shell",
        "several commands (exec, shell): give exactly one",
    ),
    (
        [{"name": "a", **TRUE, "timeout_ms": 0}],
        "steps[0].timeout_ms",
        "timeout_ms is 0: it must be between 1 and 31622400000",
    ),
    (
        [{"name": "a", **TRUE, "idempotency_key": "k"}],
        "steps[0].idempotency_key",
        "leave idempotency_key out: what a plan runs has a key already",
    ),
    (
        [{"name": "a", **TRUE, "needs": ["lnt"]}, {"name": "lint", **TRUE}],
        "steps[0].needs[0]",
        "step 'a' needs unknown step 'lnt', did you mean 'lint'?",
    ),
    ([{"name": "a", **TRUE, "needs": ["a"]}], "steps[0].needs[0]", "step 'a' needs itself"),
    (
        [
            {"name": "a", **TRUE, "needs": ["c"]},
            {"name": "b", **TRUE, "needs": ["a"]},
            {"name": "c", **TRUE, "needs": ["b"]},
        ],
        "steps[0].needs",
        "the needs go in a circle: a -> c -> b -> a",
    ),
    (
        [{"name": "a", **TRUE, "when": "steps.b.status = 1"}],
        "steps[0].when",
        "when: '=' at character 16: write ==",
    ),
    (
        [{"name": "a", **TRUE, "when": "steps.lnt.exit_code == 1"}, {"name": "lint", **TRUE}],
        "steps[0].when",
        "when: unknown step 'lnt', did you mean 'lint'?",
    ),
    (
        [{"name": "a", **TRUE, "when": "steps.b.exit_code == 1"}, {"name": "b", **TRUE}],
        "steps[0].when",
        "when: step 'a' comes before 'b', so it cannot know of it",
    ),
    (
        [{"name": "a", **TRUE, "when": "params.x"}],
        "steps[0].when",
        "when: unknown parameter 'x', there are none",
    ),
    (
        [{"name": "a", "exec": {"program": "x", "args": ["", "${params.y}"]}}],
        "steps[0].exec.args[1]",
        "unknown parameter 'y', there are none",
    ),
    (
        [{"name": "a", "exec": {"program": "${item}"}}],
        "steps[0].exec.program",
        "${item}: only an operation of a batch has an item and an index",
    ),
    (
        [{"name": "a", "code": "${steps.a.outputs.k:raw}"}],
        "steps[0].code",
        "step 'a' comes before 'a', so it cannot know of it",
    ),
    (
        [{"name": "a", **TRUE}, {"name": "b", "shell": {"command": "echo ${steps.a.output.k}"}}],
        "steps[1].shell.command",
        "steps.a.output.k: did you mean 'outputs'?",
    ),
    (
        [{"name": "a", **TRUE}, {"name": "b", "code": "${steps.a.outputs.k}"}],
        "steps[1].code",
        "code: ${steps.a.outputs.k} would become a part of the text: put it into env, or write ${steps.a.outputs.k:raw} if that is what you want",
    ),
    (
        [{"name": "a", **TRUE, "undo": {"exec": {"program": "x", "args": ["${param.x}"]}}}],
        "steps[0].undo.exec.args[0]",
        "unknown reference ${param.x}, did you mean ${params.x}?",
    ),
    (
        [{"name": "a", "plan": {"params": {"to": {}}, "steps": [{"name": "b", **TRUE}]}}],
        "steps[0].values.to",
        "parameter 'to' is missing: it needs a string",
    ),
    (
        [{"name": "a", "plan": {"steps": [{"name": "b", **TRUE, "needs": ["c"]}]}}],
        "steps[0].plan.steps[0].needs[0]",
        "step 'b' needs unknown step 'c', there are none",
    ),
    (
        [{"name": "a", **TRUE, "values": {"x": 1}}],
        "steps[0].values",
        "values are for the parameters of a plan, and this step runs none",
    ),
]


@pytest.mark.parametrize(("steps", "field", "text"), STEPS)
def test_what_is_wrong_with_a_step_is_named_with_its_field(
    steps: list[dict[str, Any]], field: str, text: str
) -> None:
    assert said(steps=steps) == [(field, text)]


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ({"max_concurrency": 0}, "max_concurrency", "max_concurrency is 0: it must be between 1 and 10000"),
        ({"labels": ["A"]}, "labels", "bad label 'A': use a-z, 0-9, _ and -, at most 64"),
        (
            {"priority": "urgent"},
            "priority",
            "unknown priority 'urgent': use critical, high, medium, low, idle or 1 to 5",
        ),
        ({"env": {"1": "x"}}, "env", "bad environment name '1': use letters, digits and _"),
        ({"items": ["a"]}, "items", "items goes with do: what is to be run for every item"),
        ({"do": TRUE, "strategy": "graph"}, "do", 'do, items and count go with strategy = "batch"'),
        (
            {"strategy": "parallel", "steps": [{"name": "a", **TRUE}, {"name": "b", **TRUE, "needs": ["a"]}]},
            "steps[1].needs",
            'needs go with strategy = "graph"',
        ),
        ({"strategy": "batch", "steps": []}, "do", "a batch needs do: what is to be run for every item"),
        (
            {"strategy": "batch", "steps": [], "do": TRUE, "items": ["a"], "count": 2},
            "count",
            "items and count: give one of them",
        ),
        (
            {"strategy": "batch", "steps": [], "do": TRUE, "count": -1},
            "count",
            "count is -1: it must be between 0 and 100000000",
        ),
        (
            {"strategy": "batch", "steps": [], "do": TRUE, "items": "files"},
            "items",
            "items is 'files': give items, or one ${params.<name>}",
        ),
        (
            {"strategy": "batch", "steps": [], "do": TRUE, "items": "${params.x}", "params": {"x": {}}},
            "items",
            "parameter 'x' must be of type list for items",
        ),
        (
            {"strategy": "batch", "steps": [], "do": {"code": "print(${item})"}, "count": 1},
            "do.code",
            "code: ${item} would become a part of the text: put it into env, or write ${item:raw} if that is what you want",
        ),
    ],
)
def test_what_is_wrong_with_a_plan_is_named_with_its_field(
    given: dict[str, Any], field: str, text: str
) -> None:
    assert said(**{"steps": [{"name": "a", **TRUE}]} | given) == [(field, text)]


def test_all_problems_are_told_at_once() -> None:
    steps = tuple(Step(name=name, do=ASK, needs=["x"]) for name in ("a", "b"))
    with pytest.raises(Validation) as caught:
        checking.check(Definition(strategy="graph", steps=steps))
    assert [each["field"] for each in caught.value.details["problems"]] == [
        "steps[0].needs[0]",
        "steps[1].needs[0]",
    ]


def test_everything_that_a_plan_runs_can_be_changed_by_its_name() -> None:
    inner = Definition(steps=(Step(name="x", do=ASK, undo=ASK),))
    many = Definition(strategy="batch", operations=Operations(do=ASK, count=1, undo=ASK))
    whole = Definition(steps=(Step(name="a", do=ASK), Step(name="p", plan=inner), Step(name="b", plan=many)))
    seen: list[str] = []
    mapped(whole, lambda name, ask: seen.append(name) or ask)
    assert sorted(seen) == ["a", "b", "b/undo", "p/x", "p/x/undo"]


def test_a_request_becomes_a_plan() -> None:
    given: dict[str, Any] = {
        "steps": [{"name": "a", **TRUE}, {"name": "b", **TRUE, "needs": ["a"]}],
        "values": {"x": 1},
    }
    assert asks.definition(msgspec.convert(given, asks.Submit)).strategy == "graph"
    given = {"do": TRUE, "open": True}
    assert asks.batch(msgspec.convert(given, asks.Batch)).strategy == "batch"
    with pytest.raises(Validation, match="give items, or a count"):
        asks.batch(msgspec.convert({"do": TRUE}, asks.Batch))
    nested: dict[str, Any] = {
        "name": "n",
        "steps": [{"name": "a", **TRUE}],
        "strategy": "parallel",
        "env": {"A": "1"},
    }
    (step,) = asks.definition(msgspec.convert({"steps": [nested]}, asks.Submit)).steps
    assert step.do is None
    assert step.plan is not None
    assert (step.plan.strategy, step.plan.env) == ("parallel", {"A": "1"})
