"""A whole node in a folder of its own, and a stranger who has only its URL."""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from browsing import chromium
from foreign import Foreign, Place, connect
from keepers import Node, gone
from playwright.async_api import Browser

from actors.keeping import Spawned
from tests.waiting import until

FOLDER = Path(__file__).parent
JS = FOLDER / "js"
CACHE = FOLDER.parents[1] / ".cache"


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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    """Give the tests of one file a folder for a node that they set up in their way and do no harm."""
    place = Place(tmp_path_factory.mktemp("s") / "d")
    yield place
    place.end()


@pytest.fixture(scope="session")
def info(place: Place) -> dict[str, Any]:
    """What the node says of itself."""
    return place.info


@pytest.fixture(scope="session")
def js() -> Path:
    """Copy the sources beside their packages, which npm brings once."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on this machine: the JavaScript client was not tried")
    wanted = (JS / "package.json").read_bytes()
    folder = CACHE / f"js-{hashlib.sha256(wanted).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for each in JS.iterdir():
            shutil.copy(each, folder)
        if not (folder / "installed").exists():
            words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(words, cwd=folder, capture_output=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr.decode()
            (folder / "installed").touch()
    return folder


@pytest_asyncio.fixture
async def bus(info: dict[str, Any]) -> AsyncGenerator[Foreign]:
    """A plain connection with the credentials of a client."""
    async with connect(info["nats_url"]) as bus:
        yield bus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    """One browser for all tests of a file, whose loop has to be that of the file, too."""
    async with chromium() as browser:
        yield browser


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
