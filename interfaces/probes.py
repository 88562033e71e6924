"""What machines ask a node about itself over HTTP: whether it lives, whether it is ready, and its figures."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from actors.home import milliseconds
from bus.reader import state
from events.errors import HindbrainError, Timeout
from events.service import Table
from interfaces.api import ExecutionEngine
from interfaces.metrics import Reading, render
from interfaces.vitals import Vitals
from projections.metrics import EXECUTIONS, REST

T = TypeVar("T")

READY_SECONDS = 2.0
"""So long each part may take to answer whether it is ready."""
SCRAPE_SECONDS = 8.0
"""So long each part may take for a scrape; Prometheus itself waits ten seconds unless told otherwise."""
FRESH_SECONDS = 1.0
"""Scrapes that come sooner after one another get the same figures, so more of them cost no more."""
ROWS = 100_000
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Probes:
    """The doors for load balancers and monitoring systems."""

    def __init__(self, engine: ExecutionEngine, vitals: Vitals) -> None:
        self._engine, self._vitals = engine, vitals
        self._alone = asyncio.Lock()
        self._last: tuple[float, Reading] | None = None

    async def healthz(self, request: Request) -> Response:  # noqa: ARG002  the shape of every endpoint
        """Say whether the node answers."""
        await self._bus()
        return _json({"status": "ok"}, 200)

    async def readyz(self, request: Request) -> Response:  # noqa: ARG002  as above
        """Say whether bus, log and tables answer; 503 names those that do not, with the reason."""
        asked: dict[str, Awaitable[Any]] = {"bus": self._bus(), "log": self._log(), "tables": self._tables()}
        answers = await asyncio.gather(*(_within(each, READY_SECONDS) for each in asked.values()))
        bad = {
            name: answer.message
            for name, answer in zip(asked, answers, strict=True)
            if isinstance(answer, HindbrainError)
        }
        if not bad:
            return _json({"status": "ready"}, 200)
        message = "not ready: " + "; ".join(f"{name}: {reason}" for name, reason in bad.items())
        return _json({"error": {"code": "unavailable", "message": message, "details": bad}}, 503)

    async def metrics(self, request: Request) -> Response:
        """Give all figures in the formats of Prometheus; what does not answer is left out, and said to be."""
        async with self._alone:
            if self._last is None or time.monotonic() - self._last[0] >= FRESH_SECONDS:
                reading = await self._read()
                self._last = (time.monotonic(), reading)
        text, content_type = render(self._last[1], request.headers.get("accept", ""))
        return Response(text, 200, {**_HEADERS, "Content-Type": content_type})

    async def _read(self) -> Reading:
        vitals = self._vitals
        executions, rest, log, actors, server, processes = await asyncio.gather(
            _within(self._sql(EXECUTIONS), SCRAPE_SECONDS),
            _within(self._sql(REST), SCRAPE_SECONDS),
            _within(self._log(), SCRAPE_SECONDS),
            _within(asyncio.to_thread(vitals.actors), SCRAPE_SECONDS),
            _within(asyncio.to_thread(vitals.server), SCRAPE_SECONDS),
            asyncio.to_thread(vitals.processes),
        )
        tables = executions if isinstance(executions, HindbrainError) else rest
        asked = {"log": log, "tables": tables, "actors": actors, "nats": server}
        return Reading(
            node=vitals.node(),
            version=vitals.version,
            slots=vitals.slots,
            now_ms=milliseconds(),
            executions=_known(executions),
            rest=_known(rest),
            log=_known(log),
            processes=processes,
            actors=_known(actors),
            server=_known(server),
            parts={
                part: not isinstance(answer, HindbrainError)
                for part, answer in asked.items()
                if answer is not None
            },
        )

    async def _bus(self) -> Any:
        return await self._engine.request("node", "info", within=READY_SECONDS)

    async def _log(self) -> Mapping[str, Any]:
        return await state((await self._engine.client()).bridge)

    async def _tables(self) -> Table:
        return await self._engine.sql("SELECT 1", timeout_ms=round(READY_SECONDS * 1000))

    async def _sql(self, query: str) -> Table:
        return await self._engine.sql(query, limit=ROWS, timeout_ms=round(SCRAPE_SECONDS * 1000))


async def _within(asked: Awaitable[T], seconds: float) -> T | HindbrainError:
    """The answer, or why there is none; an answer that is late is none."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError:
        return Timeout(f"no answer in {seconds:g} s")
    except HindbrainError as error:
        return error


def _known(answer: T | HindbrainError) -> T | None:
    return None if isinstance(answer, HindbrainError) else answer


def _json(value: Any, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, _HEADERS, "application/json")
