"""From the submission to the end, and through the end of the node: nothing is lost, guessed or done twice."""

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, connect, gone

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


async def names(bus: Foreign, execution: str) -> list[str]:
    events = (await bus.ask("execution.events", {"execution_id": execution}))["events"]
    return [each["event"] for each in events]


async def running(bus: Foreign, execution: str, said: str = "up") -> None:
    """Wait until a command has said something."""

    async def there() -> bool:
        chunks = (await bus.ask("execution.logs", {"execution_id": execution}))["chunks"]
        return said in "".join(each["text"] for each in chunks)

    await bus.until(there)


async def test_what_is_queued_is_cancelled_without_a_start(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="1")
    async with connect(own.wrote["nats_url"]) as bus:
        first = await bus.submit(shell={"command": "echo up; sleep 60"})
        await running(bus, first)
        second = await bus.submit(exec={"program": "true"})
        third = await bus.submit(exec={"program": "echo", "args": ["urgent"]}, priority="critical")
        stopped = await bus.ask("execution.cancel", {"execution_id": second, "reason": "not needed"})
        assert (stopped["status"], stopped["changed"]) == ("cancelled", True)
        assert await names(bus, second) == ["queued", "cancelled"]
        done = await bus.over(second)
        assert (done["exit_code"], done["started_at"], done["attempt"]) == (None, None, 0)
        assert done["result"]["stdout"] == ""
        assert (await bus.ask("execution.get", {"execution_id": third}))["execution"]["status"] == "queued"
        await bus.ask("execution.cancel", {"execution_id": first})
        assert (await bus.over(third))["result"]["stdout"] == "urgent\n"


async def test_what_runs_is_cancelled_with_all_its_children(bus: Foreign) -> None:
    line = "(setsid sleep 300 & echo $!; sleep 300 & echo $!; wait) & echo up; wait"
    execution = await bus.submit(shell={"command": line})
    await running(bus, execution)

    async def three() -> list[str]:
        chunks = (await bus.ask("execution.logs", {"execution_id": execution}))["chunks"]
        lines = [str(word) for each in chunks for word in each["text"].split()]
        return lines if len(lines) == 3 else []

    pids = [int(word) for word in await bus.until(three) if word != "up"]
    stopped = await bus.ask("execution.cancel", {"execution_id": execution, "reason": "enough"})
    assert (stopped["changed"], stopped["status"]) == (True, "running")
    twice = await bus.ask("execution.cancel", {"execution_id": execution})
    assert twice["changed"] is False
    done = await bus.over(execution)
    assert (done["status"], done["exit_code"]) == ("cancelled", None)
    assert all(gone(pid) for pid in pids)
    late = await bus.ask("execution.cancel", {"execution_id": execution})
    assert (late["changed"], late["status"], late["seq"]) == (False, "cancelled", done["seq"])


async def test_what_listeners_were_told_is_what_one_who_asks_is_told(bus: Foreign) -> None:
    progress = await bus.hear("brain.progress.execution.>")
    script = "for i in 1 2 3 4 5; do echo ::progress $i/5; sleep 0.2; done; exec sleep 60"
    execution = await bus.submit(shell={"command": script})
    told = 0
    while told < 5:
        step = json.loads((await progress.next_msg(10)).data)
        if step["id"] == execution and step["current"]:
            told = step["current"]
            shown = (await bus.ask("execution.get", {"execution_id": execution}))["execution"]
            assert shown["progress_detail"]["current"] >= told, "who asks is behind who listens"
    await bus.ask("execution.cancel", {"execution_id": execution})
    await bus.over(execution)


async def test_who_ignores_term_is_killed_after_its_grace(bus: Foreign) -> None:
    execution = await bus.submit(shell={"command": "trap '' TERM; echo up; sleep 300 & wait; sleep 300"})
    await running(bus, execution)
    began = time.monotonic()
    await bus.ask("execution.cancel", {"execution_id": execution, "grace_ms": 400})
    done = await bus.over(execution)
    assert done["status"] == "cancelled"
    assert 0.3 < time.monotonic() - began < 5


