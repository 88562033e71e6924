"""What fails is tried again as it was asked for, and what kills its worker again and again is put aside."""

import asyncio
import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreign import Foreign, Place, Refused, connect, gone

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


async def facts(bus: Foreign, execution: str) -> list[dict[str, Any]]:
    return (await bus.ask("execution.events", {"execution_id": execution}))["events"]


async def names(bus: Foreign, execution: str) -> list[str]:
    return [each["event"] for each in await facts(bus, execution)]


def counting(file: Path, times: int, code: int) -> dict[str, str]:
    """Fail so often with that exit code, then succeed; every attempt leaves a line."""
    line = f"echo try >> {file}; n=$(wc -l < {file}); echo attempt $n; [ $n -gt {times} ] || exit {code}"
    return {"command": line}


TWICE = ["queued", *["started", "attempt_failed", "held", "queued"] * 2, "started", "completed"]


async def test_what_fails_twice_is_tried_a_third_time(bus: Foreign, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    retries = {"max": 3, "backoff_ms": 200, "on_exit": [75]}
    execution = await bus.submit(shell=counting(tries, 2, 75), retries=retries)
    done = await bus.over(execution)
    assert (done["status"], done["exit_code"], done["attempt"]) == ("completed", 0, 3)
    assert (done["attempts_failed"], done["retries"]) == (2, 3)
    assert tries.read_text() == "try\n" * 3
    assert done["result"]["stdout"] == "attempt 1\nattempt 2\nattempt 3\n"
    assert await bus.output(execution) == {"stdout": done["result"]["stdout"].encode(), "stderr": b""}
    told = await facts(bus, execution)
    assert [each["event"] for each in told] == TWICE
    began = [each["data"].get("stdout_offset", 0) for each in told if each["event"] == "started"]
    assert began == [0, 10, 20]


async def test_the_pauses_grow_and_are_kept(bus: Foreign, tmp_path: Path) -> None:
    retries = {"max": 2, "backoff_ms": 300, "factor": 3}
    execution = await bus.submit(shell=counting(tmp_path / "tries", 2, 1), retries=retries)
    await bus.over(execution)
    told = await facts(bus, execution)
    times = [(each["event"], datetime.fromisoformat(each["time"])) for each in told]
    failed = [time for name, time in times if name == "attempt_failed"]
    started = [time for name, time in times if name == "started"]
    for pause, rule in zip(
        [(after - before).total_seconds() for before, after in zip(failed, started[1:], strict=True)],
        (0.3, 0.9),
        strict=True,
    ):
        assert rule * 0.98 <= pause <= rule * 1.25 + 1.5


@pytest.mark.parametrize("retries", [None, {"max": 3, "backoff_ms": 10, "on_exit": [75]}])
async def test_other_exit_codes_are_not_tried_again(bus: Foreign, tmp_path: Path, retries: Any) -> None:
    body = {} if retries is None else {"retries": retries}
    done = await bus.run(shell=counting(tmp_path / "tries", 2, 74), **body)
    assert (done["status"], done["exit_code"], done["attempt"]) == ("failed", 74, 1)
    assert done["error"]["message"] == "Command failed with exit code 74"


async def test_the_last_failure_is_the_end(bus: Foreign, tmp_path: Path) -> None:
    done = await bus.run(shell=counting(tmp_path / "tries", 9, 3), retries={"max": 2, "backoff_ms": 0})
    assert (done["status"], done["exit_code"], done["attempt"]) == ("failed", 3, 3)
    assert done["error"]["details"]["retries"] == "all 2 retries were used"
    assert done["result"]["stdout"] == "attempt 1\nattempt 2\nattempt 3\n"


async def test_no_attempt_begins_after_the_budget(bus: Foreign, tmp_path: Path) -> None:
    retries = {"max": 100, "backoff_ms": 400, "factor": 1, "budget_ms": 1000}
    done = await bus.run(shell=counting(tmp_path / "tries", 99, 1), retries=retries)
    assert done["status"] == "failed"
    assert 2 <= done["attempt"] <= 3
    assert done["error"]["details"]["retries"] == "the time for retries was used up"


async def test_a_timeout_is_tried_again_when_that_was_asked_for(bus: Foreign, tmp_path: Path) -> None:
    file = tmp_path / "tries"
    line = f"echo try >> {file}; [ $(wc -l < {file}) -gt 1 ] || sleep 60"
    again = {"max": 1, "backoff_ms": 10, "on": ["timeout"]}
    done = await bus.run(shell={"command": line}, timeout_ms=500, retries=again)
    assert (done["status"], done["attempt"]) == ("completed", 2)
    done = await bus.run(shell={"command": "sleep 60"}, timeout_ms=300, retries={"max": 1, "backoff_ms": 10})
    assert (done["status"], done["attempt"]) == ("timed_out", 1)


async def test_a_cancel_ends_the_pause(bus: Foreign) -> None:
    retries = {"max": 3, "backoff_ms": 60_000}
    execution = await bus.submit(shell={"command": "echo out; exit 1"}, retries=retries)

    async def paused() -> Any:
        found = (await bus.ask("execution.get", {"execution_id": execution}))["execution"]
        return found if found["held"] else None

    found = await bus.until(paused)
    assert (found["held"]["reason"], found["held"]["by"], found["status"]) == ("backoff", "timer", "queued")
    until = found["held"]["until"]
    assert (
        found["why"] == f"Attempt 1 failed: Command failed with exit code 1. Retry 1 of 3 starts at {until}."
    )
    assert (await bus.ask("execution.cancel", {"execution_id": execution}))["status"] == "cancelled"
    done = await bus.over(execution)
    assert (done["status"], done["attempt"], done["result"]["stdout"]) == ("cancelled", 1, "out\n")
    assert (await bus.output(execution))["stdout"] == b"out\n"


async def test_a_secret_is_there_in_every_attempt(bus: Foreign, tmp_path: Path) -> None:
    file = tmp_path / "tries"
    line = f'echo "$S" >> {file}; echo "said $S"; [ $(wc -l < {file}) -gt 1 ]'
    done = await bus.run(
        shell={"command": line}, secrets={"S": "geheimnis"}, retries={"max": 1, "backoff_ms": 10}
    )
    assert (done["status"], done["attempt"]) == ("completed", 2)
    assert file.read_text() == "geheimnis\n" * 2
    assert done["result"]["stdout"] == "said *********\n" * 2


@pytest.mark.parametrize(
    ("retries", "field"),
    [
        ({"max": -1}, "retries.max"),
        ({"max": 1, "backoff_ms": -1}, "retries.backoff_ms"),
        ({"max": 1, "factor": 0.5}, "retries.factor"),
        ({"max": 1, "on_exit": [0]}, "retries.on_exit"),
        ({"max": 1, "on_exit": []}, "retries.on_exit"),
        ({"max": 1, "on": ["lots"]}, "retries.on"),
        ({"max": 1, "budget_ms": 0}, "retries.budget_ms"),
        ({"max": 1, "backoff_ms": 10, "max_backoff_ms": 5}, "retries.backoff_ms"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(bus: Foreign, retries: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        await bus.submit(exec={"program": "true"}, retries=retries)
    assert refused.value.code == "validation"
    assert refused.value.details["field"] == field


async def test_a_delay_is_kept(bus: Foreign) -> None:
    reply = await bus.ask("execution.submit", {"exec": {"program": "true"}, "delay_ms": 700})
    assert reply["status"] == "scheduled"
    assert "scheduled for" in reply["message"]
    done = await bus.over(reply["execution_id"])
    waited = datetime.fromisoformat(done["started_at"]) - datetime.fromisoformat(done["created_at"])
    assert 0.69 <= waited.total_seconds() < 3
    assert await names(bus, reply["execution_id"]) == ["held", "queued", "started", "completed"]


@pytest.mark.parametrize(
    "body",
    [
        {"delay_ms": 1, "at": "2030-01-01T00:00:00Z"},
        {"at": "tomorrow"},
        {"at": "2030-01-01T00:00:00"},
        {"at": "2930-01-01T00:00:00Z"},
        {"delay_ms": -1},
    ],
)
async def test_a_time_that_cannot_be_is_refused(bus: Foreign, body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        await bus.submit(exec={"program": "true"}, **body)
    assert refused.value.code == "validation"
    assert refused.value.details["field"] in body


async def test_many_are_run_again_once(bus: Foreign) -> None:
    old = [await bus.submit(shell={"command": "exit 9"}, labels=["again"]) for _ in range(3)]
    for each in old:
        await bus.over(each)
    ask = {"where": {"label": "again", "status": "failed"}, "idempotency_key": "again-1"}

    async def all_of_them() -> Any:
        found = await bus.ask("execution.retry", ask)
        return found if len(found["retried"]) == 3 else None

    first = await bus.until(all_of_them)
    assert {each["retry_of"] for each in first["retried"]} == set(old)
    for each in first["retried"]:
        done = await bus.over(each["execution_id"])
        assert done["retry_of"] == each["retry_of"]
    one = {"execution_id": old[0], "idempotency_key": "again-2"}
    single = await bus.ask("execution.retry", one)
    twice = await bus.ask("execution.retry", one)
    assert (twice["execution_id"], twice["duplicate"]) == (single["execution_id"], True)
    with pytest.raises(Refused, match="where is empty"):
        await bus.ask("execution.retry", {"where": {}})


async def test_what_waits_is_reordered(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="1")
    async with connect(own.wrote["nats_url"]) as bus:
        gate = own.data / "gate"
        line = f"while ! [ -e {gate} ]; do sleep 0.05; done"
        first = await bus.submit(shell={"command": line})

        async def runs() -> bool:
            return "started" in await names(bus, first)

        await bus.until(runs)
        waiting = [await bus.submit(exec={"program": "true"}) for _ in range(5)]
        a, b, c, d, e = waiting
        moved = await bus.ask("execution.reorder", {"execution_id": e, "to": "first"})
        assert (moved["changed"], moved["passed"], moved["status"]) == (True, 4, "queued")
        moved = await bus.ask("execution.reorder", {"execution_id": a, "to": "last"})
        assert moved["changed"]
        moved = await bus.ask("execution.reorder", {"execution_id": d, "priority": "critical"})
        assert (moved["changed"], moved["priority"]) == (True, "critical")
        assert not (await bus.ask("execution.reorder", {"execution_id": d, "priority": 1}))["changed"]
        with pytest.raises(Refused, match="runs already"):
            await bus.ask("execution.reorder", {"execution_id": first, "to": "last"})
        gate.touch()
        done = [await bus.over(each) for each in waiting]
        began = {each: (await facts(bus, each))[-2]["seq"] for each in waiting}
        assert sorted(began, key=lambda each: began[each]) == [d, e, b, c, a]
        assert all(each["attempt"] == 1 for each in done)


async def down(own: Place, *pids: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert all(gone(pid) for pid in pids)


async def test_a_pause_survives_the_death_of_the_node(own: Place, tmp_path: Path) -> None:
    own.up()
    tries = tmp_path / "tries"
    info = own.wrote
    async with connect(info["nats_url"]) as bus:
        execution = await bus.submit(
            shell=counting(tries, 1, 75), retries={"max": 1, "backoff_ms": 2500, "on_exit": [75]}
        )

        async def paused() -> bool:
            return "held" in await names(bus, execution)

        await bus.until(paused)
    await down(own, info["pid"])
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        done = await bus.over(execution)
        assert (done["status"], done["attempt"]) == ("completed", 2)
        assert tries.read_text() == "try\n" * 2
        assert done["result"]["stdout"] == "attempt 1\nattempt 2\n"
        told = await facts(bus, execution)
        assert [each["event"] for each in told] == [
            *("queued", "started", "attempt_failed", "held", "queued", "started", "completed"),
        ]
        until = next(each["data"]["until"] for each in told if each["event"] == "held")
        assert datetime.fromisoformat(told[5]["time"]) >= datetime.fromisoformat(until)


@pytest.mark.patient
async def test_what_kills_its_worker_three_times_is_put_aside(own: Place, tmp_path: Path) -> None:
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        neighbour = await bus.submit(exec={"program": "echo", "args": ["well"]}, delay_ms=3_600_000)
        go = f"until [ -e {tmp_path}/go-$HINDBRAIN_ATTEMPT ]; do sleep 0.05; done"
        line = f"{go}; node=$(ps -o ppid= -p $PPID); kill -9 $node $PPID"
        deadly = await bus.submit(
            shell={"command": line}, retries={"max": 9, "backoff_ms": 10}, description="deadly"
        )
    for attempt in (1, 2, 3):
        pid = json.loads((own.data / "node.json").read_text())["pid"]
        (tmp_path / f"go-{attempt}").touch()
        assert await asyncio.to_thread(gone, pid, 30)
        # It is run again below, and is to wait then.
        (tmp_path / f"go-{attempt}").unlink()
        own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        done = await bus.over(deadly)
        assert (done["status"], done["reason"], done["attempt"]) == ("failed", "poisoned", 3)

        async def listed() -> Any:
            return (await bus.ask("dead.list"))["letters"]

        (letter,) = await bus.until(listed)
        assert (letter["execution_id"], letter["attempts"]) == (deadly, 3)
        assert letter["description"] == "deadly"
        shown = await bus.ask("dead.get", {"execution_id": deadly})
        assert [each["event"] for each in shown["events"]].count("attempt_lost") == 3
        with pytest.raises(Refused, match="not a dead letter"):
            await bus.ask("dead.discard", {"execution_id": neighbour})
        async with httpx.AsyncClient(base_url=own.wrote["http_url"], headers={"Accept": "text/html"}) as http:
            page = (await http.get("/dead")).text
            assert page.count(deadly) == 3, "a link, and two buttons: retry and discard"
            assert "deadly" in page
        again = await bus.ask("dead.retry", {"all": True, "idempotency_key": "again"})
        (one,) = again["retried"]
        assert (one["retry_of"], again["refused"]) == (deadly, [])
        await bus.ask("execution.cancel", {"execution_id": one["execution_id"]})

        async def empty() -> bool:
            return not await listed()

        await bus.until(empty)
        assert (await bus.ask("dead.get", {"execution_id": deadly}))["letter"]["discarded"]
        assert (await bus.ask("dead.discard", {"execution_id": deadly}))["discarded"] == [deadly]
        assert (await names(bus, deadly)).count("discarded") == 1
        await bus.ask("execution.reorder", {"execution_id": neighbour, "priority": "high"})
        found = (await bus.ask("execution.get", {"execution_id": neighbour}))["execution"]
        assert (found["status"], found["priority"], found["held"]["reason"]) == ("scheduled", "high", "time")
        assert (await bus.run(exec={"program": "echo", "args": ["well"]}))["result"]["stdout"] == "well\n"
