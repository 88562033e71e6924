"""Plugins from load to unload: the code of the guide in a real node, and what is refused at once."""

import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, Refused, connect

pytestmark = pytest.mark.asyncio
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "plugins.md"


def written(folder: Path) -> None:
    """Write the modules of the guide as it shows them."""
    for name, code in re.findall(r"```python\n# (\w+\.py)[^\n]*\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        with (folder / name).open("a") as file:
            file.write(code)


@pytest_asyncio.fixture
async def guided(own: Place, tmp_path: Path) -> AsyncGenerator[Foreign]:
    """A node that can import what the guide shows."""
    written(tmp_path)
    own.up(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
    async with connect(own.wrote["nats_url"]) as bus:
        yield bus


async def load(bus: Foreign, name: str) -> dict[str, Any]:
    return (await bus.ask("plugin.load", {"name": name, "source": f"{name}:plugin"}, 70))["plugin"]


async def submit(bus: Foreign, kind: str, data: Any) -> str:
    return (await bus.ask("job.submit", {"type": kind, "data": data}))["execution_id"]


async def tool(bus: Foreign, name: str, **given: Any) -> Any:
    return (await bus.ask("plugin.call", {"name": name, "arguments": given}))["result"]


async def test_a_plugin_is_registered_used_and_unregistered(guided: Foreign) -> None:
    with pytest.raises(Refused, match="no plugin 'shop' is loaded"):
        await submit(guided, "shop:bill", {"number": 7, "items": []})
    assert (await load(guided, "shop"))["jobs"] == ["shop:bill", "shop:call"]

    over = await guided.over(await submit(guided, "shop:bill", {"number": 7, "items": ["pen", "paper"]}))
    assert (over["status"], over["result"]["value"]) == ("completed", {"number": 7, "total": 8})
    assert over["result"]["stdout"] == "order 7: 8\n"
    assert over["progress_detail"]["message"] == "Adding paper"
    assert over["retries"] == 3

    queued = await tool(guided, "bill", number=8, items=["ink"])
    assert queued | {"jobId": ""} == {
        "status": "queued",
        "message": "Billing queued",
        "jobId": "",
        "tip": "Use the status tool to check progress",
    }
    assert (await guided.over(queued["jobId"]))["result"]["value"] == {"number": 8, "total": 3}
    assert await tool(guided, "price", item="pen") == {"price": 3}

    await guided.ask("plugin.unload", {"name": "shop"})
    with pytest.raises(Refused, match="plugin 'shop' is unloaded"):
        await submit(guided, "shop:bill", {"number": 7, "items": []})
    with pytest.raises(Refused, match="no tool 'price'"):
        await tool(guided, "price", item="pen")
    types = (await guided.ask("job.types"))["types"]
    assert not [each for each in types if each["type"].startswith("shop:")]


async def test_what_a_handler_does_not_take_is_refused_before_it_is_queued(guided: Foreign) -> None:
    await load(guided, "shop")
    await load(guided, "till")
    before = await guided.last()
    cases: list[tuple[str, Any, str]] = [
        ("shop:bill", {"number": "7", "items": []}, "job.data.number"),
        ("shop:bill", {"number": 7, "items": [], "typo": 1}, "job.data"),
        ("till:refund", -1, "job.data"),
        ("till:refund", "all", "job.data"),
    ]
    for kind, data, field in cases:
        with pytest.raises(Refused) as refused:
            await submit(guided, kind, data)
        assert (refused.value.code, refused.value.details["field"]) == ("validation", field)
    assert await guided.born(before) == []


async def test_the_class_form_processes_and_hears_of_its_errors(guided: Foreign) -> None:
    await load(guided, "till")
    over = await guided.over(await submit(guided, "till:refund", 5))
    assert over["result"]["value"] == "5 given back"
    job = await submit(guided, "till:refund", 101)
    over = await guided.over(job)
    assert (over["status"], over["error"]["message"]) == (
        "failed",
        "Job failed: ValueError: so much is not in the till",
    )
    assert f"{job} could not give 101 back" in over["result"]["stdout"]
