"""Plans, batches, templates, limits and what takes them back, on the command line of a real node."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interfaces.api import ExecutionEngine

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

PLAN = """
name = "checks"
max_concurrency = 2
[params.word]
type = "string"
default = "dev"
[[steps]]
name = "lint"
shell = { command = "echo said=$0 >> $HINDBRAIN_OUTPUT" }
undo = { exec = { program = "true" } }
[[steps]]
name = "build"
needs = ["lint"]
exec = { program = "test", args = ["${params.word}", "=", "good"] }
[[steps]]
name = "inner"
needs = ["lint"]
steps = [ { name = "x", exec = { program = "true" } } ]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "checks.toml"
    found.write_text(PLAN)
    return found


def told(done: "subprocess.CompletedProcess[bytes]", code: int = 0) -> str:
    """What was printed, both ways."""
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == code, text
    return text


def read(done: "subprocess.CompletedProcess[bytes]", code: int = 0) -> Any:
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return json.loads(done.stdout)


def test_a_plan_file_runs_and_says_how_it_goes(node: Run, file: Path) -> None:
    said = told(node("plan", "run", str(file), "--param", "word=good"))
    assert "Plan started with 3 steps. plan_" in said
    assert "lint: completed in" in said
    assert "inner/x: completed in" in said
    assert "checks completed, 3/3 steps (100%)" in said
    failed = read(node("plan", "run", str(file), "--param", "word=bad", "--json"), 1)
    assert (failed["status"], failed["failed"]) == ("failed", 1)
    plan = failed["id"]
    assert "build: failed in" in told(node("status", plan))
    assert [each["status"] for each in read(node("plan", "show", plan, "--json"))["steps"]] == [
        *("completed", "failed", "completed")
    ]
    assert "build  failed" in told(node("plan", "result", plan))
    assert plan in told(node("plan", "list", "--status", "failed"))
    assert node("wait", plan).returncode == 1
    assert "would run again: build" in told(node("plan", "rerun", plan, "--rehearse"))
    assert "would be taken back: lint" in told(node("plan", "rollback", plan, "--rehearse"))
    assert read(node("plan", "rerun", plan, "--from", "lint", "--json"))["steps"] == [
        *("lint", "build", "inner")
    ]
    assert read(node("plan", "wait", plan, "--json"), 1)["reruns"] == 1
    assert "taking back: running: lint" in told(node("plan", "rollback", plan))
    assert "taking back: done" in told(node("plan", "wait", plan), 1)


def test_what_is_wrong_with_a_file_is_said_before_anything_runs(hindbrain: Run, file: Path) -> None:
    assert "is a plan of 3 steps" in told(hindbrain("plan", "check", str(file)))
    file.write_text(PLAN.replace('needs = ["lint"]', 'need = ["lint"]', 1))
    said = told(hindbrain("plan", "check", str(file)), 2)
    assert f"{file}:13: unknown key 'need', did you mean 'needs'" in said


