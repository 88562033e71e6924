"""The dashboard in a real browser, on a real node: what people see, and what they can do.

It is long because one browser and one node, which take seconds to start, serve all pages.
"""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from browsing import audit, picture, text, visit
from foreign import Foreign, Place, connect, gone
from playwright.async_api import Browser, Page, expect

from bus.log import Log
from events import decision
from events.ports import Ask
from tests.bench.stand import bridge

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTML = {"Accept": "text/html"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(info: dict[str, Any]) -> AsyncGenerator[Foreign]:
    """A connection in the loop of the browser."""
    async with connect(info["nats_url"]) as bus:
        yield bus


def waiting(folder: Path) -> tuple[str, Path]:
    """A command that writes `one`, waits for a file, and writes `two`."""
    go = folder / "go"
    return f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two", go


async def plan(bus: Foreign, folder: Path, name: str = "release") -> tuple[str, Path]:
    """A plan of which one step waits for a file."""
    line, go = waiting(folder)
    steps = [
        {"name": "lint", "shell": {"command": "echo lint"}},
        {"name": "build", "shell": {"command": line}, "needs": ["lint"]},
        {"name": "flaky", "shell": {"command": "exit 7"}, "allow_failure": True},
        {"name": "publish", "shell": {"command": "true"}, "needs": ["build", "flaky"]},
    ]
    reply = await bus.ask("plan.submit", {"name": name, "strategy": "graph", "steps": steps})
    return reply["plan_id"], go


async def settled(bus: Foreign) -> int:
    """Wait until the tables know all of the log; gives its last event."""
    last = await bus.last()
    await bus.ask("query.sql", {"sql": "SELECT 1", "min_seq": last})
    return last


async def test_what_is_submitted_on_a_page_is_seen_to_run_and_to_end(
    browser: Browser, info: dict[str, Any], tmp_path: Path
) -> None:
    line, go = waiting(tmp_path)
    async with visit(browser, info["http_url"] + "/submit") as page:
        await page.fill("#text", line)
        await page.fill("#description", "said on a page")
        await page.fill("#labels", "paged, live")
        await page.click("form#run button")
        await expect(page.locator("h1")).to_have_text("said on a page")
        await expect(page.locator("#output")).to_have_text("one")
        await expect(page.locator("#status")).to_have_text("running")
        await expect(page.locator(".label")).to_have_text(["paged", "live"])
        await page.evaluate("window.same = true")
        await picture(page, "execution-running")
        go.touch()
        await expect(page.locator("#output > div")).to_have_text(["one", "two"])
        await expect(page.locator("#status")).to_have_text("completed")
        await expect(page.locator("#facts b")).to_contain_text(["queued", "started", "completed"])
        assert await page.evaluate("window.same"), "it changed without being loaded again"
        await page.click("text=Retry")
        await expect(page.locator("#state")).to_contain_text("Retry of")
        await expect(page.locator("#status")).to_have_text("completed")


async def test_a_button_cancels_what_runs(browser: Browser, info: dict[str, Any], bus: Foreign) -> None:
    execution = await bus.submit(shell={"command": "echo here; sleep 600"}, description="stop me")
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("#output")).to_have_text("here")
        await page.click("text=Cancel")
        await expect(page.locator("#status")).to_have_text("cancelled")
        await expect(page.locator("#facts b")).to_contain_text(["cancel requested", "cancelled"])
    assert (await bus.over(execution))["status"] == "cancelled"


