"""Schedules on real nodes with a real clock: each tick is one execution, and on time."""

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, clean, connect

from tests.waiting import turned

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

TRUE = {"exec": {"program": "true"}}
LATE_SECONDS = 1.0
"""How late something may be released on a machine with other things to do; alone it takes some 50 ms."""


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def create(bus: Foreign, **wish: Any) -> str:
    return (await bus.ask("schedule.create", {"submit": TRUE, **wish}))["schedule_id"]


async def rows(bus: Foreign, sql: str, *params: Any) -> list[list[Any]]:
    """Ask the tables, as they are after everything that happened until now."""
    ask = {"sql": sql, "params": list(params), "min_seq": await bus.last()}
    return (await bus.ask("query.sql", ask))["rows"]


async def ticks(bus: Foreign, schedule: str) -> list[dict[str, Any]]:
    """Every tick that was decided, oldest first."""
    sql = "SELECT data FROM events WHERE kind = 'schedule' AND event = 'ticked' AND entity = ? ORDER BY seq"
    found = [row[0] for row in await rows(bus, sql, schedule)]
    return [json.loads(each) if isinstance(each, str) else each for each in found]


async def granted(bus: Foreign, schedule: str) -> list[dict[str, Any]]:
    return [each for each in await ticks(bus, schedule) if "execution_id" in each]


PAUSE = 0.3
"""Seconds between two looks: what they look for comes once a second, and each costs two nodes."""


async def several(bus: Foreign, schedule: str, count: int, within: float = 30) -> list[dict[str, Any]]:
    """Wait until so many ticks have submitted something."""

    async def enough() -> Any:
        found = await granted(bus, schedule)
        return found if len(found) >= count else None

    return await turned(enough, within, PAUSE)


@pytest.mark.patient
async def test_two_nodes_do_each_tick_once(own: Place, tmp_path: Path) -> None:
    own.up()
    other = Place(tmp_path / "e")
    mark = tmp_path / "marks"
    mark.mkdir()
    try:
        other.join(own)
        async with connect(own.wrote["nats_url"]) as bus:
            # Each leaves a file of its own; a second run of one execution would fail to make it.
            line = f'set -C; : > "{mark}/$HINDBRAIN_EXECUTION_ID"'
            submit = {"shell": {"command": line}}
            every = await create(bus, submit=submit, every_ms=1000)
            cron = await create(bus, submit=submit, cron="*/2 * * * * *", zone="Europe/Berlin")
            minute = await create(bus, submit=submit, cron="* * * * *", zone="Asia/Kathmandu")
            await several(bus, every, 10)
            await several(bus, cron, 5)
            await several(bus, minute, 1, 70)
            ran: list[dict[str, Any]] = []
            for schedule, step in ((every, 1), (cron, 2)):
                await bus.ask("schedule.delete", {"schedule_id": schedule})
                found = await ticks(bus, schedule)
                moments = [seconds(each["tick"]) for each in found]
                assert {round(b - a, 3) for a, b in pairwise(moments)} == {step}
                assert not [each for each in found if "skipped" in each]
                ran += found
            once = await granted(bus, minute)
            assert [each["tick"][17:] for each in once] == ["00.000Z"] * len(once)
            ran += once
            for each in ran:
                assert (await bus.over(each["execution_id"]))["status"] == "completed"
            assert {path.name for path in mark.iterdir()} == {each["execution_id"] for each in ran}
            born = "SELECT count(*) FROM events WHERE kind = 'execution' AND n = 1"
            assert await rows(bus, born) == [[len(ran)]]
            late = await rows(
                bus,
                "SELECT max(epoch_ms(time) - epoch_ms(CAST(data->>'$.tick' AS TIMESTAMP))) FROM events"
                " WHERE event = 'ticked'",
            )
            assert late[0][0] < LATE_SECONDS * 1000
    finally:
        other.leave()


async def test_what_is_delayed_starts_on_time(bus: Foreign) -> None:
    before = time.time()
    soon = await bus.ask("execution.submit", {**TRUE, "delay_ms": 1200})
    assert soon["status"] == "scheduled"
    moment = datetime.now(UTC) + timedelta(seconds=1.5)
    then = await bus.submit(**TRUE, at=moment.isoformat())
    for execution, due in ((soon["execution_id"], before + 1.2), (then, moment.timestamp())):
        started = seconds((await bus.over(execution))["started_at"])
        assert -0.002 <= started - due <= LATE_SECONDS


async def test_at_happens_once_and_is_done(bus: Foreign) -> None:
    moment = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="milliseconds")
    schedule = await create(bus, at=moment)
    done = (await several(bus, schedule, 1))[0]
    assert seconds(done["tick"]) == seconds(moment)
    shown = (await bus.ask("schedule.get", {"schedule_id": schedule}))["schedule"]
    assert (shown["status"], shown["next"], shown["runs"]) == ("done", [], 1)
    assert shown["last"]["execution_id"] == done["execution_id"]