async def test_exit_codes_and_signals_are_told_apart(bus: Foreign) -> None:
    for code in (1, 77, 255):
        done = await bus.run(shell={"command": f"exit {code}"})
        assert (done["status"], done["exit_code"], done["signal"]) == ("failed", code, None)
    for number, name in ((9, "SIGKILL"), (15, "SIGTERM"), (11, "SIGSEGV")):
        done = await bus.run(shell={"command": f"kill -{number} $$"})
        assert (done["status"], done["signal"], done["reason"]) == ("failed", name, "command_failed")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--shell", "--", "exit 9"), 9),
        (("--shell", "--", "kill -TERM $$"), 143),
        (("--timeout", "0.2", "--", "sleep", "60"), 124),
        (("--", "no-such-program"), 127),
        (("--", "/etc/hostname"), 126),
        (("--language", "pythn", "--code", "--", "1"), 2),
        (("--nonsense",), 2),
        (("--",), 2),
    ],
)
async def test_run_ends_as_the_contract_says(place: Place, words: tuple[str, ...], code: int) -> None:
    assert (await asyncio.to_thread(place.cli, "run", *words)).returncode == code


async def test_wait_ends_as_the_contract_says(bus: Foreign, place: Place) -> None:
    execution = await bus.submit(shell={"command": "sleep 60"})
    assert place.cli("wait", execution, "--timeout", "0.2").returncode == 4
    await bus.ask("execution.cancel", {"execution_id": execution})
    assert place.cli("wait", execution).returncode == 130
    flood = await bus.submit(shell={"command": "yes"}, limits={"output_bytes": 1000})
    assert place.cli("wait", flood).returncode == 125
    refused = place.cli("wait", "exec_" + "0" * 26, "--json")
    assert refused.returncode == 2
    error = json.loads(refused.stdout)["error"]
    assert (error["code"], set(error)) == ("not_found", {"code", "message", "details"})


async def test_without_a_node_the_command_line_says_so(tmp_path: Path) -> None:
    nowhere = Place(tmp_path / "none")
    for words in (("status", "exec_" + "0" * 26), ("info",), ("list",), ("submit", "--", "true")):
        done = nowhere.cli(words[0], "--json", *words[1:])
        assert done.returncode == 3, words
        assert json.loads(done.stdout)["error"]["code"] == "unavailable"


async def watched(bus: Foreign, place: Place, line: str) -> tuple["subprocess.Popen[bytes]", str]:
    """Begin a `run` at a terminal, and find out which execution it watches."""
    watcher = place.begin("run", "--shell", "--", line)
    assert watcher.stdout is not None
    assert await asyncio.to_thread(watcher.stdout.readline) == b"up\n"

    async def listed() -> list[dict[str, Any]]:
        found = (await bus.ask("execution.list", {"limit": 10, "status": "running"}))["executions"]
        return [each for each in found if each["command"] == line]

    return watcher, (await bus.until(listed))[0]["id"]


async def status(bus: Foreign, execution: str) -> str:
    return (await bus.ask("execution.get", {"execution_id": execution}))["execution"]["status"]


async def test_one_ctrl_c_cancels_and_waits_for_the_end(bus: Foreign, place: Place) -> None:
    watcher, execution = await watched(bus, place, "echo up; sleep 60")
    os.kill(watcher.pid, signal.SIGINT)
    said = await asyncio.to_thread(watcher.communicate, timeout=60)
    assert watcher.returncode == 130, said
    assert await status(bus, execution) == "cancelled"


