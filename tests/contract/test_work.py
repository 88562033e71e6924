"""The log as the queue of work: most urgent first, quickly, and nothing is left lying."""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Sequence

import pytest

from bus.bridge import Bridge
from bus.server import Server
from bus.work import Work
from events.execution import Queued
from events.ports import Delivery
from tests.waiting import became

DEADLINE = 30.0
pytestmark = pytest.mark.asyncio
_serial = itertools.count(1)


class Taker:
    """Collects what is offered, and acknowledges it if told so."""

    def __init__(self, ack: bool = True) -> None:
        self.ack = ack
        self.taken: list[Delivery] = []
        self.times: list[float] = []

    def __call__(self, lot: Sequence[Delivery]) -> None:
        self.taken += lot
        self.times += [time.monotonic()] * len(lot)
        if self.ack:
            for delivery in lot:
                delivery.ack()

    @property
    def entities(self) -> list[str]:
        return [delivery.fact.entity for delivery in self.taken]

    async def until(self, count: int) -> None:
        await became(lambda: len(self.taken) >= count)


def fresh() -> str:
    return f"m{secrets.token_hex(6)}"


async def queue(bridge: Bridge, module: str, priority: str, name: str = "") -> str:
    """Append a queued event; returns the entity."""
    entity = name or f"exec_{next(_serial)}_{secrets.token_hex(4)}"
    headers = {"Brain-Id": entity, "Brain-Time": "2026-01-01T00:00:00.000Z", "Brain-By": "client"}
    reply = await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(
            bridge.request(
                f"brain.evt.execution.{entity}.1.queued.{module}.{priority}",
                b'{"event":"queued","digest":"d","taken_by":"n"}',
                headers=headers,
            ),
            bridge.loop,
        )
    )
    assert "seq" in json.loads(reply.data)
    return entity


async def test_what_is_queued_comes_as_a_fact_with_its_envelope(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    work.want(4)
    entity = await queue(bridge, module, "medium")
    await taker.until(1)
    fact = taker.taken[0].fact
    assert isinstance(fact.event, Queued)
    assert (fact.entity, fact.n, fact.event.taken_by, fact.envelope.id) == (entity, 1, "n", entity)
    assert fact.seq > 0
    await asyncio.to_thread(work.stop)


async def test_the_most_urgent_comes_first_whatever_was_queued_first(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    names = {
        priority: [await queue(bridge, module, priority) for _ in range(3)]
        for priority in ("idle", "low", "medium", "high", "critical")
    }
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    assert not taker.taken
    for turn in range(15):
        work.want(1)
        await taker.until(turn + 1)
    wanted = [name for priority in ("critical", "high", "medium", "low", "idle") for name in names[priority]]
    assert taker.entities == wanted
    await asyncio.to_thread(work.stop)


async def test_no_more_comes_than_was_wanted_and_the_surplus_is_not_lost(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    work.want(3)
    names = [await queue(bridge, module, ("low", "high")[n % 2]) for n in range(10)]
    await taker.until(3)
    await asyncio.sleep(0.1)  # a surplus would come now
    assert len(taker.taken) == 3
    work.want(100)
    await taker.until(10)
    assert sorted(taker.entities) == sorted(names)
    await asyncio.to_thread(work.stop)


async def test_what_is_given_back_comes_again_and_what_is_kept_silent_too(bridge: Bridge) -> None:
    module, taker = fresh(), Taker(ack=False)
    work = Work(bridge, taker, module, ack_seconds=1.0)
    await asyncio.to_thread(work.start)
    entity = await queue(bridge, module, "medium")
    work.want(1)
    await taker.until(1)
    taker.taken[0].nak(0.2)
    work.want(1)
    await taker.until(2)
    assert taker.times[1] - taker.times[0] > 0.15
    work.want(1)
    await taker.until(3)
    taker.taken[2].ack()
    assert taker.entities == [entity] * 3
    await asyncio.to_thread(work.stop)


async def test_two_nodes_share_the_work_and_each_piece_comes_once(server: Server, bridge: Bridge) -> None:
    module, one, two = fresh(), Taker(), Taker()
    other = Bridge(server.url("node"))
    await asyncio.to_thread(other.start)
    works = [Work(bridge, one, module), Work(other, two, module)]
    for work in works:
        await asyncio.to_thread(work.start)
        work.want(1000)
    names = [await queue(bridge, module, "medium") for _ in range(60)]
    await became(lambda: len(one.taken) + len(two.taken) >= 60)
    assert sorted(one.entities + two.entities) == sorted(names)
    assert min(len(one.taken), len(two.taken)) > 5
    await asyncio.to_thread(works[0].stop)
    await asyncio.to_thread(other.stop)


async def test_an_idle_node_is_reached_within_milliseconds(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    waits: list[float] = []
    for n in range(40):
        work.want(8)
        if n % 10 == 0:
            await asyncio.sleep(0.02)
        entity = await queue(bridge, module, "medium")
        stored = time.monotonic()
        await taker.until(n + 1)
        assert taker.entities[-1] == entity
        waits.append(taker.times[-1] - stored)
    assert sorted(waits)[len(waits) // 2] < 0.005
    await asyncio.to_thread(work.stop)


async def test_a_lost_consumer_is_made_again_and_nothing_is_left_out(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    work.want(10)
    first = await queue(bridge, module, "medium")
    await taker.until(1)
    await asyncio.to_thread(
        bridge.call, bridge.api(f"CONSUMER.DELETE.BRAIN_EVENTS.work-{module}-medium"), DEADLINE
    )
    second = await queue(bridge, module, "medium")

    def came() -> bool:
        work.want(10)
        return second in taker.entities

    await became(came)
    assert set(taker.entities) == {first, second}
    await asyncio.to_thread(work.stop)


async def test_a_consumer_that_must_be_made_begins_where_it_is_told(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    await queue(bridge, module, "high")
    entity = await queue(bridge, module, "high")
    last = await asyncio.to_thread(bridge.call, bridge.api("STREAM.INFO.BRAIN_EVENTS"), DEADLINE)
    work = Work(bridge, taker, module, since=lambda _: int(last["state"]["last_seq"]))
    await asyncio.to_thread(work.start)
    work.want(5)
    await taker.until(1)
    assert taker.entities == [entity]
    await asyncio.to_thread(work.stop)


async def test_work_goes_on_after_the_connection_was_lost(bridge: Bridge) -> None:
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    work.want(5)
    await queue(bridge, module, "medium")
    await taker.until(1)
    epoch = bridge.epoch
    bridge.post(lambda: bridge.doubt("a test"))
    await became(lambda: bridge.epoch > epoch and bridge.connected)
    await queue(bridge, module, "medium")
    await taker.until(2)
    await asyncio.to_thread(work.stop)


async def test_what_could_take_the_place_of_others_is_asked_for_and_nothing_else(bridge: Bridge) -> None:
    """Nothing is free, but two that are spare could be given back for something more urgent than medium."""
    module, taker = fresh(), Taker()
    work = Work(bridge, taker, module)
    await asyncio.to_thread(work.start)
    work.want(0, (2, 2, 0, 0, 0))
    low = [await queue(bridge, module, "low") for _ in range(2)]
    urgent = [await queue(bridge, module, each) for each in ("high", "critical")]
    await taker.until(2)
    assert sorted(taker.entities) == sorted(urgent)
    work.want(2)
    await taker.until(4)
    assert taker.entities[2:] == low
    await asyncio.to_thread(work.stop)
