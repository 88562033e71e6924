"""An agent has work done: every tool over both transports, the quoted replies, and nothing it can break.

It is long because every tool is used in one conversation, whose parts lead on to each other.
"""

import asyncio
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import mcp_types as wire
import pytest
from agents import TASKS, Agent, Tasking, about, listen, over_http, over_stdio
from foreign import Place, kill
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError

from interfaces.mcp.table import TOOLS, named
from interfaces.mcp.tools import NAME, tokens
from tests.waiting import became, turned

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

NOBODY = "exec_" + "0" * 26
NOBODY_PLAYS = "play_" + "0" * 26
SAID = """print('::progress 6/10', flush=True)
print('half', flush=True)
"""
HELD = """import os, time
while not os.path.exists({gate!r}): time.sleep(0.01)
"""


def size_of(reply: dict[str, Any]) -> int:
    """Count the tokens of an answer."""
    return tokens(json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode())


def wait_for(gate: Path) -> str:
    """Code that says that it is at 60 % and goes on when a file is there."""
    return SAID + HELD.format(gate=str(gate))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_every_tool_works_over_both_ways_in_both_generations_of_the_protocol(
    own: Place, tmp_path: Path, way: str, mode: str
) -> None:
    info = own.up().wrote
    async with over_stdio(own, mode) if way == "stdio" else over_http(info["http_url"], mode) as agent:
        await everything(agent, info, tmp_path)


