"""The bridge: one loop, many threads, and a connection that may die at any time."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from bus.answers import Answers
from bus.bridge import Bridge
from bus.client import Client
from bus.server import MAX_PAYLOAD, Server
from events.errors import NotFound, Timeout, TooLarge, Unavailable, Validation
from tests.waiting import until

WITHIN = 30.0


async def renewed(bridge: Bridge, epoch: int) -> None:
    """Wait, in the loop of the bridge, for the connection after the one of this epoch."""
    happened = asyncio.Event()
    bridge.on_reconnect.append(happened.set)
    if bridge.epoch == epoch:
        await happened.wait()
    bridge.on_reconnect.remove(happened.set)
    assert bridge.epoch > epoch


async def echo(bridge: Bridge, subject: str) -> None:
    answers = Answers(bridge)

    def answer(message: Msg) -> None:
        answers.send(message.reply, message.data)

    await bridge.subscribe(subject, answer)


def kill(server: Server) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


def test_it_starts_and_stops_twice_and_says_when_it_does_not_run(server: Server) -> None:
    bridge = Bridge(server.url("node"))
    bridge.stop()
    for _ in range(2):
        bridge.start()
        bridge.start()
        assert bridge.call(bridge.request("$JS.API.INFO"), WITHIN).data
        bridge.stop()
        bridge.stop()
    with pytest.raises(Unavailable):
        bridge.post(lambda: None)
    with pytest.raises(Unavailable):
        bridge.call(bridge.ready(), 1)


def test_it_gives_up_to_connect_when_nobody_is_there() -> None:
    bridge = Bridge("nats://127.0.0.1:1", patience=0.3)
    with pytest.raises(Unavailable, match="no connection"):
        bridge.start()
    assert all(thread.name != "bus" for thread in threading.enumerate())


def test_errands_of_one_thread_keep_their_order_and_a_bad_one_harms_nobody(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise LookupError("a bad errand")

    done: list[int] = []
    finished = threading.Event()
    bridge.post(fail)
    for n in range(5000):
        bridge.post(lambda n=n: done.append(n))
    bridge.post(finished.set)
    assert finished.wait(WITHIN)
    assert done == list(range(5000))
    assert "an errand to the bus failed" in caplog.text


def test_the_loop_refuses_to_wait_for_itself(bridge: Bridge) -> None:
    async def wait() -> None:
        bridge.call(bridge.ready(), 1)

    with pytest.raises(RuntimeError, match="wait for itself"):
        bridge.call(wait(), 5)


def test_a_call_that_takes_too_long_is_a_timeout(bridge: Bridge) -> None:
    with pytest.raises(Timeout):
        bridge.call(asyncio.Event().wait(), 0.05)


def test_what_would_close_the_connection_is_refused_before_it_is_sent(bridge: Bridge) -> None:
    epoch = bridge.epoch
    bridge.call(echo(bridge, "test.big"), WITHIN)
    for payload, headers in ((b"x" * (MAX_PAYLOAD + 1), None), (b"x" * MAX_PAYLOAD, {"a": "b"})):
        with pytest.raises(TooLarge):
            bridge.call(bridge.request("test.big", payload, headers=headers), WITHIN)
        with pytest.raises(TooLarge):
            bridge.call(bridge.publish("test.big", payload, headers=headers), WITHIN)
    header = {"a": "b"}
    fits = b"x" * (MAX_PAYLOAD - 12 - 6)
    assert bridge.call(bridge.request("test.big", fits, headers=header), 20).data == fits
    assert bridge.epoch == epoch


def test_a_connection_that_the_server_closed_is_built_anew(bridge: Bridge) -> None:
    bridge.call(echo(bridge, "test.again"), WITHIN)
    epoch = bridge.epoch

    async def provoke() -> None:
        # nats-py looks at the payload alone; with its headers this is more than the server takes.
        await bridge.connection.publish("test.again", b"x" * MAX_PAYLOAD, headers={"a": "b"})
        await renewed(bridge, epoch)

    bridge.call(provoke(), WITHIN)
    assert bridge.call(bridge.request("test.again", b"here"), WITHIN).data == b"here"


def test_it_survives_a_killed_server_and_what_waited_fails_at_once(own: Server) -> None:
    bridge = Bridge(own.url("node"))
    bridge.start()
    try:
        told: list[int] = []
        bridge.on_reconnect.append(lambda: told.append(bridge.epoch))
        bridge.call(echo(bridge, "test.echo"), WITHIN)

        def silent(message: Msg) -> None:
            asked.set()

        asked = threading.Event()
        bridge.call(bridge.subscribe("test.silent", silent), WITHIN)
        future = asyncio.run_coroutine_threadsafe(bridge.request("test.silent", within=60), bridge.loop)
        assert asked.wait(WITHIN)
        began = time.monotonic()
        kill(own)
        with pytest.raises(Unavailable, match="connection was lost"):
            future.result(WITHIN)
        assert time.monotonic() - began < 2
        with pytest.raises(Unavailable):
            bridge.call(bridge.publish("test.echo"), WITHIN)
        own.start()
        bridge.call(bridge.ready(), WITHIN)
        assert bridge.call(bridge.request("test.echo", b"again"), WITHIN).data == b"again"
        assert (bridge.epoch, told) == (2, [2])
    finally:
        bridge.stop()


def test_a_deaf_client_is_noticed_and_replaced(own: Server) -> None:
    bridge = Bridge(own.url("node"), heartbeat=0.2)
    bridge.start()
    try:
        bridge.call(echo(bridge, "test.echo"), WITHIN)

        async def deafen() -> None:
            client: Any = bridge.connection
            client._reading_task.cancel()  # noqa: SLF001  what an error in nats-py's reading loop leaves behind
            await renewed(bridge, 1)

        bridge.call(deafen(), WITHIN)
        assert bridge.call(bridge.request("test.echo", b"heard"), WITHIN).data == b"heard"
    finally:
        bridge.stop()


def test_a_frozen_server_is_noticed_and_found_again(own: Server) -> None:
    bridge = Bridge(own.url("node"), heartbeat=0.2)
    bridge.start()
    try:
        assert own.pid is not None
        state = Path(f"/proc/{own.pid}/stat")
        os.kill(own.pid, signal.SIGSTOP)
        try:
            until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
            with pytest.raises((Unavailable, Timeout)):
                bridge.call(bridge.request("$JS.API.INFO", within=5), 10)
        finally:
            os.kill(own.pid, signal.SIGCONT)
        bridge.call(bridge.ready(), WITHIN)
        assert bridge.call(bridge.request("$JS.API.INFO"), WITHIN).data
    finally:
        bridge.stop()


def test_what_is_forbidden_fails_at_once_and_by_name(server: Server) -> None:
    bridge = Bridge(server.url("client"), inbox="_INBOX")
    bridge.start()
    try:
        began = time.monotonic()
        with pytest.raises(Validation, match=r"may not publish to brain\.evt"):
            bridge.call(bridge.request("brain.evt.execution.exec_1.1.started", within=30), 40)
        assert time.monotonic() - began < 5

        def nothing(message: Msg) -> None: ...

        async def listen() -> str | None:
            subscription = await bridge.subscribe("brain.evt.>", nothing)
            await bridge.request("$JS.API.INFO")
            return subscription.refused

        assert "permissions violation" in (bridge.call(listen(), WITHIN) or "").lower()
        assert bridge.call(bridge.request("$JS.API.INFO"), WITHIN).data
    finally:
        bridge.stop()


def test_a_request_says_why_there_is_no_reply(bridge: Bridge) -> None:
    with pytest.raises(Unavailable, match="nobody serves"):
        bridge.call(bridge.request("test.nobody"), WITHIN)

    def silent(message: Msg) -> None: ...

    bridge.call(bridge.subscribe("test.mute", silent), WITHIN)
    with pytest.raises(Timeout, match="no answer"):
        bridge.call(bridge.request("test.mute", within=0.05), WITHIN)
    with pytest.raises(NotFound, match="stream not found"):
        bridge.call(bridge.api("STREAM.INFO.NOTHING"), 5)


def test_a_listener_that_fails_is_reported_and_hears_on(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    answers = Answers(bridge)

    def moody(message: Msg) -> None:
        if message.data == b"bad":
            raise LookupError("a bad day")
        answers.send(message.reply, b"fine")

    bridge.call(bridge.subscribe("test.moody", moody), WITHIN)
    bridge.call(bridge.publish("test.moody", b"bad"), WITHIN)
    assert bridge.call(bridge.request("test.moody", b"good"), WITHIN).data == b"fine"
    assert "a bad day" in caplog.text


@pytest.mark.asyncio
async def test_it_can_be_given_up_at_any_moment() -> None:
    async def give_up(after: float) -> None:
        with pytest.raises(Unavailable):
            await Client.connect("nats://127.0.0.1:1", patience=after)

    async with asyncio.timeout(10):
        for _ in range(5):
            await asyncio.gather(*(give_up(step / 1000) for step in range(40)))
