"""A node under test, started as a user would, and a client that knows nothing but its URL."""

import contextlib
import json
import math
import os
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from bus.bridge import Bridge
from bus.permissions import User
from bus.server import Server
from tests.proofs.ground import Ground

ROOT = Path(__file__).parent.parent.parent
WITHIN = 60.0
TICK = os.sysconf("SC_CLK_TCK")


class Stand:
    """A running node, by its processes, with one plain connection."""

    def __init__(self, ground: Ground, info: dict[str, Any], connection: Any) -> None:
        self.ground, self.info, self.nc = ground, info, connection

    async def ask(self, verb: str, body: dict[str, Any], within: float = WITHIN) -> dict[str, Any]:
        """Ask a verb; a refusal is an error."""
        reply = await self.nc.request(f"brain.cmd.{verb}", json.dumps(body).encode(), timeout=within)
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer

    async def one(self, query: str, *params: Any, min_seq: int) -> Any:
        """Ask the tables for one value, once they know the log up to a sequence."""
        body = {"sql": query, "params": params, "min_seq": min_seq, "timeout_ms": 60_000}
        return (await self.ask("query.sql", body))["rows"][0][0]

    def pss(self) -> float:
        """Memory of all processes of the node, shared pages divided among those who share them, in MiB."""
        return sum(pss(pid) for pid in self.ground.pids().values())

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time that each process has used, without its children."""
        return {name: cpu(pid) for name, pid in self.ground.pids().items()}


def pss(pid: int) -> float:
    """Proportional set size of a process, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the system does not tell the memory of process {pid}")


def cpu(pid: int) -> float:
    """Seconds of processor time of a process, user and system, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextlib.asynccontextmanager
async def stand(data: Path, *more: str, **environment: str) -> AsyncGenerator[Stand]:
    """A node in that folder, for as long as it is needed; its log is seen to be synced."""
    ground = Ground(data, **environment)
    try:
        info = await ground.up(*more)
        synced(data)
        connection: Any = Client()
        await connection.connect(info["nats_url"], allow_reconnect=False)
        try:
            yield Stand(ground, info, connection)
        finally:
            await connection.close()
    finally:
        await ground.end()


def synced(data: Path) -> None:
    """Make sure, by what the server says, that it syncs every append of the log before it confirms it."""
    port = json.loads((data / "nats" / "server.json").read_bytes())["monitor_port"]
    if _get(port, "varz")["jetstream"]["config"].get("sync_always") is not True:
        raise RuntimeError("the server does not sync every append")
    streams = _get(port, "jsz?streams=true&config=true")["account_details"][0]["stream_detail"]
    (log,) = (stream["config"] for stream in streams if stream["name"] == "BRAIN_EVENTS")
    if log["storage"] != "file" or log.get("persist_mode") not in (None, "default"):
        raise RuntimeError(f"the log is confirmed before it is stored: {log}")


def _get(port: int, what: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=10) as reply:
        return json.load(reply)


@contextlib.contextmanager
def bridge(data: Path, user: User = "node") -> Any:
    """A connection of our own bus to the server of a folder."""
    server = Server(data)
    server.start()
    made = Bridge(server.url(user), inbox={"node": "_NODE", "host": "_HOST", "client": "_INBOX"}[user])
    made.start()
    try:
        yield made
    finally:
        made.stop()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]