async def everything(agent: Agent, info: dict[str, Any], tmp_path: Path) -> None:
    """Use every tool, and look at every reply."""
    listed = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
    assert list(listed)[: len(TOOLS)] == list(TOOLS)
    gate = tmp_path / "gate"
    begin = HELD.format(gate=str(tmp_path / "begin"))
    made = await agent.call("execute", code=begin + wait_for(gate), description="the long one", labels=["a"])
    one = made["execution_id"]
    assert made == {
        "execution_id": one,
        "status": "queued",
        "message": "Execution queued. Check monitor for output.",
        "monitor_url": f"{info['http_url']}/executions/{one}",
    }
    assert re.fullmatch(r"exec_[0-9a-hjkmnp-tv-z]{26}", one)
    waiting = await agent.listening(one, await agent.running(one))
    (tmp_path / "begin").touch()
    seen = await waiting
    while seen["execution"]["last_output"] != "half":
        seen = await agent.further(one, seen)
    assert not seen["done"]
    assert any(message and "60% complete" in message for message in agent.told)

    shown = await agent.call("status", execution_id=one)
    started, elapsed = shown["execution"]["started"], shown["execution"]["elapsed_seconds"]
    assert shown == {
        "execution": {
            "id": one,
            "status": "running",
            "started": started,
            "last_output": "half",
            "progress": "60% complete",
            "elapsed_seconds": elapsed,
            "eta_seconds": shown["execution"]["eta_seconds"],
        }
    }
    assert re.fullmatch(r"just now|\d+ seconds? ago|\d+ minutes? ago", started)
    assert 0 < elapsed < 60

    async def operation() -> Any:
        """What the tables know: they hear how far it is once a second."""
        background = await agent.call("status")
        count = len(background["operations"])
        assert background["message"] == f"{count} background operation{'s' if count > 1 else ''} in progress"
        (ours,) = [each for each in background["operations"] if each.get("jobId") == one]
        return ours if ours["progress"] else None

    assert await turned(operation) == {
        "jobId": one,
        "type": "code",
        "status": "processing",
        "plugin": "commands",
        "progress": "60% complete",
        "currentTask": "the long one",
    }
    assert (await agent.call("list", label="a", limit=1))["executions"][0]["id"] == one
    assert (await agent.refused("result", execution_id=one))["code"] == "not_over"
    gate.touch()
    over = await agent.call("wait", execution_id=one, timeout_seconds=45)
    assert (over["done"], over["execution"]["status"], over["execution"]["exit_code"]) == (
        True,
        "completed",
        0,
    )
    result = (await agent.call("result", execution_id=one))["result"]
    assert (result["exit_code"], result["success"], result["stdout"]) == (0, True, "::progress 6/10\nhalf\n")
    assert await agent.call("output", execution_id=one) == {
        "chunks": [{"stream": "stdout", "offset": 0, "text": "::progress 6/10\nhalf\n"}],
        "cursor": "o21.e0",
        "more": False,
        "end": True,
    }
    stopped = await agent.call("cancel", execution_id=one)
    assert (stopped["status"], stopped["changed"]) == ("completed", False)
    table = await agent.call("sql", query=f"SELECT status FROM executions WHERE id = '{one}'")
    assert (table["rows"], table["truncated"]) == ([["completed"]], False)
    before = await agent.call("sql", query="SELECT count(*) FROM executions", seq=1)
    assert before["seq"] == 1

    steps: list[Any] = [{"name": "a", "shell": {"command": "echo k=v > $HINDBRAIN_OUTPUT"}}]
    steps.append({"name": "b", "needs": ["a"], "shell": {"command": "exit 3"}})
    plan = await agent.call("plan_submit", plan={"name": "two", "strategy": "graph", "steps": steps})
    assert set(plan) == {"plan_id", "status", "message", "monitor_url"}
    done = await agent.call("wait", execution_id=plan["plan_id"], timeout_seconds=45)
    assert (done["done"], done["execution"]["status"]) == (True, "failed")
    stands = await agent.call("plan_status", plan_id=plan["plan_id"])
    a, b = stands["steps"]
    assert (a["outputs"], b["status"], b["exit_code"]) == ({"k": "v"}, "failed", 3)
    assert not (await agent.call("cancel", execution_id=plan["plan_id"]))["changed"]

    await chain(agent)
    news = await agent.call("catch_up", max_tokens=5000)
    assert {one, plan["plan_id"], b["execution_id"]} <= {each["id"] for each in news["changes"]}
    ranks = [each["status"] in ("failed", "timed_out", "open") for each in news["changes"]]
    assert ranks == sorted(ranks, reverse=True)
    assert await agent.call("catch_up", cursor=news["cursor"]) == {
        "counts": {},
        "changes": [],
        "more": 0,
        "cursor": news["cursor"],
    }

    text = (await agent.client.read_resource(f"brain://executions/{one}/stdout")).contents[0]
    assert isinstance(text, wire.TextResourceContents)
    assert text.text == "::progress 6/10\nhalf\n"
    known = (await agent.client.read_resource(f"brain://executions/{one}")).contents[0]
    assert isinstance(known, wire.TextResourceContents)
    assert json.loads(known.text)["status"] == "completed"
    uris = [each.uri for each in (await agent.client.list_resources()).resources]
    assert f"brain://executions/{one}/stdout" in uris
    templates = (await agent.client.list_resource_templates()).resource_templates
    assert "brain://executions/{id}/stdout" in [each.uri_template for each in templates]
    assert set(agent.calls) == set(TOOLS), "a tool that nobody calls here is not tested"


