"""Two hundred listeners at the HTTP door do not slow down what runs, and one who does not read is dropped."""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground, until
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

SLOWER = 1.10
"""So many times as long may the same work take with all listeners there."""
AT_ONCE = 8
LATER = 6
"""Who follows what talks heard so many more messages before it is measured."""
TALKS = "while :; do echo still here; sleep 1; done"
SILENT = "sleep 3600"


async def prove(
    report: Report, folder: Path, seed: int, listeners: int = 200, pairs: int = 8, count: int = 400
) -> None:
    """Run the same work with and without listeners, turn and turn about; half of them follow a silence."""
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, seed, listeners, pairs, count)
        finally:
            await them.close()


async def _run(
    report: Report, node: Ground, them: Outsider, seed: int, listeners: int, pairs: int, count: int
) -> None:
    followed = [await them.submit({"shell": {"command": line}}) for line in (TALKS, SILENT)]
    paths = [f"/executions/{name}/stream" for name in followed]
    await _work(them, f"warm-{seed}", count)
    ratios: list[float] = []
    for turn in range(pairs):
        spent: dict[bool, float] = {}
        # Whatever else this machine does at the moment must not always hit the same side.
        for crowded in (turn % 2 == 0, turn % 2 == 1):
            async with _crowd(str(node.info["http_url"]), paths, listeners if crowded else 0) as heard:
                spent[crowded] = await _work(them, f"{seed}-{turn}-{crowded}", count)
            if crowded:
                report.claim(
                    heard["open"] == listeners,
                    f"{heard['open']} listeners stayed and heard {heard['messages']} messages",
                )
        ratios.append(spent[True] / spent[False])
        report.note(f"{count} executions: {spent[False]:.2f} s alone, {spent[True]:.2f} s with listeners")
    middle = statistics.median(ratios)
    report.claim(
        middle <= SLOWER,
        f"with {listeners} listeners the same work takes {middle:.2f} times as long, median of {pairs}",
        [round(each, 2) for each in ratios],
    )


async def _work(them: Outsider, name: str, count: int) -> float:
    """Run short commands, a few at once, each asked for when one is over; gives the seconds it took."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            body = {"exec": {"program": "true"}, "idempotency_key": f"{name}-{number}"}
            execution = await them.submit(body)
            answer = await them.ask("execution.wait", {"execution_id": execution, "timeout_ms": 60_000}, 70)
            assert answer["done"], answer

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def _crowd(url: str, paths: list[str], count: int) -> AsyncGenerator[dict[str, Any]]:
    """Listen from a process of its own; when it is over, how many stayed and what they heard."""
    heard: dict[str, Any] = {}
    if not count:
        yield heard
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proofs.streams", url, str(count), *paths, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"all are there\n"
        yield heard
    finally:
        out, _ = await process.communicate(b"")
    heard |= json.loads(out)


async def _listen(url: str, count: int, paths: list[str]) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    heard, gone = [0] * count, 0

    async def listener(number: int) -> None:
        nonlocal gone
        reader, writer = await asyncio.open_connection(host, int(port))
        path = paths[number % len(paths)]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.partition(b"\r\n")[0], head
            while part := await reader.read(1 << 16):
                heard[number] += part.count(b"\n\n")
            gone += 1
        finally:
            writer.close()

    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    tasks = [asyncio.create_task(listener(number)) for number in range(count)]
    await until(lambda: all(heard), 120, "everybody to be there")
    # What is measured is listening, not coming in.
    settled = [number + LATER for number in heard[:: len(paths)]]
    await until(
        lambda: all(now >= then for now, then in zip(heard[:: len(paths)], settled, strict=True)),
        120,
        "everybody to hear more",
    )
    sys.stdout.write("all are there\n")
    sys.stdout.flush()
    await ended
    sys.stdout.write(json.dumps({"open": count - gone, "messages": sum(heard)}))
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
