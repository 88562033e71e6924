"""A short part of `scripts/prove fuzz`."""

from typing import Any

import pytest
from foreign import Foreign

from tests.proofs.fuzz import storm

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


async def test_whatever_is_sent_is_answered_and_the_node_lives(bus: Foreign, info: dict[str, Any]) -> None:
    tally = await storm(info["nats_url"], 1, 90.0, 3000)
    assert tally.sent == 3000
    assert tally.wrong == []
    found = await bus.ask("node.info")
    assert found["node"]["pid"] == info["pid"]
    actors = (await bus.ask("actor.list"))["actors"]
    assert sum(each.get("restarts", 0) for each in actors) == 0
    assert (await bus.run(exec={"program": "true"}))["status"] == "completed"
