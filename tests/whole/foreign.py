"""How a stranger's program reaches a node: plain nats-py and the command line, and nothing of ours."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote, urlsplit

import nats
from nats.aio.msg import Msg

from tests.waiting import turned

Done = subprocess.CompletedProcess[bytes]
ENDS = ("completed", "failed", "cancelled", "timed_out")


def clean(**more: str) -> dict[str, str]:
    """Our environment without anything of Hindbrain's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")} | more


@dataclass
class Place:
    """A data folder with a node, or without one."""

    data: Path
    _nodes: "list[subprocess.Popen[bytes]]" = field(default_factory=list["subprocess.Popen[bytes]"])

    @property
    def info(self) -> dict[str, Any]:
        """What `hindbrain info --json` prints: all that a stranger knows."""
        done = self.cli("info", "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    @property
    def wrote(self) -> dict[str, Any]:
        """What the node wrote down about itself when it began: most of that, and nobody has to ask."""
        return json.loads((self.data / "node.json").read_bytes())

    def command(self, *arguments: str) -> list[str]:
        verb, *rest = arguments
        return [sys.executable, "-P", "-m", "interfaces.cli", verb, "--data", str(self.data), *rest]

    def cli(self, *arguments: str, stdin: bytes = b"", seconds: float = 60, **env: str) -> Done:
        """Type a command, and wait for its end."""
        return subprocess.run(
            self.command(*arguments),
            env=clean(**env),
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, *arguments: str, **env: str) -> "subprocess.Popen[bytes]":
        """Type a command, and do not wait."""
        return subprocess.Popen(
            self.command(*arguments),
            env=clean(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def up(self, *arguments: str, **env: str) -> Self:
        """Start a node beside us, and wait until it says that it is ready."""
        ports = () if arguments else ("--http-port", "0", "--nats-port", "0")
        self.data.parent.mkdir(parents=True, exist_ok=True)
        said = self.data.parent / f"{self.data.name}.said"
        with said.open("wb") as errors:
            node = subprocess.Popen(
                self.command("up", *ports, *arguments),
                env=clean(**env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._nodes.append(node)
        assert node.stdout is not None
        with node.stdout as out:
            assert b"is ready" in out.readline(), said.read_text()
        return self

    def join(self, other: "Place", **env: str) -> Self:
        """Start a node beside us that works on the bus of another place."""
        passwords = json.loads((other.data / "nats" / "credentials.json").read_bytes())["passwords"]
        port = urlsplit(str(other.wrote["nats_url"])).port
        url = f"nats://node:{quote(passwords['node'], safe='')}@127.0.0.1:{port}"
        return self.up("--http-port", "0", "--nats", url, **env)

    def leave(self) -> None:
        """Stop the node that joined, and no other: `down` asks whichever answers."""
        file = self.data / "node.json"
        if file.exists():
            pid = json.loads(file.read_bytes())["pid"]
            kill(pid)
            assert gone(pid)
        for node in self._nodes:
            node.wait(60)

    def end(self) -> None:
        """Stop everything that belongs to this folder."""
        file = self.data / "node.json"
        if file.exists():
            asyncio.run(self._go())
        for node in self._nodes:
            node.wait(60)
        server = self.data / "nats" / "server.json"
        found: dict[str, int] = json.loads(server.read_bytes()) if server.exists() else {}
        if "pid" in found:
            kill(found["pid"])
        assert not file.exists()

    async def _go(self) -> None:
        """Ask the node to cancel what runs, and to end."""
        wrote = self.wrote
        token = self.data / "admin.token"
        shown = {"Brain-Token": token.read_text().strip()} if token.exists() else None
        async with connect(wrote["nats_url"]) as bus:
            await bus.nc.request("brain.cmd.node.down", b'{"cancel": true}', timeout=30, headers=shown)
        assert gone(wrote["pid"], 60)


def kill(pid: int, number: int = 15) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def gone(pid: int, seconds: float = 10) -> bool:
    """Wait until there is no such process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


class Refused(Exception):
    """An error reply."""

    def __init__(self, code: str, message: str, details: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.details, self.headers = code, message, details, headers


class Foreign:
    """One plain connection."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.js: Any = nc.jetstream()

    async def send(self, verb: str, body: bytes, within: float = 30) -> Msg:
        """Send bytes to `brain.cmd.<verb>`."""
        return await self.nc.request(f"brain.cmd.{verb}", body, timeout=within)

    async def ask(self, verb: str, body: Any = None, within: float = 30) -> dict[str, Any]:
        """Ask a verb; an error reply is raised."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        reply = await self.send(verb, raw, within)
        answer: dict[str, Any] = json.loads(reply.data)
        headers = dict(reply.headers or {})
        if "error" in answer or "Nats-Service-Error" in headers:
            error = answer["error"]
            raise Refused(error["code"], error["message"], error["details"], headers)
        return answer

    async def submit(self, **body: Any) -> str:
        """Submit, and give the id."""
        return (await self.ask("execution.submit", body))["execution_id"]

    async def over(self, execution_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for the end."""
        ask = {"execution_id": execution_id, "timeout_ms": round(seconds * 1000)}
        reply = await self.ask("execution.wait", ask, seconds + 10)
        assert reply["done"], reply["execution"]
        assert reply["execution"]["status"] in ENDS
        return reply["execution"]

    async def run(self, seconds: float = 60, **body: Any) -> dict[str, Any]:
        """Submit and wait for the end."""
        return await self.over(await self.submit(**body), seconds)

    async def last(self, stream: str = "BRAIN_EVENTS") -> int:
        """The last sequence of a stream."""
        return (await self.js.stream_info(stream)).state.last_seq

    async def born(self, after: int) -> list[str]:
        """Every execution that came into being after a sequence: the subjects of their first events.

        A node says things of itself too, and a command that runs tells its progress: those do not count.
        """
        subjects = [
            (await self.js.get_msg("BRAIN_EVENTS", seq)).subject
            for seq in range(after + 1, await self.last() + 1)
        ]
        return [each for each in subjects if each.split(".")[2] == "execution" and each.split(".")[4] == "1"]

    async def hear(self, subject: str) -> Any:
        """Subscribe, and be sure that what comes after this is heard."""
        heard = await self.nc.subscribe(subject)
        await self.nc.flush()
        return heard

    async def until(self, fact: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
        """Ask again and again until the answer is true, and give it."""
        return await turned(fact, seconds)

    async def output(self, execution_id: str, seconds: float = 60) -> dict[str, bytes]:
        """Read all output from the stream as any NATS client can, until both end markers."""
        heard = await self.js.subscribe(
            f"brain.out.{execution_id}.*", ordered_consumer=True, pending_bytes_limit=1 << 30
        )
        found: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        sizes, ends = {"stdout": 0, "stderr": 0}, dict[str, int]()
        deadline = time.monotonic() + seconds
        try:
            while len(ends) < 2 or any(sizes[stream] < ends[stream] for stream in ends):
                message = await heard.next_msg(timeout=max(0.1, deadline - time.monotonic()))
                stream = message.subject.rsplit(".", 1)[1]
                headers: dict[str, str] = message.headers or {}
                if "Brain-End" in headers:
                    ends[stream] = int(headers["Brain-End"])
                    continue
                assert len(message.data) <= 65536
                assert int(headers["Brain-Offset"]) == sizes[stream], "lost or reordered"
                assert {"Brain-Time", "Brain-Attempt"} <= headers.keys()
                found[stream].append(message.data)
                sizes[stream] += len(message.data)
        finally:
            await heard.unsubscribe()
        assert sizes == ends
        return {stream: b"".join(parts) for stream, parts in found.items()}


@asynccontextmanager
async def connect(url: str) -> AsyncGenerator[Foreign]:
    """Connect with nothing but the URL."""
    # nats-py leaves its options without types.
    join: Any = cast("Any", nats).connect
    nc = await join(url, allow_reconnect=False, pending_size=16 << 20)
    try:
        yield Foreign(nc)
    finally:
        await nc.close()
