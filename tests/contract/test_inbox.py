"""Commands that were stored first: none is lost, and no secret of them stays."""

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from bus.bridge import Bridge
from bus.inbox import MASK, Inbox, masked
from bus.server import Server
from bus.streams import ensure
from events.errors import HindbrainError, Internal, NotFound, Validation
from events.ports import Call
from tests.waiting import turned

DEADLINE = 60.0


class Desk:
    """Decides by what the body asks for, from a thread of its own."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.trouble = 0

    def __call__(self, lot: list[Call]) -> None:
        threading.Thread(target=self._decide, args=(lot,)).start()

    def _decide(self, lot: list[Call]) -> None:
        for call in lot:
            self.calls.append(call)
            if self.trouble:
                self.trouble -= 1
                call.refuse(Internal("not now"))
            elif b"refuse" in call.body:
                call.refuse(Validation("no \u00e4 such\nthing", field="x"))
            else:
                call.answer(b"{}")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest_asyncio.fixture
async def inbox(bridge: Bridge, desk: Desk) -> AsyncGenerator[Inbox]:
    inbox = Inbox(bridge, desk)
    await asyncio.to_thread(inbox.start)
    yield inbox
    await asyncio.to_thread(inbox.stop)


async def store(connection: Client, body: bytes, **headers: str) -> int:
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await js.publish("brain.inbox.execution.submit", body, headers=named or None)).seq


async def gone(connection: Client, sequence: int) -> None:
    """Wait until a message is erased."""
    ask = json.dumps({"seq": sequence}).encode()

    async def erased() -> bool:
        reply = await connection.request("$JS.API.STREAM.MSG.GET.BRAIN_INBOX", ask, timeout=DEADLINE)
        return b'"error"' in reply.data

    await turned(erased, DEADLINE)


async def refused(inbox: Inbox, key: str) -> HindbrainError | None:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[HindbrainError | None] = loop.create_future()
    inbox.refused(key, lambda error: loop.call_soon_threadsafe(answered.set_result, error) and None)
    return await asyncio.wait_for(answered, DEADLINE)


@pytest.mark.asyncio
async def test_a_stored_command_is_handled_and_erased(inbox: Inbox, desk: Desk, connection: Client) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sequence = await store(connection, b'{"a":1}', Nats_Msg_Id=f"m-{secrets.token_hex(4)}", traceparent=trace)
    await gone(connection, sequence)
    call = desk.calls[0]
    assert (call.kind, call.verb, call.body, call.by, call.trace) == (
        "execution",
        "submit",
        b'{"a":1}',
        "inbox",
        trace,
    )
    assert call.key.startswith("m-")


@pytest.mark.asyncio
async def test_the_key_is_the_bodys_else_the_messages_else_the_place(
    inbox: Inbox, desk: Desk, connection: Client
) -> None:
    identity = secrets.token_hex(4)
    await store(connection, b'{"idempotency_key":"mine"}', Nats_Msg_Id=identity)
    await store(connection, b"{}", Nats_Msg_Id=identity + "2")
    sequence = await store(connection, b"not json")
    await gone(connection, sequence)
    keys = [call.key for call in desk.calls]
    assert keys[:2] == ["mine", identity + "2"]
    assert keys[2] == f"inbox-{sequence}"
    assert sequence > 1_700_000_000_000, "a stream that is made anew does not repeat its sequences"


@pytest.mark.asyncio
async def test_a_refused_command_is_parked_without_its_secrets_and_found_by_its_key(
    server: Server, inbox: Inbox, desk: Desk, connection: Client
) -> None:
    identity = f"id {secrets.token_hex(4)}"
    body = {"refuse": 1, "secrets": {"A": "hidden"}, "env": {"MY_TOKEN": "hidden", "PLAIN": "seen"}}
    sequence = await store(connection, json.dumps(body).encode(), Nats_Msg_Id=identity)
    await gone(connection, sequence)
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    parked = await js.get_last_msg("BRAIN_DEAD", f"brain.dead.inbox.{sequence}")
    assert parked.data is not None
    assert b"hidden" not in parked.data
    assert json.loads(parked.data)["env"] == {"MY_TOKEN": MASK, "PLAIN": "seen"}
    headers = cast(dict[str, str], parked.headers)  # pyright: ignore[reportUnknownMemberType] -- the same
    assert headers["Brain-Msg-Id"] == identity.replace(" ", "%20")
    assert json.loads(headers["Brain-Error"])["code"] == "validation"
    error = await refused(inbox, identity)
    assert isinstance(error, Validation)
    assert error.details == {"field": "x"}
    assert await refused(inbox, "unknown") is None
    other = Bridge(server.url("node"))  # a node that starts later knows it too
    await asyncio.to_thread(other.start)
    later = Inbox(other, desk)
    await asyncio.to_thread(later.start)
    assert isinstance(await refused(later, identity), Validation)
    await asyncio.to_thread(later.stop)
    await asyncio.to_thread(other.stop)


class Dying(Bridge):
    """The bridge of a node that dies as it is about to erase: the call is not sent, and nothing after it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.died = threading.Event()

    async def api(
        self, call: str, body: Mapping[str, Any] | None = None, *, within: float = 5.0
    ) -> dict[str, Any]:
        if call.startswith("STREAM.MSG.DELETE."):
            self.died.set()
            await asyncio.Event().wait()
        return await super().api(call, body, within=within)


