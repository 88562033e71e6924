"""The HTTP door: every verb as a POST, and for people a page of each execution with its live output.

It listens on the loopback, in a thread with a loop of its own; `guard` says who may come in.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from events import service
from events.errors import HindbrainError, NotFound, Refusal, TooLarge, Unavailable, Validation
from interfaces import feeds, sse, threads
from interfaces.api import ANSWER_SECONDS, ExecutionEngine
from interfaces.dashboard import Dashboard
from interfaces.guard import PLAIN, Guard, as_error, as_json, bearer, loopback, opened
from interfaces.mcp.doors import Agents
from interfaces.probes import Probes
from interfaces.settings import Settings
from interfaces.tickets import Tickets
from interfaces.together import fresh
from interfaces.vitals import Vitals

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
DEAF_MS = 60_000
"""How long a connection may take nothing in before the system ends it (TCP_USER_TIMEOUT)."""
BODY_MAX = 200 * 1024 * 1024
WAIT_MAX_MS = 600_000
"""The longest that a verb may be asked to wait."""
SHOWN = 1024 * 1024
"""Bytes of each stream that come along with an execution."""
VERBS = {(verb.kind, verb.name): verb for verb in service.VERBS}


class Web:
    """Start it, stop it; each twice is fine.  Without vitals there is no node: it can only be read."""

    def __init__(
        self,
        settings: Settings,
        vitals: Vitals | None,
        engine_factory: Callable[[Settings], ExecutionEngine] | None = None,
    ) -> None:
        self.settings, self._vitals = settings, vitals
        self._factory = engine_factory or ExecutionEngine.new
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """What people on this machine type to get here."""
        host = self.settings.http.host
        name = "localhost" if loopback(host) else f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}"

    def start(self) -> None:
        """Listen; `Validation` when the port is taken."""
        if self._thread is not None:
            return
        listening = self._listen()
        self.port = int(listening.getsockname()[1])
        app = application(self.settings, self.port, self._vitals, self._factory)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="on", ws="websockets-sansio"
        )
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, args=(listening,), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being answered, at most a second, and listen no longer."""
        thread, self._thread = self._thread, None
        if thread is None or self._server is None:
            return
        self._server.should_exit = True
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            log.warning("the HTTP door did not close in %g s", STOP_SECONDS)

    def _serve(self, listening: socket.socket) -> None:
        if self._server is not None:
            asyncio.run(self._server.serve(sockets=[listening]))

    def _listen(self) -> socket.socket:
        host, port = self.settings.http.host, self.settings.http.port
        try:
            listening = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
            )
        except OSError as error:
            raise Validation(
                f"the HTTP door cannot listen on {host}:{port} ({error.strerror}): "
                "choose another port with --http-port, 0 takes a free one",
                field="http.port",
            ) from error
        # Inherited by every connection: what the other side does not take for so long ends it.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_MS)
        return listening


def application(
    settings: Settings,
    port: int,
    vitals: Vitals | None,
    factory: Callable[[Settings], ExecutionEngine] = ExecutionEngine.new,
) -> ASGIApp:
    """Make the application, guarded."""
    doors = _Doors(factory(settings))
    agents = Agents(doors.engine)
    routes: list[BaseRoute] = [
        Route("/", doors.index),
        Route("/brain", doors.index),
        Route("/executions/{id}", doors.execution),
        Route("/executions/{id}/stream", doors.stream),
        Route("/api/{kind}/{verb}", doors.verb, methods=["POST"]),
        *doors.dashboard.routes(),
    ]
    if vitals is not None:
        probes = Probes(doors.engine, vitals)
        routes += [
            Route("/healthz", probes.healthz),
            Route("/readyz", probes.readyz),
            Route("/metrics", probes.metrics),
            Route("/open", doors.open),
            Route("/openapi.json", doors.openapi),
            Route("/events", doors.events),
            WebSocketRoute("/ws", doors.socket),
            *threads.routes(doors.engine),
            Route("/plans/{id}/stream", doors.plan_stream),
            Route("/mcp", agents),
        ]
    handlers: Any = {HindbrainError: _refused, 404: _nowhere, 405: _nowhere}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await agents.close()
        await doors.engine.close()

    starlette = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return Guard(starlette, settings, port, doors.tickets)


