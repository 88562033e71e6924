"""One suite for everything that keeps artifacts, whatever it is made of."""

import hashlib
import secrets
from collections.abc import Callable, Generator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from actors import depot
from events.errors import HindbrainError, NotFound, Validation
from events.ports import Depot, Place

Make = Callable[[], Depot]


@pytest.fixture(scope="session")
def bucket() -> Generator[str]:
    """Run a server that speaks S3, and make a bucket in it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.put(f"{url}/artifacts").raise_for_status()
    yield url
    server.stop()


@pytest.fixture(params=["local", "nats", "s3"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Open the same depot, as often as it is called."""
    bus = request.getfixturevalue("bridge") if request.param == "nats" else None
    if request.param == "s3":
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        for name, value in (keys | {"AWS_ENDPOINT_URL": request.getfixturevalue("bucket")}).items():
            monkeypatch.setenv(name, value)
    place = Place(tmp_path / "workspace" / "artifacts", "s3://artifacts/some/prefix", bus)
    return lambda: depot.maker(request.param)(place)


def source(folder: Path, data: bytes) -> tuple[str, Path]:
    path = folder / secrets.token_hex(8)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest(), path


def read(there: Depot, sha256: str, folder: Path) -> bytes:
    target = folder / secrets.token_hex(8)
    there.fetch(sha256, target)
    assert target.stat().st_mode & 0o777 == 0o600
    return target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 131_072, 1_000_003])
def test_what_was_put_is_read_back_by_whoever_opens_it_later(make: Make, tmp_path: Path, size: int) -> None:
    data = secrets.token_bytes(size)
    sha256, path = source(tmp_path, data)
    make().put(sha256, path)
    assert make().size(sha256) == size
    assert read(make(), sha256, tmp_path) == data


def test_putting_it_twice_changes_nothing(make: Make, tmp_path: Path) -> None:
    sha256, path = source(tmp_path, secrets.token_bytes(1000))
    there = make()
    there.put(sha256, path)
    there.put(sha256, path)
    assert read(there, sha256, tmp_path) == path.read_bytes()


def test_what_is_not_there_has_no_size_and_cannot_be_read(make: Make, tmp_path: Path) -> None:
    there, sha256 = make(), hashlib.sha256(secrets.token_bytes(8)).hexdigest()
    assert there.size(sha256) is None
    target = tmp_path / "target"
    with pytest.raises((NotFound, FileNotFoundError)):
        there.fetch(sha256, target)
    assert not target.exists()


def test_what_was_removed_is_gone_and_can_come_back(make: Make, tmp_path: Path) -> None:
    sha256, path = source(tmp_path, secrets.token_bytes(300_000))
    there = make()
    there.put(sha256, path)
    there.remove(sha256)
    there.remove(sha256)
    assert there.size(sha256) is None
    there.put(sha256, path)
    assert read(there, sha256, tmp_path) == path.read_bytes()


def test_half_of_it_is_put_again(tmp_path: Path) -> None:
    sha256, path = source(tmp_path, secrets.token_bytes(1000))
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / sha256).write_bytes(b"half")
    there = depot.Local(Place(folder=folder))
    there.put(sha256, path)
    assert read(there, sha256, tmp_path) == path.read_bytes()
    assert [each.name for each in folder.iterdir()] == [sha256]


def test_who_keeps_nothing_is_refused_with_those_that_do() -> None:
    with pytest.raises(Validation, match="did you mean 'local'"):
        depot.maker("locl")
    with pytest.raises(Validation, match=r"weaviate keeps vectors.*local, nats, s3"):
        depot.maker("weaviate")


def test_the_bus_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(HindbrainError, match="bus"):
        depot.maker("nats")(Place(folder=tmp_path))


def test_a_bucket_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="s3://bucket/prefix"):
        depot.maker("s3")(Place(folder=tmp_path))