async def chain(agent: Agent) -> None:
    """Use every tool for playbooks: one that asks, is answered, paused, and resumed from a checkpoint."""
    ship = {"name": "sure", "input": {"message": "Ship it?", "schema": {"type": "boolean"}}}
    leave = {"name": "a", "shell": {"command": "echo content > left.txt"}, "artifacts": ["left.txt"]}
    phases = [{"id": "one", "steps": [leave, ship, {"name": "b", "shell": {"command": "echo end"}}]}]
    begun = await agent.call("playbook_run", playbook={"name": "chain", "phases": phases})
    assert set(begun) == {"playbook_id", "status", "message", "monitor_url"}
    one = begun["playbook_id"]
    asks = await agent.call("wait", execution_id=one, timeout_seconds=45)
    assert (asks["done"], asks["execution"]["status"]) == (False, "waiting_input")
    assert (asks["execution"]["why"], asks["execution"]["progress"]) == ("Ship it?", "1/3")
    bearings = await agent.call("playbook_bearings", playbook_id=one)
    assert (bearings["done"], bearings["next"], bearings["asked"]["message"]) == (["a"], "sure", "Ship it?")
    (kept,) = bearings["artifacts"]
    content = (await agent.client.read_resource(f"brain://artifacts/{kept['id']}")).contents[0]
    assert isinstance(content, wire.TextResourceContents)
    assert content.text == "content\n"
    uris = [each.uri for each in (await agent.client.list_resources()).resources]
    assert f"brain://artifacts/{kept['id']}" in uris
    for part, key in (("", "steps"), ("/bearings", "next")):
        known = (await agent.client.read_resource(f"brain://playbooks/{one}{part}")).contents[0]
        assert isinstance(known, wire.TextResourceContents)
        assert key in json.loads(known.text)
    assert (await agent.refused("playbook_answer", playbook_id=one, value="perhaps"))["code"] == "validation"
    paused = await agent.call("playbook_pause", playbook_id=one, reason="lunch")
    assert paused["changed"]
    assert (await agent.call("playbook_resume", playbook_id=one))["changed"]
    asks = await agent.call("wait", execution_id=one, timeout_seconds=45)
    assert asks["execution"]["status"] == "waiting_input"
    assert (await agent.call("playbook_answer", playbook_id=one, value=True))["changed"]
    over = await agent.call("wait", execution_id=one, timeout_seconds=45)
    assert (over["done"], over["execution"]["status"], over["execution"]["exit_code"]) == (
        True,
        "completed",
        0,
    )
    (row, *_) = (await agent.call("playbook_list", limit=1))["playbooks"]
    assert (row["id"], row["status"]) == (one, "completed")
    assert not (await agent.call("cancel", execution_id=one))["changed"]

    bad = {"name": "bad", "shell": {"command": "exit 3"}}
    good = {"name": "good", "shell": {"command": "echo x >> again.txt"}}
    begun = await agent.call("playbook_run", playbook={"phases": [{"id": "p", "steps": [good, bad]}]})
    two = begun["playbook_id"]
    stuck = await agent.call("wait", execution_id=two, timeout_seconds=45)
    assert (stuck["done"], stuck["execution"]["status"]) == (False, "paused")
    (first, *_) = (await agent.call("playbook_checkpoints", playbook_id=two))["checkpoints"]
    resumed = {"playbook_id": two, "checkpoint_id": first["checkpoint_id"]}
    assert (await agent.call("playbook_resume", **resumed))["changed"]
    stuck = await agent.call("wait", execution_id=two, timeout_seconds=45)
    assert (stuck["done"], stuck["execution"]["status"]) == (False, "paused")
    assert (await agent.call("cancel", execution_id=two))["status"] == "cancelled"


async def test_a_host_can_tell_what_a_tool_does(place: Place) -> None:
    async with over_stdio(place) as agent:
        tools = (await agent.client.list_tools()).tools
        info = agent.client.server_info
    assert info is not None
    assert info.name == "brain"
    reads = {"status", "wait", "output", "result", "list", "catch_up", "plan_status", "sql"}
    reads |= {"playbook_list", "playbook_bearings", "playbook_checkpoints"}
    tools = [tool for tool in tools if tool.name in TOOLS]
    for tool in tools:
        assert NAME.fullmatch(tool.name)
        assert tool.description
        assert tool.annotations
        assert tool.annotations.read_only_hint == (tool.name in reads)
        assert (tool.annotations.destructive_hint, tool.annotations.open_world_hint) == (
            tool.name not in reads | {"playbook_answer"},
            tool.name in ("execute", "plan_submit", "playbook_run", "playbook_resume"),
        )
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
    execute = next(tool for tool in tools if tool.name == "execute").input_schema
    assert execute["required"] == ["code"]
    assert {"code", "language", "timeout", "description", "working_dir"} <= set(execute["properties"])
    first = next(iter(TOOLS.values()))
    with pytest.raises(Exception, match="two tools"):
        named([first, first])


