"""The bus from outside, with the rights of a client."""

import asyncio
import secrets
import time
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client as Plain

from bus.bridge import Bridge
from bus.client import Client
from bus.daemon import free_port
from bus.server import Server
from bus.services import Services
from events.errors import NotFound, TooLarge, Unavailable, Validation
from events.ports import Call
from events.service import Named, Outcome, Verb
from events.spec import Submit
from tests.waiting import became

DEADLINE = 10.0
pytestmark = pytest.mark.asyncio


def echo(lot: list[Call]) -> None:
    for call in lot:
        if call.verb == "no":
            call.refuse(NotFound("nothing", id="x"))
        else:
            call.answer(call.body)


async def serve(bridge: Bridge, kind: str) -> None:
    verbs = [Verb(kind, name, Named, Outcome, "For a test.") for name in ("echo", "no")]
    await asyncio.to_thread(Services(bridge, verbs, echo, name=kind).start)


async def test_a_request_brings_the_reply_or_raises_its_error(server: Server, bridge: Bridge) -> None:
    await serve(bridge, "cl-a")
    async with await Client.connect(server.url("client")) as client:
        assert await client.request("cl-a", "echo", {"a": [1]}) == {"a": [1]}
        assert await client.request("cl-a", "echo") == {}
        assert await client.request("cl-a", "echo", Submit(code="1")) == {"code": "1"}
        with pytest.raises(NotFound, match="nothing") as refused:
            await client.request("cl-a", "no")
        assert refused.value.details == {"id": "x"}


async def test_nobody_who_serves_is_said_at_once(server: Server) -> None:
    async with await Client.connect(server.url("client")) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no node is running"):
            await client.request("cl-none", "echo")
        assert time.monotonic() - began < 1


async def test_no_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Client.connect(f"nats://127.0.0.1:{free_port()}", patience=0.2)


async def test_large_code_travels_as_a_blob_and_too_large_a_command_not_at_all(
    server: Server, bridge: Bridge, connection: Plain, tmp_path: Path
) -> None:
    await serve(bridge, "cl-b")
    code = secrets.token_hex(200_000)
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    store = await js.object_store("BRAIN_BLOBS")
    async with await Client.connect(server.url("client")) as client:
        for payload in ({"code": code, "language": "python"}, Submit(code=code, language="python")):
            reply = await client.request("cl-b", "echo", payload)
            assert reply["language"] == "python"
            found = await store.get(reply["code"]["blob"])  # pyright: ignore[reportUnknownMemberType] -- the same
            assert found.data == code.encode()
        with pytest.raises(TooLarge):
            await client.request("cl-b", "echo", {"description": "x" * 1_100_000})
        with pytest.raises(Validation):
            await client.request("cl-b", "echo", {"code": "\ud800"})


async def test_a_client_goes_on_after_its_connection_was_lost(server: Server, bridge: Bridge) -> None:
    await serve(bridge, "cl-c")
    async with await Client.connect(server.url("client")) as client:
        client.bridge.doubt("a test")
        await became(lambda: client.bridge.epoch > 1)
        assert await client.request("cl-c", "echo", {"n": 1}) == {"n": 1}


async def test_facts_are_heard_from_the_moment_it_listens(server: Server, connection: Plain) -> None:
    entity = f"exec_{secrets.token_hex(6)}"
    body = msgspec.json.encode({"event": "queued", "digest": "d"})
    headers = {"Brain-Id": "e", "Brain-Time": "2026-01-01T00:00:00.000Z"}
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    async with (
        await Client.connect(server.url("client")) as client,
        await client.facts("execution", entity) as facts,
        asyncio.timeout(DEADLINE),
    ):
        subject = f"brain.evt.execution.{entity}.1.queued.nobody.medium"
        ack = await js.publish(subject, body, headers=dict(headers))
        fact = await anext(facts)
        assert fact is not None
        assert (fact.seq, fact.entity, fact.name) == (ack.seq, entity, "queued")
