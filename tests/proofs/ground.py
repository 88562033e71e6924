"""The ground a proof stands on: a data folder, its node, and what can be done to both from outside."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, NamedTuple

CALL_SECONDS = 120.0


class Said(NamedTuple):
    """What the command line answered."""

    code: int
    out: bytes
    err: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Ground:
    """One data folder; `environment` holds settings of its node."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data, self.environment = data, environment
        self._seen: dict[int, float] = {}
        """Every process of ours, with its birth, so that the end can be thorough and hit nobody else."""

    def environ(self) -> dict[str, str]:
        """The environment of its command line."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
        return {**kept, "HINDBRAIN_DATA": str(self.data), **self.environment}

    async def call(self, *arguments: str, seconds: float = CALL_SECONDS) -> Said:
        """Use the command line."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "interfaces.cli",
            *arguments,
            env=self.environ(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"hindbrain {' '.join(arguments)}: no answer in {seconds:g} s") from None
        return Said(process.returncode or 0, out, err)

    async def told(self, *arguments: str) -> Any:
        """Use the command line, which has to succeed, and read the JSON it prints."""
        said = await self.call(*arguments, "--json")
        assert said.code == 0, f"hindbrain {' '.join(arguments)}: {said.out.decode()}{said.err.decode()}"
        return said.json

    async def sql(self, query: str, *more: str) -> list[dict[str, Any]]:
        """Ask the tables."""
        return await self.told("sql", query, "--limit", "100000", "--timeout", "60000", *more)

    async def up(self, *more: str) -> dict[str, Any]:
        """Start the node in the background and wait until it is ready."""
        ports = () if "--nats" in more else ("--nats-port", "0")
        info = await self.told("up", "--detach", "--http-port", "0", *ports, *more)
        self.pids()
        return info

    @property
    def info(self) -> dict[str, Any]:
        """What the node wrote down about itself; empty when it went in good order."""
        return _read(self.data / "node.json")

    def pids(self) -> dict[str, int]:
        """The node's processes by name, as far as they live; those it started itself are asked of /proc."""
        found: dict[str, int] = {}
        info = self.info
        if "pid" in info:
            found["node"] = info["pid"]
        for name, file in (("nats", "nats/server.json"), ("keeper", "keeper/keeper.json")):
            if pid := _read(self.data / file).get("pid"):
                found[name] = pid
        for pid in processes():
            if "interfaces.projector" in cmdline(pid) and parent(pid) == found.get("node"):
                found["projector"] = pid
        living = {name: pid for name, pid in found.items() if birth(pid) is not None}
        self._seen |= {pid: birth(pid) or 0.0 for pid in living.values()}
        return living

    def kill(self, *names: str) -> list[str]:
        """Kill processes of the node with SIGKILL, all at once; answers those that were there."""
        pids = self.pids()
        hit = [name for name in names if name in pids]
        for name in hit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[name], signal.SIGKILL)
        return hit

    async def gone(self, pid: int, seconds: float = 10.0) -> None:
        """Wait until a process is no more."""
        await until(lambda: birth(pid) is None, seconds, f"process {pid} to go")

    async def end(self) -> None:
        """Cancel what runs, stop the node, and leave no process behind."""
        with contextlib.suppress(AssertionError):
            await self.call("down", "--cancel", seconds=40)
        self.pids()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid, born in self._seen.items():
                if birth(pid) == born:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            with contextlib.suppress(AssertionError):
                await until(lambda: all(birth(p) != b for p, b in self._seen.items()), 5.0, "the end")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


@contextlib.asynccontextmanager
async def ground(data: Path, **environment: str) -> AsyncGenerator[Ground]:
    """A folder whose node is stopped and whose processes are gone at the end."""
    made = Ground(data, **environment)
    try:
        yield made
    finally:
        await made.end()


async def until(fact: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(0.02)


# ---- the system's own view of processes --------------------------------------------------------------------


def processes() -> list[int]:
    """All process ids of the machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def birth(pid: int) -> float | None:
    """When a process was born, in ticks since the boot; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def parent(pid: int) -> int | None:
    """Who its parent is; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def cmdline(pid: int) -> list[str]:
    """The words of its command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def environ(pid: int) -> bytes:
    """The environment it was started with; empty when it is gone or not ours to read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def resident(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