async def test_the_tables_that_are_named_are_there(place: Place) -> None:
    async with over_stdio(place) as agent:
        found = await agent.call("sql", query="SELECT DISTINCT table_name FROM duckdb_columns()")
        words = TOOLS["sql"].text.split("Tables:")[1].split("DESCRIBE")[0]
        named = set(re.findall(r"([a-z_]+)(?: \(|, |\.)", re.sub(r"\([^)]*\)", "(", words)))
        assert named
        assert named <= {row[0] for row in found["rows"]}


async def test_output_comes_in_portions_that_lead_on(place: Place) -> None:
    code = "import sys\nfor n in range(2000):\n  sys.stdout.write(f'{n} ä€𝄞\\n')\n"
    code += "  if n % 100 == 0: print('err', n, file=sys.stderr)\nsys.stdout.buffer.write(b'\\xc3')"
    whole = "".join(f"{n} ä€𝄞\n" for n in range(2000)) + "\N{REPLACEMENT CHARACTER}"
    async with over_stdio(place) as agent:
        one = (await agent.call("execute", code=code))["execution_id"]
        assert (await agent.call("wait", execution_id=one, timeout_seconds=45))["done"]
        for budget in ({"max_bytes": 1000}, {"max_tokens": 300}, {"max_bytes": 7001, "max_tokens": 2000}):
            text, errors, cursor, count = "", "", None, 0
            while True:
                reply = await agent.call("output", execution_id=one, cursor=cursor, **budget)
                size = sum(len(chunk["text"].encode()) for chunk in reply["chunks"])
                assert size <= budget.get("max_bytes", 10**9) + 3
                assert size_of(reply) <= budget.get("max_tokens", 10**9)
                text += "".join(c["text"] for c in reply["chunks"] if c["stream"] == "stdout")
                errors += "".join(c["text"] for c in reply["chunks"] if c["stream"] == "stderr")
                cursor, count = reply["cursor"], count + 1
                assert reply["more"] != reply["end"]
                if reply["end"]:
                    break
            assert text == whole
            assert errors == "".join(f"err {n}\n" for n in range(0, 2000, 100))
            assert count > 3
        tail = await agent.call("output", execution_id=one, tail=True, max_bytes=101)
        ends = {"stdout": "", "stderr": ""}
        for chunk in tail["chunks"]:
            ends[chunk["stream"]] += chunk["text"]
        assert tail["end"]
        assert not tail["more"]
        assert whole.endswith(ends["stdout"])
        assert errors.endswith(ends["stderr"])
        assert 90 < sum(len(text.encode()) for text in ends.values()) <= 103


