"""The client of programs that have modules: on a node, with a node of its own, and without one."""

import asyncio
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from foreign import Place, clean

from events import execution
from events.errors import Conflict, NotFound, Validation
from interfaces.client import MODULES, AsyncBrainClient, BrainClient, Priority
from interfaces.inprocess import InProcess
from tests.waiting import until

pytestmark = pytest.mark.whole
STATUS = {"active_threads", "total_threads", "categories", "stats", "uptime", "module_threads", "enabled"}
STATS = {
    *("total_threads_created", "total_tasks_completed", "total_tasks_failed"),
    *("threads_auto_scaled", "threads_restarted", "uptime"),
}
MODULE = {
    *("state", "tasks_completed", "tasks_failed", "success_rate"),
    *("uptime", "queue_size", "last_activity", "errors"),
}


def test_a_program_uses_its_modules(place: Place) -> None:
    # A program makes a client, and its pools start by themselves.
    client = BrainClient(app_type="web_app", enable_search=True, data=place.data)

    # How are the threads?
    status = client.get_thread_status()
    assert status.keys() == STATUS
    assert status["enabled"] is True
    assert 0 <= status["active_threads"] <= status["total_threads"]
    for name, category in status["categories"].items():
        utilisation = category["active"] / category["max"] * 100
        assert f"{name}: {category['active']}/{category['max']} ({utilisation:.0f}%)"
        assert category["total"] <= category["max"]
    assert status["stats"].keys() == STATS
    assert status["module_threads"].keys() >= {"model_router", "context_manager", "search_engine"}
    assert status["stats"]["total_threads_created"] >= status["total_threads"] >= 5

    # And one module?
    module = client.get_module_thread_status("search_engine")
    assert module.keys() >= MODULE
    assert module["state"] == "running"
    assert time.time() - module["last_activity"] < 300
    assert f"{module['success_rate']:.1%}" == "100.0%"

    # Give it work; a function that fails is counted, and says of what.
    task_id = client.submit_task_to_module(
        module_name="search_engine", function=math.factorial, args=(5,), priority=Priority.HIGH
    )
    assert task_id.startswith("exec_")
    client.submit_task_to_module("search_engine", "math:sqrt", (-1,), 1)
    client.submit_task_to_module("search_engine", "math:sqrt", (4,), "low")
    done = until(lambda: ended(client, "search_engine", completed=2, failed=1), 60)
    assert done["success_rate"] == pytest.approx(2 / 3, abs=0.001)
    assert "math domain error" in done["errors"][0]

    # By hand: what is paused keeps its work, and goes on with it.
    assert client.pause_module("search_engine")
    assert client.get_module_thread_status("search_engine")["state"] == "paused"
    client.submit_task_to_module("search_engine", math.factorial, (6,), Priority.CRITICAL)
    assert client.get_module_thread_status("search_engine")["queue_size"] == 1
    assert client.resume_module("search_engine")
    until(lambda: ended(client, "search_engine", completed=3, failed=1), 60)

    # What was decided, the last of it.
    for decision in client.get_thread_decisions()[-10:]:
        assert decision.keys() == {"timestamp", "type", "context", "data"}
        assert time.time() - decision["timestamp"] < 300

    # And the end, which is no end of the node.
    client.shutdown(timeout=15.0)
    client.shutdown()
    with pytest.raises(Conflict, match="shut down"):
        client.get_thread_status()
    assert place.info["pid"]


def ended(client: BrainClient, name: str, completed: int, failed: int) -> dict[str, Any]:
    """How the module is, once so much is done."""
    module = client.get_module_thread_status(name)
    counts = (module["tasks_completed"], module["tasks_failed"])
    return module if counts == (completed, failed) else {}


