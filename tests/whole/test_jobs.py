"""Jobs in worker hosts: what handlers do that they should not is contained, and named; nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, Refused, connect

pytestmark = pytest.mark.asyncio
ROOT = Path(__file__).parents[2]
PLUGINS = "wild=tests.handlers:plugin,site-builder=off"


@pytest_asyncio.fixture
async def wild(own: Place) -> AsyncGenerator[Foreign]:
    """A node with the plugin that misbehaves."""
    own.up(HINDBRAIN_PLUGINS=PLUGINS, PYTHONPATH=str(ROOT), HINDBRAIN_SCALER__EVERY_SECONDS="1")
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.until(lambda: up(bus))
        yield bus


@pytest.fixture(scope="module")
def shared_wild(shared: Place) -> Place:
    """The same for those who leave it as it was, more or less."""
    return shared.up(HINDBRAIN_PLUGINS=PLUGINS, PYTHONPATH=str(ROOT), HINDBRAIN_SCALER__EVERY_SECONDS="1")


@pytest_asyncio.fixture
async def tame(shared_wild: Place) -> AsyncGenerator[Foreign]:
    """A connection to that one."""
    async with connect(shared_wild.wrote["nats_url"]) as bus:
        await bus.until(lambda: up(bus))
        yield bus


async def module(bus: Foreign, name: str = "wild") -> dict[str, Any]:
    return (await bus.ask("module.status", {"module": name}))["module"]


async def up(bus: Foreign, workers: int = 1) -> bool:
    try:
        return (await module(bus))["total"] >= workers
    except Refused:
        return False


async def job(bus: Foreign, name: str, data: Any = None, **more: Any) -> str:
    ask: dict[str, Any] = {"type": f"wild:{name}", "data": data or {}, **more}
    return (await bus.ask("job.submit", ask))["execution_id"]


async def run(bus: Foreign, name: str, data: Any = None, **more: Any) -> dict[str, Any]:
    return await bus.over(await job(bus, name, data, **more))


async def rows(bus: Foreign, sql: str) -> list[list[Any]]:
    return (await bus.ask("query.sql", {"sql": sql, "min_seq": await bus.last()}))["rows"]


async def running(bus: Foreign, execution_id: str) -> bool:
    one = (await bus.ask("execution.get", {"execution_id": execution_id}))["execution"]
    return one["status"] == "running"


async def findings(bus: Foreign, kind: str) -> list[list[Any]]:
    return await rows(bus, f"SELECT about, text, closed_at FROM findings WHERE type = '{kind}'")


async def test_a_part_that_is_done_is_not_done_again_after_a_failure(tame: Foreign, tmp_path: Path) -> None:
    over = await run(tame, "parts", {"folder": str(tmp_path), "name": "p"})
    assert (over["status"], over["result"]["value"], over["attempt"]) == ("completed", [1, 2], 2)


async def test_a_message_to_another_module_is_a_job_there(tame: Foreign) -> None:
    assert (await run(tame, "tell"))["result"]["value"] == "completed"
    (row,) = await rows(tame, "SELECT value, job FROM executions WHERE command = 'wild:on-ping'")
    assert row == ["pong hello", {"text": "hello"}]


async def test_a_short_job_that_may_be_repeated_is_one_fact(tame: Foreign) -> None:
    over = await run(tame, "quick", {"n": 1})
    events = (await tame.ask("execution.events", {"execution_id": over["id"]}))["events"]
    assert [each["event"] for each in events] == ["queued", "completed"]
    assert events[1]["data"]["began"]["worker"].startswith("wild-")
    assert over["attempt"] == 1
    (row,) = await rows(tame, f"SELECT worker, attempt FROM executions WHERE id = '{over['id']}'")
    assert row == [events[1]["data"]["began"]["worker"], 1]


async def test_what_a_handler_does_wrong_ends_its_job_with_a_reason_and_nobody_elses(tame: Foreign) -> None:
    neighbour = await job(tame, "doze", {"seconds": 3})
    ended = {name: await run(tame, name) for name in ("leave", "odd", "fork", "chatter")}
    assert ended["leave"]["error"]["message"] == "Job failed: SystemExit: 3"
    assert "wild:odd returned object" in ended["odd"]["error"]["message"]
    assert ended["fork"]["result"]["value"] == "parent"
    assert ended["chatter"]["stdout_bytes"] == 1024 * 1024
    assert ended["chatter"]["result"]["stdout"].startswith("xxx")
    late = await run(tame, "block", timeout_ms=300)
    assert (late["status"], late["error"]["message"]) == ("timed_out", "Execution timeout after 300ms")
    assert (await tame.over(neighbour))["result"]["value"] == "rested"
    assert (await run(tame, "quick", {"a": [1]}))["result"]["value"] == {"a": [1]}


async def test_a_job_is_cancelled_whether_its_handler_listens_or_not(tame: Foreign) -> None:
    for name in ("doze", "block"):
        one = await job(tame, name, {"seconds": 60})
        await tame.until(lambda one=one: running(tame, one))
        await tame.ask("execution.cancel", {"execution_id": one, "grace_ms": 200})
        assert (await tame.over(one, 20))["status"] == "cancelled"


async def test_a_host_that_is_killed_is_replaced_and_its_jobs_are_tried_again(
    wild: Foreign, tmp_path: Path
) -> None:
    folder = tmp_path / "marks"
    folder.mkdir()
    given = [{"folder": str(folder), "name": f"m{n}", "seconds": 0.05} for n in range(40)]
    jobs = [await job(wild, "mark", each) for each in given]
    for _ in range(3):
        await wild.until(lambda: up(wild))
        pool = (await module(wild))["pool"]
        os.kill(pool[0]["pid"], signal.SIGKILL)
        await wild.until(lambda pid=pool[0]["pid"]: replaced(wild, pid))
    over = [await wild.over(each, 60) for each in jobs]
    assert {each["status"] for each in over} == {"completed"}
    told = await rows(wild, "SELECT entity, count(*) FROM events WHERE event = 'completed' GROUP BY 1")
    assert sorted(row[1] for row in told if row[0] in jobs) == [1] * len(jobs)
    gone = await rows(wild, "SELECT reason FROM workers WHERE NOT expected")
    assert gone == [["it was killed by signal 9"]] * 3


async def replaced(bus: Foreign, pid: int) -> bool:
    now = await module(bus)
    return now["total"] >= 1 and all(each["pid"] != pid for each in now["pool"])


async def test_a_paused_module_starts_nothing_and_loses_nothing(wild: Foreign, tmp_path: Path) -> None:
    folder = tmp_path / "marks"
    folder.mkdir()
    await wild.ask("module.pause", {"module": "wild", "reason": "a test"})
    await asyncio.sleep(1)  # the pause is heard within a second
    jobs = [await job(wild, "mark", {"folder": str(folder), "name": f"m{n}"}) for n in range(10)]
    status = await rows(wild, "SELECT DISTINCT status FROM executions WHERE kind = 'job'")
    assert status == [["queued"]]
    assert (await module(wild))["state"] == "paused"
    await wild.ask("module.resume", {"module": "wild"})
    assert {(await wild.over(each))["status"] for each in jobs} == {"completed"}
    assert len(list(folder.iterdir())) == 10


async def test_memory_beyond_the_limit_costs_the_host_and_is_said(wild: Foreign) -> None:
    over = await wild.over(await job(wild, "leak"), 60)
    assert (over["status"], over["reason"]) == ("failed", "lost")
    assert "of memory, more than" in over["error"]["message"]
    assert (await run(wild, "quick", {"still": "here"}))["status"] == "completed"
    await wild.until(lambda: findings(wild, "stuck"))
    (found,) = await findings(wild, "stuck")
    assert "memory" in found[1]
    await wild.until(lambda: closed(wild, "stuck"))


async def closed(bus: Foreign, kind: str) -> bool:
    return all(row[2] is not None for row in await findings(bus, kind))


async def test_all_workers_busy_brings_two_more_and_the_cap_refuses(own: Place) -> None:
    own.up(
        HINDBRAIN_PLUGINS=PLUGINS,
        PYTHONPATH=str(ROOT),
        HINDBRAIN_MODULES='{"wild": {"workers": 5, "category": "phase2"}}',
        HINDBRAIN_WORKERS_MAX="7",
        HINDBRAIN_SCALER__EVERY_SECONDS="2",
    )
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.until(lambda: up(bus, 5))
        begun = time.monotonic()
        first = [await job(bus, "doze", {"seconds": 25}) for _ in range(7)]

        async def decided(kind: str) -> list[dict[str, Any]]:
            found = (await bus.ask("decision.list"))["decisions"]
            return [each for each in found if each["type"] == kind]

        await bus.until(lambda: decided("scale_up"), 20)
        assert time.monotonic() - begun < 20
        (up_,) = await decided("scale_up")
        assert (up_["data"]["decision"]["before"], up_["data"]["decision"]["after"]) == (5, 7)
        await bus.until(lambda: decided("refused"), 40)
        (no,) = await decided("refused")
        assert "7 workers of at most 7" in no["context"]
        for each in first:
            await bus.over(each, 60)
        names = await rows(bus, "SELECT DISTINCT worker FROM executions WHERE command = 'wild:doze'")
        assert len(names) == 7
        await bus.until(lambda: decided("scale_down_suggested"), 20)
        assert (await module(bus))["workers"] == 7


async def test_many_failures_are_a_finding_until_they_are_long_ago(wild: Foreign) -> None:
    for _ in range(12):
        await run(wild, "leave")
    await wild.until(lambda: findings(wild, "failures"))
    await wild.until(lambda: findings(wild, "success_rate"))
    (found,) = await findings(wild, "failures")
    assert found[0] == "wild"
    assert "SystemExit: 3" in found[1]
    now = await module(wild)
    assert now["tasks_failed"] >= 12
    assert now["errors"]


async def test_shutting_down_gives_back_what_does_not_end_in_time(own: Place) -> None:
    own.up(HINDBRAIN_PLUGINS=PLUGINS, PYTHONPATH=str(ROOT))
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.until(lambda: up(bus))
        one = await job(bus, "doze", {"seconds": 30})
        await bus.until(lambda: running(bus, one))
    begun = time.monotonic()
    assert own.cli("down").returncode == 0
    assert time.monotonic() - begun < 20
    own.up(HINDBRAIN_PLUGINS=PLUGINS, PYTHONPATH=str(ROOT))
    async with connect(own.wrote["nats_url"]) as bus:
        names = [
            each["event"] for each in (await bus.ask("execution.events", {"execution_id": one}))["events"]
        ]
        assert names[:4] == ["queued", "started", "attempt_lost", "queued"]
        await bus.ask("execution.cancel", {"execution_id": one, "grace_ms": 0})
        assert (await bus.over(one, 30))["status"] == "cancelled"


async def test_a_module_without_work_has_no_process_until_there_is_some(own: Place) -> None:
    own.up(
        HINDBRAIN_PLUGINS=PLUGINS,
        PYTHONPATH=str(ROOT),
        HINDBRAIN_MODULES='{"wild": {"idle_seconds": 1}}',
    )
    async with connect(own.wrote["nats_url"]) as bus:

        async def asleep() -> bool:
            return bool(await rows(bus, "SELECT id FROM workers WHERE expected"))

        await bus.until(asleep)
        assert (await run(bus, "quick", {"n": 1}))["result"]["value"] == {"n": 1}
        ended = await rows(bus, "SELECT DISTINCT expected FROM workers WHERE ended_at IS NOT NULL")
        assert ended == [[True]]


async def test_a_module_starts_after_those_it_depends_on_and_runs_where_it_may(own: Place) -> None:
    own.up(
        HINDBRAIN_PLUGINS=PLUGINS,
        PYTHONPATH=str(ROOT),
        HINDBRAIN_MODULES='{"wild": {"depends_on": ["base"], "cpu_affinity": [0]}, "base": {"workers": 2}}',
    )
    async with connect(own.wrote["nats_url"]) as bus:
        sql = (
            "SELECT entity FROM events WHERE kind = 'module' AND event = 'started'"
            " AND entity IN ('base', 'wild') ORDER BY seq"
        )

        async def both() -> bool:
            return len(await rows(bus, sql)) == 2

        await bus.until(both)
        assert await rows(bus, sql) == [["base"], ["wild"]]
        assert os.sched_getaffinity((await module(bus))["pool"][0]["pid"]) == {0}
        ask = {"module": "base", "function": "os.path:join", "args": ["a", "b"]}
        task = (await bus.ask("module.submit", ask))["task_id"]
        assert (await bus.over(task))["result"]["value"] == "a/b"
