"""Commands run under a real keeper: how they begin, how they end, and who may die meanwhile."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from actors import linux
from actors.keeping import (
    Attempts,
    Exited,
    Keeper,
    Killing,
    Limits,
    Lost,
    Message,
    Spawn,
    Spawned,
    SpawnFailed,
    Unknown,
)

T = TypeVar("T", bound=Message)
PATH = {"PATH": "/usr/bin:/bin"}
pytestmark = pytest.mark.whole


def until(fact: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not become true"
        select.select([], [], [], 0.01)


def hold(gate: Path) -> str:
    """Say to a shell: wait until there is such a file."""
    return f"while ! [ -e {gate} ]; do /bin/sleep 0.02; done"


class Node:
    """A client that remembers all it was told."""

    def __init__(self, data: Path, **options: bool):
        self.data, self.told, self.change = data, list[Message](), threading.Condition()
        self.fail = False
        self.keeper = Keeper(data, self.hear, linger=0.3, **options)

    def hear(self, lot: list[Message]) -> None:
        if self.fail:
            self.fail = False
            raise ValueError("a bug in the callback")
        with self.change:
            self.told += lot
            self.told += [
                one for each in lot if isinstance(each, Attempts) for one in (*each.running, *each.ended)
            ]
            self.change.notify_all()

    def run(self, name: str, *argv: str, wait: bool = True, **options: object) -> Spawned:
        settings: dict[str, object] = {"env": PATH, "cwd": str(self.data), "grace_ms": 300}
        settings |= {"stdout": str(self.data / f"{name}.out"), "stderr": str(self.data / f"{name}.err")}
        self.keeper.spawn(Spawn(name, 1, list(argv), **(settings | options)))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - free test settings
        return self.get(Spawned, name) if wait else Spawned(name, 1, 0, 0, 0)

    def get(self, kind: type[T], name: str, seconds: float = 10.0) -> T:
        def found() -> list[T]:
            return [
                one for one in self.told if isinstance(one, kind) and getattr(one, "execution", "") == name
            ]

        with self.change:
            assert self.change.wait_for(found, seconds), f"no {kind.__name__} of {name} in {self.told}"
            return found()[0]

    def out(self, name: str) -> str:
        return (self.data / f"{name}.out").read_text()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    one = Node(tmp_path)
    one.keeper.start()
    yield one
    pid = one.keeper.pid
    for each in {one.execution: one for one in one.told if isinstance(one, Spawned)}.values():
        one.keeper.kill(each.execution, 1, "shutdown", 0)
    one.keeper.retire()
    one.keeper.close()
    assert pid
    until(lambda: gone(pid))


def gone(pid: int) -> bool:
    seen = linux.stat(pid)
    return seen is None or seen.state in "ZX"


def alive(process: Spawned) -> bool:
    seen = linux.stat(process.pid)
    return seen is not None and seen.start == process.start_time and seen.state not in "ZX"


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


TREE = r"""
trap '' TERM
sleep 1000 &
setsid sleep 1000 &
(setsid sh -c 'trap "" TERM; sleep 1000 & wait; sleep 1000' &)
(sh -c 'sleep 1000 & exec sleep 1000' &)
env -i /bin/sleep 1000 &
(env -i /usr/bin/setsid /bin/sleep 1000 &)
echo ready
wait
wait
sleep 1000
"""


def family(execution: str) -> set[int]:
    """Everything whose stdout is the output file of an execution."""
    found: set[int] = set()
    for pid in psutil.pids():
        try:
            if Path(f"/proc/{pid}/fd/1").readlink().name == f"{execution}.out":
                found.add(pid)
        except OSError:
            continue
    return found


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


def test_a_child_that_outlives_its_parent_keeps_the_execution_running(node: Node):
    gate = node.data / "gate"
    for name, how in [
        ("plain", ""),
        ("session", "setsid "),
        ("bare", "env -i "),
        ("both", "env -i /usr/bin/setsid "),
    ]:
        node.run(name, "/bin/sh", "-c", f"{how}/bin/sh -c '{hold(gate)}; echo late' & exit 5")
    until(lambda: all(len(family(name)) >= 1 for name in ("plain", "session", "bare", "both")))
    mains = [one for one in node.told if isinstance(one, Spawned)]
    until(lambda: all(linux.stat(one.pid) is None for one in mains))
    assert not [one for one in node.told if isinstance(one, Exited)]
    gate.touch()
    for name in ("plain", "session", "bare", "both"):
        assert node.get(Exited, name).exit_code == 5
        assert node.out(name) == "late\n"


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


CLIENT = """
import sys, threading
from pathlib import Path
from actors.keeping import Keeper, Spawn, Spawned
data, stay = Path(sys.argv[1]), threading.Event()
def hear(lot):
    for one in lot:
        if isinstance(one, Spawned):
            print(keeper.pid, one.pid, flush=True)
