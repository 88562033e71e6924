"""Every reply that other programs rely on, byte for byte as each door says it.

The files in tests/golden/replies are what a reader of the contract would expect to see; what is asked is the
title of each.  Whoever extends a reply extends them.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from agents import Agent, over_http, over_stdio
from foreign import Foreign, Place, connect
from mcp_types import TextContent
from transcript import Transcript

from tests.waiting import turned

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

Say = Callable[[str, dict[str, Any]], Awaitable[bytes]]
"""Ask a verb with a body; the bytes of the reply."""
HALF = "printf '::progress 6/10\\nhalf\\n'; while [ ! -e {gate} ]; do sleep 0.01; done; echo late >&2"
NOBODY = "exec_" + "0" * 26
LATER_MS = 3_600_000
WHICH = ("status", "decisions")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    """A node where nothing runs but what is asked for here."""
    place = Place(tmp_path_factory.mktemp("g") / "d")
    yield place.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="4")
    place.end()


@pytest_asyncio.fixture
async def names(quiet: Place, tmp_path: Path) -> Transcript:
    """An empty transcript, of a node where nothing runs."""
    async with connect(quiet.wrote["nats_url"]) as bus:
        await gone(bus)
    return Transcript(data=str(quiet.data), url=quiet.wrote["http_url"], folder=str(tmp_path))


async def loaded(bus: Foreign) -> None:
    """Wait until the shipped plugin is there."""

    async def there() -> bool:
        return any(each["loaded"] for each in (await bus.ask("plugin.list"))["plugins"])

    await bus.until(there)


async def halfway(bus: Foreign, execution: str) -> None:
    """Wait until everybody knows how far it is: its node, and the tables."""

    async def shown() -> bool:
        now = (await bus.ask("execution.get", {"execution_id": execution}))["execution"]
        ask = {"sql": "SELECT progress, last_output FROM executions WHERE id = ?", "params": [execution]}
        rows = (await bus.ask("query.sql", ask))["rows"]
        return now["last_output"] == "half" and rows == [["60% complete", "half"]]

    await bus.until(shown)


async def settled(bus: Foreign) -> None:
    """Wait until the tables know all that happened."""
    await bus.ask("query.sql", {"sql": "SELECT 1", "min_seq": await bus.last()})


async def gone(bus: Foreign) -> None:
    """Wait until nothing runs any more."""

    async def none() -> bool:
        await settled(bus)
        return not (await bus.ask("query.status"))["operations"]

    await bus.until(none)


# ---- verbs: the same over NATS and over HTTP --------------------------------------------------------------


@pytest_asyncio.fixture(params=["nats", "http"])
async def door(request: pytest.FixtureRequest, quiet: Place) -> AsyncGenerator[tuple[Say, Foreign]]:
    """One way to ask a verb, and a connection for whatever else a test has to know."""
    info = quiet.wrote
    async with connect(info["nats_url"]) as bus, httpx.AsyncClient(timeout=30) as http:

        async def over_nats(verb: str, body: dict[str, Any]) -> bytes:
            return (await bus.send(verb, json.dumps(body).encode())).data

        async def over_http(verb: str, body: dict[str, Any]) -> bytes:
            kind, _, name = verb.partition(".")
            return (await http.post(f"{info['http_url']}/api/{kind}/{name}", json=body)).content

        yield (over_nats if request.param == "nats" else over_http), bus


async def test_commands(door: tuple[Say, Foreign], names: Transcript, tmp_path: Path) -> None:
    ask, bus = door
    gate, label = tmp_path / "gate", names.know("label", f"label-{uuid4().hex}")

    async def say(verb: str, **body: Any) -> dict[str, Any]:
        raw = await ask(verb, body)
        names.say(f"{verb} {json.dumps(body)}", raw)
        return json.loads(raw)

    wish = {"shell": {"command": HALF.format(gate=gate)}, "description": "the long one", "labels": [label]}
    one = (await say("execution.submit", **wish, idempotency_key=label))["execution_id"]
    await halfway(bus, one)
    await say("execution.submit", **wish, idempotency_key=label)
    which = {"execution_id": one}
    await say("execution.get", **which)
    await say("execution.wait", **which, timeout_ms=0)
    await say("execution.result", **which)
    await say("query.status")
    gate.touch()
    await say("execution.wait", **which)
    await say("execution.result", **which)
    await say("execution.logs", **which)
    await say("execution.cancel", **which)
    again = (await say("execution.retry", **which))["execution_id"]
    await bus.over(again)
    later = await say("execution.submit", exec={"program": "true"}, labels=[label], delay_ms=LATER_MS)
    which = {"execution_id": later["execution_id"]}
    await say("execution.cancel", **which, reason="not needed")
    await settled(bus)
    await say("execution.list", label=label, status="cancelled")
    await say("execution.events", **which, limit=1)
    await say("query.sql", sql="SELECT status FROM executions WHERE id = ?", params=[one])
    await say("execution.get", execution_id=NOBODY)
    await say("execution.submit")
    await say("query.sql", sql="DROP TABLE events")
    names.same("commands")


async def test_batches_and_plans(door: tuple[Say, Foreign], names: Transcript, tmp_path: Path) -> None:
    ask, bus = door
    heard = await bus.hear("brain.progress.plan.>")
    told: dict[str, list[bytes]] = {}

    async def say(verb: str, **body: Any) -> dict[str, Any]:
        raw = await ask(verb, body)
        names.say(f"{verb} {json.dumps(body)}", raw)
        return json.loads(raw)

    async def hear(plan: str, **which: Any) -> bytes:
        """Wait until this is told of a plan."""
        while True:
            for each in told.get(plan, []):
                if json.loads(each).items() >= which.items():
                    return each
            message = await heard.next_msg(timeout=30)
            told.setdefault(json.loads(message.data)["id"], []).append(message.data)

    gate = tmp_path / "gate"
    line = f"test $1 != features || until test -e {gate}; do sleep 0.01; done; test $1 != cta"
    do = {"exec": {"program": "sh", "args": ["-c", line, "sh", "${item}"]}}
    do |= {"description": "Generating landing:${item}"}
    wish: dict[str, Any] = {"description": "Generating sections", "do": do, "max_concurrency": 1}
    wish["items"] = ["hero", "cta", "features"]
    batch = (await say("batch.submit", **wish))["batchId"]
    two = {"completedOperations": 1, "failedOperations": 1, "currentOperation": "Generating landing:features"}
    names.say("brain.progress.plan, after two of three", await hear(batch, **two))

    async def behind() -> bool:
        await settled(bus)
        found = (await bus.ask("query.status"))["operations"]
        return [each["currentTask"] for each in found] == ["Generating landing:features"]

    await bus.until(behind)
    await say("query.status")
    gate.touch()
    await say("plan.wait", plan_id=batch)
    names.say("brain.progress.plan, the last", await hear(batch, final=True))
    pages = (await say("batch.submit", do={"exec": {"program": "true"}}, items=["a"], open=True))["plan_id"]
    await hear(pages, completedOperations=1)
    await bus.ask("plan.pause", {"plan_id": pages})
    await say("batch.add", plan_id=pages, items=["b"])
    await say("batch.seal", plan_id=pages)
    await say("plan.cancel", plan_id=pages, reason="not needed")
    await say("batch.add", plan_id=pages, items=["c"])
    steps = [{"name": "build", "shell": {"command": "echo version=7 > $HINDBRAIN_OUTPUT"}}]
    plan = (await say("plan.submit", name="checks", steps=steps))["plan_id"]
    await bus.ask("plan.wait", {"plan_id": plan}, 60)
    await say("plan.result", plan_id=plan)
    names.same("plans")


async def test_the_shipped_plugin(
    door: tuple[Say, Foreign], quiet: Place, names: Transcript, tmp_path: Path
) -> None:
    ask, bus = door
    await loaded(bus)
    token = names.know("token", (quiet.data / "admin.token").read_text().strip())

    async def say(verb: str, **body: Any) -> dict[str, Any]:
        raw = await ask(verb, body)
        names.say(f"{verb} {json.dumps(body)}", raw)
        return json.loads(raw)

    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "about.md").write_text("# About\n")
    build = {"outputDir": str(tmp_path / "dist"), "workingDir": str(docs)}
    await bus.ask("module.pause", {"module": "site-builder"})
    try:
        built = await say("plugin.call", name="build-site", arguments=build, token=token)
        page = {"page": "landing", "workingDir": str(docs)}
        made = await say("plugin.call", name="generate", arguments=page)
        await settled(bus)
        await say("query.status")
    finally:
        await bus.ask("module.resume", {"module": "site-builder"})
    await bus.ask("plan.wait", {"plan_id": made["result"]["batchId"]}, 60)
    over = await bus.over(built["result"]["jobId"])
    names.say("its result", json.dumps(over["result"]["value"], separators=(",", ":")))
    names.same("plugins")


# ---- what an execution is at its own address --------------------------------------------------------------


async def test_an_execution_at_its_address(quiet: Place, names: Transcript, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with (
        connect(quiet.wrote["nats_url"]) as bus,
        httpx.AsyncClient(timeout=30, base_url=quiet.wrote["http_url"]) as http,
    ):
        one = await bus.submit(shell={"command": HALF.format(gate=gate)})
        path = f"/executions/{one}"
        await halfway(bus, one)

        async def say(path: str) -> None:
            reply = await http.get(path)
            names.say(f"GET {path}: {reply.status_code}", reply.content)

        await say(path)
        blocks: list[str] = []
        async with http.stream("GET", f"{path}/stream") as reply:
            lines: list[str] = []
            async for line in reply.aiter_lines():
                lines.append(line)
                if not line:
                    blocks.append("\n".join(lines))
                    lines = []
                # It is told how far it is and what it wrote, in either order; then it may end.
                if len(blocks) == 2:
                    gate.touch()
        told = [each for each in blocks if each.startswith("event: progress")]
        names.say("event: progress, the first", told[0].replace("id: o21.e0", "id: o0.e0"))
        names.say("all others", "\n".join(each for each in blocks if each not in told))
        head = ("content-type", "cache-control", "connection")
        names.say("headers", "\n".join(f"{name}: {reply.headers[name]}" for name in head))
        await say(path)
        await say(f"/executions/{NOBODY}")
        await say(f"/executions/{NOBODY}/stream")
    names.same("address")


# ---- agents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_agents(quiet: Place, names: Transcript, tmp_path: Path, way: str) -> None:
    gate, info = tmp_path / "gate", quiet.wrote
    async with (
        connect(info["nats_url"]) as bus,
        over_stdio(quiet) if way == "stdio" else over_http(info["http_url"]) as agent,
    ):
        await conversation(agent, bus, names, HALF.format(gate=gate), gate.touch)
    names.same("agents")


async def conversation(
    agent: Agent, bus: Foreign, names: Transcript, line: str, go: Callable[[], None]
) -> None:
    """Use the tools whose answers are quoted."""

    async def say(tool: str, **arguments: Any) -> dict[str, Any]:
        (said,) = (await agent.raw(tool, **arguments)).content
        assert isinstance(said, TextContent)
        names.say(f"{tool} {json.dumps(arguments)}", said.text)
        return json.loads(said.text) if said.text.startswith("{") else {}

    one = (await say("execute", code=line, language="sh", description="the long one"))["execution_id"]
    await halfway(bus, one)
    await say("status", execution_id=one)
    await say("status")
    await say("wait", execution_id=one, timeout_seconds=0)
    await say("result", execution_id=one)
    go()
    await say("wait", execution_id=one, timeout_seconds=45)
    await say("output", execution_id=one)
    await say("result", execution_id=one)
    await say("cancel", execution_id=one)
    await say("sql", query=f"SELECT status FROM executions WHERE id = '{one}'")
    steps: list[Any] = [{"name": "build", "shell": {"command": "exit 3"}}]
    plan = await say("plan_submit", plan={"name": "checks", "steps": steps})
    await agent.call("wait", execution_id=plan["plan_id"], timeout_seconds=45)
    await say("plan_status", plan_id=plan["plan_id"])
    asks = {"name": "sure", "input": {"message": "Ship it?", "schema": {"type": "boolean"}}}
    phases: list[Any] = [{"id": "one", "name": "First", "steps": [asks]}]
    begun = await say("playbook_run", playbook={"name": "chain", "phases": phases})
    await agent.call("wait", execution_id=begun["playbook_id"], timeout_seconds=45)
    await say("playbook_bearings", playbook_id=begun["playbook_id"])
    await say("playbook_answer", playbook_id=begun["playbook_id"], value=True)
    await agent.call("wait", execution_id=begun["playbook_id"], timeout_seconds=45)
    await say("status", execution_id=begun["playbook_id"])
    await say("execute", code="1", language="cobol")
    await say("status", execution_id=NOBODY)


# ---- threads ----------------------------------------------------------------------------------------------


async def test_threads(own: Place, tmp_path: Path) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="4")
    info, names = own.wrote, Transcript(folder=str(tmp_path))
    async with (
        connect(info["nats_url"]) as bus,
        httpx.AsyncClient(timeout=30, base_url=info["http_url"]) as http,
    ):

        async def say(which: str) -> None:
            path = f"/api/threads/{which}"
            reply = await http.get(path)
            names.say(f"GET {path}: {reply.status_code}", reply.content)

        await loaded(bus)

        async def heard() -> bool:
            told = (await http.get("/api/threads/status")).json()["data"]["module_threads"]
            return all(each["last_activity"] is not None for each in told.values())

        await turned(heard)
        await bus.ask("module.pause", {"module": "site-builder", "reason": "lunch"})
        await settled(bus)
        await say("status")
        await say("decisions")
        # Nobody answers for the tables.
        os.kill(info["projector_pid"], signal.SIGSTOP)
        try:
            late = await asyncio.gather(*(http.get(f"/api/threads/{which}") for which in WHICH))
        finally:
            os.kill(info["projector_pid"], signal.SIGCONT)
        for which, reply in zip(WHICH, late, strict=True):
            names.say(f"GET /api/threads/{which}: {reply.status_code}", reply.content)

        async def again() -> bool:
            return (await http.get("/api/threads/decisions")).status_code == 200

        await turned(again)
    names.same("threads")
