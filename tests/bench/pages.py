"""How soon a page of the dashboard can be read, with many executions in the tables."""

import asyncio
from pathlib import Path

from playwright.async_api import Page

from tests.bench.run import Run
from tests.bench.stand import Stand, bridge, stand
from tests.bench.writer import Writer
from tests.whole.browsing import CHROMIUM, chromium

WAITING = 2000
PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const each of list.getEntriesByName("first-contentful-paint")) done(each.startTime);
}).observe({ type: "paint", buffered: true }))"""


async def measure(run: Run) -> None:
    """Write the lives of many executions, start the node on them, and open its pages."""
    if CHROMIUM is None:
        run.note("there is no chromium here: scripts/browser installs it")
        return
    count, data = run.size(100_000, 3_000), run.place()
    async with stand(data):
        pass
    await asyncio.to_thread(_write, data, count * 3)
    async with stand(data) as node, chromium() as browser:
        last = (await node.nc.jetstream().stream_info("BRAIN_EVENTS")).state.last_seq
        query = "SELECT arg_max(id, seq) FROM executions"
        one: str = await node.one(query, min_seq=last)
        page = await browser.new_page()
        for name, path in {
            "the overview": "/",
            "the list of executions": "/executions",
            "the page of one execution": f"/executions/{one}",
            "a search through commands": "/search?q=true",
            "the overview as of half of them": f"/?seq={last // 2}",
        }.items():
            seconds = [await _paint(page, node, path) for _ in range(run.size(10, 3))]
            run.add(f"{name} can be read, {count:,} executions in the tables", "s", seconds)


def _write(data: Path, events: int) -> None:
    with bridge(data) as bus:
        Writer(bus).write(events, WAITING)


async def _paint(page: Page, node: Stand, path: str) -> float:
    """Open a page; the seconds until there is something to read on it (First Contentful Paint)."""
    await page.goto(node.info["http_url"] + path)
    return float(await page.evaluate(PAINT)) / 1000
