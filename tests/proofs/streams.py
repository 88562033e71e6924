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
COMING_MS = 5.0
"""So much longer may it take for each who comes in meanwhile, once: a connection costs what it costs."""
AT_ONCE = 8
LATER = 6
"""Who follows what talks heard so many more messages before it is measured."""
TALKS = "while :; do echo still here; sleep 1; done"
SILENT = "sleep 3600"
HOWS = ("alone", "coming in", "there")
CROWDS = HOWS[1:]
"""All come while the work is done, or have come before."""


async def prove(
    report: Report, folder: Path, seed: int, listeners: int = 200, pairs: int = 8, count: int = 1000
) -> None:
    """Run the same work alone, while listeners come in, and with them there; half follow a silence."""
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
    costs: list[float] = []
    for turn in range(pairs):
        spent: dict[str, float] = {}
        # Whatever else this machine does at the moment must not always hit the same side.
        for how in (HOWS[turn % len(HOWS) :] + HOWS)[: len(HOWS)]:
            crowd = listeners if how in CROWDS else 0
            async with _crowd(str(node.info["http_url"]), paths, crowd, how) as heard:
                spent[how] = await _work(them, f"{seed}-{turn}-{how}", count)
            if crowd:
                report.claim(
                    heard["open"] == listeners,
                    f"{heard['open']} listeners came, stayed and heard {heard['messages']} messages",
                )
        ratios.append(spent["there"] / spent["alone"])
        costs.append((spent["coming in"] - spent["alone"]) / listeners * 1000)
        said = ", ".join(f"{spent[how]:.2f} s {how}" for how in HOWS)
        report.note(f"{count} executions: {said}")
    middle = statistics.median(ratios)
    report.claim(
        middle <= SLOWER,
        f"while {listeners} listeners are there the same work takes {middle:.2f} times as long as alone, "
        f"median of {pairs}",
        [round(each, 2) for each in ratios],
    )
    middle = statistics.median(costs)
    report.claim(
        middle <= COMING_MS,
        f"each listener that comes in makes it {middle:.1f} ms longer, once, median of {pairs}",
        [round(each, 1) for each in costs],
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
async def _crowd(url: str, paths: list[str], count: int, how: str) -> AsyncGenerator[dict[str, Any]]:
    """Listen from a process of its own; when it is over, how many stayed and what they heard."""
    heard: dict[str, Any] = {}
    if not count:
        yield heard
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proofs.streams", url, str(count), *paths, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        process.stdin.write(b"come in\n")
        if how == "there":
            assert await process.stdout.readline() == b"all are there\n"
        yield heard
        if how != "there":
            assert await process.stdout.readline() == b"all are there\n"
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

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    tasks = [asyncio.create_task(listener(number)) for number in range(count)]
    await until(lambda: all(heard), 120, "everybody to be there")
    # Who is there listens, and does not come in any more.
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
