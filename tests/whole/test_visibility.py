"""Jobs that are not for everybody: without the right they are run through no door and in no wrapping."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from foreign import Foreign, Place, Refused, clean, connect

pytestmark = pytest.mark.asyncio
WHISPER: dict[str, Any] = {"type": "guarded:whisper", "data": {"word": "psst"}}
STEP: dict[str, Any] = {"name": "a", "job": WHISPER}
PLAN: dict[str, Any] = {"steps": [STEP]}
PHASES = [{"id": "one", "steps": [STEP]}]
WRAPPED: list[tuple[str, dict[str, Any]]] = [
    ("job.submit", WHISPER),
    ("execution.submit", {"job": WHISPER}),
    ("module.submit", {"module": "guarded", "handler": "whisper", "data": {"word": "psst"}}),
    ("plan.submit", PLAN),
    ("plan.submit", {"steps": [{"name": "outer", "steps": [STEP]}]}),
    ("plan.submit", {"steps": [{"name": "b", "shell": {"command": "true"}, "undo": {"job": WHISPER}}]}),
    ("batch.submit", {"do": {"job": WHISPER}, "count": 3}),
    ("template.save", {"name": "quiet", "plan": PLAN}),
    ("schedule.create", {"submit": {"job": WHISPER}, "every_ms": 60_000}),
    ("schedule.create", {"plan": PLAN, "every_ms": 60_000}),
    ("playbook.run", {"name": "quiet", "phases": PHASES}),
    ("playbook.run", {"phases": [{"id": "p", "steps": [{"name": "n", "playbook": {"phases": PHASES}}]}]}),
]


@pytest.fixture(scope="module")
def place(shared: Place) -> Place:
    """A node that can import the plugin of tests."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return shared.up(PYTHONPATH=path)


@pytest_asyncio.fixture
async def guarded(place: Place) -> AsyncGenerator[Foreign]:
    """A connection to it; it has that plugin."""
    async with connect(place.wrote["nats_url"]) as bus:
        if "guarded" not in {each["name"] for each in (await bus.ask("plugin.list"))["plugins"]}:
            await bus.ask("plugin.load", {"name": "guarded", "source": "guarded:plugin"}, 70)
        yield bus


def token(place: Place) -> str:
    return (place.data / "admin.token").read_text().strip()


def typed(place: Place) -> int:
    """Submit it on the command line."""
    line = [sys.executable, "-P", "-m", "interfaces.cli", "job", "submit", "guarded:whisper"]
    line += ['{"word": "y"}', "--data", str(place.data)]
    return subprocess.run(line, env=clean(), capture_output=True, check=False).returncode


async def shown(bus: Foreign, verb: str, body: dict[str, Any], token: str) -> dict[str, Any]:
    """Ask with the header in which administrators show their token."""
    headers = {"Brain-Token": token}
    reply = await bus.nc.request(f"brain.cmd.{verb}", json.dumps(body).encode(), timeout=30, headers=headers)
    return json.loads(reply.data)


async def test_without_the_right_a_job_is_refused_in_every_wrapping(guarded: Foreign, place: Place) -> None:
    before = await guarded.last()
    for verb, body in WRAPPED:
        with pytest.raises(Refused, match=r"'guarded:whisper' is for admin callers") as refused:
            await guarded.ask(verb, body)
        assert (refused.value.code, refused.value.details) == ("conflict", {"visibility": "admin"}), verb
        wrong = await shown(guarded, verb, body, "guessed")
        assert wrong["error"]["message"].endswith("this is not the administrators' token"), verb
    assert await guarded.born(before) == []
    types = [each["type"] for each in (await guarded.ask("job.types"))["types"]]
    assert {"guarded:tell", "guarded:murmur"} <= set(types)
    assert "guarded:whisper" not in types

    for verb, body in WRAPPED:
        assert "error" not in await shown(guarded, verb, body, token(place)), verb
    types = [each["type"] for each in (await shown(guarded, "job.types", {}, token(place)))["types"]]
    assert "guarded:whisper" in types


async def test_a_job_of_administrators_is_not_run_again_by_others(guarded: Foreign, place: Place) -> None:
    made = await shown(guarded, "job.submit", WHISPER, token(place))
    over = await guarded.over(made["execution_id"])
    assert over["result"]["value"] == "psst"
    again = {"execution_id": made["execution_id"]}
    with pytest.raises(Refused, match="admin callers"):
        await guarded.ask("execution.retry", again)
    assert (await shown(guarded, "execution.retry", again, token(place)))["retry_of"] == made["execution_id"]


async def test_the_type_of_a_job_is_said_and_not_filled_in_later(guarded: Foreign) -> None:
    job = {"type": "${params.kind}", "data": {"word": "psst"}}
    plan = {"params": {"kind": {"type": "string"}}, "steps": [{"name": "a", "job": job}]}
    with pytest.raises(Refused, match="bad job type"):
        await guarded.ask("plan.submit", {**plan, "values": {"kind": "guarded:whisper"}})


async def test_a_stored_command_has_no_more_right_than_its_sender(guarded: Foreign) -> None:
    await guarded.js.publish(
        "brain.inbox.execution.submit", json.dumps({"job": WHISPER, "idempotency_key": "quiet"}).encode()
    )

    async def refused() -> bool:
        try:
            await guarded.ask("execution.get", {"idempotency_key": "quiet"})
        except Refused as error:
            return error.code == "conflict"
        return False

    await guarded.until(refused)


async def test_a_tool_does_what_its_caller_may_not_ask_for(guarded: Foreign) -> None:
    reply = await guarded.ask("plugin.call", {"name": "relay", "arguments": {"word": "psst"}})
    assert (await guarded.over(reply["result"]["jobId"]))["result"]["value"] == "psst"


async def test_every_door_takes_the_administrators_token(guarded: Foreign, place: Place) -> None:
    url, body = f"{place.wrote['http_url']}/api/job/submit", {**WHISPER, "data": {"word": "x"}}
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.post(url, json=body)).status_code == 409
        wrong = await http.post(url, json=body, headers={"Authorization": "Bearer guessed"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "validation")
        right = await http.post(url, json=body, headers={"Authorization": f"Bearer {token(place)}"})
        assert right.status_code == 200
    assert typed(place) == 0
    kept = (place.data / "admin.token").rename(place.data / "elsewhere")
    assert typed(place) == 2
    kept.rename(place.data / "admin.token")


async def test_where_callers_are_only_the_public_trusted_jobs_are_not_theirs(own: Place) -> None:
    own.up(PYTHONPATH=str(Path(__file__).parent), HINDBRAIN_RIGHT="public")
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.ask("plugin.load", {"name": "guarded", "source": "guarded:plugin"}, 70)
        with pytest.raises(Refused, match="for trusted callers"):
            await bus.ask("job.submit", {"type": "guarded:murmur", "data": {"word": "x"}})
        with pytest.raises(Refused, match="for trusted callers"):
            await bus.ask("module.submit", {"module": "guarded", "function": "posixpath:join", "args": ["a"]})
        made = await bus.ask("job.submit", {"type": "guarded:tell", "data": {"word": "x"}})
        assert (await bus.over(made["execution_id"]))["result"]["value"] == "x"
