"""Commands write as much as they can, all at once: nothing is lost or reordered, and the node stays small."""

import asyncio
import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any, cast

import nats

from tests.proofs.ground import Ground, ground, resident
from tests.proofs.report import Report

MIB = 1 << 20
NODE_MIB = 200
"""What a node may take while it is flooded."""
SOON_SECONDS = 1.0
WRITERS = 12

WRITER = """
import hashlib, os, random, sys
dice = random.Random({seed})
sums = {{1: hashlib.sha256(), 2: hashlib.sha256()}}
left = {size}
while left > 0:
    stream = dice.choice((1, 1, 1, 2))
    part = dice.randbytes(min(left, dice.choice((1, 80, 4096, 65536, 300000))))
    if dice.random() < 0.3:
        part = part.replace(b"\\n", b"\\r")
    sums[stream].update(part)
    left -= len(part)
    while part:
        part = part[os.write(stream, part):]
"""


def expected(seed: int, size: int) -> dict[str, str]:
    """The digests of what such a writer writes."""
    dice, sums, left = (
        random.Random(seed),
        {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()},
        size,
    )
    while left > 0:
        stream = ("stdout", "stdout", "stdout", "stderr")[dice.choice((0, 1, 2, 3))]
        part = dice.randbytes(min(left, dice.choice((1, 80, 4096, 65536, 300000))))
        if dice.random() < 0.3:
            part = part.replace(b"\n", b"\r")
        sums[stream].update(part)
        left -= len(part)
    return {stream: made.hexdigest() for stream, made in sums.items()}


async def read(nc: Any, execution: str) -> tuple[dict[str, str], float]:
    """Read all output from the stream, piece by piece; the digests, and when the last byte came."""
    heard = await nc.jetstream().subscribe(
        f"brain.out.{execution}.*", ordered_consumer=True, pending_msgs_limit=-1, pending_bytes_limit=-1
    )
    sums = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    sizes, ends, last = {"stdout": 0, "stderr": 0}, dict[str, int](), 0.0
    try:
        while len(ends) < 2 or any(sizes[stream] != end for stream, end in ends.items()):
            message = await heard.next_msg(timeout=120)
            stream = message.subject.rsplit(".", 1)[1]
            if "Brain-End" in message.headers:
                ends[stream] = int(message.headers["Brain-End"])
                continue
            offset = int(message.headers["Brain-Offset"])
            if offset != sizes[stream]:
                raise AssertionError(f"{execution} {stream}: offset {offset} after byte {sizes[stream]}")
            sums[stream].update(message.data)
            sizes[stream] += len(message.data)
            last = time.monotonic()
    finally:
        await heard.unsubscribe()
    return {stream: made.hexdigest() for stream, made in sums.items()}, last


async def ask(nc: Any, verb: str, body: dict[str, Any], seconds: float = 300) -> dict[str, Any]:
    """Ask a verb of executions."""
    reply = await nc.request(f"brain.cmd.execution.{verb}", json.dumps(body).encode(), timeout=seconds)
    return json.loads(reply.data)


async def follow(nc: Any, body: dict[str, Any]) -> tuple[str, dict[str, str], float]:
    """Submit and read along: the id, the digests, and how long after the end the last byte came."""
    execution = (await ask(nc, "submit", body))["execution_id"]
    reading = asyncio.create_task(read(nc, execution))
    while not (await ask(nc, "wait", {"execution_id": execution, "timeout_ms": 60_000}))["done"]:
        pass
    over = time.monotonic()
    digests, last = await reading
    return execution, digests, last - over


async def prove(report: Report, folder: Path, seed: int, size: int = 16 * MIB) -> None:
    """Let many write at once, then one a million lines, and one 200 MiB without a line's end."""
    async with ground(folder / "d") as node:
        info = await node.up()
        join: Any = cast("Any", nats).connect
        nc = await join(info["nats_url"], allow_reconnect=False)
        most = 0.0
        over = asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not over.is_set():
                most = max(most, resident(info["pid"]))
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        try:
            await _floods(report, node, nc, seed, size)
        finally:
            over.set()
            await watching
            await nc.close()
        report.claim(most < NODE_MIB, f"the node never took more than {most:.0f} MiB", NODE_MIB)


async def _floods(report: Report, node: Ground, nc: Any, seed: int, size: int) -> None:
    began = time.monotonic()
    wishes = [{"code": WRITER.format(seed=seed + n, size=size)} for n in range(WRITERS)]
    came = await asyncio.gather(*(follow(nc, wish) for wish in wishes))
    took = time.monotonic() - began
    wrong = [
        execution
        for n, (execution, digests, _) in enumerate(came)
        if digests != await asyncio.to_thread(expected, seed + n, size)
    ]
    total = WRITERS * size / MIB
    report.claim(not wrong, f"{WRITERS} writers, {total:.0f} MiB in {took:.1f} s, complete by digest", wrong)
    lines = hashlib.sha256("".join(f"{n}\n" for n in range(1, 1_000_001)).encode()).hexdigest()
    _, digests, late = await follow(nc, {"exec": {"program": "seq", "args": ["1000000"]}})
    report.claim(digests["stdout"] == lines, "a million lines are complete by digest")
    report.claim(late < SOON_SECONDS, f"the last byte came {late * 1000:.0f} ms after the end was told")
    command = f"head -c {200 * MIB} /dev/zero | tr '\\0' x"
    began = time.monotonic()
    execution, digests, late = await follow(nc, {"shell": {"command": command}})
    whole = hashlib.sha256()
    for _ in range(200):
        whole.update(b"x" * MIB)
    report.note(
        f"200 MiB on one line in {time.monotonic() - began:.1f} s, {late * 1000:.0f} ms after the end"
    )
    report.claim(digests["stdout"] == whole.hexdigest(), "200 MiB on one line are complete by digest")
    logs = await node.call("logs", execution)
    report.claim(logs.out == b"x" * (200 * MIB), "and the command line prints the same")