class _Doors:
    """What is answered."""

    def __init__(self, engine: ExecutionEngine) -> None:
        self.engine = engine
        self.dashboard = Dashboard(engine)
        self.tickets = Tickets(engine.settings.data)

    async def open(self, request: Request) -> Response:
        """Let a browser in that brings a ticket."""
        return opened(request, self.tickets)

    async def index(self, request: Request) -> Response:
        """List what runs and what ran."""
        if _wants_html(request):
            return await self.dashboard.overview(request)
        return as_json({"executions": await self.engine.list_executions(limit=50)})

    async def execution(self, request: Request) -> Response:
        """Show one execution: a page for people, the same with its output for programs."""
        if _wants_html(request):
            return await self.dashboard.execution(request)
        execution_id = request.path_params["id"]
        now = await self.engine.get_status(execution_id)
        shown: dict[str, Any] = msgspec.to_builtins(now)
        cut = False
        for stream in ("stdout", "stderr"):
            ask: dict[str, Any] = {"execution_id": execution_id, "stream": stream, "max_bytes": SHOWN}
            reply = await self.engine.request("execution", "logs", **ask)
            shown[stream] = "".join(piece["text"] for piece in reply["chunks"])
            cut = cut or reply["next_offset"] > SHOWN - 4
        return as_json(shown | {"truncated": cut, "can_stream": now.status == "running"})

    async def stream(self, request: Request) -> Response:
        """Stream the output of one execution until its end (server-sent events)."""
        execution_id = request.path_params["id"]
        after = request.query_params.get("after", "")
        offsets = sse.place(request.headers.get("last-event-id", after))
        await fresh(self.engine, execution_id, lambda: self.engine.get_status(execution_id))
        return sse.Events(sse.stream(self.engine, execution_id, offsets))

    async def plan_stream(self, request: Request) -> Response:
        """Stream the progress of one plan until its end (server-sent events)."""
        plan_id = request.path_params["id"]
        await self.engine.request("plan", "get", plan_id=plan_id)
        return sse.Events(feeds.plan(self.engine, plan_id))

    async def events(self, request: Request) -> Response:
        """Stream facts as they are stored (server-sent events): `?kind=`, `?entity=`, `?after=` an event."""
        query = request.query_params
        after = query.get("after", "")
        if after and not after.isdecimal():
            raise Validation(f"after is {after!r}: give the sequence of an event", field="after")
        place = feeds.place(request.headers.get("last-event-id", f"s{after}" if after else ""))
        feed = feeds.Feed(self.engine, query.get("kind"), query.get("entity"), place)
        await feed.open()
        return sse.Events(feeds.facts(feed))

    async def socket(self, websocket: WebSocket) -> None:
        """Tell progress over a WebSocket."""
        await feeds.socket(self.engine, websocket)

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002  the shape of every endpoint
        """Describe this door."""
        from interfaces import openapi

        content = await asyncio.to_thread(openapi.document)
        return Response(content, headers=PLAIN, media_type="application/json")

    async def verb(self, request: Request) -> Response:
        """Do what a request on the bus would do."""
        kind, name = request.path_params["kind"], request.path_params["verb"]
        if (kind, name) not in VERBS:
            raise NotFound(f"there is no verb {kind}.{name}")
        body = await _body(request)
        wait = body.get("timeout_ms", 0) if name in ("wait", "sql") else 0
        within = ANSWER_SECONDS + (min(max(wait, 0), WAIT_MAX_MS) / 1000 if isinstance(wait, int) else 0)
        if name == "wait" and "timeout_ms" not in body:
            within += service.Wait(execution_id="").timeout_ms / 1000
        trace = request.headers.get("traceparent", "")
        # The token of this door is nobody else's: it tells the node nothing.
        shown = bearer(request)
        token = "" if shown == self.engine.settings.http.token else shown
        return as_json(await self.engine.call(kind, name, body, within, trace, token))


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > BODY_MAX:
            raise TooLarge(f"the body is larger than {BODY_MAX} bytes")
    try:
        return msgspec.json.decode(content or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Validation(f"the body is no JSON object: {error}") from error
    except RecursionError:
        raise Validation("this JSON is nested too deeply") from None


def _wants_html(request: Request) -> bool:
    """Say whether Accept prefers a page to data (RFC 9110, 12.5.1, without parameters other than q)."""
    best: dict[str, float] = {}
    for part in request.headers.get("accept", "").split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        best[name.lower()] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0.0
    return best.get("text/html", 0.0) > best.get("application/json", 0.0)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HindbrainError):
        raise error
    if not isinstance(error, Refusal | Unavailable):
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return as_error(error.status, error.code, error.message, error.details)


async def _nowhere(request: Request, error: Exception) -> Response:
    return as_error(
        getattr(error, "status_code", 404), "not_found", f"there is nothing at {request.url.path}"
    )