keeper = Keeper(data, hear, linger=5)
keeper.start()
keeper.spawn(Spawn("work", 1, ["/bin/sh", "-c", sys.argv[2]], {"PATH": "/usr/bin:/bin"}, str(data),
                   str(data / "work.out"), str(data / "work.err")))
stay.wait()
"""


def client(data: Path, script: str) -> tuple["subprocess.Popen[str]", int, int]:
    argv = [sys.executable, "-c", CLIENT, str(data), script]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    keeper, pid = process.stdout.readline().split()
    process.stdout.close()
    return process, int(keeper), int(pid)


def test_a_command_outlives_the_node_and_its_exit_code_is_told_to_the_next(tmp_path: Path):
    gate = tmp_path / "gate"
    first, pid, _ = client(tmp_path, f"{hold(gate)}; exit 9")
    first.kill()
    first.wait()
    second = Node(tmp_path)
    second.keeper.start()
    assert second.keeper.pid == pid
    assert alive(second.get(Spawned, "work"))
    gate.touch()
    assert second.get(Exited, "work").exit_code == 9
    second.keeper.retire()
    second.keeper.close()
    until(lambda: gone(pid))


def test_what_ended_while_nobody_listened_is_told_to_the_next(tmp_path: Path):
    gate = tmp_path / "gate"
    first, pid, command = client(tmp_path, f"{hold(gate)}; exit 8")
    first.kill()
    first.wait()
    gate.touch()
    until(lambda: linux.stat(command) is None)
    second = Node(tmp_path)
    second.keeper.start()
    assert second.get(Exited, "work").exit_code == 8
    second.keeper.retire()
    second.keeper.close()
    until(lambda: gone(pid))


def test_exit_codes_stay_true_when_the_keeper_is_killed(node: Node):
    gate, first = node.data / "gate", node.keeper.pid
    assert first
    node.run("code", "/bin/sh", "-c", f"{hold(gate)}; exit 11")
    node.run("signal", "/bin/sh", "-c", f"{hold(gate)}; kill -USR1 $$")
    node.run(
        "orphan", "/bin/sh", "-c", f"(setsid /bin/sh -c '{hold(gate)}; echo late' &) ; {hold(gate)}; exit 12"
    )
    node.run("timed", "sleep", "1000", timeout_ms=2500)
    killed = node.run("killed", "/bin/sh", "-c", TREE)
    until(lambda: len(family("killed")) >= 9 and len(family("orphan")) >= 3)
    os.kill(first, signal.SIGKILL)
    until(lambda: node.keeper.pid not in (None, first))
    assert alive(killed)
    node.keeper.kill("killed", 1, "cancelled", 200)
    gate.touch()
    assert node.get(Exited, "code").exit_code == 11
    assert node.get(Exited, "signal").signal == signal.SIGUSR1
    assert node.get(Exited, "killed").killed == "cancelled"
    assert family("killed") == set()
    assert node.get(Exited, "orphan").exit_code == 12
    assert node.out("orphan") == "late\n"
    timed = node.get(Exited, "timed")
    assert (timed.signal, timed.killed) == (signal.SIGTERM, "timeout")
    assert not [one for one in node.told if isinstance(one, Lost)]


def test_a_command_is_lost_when_keeper_and_node_are_killed_and_no_exit_code_is_made_up(tmp_path: Path):
    gate = tmp_path / "gate"
    first, pid, command = client(tmp_path, f"{hold(gate)}; exit 9")
    os.kill(first.pid, signal.SIGSTOP)  # so that it cannot take over what the keeper leaves
    os.kill(pid, signal.SIGKILL)
    first.kill()
    first.wait()
    second = Node(tmp_path, subreaper=False)
    second.keeper.start()
    assert alive(second.get(Spawned, "work"))
    gate.touch()
    assert second.get(Lost, "work").pid == command
    assert not [one for one in second.told if isinstance(one, Exited)]
    second.keeper.retire()
    second.keeper.close()
    if linux.stat(command):  # a test before made this process a subreaper
        os.waitpid(command, 0)


def test_after_a_reboot_what_ran_is_lost(tmp_path: Path):
    folder = tmp_path / "keeper"
    folder.mkdir(mode=0o700)
    (folder / "journal.jsonl").write_text(
        '{"type": "boot", "boot_id": "an earlier one", "pid": 1}\n'
        '{"type": "intent", "execution": "old", "attempt": 1, "stdout": "/x", "stderr": "/x", "grace_ms": 1, '
        '"deadline": null, "started_at": 1.0}\n'
        f'{{"type": "spawned", "execution": "old", "attempt": 1, "pid": {os.getpid()}, "start_time": 1}}\n'
    )
    one = Node(tmp_path)
    one.keeper.start()
    assert one.get(Lost, "old").pid == os.getpid()
    one.keeper.close()