async def test_the_overview_is_told_of_everything_and_can_be_steered_by_keys(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    line, go = waiting(tmp_path)
    async with visit(browser, info["http_url"] + "/brain") as page:
        await expect(page.locator("#nodes")).to_contain_text("up")
        await page.evaluate("window.same = true")
        slow = await bus.submit(
            shell={"command": f"echo ::progress 3/4 rooms; {line}"}, description="slow one"
        )
        card = page.locator("#running li", has_text="slow one")
        await expect(card).to_contain_text("75% complete")
        await expect(card.locator("progress")).to_have_attribute("value", "0.7500")
        await expect(card.locator("samp")).to_have_text("one")
        await expect(card).to_contain_text("% CPU")
        await expect(page.locator("#usage")).not_to_contain_text("0 B")
        later = await bus.submit(shell={"command": "true"}, description="later", delay_ms=3_600_000)
        await expect(page.locator("#waiting tr", has_text="later")).to_contain_text("time")
        await expect(page.locator("body[data-ready]")).to_be_attached()
        await page.keyboard.press("j")
        await expect(page.locator("#running .row-link").first).to_be_focused()
        go.touch()
        await bus.over(slow)
        await expect(page.locator("#ended tr", has_text="slow one")).to_contain_text("completed")
        await bus.ask("execution.cancel", {"execution_id": later})
        await expect(page.locator("#waiting tr", has_text="later")).to_have_count(0)
        assert await page.evaluate("window.same"), "it changed without being loaded again"
        await picture(page, "overview")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("search everything")
        await page.keyboard.press("Escape")
        await page.keyboard.press("/")
        await expect(page.locator("#find")).to_be_focused()
        await page.keyboard.type("slow one")
        await page.keyboard.press("Enter")
        await expect(page.locator("#said")).to_contain_text("slow one")
        await expect(page.locator("#written")).to_contain_text("Nothing")


async def test_any_moment_of_the_past_is_shown_as_it_was(
    browser: Browser, info: dict[str, Any], bus: Foreign, place: Place, tmp_path: Path
) -> None:
    line, go = waiting(tmp_path)
    execution = await bus.submit(shell={"command": line}, description="past and present")
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("#output")).to_have_text("one")
        await expect(page.locator("#facts b").last).to_have_text("progressed")
        await expect(page.locator("#state")).to_contain_text("pid")
        await expect(page.locator(f"body[data-seq='{await settled(bus)}']")).to_be_attached()
        was, now = await frozen(page)
        body = await page.evaluate("({...document.body.dataset})")
        go.touch()
        await bus.over(execution)
        await expect(page.locator("#status")).to_have_text("completed")
        await page.goto(f"{info['http_url']}/executions/{execution}?at={now}")
        await expect(page.locator("#output")).to_have_text("one")
        assert (await seen(page)).split() == was.split()
        await expect(page.locator("#live")).to_have_count(0)

        # The slider moves to an event; the tables say the same of it.
        await page.goto(info["http_url"])
        seq = int(body["seq"])
        await page.locator("#seq").evaluate(
            "(slider, seq) => { slider.value = seq; slider.dispatchEvent(new Event('change')) }", seq
        )
        await expect(page.locator("#event")).to_have_text(f"{seq:,}")
        assert f"seq={seq}" in page.url
        await expect(page.locator("#running")).to_contain_text("past and present")
        done = place.cli(
            "sql", "--seq", str(seq), "--json", "SELECT status, count(*) AS n FROM executions GROUP BY 1"
        )
        counts = {row["status"]: row["n"] for row in json.loads(done.stdout)}
        for status, count in counts.items():
            shown = page.locator(f"#stats li:has(.{status}) b")
            await expect(shown).to_have_text(f"{count:,}")
        await picture(page, "past")
        await page.keyboard.press("[")
        await expect(page.locator("#event")).to_have_text(f"{seq - 1:,}")
        await page.click("nav >> text=Executions")
        assert f"seq={seq - 1}" in page.url, "a link leads to the same moment"
        await expect(page.locator("body[data-ready]")).to_be_attached()
        await page.keyboard.press("n")
        await expect(page.locator("#live")).to_have_text("Live")
        assert "seq" not in page.url


async def frozen(page: Page) -> tuple[str, str]:
    """What a live page shows, and the moment of which it says so."""
    found = await page.evaluate(f"[({SEEN})(), document.body.dataset.now]")
    return found[0], found[1]


async def seen(page: Page) -> str:
    """The text of a page, but for what a person can only do now, and samples, which are not in the log."""
    return await page.evaluate(f"({SEEN})()")


SEEN = """() => {
  const main = document.querySelector("main").cloneNode(true);
  const other = "form[method=post], #playback, noscript, [data-sample], .hidden, [hidden]";
  for (const each of main.querySelectorAll(other)) each.remove();
  return main.textContent.replace(/\\s+/g, " ").trim();
}"""


