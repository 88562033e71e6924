"""Artifacts from the command line: kept once, checked when read, removed only when nobody needs them."""

import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Run = Callable[..., "CompletedProcess[bytes]"]


@pytest.fixture
def told(node: Run) -> Callable[..., Any]:
    def ask(*arguments: str, **more: str) -> Any:
        done = node(*arguments, "--json", **more)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
        return json.loads(done.stdout)

    return ask


def file(folder: Path, size: int = 100) -> Path:
    path = folder / f"{secrets.token_hex(4)}.bin"
    path.write_bytes(secrets.token_bytes(size))
    return path


@pytest.mark.parametrize("backend", ["local", "nats"])
@pytest.mark.parametrize("size", [0, 100, 700_000])
def test_a_file_goes_in_and_comes_out(
    node: Run, told: Callable[..., Any], tmp_path: Path, backend: str, size: int
) -> None:
    path = file(tmp_path, size)
    kept = told("artifact", "register", str(path), "--backend", backend, "--workspace", f"w{backend}{size}")
    assert kept["artifact_id"] == f"art_{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert kept["size"] == size
    out = tmp_path / "out"
    assert node("artifact", "get", kept["artifact_id"], "-o", str(out)).returncode == 0
    assert out.read_bytes() == path.read_bytes()
    assert node("artifact", "get", kept["artifact_id"]).stdout == path.read_bytes()


def test_the_same_content_is_kept_once_in_the_folder_of_its_workspace(
    told: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    path = file(tmp_path)
    first = told("artifact", "register", str(path), "--workspace", "once")
    second = told("artifact", "register", str(path), "--workspace", "twice", "--name", "other.bin")
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert second["workspace_id"] == "once"
    folder = data / "workspaces" / "once" / "artifacts"
    assert [each.name for each in folder.iterdir()] == [first["sha256"]]
    assert not (data / "workspaces" / "twice" / "artifacts").exists()
    assert [each["name"] for each in told("artifact", "list", "--workspace", "once")] == ["other.bin"]


def test_a_flipped_byte_is_found_and_named(
    node: Run, told: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    kept = told("artifact", "register", str(file(tmp_path)), "--workspace", "flipped")
    there = data / "workspaces" / "flipped" / "artifacts" / kept["sha256"]
    content = bytearray(there.read_bytes())
    content[50] ^= 1
    there.write_bytes(content)
    done = node("artifact", "get", kept["artifact_id"], "-o", str(tmp_path / "out"))
    assert done.returncode != 0
    assert kept["artifact_id"] in done.stderr.decode()
    assert "damaged" in done.stderr.decode()
    assert not (tmp_path / "out").exists()
    there.unlink()
    again = told("artifact", "register", str(tmp_path / next(tmp_path.glob("*.bin")).name))
    assert again["artifact_id"] == kept["artifact_id"]
    assert node("artifact", "get", kept["artifact_id"], "-o", str(tmp_path / "out")).returncode == 0


def test_only_what_nobody_needs_is_removed(node: Run, told: Callable[..., Any], tmp_path: Path) -> None:
    needed, idle = file(tmp_path), file(tmp_path)
    mine = told("artifact", "register", str(needed), "--workspace", "prune", "--reference", "somebody")
    free = told("artifact", "register", str(idle), "--workspace", "prune")
    prune = ("artifact", "prune", "--older", "0", "--workspace", "prune")
    rehearsed = told(*prune, "--rehearse")
    assert [each["id"] for each in rehearsed["rehearsed"]] == [free["artifact_id"]]
    assert told("artifact", "prune", "--older", "1h", "--workspace", "prune")["removed"] == []
    assert told(*prune)["removed"] == [free["artifact_id"]]
    assert node("artifact", "get", free["artifact_id"]).returncode == 2
    assert node("artifact", "get", mine["artifact_id"]).stdout == needed.read_bytes()
    listed = told("artifact", "list", "--reference", "somebody", "--workspace", "prune")
    assert [each["id"] for each in listed] == [mine["artifact_id"]]
    assert told("artifact", "release", mine["artifact_id"], "--reference", "somebody")["references"] == []
    assert told("artifact", "list", "--reference", "somebody", "--workspace", "prune") == []
    assert told(*prune)["removed"] == [mine["artifact_id"]]


def test_what_an_execution_registers_is_needed_by_it(
    node: Run, told: Callable[..., Any], tmp_path: Path
) -> None:
    path = file(tmp_path)
    command = ("hindbrain", "artifact", "register", str(path), "--workspace", "inside")
    done = node("run", "--label", "inside", "--", *command)
    assert done.returncode == 0, done.stderr
    (ended,) = told("list", "--label", "inside")
    found = told("artifact", "list", "--reference", ended["id"])
    assert [each["name"] for each in found] == [path.name]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "give one of"),
        ({"text": "a", "base64": "YQ=="}, "give one of"),
        ({"text": "a", "sha256": "0" * 64}, "not 0000"),
        ({"base64": "!"}, "base64"),
        ({"text": "a", "backend": "weaviate"}, "weaviate"),
        ({"text": "a", "workspace": "../x"}, "workspace name"),
        ({"path": "relative"}, "absolute"),
        ({"path": "/nowhere/at/all"}, "No such file"),
        ({"blob": "0" * 64}, "no blob"),
    ],
)
def test_what_cannot_be_kept_is_refused(data: Path, body: dict[str, Any], text: str) -> None:
    import asyncio

    from events.errors import Refusal
    from interfaces.api import ExecutionEngine

    async def register() -> None:
        async with ExecutionEngine.new({"data": data}) as engine:
            await engine.request("artifact", "register", name="x", **body)

    with pytest.raises(Refusal, match=text):
        asyncio.run(register())
