"""Output on its way: all of it, in order, and honest about what is in doubt."""

import asyncio
import itertools
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bus.bridge import Bridge
from bus.client import Client
from bus.output import Outlet
from bus.server import Server
from bus.streams import ensure
from events.ports import Chunk
from tests.waiting import turned

DEADLINE = 120.0
STAMP = "2026-01-01T00:00:00.000Z"
pytestmark = pytest.mark.asyncio


def fresh() -> str:
    return f"exec_{secrets.token_hex(8)}"


def cut(entity: str, data: bytes, stream: str = "stdout", size: int = 1000, at: int = 0) -> list[Chunk]:
    """Data as chunks, with the end behind it."""
    parts = [
        Chunk(entity, stream, at + start, 1, STAMP, data[start : start + size])
        for start in range(0, len(data), size)
    ]
    return [*parts, Chunk(entity, stream, at + len(data), 1, STAMP, b"", True)]


async def sent(outlet: Outlet, chunks: list[Chunk]) -> bool:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()
    outlet.output(chunks, lambda good: loop.call_soon_threadsafe(answered.set_result, good) and None)
    return await asyncio.wait_for(answered, DEADLINE)


async def reached(outlet: Outlet, entity: str, stream: str = "stdout") -> int | None:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[int | None] = loop.create_future()
    outlet.offset(
        entity, stream, lambda offset: loop.call_soon_threadsafe(answered.set_result, offset) and None
    )
    return await asyncio.wait_for(answered, DEADLINE)


async def read(server: Server, entity: str, **offsets: Any) -> dict[str, bytes]:
    """All output as a client sees it, checked to have neither gap nor repetition."""
    offsets = {"stdout": 0, "stderr": None, **offsets}
    found = {stream: b"" for stream, offset in offsets.items() if offset is not None}
    async with await Client.connect(server.url("client")) as client:
        async with asyncio.timeout(DEADLINE):
            async for chunk in client.subscribe_output(entity, **offsets):
                assert chunk.offset == (offsets[chunk.stream] or 0) + len(found[chunk.stream])
                found[chunk.stream] += chunk.data
    return found


async def restored(outlet: Outlet, entity: str, path: Path) -> bool:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()
    outlet.restore(
        entity, "stdout", path, lambda good: loop.call_soon_threadsafe(answered.set_result, good) and None
    )
    return await asyncio.wait_for(answered, DEADLINE)


async def test_what_is_stored_is_brought_into_a_file_behind_what_is_there(
    bridge: Bridge, tmp_path: Path
) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    empty, begun = tmp_path / "empty", tmp_path / "begun"
    assert await restored(outlet, entity, empty)
    assert empty.read_bytes() == b""
    data = secrets.token_bytes(12_345)
    assert await sent(outlet, cut(entity, data)[:-1])
    assert await sent(outlet, cut(fresh(), b"of somebody else"))
    begun.write_bytes(data[:2500])
    for path in (empty, begun, begun):
        assert await restored(outlet, entity, path)
        assert path.read_bytes() == data


