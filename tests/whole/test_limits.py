"""Limits, priorities, ageing and idle work, seen from the log and by stamps that commands leave in files."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, connect

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

SLACK_NS = 1_000_000_000
"""What was granted before a change may begin so much after it."""


def stamped(folder: Path, name: str, seconds: float, gate: Path | None = None) -> dict[str, Any]:
    """A command that writes down when it began and when it ended, which is not before there is a gate."""
    file = folder / name
    wait = f"until [ -e {gate} ]; do sleep 0.02; done; " if gate else ""
    line = f"date +b%s%N >> {file}; {wait}sleep {seconds}; date +e%s%N >> {file}"
    return {"shell": {"command": line}, "labels": [name]}


def spans(folder: Path) -> list[tuple[int, int]]:
    """When each command ran, in nanoseconds."""
    found = [file.read_text().split() for file in folder.iterdir()]
    assert all([word[0] for word in words] == ["b", "e"] for words in found), "something ran twice"
    return [(int(begin[1:]), int(end[1:])) for begin, end in found]


def crowds(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """How many ran at every beginning."""
    return [(begin, sum(a <= begin < b for a, b in found)) for begin, _ in found]


async def rows(bus: Foreign, sql: str, seq: int = 0) -> list[list[Any]]:
    return (await bus.ask("query.sql", {"sql": sql, "limit": 100_000, "min_seq": seq or await bus.last()}))[
        "rows"
    ]


async def told(bus: Foreign, target: str) -> tuple[int, list[int]]:
    """From the log alone: the most that had a place beyond the limit of the moment, and all counts."""
    found = await rows(bus, "SELECT event, data, entity FROM events WHERE kind = 'limit' ORDER BY seq")
    pages: set[str] = set()
    holders: set[str] = set()
    most, beyond, counts = None, 0, list[int]()
    for event, body, entity in found:
        data = json.loads(body) if isinstance(body, str) else body
        if event in ("set", "opened") and data["target"] == target:
            pages.add(entity)
            most = data.get("max")
        if entity not in pages:
            continue
        if event == "granted":
            assert not holders & set(data["ids"])
            holders |= set(data["ids"])
            counts.append(len(holders))
            beyond = max(beyond, len(holders) - most if most is not None else 0)
        elif event == "returned":
            holders -= set(data["ids"])
    return beyond, counts


async def test_a_key_is_never_at_it_more_often_than_its_limit_also_while_that_changes(
    own: Place, tmp_path: Path
) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="8")
    folder = tmp_path / "stamps"
    folder.mkdir()
    async with connect(own.wrote["nats_url"]) as bus:
        limits = [(time.time_ns(), 2)]
        first = await bus.ask("limit.set", {"key": "tenant", "max": 2})
        assert (first["changed"], first["max"]) == (True, 2)
        wishes = [stamped(folder, f"c{n}", 0.2) | {"concurrency_key": "tenant"} for n in range(30)]
        taken = await asyncio.gather(*(bus.submit(**wish) for wish in wishes))

        async def ended(count: int) -> bool:
            done = await rows(bus, "SELECT count(*) FROM executions WHERE status = 'completed'")
            return done[0][0] >= count

        for after, most in ((8, 4), (18, 1)):
            await bus.until(lambda after=after: ended(after))
            await bus.ask("limit.set", {"key": "tenant", "max": most})
            limits.append((time.time_ns(), most))
        ends = await asyncio.gather(*(bus.over(each, 60) for each in taken))
        assert {each["status"] for each in ends} == {"completed"}
        beyond, counts = await told(bus, "tenant")
        assert (beyond, max(counts)) == (0, 4)
    for begin, count in crowds(spans(folder)):
        recent = [most for since, most in limits if begin - SLACK_NS <= since <= begin + SLACK_NS]
        before = [most for since, most in limits if since <= begin - SLACK_NS][-1:]
        assert count <= max(recent + before), count
    assert max(count for _, count in crowds(spans(folder))) > 2


async def test_key_module_and_rate_hold_together(own: Place, tmp_path: Path) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="8")
    folder = tmp_path / "stamps"
    folder.mkdir()
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.ask("limit.set", {"module": "commands", "max": 3})
        await bus.ask("limit.set", {"key": "a", "max": 2})
        slow = await bus.ask("limit.set", {"key": "b", "rate": {"count": 2, "per_ms": 1000}})
        keys = [{"concurrency_key": "a"}, {"concurrency_key": "b"}, {}]
        wishes = [stamped(folder, f"c{n}", 0.1) | keys[n % 3] for n in range(24)]
        taken = await asyncio.gather(*(bus.submit(**wish) for wish in wishes))
        ends = await asyncio.gather(*(bus.over(each, 60) for each in taken))
        assert {each["status"] for each in ends} == {"completed"}
        for target, most in (("commands", 3), ("a", 2)):
            beyond, counts = await told(bus, target)
            assert beyond == 0
            assert max(counts) <= most
        granted = await rows(
            bus,
            f"SELECT data FROM events WHERE entity = '{slow['limit_id']}' AND event = 'granted' ORDER BY seq",
        )
        moments = [each[0]["now_ms"] for each in granted for _ in each[0]["ids"]]
        assert len(moments) >= 8
        assert all(
            sum(each > moment - 1000 for each in moments[: n + 1]) <= 2 for n, moment in enumerate(moments)
        )
        listed = (await bus.ask("limit.list"))["limits"]
        assert [(each["on"], each["target"]) for each in listed] == [
            ("key", "a"),
            ("key", "b"),
            ("module", "commands"),
        ]
        gone = await bus.ask("limit.set", {"module": "commands"})
        assert (gone["changed"], gone["max"]) == (True, None)
        assert (await bus.run(exec={"program": "true"}))["status"] == "completed"
    assert max(count for _, count in crowds(spans(folder))) <= 3


async def test_a_limit_that_is_set_while_much_runs_counts_what_runs(own: Place, tmp_path: Path) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="6")
    folder = tmp_path / "stamps"
    folder.mkdir()
    async with connect(own.wrote["nats_url"]) as bus:
        gate = tmp_path / "gate"
        taken = [await bus.submit(**stamped(folder, f"c{n}", 0.5, gate)) for n in range(20)]

        async def running() -> bool:
            return sum(file.stat().st_size > 0 for file in folder.iterdir()) >= 6

        await bus.until(running)
        await bus.ask("limit.set", {"module": "commands", "max": 2})
        since = time.time_ns()
        gate.touch()
        await asyncio.gather(*(bus.over(each, 60) for each in taken))
    found = crowds(spans(folder))
    after = [count for begin, count in found if begin > since]
    assert len(after) == 14
    assert max(after) <= 2


async def test_the_slots_of_a_node_change_while_it_works(own: Place, tmp_path: Path) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="1")
    folder = tmp_path / "stamps"
    folder.mkdir()
    async with connect(own.wrote["nats_url"]) as bus:
        node = own.wrote["node"]
        taken = [await bus.submit(**stamped(folder, f"c{n}", 0.2)) for n in range(40)]
        await bus.over(taken[0])
        await bus.ask("limit.set", {"node": node, "max": 3})
        await bus.over(taken[8])
        await bus.ask("limit.set", {"node": node, "max": 2})
        lowered = time.time_ns()
        await asyncio.gather(*(bus.over(each, 60) for each in taken))
        found = crowds(spans(folder))
        assert max(count for _, count in found) == 3
        assert max(count for begin, count in found if begin > lowered + SLACK_NS // 5) <= 2
        with pytest.raises(Refused) as refused:
            await bus.ask("limit.set", {"node": node, "rate": {"count": 1, "per_ms": 1}})
        assert refused.value.code == "validation"
    own.cli("down")
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="1")
    async with connect(own.wrote["nats_url"]) as bus:
        more = [await bus.submit(**stamped(folder, f"d{n}", 0.3)) for n in range(4)]
        await asyncio.gather(*(bus.over(each, 60) for each in more))
    assert max(count for _, count in crowds(spans(folder))[-4:]) <= 3
    assert max(count for begin, count in crowds(spans(folder)) if begin > lowered + SLACK_NS) == 2


async def test_what_is_critical_starts_next_however_much_waits(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="2")
    async with connect(own.wrote["nats_url"]) as bus:
        low = [{"exec": {"program": "sleep", "args": ["0.05"]}, "priority": "low"} for _ in range(500)]
        taken = await asyncio.gather(*(bus.submit(**wish) for wish in low))
        await bus.over(taken[10])
        urgent = [await bus.submit(exec={"program": "true"}, priority="critical") for _ in range(3)]
        for each in urgent:
            await bus.over(each)
        for each in urgent:
            queued, started = [
                row[0]
                for row in await rows(
                    bus,
                    f"SELECT seq FROM events WHERE entity = '{each}' AND event IN ('queued', 'started')"
                    " ORDER BY seq",
                )
            ]
            passed = await rows(
                bus,
                "SELECT count(*) FROM events WHERE kind = 'execution' AND event = 'started'"
                f" AND seq > {queued} AND seq < {started}",
            )
            # What was being claimed in that moment is before it, one for each slot at most.
            assert passed[0][0] <= 2


async def test_what_is_low_has_its_turn_under_a_stream_of_high_ones(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="1", HINDBRAIN_AGEING_SECONDS="1")
    async with connect(own.wrote["nats_url"]) as bus:
        high: dict[str, Any] = {"exec": {"program": "sleep", "args": ["0.1"]}, "priority": "high"}
        stop = asyncio.Event()

        ahead = [await bus.submit(**high) for _ in range(10)]

        async def stream() -> None:
            """Keep ten of them waiting."""
            while not stop.is_set():
                ahead.append(await bus.submit(**high))
                await bus.over(ahead.pop(0))

        flow = asyncio.create_task(stream())
        low = await bus.submit(exec={"program": "true"}, priority="low")
        assert (await bus.over(low, 40))["status"] == "completed"
        stop.set()
        await flow
        aged = await rows(
            bus, f"SELECT data FROM events WHERE entity = '{low}' AND event = 'prioritized' ORDER BY seq"
        )
        assert [(each[0]["priority"], each[0]["reason"]) for each in aged] == [
            ("medium", "aged"),
            ("high", "aged"),
        ]


async def test_what_is_idle_runs_when_nothing_else_does(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="4")
    async with connect(own.wrote["nats_url"]) as bus:
        busy = [await bus.submit(exec={"program": "sleep", "args": ["1.5"]}) for _ in range(2)]
        idle = [await bus.submit(exec={"program": "true"}, priority="idle") for _ in range(6)]
        seen = (await bus.ask("execution.get", {"execution_id": idle[0]}))["execution"]
        assert (seen["status"], seen["held"]["reason"]) == ("queued", "idle")
        await asyncio.gather(*(bus.over(each) for each in [*busy, *idle]))
        last = await rows(
            bus,
            f"SELECT max(seq) FROM events WHERE event = 'completed' AND entity IN ('{busy[0]}', '{busy[1]}')",
        )
        starts = await rows(
            bus,
            "SELECT min(seq) FROM events WHERE event = 'started' AND entity IN"
            f" ({', '.join(repr(each) for each in idle)})",
        )
        assert starts[0][0] > last[0][0]
