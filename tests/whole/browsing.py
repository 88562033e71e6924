"""A real browser, driven as a person would drive it."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PICTURES = Path(__file__).parents[2] / ".cache" / "screenshots"
PATIENCE_MS = 30_000
"""A test waits for what it wants to see, never for a time."""

expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """Start a browser without a window; without one the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: scripts/browser installs it")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(browser: Browser, url: str, **how: Any) -> AsyncGenerator[Page]:
    """Open a page as somebody who was never there; whatever its scripts complain about fails the test."""
    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}, **how}
    async with await browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _bad(said.type, said.text) else None)
        await page.goto(url)
        yield page
        assert not wrong, wrong


def _bad(kind: str, text: str) -> bool:
    """Say whether a page complains; that a server was away is not its fault."""
    return kind == "error" and "net::ERR" not in text and "Failed to load resource" not in text


async def audit(page: Page, *only: str) -> list[dict[str, Any]]:
    """What axe-core finds wrong for people who see, hear or point differently; the serious part of it.

    `only` names the rules to try; without it, all that axe-core tries by itself.
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    # What is right, most of a page, needs no telling in which place it is.
    tried: dict[str, Any] = {"resultTypes": ["violations"]}
    if only:
        tried["runOnly"] = {"type": "rule", "values": only}
    found: list[dict[str, Any]] = await page.evaluate(
        "async tried => (await axe.run(tried)).violations", tried
    )
    return [each for each in found if each["impact"] in ("serious", "critical")]


async def picture(page: Page, name: str) -> None:
    """Keep what it looks like, for people."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png")


async def text(page: Page, selector: str = "main") -> str:
    """Say what a reader sees."""
    return await page.locator(selector).inner_text()
