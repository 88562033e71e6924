"""A whole node in a folder of its own, and a stranger who has only its URL."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, connect


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    """Run one node for all tests of this folder that do it no harm."""
    place = Place(tmp_path_factory.mktemp("w")).up()
    yield place
    place.end()


@pytest.fixture
def own(tmp_path: Path) -> Generator[Place]:
    """Give one test a folder for a node of its own, and clean up whatever it left."""
    place = Place(tmp_path / "d")
    yield place
    place.end()


@pytest.fixture(scope="session")
def info(place: Place) -> dict[str, Any]:
    """What the node says of itself."""
    return place.info


@pytest_asyncio.fixture
async def bus(info: dict[str, Any]) -> AsyncGenerator[Foreign]:
    """A plain connection with the credentials of a client."""
    async with connect(info["nats_url"]) as bus:
        yield bus
