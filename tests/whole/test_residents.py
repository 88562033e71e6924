"""Modules that live in the node itself: seen like all modules, paused, resumed, and still so after a fall."""

from typing import Any

import pytest
from foreign import Foreign, Place, Refused, connect, gone, kill

pytestmark = pytest.mark.asyncio
TYPES = "SELECT type, context FROM decisions WHERE module = 'commands' ORDER BY seq"


async def looks(bus: Foreign) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (await bus.ask("module.list"))["modules"]}


async def decided(bus: Foreign) -> list[list[Any]]:
    return (await bus.ask("query.sql", {"sql": TYPES, "min_seq": await bus.last()}))["rows"]


async def test_they_are_modules_among_others(bus: Foreign) -> None:
    async def up() -> bool:
        found = await looks(bus)
        return all(found[name]["state"] == "running" for name in ("commands", "monitor", "scaler"))

    await bus.until(up)
    found = await looks(bus)
    assert found["monitor"]["category"] == found["scaler"]["category"] == "monitoring"
    assert found["commands"]["total"] >= 1
    before = found["commands"]["tasks_completed"]
    await bus.run(exec={"program": "true"})

    async def counted() -> bool:
        return (await looks(bus))["commands"]["tasks_completed"] > before

    await bus.until(counted)
    for verb, more in (("scale", {"workers": 2}), ("restart", {})):
        with pytest.raises(Refused, match="part of the node"):
            await bus.ask(f"module.{verb}", {"module": "monitor", **more})
    with pytest.raises(Refused, match="called otherwise"):
        await bus.ask("plugin.load", {"name": "scaler", "source": "tests.handlers:plugin"})


async def test_paused_commands_wait_also_after_a_fall_and_go_on(own: Place) -> None:
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.ask("module.pause", {"module": "commands", "reason": "a freeze"})
        await bus.ask("module.pause", {"module": "commands"})
        first = await bus.submit(exec={"program": "true"})
    pid = own.wrote["pid"]
    kill(pid, 9)
    assert gone(pid)
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        second = await bus.submit(exec={"program": "true"})

        async def paused() -> bool:
            return (await looks(bus))["commands"]["state"] == "paused"

        await bus.until(paused)
        said = (await bus.ask("query.why", {"execution_id": second, "min_seq": await bus.last()}))[
            "sentences"
        ]
        assert "The module commands is paused by client: a freeze." in [each["text"] for each in said]
        for each in (first, second):
            one = (await bus.ask("execution.get", {"execution_id": each}))["execution"]
            assert one["status"] == "queued"
        await bus.ask("module.resume", {"module": "commands"})
        assert {(await bus.over(each))["status"] for each in (first, second)} == {"completed"}
        assert await decided(bus) == [["pause", "a freeze"], ["resume", "asked by client"]]
