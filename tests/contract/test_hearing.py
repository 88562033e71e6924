"""What we read by hand is what nats-py would have read, however the bytes were cut on their way."""

import asyncio
import itertools
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus import hearing
from bus.bridge import Bridge

Seen = list[tuple[str, str, bytes, dict[str, str] | None]]

words = st.text("abcXYZ019-_.", min_size=1, max_size=20)
lines = st.dictionaries(words, st.text("ab é:/", max_size=12).map(str.strip), max_size=4)
status = st.sampled_from(["", " 404 No Messages", " 100 Idle Heartbeat"])
bare = f"HMSG a 1 {len('NATS/1.0 503') + 4} 16\r\nNATS/1.0 503\r\n\r\n\r\n".encode()
"""A status without words has no headers beside it: those nats-py would take for the words."""


@st.composite
def sent(draw: st.DrawFn) -> bytes:
    """A message as a server writes it, with or without headers."""
    subject, reply, body = draw(words), draw(st.one_of(st.just(""), words)), draw(st.binary(max_size=60))
    place = f"{subject} 1 {reply + ' ' if reply else ''}"
    if draw(st.booleans()):
        return f"MSG {place}{len(body)}\r\n".encode() + body + b"\r\n"
    said = "".join(f"{name}: {value}\r\n" for name, value in draw(lines).items())
    head = f"NATS/1.0{draw(status)}\r\n{said}\r\n".encode()
    return f"HMSG {place}{len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n"


def _noted(seen: Seen, message: Msg) -> None:
    seen.append((message.subject, message.reply, message.data, message.headers))


async def _read(pieces: list[bytes], ours: bool) -> Seen:
    """What a listener to subscription 1 hears, by our reading or by that of nats-py."""
    client: Any = Client()
    seen: Seen = []
    if ours:
        reader = hearing.attach(client)
        assert reader is not None
        reader.hear(types.SimpleNamespace(_id=1), lambda message: _noted(seen, message))
    else:

        async def theirs(sid: int, subject: bytes, reply: bytes, body: bytes, head: bytes | None) -> None:
            headers = await client._process_headers(head)  # noqa: SLF001  what ours has to agree with
            seen.append((subject.decode(), reply.decode(), body, headers))

        client._process_msg = theirs  # noqa: SLF001  what ours has to agree with
    for piece in pieces:
        await client._ps.parse(piece)  # noqa: SLF001  what its reading loop calls
    return seen


@given(
    st.lists(st.one_of(sent(), st.sampled_from([b"+OK\r\n", bare])), max_size=8),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_any_messages_cut_anywhere_are_read_as_nats_py_reads_them(
    messages: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pieces = [whole[first:last] for first, last in itertools.pairwise(edges)]
    assert asyncio.run(_read(pieces, ours=True)) == asyncio.run(_read([whole], ours=False))


def test_what_a_bridge_hears_it_reads_by_hand(bridge: Bridge) -> None:
    assert isinstance(vars(bridge.connection)["_ps"], hearing.Hearing)


def test_a_client_of_another_make_is_told_apart() -> None:
    client: Any = Client()
    client._ps = object()  # noqa: SLF001  another parser
    assert hearing.attach(client) is None


def test_without_the_private_parser_a_bridge_hears_the_same(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attach(client: Client) -> None: ...

    monkeypatch.setattr(hearing, "attach", attach)
    bridge.stop()
    bridge.start()
    assert b"stream_create_response" not in bridge.call(bridge.request("$JS.API.INFO"), 10).data
