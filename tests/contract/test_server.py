"""A real nats-server: found again, ended, brought back, and closed to those who may not."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError

from bus import streams, subjects
from bus.bridge import Bridge
from bus.daemon import born, free_port, handshake, version
from bus.permissions import USERS
from bus.server import MAX_PAYLOAD, External, Server
from events.errors import Damaged, Unavailable, Validation


def eventually(fact: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def connect(url: str, **options: Any) -> Any:
    """Connect with plain nats-py, whose own types are half unknown."""
    client: Any = Client()
    await client.connect(url, **options)
    return client


# The process


def test_a_living_server_is_taken_over(own: Server, tmp_path: Path) -> None:
    second = Server(tmp_path)
    second.start()
    second.start()
    assert (second.pid, second.port, second.url("client")) == (own.pid, own.port, own.url("client"))
    assert second.healthy() is None


def test_a_server_whose_record_was_never_written_is_found_all_the_same(own: Server, tmp_path: Path) -> None:
    (tmp_path / "nats" / "server.json").unlink()
    second = Server(tmp_path)
    second.start()
    assert (second.pid, second.port) == (own.pid, own.port)


def test_a_killed_server_comes_back_on_its_port_with_its_users_and_its_store(own: Server) -> None:
    before, url = own.port, own.url("node")
    pid = own.pid

    async def store() -> None:
        client = await connect(own.url("node"))
        await streams.ensure(client.jetstream())
        await client.jetstream().publish("brain.evt.node.a.1.started", b"{}")
        await client.close()

    asyncio.run(store())
    kill(pid)
    eventually(lambda: "died" in (own.healthy() or ""))
    own.start()
    assert own.healthy() is None
    assert (own.port, own.url("node")) == (before, url)
    assert own.pid != pid

    async def read() -> int:
        client = await connect(url)
        found = (await client.jetstream().stream_info(streams.EVENTS)).state.messages
        await client.close()
        return found

    assert asyncio.run(read()) == 1


def test_a_server_that_is_restarted_or_stopped_leaves_nothing_running(own: Server, tmp_path: Path) -> None:
    before, port = own.pid, own.port
    own.restart()
    assert own.port == port
    assert own.pid != before
    own.stop()
    own.stop()
    assert own.healthy() is not None
    assert handshake(f"nats://127.0.0.1:{port}") is not None
    assert not (tmp_path / "nats" / "server.json").exists()


def test_a_record_of_another_life_is_ignored(own: Server, tmp_path: Path) -> None:
    own.stop()
    (tmp_path / "nats" / "server.json").write_text(
        json.dumps({"pid": os.getpid(), "start_time": "an earlier boot:1", "port": 1, "monitor_port": 2})
    )
    own.start()
    assert own.pid != os.getpid()
    assert own.healthy() is None


def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Validation, match=f"port {port} is in use"):
            Server(tmp_path, port=port).start()


def test_a_given_port_is_taken_at_its_word(tmp_path: Path) -> None:
    port = free_port()
    server = Server(tmp_path, port=port)
    try:
        server.start()
        assert server.port == port
        with pytest.raises(Validation, match="already runs"):
            Server(tmp_path, port=free_port(besides=port)).start()
    finally:
        server.stop()


def test_a_program_that_is_no_nats_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not a nats-server"):
        version(Path("/bin/echo"))
    with pytest.raises(Unavailable, match="cannot be run"):
        Server(tmp_path, port=0, binary=tmp_path / "nothing").start()


def test_secrets_are_private_and_differ_between_folders(own: Server, tmp_path: Path) -> None:
    for name in ("credentials.json", "server.conf"):
        assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
    assert len({own.url(user) for user in USERS}) == len(USERS)
    assert handshake(f"nats://node:guess@127.0.0.1:{own.port}") is not None


def test_the_server_syncs_before_it_confirms_and_listens_to_this_machine_alone(
    server: Server,
) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.monitor_port}/jsz") as answer:
        assert json.load(answer)["config"]["sync_always"] is True
    with urllib.request.urlopen(f"http://127.0.0.1:{server.monitor_port}/varz") as answer:
        said = json.load(answer)
    assert (said["host"], said["http_host"], said["max_payload"]) == ("127.0.0.1", "127.0.0.1", MAX_PAYLOAD)


def test_a_server_without_a_record_is_stopped_too(own: Server, tmp_path: Path) -> None:
    pid = own.pid
    (tmp_path / "nats" / "server.json").unlink()
    Server(tmp_path).stop()
    assert pid is not None
    assert born(pid) is None


def test_a_server_of_others_is_used_and_left_alone(server: Server) -> None:
    external = External(server.url("client"))
    external.start()
    external.restart()
    external.stop()
    assert external.healthy() is None
    assert server.healthy() is None
    with pytest.raises(Unavailable):
        External(f"nats://127.0.0.1:{free_port()}").start()


# The streams


def test_every_stream_is_as_it_is_defined(bridge: Bridge) -> None:
    for definition in streams.definitions():
        found = bridge.call(bridge.js.stream_info(definition.name), 5)
        assert streams.compare(definition, found.config) == {}


def test_the_log_says_again_what_it_stored_with_its_sequence_and_nothing_it_refused(bridge: Bridge) -> None:
    async def facts() -> list[tuple[str, dict[str, str]]]:
        heard: list[tuple[str, dict[str, str]]] = []
        done = asyncio.Event()

        async def hear(message: Any) -> None:
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

        async def hear(message: Any) -> None:
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
    async def lease() -> None:
        await bridge.js.publish(subjects.lease("timer"), b"node-a", headers={"Nats-TTL": "1s"})
        deadline = time.monotonic() + 5
        while (await bridge.js.stream_info(streams.LEASES)).state.messages:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

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


# The users


async def refused(client: Any, errors: list[str], way: str, subject: str) -> bool:
    """Try it, and say whether the server forbade it."""
    errors.clear()
    if way == "publish":
        await client.publish(subject, b"{}")
    else:
        await client.subscribe(subject)
    await client.flush()
    await client.flush()  # the ping of the first one may overtake what it flushes
    return any(f'permissions violation for {way} to "{subject.lower()}' in error for error in errors)


CLIENT_MAY_NOT = [
    ("publish", "brain.evt.execution.exec_1.1.started"),
    ("publish", "brain.fact.execution.exec_1.1.started"),
    ("publish", "brain.node.a.secrets"),
    ("publish", "brain.out.exec_1.stdout"),
    ("publish", "brain.lease.timer"),
    ("publish", "_NODE.x.1"),
    ("publish", "$JS.API.STREAM.CREATE.OTHER"),
    ("publish", "$JS.API.STREAM.UPDATE.BRAIN_EVENTS"),
    ("publish", "$JS.API.STREAM.DELETE.BRAIN_EVENTS"),
    ("publish", "$JS.API.STREAM.PURGE.BRAIN_EVENTS"),
    ("publish", "$JS.API.STREAM.MSG.DELETE.BRAIN_OUTPUT"),
    ("publish", "$JS.API.STREAM.MSG.GET.BRAIN_INBOX"),
    ("publish", "$JS.API.DIRECT.GET.BRAIN_INBOX"),
    ("publish", "$JS.API.CONSUMER.CREATE.BRAIN_INBOX"),
    ("publish", "$JS.API.CONSUMER.CREATE.BRAIN_LEASES.x"),
    ("subscription", "brain.evt.>"),
    ("subscription", "brain.>"),
    ("subscription", ">"),
    ("subscription", "brain.node.>"),
    ("subscription", "brain.cmd.>"),
    ("subscription", "brain.inbox.>"),
    ("subscription", "_NODE.>"),
    ("subscription", "_HOST.>"),
    ("subscription", "$JS.ACK.>"),
]
CLIENT_MAY = [
    ("publish", "brain.cmd.execution.submit"),
    ("publish", "brain.inbox.execution.submit"),
    ("publish", "$SRV.PING"),
    ("publish", "$JS.API.STREAM.INFO.BRAIN_EVENTS"),
    ("subscription", "brain.fact.>"),
    ("subscription", "brain.progress.>"),
    ("subscription", "brain.out.>"),
    ("subscription", "brain.tel.>"),
    ("subscription", "brain.dead.>"),
]
HOST_MAY_NOT = [
    ("publish", "brain.evt.node.a.1.started"),
    ("publish", "brain.node.a.secrets"),
    ("publish", "$JS.API.STREAM.DELETE.BRAIN_EVENTS"),
    ("subscription", "brain.evt.>"),
    ("subscription", "_NODE.>"),
]
HOST_MAY = [
    ("publish", "brain.evt.execution.exec_1.1.started"),
    ("publish", "brain.progress.execution.exec_1"),
    ("subscription", "_HOST.>"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("user", "allowed", "forbidden"),
    [
        ("client", CLIENT_MAY, CLIENT_MAY_NOT),
        ("host", HOST_MAY, HOST_MAY_NOT),
        ("node", [*CLIENT_MAY_NOT, *HOST_MAY], []),
    ],
)  # fmt: skip  one user a line
async def test_a_user_may_do_its_part_and_no_more(
    tmp_path: Path, user: Any, allowed: list[tuple[str, str]], forbidden: list[tuple[str, str]]
) -> None:
    errors: list[str] = []

    async def complain(error: Exception) -> None:
        errors.append(str(error).lower())

    server = Server(tmp_path, port=0)
    await asyncio.to_thread(server.start)
    try:
        client = await connect(server.url(user), error_cb=complain)
        assert [each for each in allowed if await refused(client, errors, *each)] == []
        assert [each for each in forbidden if not await refused(client, errors, *each)] == []
        await client.close()
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.asyncio
async def test_a_client_with_nothing_but_the_url_can_ask_store_follow_and_read(
    server: Server, connection: Any
) -> None:
    async def answer(message: Any) -> None:
        await message.respond(b"done")

    await connection.subscribe("brain.cmd.test.ping", cb=answer)
    await connection.flush()
    client = await connect(server.url("client"))
    js = client.jetstream()
    assert (await client.request("brain.cmd.test.ping", b"{}", timeout=5)).data == b"done"

    stored = await js.publish("brain.inbox.test.ping", b"{}", headers={"Nats-Msg-Id": "once"})
    again = await js.publish("brain.inbox.test.ping", b"{}", headers={"Nats-Msg-Id": "once"})
    assert stored.stream == streams.INBOX
    assert again.duplicate

    told = await client.subscribe("brain.fact.test.>")
    await client.flush()
    event = await connection.jetstream().publish("brain.evt.test.a.1.happened", b'{"a":1}')
    fact = await told.next_msg(timeout=5)
    assert fact.subject == "brain.fact.test.a.1.happened"
    assert fact.headers is not None
    assert fact.headers["Nats-Sequence"] == str(event.seq)

    followed = await js.subscribe("brain.evt.test.>", ordered_consumer=True)
    assert (await followed.next_msg(timeout=5)).data == b'{"a":1}'
    await followed.unsubscribe()
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    pulled = await js.pull_subscribe("brain.evt.test.>", stream=streams.EVENTS, config=config)
    (message,) = await pulled.fetch(1, timeout=5)
    await message.ack_sync(timeout=5)
    await pulled.unsubscribe()

    one = await js.get_msg(streams.EVENTS, event.seq)
    assert one.data == b'{"a":1}'
    last = await js.get_msg(streams.EVENTS, subject="brain.evt.test.a.>", direct=True)
    assert last.seq == event.seq
    await client.close()


@pytest.mark.asyncio
async def test_a_client_can_put_a_blob_and_get_it_back(server: Server) -> None:
    client = await connect(server.url("client"))
    store = await client.jetstream().object_store(streams.BLOBS)
    await store.put("sha", b"x" * 300_000)
    assert (await store.get("sha")).data == b"x" * 300_000
    await client.close()


@pytest.mark.asyncio
async def test_a_client_cannot_make_a_stream_that_overlaps(server: Server) -> None:
    client = await connect(server.url("client"), error_cb=_quiet)
    with pytest.raises((NatsError, TimeoutError)):
        await client.jetstream(timeout=0.3).add_stream(StreamConfig(name="MINE", subjects=["mine.>"]))
    await client.close()


@pytest.mark.asyncio
async def test_a_consumer_cannot_be_aimed_at_the_log(server: Server, connection: Any) -> None:
    client = await connect(server.url("client"))
    aimed = ConsumerConfig(deliver_subject="brain.evt.execution.exec_1.9.completed")
    with pytest.raises(APIError, match="cycle"):
        await client.jetstream().add_consumer(streams.EVENTS, aimed)
    elsewhere = ConsumerConfig(
        deliver_subject="brain.evt.execution.exec_1.9.completed", ack_policy=AckPolicy.NONE
    )
    await connection.jetstream().publish("brain.out.exec_1.stdout", b"{}")
    before = (await connection.jetstream().stream_info(streams.EVENTS)).state.last_seq
    made = await client.jetstream().add_consumer(streams.OUTPUT, elsewhere)
    after = await connection.jetstream().publish("brain.evt.test.aimed.1.happened", b"{}")
    assert after.seq == before + 1
    await client.jetstream().delete_consumer(streams.OUTPUT, made.name)
    await client.close()


async def _quiet(error: Exception) -> None:
    """Nothing to say: the refusal is what the test is about."""
