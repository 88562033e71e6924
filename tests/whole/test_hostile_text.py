"""Whatever people may name or write is text on every page, in a real browser: nothing of it runs."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from browsing import visit
from foreign import Foreign, Place, connect
from playwright.async_api import Browser, expect

pytestmark = [pytest.mark.whole, pytest.mark.asyncio(loop_scope="module")]

NASTY = (
    "<img src=x onerror=window.pwned=1></script><script>window.pwned=2</script>"
    "\"'><svg onload=window.pwned=3></textarea></title><a href=javascript:window.pwned=4>{{7*7}}</a>"
)
FOREIGN = "img[src=x], svg[onload], a[href^=javascript], [onerror], [onload]"
"""What would be in a page if anything of it were taken for HTML."""


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Start a node whose every name is an attack."""
    place = Place(tmp_path_factory.mktemp("n") / "d")
    yield place.up()
    place.end()


@pytest_asyncio.fixture(loop_scope="module")
async def pages(nasty: Place) -> AsyncGenerator[list[tuple[str, bool]]]:
    """Have everything said that a page can show; the pages, and whether they must show it."""
    async with connect(nasty.wrote["nats_url"]) as bus:
        yield await written(bus)


async def written(bus: Foreign) -> list[tuple[str, bool]]:
    """Say it everywhere."""
    loud = {"shell": {"command": f"cat <<'E'\n{NASTY}\nE\nexit 3"}}
    ran = await bus.submit(**loud, description=NASTY)
    await bus.over(ran)
    bad = await bus.submit(exec={"program": f"/{NASTY}", "args": [NASTY]})
    await bus.over(bad)
    stopped = await bus.submit(shell={"command": f"echo '::progress 1/2 {NASTY[:44]}'; sleep 600"})
    await bus.ask("execution.cancel", {"execution_id": stopped, "reason": NASTY})
    held = await bus.submit(**loud, description=NASTY, delay_ms=3_600_000)
    steps = [{"name": "a", **loud, "description": NASTY, "when": "1 == 1"}]
    plan = (await bus.ask("plan.submit", {"name": NASTY, "description": NASTY, "steps": steps}))["plan_id"]
    await bus.ask("plan.wait", {"plan_id": plan})
    items = {"do": {"exec": {"program": "test", "args": ["${item}"]}}, "items": [NASTY]}
    batch = (await bus.ask("batch.submit", {**items, "description": NASTY}))["plan_id"]
    await bus.ask("plan.wait", {"plan_id": batch})
    tick = {"submit": {**loud, "description": NASTY}, "every_ms": 3_600_000, "description": NASTY}
    timed = (await bus.ask("schedule.create", tick))["schedule_id"]
    await bus.ask("schedule.pause", {"schedule_id": timed, "reason": NASTY})
    asks = {"name": "b", "input": {"message": NASTY, "schema": {"enum": [NASTY], "description": NASTY}}}
    phases = [{"id": "p", "name": NASTY, "summary": NASTY, "steps": [asks]}]
    book = {"name": NASTY, "description": NASTY, "phases": phases}
    playbook = (await bus.ask("playbook.run", book))["playbook_id"]

    async def asking() -> bool:
        found = await bus.ask("playbook.get", {"playbook_id": playbook})
        return found["playbook"]["status"] == "waiting_input"

    await bus.until(asking)
    kept = {"text": NASTY, "name": NASTY.replace("/", ""), "reference": playbook}
    await bus.ask("artifact.register", kept)
    await bus.ask("module.pause", {"module": "commands", "reason": NASTY})
    await bus.ask("module.resume", {"module": "commands"})
    await bus.ask("limit.set", {"key": NASTY, "max": 1})
    last = await bus.last()
    await bus.ask("query.sql", {"sql": "SELECT 1", "min_seq": last})
    shown = [
        *("/", "/executions", "/plans", "/playbooks", "/schedules", "/decisions", "/search?q=onerror"),
        *(f"/executions/{each}" for each in (ran, bad, stopped, held)),
        *(f"/plans/{plan}", f"/plans/{batch}", f"/playbooks/{playbook}", "/sql?q=FROM+executions"),
        *(f"/log/execution/{each}" for each in (ran, bad)),
        *(f"/log/plan/{plan}", f"/log/playbook/{playbook}", f"/log/schedule/{timed}"),
    ]
    others = ["/dead", "/modules", "/submit", "/sql?q=FROM+artifacts", f"/playbooks/{playbook}?seq={last}"]
    return [*((path, True) for path in shown), *((path, False) for path in others)]


async def test_nothing_of_it_runs(browser: Browser, nasty: Place, pages: list[tuple[str, bool]]) -> None:
    url = nasty.wrote["http_url"]
    # What a policy kept from running would be complained about, and then the page fails too.
    async with visit(browser, url) as page:
        for path, shows in pages:
            await page.goto(url + path)
            if shows:
                await expect(page.locator("main")).to_contain_text(NASTY[:18])
            assert await page.evaluate("window.pwned") is None, path
            assert await page.locator(FOREIGN).count() == 0, path