async def test_catch_up_tells_failures_first_and_loses_nothing_when_the_budget_ends(own: Place) -> None:
    own.up()
    async with over_stdio(own) as agent:
        begin = (await agent.call("catch_up"))["cursor"]
        bad = "import sys\nprint('\\x1b[31mreading\\x1b[0m')\n"
        bad += "for n in range(50): print('same', file=sys.stderr)\nsys.exit('fatal: no such thing {0}')"
        good = [(await agent.call("execute", code=f"print({n})"))["execution_id"] for n in range(20)]
        failed = [(await agent.call("execute", code=bad.format(n)))["execution_id"] for n in range(4)]
        for each in (*good, *failed):
            assert (await agent.call("wait", execution_id=each, timeout_seconds=45))["done"]
        told: list[dict[str, Any]] = []
        cursor, pages = begin, 0
        while True:
            reply = await agent.call("catch_up", cursor=cursor, max_tokens=400)
            assert size_of(reply) <= 400
            assert reply["counts"] == {"failed": 4, "completed": 20}
            told += reply["changes"]
            cursor, pages = reply["cursor"], pages + 1
            if not reply["more"]:
                break
            assert reply["changes"]
        assert pages > 3
        assert {each["id"] for each in told[:4]} == set(failed)
        assert sorted(each["id"] for each in told[4:]) == sorted(good)
        assert told[0]["error"] == "Command failed with exit code 1"
        assert told[0]["output"] == ["same (x50)", f"fatal: no such thing {failed.index(told[0]['id'])}"]
        again = (await agent.call("execute", code="print('more')"))["execution_id"]
        assert (await agent.call("wait", execution_id=again, timeout_seconds=45))["done"]
        (only,) = (await agent.call("catch_up", cursor=cursor))["changes"]
        assert (only["id"], only["output"]) == (again, ["more"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_a_longer_job_takes_five_calls_while_the_node_is_killed_and_started_again(
    own: Place, tmp_path: Path, way: str
) -> None:
    port = str(free_port())
    own.cli("up", "--detach", "--http-port", port, "--nats-port", "0")
    url = f"http://localhost:{port}"
    gate = tmp_path / "gate"
    async with over_stdio(own) if way == "stdio" else over_http(url) as agent:
        job = await agent.call("execute", code=wait_for(gate) + "print('done')", idempotency_key="the-job")
        one = job["execution_id"]
        kill(own.wrote["pid"], signal.SIGKILL)
        again = asyncio.create_task(
            asyncio.to_thread(own.cli, "up", "--detach", "--http-port", port, "--nats-port", "0")
        )
        if way == "http":
            await again
        else:
            first = await agent.call("wait", execution_id=one, timeout_seconds=3)
            assert not first["done"]
        done = await again
        assert done.returncode == 0, done.stderr.decode()
        gate.touch()
        over = await agent.call("wait", execution_id=one, timeout_seconds=45)
        assert over["done"]
        result = (await agent.call("result", execution_id=one))["result"]
        assert result["stdout"] == "::progress 6/10\nhalf\ndone\n"
        assert len(agent.calls) <= 5
        same = await agent.call("execute", code=wait_for(gate) + "print('done')", idempotency_key="the-job")
        assert (same["execution_id"], same["duplicate"]) == (one, True)


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("execute", {}, "validation"),
    ("execute", {"code": 1}, "validation"),
    ("execute", {"code": "1", "shell": "x"}, "validation"),
    ("execute", {"code": "1", "language": "cobol"}, "validation"),
    ("execute", {"code": "1", "timeout": -1}, "validation"),
    ("execute", {"code": "1", "timeout": 0}, "validation"),
    ("execute", {"code": "1", "working_dir": "/no/such/folder\0"}, "validation"),
    ("execute", {"code": "1", "labels": "a"}, "validation"),
    ("status", {"execution_id": NOBODY}, "not_found"),
    ("status", {"execution_id": "../../etc/passwd"}, "not_found"),
    ("status", {"execution_id": "plan_" + "0" * 26}, "not_found"),
    ("wait", {"execution_id": NOBODY}, "not_found"),
    ("wait", {"execution_id": "exec_*"}, "validation"),
    ("wait", {"execution_id": "plan_>"}, "validation"),
    ("wait", {"execution_id": NOBODY, "timeout_seconds": 46}, "validation"),
    ("wait", {"execution_id": NOBODY, "timeout_seconds": -1}, "validation"),
    ("output", {"execution_id": NOBODY}, "not_found"),
    ("output", {"execution_id": NOBODY, "cursor": "o-1.e5"}, "validation"),
    ("output", {"execution_id": NOBODY, "max_tokens": 1}, "validation"),
    ("output", {"execution_id": NOBODY, "cursor": "o1.e1", "tail": True}, "validation"),
    ("result", {"execution_id": "exec_" + "\u0000" * 26}, "not_found"),
    ("cancel", {"execution_id": NOBODY}, "not_found"),
    ("cancel", {}, "validation"),
    ("list", {"limit": 10**9}, "validation"),
    ("list", {"limit": "ten"}, "validation"),
    ("catch_up", {"cursor": "c1; DROP TABLE events"}, "validation"),
    ("catch_up", {"cursor": "c999999999999999"}, "validation"),
    ("catch_up", {"max_tokens": 1}, "validation"),
    ("plan_submit", {"plan": {}}, "validation"),
    ("plan_submit", {"plan": {"steps": [{"name": "a", "shel": {"command": "x"}}]}}, "validation"),
    ("plan_submit", {"plan": "steps"}, "validation"),
    ("plan_status", {"plan_id": NOBODY}, "not_found"),
    ("playbook_run", {"playbook": {}}, "validation"),
    ("playbook_run", {"playbook": {"phases": [{"id": "a", "steps": [{"nam": "a"}]}]}}, "validation"),
    ("playbook_bearings", {"playbook_id": "../../etc"}, "not_found"),
    ("playbook_answer", {"playbook_id": NOBODY_PLAYS, "value": 1}, "not_found"),
    ("playbook_resume", {"playbook_id": NOBODY_PLAYS}, "not_found"),
    ("playbook_pause", {"playbook_id": NOBODY_PLAYS}, "not_found"),
    ("playbook_checkpoints", {"playbook_id": NOBODY_PLAYS}, "not_found"),
    ("playbook_list", {"status": "odd"}, "validation"),
    ("wait", {"execution_id": NOBODY_PLAYS}, "not_found"),
    ("cancel", {"execution_id": NOBODY_PLAYS}, "not_found"),
    ("sql", {"query": "DROP TABLE events"}, "sql_error"),
    ("sql", {"query": "SELECT * FROM read_text('/etc/passwd')"}, "sql_error"),
    ("sql", {"query": "SELECT repeat('x', 100000)"}, "too_large"),
    ("sql", {"query": "SELECT 1", "seq": -1}, "validation"),
]


async def test_what_cannot_be_gets_a_clear_answer_and_changes_nothing(place: Place) -> None:
    async with over_http(place.wrote["http_url"]) as agent:
        count = await agent.call("sql", query="SELECT count(*) FROM executions")
        for tool, arguments, code in HOSTILE:
            error = await agent.refused(tool, **arguments)
            assert error["code"] == code, (tool, arguments, error)
            assert "Traceback" not in error["message"]
        assert (await agent.call("sql", query="SELECT count(*) FROM executions"))["rows"] == count["rows"]
        with pytest.raises(MCPError, match="there is no tool 'rm'"):
            await agent.raw("rm")
        for uri in (
            "file:///etc/passwd",
            "brain://executions/../../etc/passwd/stdout",
            f"brain://executions/{NOBODY}/stdout",
            f"brain://executions/{NOBODY}/stdin",
            f"brain://plans/{NOBODY}/stdout",
            "brain://executions/exec_%2e%2e/stdout",
            f"brain://artifacts/art_{'0' * 64}",
            "brain://artifacts/../../etc/passwd",
            f"brain://playbooks/{NOBODY_PLAYS}/stdout",
        ):
            with pytest.raises(MCPError):
                await agent.client.read_resource(uri)
        deep: Any = {}
        for _ in range(60):
            deep = {"steps": [deep]}
        assert (await agent.refused("plan_submit", plan=deep))["code"] == "validation"


async def test_long_output_is_read_with_its_beginning_and_its_end(place: Place) -> None:
    code = "print('begin')\nfor n in range(100_000): print(n, 'line')\nprint('end')"
    async with over_stdio(place) as agent:
        one = (await agent.call("execute", code=code))["execution_id"]
        assert (await agent.call("wait", execution_id=one, timeout_seconds=45))["done"]
        (text,) = (await agent.client.read_resource(f"brain://executions/{one}/stdout")).contents
    assert isinstance(text, wire.TextResourceContents)
    assert text.text.startswith("begin\n0 line\n")
    assert text.text.endswith("99999 line\nend\n")
    left = re.search(r"\[(\d+) bytes are left out here", text.text)
    assert left
    size = len("begin\nend\n") + sum(len(f"{n} line\n") for n in range(100_000))
    said = f"\n[{left[1]} bytes are left out here: the tool output reads them]\n"
    assert len(text.text) - len(said) + int(left[1]) == size


async def test_a_client_that_knows_tasks_gets_one(place: Place, tmp_path: Path) -> None:
    tasking = Tasking()
    async with over_http(place.wrote["http_url"], extensions=[tasking]) as agent:
        good = await agent.raw("execute", code="print('fine')")
        assert not good.is_error
        assert good.structured_content["result"]["stdout"] == "fine\n"
        bad = await agent.raw("execute", code="import sys\nprint('so far')\nsys.exit(3)")
        assert bad.is_error
        assert bad.structured_content["result"]["exit_code"] == 3
        (said,) = bad.content
        assert isinstance(said, wire.TextContent)
        assert said.text == "Command failed with exit code 3.\nso far\n"
        refused = await agent.refused("execute", code="1", language="cobol")
        assert refused["code"] == "validation"
        steps = [{"name": "a", "shell": {"command": "exit 4"}}]
        plan = await agent.raw("plan_submit", plan={"steps": steps})
        assert plan.is_error
        assert plan.structured_content["result"]["results"][0]["exit_code"] == 4
        ids = [task.task_id for task in tasking.created]
        assert [each.partition("_")[0] for each in ids] == ["exec", "exec", "plan"]
        assert all(task.ttl_ms is None for task in tasking.created)

        session, gate = agent.client.session, tmp_path / "gate"
        task = await session.call_tool("execute", {"code": wait_for(gate)}, allow_claimed=True)
        one: str = getattr(task, "task_id")  # noqa: B009  a claimed shape, which the type does not name
        now = await about(session, "tasks/get", one)
        assert (now["status"], now["ttlMs"], now["resultType"]) == ("working", None, "complete")
        assert 500 <= now["pollIntervalMs"] <= 5000
        assert (await about(session, "tasks/update", one, input_responses={"x": {}}))[
            "resultType"
        ] == "complete"
        await about(session, "tasks/cancel", one)

        async def status() -> dict[str, Any]:
            return await about(session, "tasks/get", one)

        while (now := await status())["status"] == "working":
            await agent.call("wait", execution_id=one, timeout_seconds=45)
        assert now["status"] == "cancelled"
        for method in ("tasks/get", "tasks/cancel"):
            with pytest.raises(MCPError) as unknown:
                await about(session, method, NOBODY)
            assert unknown.value.code == wire.INVALID_PARAMS


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_who_listens_to_tasks_is_told_of_each_change(place: Place, tmp_path: Path, way: str) -> None:
    tasking, gate, url = Tasking(), tmp_path / "gate", place.wrote["http_url"]
    acknowledged: asyncio.Queue[Any] = asyncio.Queue()

    async def heard(message: Any) -> None:
        if isinstance(message, wire.SubscriptionsAcknowledgedNotification):
            await acknowledged.put(message.params)

    ways = {
        "stdio": over_stdio(place, extensions=[tasking], heard=heard),
        "http": over_http(url, extensions=[tasking], heard=heard),
    }
    async with ways[way] as agent:
        session = agent.client.session

        async def begin(code: str) -> str:
            task = await session.call_tool("execute", {"code": code}, allow_claimed=True)
            return getattr(task, "task_id")  # noqa: B009  a claimed shape, which the type does not name

        one = await begin(wait_for(gate))
        bad = await begin(f"{wait_for(gate)}\nraise SystemExit(3)")
        stopped = await begin(wait_for(tmp_path / "never"))
        ids = [one, bad, stopped, one, NOBODY, "../../etc"]
        listening = asyncio.create_task(listen(session, taskIds=ids, toolsListChanged=True))
        said = await acknowledged.get()
        told = said.notifications.model_dump(by_alias=True, exclude_none=True)
        assert told == {"toolsListChanged": True, "taskIds": [one, bad, stopped]}
        subscription = said.meta["io.modelcontextprotocol/subscriptionId"]
        news: dict[str, list[dict[str, Any]]] = {}

        async def until(name: str, **wanted: Any) -> dict[str, Any]:
            """Wait for this news of a task."""
            while not (last := news.get(name)) or not last[-1].items() >= wanted.items():
                each = await tasking.told.get()
                assert each.pop("_meta") == {"io.modelcontextprotocol/subscriptionId": subscription}
                news.setdefault(each["taskId"], []).append(each)
            return last[-1]

        now = await until(one, status="working", statusMessage="60% complete")
        assert now["ttlMs"] is None
        await about(session, "tasks/cancel", stopped)
        await until(stopped, status="cancelled")
        gate.touch()
        over = await until(one, status="completed")
        assert over["result"]["structuredContent"]["result"]["stdout"] == "::progress 6/10\nhalf\n"
        assert (await until(bad, status="completed"))["result"]["isError"]
        for name in (one, bad, stopped):
            asked = await about(session, "tasks/get", name)
            assert asked | {"_meta": 0} == news[name][-1] | {"resultType": "complete", "_meta": 0}
            states = [each["status"] for each in news[name]]
            assert states == sorted(states, key=lambda state: state != "working"), "what is over stays so"
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_who_did_not_say_that_it_knows_tasks_cannot_listen_to_them(place: Place) -> None:
    async with over_http(place.wrote["http_url"]) as agent:
        with pytest.raises(MCPError) as missing:
            await listen(agent.client.session, taskIds=[NOBODY])
        assert missing.value.code == -32021
        assert missing.value.error.data["requiredCapabilities"]["extensions"] == {TASKS: {}}
    async with over_http(place.wrote["http_url"], extensions=[advertise(TASKS)]) as agent:
        with pytest.raises(MCPError) as wrong:
            await listen(agent.client.session, taskIds={"a": 1})
        assert wrong.value.code == wire.INVALID_PARAMS


async def test_a_task_outlives_the_node_and_the_client(own: Place, tmp_path: Path) -> None:
    own.up()
    gate = tmp_path / "gate"
    async with over_stdio(own, extensions=[Tasking()]) as agent:
        task = await agent.client.session.call_tool("execute", {"code": wait_for(gate)}, allow_claimed=True)
        one: str = getattr(task, "task_id")  # noqa: B009  a claimed shape, which the type does not name
    kill(own.wrote["pid"], signal.SIGKILL)
    own.up()
    gate.touch()
    async with over_stdio(own, extensions=[advertise(TASKS)]) as agent:
        assert (await agent.call("wait", execution_id=one, timeout_seconds=45))["done"]
        now = await about(agent.client.session, "tasks/get", one)
        assert (now["status"], now["result"]["isError"]) == ("completed", False)


async def test_who_does_not_know_tasks_gets_none(place: Place) -> None:
    async with over_stdio(place) as agent:
        done = await agent.call("execute", code="print(1)")
        with pytest.raises(MCPError) as missing:
            await about(agent.client.session, "tasks/get", done["execution_id"])
        assert missing.value.code == -32021
    async with over_stdio(place, mode="legacy", extensions=[advertise(TASKS)]) as agent:
        done = await agent.call("execute", code="print(1)")
        with pytest.raises(MCPError) as unknown:
            await about(agent.client.session, "tasks/get", done["execution_id"])
        assert unknown.value.code == wire.METHOD_NOT_FOUND


async def test_a_strange_page_and_a_strange_name_do_not_get_to_an_agents_door(info: dict[str, Any]) -> None:
    hello: Any = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        for headers, status in (
            ({"Origin": "http://evil.example"}, 403),
            ({"Host": "evil.example"}, 421),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
        ):
            reply = await http.post("/mcp", json=hello, headers=accept | headers)
            assert reply.status_code == status, headers
            reply = await http.get("/mcp", headers=accept | headers)
            assert reply.status_code == status, headers
        for body in (b"", b"{", b"[]", b'{"jsonrpc": "2.0"}', b"\xff" * 10):
            reply = await http.post("/mcp", content=body, headers=accept)
            assert 400 <= reply.status_code < 500, body
        assert (await http.post("/mcp", content=b" " * (17 << 20), headers=accept)).status_code == 413
        assert (await http.post("/mcp", json=hello, headers=accept)).status_code == 200


async def test_the_server_ends_when_its_host_goes(place: Place) -> None:
    serving = await asyncio.create_subprocess_exec(
        *place.command("mcp"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert serving.stdin is not None
    assert serving.stdout is not None
    ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    serving.stdin.write(b"no json\n" + json.dumps(ask).encode() + b"\n")
    assert json.loads(await serving.stdout.readline())["id"] == 1
    serving.stdin.close()
    assert await became(lambda: serving.returncode is not None)
    assert serving.returncode == 0
