"""The server is closed to those who may not, and open for all that a client needs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError

from bus import streams
from bus.server import Server
from tests.contract.plain import connect


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