async def test_paused_it_is_silent_and_resumed_it_goes_on(bus: Foreign) -> None:
    schedule = await create(bus, every_ms=200, catch_up="all")
    await several(bus, schedule, 2)
    paused = await bus.ask("schedule.pause", {"schedule_id": schedule, "reason": "holidays"})
    assert (paused["status"], paused["changed"], paused["next"]) == ("paused", True, [])
    again = await bus.ask("schedule.pause", {"schedule_id": schedule})
    assert (again["changed"], again["seq"]) == (False, paused["seq"])
    before = await granted(bus, schedule)
    other = await create(bus, every_ms=300)
    await several(bus, other, 4)
    assert await granted(bus, schedule) == before
    resumed = await bus.ask("schedule.resume", {"schedule_id": schedule})
    assert len(resumed["next"]) == 5
    after = await several(bus, schedule, len(before) + 1)
    assert after[len(before)]["tick"] == resumed["next"][0]
    for each in (schedule, other):
        await bus.ask("schedule.delete", {"schedule_id": each})


async def test_run_now_answers_the_id_of_what_runs_at_once(bus: Foreign) -> None:
    schedule = await create(bus, cron="0 0 1 1 *")
    started = [await bus.ask("schedule.run", {"schedule_id": schedule}) for _ in range(2)]
    ids = {each["execution_id"] for each in started}
    assert len(ids) == 2
    for each in started:
        done = await bus.over(each["execution_id"])
        assert (done["status"], each["schedule_id"]) == ("completed", schedule)
    shown = (await bus.ask("schedule.get", {"schedule_id": schedule}))["schedule"]
    assert (shown["status"], shown["runs"]) == ("active", 2)


async def test_a_tick_is_skipped_while_the_last_one_runs(bus: Foreign) -> None:
    schedule = await create(
        bus, submit={"exec": {"program": "sleep", "args": ["60"]}}, every_ms=300, overlap="skip"
    )
    first = (await several(bus, schedule, 1))[0]["execution_id"]

    async def skipped() -> Any:
        found = [each for each in await ticks(bus, schedule) if each.get("skipped") == "overlap"]
        return len(found) >= 3

    await bus.until(skipped)
    assert len(await granted(bus, schedule)) == 1
    await bus.ask("execution.cancel", {"execution_id": first, "grace_ms": 0})
    second = (await several(bus, schedule, 2))[1]["execution_id"]
    await bus.ask("schedule.delete", {"schedule_id": schedule})
    await bus.ask("execution.cancel", {"execution_id": second, "grace_ms": 0})


async def test_what_cannot_be_scheduled_is_refused_with_a_reason(bus: Foreign) -> None:
    bad: list[tuple[dict[str, Any], str, str]] = [
        ({"cron": "0 25 * * *"}, "cron", "hour is '25', allowed is 0-23"),
        ({"cron": "* * * * *", "zone": "Europe/Berln"}, "zone", "did you mean Europe/Berlin"),
        ({"at": "2001-01-01T00:00:00Z"}, "at", "is over"),
        ({}, "cron", "exactly one of at, every_ms and cron"),
        ({"every_ms": 1000, "submit": None}, "submit", "exactly one of submit, plan and template"),
        ({"every_ms": 1000, "submit": {"exec": {"program": ""}}}, "submit.exec.program", "empty"),
        ({"every_ms": 1000, "submit": {**TRUE, "delay_ms": 5}}, "submit.delay_ms", "has no place"),
        ({"every_ms": 1000, "submit": {**TRUE, "secrets": {"PW": "x"}}}, "submit.secrets", "environment"),
        ({"every_ms": 1000, "submit": {**TRUE, "env": {"MY_TOKEN": "x"}}}, "submit.secrets", "MY_TOKEN"),
    ]
    before = await bus.last()
    for wish, field, says in bad:
        with pytest.raises(Refused) as refused:
            await create(bus, **wish)
        assert refused.value.code == "validation"
        assert says in refused.value.message
        assert refused.value.details["field"] == field
    for verb in ("get", "pause", "resume", "run", "delete"):
        with pytest.raises(Refused) as refused:
            await bus.ask(f"schedule.{verb}", {"schedule_id": "sched_nobody"})
        assert (refused.value.code, refused.value.message) == (
            "not_found",
            "Schedule not found: sched_nobody",
        )
    new = "SELECT seq FROM events WHERE kind = 'schedule' AND seq > ?"
    assert not await rows(bus, new, before)


