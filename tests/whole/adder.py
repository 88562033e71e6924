"""A small MCP server of somebody else, made with the official SDK."""

import os

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


if __name__ == "__main__":
    server.run("stdio")
