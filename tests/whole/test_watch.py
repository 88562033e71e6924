"""The full screen in a terminal, on a real node: by its own pilot, and in a real terminal multiplexer."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any, cast

import pytest
from foreign import Foreign, Place
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from interfaces.api import ExecutionEngine
from interfaces.watch import Watch, shown
from tests.waiting import turned, until

TMUX = shutil.which("tmux")


def waiting(folder: Path) -> tuple[str, Path]:
    """A command that writes a coloured word, waits for a file, and writes another word."""
    go = folder / "go"
    return f"printf '\\033[32mgreen\\033[0m\\n'; while [ ! -e {go} ]; do sleep 0.05; done; echo over", go


def table(app: Watch) -> list[list[str]]:
    """What the table says, row by row."""
    found = cast("DataTable[Any]", app.query_one("#executions"))
    return [[str(cell) for cell in found.get_row(key)] for key in found.rows]


async def choose(pilot: Pilot[None], app: Watch, execution: str) -> None:
    """Go to a row by keys."""

    async def there() -> bool:
        if app.chosen != execution:
            place = list(app.rows)
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
        async with app.run_test(size=(130, 40), notifications=True) as pilot:
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
    """What the screen told people in passing."""
    return " ".join(str(each.render()) for each in app.screen.query("Toast"))


@pytest.mark.skipif(TMUX is None, reason="there is no tmux here: scripts/browser installs it")
def test_it_works_in_a_real_terminal(place: Place, tmp_path: Path) -> None:
    line, _ = waiting(tmp_path)
    done = place.cli("submit", "--json", "--description", "in a terminal", "--shell", "--", line)
    assert done.returncode == 0, done.stderr
    execution_id = json.loads(done.stdout)["execution_id"]
    socket = f"hindbrain-{uuid.uuid4().hex[:8]}"

    def tmux(*words: str) -> str:
        command = [str(TMUX), "-L", socket, "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    watch = subprocess.list2cmdline(place.command("watch"))
    tmux("new-session", "-d", "-x", "130", "-y", "34", "-s", "w", watch)
    try:
        until(lambda: "in a terminal" in tmux("capture-pane", "-p", "-t", "w"), 60)
        until(lambda: "\n green" in tmux("capture-pane", "-p", "-t", "w"))
        assert "q Quit" in tmux("capture-pane", "-p", "-t", "w")

        def stopped() -> bool:
            """Press the key once more; what is said in passing may have passed on a slow machine."""
            tmux("send-keys", "-t", "w", "c")
            found = place.cli("status", execution_id, "--json")
            return json.loads(found.stdout)["status"] == "cancelled"

        until(stopped)
        tmux("send-keys", "-t", "w", "q")
        command = [str(TMUX), "-L", socket, "has-session"]
        until(lambda: subprocess.run(command, capture_output=True, check=False).returncode)
    finally:
        subprocess.run([str(TMUX), "-L", socket, "kill-server"], capture_output=True, check=False)


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
