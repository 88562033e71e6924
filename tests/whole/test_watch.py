"""The full screen in a terminal, on a real node: by its own pilot, and in a real terminal multiplexer."""

import asyncio
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from foreign import Foreign, Place
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from interfaces.api import ExecutionEngine
from interfaces.watch import Watch, shown
from tests.waiting import PATIENCE, turned, until

TMUX = shutil.which("tmux")


def waiting(folder: Path) -> tuple[str, Path]:
    """A command that writes a coloured word, waits for a file, and writes another word."""
    go = folder / "go"
    return f"printf '\\033[32mgreen\\033[0m\\n'; while [ ! -e {go} ]; do sleep 0.05; done; echo over", go


def table(app: Watch) -> list[list[str]]:
    """What the table says, row by row."""
    found = cast("DataTable[Any]", app.query_one("#rows"))
    return [[str(cell) for cell in found.get_row(key)] for key in found.rows]


async def choose(pilot: Pilot[None], app: Watch, execution: str) -> None:
    """Go to a row by keys."""

    async def there() -> bool:
        place = list(app.rows)
        if app.chosen in place and app.chosen != execution:
            await pilot.press("j" if place.index(execution) > place.index(app.chosen) else "k")
        return app.chosen == execution

    await turned(there)


async def became(pilot: Pilot[None], fact: Any) -> None:
    """Wait until a screen shows something."""

    async def look() -> Any:
        await pilot.pause()
        return fact()

    await turned(look)


@pytest.mark.asyncio
async def test_what_runs_is_watched_cancelled_and_retried(bus: Foreign, place: Place, tmp_path: Path) -> None:
    line, go = waiting(tmp_path)
    execution = await bus.submit(shell={"command": line}, description="watched here")
    async with ExecutionEngine.new({"data": str(place.data)}) as engine:
        app = Watch(engine)
        async with app.run_test(size=(130, 40)) as pilot:
            await became(pilot, lambda: any(row[1] == "watched here" for row in table(app)))
            await choose(pilot, app, execution)
            output = app.query_one("#output", RichLog)
            await became(pilot, lambda: [str(each.text) for each in output.lines] == ["green"])
            assert any(part.style and part.style.color for part in output.lines[0])
            go.touch()
            await became(pilot, lambda: [str(each.text) for each in output.lines] == ["green", "over"])
            await became(pilot, lambda: ["completed", "watched here"] in [row[:2] for row in table(app)])
            assert app.chosen == execution, "the choice stays with what was chosen"
            await pilot.press("c")
            await became(pilot, lambda: "over already" in said(app))
            go.unlink()
            await pilot.press("r")
            await became(pilot, lambda: ["running", "watched here"] in [row[:2] for row in table(app)])
            (again,) = [name for name, row in app.rows.items() if row["retry_of"] == execution]
            await choose(pilot, app, again)
            await pilot.press("c")
            await became(pilot, lambda: "Press c again" in said(app))
            assert app.rows[again]["status"] == "running"
            await pilot.press("c")
            assert (await bus.over(again))["status"] == "cancelled"
            await became(pilot, lambda: ["cancelled", "watched here"] in [row[:2] for row in table(app)])
            assert "cancelled" in str(app.query_one("#head", Static).render())
            await pilot.press("q")


def said(app: Watch) -> str:
    """What the screen says was done, or why not."""
    return str(app.query_one("#said", Static).render())


async def stands(bus: Foreign, kind: str, name: str, wanted: str) -> bool:
    """Wait until a plan, a playbook or a module is in some state."""

    async def there() -> bool:
        if kind == "module":
            return (await bus.ask("module.status", {"module": name}))["module"]["state"] == wanted
        return (await bus.ask(f"{kind}.get", {f"{kind}_id": name}))[kind]["status"] == wanted

    return await bus.until(there)


async def started(bus: Foreign, folder: Path) -> tuple[str, str, Path]:
    """A plan and a playbook, each with a step that waits for a file and one after it."""
    line, go = waiting(folder)
    steps = [{"name": "wait", "shell": {"command": line}}, {"name": "after", "shell": {"command": "true"}}]
    plan = await bus.ask("plan.submit", {"name": "a plan", "strategy": "serial", "steps": steps})
    book = await bus.ask("playbook.run", {"name": "a playbook", "phases": [{"id": "one", "steps": steps}]})
    return plan["plan_id"], book["playbook_id"], go