def test_a_pause_is_taken_back_by_its_number(node: Run, tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text('[[steps]]\nname = "a"\nexec = { program = "sleep", args = ["60"] }\n')
    plan = read(node("plan", "run", str(file), "--detach", "--json"))["plan_id"]
    paused = read(node("plan", "pause", plan, "--reason", "wait", "--json"))
    assert "It is paused" in told(node("why", plan))
    assert "goes on" in told(node("undo", str(paused["seq"]), "--rehearse"))
    assert read(node("plan", "show", plan, "--json"))["status"] == "paused"
    assert f"Took back event {paused['seq']}, plan paused" in told(node("undo", str(paused["seq"])))
    assert read(node("plan", "show", plan, "--json"))["status"] == "running"
    assert "was resumed since" in told(node("undo", str(paused["seq"])), 2)
    rehearsal = told(node("cancel", plan, "--rehearse"))
    assert "1 step would be stopped" in rehearsal
    assert "A cancel cannot be taken back" in rehearsal
    cancelled = read(node("plan", "cancel", plan, "--json"))
    assert node("plan", "wait", plan).returncode == 130
    assert "cannot be taken back" in told(node("undo", str(cancelled["seq"])), 2)


def test_a_batch_runs_for_every_item_and_tells_of_it(node: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wish = ("--description", "Generating sections", "--shell", "--", f"echo ${{item}} >> {out}")
    said = told(node("batch", "run", "--items", "-", *wish, stdin=b"a b\nc\n"))
    assert "Starting batch operation...\nGenerating 2 sections plan_" in said
    assert "2/2 sections (100%)" in said
    assert sorted(out.read_text().splitlines()) == ["a b", "c"]
    many = json.dumps([f"{n:0200}" for n in range(4000)]).encode()
    begun = node("batch", "run", "--items", "-", "--detach", "--json", "--", "sleep", "1000", stdin=many)
    batch = read(begun)
    assert "1 background operation in progress" in told(node("status"))
    assert read(node("plan", "show", batch["plan_id"], "--json"))["total"] == 4000
    told(node("cancel", batch["plan_id"]))
    assert node("wait", batch["plan_id"]).returncode == 130
    assert node("batch", "run", "--count", "3", "--", "test", "${index}", "!=", "1").returncode == 1
    assert "give --item or --items, or --count" in told(node("batch", "run", "--", "true"), 2)


def test_a_template_is_kept_started_and_restored(node: Run, file: Path) -> None:
    first = read(node("template", "save", str(file), "--json"))
    file.write_text(PLAN + '[[steps]]\nname = "more"\nexec = { program = "true" }\n')
    second = read(node("template", "save", str(file), "--comment", "one more", "--json"))
    assert (first["version"], second["version"]) == (1, 2)
    assert "checks  2" in told(node("template", "list"))
    assert "more" in told(node("template", "show", "checks"))
    assert "must be a string" in told(node("template", "start", "checks", "--param", "word=3"), 2)
    assert "4/4 steps" in told(node("template", "start", "checks", "--param", "word=good"))
    assert "is what it was in version 1" in told(node("undo", str(second["seq"])))
    shown = read(node("template", "show", "checks", "--json"))["template"]
    assert (shown["version"], shown["steps"]) == (3, ["lint", "build", "inner"])
    assert "kept no more" in told(node("template", "delete", "checks"))


def test_limits_and_places_are_taken_back_too(node: Run) -> None:
    assert "at most 1 at once, 5 in 1 min 00 s" in told(
        node("limit", "set", "--key", "doors", "--max", "1", "--rate", "5/1m")
    )
    changed = read(node("limit", "set", "--key", "doors", "--max", "0", "--json"))
    first, second = (
        node("submit", "-q", "--concurrency-key", "doors", "--label", "held", "--", "true")
        .stdout.decode()
        .strip()
        for _ in "ab"
    )
    assert "Its limit is 0" in told(node("why", first)) or "its limit is 0" in told(node("why", first))
    assert "key  doors   2" in told(node("limit", "list"))
    rehearsal = read(node("cancel", "--label", "held", "--rehearse", "--json"))
    assert {each["id"] for each in rehearsal["rehearsed"]} == {first, second}
    order = read(node("reorder", second, "--priority", "high", "--json"))
    assert f"{second} has priority medium again" in told(node("undo", str(order["seq"])))
    told(node("undo", str(changed["seq"])))
    assert node("wait", first).returncode == 0
    assert node("wait", second).returncode == 0
    again = read(node("retry", "--label", "held", "--json"))
    assert len(again["retried"]) == 2
    assert "no limit" in told(node("limit", "set", "--key", "doors", "--off"))


def test_a_command_is_tried_again_as_it_was_wished(node: Run, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = f"test -e {mark} || {{ touch {mark}; exit 75; }}"
    wish = ("--retries", "1", "--backoff", "0.05", "--retry-on", "75", "--shell", "--", line)
    assert node("run", *wish).returncode == 0
    assert node("run", "--delay", "0.2", "--", "true").returncode == 0
    assert node("run", "--backoff", "1", "--", "true").returncode == 2


@pytest.mark.asyncio
async def test_python_runs_plans_too(data: Path, file: Path) -> None:
    async with ExecutionEngine.new({"data": data}) as engine:
        plan = await engine.execute_plan(file)
        steps = [step async for step in engine.progress(plan)]
        assert (steps[-1]["final"], steps[-1]["status"]) == (True, "failed")
        found, done = await engine.wait_for_plan(plan)
        assert (found["failed"], done) == (1, True)
        assert (await engine.execute_plan({"steps": [{"name": "a", "code": "1"}]})).startswith("plan_")
