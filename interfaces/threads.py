"""Two paths of the HTTP door for pages that watch modules: how the workers are, and what was decided."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from events.errors import HindbrainError
from interfaces.api import ExecutionEngine
from interfaces.client import decisions

LAST = 50
"""How many decisions are shown."""


def routes(engine: ExecutionEngine) -> list[Route]:
    """Answer `{success, data}`; what goes wrong is `{success, error}` with 500, whatever it is."""
    return [
        Route("/api/threads/status", _answer(lambda: engine.request("module", "threads"))),
        Route("/api/threads/decisions", _answer(lambda: decisions(engine, LAST))),
    ]


def _answer(ask: Callable[[], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:  # noqa: ARG001  the shape of every endpoint
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        try:
            return JSONResponse({"success": True, "data": await ask()}, headers=headers)
        except HindbrainError as error:
            return JSONResponse({"success": False, "error": error.message}, 500, headers)

    return answer
