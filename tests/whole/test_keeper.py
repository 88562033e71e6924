"""Commands run under a real keeper: how they begin, how they end, and what they may use."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from keepers import TREE, Node, alive, family, gone, hold

from actors.keeping import Exited, Killing, Limits, SpawnFailed, Unknown
from tests.waiting import until

pytestmark = pytest.mark.whole


def test_a_command_ends_with_its_own_exit_code_or_signal(node: Node):
    node.run("three", "/bin/sh", "-c", "exit 3")
    node.run("term", "/bin/sh", "-c", "kill -TERM $$")
    node.run("busy", sys.executable, "-c", "sum(range(3_000_000))")
    three, term, busy = (node.get(Exited, name) for name in ("three", "term", "busy"))
    assert (three.exit_code, three.signal, three.killed) == (3, None, None)
    assert (term.exit_code, term.signal, term.killed) == (None, signal.SIGTERM, None)
    assert busy.user_seconds > 0
    assert busy.max_rss_bytes > 1 << 20
    assert busy.started_at < busy.ended_at < time.time() + 1


def test_what_cannot_start_says_why(node: Node):
    (node.data / "text").write_text("no program")
    for name, argv, cwd, code in [
        ("nowhere", "no-such-program-at-all", node.data, "ENOENT"),
        ("absolute", "/no/such/program", node.data, "ENOENT"),
        ("denied", "./text", node.data, "EACCES"),
        ("homeless", "/bin/true", node.data / "missing", "ENOENT"),
    ]:
        for limits in (None, Limits(open_files=64)):
            which = f"{name}-{limits is None}"
            node.run(which, argv, wait=False, cwd=str(cwd), limits=limits)
            assert node.get(SpawnFailed, which).code == code
    assert str(node.data / "missing") in node.get(SpawnFailed, "homeless-True").message
    node.run("nul", "/bin/echo", "a\0b", wait=False)
    assert node.get(SpawnFailed, "nul").code == "EINVAL"


def test_a_command_gets_its_arguments_folder_input_and_environment_and_nothing_else(node: Node):
    (node.data / "in").write_text("from a file\n")
    script = (
        'for a in "$@"; do echo "[$a]"; done; pwd; cat; env | sort | grep -v "^_=\\|^PWD="; echo oops >&2'
    )
    node.run("all", "sh", "-c", script, "sh", "two words", "", "*", stdin=str(node.data / "in"))
    assert node.get(Exited, "all").exit_code == 0
    assert node.out("all").splitlines() == [
        "[two words]",
        "[]",
        "[*]",
        str(node.data),
        "from a file",
        "HINDBRAIN_ATTEMPT=1",
        "HINDBRAIN_EXECUTION_ID=all",
        "PATH=/usr/bin:/bin",
    ] or not node.out("all").count("OLDPWD")
    assert (node.data / "all.err").read_text() == "oops\n"
    assert (node.data / "all.out").stat().st_mode & 0o777 == 0o600


def test_an_attempt_is_started_once_however_often_it_is_asked_for(node: Node):
    for _ in range(5):
        node.run("once", "/bin/sh", "-c", "echo ran")
    node.get(Exited, "once")
    node.run("once", "/bin/sh", "-c", "echo ran")
    until(lambda: sum(isinstance(one, Exited) for one in node.told) >= 2)
    assert node.out("once") == "ran\n"
    node.keeper.forget("once", 1)
    node.keeper.kill("once", 1, "cancelled", 0)
    assert node.get(Unknown, "once").request == "kill"


@pytest.mark.parametrize("way", ["kill", "timeout"])
def test_a_whole_tree_dies_and_nobody_else(node: Node, way: str):
    foreign = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        sibling = node.run("sibling", "sleep", "1000")
        node.run("tree", "/bin/sh", "-c", TREE, timeout_ms=1000 if way == "timeout" else None)
        until(lambda: len(family("tree")) >= 9)
        began = time.monotonic()
        if way == "kill":
            node.keeper.kill("tree", 1, "cancelled", 300)
            assert node.get(Killing, "tree").reason == "cancelled"
        end = node.get(Exited, "tree")
        assert time.monotonic() - began < 0.3 + 1 + (1 if way == "timeout" else 0)
        assert end.killed == ("cancelled" if way == "kill" else "timeout")
        assert end.signal == signal.SIGKILL
        assert family("tree") == set()
        assert alive(sibling)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_tree_that_forks_while_it_is_killed_does_not_get_away(node: Node):
    script = 'trap "" TERM; f() { (sleep 0.02; f) & (setsid sleep 30 &) ; }; echo go; f; sleep 1000'
    node.run("forks", "/bin/sh", "-c", script)
    until(lambda: len(family("forks")) > 5)
    node.keeper.kill("forks", 1, "cancelled", 100)
    node.get(Exited, "forks", 3)
    assert family("forks") == set()


def test_a_later_kill_can_only_make_it_sooner_and_the_first_reason_stays(node: Node):
    stubborn = node.run("stubborn", "/bin/sh", "-c", 'trap "" TERM; echo go; while :; do sleep 0.1; done')
    until(lambda: node.out("stubborn") == "go\n")
    node.keeper.kill("stubborn", 1, "cancelled", 60_000)
    node.get(Killing, "stubborn")
    assert alive(stubborn)
    node.keeper.kill("stubborn", 1, "shutdown", 0)
    assert node.get(Exited, "stubborn", 2).killed == "cancelled"


def test_a_command_that_cleans_up_on_term_ends_with_its_own_code(node: Node):
    node.run("polite", "/bin/sh", "-c", 'trap "echo bye; exit 7" TERM; echo go; while :; do sleep 0.05; done')
    until(lambda: node.out("polite") == "go\n")
    node.keeper.kill("polite", 1, "cancelled", 5000)
    end = node.get(Exited, "polite", 3)
    assert (end.exit_code, end.killed) == (7, "cancelled")
    assert node.out("polite") == "go\nbye\n"


def test_limits_hold(node: Node):
    hog = "x = bytearray(400 << 20)"
    node.run("memory", sys.executable, "-c", hog, limits=Limits(memory_bytes=200 << 20))
    node.run("cpu", sys.executable, "-c", "while True: pass", limits=Limits(cpu_seconds=1))
    files = "fs = [open('/dev/null') for _ in range(100)]"
    node.run("files", sys.executable, "-c", files, limits=Limits(open_files=32))
    node.run("free", sys.executable, "-c", hog + ";" + files)
    assert node.get(Exited, "memory").exit_code == 1
    assert "MemoryError" in (node.data / "memory.err").read_text()
    assert node.get(Exited, "files").exit_code == 1
    assert "Too many open files" in (node.data / "files.err").read_text()
    assert node.get(Exited, "free").exit_code == 0
    assert node.get(Exited, "cpu").signal == signal.SIGXCPU


def test_a_callback_that_fails_is_told_again(node: Node, caplog: pytest.LogCaptureFixture):
    gate = node.data / "gate"
    node.run("again", "/bin/sh", "-c", f"{hold(gate)}; exit 4")
    node.fail = True
    gate.touch()
    assert node.get(Exited, "again").exit_code == 4
    assert "were not taken" in caplog.text


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path):
    data = tmp_path / ("long" * 30)
    data.mkdir()
    one = Node(data)
    one.keeper.start()
    one.run("far", "/bin/true")
    assert one.get(Exited, "far").exit_code == 0
    one.keeper.close()


def test_a_second_keeper_of_a_folder_steps_back(node: Node):
    argv = [sys.executable, "-P", "-m", "actors.keeper", "--data", str(node.data)]
    second = subprocess.run(argv, capture_output=True, check=False, timeout=10)
    assert second.returncode == os.EX_TEMPFAIL
    assert b"has a keeper already" in second.stderr


def test_a_keeper_told_to_end_starts_nothing_and_stays_for_its_commands(node: Node):
    gate, pid = node.data / "gate", node.keeper.pid
    assert pid
    node.run("last", "/bin/sh", "-c", f"{hold(gate)}; exit 6")
    os.kill(pid, signal.SIGTERM)
    node.run("late", "/bin/true", wait=False)
    assert node.get(SpawnFailed, "late").code == "ESHUTDOWN"
    assert not gone(pid)
    gate.touch()
    assert node.get(Exited, "last").exit_code == 6
    until(lambda: gone(pid))
