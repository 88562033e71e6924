"""A real keeper, a client that remembers what it was told, and families of processes."""

import threading
from pathlib import Path
from typing import TypeVar

import psutil

from actors import linux
from actors.keeping import Attempts, Keeper, Message, Spawn, Spawned
from tests.waiting import PATIENCE

T = TypeVar("T", bound=Message)
PATH = {"PATH": "/usr/bin:/bin"}


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
        self.keeper.spawn(Spawn(name, 1, list(argv), **(settings | options)))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] -- free test settings
        return self.get(Spawned, name) if wait else Spawned(name, 1, 0, 0, 0)

    def get(self, kind: type[T], name: str, seconds: float = PATIENCE) -> T:
        def found() -> list[T]:
            return [
                one for one in self.told if isinstance(one, kind) and getattr(one, "execution", "") == name
            ]

        with self.change:
            assert self.change.wait_for(found, seconds), f"no {kind.__name__} of {name} in {self.told}"
            return found()[0]

    def out(self, name: str) -> str:
        return (self.data / f"{name}.out").read_text()


def gone(pid: int) -> bool:
    seen = linux.stat(pid)
    return seen is None or seen.state in "ZX"


def alive(process: Spawned) -> bool:
    seen = linux.stat(process.pid)
    return seen is not None and seen.start == process.start_time and seen.state not in "ZX"


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
