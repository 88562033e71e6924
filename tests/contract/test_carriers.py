"""What travels beside the log: services, facts, leases and the talk between nodes."""

import asyncio
import queue
import threading
from collections.abc import Generator
from typing import Any, cast

import msgspec
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from bus import subjects
from bus.bridge import Bridge
from bus.feed import Feed
from bus.lease import Lease
from bus.peers import Peers
from bus.server import Server
from bus.services import Services
from events.codec import Fact
from events.errors import HindbrainError, NotFound, Unavailable, Validation
from events.ports import Call
from events.service import VERBS, Named, Outcome, Verb
from tests.waiting import became, turned

DEADLINE = 30.0
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
pytestmark = pytest.mark.asyncio


def verb(kind: str, name: str) -> Verb:
    return Verb(kind, name, Named, Outcome, "For a test.")


class Desk:
    """Answers calls from a thread of its own, as an actor does."""

    def __init__(self) -> None:
        self.lots: list[list[Call]] = []
        self._inbox: queue.SimpleQueue[list[Call] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __call__(self, lot: list[Call]) -> None:
        self._inbox.put(lot)

    def stop(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (lot := self._inbox.get()) is not None:
            self.lots.append(lot)
            for call in lot:
                if call.body == b"no":
                    call.refuse(NotFound("nothing here", id="x"))
                else:
                    call.answer(call.verb.encode() + b":" + call.body)


@pytest.fixture
def desk() -> Generator[Desk]:
    desk = Desk()
    yield desk
    desk.stop()


async def test_a_request_is_answered_from_another_thread(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-a", "get"), verb("test-a", "put")], desk, by="somebody")
    await asyncio.to_thread(services.start)
    reply = await connection.request(
        "brain.cmd.test-a.put", b"hello", timeout=DEADLINE, headers={"traceparent": TRACE}
    )
    assert reply.data == b"put:hello"
    call = desk.lots[0][0]
    assert (call.kind, call.verb, call.by, call.trace) == ("test-a", "put", "somebody", TRACE)
    await asyncio.to_thread(services.stop)


async def test_requests_are_heard_without_a_task_of_nats_micro_for_each(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-h", "get"), verb("test-h", "put")], desk)
    await asyncio.to_thread(services.start)
    for name in ("get", "put"):
        await connection.request(f"brain.cmd.test-h.{name}", b"", timeout=DEADLINE)
    micro = vars(services)["_service"]
    counted: list[int] = [each._num_requests for each in micro._endpoints]  # noqa: SLF001  only it knows
    assert counted == [0, 0]


async def test_a_refusal_names_its_code_in_body_and_headers(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-b", "get")], desk)
    await asyncio.to_thread(services.start)
    reply = await connection.request("brain.cmd.test-b.get", b"no", timeout=DEADLINE)
    assert msgspec.json.decode(reply.data) == {
        "error": {"code": "not_found", "message": "nothing here", "details": {"id": "x"}}
    }
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error"] == "not_found"
    assert reply.headers["Nats-Service-Error-Code"] == "404"


async def test_a_command_over_1_mib_is_refused_without_being_handed_over(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-c", "get")], desk)
    await asyncio.to_thread(services.start)
    reply = await connection.request("brain.cmd.test-c.get", b"x" * (1024 * 1024 + 1), timeout=DEADLINE)
    assert msgspec.json.decode(reply.data)["error"]["code"] == "too_large"
    whole = await connection.request("brain.cmd.test-c.get", b"x" * (1024 * 1024), timeout=DEADLINE)
    assert len(whole.data) == 1024 * 1024 + len("get:")
    assert len(desk.lots) == 1


async def test_a_request_that_wants_no_reply_is_served_too(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-d", "get")], desk)
    await asyncio.to_thread(services.start)
    await connection.publish("brain.cmd.test-d.get", b"quiet")
    await connection.request("brain.cmd.test-d.get", b"loud", timeout=DEADLINE)
    assert [call.body for lot in desk.lots for call in lot] == [b"quiet", b"loud"]


async def test_the_service_tells_its_endpoints_schemas_and_counts(
    bridge: Bridge, connection: Client, desk: Desk
) -> None:
    services = Services(bridge, [verb("test-e", "get")], desk, name="test-e", details={"node": "n"})
    await asyncio.to_thread(services.start)
    for body in (b"1", b"no"):
        await connection.request("brain.cmd.test-e.get", body, timeout=DEADLINE)
    info = msgspec.json.decode((await connection.request("$SRV.INFO.test-e", timeout=DEADLINE)).data)
    assert info["metadata"] == {"node": "n"}
    endpoint = info["endpoints"][0]
    assert endpoint["subject"] == "brain.cmd.test-e.get"
    assert endpoint["metadata"]["request"] == "Named"
    stats = msgspec.json.decode((await connection.request("$SRV.STATS.test-e", timeout=DEADLINE)).data)
    counts = stats["endpoints"][0]
    assert (counts["num_requests"], counts["num_errors"], counts["last_error"]) == (2, 0, "not_found")
    assert counts["processing_time"] > 0
    assert (await connection.request("$SRV.PING.test-e", timeout=DEADLINE)).data


async def test_two_processes_share_the_requests_of_a_verb(
    server: Server, bridge: Bridge, connection: Client, desk: Desk
) -> None:
    other, second = Bridge(server.url("node")), Desk()
    await asyncio.to_thread(other.start)
    for each, at in ((desk, bridge), (second, other)):
        await asyncio.to_thread(Services(at, [verb("test-f", "get")], each).start)
    replies = [
        await connection.request("brain.cmd.test-f.get", b"%d" % n, timeout=DEADLINE) for n in range(60)
    ]
    assert [reply.data for reply in replies] == [b"get:%d" % n for n in range(60)]
    counts = [sum(map(len, each.lots)) for each in (desk, second)]
    assert sum(counts) == 60
    assert min(counts) > 5
    await asyncio.to_thread(other.stop)
    second.stop()


async def test_everything_is_served_again_after_the_connection_was_lost(
    server: Server, connection: Client, desk: Desk
) -> None:
    bridge = Bridge(server.url("node"))
    await asyncio.to_thread(bridge.start)
    services = Services(bridge, VERBS, desk, name="test-g")
    await asyncio.to_thread(services.start)
    assert (await connection.request("brain.cmd.execution.get", b"1", timeout=DEADLINE)).data == b"get:1"
    epoch = bridge.epoch
    bridge.post(lambda: bridge.doubt("a test"))
    await became(lambda: bridge.epoch > epoch)
    reply = await again(connection, "brain.cmd.execution.get", b"2")
    assert reply == b"get:2"
    info = msgspec.json.decode((await connection.request("$SRV.INFO.test-g", timeout=DEADLINE)).data)
    assert len(info["endpoints"]) == len(VERBS)
    await asyncio.to_thread(bridge.stop)


async def test_a_listener_that_fails_answers_with_an_internal_error(
    bridge: Bridge, connection: Client
) -> None:
    def broken(_: list[Call]) -> None:
        raise RuntimeError("no")

    await asyncio.to_thread(Services(bridge, [verb("test-h", "get")], broken).start)
    reply = await connection.request("brain.cmd.test-h.get", b"", timeout=DEADLINE)
    assert msgspec.json.decode(reply.data)["error"]["code"] == "internal"


async def test_facts_are_told_in_lots_and_a_lost_connection_is_told_as_a_gap(
    server: Server, connection: Client
) -> None:
    bridge = Bridge(server.url("node"))
    await asyncio.to_thread(bridge.start)
    heard: queue.SimpleQueue[list[Fact] | None] = queue.SimpleQueue()
    feed = Feed(bridge, lambda lot: heard.put(None if lot is None else list(lot)), ["cancelled"])
    await asyncio.to_thread(feed.start)
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    headers = {"Brain-Id": "e1", "Brain-Time": "2026-01-01T00:00:00.000Z", "Brain-By": "me"}
    body = b'{"event":"cancelled","attempt":1,"error":{"code":"cancelled","message":"m"},"end":{}}'
    ack = await js.publish("brain.evt.execution.exec_feed.3.cancelled", body, headers=dict(headers))
    lot = await asyncio.to_thread(heard.get, True, DEADLINE)
    assert lot is not None
    fact = lot[0]
    assert (fact.seq, fact.entity, fact.n, fact.name) == (ack.seq, "exec_feed", 3, "cancelled")
    assert fact.envelope.by == "me"
    assert fact.subject == "brain.evt.execution.exec_feed.3.cancelled"
    bridge.post(lambda: bridge.doubt("a test"))
    assert await asyncio.to_thread(heard.get, True, DEADLINE) is None
    await asyncio.to_thread(bridge.stop)


async def test_a_node_asks_another_and_learns_when_there_is_none(bridge: Bridge, desk: Desk) -> None:
    peers = Peers(bridge)
    await asyncio.to_thread(peers.serve, "node_a", desk)
    assert await ask(peers, "node_a", "secrets", b"1") == b"secrets:1"
    assert isinstance(await ask(peers, "node_a", "secrets", b"no"), NotFound)
    assert isinstance(await ask(peers, "node_b", "secrets", b"1"), Unavailable)
    await asyncio.to_thread(peers.stop)
    assert isinstance(await ask(peers, "node_a", "secrets", b"1"), Unavailable)


async def test_a_lease_is_seen_while_it_is_renewed_and_expires_by_the_server(
    server: Server, bridge: Bridge, connection: Client
) -> None:
    holder = Bridge(server.url("node"))
    renewals: Any = await cast(Any, connection).subscribe(subjects.lease("node-node_x"))
    await asyncio.to_thread(holder.start)
    lease, watcher = Lease(holder), Lease(bridge)
    with pytest.raises(Validation):
        lease.hold("node_x", "boot_1", 0.5)
    await asyncio.to_thread(lease.hold, "node_x", "boot_1", 1.0)
    assert (await alive(watcher))["node_x"] == "boot_1"
    for _ in range(5):  # longer than one lease: it was renewed
        await renewals.next_msg(timeout=DEADLINE)
        assert lease.left <= 2 / 3
        assert "node_x" in await alive(watcher)
    await asyncio.to_thread(holder.stop)  # as if it had died: nothing is given back
    await became(lambda: lease.left == 0)

    async def expired() -> bool:
        return "node_x" not in await alive(watcher)

    await turned(expired)


async def test_a_lease_that_is_given_back_is_gone_at_once(bridge: Bridge) -> None:
    lease = Lease(bridge)
    await asyncio.to_thread(lease.hold, "node_y", "boot_2", 30)
    assert (await alive(lease))["node_y"] == "boot_2"
    await asyncio.to_thread(lease.release)
    assert lease.left == 0
    assert "node_y" not in await alive(lease)


async def alive(lease: Lease) -> dict[str, str]:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    lease.alive(lambda found: loop.call_soon_threadsafe(answered.set_result, found) and None)
    found = await asyncio.wait_for(answered, DEADLINE)
    assert isinstance(found, dict)
    return found  # pyright: ignore[reportUnknownVariableType] -- a future of anything


async def ask(peers: Peers, node: str, verb: str, body: bytes) -> bytes | HindbrainError:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes | HindbrainError] = loop.create_future()
    peers.ask(
        node, verb, body, 5.0, lambda found: loop.call_soon_threadsafe(answered.set_result, found) and None
    )
    return await asyncio.wait_for(answered, DEADLINE)


async def again(connection: Client, subject: str, body: bytes) -> bytes:
    """Ask until somebody serves."""

    async def served() -> bytes:
        try:
            return (await connection.request(subject, body, timeout=DEADLINE)).data
        except NoRespondersError:
            return b""

    return await turned(served)
