"""The MCP Inspector, which others test their servers with, calls every tool over both transports."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from foreign import Place, clean

from interfaces.mcp.table import TOOLS

pytestmark = pytest.mark.whole
SOURCE = Path(__file__).parent / "inspector" / "package.json"
CACHE = Path(__file__).parents[1] / ".cache"


@pytest.fixture(scope="module")
def inspector() -> Path:
    """Have npm bring it, once."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on this machine: the MCP Inspector was not run")
    folder = CACHE / f"inspector-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copy(SOURCE, folder)
        if not (folder / "installed").exists():
            words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(words, cwd=folder, capture_output=True, timeout=170, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm could not bring the MCP Inspector: {done.stderr.decode()[-300:]}")
            (folder / "installed").touch()
    return folder / "node_modules" / ".bin" / "mcp-inspector"


def ask(inspector: Path, server: list[str], *words: str) -> dict[str, Any]:
    """Run it on a server and read what it prints."""
    done = subprocess.run(
        [inspector, "--cli", *server, *words], env=clean(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_the_inspector_lists_and_calls_every_tool(
    inspector: Path, place: Place, tmp_path: Path, way: str
) -> None:
    if way == "http":
        server = [f"{place.info['http_url']}/mcp", "--transport", "http"]
    else:
        command, *arguments = place.command("mcp")
        config = tmp_path / "servers.json"
        known: dict[str, Any] = {"command": command, "args": arguments, "env": {}}
        config.write_text(json.dumps({"mcpServers": {"brain": known}}))
        server = ["--config", str(config), "--server", "brain"]

    def call(tool: str, **arguments: Any) -> dict[str, Any]:
        words = [f"{name}={value}" for name, value in arguments.items()]
        given = [each for word in words for each in ("--tool-arg", word)]
        reply = ask(inspector, server, "--method", "tools/call", "--tool-name", tool, *given)
        called.add(tool)
        assert not reply.get("isError"), reply
        return reply["structuredContent"]

    called: set[str] = set()
    listed = ask(inspector, server, "--method", "tools/list")["tools"]
    assert [tool["name"] for tool in listed] == list(TOOLS)
    one = call("execute", code="print(6 * 7)")["execution_id"]
    assert call("wait", execution_id=one, timeout_seconds=45)["done"]
    assert call("result", execution_id=one)["result"]["stdout"] == "42\n"
    assert call("status", execution_id=one)["execution"]["status"] == "completed"
    assert call("output", execution_id=one)["end"]
    assert call("cancel", execution_id=one)["changed"] is False
    assert call("list", limit=1)["executions"]
    assert call("catch_up", max_tokens=500)["changes"]
    assert call("sql", query="SELECT 1 AS one")["rows"] == [[1]]
    plan = json.dumps({"steps": [{"name": "a", "shell": {"command": "true"}}]})
    made = call("plan_submit", plan=plan)["plan_id"]
    assert call("plan_status", plan_id=made)["id"] == made
    assert called == set(TOOLS)
    read = ask(inspector, server, "--method", "resources/read", "--uri", f"brain://executions/{one}/stdout")
    assert read["contents"][0]["text"] == "42\n"
    templates = ask(inspector, server, "--method", "resources/templates/list")["resourceTemplates"]
    assert len(templates) == 4