async def test_a_plan_is_a_graph_whose_steps_change_colour(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    name, go = await plan(bus, tmp_path)
    async with visit(browser, f"{info['http_url']}/plans/{name}") as page:
        step = page.locator("#graph a.step")
        await expect(step).to_have_count(4)
        await expect(page.locator("#graph a.step.completed")).to_contain_text("lint")
        # Two may run at first; once one of them has failed, the other is the only one.
        await expect(page.locator("#graph a.step.failed")).to_contain_text("flaky")
        await expect(page.locator("#graph a.step.running")).to_contain_text("build")
        await expect(page.locator("#graph a.step.pending")).to_contain_text("publish")
        colours = [
            await page.locator(f"#graph a.step.{word} circle").evaluate("e => getComputedStyle(e).fill")
            for word in ("completed", "running", "failed", "pending")
        ]
        assert len(set(colours)) == 4
        assert await page.locator("#graph .edge[marker-end]").count() == 3
        await picture(page, "plan")
        go.touch()
        await expect(page.locator("#graph a.step.completed")).to_have_count(3)
        await expect(page.locator("#state")).to_contain_text("completed")
        await step.filter(has_text="build").click()
        await expect(page.locator("#output > div")).to_have_text(["one", "two"])
        await page.click("#state a[href^='/plans/']")
        await expect(page.locator("h1")).to_have_text("release")
    async with visit(browser, info["http_url"] + "/plans") as page:
        await expect(page.locator("tr", has_text="release").first).to_contain_text("4/4")


async def test_plans_are_paused_resumed_run_again_and_cancelled_by_buttons(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    name, go = await plan(bus, tmp_path, "steered")
    other, _ = await plan(bus, tmp_path / "never", "given up")
    door = {"name": "door", "shell": {"command": f"test -e {tmp_path}/door"}}
    broken = await bus.ask("plan.submit", {"name": "shut", "strategy": "serial", "steps": [door]})
    async with visit(browser, f"{info['http_url']}/plans/{name}") as page:
        status, step = page.locator("#state .status"), page.locator("#graph a.step")
        await expect(step.filter(has_text="build")).to_contain_text("running")
        await page.click("text=Pause")
        await expect(status).to_have_text("paused")
        go.touch()
        await expect(step.filter(has_text="build")).to_contain_text("completed")
        await expect(step.filter(has_text="publish")).to_contain_text("pending")
        await page.click("text=Resume")
        await expect(status).to_have_text("completed")
        await expect(step.filter(has_text="publish")).to_contain_text("completed")
        await page.goto(f"{info['http_url']}/plans/{broken['plan_id']}")
        await expect(status).to_have_text("failed")
        (tmp_path / "door").touch()
        await page.click("text=Run the failed again")
        await expect(status).to_have_text("completed")
        await page.goto(f"{info['http_url']}/plans/{other}")
        await page.click("text=Cancel")
        await expect(status).to_have_text("cancelled")
        await page.click("nav >> text=Plans")
        for title, end in (("steered", "completed"), ("shut", "completed"), ("given up", "cancelled")):
            await expect(page.locator("tr", has_text=title).first.locator(".status")).to_have_text(end)


async def test_the_list_of_executions_follows_what_is_done_with_them(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    for name in ("first listed", "second listed"):
        await bus.submit(shell={"command": "echo up; sleep 600"}, description=name, labels=["listed"])
    async with visit(browser, info["http_url"] + "/executions?label=listed") as page:
        row = page.locator("#found tbody tr")
        await expect(row.locator(".status")).to_have_text(["running", "running"])
        await expect(row.locator("samp")).to_have_text(["up", "up"])
        await row.filter(has_text="first listed").locator(".row-link").click()
        await page.click("text=Cancel")
        await expect(page.locator("#status")).to_have_text("cancelled")
        await page.click(".label >> text=listed")
        await expect(row.locator(".status")).to_have_text(["running", "cancelled"])
        await page.click(".chips >> text=cancelled")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("first listed")
        await page.click(".chips >> text=running")
        await expect(row).to_contain_text("second listed")
        await bus.ask("execution.cancel", {"where": {"label": "listed"}, "min_seq": await bus.last()})
        await expect(page.locator("#found")).to_have_text("There are none.")
        await picture(page, "executions")


async def test_a_batch_has_a_bar_that_moves(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    line = f"[ ${{item}} -lt 3 ] || while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; [ ${{item}} != 1 ]"
    wish = {
        "description": "Turn 5 pages",
        "do": {"shell": {"command": line}},
        "items": ["1", "2", "3", "4", "5"],
    }
    name = (await bus.ask("batch.submit", wish))["plan_id"]
    async with visit(browser, f"{info['http_url']}/plans/{name}") as page:
        await expect(page.locator("#state")).to_contain_text("2 of 5")
        await expect(page.locator("#state progress")).to_have_attribute("value", "0.4000")
        await expect(page.locator("#state")).to_contain_text("1 failed")
        await expect(page.locator("#going")).to_contain_text("running")
        await picture(page, "batch")
        (tmp_path / "go").touch()
        await expect(page.locator("#state")).to_contain_text("5 of 5")
        await expect(page.locator("#going")).to_contain_text("exit 1")


async def test_hostile_output_is_text_and_nothing_else(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    code = r"""
import sys
out = sys.stdout
out.write("<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\n")
out.write("\x1b[31;1mred\x1b[0m \x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\n")
out.write("\x1b]0;title\x07\x1b[2J\x1b[Hcleared\x00\x01\n")
out.write("old\rnew\n")
out.write("x" * 2_000_000 + "\n")
for n in range(8000): out.write(f"line {n} </pre></div><b>\n")
out.write("</script><script>window.pwned = 3</script>\n")
"""
    wish = {
        "code": code,
        "language": "python",
        "description": "<script>window.pwned = 4</script>",
    }
    execution = await bus.submit(**wish)
    await bus.over(execution)
    failed = await bus.submit(shell={"command": "echo '<img src=x onerror=alert(1)>' >&2; exit 9"})
    await bus.over(failed)
    await settled(bus)
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("h1")).to_have_text("<script>window.pwned = 4</script>")
        await expect(page.locator("#output > div").last).to_have_text(
            "</script><script>window.pwned = 3</script>"
        )
        assert await page.locator("#output > div").count() <= 5000
        assert await page.locator("#output script, #output img, #output b, #output a").count() == 0
        await expect(page.locator("#before")).to_be_visible()
        await page.fill("#needle", "line 7999")
        await expect(page.locator("#hits")).to_have_text("1 of 1")
        assert await page.evaluate("window.pwned") is None
        for path in (
            "/",
            "/executions",
            f"/log/execution/{execution}",
            "/search?q=pwned",
            f"/executions/{failed}",
        ):
            await page.goto(info["http_url"] + path)
            await expect(page.locator("main")).to_contain_text("<")
            assert await page.evaluate("window.pwned") is None, path
        query = quote('SELECT \'<img src=x onerror="window.pwned = 5">\' AS "<b>"')
        await page.goto(f"{info['http_url']}/sql?q={query}")
        await expect(page.locator("#answer")).to_contain_text("<img src=x")
        assert await page.evaluate("window.pwned") is None
    short = r"printf '\033[31;1mred\033[0m \033]8;;javascript:x\007link\033]8;;\007 old\rnew\n'"
    execution = await bus.submit(shell={"command": short})
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("#output")).to_have_text("new")
    execution = await bus.submit(shell={"command": r"printf '\033[31;1mred\033[0m \033[38;5;46mgreen\n'"})
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("#output .f1.bold")).to_have_text("red")
        assert await page.locator("#output span").last.evaluate("e => e.style.color") == "rgb(0, 255, 0)"


@pytest.mark.patient
async def test_a_run_is_played_back_on_its_page_in_its_order_and_at_its_pace(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    line = "echo one; sleep 2; echo two >&2; sleep 4; echo three; sleep 1; echo four; sleep 3; echo five >&2"
    execution = await bus.submit(shell={"command": line})
    await bus.over(execution)
    said = (await bus.ask("execution.logs", {"execution_id": execution}))["chunks"]
    stamps = sorted(datetime.fromisoformat(each["time"]).timestamp() for each in said)
    owed = [(each - stamps[0]) / 10 for each in stamps[1:]]
    assert len(owed) == 4
    words = ["one", "two", "three", "four", "five"]
    attempts: list[list[float]] = []
    async with visit(browser, f"{info['http_url']}/executions/{execution}") as page:
        await expect(page.locator("#output > div")).to_have_text(words)
        await expect(page.locator("#output[data-over]")).to_be_attached()
        await page.select_option("#speed", "10")
        await page.evaluate(WATCH)
        for _ in range(5):
            await page.evaluate("window.seen = []; delete document.getElementById('output').dataset.played")
            await page.click("#play")
            await expect(page.locator("#output[data-played]")).to_be_attached()
            seen = await page.evaluate("window.seen")
            assert [each["text"] for each in seen] == words, "each piece once, in the order of the run"
            attempts.append([(each["at"] - seen[0]["at"]) / 1000 for each in seen[1:]])
            if all(abs(at - due) <= due / 10 for at, due in zip(attempts[-1], owed, strict=True)):
                break
        else:
            # A busy machine holds up one piece or another; a player that drifts is wrong every time.
            raise AssertionError(f"{owed} seconds were owed, and never came within 10 %: {attempts}")
    async with httpx.AsyncClient(base_url=info["http_url"], timeout=20) as http:
        for speed in ("0", "-1", "x", "1e9", "nan"):
            reply = await http.get(f"/executions/{execution}/play?speed={speed}")
            assert reply.status_code == 400, speed


WATCH = """() => {
  const box = document.getElementById("output");
  new MutationObserver((changes) => {
    for (const each of changes.flatMap((change) => [...change.addedNodes]))
      window.seen.push({ at: performance.now(), text: each.textContent });
  }).observe(box, { childList: true });
}"""
"""Notes each line that comes, and when the page had it."""


async def test_a_page_of_elsewhere_can_do_nothing(info: dict[str, Any], bus: Foreign) -> None:
    execution = await bus.submit(shell={"command": "sleep 600"})
    form = {"execution_id": execution}
    async with httpx.AsyncClient(base_url=info["http_url"], timeout=20) as http:
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            for path, data in (("/submit", {"text": "true"}), ("/do/execution/cancel", form)):
                reply = await http.post(path, data=data, headers={"Origin": origin})
                assert reply.status_code == 403, (origin, path)
        assert (await http.get("/", headers={**HTML, "Host": "evil.example"})).status_code == 421
        assert (await http.post("/do/node/down", data=form)).status_code == 404
        assert (await http.post("/do/execution/cancel", json=form)).status_code == 400
        assert (await http.get("/do/execution/cancel")).status_code == 405
        for path in ("/static/../door.py", "/static/%2e%2e/door.py", "/static/..%2fdoor.py", "/static/"):
            assert (await http.get(path)).status_code in (404, 405), path
        for path in (
            "/?seq=x",
            "/?seq=-1",
            "/?seq=99999999999999999999999",
            "/?at=never",
            "/?seq=1&at=2026-01-01",
        ):
            reply = await http.get(path, headers=HTML)
            assert reply.status_code == 400, path
            assert 'role="alert"' in reply.text
        for path in ("/executions/<script>", "/plans/x", "/log/moon/x", "/log/plan/plan_x"):
            reply = await http.get(path, headers=HTML)
            assert reply.status_code in (400, 404), path
            assert "<script>" not in reply.text.replace("<script type", ""), path
        policy = (await http.get("/", headers=HTML)).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert (await bus.ask("execution.get", form))["execution"]["status"] in ("queued", "running")
    await bus.ask("execution.cancel", form)


async def test_search_looks_into_commands_labels_errors_and_output(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    first = await bus.submit(shell={"command": "printf 'The Quokka\\nsmiled\\n'"}, labels=["wombat-label"])
    second = await bus.submit(exec={"program": "no-such-numbat"})
    await bus.over(first)
    await bus.over(second)
    await settled(bus)
    async with visit(browser, info["http_url"] + "/search?q=quokka") as page:
        await expect(page.locator("#written tbody tr")).to_contain_text("The Quokka")
        await page.goto(info["http_url"] + "/search?q=wombat")
        await expect(page.locator("#said tbody tr")).to_contain_text("label")
        await page.goto(info["http_url"] + "/search?q=NUMBAT")
        await expect(page.locator("#said tbody tr")).to_contain_text("failed")
        await page.goto(info["http_url"] + "/search?q=zyzzyva")
        assert (await text(page)).count("Nothing.") == 2


async def test_a_query_is_answered_on_a_page_now_and_in_the_past(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    before = await settled(bus)
    await bus.run(shell={"command": "true"}, labels=["counted-once"])
    await settled(bus)
    query = "SELECT count(*) AS n FROM executions WHERE list_contains(labels, 'counted-once')"
    async with visit(browser, info["http_url"] + "/sql") as page:
        await page.fill("#q", query)
        await page.locator("#q").press("Control+Enter")
        await expect(page.locator("#answer td")).to_have_text("1")
        await picture(page, "sql")
        await page.goto(f"{info['http_url']}/sql?seq={before}&q={quote(query)}")
        await expect(page.locator("#answer td")).to_have_text("0")
        await page.goto(f"{info['http_url']}/sql?q={quote('DELETE FROM events')}")
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.click(".tables a >> text=projection_bookmarks")
        await expect(page.locator("#answer")).to_contain_text("events")


async def test_schedules_are_paused_and_run_by_buttons(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    made = await bus.ask(
        "schedule.create",
        {
            "cron": "30 2 * * *",
            "submit": {"shell": {"command": "echo night"}},
            "description": "a nightly thing",
        },
    )
    async with visit(browser, info["http_url"] + "/schedules") as page:
        row = page.locator("tr", has_text="a nightly thing")
        await expect(row).to_contain_text("30 2 * * *")
        await row.get_by_text("Pause").click()
        await expect(row.locator(".status")).to_have_text("paused")
        await row.get_by_text("Resume").click()
        await expect(row.locator(".status")).to_have_text("active")
        await row.get_by_text("Run now").click()
        await expect(row.locator("td:nth-child(6)")).to_have_text("1")
        await picture(page, "schedules")
        await row.locator(".row-link").click()
        await expect(page.locator("#facts b")).to_contain_text(["created", "paused", "resumed", "ticked"])
        await page.locator("#facts summary").first.click()
        await expect(page.locator("#facts details[open]")).to_contain_text("30 2 * * *")
        await picture(page, "log")
    await bus.ask("schedule.delete", {"schedule_id": made["schedule_id"]})


async def test_a_playbook_is_paused_resumed_and_cancelled_by_buttons(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    line, go = waiting(tmp_path)
    steps = [
        {"name": "wait", "shell": {"command": line}},
        {"name": "after", "shell": {"command": "echo after; sleep 600"}},
    ]
    phases = [{"id": "one", "name": "The first", "steps": steps}]
    playbook = (await bus.ask("playbook.run", {"name": "steered", "phases": phases}))["playbook_id"]
    async with visit(browser, f"{info['http_url']}/playbooks/{playbook}") as page:
        status, step = page.locator("#state .status"), page.locator("#steps tbody tr")
        await expect(step).to_contain_text(["wait"])
        await page.click("text=Pause")
        await expect(status).to_have_text("paused")
        go.touch()
        await expect(step.filter(has_text="wait")).to_contain_text("completed")
        await expect(step).to_have_count(1)
        await page.click("text=Resume")
        await expect(status).to_have_text("running")
        await expect(step.filter(has_text="after")).to_contain_text("running")
        await page.click("text=Cancel")
        await expect(status).to_have_text("cancelled")
        await expect(step.filter(has_text="after")).to_contain_text("cancelled")
        await page.click("nav >> text=Playbooks")
        row = page.locator("tr", has_text="steered")
        await expect(row).to_contain_text("cancelled")
        await expect(row).to_contain_text("1/2")


async def test_what_a_playbook_asks_is_answered_on_its_page(
    browser: Browser, info: dict[str, Any], bus: Foreign
) -> None:
    number = {"message": "How many <b>rooms</b>?", "schema": {"type": "integer", "minimum": 1}}
    sure = {"message": "Go on?", "schema": {"type": "boolean"}}
    steps = [
        {"name": "rooms", "input": number},
        {"name": "sure", "input": sure},
        {"name": "build", "shell": {"command": "echo built"}},
    ]
    wish = {"name": "questions", "phases": [{"id": "p", "name": "Ask", "steps": steps}]}
    playbook = (await bus.ask("playbook.run", wish))["playbook_id"]
    async with visit(browser, f"{info['http_url']}/playbooks/{playbook}") as page:
        await expect(page.locator("#asked")).to_contain_text("How many <b>rooms</b>?")
        await picture(page, "playbook-asks")
        assert not await audit(page)
        await page.get_by_label("Answer to rooms").fill("0")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("minimum")
        await page.goto(f"{info['http_url']}/playbooks/{playbook}")
        await page.get_by_label("Answer to rooms").fill("3")
        await page.keyboard.press("Enter")
        await expect(page.locator("#asked")).to_contain_text("Go on?")
        await page.get_by_role("button", name="Yes").click()
        await expect(page.locator("#state .status")).to_have_text("completed")
        await expect(page.locator("#asked")).to_be_hidden()
        await expect(page.locator("#steps tr", has_text="build")).to_contain_text("completed")
        query = f"SELECT answer, answered_by FROM inputs WHERE playbook_id = '{playbook}' ORDER BY asked_at"
        rows = (await bus.ask("query.sql", {"sql": query, "min_seq": await bus.last()}))["rows"]
        assert rows == [["3", "dashboard"], ["true", "dashboard"]]
        await page.click("nav >> text=Playbooks")
        await expect(page.locator("tr", has_text="questions")).to_contain_text("completed")
        await picture(page, "playbooks")


GREETER = """
import msgspec
from actors.plugin import Context, Plugin

plugin = Plugin("greeter")


class Greet(msgspec.Struct):
    '''Whom to greet.'''

    name: str


@plugin.job("greet")
def greet(ask: Greet, context: Context) -> str:
    '''Say hello.'''
    return f"Hello, {ask.name}"
"""


async def test_modules_are_steered_and_their_decisions_tell_what_was_seen(
    browser: Browser, own: Place, tmp_path: Path
) -> None:
    (tmp_path / "shown_greeter.py").write_text(GREETER)
    plugins = json.dumps({"greeter": "shown_greeter:plugin"})
    own.up(PYTHONPATH=str(tmp_path), HINDBRAIN_PLUGINS=plugins)
    url = own.wrote["http_url"]
    async with connect(own.wrote["nats_url"]) as bus:
        async with visit(browser, url + "/modules") as page:
            row = page.locator("tr", has_text="greeter")
            await expect(row.locator(".status")).to_have_text("running")
            job = {"type": "greeter:greet", "data": {"name": "you"}}
            await bus.over((await bus.ask("job.submit", job))["execution_id"])
            await expect(row.locator("td").nth(4)).to_have_text("1")
            await row.get_by_text("Pause").click()
            await expect(row.locator(".status")).to_have_text("paused")
            await row.get_by_text("Resume").click()
            await expect(row.locator(".status")).to_have_text("running")
            await row.get_by_text("Restart").click()
            await expect(row.locator("td").nth(6)).to_have_text("1")
            await picture(page, "modules")
            ours = page.locator("tr", has_text="commands")
            await expect(ours).to_have_count(1)
            await expect(ours.get_by_text("Restart")).to_have_count(0)
            await ours.get_by_text("Pause").click()
            await expect(ours.locator(".status")).to_have_text("paused")
            await page.click("nav >> text=Decisions")
            await expect(page.locator("#found li", has_text="commands").first).to_contain_text("pause")
            await page.click("nav >> text=Modules")
            await ours.get_by_text("Resume").click()
            await expect(ours.locator(".status")).to_have_text("running")
            await page.goto(url + "/decisions?module=commands")
            await expect(page.locator("#found b")).to_have_text(["resume", "pause"])
            await page.goto(url + "/modules")
            await row.locator(".row-link").click()
            await expect(page.locator("#facts b")).to_contain_text(
                ["declared", "started", "paused", "resumed", "restarted"]
            )
        # The scaler decides here too, about what is shipped; but it never has more workers of idle modules.
        async with visit(browser, url + "/decisions?type=scale_up") as page:
            await expect(page.locator("#found")).to_contain_text("Nothing was decided yet.")
            seen = {"snapshot": {"busy": 4}, "policy": {"kind": "classic"}}
            make = decision.Make(type="scale_up", module="greeter", context="All 4 are busy <b>", data=seen)
            await asyncio.to_thread(decide, own.data, make)
            await expect(page.locator("#found b")).to_have_text("scale up")
            await expect(page.locator("#found summary")).to_contain_text("All 4 are busy <b>")
            await page.locator("#found summary").click()
            await expect(page.locator("#found pre")).to_contain_text('"busy": 4')
            await picture(page, "decisions")
            await page.goto(url + "/decisions?type=refused")
            await expect(page.locator("#found")).to_contain_text("Nothing was decided yet.")


def decide(data: Path, make: decision.Make) -> None:
    """Write a decision into the log, as the scaler does."""
    stored = threading.Event()
    with bridge(data) as bus:
        ask = Ask(decision.DECISION, decision.entity(1, make.module), make, by="test")
        Log(bus, lambda: round(time.time() * 1000)).handle([ask], lambda _: stored.set())
        assert stored.wait(30)


@pytest.mark.patient
async def test_dead_letters_are_run_again_and_discarded_by_buttons(
    browser: Browser, own: Place, tmp_path: Path
) -> None:
    own.up()
    begun = tmp_path / "begun"
    both = f"[ -e {tmp_path}/go-$HINDBRAIN_ATTEMPT ] && [ $(wc -l < {begun}) -ge $((2 * HINDBRAIN_ATTEMPT)) ]"
    node = "node=$(ps -o ppid= -p $PPID)"
    killer = f"echo a >> {begun}; until {both}; do sleep 0.05; done; {node}; kill -9 $node $PPID"
    victim = f"echo b >> {begun}; while kill -0 $PPID; do sleep 0.05; done"
    async with connect(own.wrote["nats_url"]) as bus:
        often: dict[str, Any] = {"retries": {"max": 9, "backoff_ms": 10}}
        wish = {"shell": {"command": killer}, "secrets": {"PIN": "gone-with-it"}, **often}
        deadly = await bus.submit(description="the deadly one", **wish)
        struck = await bus.submit(shell={"command": victim}, description="the one beside it", **often)
    for attempt in (1, 2, 3):
        pid = own.wrote["pid"]
        (tmp_path / f"go-{attempt}").touch()
        assert await asyncio.to_thread(gone, pid, 60)
        own.up()
    async with connect(own.wrote["nats_url"]) as bus, visit(browser, own.wrote["http_url"] + "/dead") as page:

        async def taken_off(execution: str) -> list[dict[str, Any]]:
            told = (await bus.ask("execution.events", {"execution_id": execution}))["events"]
            return [each["data"] for each in told if each["event"] == "discarded"]

        rows = page.locator("#found tbody tr")
        await expect(rows).to_have_count(2)
        await expect(rows.filter(has_text="the deadly one")).to_contain_text("3 attempts in a row were lost")
        await picture(page, "dead")
        await rows.filter(has_text="the one beside it").get_by_text("Retry").click()
        await expect(page.locator("#state")).to_contain_text("Retry of")
        await expect(page.locator("#status")).to_have_text("running")
        assert [each["reason"] for each in await taken_off(struck)] == ["retried"]
        await page.click("nav >> text=Dead letters")
        await expect(rows).to_have_count(1)
        await rows.get_by_text("Retry").click()
        await expect(page.get_by_role("alert")).to_contain_text("PIN")
        await page.click("nav >> text=Dead letters")
        assert not await taken_off(deadly)
        await rows.get_by_text("Discard").click()
        await expect(page.locator("#found")).to_contain_text("Nothing is parked.")
        assert len(await taken_off(deadly)) == 1
        await page.goto(f"{own.wrote['http_url']}/log/execution/{deadly}")
        await expect(page.locator("#facts b").last).to_have_text("discarded")
        await bus.ask("execution.cancel", {"where": {"status": "running"}})


COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe-core that another colour scheme can break."""


async def test_every_page_is_for_everybody(
    browser: Browser, info: dict[str, Any], bus: Foreign, tmp_path: Path
) -> None:
    name, go = await plan(bus, tmp_path, "accessible")
    execution = await bus.submit(shell={"command": "printf '\\033[33mhi\\033[0m\\n'; echo no >&2; exit 2"})
    await bus.over(execution)
    await settled(bus)
    paths = [
        *(
            "/",
            "/executions",
            f"/executions/{execution}",
            "/plans",
            f"/plans/{name}",
            "/playbooks",
            "/schedules",
            "/modules",
            "/decisions",
            "/dead",
        ),
        *(
            "/sql?q=SELECT+1+AS+n",
            f"/log/plan/{name}",
            "/search?q=hi",
            "/submit",
            "/executions/nobody",
            "/?seq=3",
        ),
    ]
    papers: set[str] = set()
    async with visit(browser, info["http_url"], color_scheme="light") as page:
        for path in paths:
            await page.goto(info["http_url"] + path)
            await expect(page.locator("h1").first).to_be_attached()
            bad = await audit(page)
            assert not bad, (path, json.dumps(bad, indent=1)[:3000])
            await page.emulate_media(color_scheme="dark")
            bad = await audit(page, *COLOURS)
            assert not bad, ("dark", path, json.dumps(bad, indent=1)[:3000])
            await page.emulate_media(color_scheme="light")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            papers.add(await page.locator("html").evaluate("e => getComputedStyle(e).backgroundColor"))
            await page.goto(f"{info['http_url']}/plans/{name}")
            await expect(page.locator("#graph")).to_be_visible()
            await picture(page, f"plan-{scheme}")
    assert len(papers) == 2
    phone = {"width": 390, "height": 844}
    async with visit(
        browser, info["http_url"], viewport=phone, has_touch=True, is_mobile=True, color_scheme="dark"
    ) as page:
        for path in paths:
            await page.goto(info["http_url"] + path)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, (path, wide)
            await picture(page, "phone-" + (re.sub(r"\W+", "-", path.partition("?")[0])[1:13] or "overview"))
    go.touch()


async def test_a_page_says_that_it_is_stale_and_comes_back_by_itself(browser: Browser, own: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    up = ("--http-port", port, "--nats-port", "0")
    own.up(*up)
    url = own.wrote["http_url"]
    async with visit(browser, url) as page:
        await expect(page.locator("#nodes")).to_contain_text("up")
        await expect(page.locator("#stale")).to_be_hidden()
        assert own.cli("down").returncode == 0
        await expect(page.locator("#stale")).to_contain_text("Stale since")
        await picture(page, "stale")
        own.up(*up)
        async with connect(own.wrote["nats_url"]) as bus:
            await bus.run(shell={"command": "true"}, description="after the break")
        await expect(page.locator("#stale")).to_be_hidden()
        await expect(page.locator("#ended")).to_contain_text("after the break")
