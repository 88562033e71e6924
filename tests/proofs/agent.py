"""An agent has ten minutes of work done with five calls, while the node is killed in the middle of it.

The agent is the official client of MCP, with `hindbrain mcp` at the other end as hosts start it.  It does
what the guide says: it asks once how far the work is, does something else for as long as that takes, and then
catches up.
"""

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.proofs.ground import Ground, ground
from tests.proofs.report import Report

SECONDS = 600.0
WORK = """import time
begin = time.monotonic()
for n in range(1, {steps} + 1):
    time.sleep(max(0, begin + n * {seconds} / {steps} - time.monotonic()))
    print(f"::progress {{n}}/{steps}", flush=True)
    print("line", n, flush=True)
"""


async def prove(report: Report, folder: Path, seed: int, seconds: float = SECONDS, steps: int = 100) -> None:
    """Have so many seconds of work done; the node dies at a moment of its middle that the seed chooses."""
    chance = random.Random(seed)
    async with ground(folder / "d") as node:
        await node.up()
        words = ["-P", "-m", "interfaces.cli", "mcp", "--data", str(folder / "d")]
        server = StdioServerParameters(command=sys.executable, args=words, env=node.environ())
        calls: list[str] = []
        async with Client(stdio_client(server)) as client:

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                calls.append(tool)
                done = await client.call_tool(tool, arguments)
                assert not done.is_error, done.content
                report.note(f"{tool}: {str(done.structured_content)[:300]}")
                return dict(done.structured_content or {})

            code = WORK.format(steps=steps, seconds=seconds)
            one = (await call("execute", code=code, description="the long work"))["execution_id"]
            began = time.monotonic()
            blow = asyncio.create_task(_blow(report, node, seconds * chance.uniform(0.4, 0.6)))
            look = min(45.0, seconds / 4)
            seen = await call("wait", execution_id=one, timeout_seconds=look)
            left = float(seen["execution"].get("eta_seconds") or seconds - look)
            report.claim(not seen["done"], f"after {look:.0f} s it still runs, {left:.0f} s are left", seen)
            await asyncio.sleep(left)  # the agent does something else
            await blow
            news = await call("catch_up")
            report.claim(one in [each["id"] for each in news["changes"]], "catch_up tells of it", news)
            over = await call("wait", execution_id=one, timeout_seconds=45)
            took = time.monotonic() - began
            report.claim(over["done"] and over["execution"]["status"] == "completed", "it is completed", over)
            result = (await call("result", execution_id=one))["result"]
        lines = [line for line in result["stdout"].splitlines() if line.startswith("line ")]
        report.claim(
            lines == [f"line {n}" for n in range(1, steps + 1)], f"its {steps} lines have no gap", lines
        )
        report.claim(took >= seconds, f"it took {took:.0f} s", seconds)
        report.claim(len(calls) <= 5, f"{len(calls)} calls: {', '.join(calls)}")
        attempts = await node.sql(f"SELECT attempt FROM executions WHERE id = '{one}'")
        report.claim(attempts == [{"attempt": 1}], "it ran once", attempts)


async def _blow(report: Report, node: Ground, seconds: float) -> None:
    """Kill the node after so long, and start it again."""
    await asyncio.sleep(seconds)
    node.kill("node")
    await node.up()
    report.note(f"the node was killed after {seconds:.0f} s, and started again")