@pytest.mark.asyncio
async def test_what_can_be_paused_is_paused_and_resumed_by_one_key(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    plan, book, go = await started(bus, tmp_path)
    async with ExecutionEngine.new({"data": str(place.data)}) as engine:
        app = Watch(engine)
        async with app.run_test(size=(130, 40)) as pilot:
            output = app.query_one("#output", RichLog)

            def written() -> list[list[str]]:
                return [str(each.text).split()[:2] for each in output.lines]

            await became(pilot, lambda: app.chosen)
            await pilot.press("p")
            assert said(app).startswith("An execution cannot be paused, only cancelled (c)")
            for key, kind, name, what in (
                ("2", "plan", plan, "a plan"),
                ("3", "playbook", book, "a playbook"),
                ("4", "module", "site-builder", "site-builder"),
            ):
                await pilot.press(key)
                await became(pilot, lambda name=name: name in app.rows and app.chosen)
                await choose(pilot, app, name)
                if kind != "module":
                    await became(pilot, lambda: ["running", "wait"] in written())
                await pilot.press("p")
                await became(pilot, lambda what=what: said(app).startswith(f"{what} is paused: what runs"))
                assert await stands(bus, kind, name, "paused")
                await became(pilot, lambda what=what: ["paused", what] in [row[:2] for row in table(app)])
                assert app.chosen == name
                await pilot.press("p")
                await became(pilot, lambda what=what: said(app) == f"{what} goes on.")
                assert await stands(bus, kind, name, "running")
                await became(pilot, lambda what=what: ["running", what] in [row[:2] for row in table(app)])
            await pilot.press("r")
            assert said(app).startswith("A module cannot be retried")
            await pilot.press("tab")
            await became(pilot, lambda: app.pane.kind == "decision" and app.chosen)
            await pilot.press("p")
            assert said(app).startswith("A decision cannot be paused")
            await pilot.press("3")
            await became(pilot, lambda: app.chosen == book)
            go.touch()
            assert await stands(bus, "playbook", book, "completed")
            await became(pilot, lambda: ["completed", "a playbook", "2/2"] in [row[:3] for row in table(app)])
            await became(pilot, lambda: written()[1:] == [["completed", "wait"], ["completed", "after"]])
            await pilot.press("p")
            await became(pilot, lambda: "the playbook is over (completed)" in said(app))
            await pilot.press("q")


class Terminal:
    """A real terminal: tmux, with a command in it."""

    def __init__(self, command: list[str]) -> None:
        self._socket = f"hindbrain-{uuid.uuid4().hex[:8]}"
        self._ask("new-session", "-d", "-x", "130", "-y", "34", "-s", "w", subprocess.list2cmdline(command))

    def _ask(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command = [str(TMUX), "-L", self._socket, "-f", "/dev/null", *words]
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        return subprocess.run(command, capture_output=True, text=True, check=check, env=environment)

    @property
    def text(self) -> str:
        """What a person sees."""
        return self._ask("capture-pane", "-p", "-t", "w").stdout

    def sees(self, words: str, seconds: float = PATIENCE) -> None:
        """Wait until it shows some words."""
        until(lambda: words in self.text, seconds)

    def press(self, *keys: str) -> None:
        """Press keys."""
        self._ask("send-keys", "-t", "w", *keys)

    @property
    def ended(self) -> bool:
        """Whether its command is over."""
        return self._ask("has-session", check=False).returncode != 0

    def kill(self) -> None:
        """End it; twice is once."""
        self._ask("kill-server", check=False)


@contextmanager
def terminal(place: Place) -> Generator[Terminal]:
    """Watch a node in a real terminal."""
    if TMUX is None:
        pytest.skip("there is no tmux here: scripts/browser installs it")
    found = Terminal(place.command("watch"))
    try:
        yield found
    finally:
        found.kill()


def test_it_works_in_a_real_terminal(place: Place, tmp_path: Path) -> None:
    line, _ = waiting(tmp_path)
    done = place.cli("submit", "--json", "--description", "in a terminal", "--shell", "--", line)
    assert done.returncode == 0, done.stderr
    execution_id = json.loads(done.stdout)["execution_id"]
    with terminal(place) as seen:
        seen.sees("in a terminal", 60)

        def found() -> bool:
            """Go up once more: what began last stands first, once the tables know of it."""
            seen.press("k")
            return "\n green" in seen.text

        until(found)
        assert "q Quit" in seen.text
        seen.press("p")
        seen.sees("An execution cannot be paused, only cancelled (c)")

        def stopped() -> bool:
            """Press the key once more; another row may have been chosen in between on a busy node."""
            seen.press("c")
            found = place.cli("status", execution_id, "--json")
            return json.loads(found.stdout)["status"] == "cancelled"

        until(stopped)
        seen.press("q")
        until(lambda: seen.ended)


@pytest.mark.asyncio
async def test_plans_playbooks_and_modules_are_paused_in_a_real_terminal(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    plan, book, go = await started(bus, tmp_path)
    query = {"sql": "SELECT id FROM modules ORDER BY id", "min_seq": await bus.last()}
    modules = [row[0] for row in (await bus.ask("query.sql", query))["rows"]]
    with terminal(place) as seen:
        await asyncio.to_thread(seen.sees, "1 Executions", 60)
        for key, kind, name, what in (
            ("2", "plan", plan, "a plan"),
            ("3", "playbook", book, "a playbook"),
            ("4", "module", "site-builder", "site-builder"),
        ):
            seen.press(key)
            first = modules[0] if kind == "module" else name
            await asyncio.to_thread(seen.sees, f"\n {first}")
            for _ in range(modules.index(name) if kind == "module" else 0):
                seen.press("j")
            await asyncio.to_thread(seen.sees, f"\n {name}")
            seen.press("p")
            await asyncio.to_thread(seen.sees, f"\n {what} is paused: what runs goes on, and nothing more")
            assert await stands(bus, kind, name, "paused")
            await asyncio.to_thread(until, lambda what=what: shows(seen.text, "paused", what))
            seen.press("p")
            await asyncio.to_thread(seen.sees, f"\n {what} goes on.")
            assert await stands(bus, kind, name, "running")
        go.touch()
        assert await stands(bus, "plan", plan, "completed")
        seen.press("q")
        await asyncio.to_thread(until, lambda: seen.ended)


def shows(text: str, *cells: str) -> bool:
    """Say whether a row of a screen begins with these cells."""
    wanted = " ".join(cells).split()
    return any(line.split()[: len(wanted)] == wanted for line in text.splitlines())


def test_a_line_keeps_its_colours_and_can_steer_nothing() -> None:
    assert shown("a\x1b[31mred\x1b[0m").plain == "ared"
    assert shown("10%\r20%\r").plain == "20%"
    for hostile in (
        *("\x1b]52;c;aGk=\x07", "\x1b]0;title\x1b\\", "\x1b[2J", "\x1b[?1049h", "\x1bc", "\x1bP+q\x1b\\"),
        *("\x9b2J", "\x9d0;t\x07", "\x07", "\x00", "\x1b", "\x1b[", "\x1b]8;;javascript:x\x07"),
    ):
        text = shown(f"before{hostile}after")
        assert not [each for each in text.plain if ord(each) < 32 or 127 <= ord(each) < 160], hostile
        assert not [span for span in text.spans if "link" in str(span.style)], hostile


@pytest.mark.asyncio
async def test_search_finds_what_was_asked_said_and_written(bus: Foreign, place: Place) -> None:
    first = await bus.submit(shell={"command": "printf 'The Bilby\\nhopped\\n'"}, labels=["potoroo"])
    await bus.over(first)
    for words, where in (("bilby", "output"), ("POTOROO", "label"), ("printf 'the", "command")):
        done = place.cli("search", *words.split())
        assert done.returncode == 0, done.stderr
        assert any(first in line and where in line for line in done.stdout.decode().splitlines()), words
    assert place.cli("search", "no-such-marsupial").stdout.count(b"\n") == 1
    assert place.cli("watch").returncode == 2, "without a terminal it says so"
