"""A small MCP server of somebody else, made with the official SDK."""

import os
import time
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("adder")


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool()
def shout(words: str) -> str:
    """Say it louder."""
    return f"{words.upper()}{os.environ.get('MARK', '')}"


@server.tool()
def fail(why: str) -> str:
    """Never works."""
    raise ValueError(why)


@server.tool()
def linger(path: str, log: str, text: str) -> str:
    """Leave a file with a text, once there is another file; say in a log that it was begun."""
    with Path(log).open("a") as file:
        file.write("linger\n")
    while not Path(path).exists():
        time.sleep(0.02)
    Path("left.txt").write_text(f"{text}\n")
    return text


if __name__ == "__main__":
    server.run("stdio")
