"""A whole node in a folder of its own, and a stranger who has only its URL."""

from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, connect
from keepers import Node, gone

from actors.keeping import Spawned
from tests.waiting import until

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Whatever stands in this folder starts whole nodes; nobody has to remember to say so."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.whole)


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


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A keeper in a folder of its own; all it runs ends with the test."""
    one = Node(tmp_path)
    one.keeper.start()
    yield one
    pid = one.keeper.pid
    for each in {one.execution: one for one in one.told if isinstance(one, Spawned)}.values():
        one.keeper.kill(each.execution, 1, "shutdown", 0)
    one.keeper.retire()
    one.keeper.close()
    assert pid
    until(lambda: gone(pid))
