"""What the guides for newcomers show is run as it stands there, with a node of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"

pytestmark = pytest.mark.whole


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (GUIDES / name).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def around(tmp_path: Path) -> Generator[dict[str, str]]:
    """The environment of a newcomer: the command line on the path, and a data folder that is fresh."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "hindbrain").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m interfaces.cli "$@"\n')
    (tools / "hindbrain").chmod(0o755)
    ports = {"HINDBRAIN_HTTP__PORT": "0", "HINDBRAIN_NATS__PORT": "0"}
    around = {**kept, **ports, "HINDBRAIN_DATA": str(tmp_path / "d"), "PATH": f"{tools}:{kept['PATH']}"}
    yield around
    typed("hindbrain down --cancel", around, tmp_path)
    server = tmp_path / "d" / "nats" / "server.json"
    if server.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(server.read_bytes())["pid"], signal.SIGTERM)


def typed(script: str, around: dict[str, str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-e", "-c", script],
        env=around,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )


def test_the_page_about_background_work_is_true(around: dict[str, str], tmp_path: Path) -> None:
    done = typed("".join(blocks("background.md", "sh")), around, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("exec_", "line 3", "it ended with 3", "exit code 3", "5/5", "completed"):
        assert said in done.stdout, (said, done.stdout)


def test_the_page_about_a_web_back_end_is_true(around: dict[str, str], tmp_path: Path) -> None:
    up = typed("hindbrain up --detach && hindbrain info --json", around, tmp_path)
    assert up.returncode == 0, up.stderr
    url = re.findall(r'"http_url": ?"([^"]+)"', up.stdout)[0]
    (code,) = blocks("backend.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "backend.md", "exec"), names)
    work = names["Work"](url)
    one = work.begin("7", ["sh", "-c", "echo hello"])
    assert work.begin("7", ["sh", "-c", "echo hello"]) == one
    assert any('"text":"hello' in line.replace(": ", ":") for line in work.follow(one))
    assert work.look(one)["status"] == "completed"
    assert work.stop(one) is False
    with pytest.raises(RuntimeError, match="not_found"):
        work.look("exec_" + "0" * 26)
    work.http.close()