def test_what_cannot_be_run_elsewhere_is_refused_with_a_sentence(place: Place) -> None:
    client = BrainClient(data=place.data)

    def closure() -> None: ...

    for function in (lambda: 1, closure, "".join, object()):
        with pytest.raises(Validation, match="only what can be found again can be stored"):
            client.submit_task_to_module("model_router", function, ())
    with pytest.raises(Validation, match="plain data"):
        client.submit_task_to_module("model_router", print, (object(),))
    with pytest.raises(Validation, match="priority"):
        client.submit_task_to_module("model_router", print, (), 9)
    with pytest.raises(NotFound, match="nowhere"):
        client.pause_module("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        client.get_module_thread_status("nowhere")
    client.shutdown()


PROGRAM = """
import sys
from interfaces.client import BrainClient
import chores

client = BrainClient("script", data=sys.argv[1])
before = client.get_thread_status()["stats"]["total_tasks_completed"]
print(before)
client.submit_task_to_module("model_router", chores.write, (sys.argv[2],))
while client.get_module_thread_status("model_router")["tasks_completed"] == before:
    pass
raise SystemExit(3)
"""


def test_a_program_without_a_node_brings_its_own_and_stops_it_at_its_end(tmp_path: Path, own: Place) -> None:
    (tmp_path / "chores.py").write_text("def write(path):\n    open(path, 'w').write('written')\n")
    script, out = tmp_path / "program.py", tmp_path / "out"
    script.write_text(PROGRAM)
    for before in (0, 1):
        out.unlink(missing_ok=True)
        command = [sys.executable, str(script), str(own.data), str(out)]
        done = subprocess.run(command, env=clean(), capture_output=True, timeout=80, text=True, check=False)
        assert (done.returncode, done.stdout) == (3, f"{before}\n"), done.stderr
        assert out.read_text() == "written"
        assert not (own.data / "node.json").exists()


# ---- without a node --------------------------------------------------------------------------------------


def test_without_a_node_tasks_run_here_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = BrainClient("script", enable_search=True, data=tmp_path, start=False)
    seen: list[int] = []
    for level in (Priority.IDLE, Priority.CRITICAL):
        client.submit_task_to_module("search_engine", lambda: seen.append(1), (), level)
    assert seen == [1, 1]
    client.submit_task_to_module("search_engine", "math:sqrt", (-1,))
    status = client.get_thread_status()
    assert status.keys() == STATUS
    assert status["stats"].keys() == STATS
    assert status["enabled"] is False
    module = client.get_module_thread_status("search_engine")
    assert module.keys() >= MODULE
    assert (module["tasks_completed"], module["tasks_failed"]) == (2, 1)
    assert module["errors"] == ["Job failed: ValueError: math domain error"]
    assert client.get_thread_decisions() == []
    client.shutdown()
    warned = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert warned == ["no node can be reached: tasks run in this process, and nothing of them is kept"]
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio
async def test_without_a_node_the_rules_are_the_same() -> None:
    order: list[str] = []
    async with AsyncBrainClient(enabled=False) as client:
        assert await client.pause_module("model_router")
        for name, level in (("idle", 5), ("low", 4), ("critical", 1), ("second", 1)):
            await client.submit_task_to_module("model_router", order.append, (name,), level)
        waiting = await client.get_module_thread_status("model_router")
        assert (waiting["state"], waiting["queue_size"], order) == ("paused", 4, [])
        assert await client.resume_module("model_router")
        assert order == ["critical", "second", "low", "idle"]

        async def later() -> str:
            await asyncio.sleep(0)
            return "later"

        task_id = await client.submit_task_to_module("context_manager", later)
        way = await client.open()
        assert isinstance(way, InProcess)
        facts = [fact for fact in way.log.since() if fact.entity == task_id]
        assert [fact.name for fact in facts] == ["queued", "started", "completed"]
        over = facts[-1].event
        assert isinstance(over, execution.Completed)
        assert over.end.value == "later"
        with pytest.raises(NotFound, match="there are model_router, context_manager"):
            await client.submit_task_to_module("search_engine", later)


def test_the_table_names_each_module_once() -> None:
    names = [row.name for row in MODULES]
    assert len(names) == len(set(names))