async def test_plans_and_templates_are_scheduled_too(bus: Foreign) -> None:
    steps = [{"name": "a", **TRUE}, {"name": "b", **TRUE, "needs": ["a"]}]
    await bus.ask("template.save", {"name": "two-steps", "plan": {"steps": steps}})
    wishes: list[dict[str, Any]] = [{"plan": {"steps": steps}}, {"template": {"template": "two-steps"}}]
    for wish in wishes:
        made = await bus.ask("schedule.create", {**wish, "every_ms": 500, "overlap": "skip"})
        schedule = made["schedule_id"]

        async def twice(schedule: str = schedule) -> Any:
            found = [each for each in await ticks(bus, schedule) if "plan_id" in each]
            return found if len(found) >= 2 else None

        for tick in await bus.until(twice):
            done = await bus.ask("plan.wait", {"plan_id": tick["plan_id"], "timeout_ms": 30_000})
            assert done["done"]
        by_hand = await bus.ask("schedule.run", {"schedule_id": schedule})
        assert (await bus.ask("plan.wait", {"plan_id": by_hand["plan_id"]}))["done"]
        await bus.ask("schedule.delete", {"schedule_id": schedule})
    bad: list[tuple[dict[str, Any], str]] = [
        ({"plan": {"steps": []}}, "plan.steps"),
        ({"plan": {"steps": steps, "secrets": {"PW": "x"}}}, "plan.secrets"),
        ({"plan": {"steps": steps, "params": {"to": {"type": "string"}}}}, "plan.params.to"),
    ]
    for wish, field in bad:
        with pytest.raises(Refused) as refused:
            await bus.ask("schedule.create", {**wish, "every_ms": 500})
        assert (refused.value.code, refused.value.details["field"]) == ("validation", field)
    with pytest.raises(Refused) as refused:
        await bus.ask("schedule.create", {"template": {"template": "nobody"}, "every_ms": 500})
    assert refused.value.code == "not_found"


async def test_the_same_key_is_the_same_schedule(bus: Foreign) -> None:
    wish = {"cron": "0 0 1 1 *", "idempotency_key": "new-year"}
    first, second = [await bus.ask("schedule.create", {"submit": TRUE, **wish}) for _ in range(2)]
    assert first["schedule_id"] == second["schedule_id"]
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    with pytest.raises(Refused) as refused:
        await bus.ask("schedule.create", {"submit": TRUE, **wish, "cron": "0 0 2 1 *"})
    assert refused.value.code == "idempotency_conflict"


async def test_deleted_it_is_not_listed_any_more_and_cannot_run(bus: Foreign) -> None:
    schedule = await create(bus, cron="0 0 1 1 *", description="to be deleted")
    ask = {"min_seq": await bus.last(), "limit": 1000}
    assert schedule in [each["id"] for each in (await bus.ask("schedule.list", ask))["schedules"]]
    gone = await bus.ask("schedule.delete", {"schedule_id": schedule})
    ask = {"min_seq": gone["seq"], "limit": 1000}
    assert schedule not in [each["id"] for each in (await bus.ask("schedule.list", ask))["schedules"]]
    deleted = await bus.ask("schedule.list", {**ask, "status": "deleted"})
    assert schedule in [each["id"] for each in deleted["schedules"]]
    with pytest.raises(Refused) as refused:
        await bus.ask("schedule.run", {"schedule_id": schedule})
    assert refused.value.code == "conflict"


async def test_pages_go_on_where_the_one_before_ended(bus: Foreign) -> None:
    made = [await create(bus, cron="0 0 1 1 *", description=f"page {number}") for number in range(3)]
    ask: dict[str, Any] = {"min_seq": await bus.last(), "limit": 2}
    first = await bus.ask("schedule.list", ask)
    second = await bus.ask("schedule.list", {**ask, "before": first["next"]})
    found = [each["id"] for each in (*first["schedules"], *second["schedules"])]
    assert found[:3] == made[::-1]


async def test_the_command_line_knows_all_of_it(place: Place) -> None:
    async def typed(*words: str, code: int = 0) -> str:
        verb, *rest = words
        data = ("--data", str(place.data))
        call = [sys.executable, "-P", "-m", "interfaces.cli", "schedule", verb, *data, *rest]
        done = await asyncio.to_thread(
            subprocess.run, call, env=clean(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        assert done.returncode == code, (done.stdout + done.stderr).decode()
        return (done.stdout + done.stderr).decode()

    made = await typed("create", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--json", "--", "date")
    schedule = json.loads(made)["schedule_id"]
    assert len(json.loads(made)["next"]) == 5
    assert "30 2 * * *" in await typed("show", schedule)
    shown = json.loads(await typed("show", schedule, "--count", "3", "--json"))
    assert (shown["request"]["exec"], len(shown["next"])) == ({"program": "date"}, 3)
    assert "is paused" in await typed("pause", schedule, "--reason", "later")
    assert "is paused already" in await typed("pause", schedule)
    assert schedule in [
        each["id"] for each in json.loads(await typed("list", "--status", "paused", "--json"))
    ]
    assert "active again" in await typed("resume", schedule)
    assert (await typed("run", schedule)).startswith("exec_")
    assert "is deleted" in await typed("delete", schedule)
    assert "hour is '25'" in await typed("create", "--cron", "0 25 * * *", "--", "date", code=2)
    assert "not found" in await typed("show", "sched_nobody", code=2)
    error = json.loads(await typed("run", "sched_nobody", "--json", code=2))
    assert error["error"]["code"] == "not_found"
