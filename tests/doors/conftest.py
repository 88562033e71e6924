"""A whole node with its own processes, reached as anybody would reach it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Whatever uses the node of this folder starts a whole one; nobody has to remember to say so."""
    for item in items:
        if FOLDER in item.path.parents and "data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.whole)


def clean(data: Path) -> dict[str, str]:
    """Our environment, with a data folder and nothing else of Hindbrain's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
    return {**kept, "HINDBRAIN_DATA": str(data)}


def call(
    data: Path, *arguments: str, stdin: bytes = b"", **more: str
) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", "-m", "interfaces.cli", *arguments]
    return subprocess.run(
        command, env=clean(data) | more, capture_output=True, timeout=60, input=stdin, check=False
    )


@pytest.fixture(name="call")
def _call() -> Run:
    """The command line with any data folder."""
    return call


@pytest.fixture
def hindbrain(tmp_path: Path) -> Run:
    """The command line where no node runs."""
    return lambda *arguments, **more: call(tmp_path / "none", *arguments, **more)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """The data folder of a node that runs for all tests of this folder."""
    folder = tmp_path_factory.mktemp("d")
    up = call(folder, "up", "--detach", "--json", "--http-port", "0", "--nats-port", "0")
    assert up.returncode == 0, up.stderr.decode()
    info = json.loads((folder / "node.json").read_bytes())
    yield folder
    down = call(folder, "down", "--cancel")
    with contextlib.suppress(ProcessLookupError):
        os.kill(info["nats_pid"], 15)
    assert down.returncode == 0, down.stderr.decode()


@pytest.fixture
def node(data: Path) -> Run:
    """The command line next to a node."""
    return lambda *arguments, **more: call(data, *arguments, **more)
