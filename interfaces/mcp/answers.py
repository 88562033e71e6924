"""Answers and errors in the words of the protocol."""

import contextlib
from collections.abc import Generator
from typing import Any

import mcp_types as wire
import msgspec
from mcp.shared.exceptions import MCPError

from events.errors import HindbrainError, Problem, Refusal


def answered(reply: dict[str, Any]) -> wire.CallToolResult:
    """Give an answer as data, and as text for hosts that show only that."""
    text = msgspec.json.encode(reply).decode()
    return wire.CallToolResult(content=[wire.TextContent(text=text)], structured_content=reply)


def refused(problem: Problem) -> wire.CallToolResult:
    """Say no: code and sentence as text, and all of it as data."""
    return wire.CallToolResult(
        content=[wire.TextContent(text=f"{problem.code}: {problem.message}")],
        structured_content={"error": msgspec.to_builtins(problem)},
        is_error=True,
    )


@contextlib.contextmanager
def protocol() -> Generator[None]:
    """Say our errors in the words of the protocol, for what is no tool; the code goes along as data."""
    try:
        yield
    except HindbrainError as error:
        code = wire.INVALID_PARAMS if isinstance(error, Refusal) else wire.INTERNAL_ERROR
        raise MCPError(code, error.message, msgspec.to_builtins(error.problem)) from None
