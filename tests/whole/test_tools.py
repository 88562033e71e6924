"""Tools of a real MCP server, from the command line and as steps of a playbook."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign import Place, connect

pytestmark = pytest.mark.asyncio
ADDER = Path(__file__).parent / "adder.py"


@pytest.fixture(scope="module")
def tools(shared: Place) -> Place:
    shared.data.mkdir()
    lines = ["[mcp.adder]", f"command = {sys.executable!r}", f"args = ['{ADDER}']", "env = { MARK = '!' }"]
    lines += ["[mcp.gone]", "command = '/no/such/program'"]
    (shared.data / "hindbrain.toml").write_text("\n".join(lines) + "\n")
    return shared.up()


async def test_tools_are_steps_whose_answers_others_use(tools: Place, tmp_path: Path) -> None:
    said = tmp_path / "said"
    steps: list[dict[str, Any]] = [
        {"name": "sum", "mcp": {"server": "adder", "tool": "add", "arguments": {"a": 2, "b": "${params.n}"}}},
        {
            "name": "loud",
            "mcp": {"server": "adder", "tool": "shout", "arguments": {"words": 'a "${params.word}"'}},
        },
        {
            "name": "write",
            "shell": {
                "command": f"echo ${{steps.sum.outputs.content.sum}} ${{steps.loud.outputs.text}} > {said}"
            },
        },
        {"name": "bad", "mcp": {"server": "adder", "tool": "fail", "arguments": {"why": "because"}}},
    ]
    book = {
        "phases": [{"id": "p", "steps": steps}],
        "params": {"n": {"type": "integer", "default": 3}, "word": {"default": 'quoted " word'}},
    }
    async with connect(tools.wrote["nats_url"]) as bus:
        playbook = (await bus.ask("playbook.run", book))["playbook_id"]
        found = (await bus.ask("playbook.wait", {"playbook_id": playbook, "timeout_ms": 50_000}, 60))[
            "playbook"
        ]
        assert [step["status"] for step in found["steps"]] == [*["completed"] * 3, "failed"], found["error"]
        assert said.read_text() == '5 A "QUOTED " WORD"!\n'
        assert found["steps"][0]["command"] == "mcp adder/add"
        ask = {"execution_id": found["steps"][3]["execution_id"]}
        assert "because" in (await bus.ask("execution.result", ask))["result"]["stderr"]


async def test_what_is_not_there_is_said_with_what_is(tools: Place) -> None:
    listed = await asyncio.to_thread(tools.cli, "call", "adder")
    assert "add  Add two numbers." in listed.stdout.decode()
    for arguments, text in (
        (("adder", "ad"), "did you mean 'add'"),
        (("nobody",), "unknown MCP server 'nobody', there are adder, gone"),
        (("adder", "add", "[1]"), "have to be an object"),
    ):
        refused = await asyncio.to_thread(tools.cli, "call", *arguments)
        assert refused.returncode == 2
        assert text in refused.stderr.decode()
    gone = await asyncio.to_thread(tools.cli, "call", "gone")
    assert gone.returncode == 3
    assert "'gone' does not answer" in gone.stderr.decode()
    shown = await asyncio.to_thread(tools.cli, "settings", "--json")
    assert '"MARK":"***"' in shown.stdout.decode().replace(" ", "")
