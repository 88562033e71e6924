"""The shipped plugin in a real node: its replies, who may use its tools, and a build whose host is killed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, connect

from tests.waiting import became

pytestmark = pytest.mark.asyncio
TIP = "Use the status tool to check progress"


def docs(folder: Path, pages: int = 3) -> Path:
    folder.mkdir()
    for number in range(pages):
        (folder / f"page-{number:04}.md").write_text(f"# Page {number}\n\nOne of [many](page-0000.md).\n")
    return folder


def token(place: Place) -> str:
    return (place.data / "admin.token").read_text().strip()


async def ready(bus: Foreign) -> None:
    """Wait until the plugin is registered."""

    async def there() -> bool:
        return any(each["loaded"] for each in (await bus.ask("plugin.list"))["plugins"])

    await bus.until(there)


async def tool(bus: Foreign, name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    reply = await bus.ask("plugin.call", {"name": name, "arguments": arguments, **more})
    return reply["result"]


async def test_a_tool_queues_a_build_and_says_how_to_follow_it(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    await ready(bus)
    heard = await bus.hear("brain.progress.execution.>")
    given = {"outputDir": str(tmp_path / "dist"), "workingDir": str(docs(tmp_path / "docs"))}
    reply = await tool(bus, "build-site", given, token=token(place))
    assert reply == {
        "status": "queued",
        "message": "Site build queued",
        "jobId": reply["jobId"],
        "tip": "Use the status tool to check build progress",
    }
    over = await bus.over(reply["jobId"])
    assert (over["status"], over["module"]) == ("completed", "site-builder")
    facts = (await bus.ask("execution.events", {"execution_id": reply["jobId"]}))["events"]
    assert facts[-1]["data"]["end"]["value"] == {
        "success": True,
        "routesBuilt": 4,
        "errors": [],
        "warnings": [],
        "outputDir": str(tmp_path / "dist"),
    }
    texts: list[str] = []
    while not texts or not texts[-1].startswith("Built"):
        said = json.loads((await heard.next_msg(timeout=20)).data)
        if said["id"] == reply["jobId"] and said.get("message"):
            texts.append(said["message"])
    assert texts[-1] == "Built 4 routes"
    assert (tmp_path / "dist" / "page-0002.html").is_file()


async def test_a_tool_for_administrators_needs_their_token(bus: Foreign, tmp_path: Path) -> None:
    await ready(bus)
    names = [each["name"] for each in (await bus.ask("plugin.tools"))["tools"]]
    assert "build-site" not in names
    assert "generate" in names
    before = await bus.last()
    for more in ({}, {"token": "guessed"}):
        with pytest.raises(Refused, match="administrators' token"):
            await tool(bus, "build-site", {"outputDir": str(tmp_path / "dist")}, **more)
    assert await bus.born(before) == []


async def test_what_a_job_does_not_take_is_refused_before_it_is_queued(bus: Foreign, place: Place) -> None:
    await ready(bus)
    before = await bus.last()
    for given in ({}, {"outputDir": 3}, {"outputDir": "/x", "typo": True}):
        with pytest.raises(Refused) as refused:
            await tool(bus, "build-site", given, token=token(place))
        assert refused.value.code == "validation"
    with pytest.raises(Refused, match="there is no page 'nothing' to generate, there are: landing"):
        await tool(bus, "generate", {"page": "nothing"})
    assert await bus.born(before) == []


async def test_the_sections_of_a_page_are_generated_as_a_batch(bus: Foreign, tmp_path: Path) -> None:
    await ready(bus)
    heard = await bus.hear("brain.progress.plan.>")
    folder = docs(tmp_path / "docs")
    reply = await tool(bus, "generate", {"page": "landing", "workingDir": str(folder)})
    batch = reply["batchId"]
    assert reply == {"status": "queued", "batchId": batch, "message": "Generating 3 sections", "tip": TIP}
    told: list[dict[str, Any]] = []
    while not told or not told[-1]["final"]:
        said = json.loads((await heard.next_msg(timeout=20)).data)
        if said["id"] == batch:
            told.append(said)
    assert told[-1]["text"] == "3/3 sections (100%)"
    doing = {each["currentOperation"] for each in told} - {None}
    assert doing <= {f"Generating landing:{name}" for name in ("hero", "features", "cta")}
    assert sorted(path.name for path in (folder / "_pages" / "landing").iterdir()) == [
        "1-hero.md",
        "2-features.md",
        "3-cta.md",
    ]

    async def described() -> bool:
        listed = (await bus.ask("execution.list", {"plan_id": batch}))["executions"]
        names = ("hero", "features", "cta")
        return {each["description"] for each in listed} == {f"Generating landing:{name}" for name in names}

    await bus.until(described)


async def test_a_build_whose_host_is_killed_writes_no_finished_page_again(own: Place, tmp_path: Path) -> None:
    pages, site = 300, tmp_path / "dist"
    folder = docs(tmp_path / "docs", pages)
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        await ready(bus)
        given = {"outputDir": str(site), "workingDir": str(folder)}
        job = (await tool(bus, "build-site", given, token=token(own)))["jobId"]
        module = (await bus.ask("module.status", {"module": "site-builder"}))["module"]
        await became((site / "page-0005.html").exists)
        os.kill(module["pool"][0]["pid"], 9)
        first = {path.name: path.stat().st_ino for path in site.glob("page-*.html")}
        assert 5 < len(first) < pages
        over = await bus.over(job)
        assert (over["status"], over["attempt"]) == ("completed", 2)
        noted = [json.loads(line) for line in (site / ".site-build").read_bytes().splitlines()[1:]]
        # The one that was being written when the host died may not have been noted yet.
        again = [name for name, number in first.items() if (site / name).stat().st_ino != number]
        assert len(again) <= 1
        assert len(noted) == len(set(noted)) == pages + 2
        assert len(list(site.glob("*.html"))) == pages + 1
