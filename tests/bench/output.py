"""How soon a client has all that a command wrote, when it reads nothing but the bus."""

import asyncio
import hashlib
import os
import subprocess
import time
from datetime import datetime
from typing import Any

from tests.bench.run import Run
from tests.bench.stand import Stand, stand

LINES = 1_000_000
MIB = 2**20


async def measure(run: Run) -> None:
    """A million lines, then a large file."""
    data = run.place()
    count = run.size(5, 2)
    async with stand(data) as node:
        await _whole(node, ["seq", "10"])
        await _pair(run, node, count, f"seq {LINES}", ["seq", str(LINES)])
        size = run.size(200, 20)
        file = data / "large"
        with file.open("wb") as part:
            for _ in range(size):
                part.write(os.urandom(MIB))
        await _pair(run, node, run.size(3, 1), f"cat of {size} MiB", ["cat", str(file)])


async def _pair(run: Run, node: Stand, count: int, text: str, command: list[str]) -> None:
    rates: list[float] = []
    bare: list[float] = []
    after: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        expected = await asyncio.to_thread(subprocess.check_output, command)
        plain = len(expected) / (time.perf_counter() - begun) / 1e6
        seconds, late, digest = await _whole(node, command)
        assert digest == hashlib.sha256(expected).hexdigest(), (
            "what came over the bus is not what was written"
        )
        rates.append(len(expected) / seconds / 1e6)
        bare.append(plain)
        after.append(late * 1000)
    run.add(f"{text}, submit until a client has it all, digest checked", "MB/s", rates)
    run.ratio(f"{text}, MB/s: ours / subprocess.check_output", rates, bare)
    run.add(f"{text}, from the command's end until a client has it all", "ms", after)


async def _whole(node: Stand, command: list[str]) -> tuple[float, float, str]:
    """Seconds since the submit, seconds since the command ended, and the digest of what came."""
    js: Any = node.nc.jetstream()
    program, *arguments = command
    begun = time.perf_counter()
    reply = await node.ask("execution.submit", {"exec": {"program": program, "args": arguments}})
    name = reply["execution_id"]
    heard = await js.subscribe(f"brain.out.{name}.stdout", ordered_consumer=True, pending_bytes_limit=2**30)
    parts: list[bytes] = []
    size, end = 0, -1
    while size != end:
        message = await heard.next_msg(timeout=60)
        headers: dict[str, str] = message.headers or {}
        if "Brain-End" in headers:
            end = int(headers["Brain-End"])
            continue
        assert int(headers["Brain-Offset"]) == size, "a piece is missing, or came twice"
        parts.append(message.data)
        size += len(message.data)
    seconds, now = time.perf_counter() - begun, time.time()
    await heard.unsubscribe()
    done = (await node.ask("execution.wait", {"execution_id": name}))["execution"]
    assert done["status"] == "completed", done
    return seconds, now - datetime.fromisoformat(done["completed_at"]).timestamp(), _digest(parts)


def _digest(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