@pytest.mark.asyncio
async def test_a_crash_between_parking_and_erasing_parks_nothing_twice(own: Server, desk: Desk) -> None:
    doomed, bridge = Dying(own.url("node")), Bridge(own.url("node"))
    for each in (doomed, bridge):
        await asyncio.to_thread(each.start)
    await asyncio.to_thread(lambda: bridge.call(ensure(bridge.js), DEADLINE))
    connection: Any = Client()
    await connection.connect(own.url("node"))
    js = connection.jetstream()
    await asyncio.to_thread(Inbox(doomed, desk, ack_seconds=1.0).start)
    body = b'{"refuse":1,"secrets":{"A":"hidden"}}'
    sequence = await store(connection, body, Nats_Msg_Id="crash")
    assert await asyncio.to_thread(doomed.died.wait, DEADLINE)
    await asyncio.to_thread(doomed.stop)
    parked = await js.get_last_msg("BRAIN_DEAD", f"brain.dead.inbox.{sequence}")
    assert b"hidden" not in parked.data
    assert (await js.get_msg("BRAIN_INBOX", sequence)).data == body, "it is parked, and still there"
    inbox = Inbox(bridge, desk, ack_seconds=1.0)
    await asyncio.to_thread(inbox.start)
    await gone(connection, sequence)
    again = await js.get_last_msg("BRAIN_DEAD", f"brain.dead.inbox.{sequence}")
    assert (again.seq, (await js.stream_info("BRAIN_DEAD")).state.messages) == (parked.seq, 1)
    assert [call.key for call in desk.calls] == ["crash", "crash"], "the same wish, decided again"
    assert isinstance(await refused(inbox, "crash"), Validation)
    await asyncio.to_thread(inbox.stop)
    await connection.close()
    await asyncio.to_thread(bridge.stop)


@pytest.mark.asyncio
async def test_what_met_trouble_comes_again_with_the_same_key(
    inbox: Inbox, desk: Desk, connection: Client
) -> None:
    desk.trouble = 1
    sequence = await store(connection, b"{}")
    await gone(connection, sequence)
    assert len(desk.calls) == 2
    assert desk.calls[0].key == desk.calls[1].key


@pytest.mark.asyncio
async def test_what_was_stored_while_nobody_was_there_is_handled_at_the_start(
    bridge: Bridge, desk: Desk, connection: Client
) -> None:
    sequences = [await store(connection, b"{}") for _ in range(300)]
    inbox = Inbox(bridge, desk)
    await asyncio.to_thread(inbox.start)
    await gone(connection, sequences[-1])
    for sequence in sequences[:20]:
        await gone(connection, sequence)
    assert len({call.key for call in desk.calls}) == 300
    await asyncio.to_thread(inbox.stop)


@pytest.mark.asyncio
async def test_a_command_over_1_mib_is_parked_without_being_handed_over(
    inbox: Inbox, desk: Desk, connection: Client
) -> None:
    sequence = await store(connection, b"x" * (1024 * 1024 + 1), Nats_Msg_Id=f"big-{secrets.token_hex(4)}")
    await gone(connection, sequence)
    assert desk.calls == []
    assert not isinstance(await refused(inbox, "big"), NotFound)


@settings(deadline=None)
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_is_under_secrets_is_masked(value: Any) -> None:
    found = json.loads(masked(json.dumps({"a": [{"secrets": {"name": value}}], "b": value}).encode()))

    def leaves(each: Any) -> list[Any]:
        if isinstance(each, dict):
            return [leaf for inner in each.values() for leaf in leaves(inner)]  # pyright: ignore[reportUnknownVariableType] -- any JSON
        return [each]

    assert set(map(str, leaves(found["a"][0]["secrets"]))) <= {MASK}
