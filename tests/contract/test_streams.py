"""The streams are what they are defined to be, keep what they were given, and tell it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import APIError

from bus import streams, subjects
from bus.bridge import Bridge
from bus.server import Server
from events.errors import Damaged, Validation
from tests.waiting import turned


def test_every_stream_is_as_it_is_defined(bridge: Bridge) -> None:
    for definition in streams.definitions():
        found = bridge.call(bridge.js.stream_info(definition.name), 5)
        assert streams.compare(definition, found.config) == {}


def test_the_log_says_again_what_it_stored_with_its_sequence_and_nothing_it_refused(bridge: Bridge) -> None:
    async def facts() -> list[tuple[str, dict[str, str]]]:
        heard: list[tuple[str, dict[str, str]]] = []
        done = asyncio.Event()

        def hear(message: Any) -> None:
            heard.append((message.subject, message.headers))
            if len(heard) == 2:
                done.set()

        subscription = await bridge.subscribe(f"brain.fact.node.{token}.>", hear)
        first = subjects.event("node", token, 1, "started")
        for expected in ("0", "7"):
            headers = {
                "Nats-Expected-Last-Subject-Sequence": expected,
                "Nats-Expected-Last-Subject-Sequence-Subject": subjects.entity("node", token),
            }
            reply = await bridge.request(first, b"{}", headers=headers)
            answers.append(json.loads(reply.data))
        reply = await bridge.request(subjects.event("node", token, 2, "stopped"), b"{}")
        answers.append(json.loads(reply.data))
        await asyncio.wait_for(done.wait(), 5)
        await bridge.unsubscribe(subscription)
        return heard

    token = "republish"
    answers: list[dict[str, Any]] = []
    heard = bridge.call(facts(), 20)
    assert answers[1]["error"]["err_code"] == 10071
    assert [(subject, int(headers["Nats-Sequence"])) for subject, headers in heard] == [
        (subjects.fact(subjects.event("node", token, 1, "started")), answers[0]["seq"]),
        (subjects.fact(subjects.event("node", token, 2, "stopped")), answers[2]["seq"]),
    ]


def test_an_atomic_batch_is_told_too_and_a_deleted_message_is_impossible(bridge: Bridge) -> None:
    async def batch() -> tuple[dict[str, Any], list[str]]:
        heard: asyncio.Queue[str] = asyncio.Queue()

        def hear(message: Any) -> None:
            heard.put_nowait(message.subject)

        subscription = await bridge.subscribe("brain.fact.node.batch.>", hear)
        for n in (1, 2):
            headers = {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": str(n)}
            if n == 2:
                headers["Nats-Batch-Commit"] = "1"
            reply = await bridge.request(subjects.event("node", "batch", n, "seen"), b"{}", headers=headers)
        told = [await asyncio.wait_for(heard.get(), 5) for _ in range(2)]
        await bridge.unsubscribe(subscription)
        return json.loads(reply.data), told

    acknowledged, told = bridge.call(batch(), 20)
    assert acknowledged["count"] == 2
    assert told == ["brain.fact.node.batch.1.seen", "brain.fact.node.batch.2.seen"]
    with pytest.raises(APIError):
        bridge.call(bridge.js.delete_msg(streams.EVENTS, acknowledged["seq"]), 5)


def test_a_lease_ends_by_itself(bridge: Bridge) -> None:
    async def gone() -> bool:
        return not (await bridge.js.stream_info(streams.LEASES)).state.messages

    async def lease() -> None:
        await bridge.js.publish(subjects.lease("timer"), b"node-a", headers={"Nats-TTL": "1s"})
        await turned(gone)

    bridge.call(lease(), 10)


def test_a_lost_log_is_not_replaced_by_an_empty_one(own: Server, tmp_path: Path) -> None:
    bridge, marker = Bridge(own.url("node")), tmp_path / "nats" / "log"
    bridge.start()
    try:
        bridge.call(streams.ensure(bridge.js, marker=marker), 20)
        bridge.call(streams.ensure(bridge.js, marker=marker), 20)
        bridge.call(bridge.js.delete_stream(streams.EVENTS), 5)
        with pytest.raises(Damaged, match="the log is lost"):
            bridge.call(streams.ensure(bridge.js, marker=marker), 20)
        marker.unlink()
        bridge.call(streams.ensure(bridge.js, marker=marker), 20)
        assert marker.exists()
    finally:
        bridge.stop()


def test_changed_limits_are_updated_and_a_changed_meaning_is_refused(own: Server) -> None:
    bridge = Bridge(own.url("node"))
    bridge.start()
    try:
        bridge.call(streams.ensure(bridge.js), 20)
        wanted = streams.definitions(events_bytes=streams.GIB, inbox_window=5.0)
        bridge.call(streams.ensure(bridge.js, wanted), 20)
        found = bridge.call(bridge.js.stream_info(streams.INBOX), 5).config
        assert found.duplicate_window == 5.0
        log = wanted[0].config()
        log.republish = None
        js: Any = bridge.js
        bridge.call(js.update_stream(log), 5)
        with pytest.raises(Validation, match="republish has to be"):
            bridge.call(streams.ensure(bridge.js, wanted), 20)
    finally:
        bridge.stop()
