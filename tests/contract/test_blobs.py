"""Large texts under their hash, as any NATS client puts and reads them."""

import asyncio
import hashlib
import secrets
import tracemalloc
from pathlib import Path

import pytest
from nats.aio.client import Client

from bus.blobs import Blobs, put
from bus.bridge import Bridge
from bus.client import Client as Door
from bus.server import Server
from events.errors import HindbrainError, NotFound, TooLarge, Validation

DEADLINE = 30.0
pytestmark = pytest.mark.asyncio


async def fetch(blobs: Blobs, name: str, path: Path) -> HindbrainError | None:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[HindbrainError | None] = loop.create_future()
    blobs.fetch(name, str(path), lambda error: loop.call_soon_threadsafe(answered.set_result, error) and None)
    return await asyncio.wait_for(answered, DEADLINE)


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def foreign(connection: Client, name: str, data: bytes) -> None:
    """Put it as plain nats-py does."""
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    await (await js.object_store("BRAIN_BLOBS")).put(name, data)  # pyright: ignore[reportUnknownMemberType] -- the same


@pytest.mark.parametrize("size", [0, 1, 131_072, 1_000_003])
async def test_what_a_foreign_client_put_is_fetched(
    bridge: Bridge, connection: Client, tmp_path: Path, size: int
) -> None:
    data = secrets.token_bytes(size)
    await foreign(connection, named(data), data)
    path = tmp_path / "blob"
    assert await fetch(Blobs(bridge), named(data), path) is None
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_we_put_is_read_by_a_foreign_client_and_put_once(
    server: Server, connection: Client, tmp_path: Path
) -> None:
    data = secrets.token_bytes(700_001)
    path = tmp_path / "source"
    path.write_bytes(data)
    js = connection.jetstream()  # pyright: ignore[reportUnknownMemberType] -- nats-py leaves its options untyped
    async with await Door.connect(server.url("client")) as door:
        assert await door.put(data) == named(data)
        before = (await js.stream_info("OBJ_BRAIN_BLOBS")).state.last_seq
        assert await door.put(path) == named(data)
    assert (await js.stream_info("OBJ_BRAIN_BLOBS")).state.last_seq == before
    found = await (await js.object_store("BRAIN_BLOBS")).get(named(data))  # pyright: ignore[reportUnknownMemberType] -- the same
    assert found.data == data


async def test_what_is_missing_wrong_or_too_large_is_refused_and_leaves_no_file(
    bridge: Bridge, connection: Client, tmp_path: Path
) -> None:
    path = tmp_path / "blob"
    assert isinstance(await fetch(Blobs(bridge), named(secrets.token_bytes(9)), path), NotFound)
    assert isinstance(await fetch(Blobs(bridge), "../../etc", path), Validation)
    lie = named(secrets.token_bytes(9))
    await foreign(connection, lie, b"something else")
    assert isinstance(await fetch(Blobs(bridge), lie, path), Validation)
    data = secrets.token_bytes(2000)
    await foreign(connection, named(data), data)
    assert isinstance(await fetch(Blobs(bridge, limit=1999), named(data), path), TooLarge)
    with pytest.raises(TooLarge):
        await put(bridge, data, limit=1999)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  nothing else runs in this loop


async def test_a_large_blob_passes_with_little_memory(server: Server, bridge: Bridge, tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "blob"
    block = secrets.token_bytes(1024 * 1024)
    with source.open("wb") as file:
        for n in range(60):
            file.write(block[n:] + block[:n])
    async with await Door.connect(server.url("client")) as door:
        name = await door.put(source)
    tracemalloc.start()
    assert await fetch(Blobs(bridge), name, path) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 1024 * 1024
    assert hashlib.sha256(path.read_bytes()).hexdigest() == name
