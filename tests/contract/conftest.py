"""A real nats-server with all streams for the whole run, and connections to it."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client

from bus.bridge import Bridge
from bus.server import Server
from bus.streams import ensure


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """One server, shared; whoever kills a server starts one of its own."""
    server = Server(tmp_path_factory.mktemp("data"), port=0)
    server.start()
    bridge = Bridge(server.url("node"))
    bridge.start()
    bridge.call(ensure(bridge.js), 20)
    bridge.stop()
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path: Path) -> Generator[Server]:
    """Make a server for one test that does something cruel to it."""
    server = Server(tmp_path, port=0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bridge(server: Server) -> Generator[Bridge]:
    """Connect as the node does."""
    bridge = Bridge(server.url("node"))
    bridge.start()
    yield bridge
    bridge.stop()


@pytest_asyncio.fixture
async def connection(server: Server) -> AsyncGenerator[Any]:
    """Connect with plain nats-py as the node."""
    client: Any = Client()
    await client.connect(server.url("node"))
    yield client
    await client.close()
