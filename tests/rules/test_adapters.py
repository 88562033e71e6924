"""A task in the words of others and back: nothing is lost, and what is wrong is said."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import engines, translation
from events import faults, legacy, params
from events.asks import book
from events.errors import Validation
from events.ir import ArtifactReference, ExecutionMetadata, PhaseIR, TaskIR
from interfaces.adapters import MCPIRAdapter, PlaybookIRAdapter

Strategy = st.SearchStrategy[Any]
names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9_.-]{1,10}", fullmatch=True)
texts = st.text(max_size=30) | st.sampled_from(
    ["${params.x}", "$${steps.a.outputs.b}", "a ${steps.one.status} b", "${HOME}", "$$${params.a}", "}${"]
)


def _either(*options: Any) -> Strategy:
    return st.one_of(*options)


trees: Strategy = st.recursive(
    _either(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: _either(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
values: Strategy = st.dictionaries(names, trees, max_size=3)
times: Strategy = st.none() | st.just("2026-11-28T12:00:00.000Z")
statuses: Strategy = st.sampled_from(["pending", "running", "paused", "done", "failed", "cancelled"])
steps: Strategy = st.fixed_dictionaries({"name": names, "shell": st.fixed_dictionaries({"command": texts})})
parts: Strategy = st.fixed_dictionaries(
    {"id": names, "steps": st.lists(steps, min_size=1, max_size=3)}, optional={"name": texts}
)
books: Strategy = st.fixed_dictionaries(
    {"phases": st.lists(parts, min_size=1, max_size=2)},
    optional={"on_error": st.just("fail"), "params": st.just({"x": {"type": "integer"}})},
)
plans: Strategy = st.fixed_dictionaries({"steps": st.lists(steps, min_size=1, max_size=3)})
keep: Strategy = st.lists(words, max_size=2).map(tuple)
urls: Strategy = st.from_regex(r"https?://[a-z]{1,8}:[1-9][0-9]{1,3}", fullmatch=True)


def engine(kind: str, **fields: Any) -> Strategy:
    return st.fixed_dictionaries({"preferred_engine": words.map(lambda word: f"{kind}:{word}"), **fields})


WORK: Strategy = st.one_of(
    engine("playbook", work=books, values=values),
    engine("plan", work=plans, values=values),
    engine("mcp", values=values, keep=keep).map(
        lambda each: each | {"preferred_engine": each["preferred_engine"] + "/a/tool"}
    ),
    engine("job", values=values, keep=keep).map(
        lambda each: each | {"preferred_engine": each["preferred_engine"] + ":type"}
    ),
    st.fixed_dictionaries(
        {"preferred_engine": urls.map(lambda url: f"remote:{url}"), "work": books, "values": values}
    ),
    st.fixed_dictionaries(
        {
            "preferred_engine": urls.map(lambda url: f"remote:{url}"),
            "there": st.just("mcp:files/read"),
            "values": values,
            "keep": keep,
        }
    ),
)
states: Strategy = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "status": _either(statuses, st.just("skipped")),
        "outputs": values,
        "artifacts": st.lists(words, max_size=2).map(tuple),
        "summary": texts,
        "error": st.just({"code": "failed", "message": "no", "details": {}}),
        "run": st.integers(0, 9),
        "started_at": times,
        "ended_at": times,
    },
)
metadata: Strategy = st.builds(
    ExecutionMetadata,
    title=texts,
    description=st.none() | texts.filter(bool),
    labels=st.lists(words, max_size=2).map(tuple),
    source=texts,
    source_id=texts,
    source_status=words,
    supports_resume=st.booleans(),
    working_dir=st.none() | st.just("/srv"),
    extra=values,
)


@st.composite
def tasks(draw: st.DrawFn) -> TaskIR:
    ids = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    phases = tuple(PhaseIR(id=name, **(draw(WORK) | draw(states))) for name in ids)
    return TaskIR(
        task_id=draw(texts),
        intent_instance_id=draw(st.none() | texts),
        workspace_id=draw(names),
        actor_id=draw(texts),
        current_phase=draw(st.none() | st.sampled_from(ids)),
        status=draw(statuses),
        phases=phases,
        artifacts=tuple(draw(st.lists(st.builds(ArtifactReference, id=words, name=texts), max_size=2))),
        metadata=draw(metadata),
        created_at=draw(times),
        updated_at=draw(times),
        last_checkpoint_at=draw(times),
    )


@given(tasks())
def test_a_task_comes_back_from_a_playbook_as_it_was(task: TaskIR) -> None:
    text = PlaybookIRAdapter().to_playbook(task)
    assert PlaybookIRAdapter().from_playbook(text) == task


@given(tasks())
def test_a_task_comes_back_from_mcp_as_it_was(task: TaskIR) -> None:
    text = MCPIRAdapter().to_mcp(task)
    assert MCPIRAdapter().from_mcp(text) == task


@given(trees)
def test_what_is_escaped_is_filled_in_as_itself(tree: Any) -> None:
    def nothing(reference: params.Reference) -> Any:
        raise AssertionError(reference)

    assert params.values(params.escaped(tree), nothing) == tree


def test_what_a_task_has_no_playbook_for_is_not_kept_in_the_metadata() -> None:
    """The work stands in the steps, where a playbook says it; a change there is a change of the task."""
    task = TaskIR(
        task_id="t",
        phases=(PhaseIR(id="read", preferred_engine="mcp:files/read", values={"path": "a.txt"}),),
    )
    text = PlaybookIRAdapter().to_playbook(task)
    changed = PlaybookIRAdapter().from_playbook(text.replace("a.txt", "b.txt").replace('"read"', '"look"'))
    assert changed.phases == (
        PhaseIR(id="look", preferred_engine="mcp:files/look", values={"path": "b.txt"}),
    )
    wire = MCPIRAdapter().to_mcp(task).replace("a.txt", "b.txt").replace("working", "completed")
    assert MCPIRAdapter().from_mcp(wire).phases[0].values == {"path": "b.txt"}
    assert MCPIRAdapter().from_mcp(wire).status == "done"


def test_the_playbook_of_a_task_is_one_that_would_be_taken() -> None:
    first = PhaseIR(
        id="make",
        preferred_engine="playbook:make",
        work={"phases": [{"id": "p", "steps": [{"name": "a", "shell": {"command": "true"}}]}]},
    )
    second = PhaseIR(
        id="read", preferred_engine="mcp:files/read", values={"path": "${steps.make.outputs.a.path}"}
    )
    far = PhaseIR(
        id="far",
        preferred_engine="remote:http://localhost:1",
        work={
            "params": {"x": {}},
            "phases": [{"id": "p", "steps": [{"name": "a", "code": "${params.x:raw}"}]}],
        },
        values={"x": "${steps.read.outputs.text}"},
    )
    tree = translation.playbook(TaskIR(phases=(first, second, far)))
    made = book.definition(msgspec.convert(tree, book.Book))
    faults.check(made)
    assert made.phases[1].steps[0].mcp is not None


def test_a_playbook_of_somebody_is_a_task_of_one_phase() -> None:
    text = 'name = "my book"\nworkspace = "w"\n[[phases]]\nid = "p"\nsteps = [{ name = "a", sleep = "1s" }]\n'
    task = PlaybookIRAdapter().from_playbook(text, ".toml")
    assert [each.preferred_engine for each in task.phases] == ["playbook:my-book"]
    assert (task.workspace_id, task.metadata.title, task.metadata.source) == ("w", "my book", "playbook")
    translation.check(task)


def test_a_task_of_another_mcp_server_is_the_call_of_its_tool() -> None:
    wire: dict[str, Any] = {
        "taskId": "786512e2",
        "status": "input_required",
        "createdAt": "2025-11-25T10:30:00Z",
        "request": {"method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hi"}}},
    }
    task = MCPIRAdapter().from_mcp(msgspec.json.encode(wire).decode(), "everything")
    phase = task.phases[0]
    assert (phase.preferred_engine, phase.values) == ("mcp:everything/echo", {"message": "hi"})
    assert (task.metadata.source, task.metadata.source_status) == ("mcp", "input_required")
    assert task.status == "pending"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no playbook"),
        ("{", "line 1"),
        ('{"phases": [{"id": "p", "steps": []}], "metadata": {"task": {}}}', "one step"),
        (
            '{"phases": [{"id": "p", "steps": [{"name": "p", "sleep": "1s"}]}], "metadata": {"task": {}}}',
            "engine",
        ),
    ],
)
def test_what_is_no_playbook_of_a_task_is_said(text: str, said: str) -> None:
    with pytest.raises(Validation, match=said):
        PlaybookIRAdapter().from_playbook(text)


@pytest.mark.parametrize("text", ["{}", "3", '{"taskId": "1", "status": "working"}', "x"])
def test_what_is_no_task_of_mcp_is_said(text: str) -> None:
    with pytest.raises(Validation):
        MCPIRAdapter().from_mcp(text)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("files", "is no engine"),
        ("mpc:files/read", "did you mean 'mcp'"),
        ("mcp:files", "names no tool"),
        ("remote:files", "is no address"),
        ("playbook:x", "has no playbook"),
        ("plan:x", "has no plan"),
    ],
)
def test_an_engine_that_cannot_do_it_is_refused_with_what_to_write(name: str, said: str) -> None:
    with pytest.raises(Validation, match=said):
        engines.step(PhaseIR(id="p", preferred_engine=name))


def test_a_plan_that_is_kept_is_said_as_in_a_file() -> None:
    from events.asks import tree

    written = {
        "strategy": "graph",
        "steps": [
            {"name": "a", "shell": {"command": "true"}, "retries": {"max": 2}},
            {"name": "b", "needs": ["a"], "plan": {"steps": [{"name": "c", "exec": {"program": "true"}}]}},
        ],
    }
    definition = tree.definition(msgspec.convert(written, tree.Tree))
    again = engines.plan(msgspec.to_builtins(definition))
    assert tree.definition(msgspec.convert(again, tree.Tree)) == definition


def test_old_tasks_are_read_in_the_words_of_their_source() -> None:
    record = {
        "id": 7,
        "title": "Clean",
        "state": "In Progress",
        "command": "echo ${params.x}",
        "owner": "ann",
    }
    task = legacy.task(record, "tracker", None)
    assert (task.metadata.source_id, task.metadata.source_status) == ("7", "In Progress")
    assert (task.metadata.supports_resume, task.metadata.extra) == (False, {"owner": "ann"})
    assert (task.status, task.phases[0].status) == ("pending", "pending")
    translation.check(task)
    over = legacy.task({"id": 8, "status": "Closed"}, "tracker", "w")
    assert (over.status, over.phases, over.workspace_id) == ("done", (), "w")
    for bad, said in (
        ({"title": "x"}, "has no id"),
        ({"id": 1}, "what is to be done"),
        ({"id": 1, "status": "weird", "command": "x"}, "unknown status 'weird'"),
        ({"id": 1, "steps": [3]}, "neither a line nor a step"),
    ):
        with pytest.raises(Validation, match=said):
            legacy.task(bad, "", None)
