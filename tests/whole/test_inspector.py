"""The MCP Inspector, which others test their servers with, lists and calls the tools over both transports."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreign import Place, clean

from interfaces.mcp.table import TOOLS
from tests.waiting import until

# Every call is a process of its own or two, which takes its time on a busy machine.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(600)]
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
    return folder / "node_modules"


def ask(inspector: Path, server: list[str], *words: str) -> dict[str, Any]:
    """Run it on a server and read what it prints."""
    start: list[str | Path] = [inspector / ".bin" / "mcp-inspector", "--cli"]
    if "--config" not in server:
        # With a URL there is nothing to look up: this is what it would start.
        start = ["node", inspector / "@modelcontextprotocol" / "inspector-cli" / "build" / "index.js"]
    done = subprocess.run(
        [*start, *server, *words], env=clean(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["stdio", "http"])
def test_the_inspector_lists_and_calls_the_tools(
    inspector: Path, place: Place, tmp_path: Path, way: str
) -> None:
    if way == "http":
        server = [f"{place.wrote['http_url']}/mcp", "--transport", "http"]
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
    plugins = ("generate", "site-builder-content-generation")
    until(lambda: b"generate" in httpx.post(f"{place.wrote['http_url']}/api/plugin/tools").content)
    listed = [tool["name"] for tool in ask(inspector, server, "--method", "tools/list")["tools"]]
    assert listed == [*TOOLS, *plugins]
    one = call("execute", code="print(6 * 7)")["execution_id"]
    assert call("wait", execution_id=one, timeout_seconds=45)["done"]
    assert call("result", execution_id=one)["result"]["stdout"] == "42\n"
    plan = json.dumps({"steps": [{"name": "a", "shell": {"command": "true"}}]})
    made = call("plan_submit", plan=plan)["plan_id"]
    if way == "http":
        # Over standard input and output a call is three new processes: `test_mcp` calls them all that way.
        assert call("plan_status", plan_id=made)["id"] == made
        shorter(call, one)
        longer(call, tmp_path)
        assert called == set(listed), "a tool that is not called here is not tested"
    read = ask(inspector, server, "--method", "resources/read", "--uri", f"brain://executions/{one}/stdout")
    assert read["contents"][0]["text"] == "42\n"
    templates = ask(inspector, server, "--method", "resources/templates/list")["resourceTemplates"]
    assert len(templates) == 7


def shorter(call: Callable[..., dict[str, Any]], one: str) -> None:
    """Use the tools that tell of an execution, and of everything."""
    assert call("status", execution_id=one)["execution"]["status"] == "completed"
    assert call("output", execution_id=one)["end"]
    assert call("cancel", execution_id=one)["changed"] is False
    assert call("list", limit=1)["executions"]
    assert call("catch_up", max_tokens=500)["changes"]
    assert call("sql", query="SELECT 1 AS one")["rows"] == [[1]]


def longer(call: Callable[..., dict[str, Any]], folder: Path) -> None:
    """Use the tools for playbooks, and those of the plugin that comes along."""
    ship = {"name": "sure", "input": {"message": "Ship it?", "schema": {"type": "string"}}}
    book = json.dumps({"name": "chain", "phases": [{"id": "one", "steps": [ship]}]})
    chain = call("playbook_run", playbook=book)["playbook_id"]
    assert call("wait", execution_id=chain, timeout_seconds=45)["execution"]["status"] == "waiting_input"
    assert call("playbook_bearings", playbook_id=chain)["asked"]["message"] == "Ship it?"
    assert call("playbook_pause", playbook_id=chain)["changed"]
    assert call("playbook_resume", playbook_id=chain)["changed"]
    assert call("playbook_answer", playbook_id=chain, value="yes")["changed"]
    assert call("wait", execution_id=chain, timeout_seconds=45)["done"]
    assert call("playbook_list", limit=1)["playbooks"][0]["id"] == chain
    assert call("playbook_checkpoints", playbook_id=chain)["checkpoints"]
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text("# Home\n")
    docs = str(folder / "docs")
    assert call("generate", page="landing", workingDir=docs)["batchId"].startswith("plan_")
    section = call("site-builder-content-generation", page="landing", section="hero", workingDir=docs)
    assert section["jobId"].startswith("exec_")
