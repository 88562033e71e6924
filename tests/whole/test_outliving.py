"""Who may die while a command runs: its parent, the node, the keeper, or all of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from keepers import TREE, Node, alive, family, gone, hold

from actors import linux
from actors.keeping import Exited, Lost, Spawned
from tests.waiting import until

pytestmark = pytest.mark.whole


WAYS = {"plain": "", "session": "setsid ", "bare": "env -i ", "both": "env -i /usr/bin/setsid "}


def test_a_child_that_outlives_its_parent_keeps_the_execution_running(node: Node):
    gate = node.data / "gate"
    mains = {
        name: node.run(name, "/bin/sh", "-c", f"{how}/bin/sh -c 'echo $$; {hold(gate)}; echo late' & exit 5")
        for name, how in WAYS.items()
    }
    children = {name: int(until(lambda name=name: node.out(name).strip())) for name in WAYS}
    until(lambda: not any(linux.stat(main.pid) for main in mains.values()))
    # The keeper has reaped all four before it starts and ends another: had it taken a main for the whole, it
    # would have said so before.
    node.run("behind", "/bin/true")
    node.get(Exited, "behind")
    assert {one.execution for one in node.told if isinstance(one, Exited)} == {"behind"}
    for name, child in children.items():
        assert family(name) >= {child}
    gate.touch()
    for name, child in children.items():
        assert node.get(Exited, name).exit_code == 5
        assert node.out(name) == f"{child}\nlate\n"
        assert family(name) == set()


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
