"""Batches: the same for every item, told as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Refused

pytestmark = pytest.mark.asyncio


async def over(bus: Foreign, plan: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for the end of a batch."""
    reply = await bus.ask("plan.wait", {"plan_id": plan, "timeout_ms": round(seconds * 1000)}, seconds + 10)
    assert reply["done"], reply["plan"]
    return reply["plan"]


def touch(folder: Path, name: str) -> dict[str, Any]:
    """Make a file of that name."""
    return {"exec": {"program": "sh", "args": ["-c", 'cd "$1" && : > "$2"', "sh", str(folder), name]}}


def names(folder: Path) -> list[str]:
    """What was made there."""
    return sorted(path.name for path in folder.iterdir())


async def last(heard: Any, plan: str) -> list[dict[str, Any]]:
    """Everything that is told of a plan, until the end."""
    told: list[dict[str, Any]] = []
    while not told or not told[-1]["final"]:
        said = json.loads((await heard.next_msg(timeout=20)).data)
        if said["id"] == plan:
            told.append(said)
    return told


async def test_an_operation_runs_for_every_item(bus: Foreign, tmp_path: Path) -> None:
    heard = await bus.hear("brain.progress.plan.>")
    reply = await bus.ask(
        "batch.submit",
        {"description": "Generating sections", "do": touch(tmp_path, "${item}"), "items": ["a", "b b", "$c"]},
    )
    plan = reply["plan_id"]
    assert reply == {
        "status": "queued",
        "batchId": plan,
        "plan_id": plan,
        "message": "Generating 3 sections",
        "tip": "Use the status tool to check progress",
        "seq": reply["seq"],
        "monitor_url": reply["monitor_url"],
        "duplicate": False,
    }
    assert (await over(bus, plan))["status"] == "completed"
    assert names(tmp_path) == ["$c", "a", "b b"]
    told = await last(heard, plan)
    end = told[-1]
    assert told[0]["completedOperations"] == 0
    assert told[0]["eta"] == "Calculating..."
    assert {"batchId", "status", "completedOperations", "totalOperations", "currentOperation"} <= end.keys()
    assert (end["completedOperations"], end["totalOperations"], end["failedOperations"]) == (3, 3, 0)
    assert (end["text"], end["status"], end["estimatedTimeRemaining"]) == (
        "3/3 sections (100%)",
        "completed",
        0,
    )
    assert end["averageOperationTime"] > 0


async def test_an_operation_runs_so_many_times(bus: Foreign, tmp_path: Path) -> None:
    reply = await bus.ask("batch.submit", {"do": touch(tmp_path, "n${index}"), "count": 5})
    assert reply["message"] == "Running 5 operations"
    await over(bus, reply["plan_id"])
    assert names(tmp_path) == [f"n{n}" for n in range(5)]


async def test_pages_are_added_until_it_is_sealed(bus: Foreign, tmp_path: Path) -> None:
    reply = await bus.ask("batch.submit", {"do": touch(tmp_path, "${item}"), "items": ["a"], "open": True})
    plan = reply["plan_id"]

    async def one() -> bool:
        return names(tmp_path) == ["a"]

    await bus.until(one)
    await bus.ask("batch.add", {"plan_id": plan, "items": ["b", "c"]})
    shown = (await bus.ask("plan.get", {"plan_id": plan}))["plan"]
    assert shown["status"] == "running"
    await bus.ask("batch.seal", {"plan_id": plan})
    assert (await over(bus, plan))["status"] == "completed"
    assert names(tmp_path) == ["a", "b", "c"]
    with pytest.raises(Refused) as refused:
        await bus.ask("batch.add", {"plan_id": plan, "items": ["d"]})
    assert refused.value.code in ("conflict", "already_over")


async def test_one_that_fails_does_not_stop_the_others(bus: Foreign) -> None:
    heard = await bus.hear("brain.progress.plan.>")
    do = {"exec": {"program": "sh", "args": ["-c", "exit $1", "sh", "${item}"]}}
    reply = await bus.ask("batch.submit", {"do": do, "items": ["0", "3", "0"]})
    assert (await over(bus, reply["plan_id"]))["status"] == "completed"
    end = (await last(heard, reply["plan_id"]))[-1]
    assert (end["completedOperations"], end["failedOperations"]) == (2, 1)
    (result,) = (await bus.ask("plan.result", {"plan_id": reply["plan_id"]}))["result"]["results"]
    assert (result["step"], result["status"], result["exit_code"]) == ("1", "failed", 3)
    assert result["error"]["message"] == "Command failed with exit code 3"
    own = (await bus.ask("execution.get", {"execution_id": result["execution_id"]}))["execution"]
    assert (own["exit_code"], own["error"]) == (3, result["error"])


async def test_it_stops_at_an_error_when_that_is_wished(bus: Foreign, tmp_path: Path) -> None:
    do = {
        "exec": {"program": "sh", "args": ["-c", ': > "$2/$1"; test $1 != 1', "sh", "${item}", str(tmp_path)]}
    }
    reply = await bus.ask(
        "batch.submit", {"do": do, "items": ["0", "1", "2", "3"], "max_concurrency": 1, "stop_on_error": True}
    )
    assert (await over(bus, reply["plan_id"]))["status"] == "failed"
    assert names(tmp_path) == ["0", "1"]


async def test_cancelling_stops_the_window(bus: Foreign) -> None:
    do = {"exec": {"program": "sleep", "args": ["600"]}}
    reply = await bus.ask("batch.submit", {"do": do, "count": 1000, "max_concurrency": 4})
    plan = reply["plan_id"]

    async def shown() -> list[Any]:
        sql = "SELECT status FROM executions WHERE plan_id = ? ORDER BY 1"
        return (await bus.ask("query.sql", {"sql": sql, "params": [plan]}))["rows"]

    async def four() -> bool:
        return await shown() == [["running"]] * 4

    await bus.until(four)
    await bus.ask("plan.cancel", {"plan_id": plan})
    assert (await over(bus, plan, 20))["status"] == "cancelled"
    await bus.until(lambda: cancelled(shown))


async def cancelled(shown: Any) -> bool:
    """Whether the tables know that all four were cancelled, and no fifth was made."""
    return await shown() == [["cancelled"]] * 4
