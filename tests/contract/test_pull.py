"""Messages on demand, from a server that may go away at any moment."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bus import streams
from bus.bridge import Bridge
from bus.pull import Lot, Pull
from bus.server import Server
from tests.waiting import became, turned

PATIENCE = 20.0


def reader(after: int) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        mem_storage=True,
    )


def worker(after: int) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name="worker",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=1,
        filter_subject="brain.out.*.stdout",
    )


class Taker:
    """Remembers what it got, and wants as much again when it is greedy."""

    def __init__(self, *, greedy: bool) -> None:
        self.got: list[int] = []
        self.messages: list[Any] = []
        self.lots = 0
        self.pull: Pull | None = None
        self._greedy = greedy

    def __call__(self, lot: Lot) -> None:
        self.lots += 1
        self.got += [sequence for sequence, _ in lot]
        self.messages += [message for _, message in lot]
        if self._greedy and self.pull is not None:
            self.pull.want(len(lot))

    async def until(self, n: int) -> None:
        await became(lambda: len(self.got) >= n)


async def fill(bridge: Bridge, n: int) -> None:
    """Publish n messages and wait until they are stored."""
    before = (await bridge.js.stream_info(streams.OUTPUT)).state.messages
    for number in range(n - 1):
        await bridge.publish("brain.out.exec_1.stdout", b"%d" % number)
    await bridge.request("brain.out.exec_1.stdout", b"last")
    assert (await bridge.js.stream_info(streams.OUTPUT)).state.messages == before + n


async def consumers(bridge: Bridge) -> int:
    return (await bridge.js.stream_info(streams.OUTPUT)).state.consumer_count


@pytest.fixture
def lone(own: Server) -> Generator[Bridge]:
    """Connect to a server of the test's own."""
    bridge = Bridge(own.url("node"), heartbeat=0.5)
    bridge.start()
    bridge.call(streams.ensure(bridge.js), PATIENCE)
    yield bridge
    bridge.stop()


@asynccontextmanager
async def pulling(
    bridge: Bridge, config: Callable[[int], ConsumerConfig], *, greedy: bool = True, **more: Any
) -> AsyncGenerator[tuple[Pull, Taker]]:
    taker = Taker(greedy=greedy)
    taker.pull = Pull(bridge, streams.OUTPUT, config, taker, **more)
    await taker.pull.start()
    try:
        yield taker.pull, taker
    finally:
        await taker.pull.stop()
        await taker.pull.stop()