async def test_output_is_stored_and_its_end_is_known(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    assert await reached(outlet, entity) == 0
    data = secrets.token_bytes(12_345)
    chunks = cut(entity, data)
    assert await sent(outlet, chunks[:5])
    assert await reached(outlet, entity) == 5000
    assert await sent(outlet, chunks[5:])
    assert await reached(outlet, entity) == 12_345
    assert await read(server, entity) == {"stdout": data}


async def test_nothing_to_send_is_done_at_once(bridge: Bridge) -> None:
    assert await sent(Outlet(bridge), [])


async def test_a_reader_from_the_middle_sees_the_rest_of_both_streams(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    one, two = secrets.token_bytes(5000), secrets.token_bytes(3000)
    both = itertools.chain.from_iterable(
        itertools.zip_longest(cut(entity, one, size=700), cut(entity, two, "stderr", size=300))
    )
    assert await sent(outlet, [chunk for chunk in both if chunk is not None])
    assert await read(server, entity, stdout=1234, stderr=2999) == {
        "stdout": one[1234:],
        "stderr": two[2999:],
    }


async def test_a_reader_who_was_there_first_sees_it_come(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    reading = asyncio.ensure_future(read(server, entity))
    for chunk in cut(entity, b"abc" * 500, size=400):
        assert await sent(outlet, [chunk])
    assert (await reading)["stdout"] == b"abc" * 500


async def test_repeated_and_overlapping_pieces_are_shown_once(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    data = secrets.token_bytes(4000)
    assert await sent(outlet, cut(entity, data, size=1000)[:3])
    assert await sent(outlet, cut(entity, data[1500:], size=900, at=1500))
    assert (await read(server, entity))["stdout"] == data


async def test_a_piece_that_was_lost_is_filled_in_and_shown_in_order(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    data = secrets.token_bytes(3000)
    parts = cut(entity, data)
    reading = asyncio.ensure_future(read(server, entity))
    for each in (parts[0], parts[2], parts[1], parts[2], parts[3]):
        assert await sent(outlet, [each])
    assert (await reading)["stdout"] == data


async def test_what_is_too_large_for_the_bus_is_in_doubt_and_nothing_behind_it_is_sent(
    bridge: Bridge,
) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    large = Chunk(entity, "stdout", 4, 1, STAMP, bytes(9 * 1024 * 1024))
    behind = Chunk(entity, "stdout", 4 + len(large.data), 1, STAMP, b"behind")
    assert await sent(outlet, [Chunk(entity, "stdout", 0, 1, STAMP, b"good")])
    assert not await sent(outlet, [large, behind])
    assert await reached(outlet, entity) == 4
    assert not await sent(outlet, [behind])
    assert await sent(outlet, cut(entity, b"again", at=4))
    assert await reached(outlet, entity) == 9


async def test_200_mib_pass_with_a_small_window(bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    block = secrets.token_bytes(65536)
    began = time.monotonic()
    for lot in range(25):
        start = lot * 128
        chunks = [Chunk(entity, "stdout", (start + n) * 65536, 1, STAMP, block) for n in range(128)]
        assert await sent(outlet, chunks)
    rate = 200 / (time.monotonic() - began)
    assert await reached(outlet, entity) == 200 * 1024 * 1024
    print(f"{rate:.0f} MiB/s")  # noqa: T201  shown when the test is run for its figure
    assert rate > 20


async def test_a_server_that_dies_leaves_doubt_and_sending_again_makes_it_whole(own: Server) -> None:
    bridge = Bridge(own.url("node"))
    await asyncio.to_thread(bridge.start)
    await asyncio.to_thread(lambda: bridge.call(ensure(bridge.js), 20))
    entity, outlet = fresh(), Outlet(bridge)
    data = secrets.token_bytes(12_000_000)
    reading = asyncio.ensure_future(read(own, entity))
    sending = asyncio.ensure_future(sent(outlet, cut(entity, data, size=500)[:-1]))
    pid = own.pid
    assert pid is not None

    async def begun() -> bool:
        return (await reached(outlet, entity) or 0) >= 50_000

    await turned(begun)
    os.kill(pid, signal.SIGKILL)
    assert not await sending
    await asyncio.to_thread(own.restart)

    async def known() -> tuple[int] | None:
        found = await reached(outlet, entity)
        return None if found is None else (found,)

    (at,) = await turned(known) or (0,)
    assert 0 <= at < len(data)
    assert await sent(outlet, cut(entity, data[at:], size=50_000, at=at))
    assert (await reading)["stdout"] == data
    await asyncio.to_thread(bridge.stop)


async def test_progress_and_samples_reach_whoever_listens(server: Server, bridge: Bridge) -> None:
    entity, outlet = fresh(), Outlet(bridge)
    async with (
        await Client.connect(server.url("client")) as client,
        await client.subscribe_progress(entity) as watch,
        asyncio.timeout(DEADLINE),
    ):
        for n in range(3):
            outlet.progress("execution", entity, {"id": entity, "current": n, "final": n == 2})
        heard = [message["current"] async for message in watch if message is not None]
    assert heard == [0, 1, 2]
    outlet.sample(("execution", entity), {"cpu": 0.5})
    subject = f"$JS.API.DIRECT.GET.BRAIN_TELEMETRY.brain.tel.execution.{entity}"

    async def stored() -> bytes:
        reply = asyncio.run_coroutine_threadsafe(bridge.request(subject), bridge.loop)
        return (await asyncio.wrap_future(reply)).data

    assert await turned(stored) == b'{"cpu":0.5}'
