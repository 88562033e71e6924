"""Plugins as agents see them: tools by the right of the caller, changes meanwhile, and resources."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mcp_types as wire
import pytest
import pytest_asyncio
from agents import Agent, Tasking, over_http, over_stdio
from foreign import Foreign, Place, Refused, connect
from mcp.shared.exceptions import MCPError

from interfaces.mcp.table import TOOLS

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]
SECONDS = 60


def up(own: Place) -> None:
    """A node that can import the plugin of tests."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    own.up(PYTHONPATH=path, HINDBRAIN_PLUGINS="site-builder=off")


@pytest_asyncio.fixture
async def loaded(shared: Place) -> Place:
    """One that has it, for those who leave it so."""
    if not (shared.data / "node.json").exists():
        up(shared)
        async with connect(shared.wrote["nats_url"]) as bus:
            await load(bus)
    return shared


async def load(bus: Foreign, name: str = "guarded", what: str = "plugin") -> dict[str, Any]:
    return await bus.ask("plugin.load", {"name": name, "source": f"guarded:{what}"}, 70)


def token(own: Place) -> str:
    return (own.data / "admin.token").read_text().strip()


async def brought(agent: Agent) -> dict[str, wire.Tool]:
    """The tools of plugins that are listed."""
    listed = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
    return {name: tool for name, tool in listed.items() if name not in TOOLS}


async def test_agents_have_the_tools_of_plugins_that_are_for_them(loaded: Place) -> None:
    url = loaded.wrote["http_url"]
    for way in (over_stdio(loaded), over_http(url), over_http(url, token="guessed")):
        async with way as agent:
            found = await brought(agent)
            assert set(found) == {"say-aloud", "relay", "guarded-murmur"}
            for name in ("count-letters", "guarded-whisper"):
                error = await agent.refused(name, word="psst")
                assert (error["code"], error["details"]) == ("conflict", {"visibility": "admin"})
            with pytest.raises(MCPError, match="there is no tool 'rm'"):
                await agent.raw("rm")
            tool = found["say-aloud"]
            assert tool.description == "Say a word (of the plugin guarded)"
            assert tool.input_schema["type"] == "object"
            assert tool.input_schema["properties"] == {"word": {"type": "string"}}
            assert tool.input_schema["required"] == ["word"]
            reply = await agent.call("say-aloud", word="hello")
            tip = "Use the status tool to check progress"
            assert reply == {
                "status": "queued",
                "message": "It will be said",
                "jobId": reply["jobId"],
                "tip": tip,
            }
            over = await agent.call("wait", execution_id=reply["jobId"], timeout_seconds=45)
            assert over["execution"]["status"] == "completed"
            assert (await agent.refused("say-aloud", wor="x"))["code"] == "validation"
    for way in (over_stdio(loaded, options=["--admin"]), over_http(url, token=token(loaded))):
        async with way as agent:
            found = await brought(agent)
            assert {"count-letters", "guarded-whisper"} <= set(found)
            assert await agent.call("count-letters", word="psst") == {"result": 4}
            made = await agent.call("guarded-whisper", word="psst")
            over = await agent.call("wait", execution_id=made["jobId"], timeout_seconds=45)
            assert over["execution"]["status"] == "completed"
            assert set(agent.calls) - set(TOOLS) == {"count-letters", "guarded-whisper"}


async def test_who_waits_hears_soon_that_a_job_is_further(loaded: Place, tmp_path: Path) -> None:
    async with over_http(loaded.wrote["http_url"], token=token(loaded)) as agent:
        job = (await agent.call("guarded-linger", word=str(tmp_path)))["jobId"]
        seen = await agent.running(job)
        for step, shown in (("1", "25% complete"), ("2", "50% complete")):
            waiting = await agent.listening(job, seen)
            (tmp_path / step).touch()
            # The second step is told at once and stored later; who is not patient waits the whole 45 s.
            async with asyncio.timeout(30):
                seen = await waiting
            assert (seen["done"], seen["execution"]["progress"]) == (False, shown)
        (tmp_path / "3").touch()
        over = await agent.call("wait", execution_id=job, timeout_seconds=45)
        assert over["execution"]["status"] == "completed"


async def test_a_job_that_a_tool_queues_is_a_task_for_who_knows_tasks(loaded: Place) -> None:
    tasking = Tasking()
    async with over_http(loaded.wrote["http_url"], extensions=[tasking]) as agent:
        done = await agent.raw("say-aloud", word="hello")
        assert not done.is_error
        assert done.structured_content["status"] == "completed"
        assert [each.task_id for each in tasking.created] == [done.structured_content["execution_id"]]


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_whoever_listens_hears_that_tools_came_and_went(own: Place, way: str) -> None:
    up(own)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(own.wrote["nats_url"]))
        door = over_stdio(own) if way == "stdio" else over_http(own.wrote["http_url"])
        agent = await stack.enter_async_context(door)
        assert await brought(agent) == {}
        told = await stack.enter_async_context(
            agent.client.listen(tools_list_changed=True, resources_list_changed=True)
        )
        events = aiter(told)
        await load(bus)
        async with asyncio.timeout(SECONDS):
            while "say-aloud" not in await brought(agent):
                await anext(events)
        uris = [each.uri for each in (await agent.client.list_resources()).resources]
        assert "guarded://notes" in uris
        (notes,) = (await agent.client.read_resource("guarded://notes")).contents
        assert isinstance(notes, wire.TextResourceContents)
        assert (notes.mime_type, json.loads(notes.text)) == ("application/json", {"plugin": "guarded"})
        await bus.ask("plugin.unload", {"name": "guarded"})
        async with asyncio.timeout(SECONDS):
            while await brought(agent):
                await anext(events)
        with pytest.raises(MCPError, match="there is no resource"):
            await agent.client.read_resource("guarded://notes")
        with pytest.raises(MCPError, match="there is no tool"):
            await agent.raw("say-aloud", word="x")


async def test_a_client_of_the_older_protocol_is_told_over_standard_output(own: Place) -> None:
    up(own)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait(getattr(message, "method", ""))

    async with connect(own.wrote["nats_url"]) as bus, over_stdio(own, "legacy", heard=hear) as agent:
        assert await brought(agent) == {}
        await load(bus)
        async with asyncio.timeout(SECONDS):
            while await heard.get() != "notifications/tools/list_changed":
                pass
        assert "say-aloud" in await brought(agent)


async def test_a_name_that_is_taken_is_refused_when_a_plugin_is_loaded(loaded: Place) -> None:
    async with connect(loaded.wrote["nats_url"]) as bus:
        for name, said in (("thief", "'say-aloud' is guarded's"), ("usurper", "'execute' is Hindbrain's")):
            with pytest.raises(Refused, match=said):
                await load(bus, name, name)
        tools = (await bus.ask("plugin.tools"))["tools"]
        assert {each["plugin"] for each in tools} == {"guarded"}