async def test_a_second_ctrl_c_leaves_what_was_asked_to_stop_alone(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    watcher, execution = await watched(
        bus,
        place,
        f"trap 'while ! [ -e {gate} ]; do sleep 0.05; done; echo bye; exit 0' TERM; "
        "echo up; while :; do sleep 0.05; done",
    )
    os.kill(watcher.pid, signal.SIGINT)

    async def asked() -> bool:
        return "cancel_requested" in await names(bus, execution)

    await bus.until(asked)
    os.kill(watcher.pid, signal.SIGINT)
    said = await asyncio.to_thread(watcher.communicate, timeout=60)
    assert watcher.returncode == 130, said
    assert await status(bus, execution) == "running", "it did not wait for the end, and did not hasten it"
    gate.touch()
    done = await bus.over(execution)
    assert (done["status"], done["result"]["stdout"]) == ("cancelled", "up\nbye\n")
    assert (await names(bus, execution)).count("cancel_requested") == 1


async def test_down_leaves_commands_running_and_up_finds_them(own: Place) -> None:
    own.up()
    info = own.wrote
    gate = own.data / "gate"
    async with connect(info["nats_url"]) as bus:
        line = f"echo up; while ! [ -e {gate} ]; do sleep 0.05; done; echo after; exit 42"
        execution = await bus.submit(shell={"command": line})
        brief = await bus.submit(shell={"command": "echo up; sleep 0.8; echo gone; exit 7"})
        await running(bus, execution)
        await running(bus, brief)
    began = time.monotonic()
    assert own.cli("down").returncode == 0
    assert time.monotonic() - began < 10
    assert gone(info["pid"])
    assert not gone(info["keeper_pid"], 0)
    assert own.cli("info").returncode == 3
    journal = own.data / "keeper" / "journal.jsonl"
    deadline = time.monotonic() + 10
    while brief not in journal.read_text() or b"gone" not in _log(own, brief):
        assert time.monotonic() < deadline
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        ended = await bus.over(brief)
        assert (ended["exit_code"], ended["result"]["stdout"], ended["attempt"]) == (7, "up\ngone\n", 1)
        found = (await bus.ask("execution.get", {"execution_id": execution}))["execution"]
        assert (found["status"], found["attempt"]) == ("running", 1)
        gate.touch()
        done = await bus.over(execution)
        assert (done["exit_code"], done["attempt"]) == (42, 1)
        assert await bus.output(execution) == {"stdout": b"up\nafter\n", "stderr": b""}
        assert (await names(bus, execution)).count("started") == 1
        ends = [name for name in await names(bus, execution) if name in ("failed", "completed", "cancelled")]
        assert ends == ["failed"]


def _log(place: Place, execution: str) -> bytes:
    return (place.data / "logs" / "executions" / f"{execution}_stdout.log").read_bytes()


async def test_a_killed_node_loses_nothing_either(own: Place) -> None:
    own.up()
    info = own.wrote
    gate = own.data / "gate"
    async with connect(info["nats_url"]) as bus:
        line = f"echo up; while ! [ -e {gate} ]; do sleep 0.05; done; echo $S after; exit 3"
        execution = await bus.submit(shell={"command": line}, secrets={"S": "Pl4nted!"})
        await running(bus, execution)
        os.kill(info["pid"], signal.SIGKILL)
        assert gone(info["pid"])
    gate.touch()
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        done = await bus.over(execution)
        assert (done["exit_code"], done["result"]["stdout"]) == (3, "up\n******** after\n")
        assert (await bus.output(execution))["stdout"] == b"up\n******** after\n"


async def test_down_may_wait_for_what_runs(own: Place) -> None:
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        execution = await bus.submit(shell={"command": "echo up; sleep 1; echo end"})
        await running(bus, execution)
    assert own.cli("down", "--wait", "20").returncode == 0
    meta = json.loads((own.data / "logs" / "executions" / f"{execution}_meta.json").read_bytes())
    assert (meta["status"], meta["exit_code"]) == ("completed", 0)
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        assert (await bus.over(execution))["result"]["stdout"] == "up\nend\n"


async def test_down_may_cancel_what_runs(own: Place) -> None:
    own.up()
    keeper = own.wrote["keeper_pid"]
    async with connect(own.wrote["nats_url"]) as bus:
        execution = await bus.submit(shell={"command": "echo up; sleep 300"})
        await running(bus, execution)
    assert own.cli("down", "--cancel").returncode == 0
    own.up()
    assert own.wrote["keeper_pid"] == keeper, "it lingers a little, and is taken over"
    async with connect(own.wrote["nats_url"]) as bus:
        done = await bus.over(execution)
        assert (done["status"], await names(bus, execution))[0] == "cancelled"


async def test_a_second_node_on_the_same_folder_is_refused(place: Place) -> None:
    done = await asyncio.to_thread(place.cli, "up", "--http-port", "0", "--nats-port", "0", "--json")
    assert done.returncode in (1, 2)
    assert b"run" in done.stdout + done.stderr
    assert place.info["connected"] is True
