"""Runs played back and compared, by the command line, on a real node."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place

from interfaces.api import ExecutionEngine
from interfaces.playback import play

pytestmark = pytest.mark.asyncio

SCRIPT = """
import sys, time
for n in range(6):
    print("line", n, file=sys.stderr if n == 3 else sys.stdout, flush=True)
    time.sleep(0.25)
"""


async def test_a_playback_keeps_order_and_pace(bus: Foreign, place: Place) -> None:
    execution = await bus.submit(code=SCRIPT, language="python")
    await bus.over(execution)
    written = [
        json.loads(row) for row in place.cli("logs", execution, "--both", "--json").stdout.splitlines()
    ]
    assert len(written) >= 5
    stamps = [_millis(row["time"]) for row in written]
    for speed in (1.0, 10.0):
        with place.begin("replay", execution, "--play", "--speed", str(speed), "--json") as play:
            assert play.stdout is not None
            seen: list[tuple[float, Any]] = [(time.monotonic(), json.loads(row)) for row in play.stdout]
        assert play.returncode == 0
        assert [row for _, row in seen] == written, "the same pieces in the same order"
        if speed == 1.0:
            took, owed = seen[-1][0] - seen[0][0], (stamps[-1] - stamps[0]) / 1000
            assert took >= owed * 0.9, "no quicker than it was written"
    begun = time.monotonic()
    done = place.cli("replay", execution, "--play", "--speed", "0.001", "--idle", "0.01")
    assert (done.returncode, done.stderr) == (0, b"line 3\n")
    assert done.stdout == b"line 0\nline 1\nline 2\nline 4\nline 5\n"
    assert time.monotonic() - begun < 60, "silences of minutes were cut"
    for wrong in ("0", "-1", "nan"):
        assert place.cli("replay", execution, "--play", "--speed", wrong).returncode == 2, wrong


async def test_no_piece_comes_before_its_time_at_any_speed(bus: Foreign, info: dict[str, Any]) -> None:
    execution = await bus.submit(code=SCRIPT, language="python")
    await bus.over(execution)
    loop = asyncio.get_running_loop()
    async with ExecutionEngine.new({"nats.url": info["nats_url"]}) as engine:
        (started,) = [row["time"] for row in await engine.events(execution) if row["event"] == "started"]
        for speed in (1.0, 10.0):
            # The clock of the playback begins after this one, so however slow the machine is, this holds.
            begun, came = loop.time(), 0
            async for piece in play(engine, execution, speed):
                owed = (_millis(str(piece.time)) - _millis(started)) / 1000 / speed
                assert loop.time() - begun >= owed - 0.001
                came += 1
            assert came >= 5


def _millis(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() * 1000


async def test_diff_names_the_one_line_that_changed(bus: Foreign, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("".join(f"row {n}\n" for n in range(2000)))
    wish = {"shell": {"command": f"cat {file}; echo done >&2"}}
    ids = [await bus.submit(**wish), await bus.submit(**wish)]
    for each in ids:
        await bus.over(each)
    same = place.cli("diff", *ids)
    assert (same.returncode, same.stdout) == (0, b"They are the same.\n"), same.stdout
    file.write_text(file.read_text().replace("row 1234\n", "row twelve\n"))
    other = await bus.submit(**wish)
    await bus.over(other)
    done = place.cli("diff", ids[0], other)
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "stdout, line 1235 (after " in text
    assert "    row 1233\n  < row 1234\n  > row twelve\n" in text
    assert "stderr" not in text
    found = json.loads(place.cli("diff", ids[0], other, "--json").stdout)
    assert (found["happened"], found["asked"], found["stdout"]["line"]) == (None, [], 1235)


async def test_diff_tells_of_what_was_asked_and_what_happened(bus: Foreign, place: Place) -> None:
    one = await bus.submit(shell={"command": "printf 'a\\nb'"}, timeout_ms=60_000)
    other = await bus.submit(shell={"command": "printf 'a\\n'; exit 3"}, retries={"max": 1, "backoff_ms": 1})
    for each in (one, other):
        await bus.over(each)
    text = place.cli("diff", one, other).stdout.decode()
    assert "asked for, shell.command\n" in text
    assert "asked for, timeout_ms\n  < 60000\n  > -\n" in text
    assert "what happened, fact 3\n  < completed: exit code 0\n  > attempt failed: " in text
    assert "  < b\n" in text
    assert place.cli("diff", one, "exec_" + "0" * 26).returncode == 2
