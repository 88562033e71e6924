"""What we write by hand is what nats-py would have written, and its private transport is as we know it."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol import command

from bus import frames
from bus.frames import Frame

publishing: dict[str, Callable[..., bytes]] = {
    name: getattr(command, name)  # its parameters have no types
    for name in ("pub_cmd", "hpub_cmd")
}
words = st.text("abcXYZ019-_", min_size=1, max_size=20)


@given(words, words, st.dictionaries(words, words, max_size=4), st.binary(max_size=200))
def test_a_frame_is_byte_for_byte_that_of_nats_py(
    subject: str, reply: str, headers: dict[str, str], body: bytes
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    ours = frames.encode(Frame(subject, reply, lines, body))
    if headers:
        assert ours == publishing["hpub_cmd"](subject, reply, frames.HEAD + lines + b"\r\n", body)
        assert frames.weight(lines, body) == len(frames.HEAD + lines + b"\r\n") + len(body)
    else:
        assert ours == publishing["pub_cmd"](subject, reply, body)


async def _echo(connection: Client, send: "list[Frame]", plain: bool) -> list[Msg]:
    inbox = connection.new_inbox()
    heard: list[Msg] = []
    whole = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.append(message)
        if len(heard) == len(send):
            whole.set()

    await connection.subscribe(inbox, cb=hear)  # pyright: ignore[reportUnknownMemberType] -- half typed in nats-py
    lot = [frame._replace(subject=inbox) for frame in send]
    if plain:
        assert frames.plain(connection)
        assert frames.write(connection, lot)
    else:
        await frames.publish(connection, lot)
    await asyncio.wait_for(whole.wait(), 5)
    return heard


@pytest.mark.asyncio
@pytest.mark.parametrize("plain", [True, False])
async def test_a_lot_arrives_whole_in_order_and_after_the_subscription(
    connection: Client, plain: bool
) -> None:
    """The subscription is still in nats-py's buffer when the frames are written."""
    send = [Frame("", "r", b"A: 1\r\nB: two words\r\n", b"%d" % at) for at in range(500)]
    send.append(Frame("", "", b"", b"bare"))
    heard = await _echo(connection, send, plain)
    assert [message.data for message in heard] == [frame.body for frame in send]
    assert heard[0].headers == {"A": "1", "B": "two words"}
    assert (heard[0].reply, heard[-1].reply, heard[-1].headers) == ("r", "", None)


@pytest.mark.asyncio
async def test_nothing_is_written_to_a_closed_connection(connection: Client) -> None:
    await connection.close()
    assert not frames.write(connection, [Frame("a", "", b"", b"")])


def test_a_client_of_another_make_is_told_apart() -> None:
    assert not frames.plain(Client())