def run(bridge: Bridge, test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test()

    bridge.call(whole(), PATIENCE * 2)


def test_a_reader_gets_everything_once_in_order_and_in_lots(lone: Bridge) -> None:
    async def test() -> None:
        await fill(lone, 20_000)
        async with pulling(lone, reader) as (pull, taker):
            began = time.process_time()
            pull.want(2000)
            await taker.until(20_000)
            rate = 20_000 / (time.process_time() - began)
            await fill(lone, 5)
            await taker.until(20_005)
        assert taker.got == list(range(1, 20_006))
        assert taker.lots < 10_000
        assert rate > 10_000
        assert await consumers(lone) == 0

    run(lone, test)


def test_a_reader_begins_after_the_sequence_it_was_given(lone: Bridge) -> None:
    async def test() -> None:
        await fill(lone, 10)
        async with pulling(lone, reader, after=7) as (pull, taker):
            pull.want(100)
            await taker.until(3)
        assert taker.got == [8, 9, 10]

    run(lone, test)


def test_no_more_comes_than_was_wanted(lone: Bridge) -> None:
    async def test() -> None:
        await fill(lone, 50)
        async with pulling(lone, worker, greedy=False) as (pull, taker):
            for n in (3, 1, 4):
                pull.want(n)
            await taker.until(8)
            info = await lone.js.consumer_info(streams.OUTPUT, "worker")
            assert (info.num_ack_pending, info.num_pending, pull.open) == (8, 42, 0)

    run(lone, test)


def test_a_request_that_ran_out_is_asked_again(lone: Bridge) -> None:
    async def test() -> None:
        async with pulling(lone, reader, greedy=False, expires=0.5) as (pull, taker):
            pull.want(5)
            await became(lambda: pull.made == 1)
            await asyncio.sleep(1.2)
            await fill(lone, 9)
            await taker.until(5)
            assert (taker.got, pull.made) == ([1, 2, 3, 4, 5], 1)

    run(lone, test)


def test_a_killed_server_costs_a_reader_nothing_and_doubles_nothing(own: Server, lone: Bridge) -> None:
    taker = Taker(greedy=True)
    pull = taker.pull = Pull(lone, streams.OUTPUT, reader, taker)
    lone.call(fill(lone, 30_000), PATIENCE)
    lone.call(pull.start(), PATIENCE)
    lone.call(became(lambda: pull.made == 1), PATIENCE)
    for round_ in range(3):
        lone.post(lambda: pull.want(500))
        lone.call(taker.until(1 + round_ * 10_000), PATIENCE)
        assert own.pid is not None
        os.kill(own.pid, signal.SIGKILL)
        own.start()
    lone.call(lone.ready(), PATIENCE)
    lone.call(fill(lone, 100), PATIENCE)
    lone.call(taker.until(30_100), PATIENCE)
    lone.call(pull.stop(), PATIENCE)
    assert taker.got == list(range(1, 30_101))


def test_a_deleted_consumer_is_made_again_where_it_was(lone: Bridge) -> None:
    async def test() -> None:
        await fill(lone, 10)
        async with pulling(lone, reader) as (pull, taker):
            pull.want(100)
            await taker.until(10)
            for info in await lone.js.consumers_info(streams.OUTPUT):
                await lone.js.delete_consumer(streams.OUTPUT, info.name)
            await fill(lone, 10)
            await taker.until(20)
        assert taker.got == list(range(1, 21))

    run(lone, test)


def test_a_deaf_pull_is_noticed_by_its_missing_heartbeats(lone: Bridge) -> None:
    async def test() -> None:
        async with pulling(lone, reader, heartbeat=0.2) as (pull, taker):
            pull.want(10)
            await became(lambda: pull.made == 1)
            subscription: Any = vars(pull)["_subscription"]
            await subscription.feed.unsubscribe()
            await lone.subscribe(subscription.subject, subscription.listener)
            await fill(lone, 3)
            await taker.until(3)
        assert taker.got == [1, 2, 3]

    run(lone, test)


def test_a_worker_gets_again_what_it_did_not_acknowledge(own: Server, lone: Bridge) -> None:
    taker = Taker(greedy=False)
    pull = taker.pull = Pull(lone, streams.OUTPUT, worker, taker)
    lone.call(fill(lone, 4), PATIENCE)
    lone.call(pull.start(), PATIENCE)
    lone.post(lambda: pull.want(4))
    lone.call(taker.until(4), PATIENCE)

    async def acknowledge() -> None:
        for message in taker.messages[:2]:
            await message.ack_sync(timeout=5)

    lone.call(acknowledge(), PATIENCE)
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)
    own.start()
    lone.post(lambda: pull.want(4))
    # The server writes acknowledgements down a little later: after a kill, even those may come again.
    lone.call(became(lambda: {3, 4} <= set(taker.got[4:])), PATIENCE)
    lone.call(pull.stop(), PATIENCE)
    assert taker.got[:4] == [1, 2, 3, 4]
    assert lone.call(consumers(lone), PATIENCE) == 1


def test_a_consumer_that_exists_keeps_its_place_and_takes_the_new_settings(lone: Bridge) -> None:
    def later(after: int) -> ConsumerConfig:
        config = worker(after)
        config.deliver_policy, config.opt_start_seq, config.max_ack_pending = (
            DeliverPolicy.BY_START_SEQUENCE,
            99,
            7,
        )
        return config

    async def test() -> None:
        await fill(lone, 3)
        for config in (worker, later):
            async with pulling(lone, config, greedy=False) as (pull, taker):
                pull.want(1)
                await taker.until(1)
                await taker.messages[0].ack_sync(timeout=5)
        assert taker.got == [2]
        assert (await lone.js.consumer_info(streams.OUTPUT, "worker")).config.max_ack_pending == 7

    run(lone, test)


def test_very_many_small_wishes_do_not_flood_the_server(lone: Bridge) -> None:
    async def test() -> None:
        async with pulling(lone, worker, greedy=False) as (pull, taker):
            await became(lambda: pull.made == 1)
            for _ in range(700):
                pull.want(1)
            await lone.api(f"CONSUMER.INFO.{streams.OUTPUT}.worker")

            async def waiting() -> int:
                return (await lone.js.consumer_info(streams.OUTPUT, "worker")).num_waiting or 0

            assert await turned(waiting) <= 64
            await fill(lone, 650)
            await taker.until(650)
            assert (pull.open, pull.made) == (50, 1)

    run(lone, test)
