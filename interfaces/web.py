"""The HTTP door: every verb as a POST, and for people a page of each execution with its live output.

It listens on the loopback, in a thread with a loop of its own.  A web page of somebody else can neither read
here (the Host header is checked, so a name that was rebound to this machine does not pass) nor write (a POST
from another origin is refused).  Where a token is set, everybody has to show it.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from events import service
from events.errors import HindbrainError, NotFound, Refusal, TooLarge, Unavailable, Validation
from interfaces import sse, threads
from interfaces.api import ANSWER_SECONDS, ExecutionEngine
from interfaces.dashboard import Dashboard
from interfaces.probes import Probes
from interfaces.settings import Settings
from interfaces.vitals import Vitals

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
BODY_MAX = 200 * 1024 * 1024
OPEN = ("/healthz", "/readyz")
"""For load balancers: they need no token, and say no more than how the node is."""
WAIT_MAX_MS = 600_000
"""The longest that a verb may be asked to wait."""
SHOWN = 1024 * 1024
"""Bytes of each stream that come along with an execution."""
VERBS = {(verb.kind, verb.name): verb for verb in service.VERBS}


class Web:
    """Start it, stop it; each twice is fine."""

    def __init__(
        self,
        settings: Settings,
        vitals: Vitals,
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
        name = "localhost" if _loopback(host) else f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}"

    def start(self) -> None:
        """Listen; `Validation` when the port is taken."""
        if self._thread is not None:
            return
        listening = self._listen()
        self.port = int(listening.getsockname()[1])
        app = application(self.settings, self.port, self._vitals, self._factory)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="on", ws="none"
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
            return socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
            )
        except OSError as error:
            raise Validation(
                f"the HTTP door cannot listen on {host}:{port} ({error.strerror}): "
                "choose another port with --http-port, 0 takes a free one",
                field="http.port",
            ) from error


def application(
    settings: Settings,
    port: int,
    vitals: Vitals,
    factory: Callable[[Settings], ExecutionEngine] = ExecutionEngine.new,
) -> ASGIApp:
    """Make the application, guarded."""
    doors = _Doors(factory(settings))
    probes = Probes(doors.engine, vitals)
    routes = [
        Route("/", doors.index),
        Route("/brain", doors.index),
        Route("/healthz", probes.healthz),
        Route("/readyz", probes.readyz),
        Route("/metrics", probes.metrics),
        Route("/executions/{id}", doors.execution),
        Route("/executions/{id}/stream", doors.stream),
        *threads.routes(doors.engine),
        Route("/api/{kind}/{verb}", doors.verb, methods=["POST"]),
        *doors.dashboard.routes(),
    ]
    handlers: Any = {HindbrainError: _refused, 404: _nowhere, 405: _nowhere}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await doors.engine.close()

    starlette = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return _Guard(starlette, settings, port)


class _Doors:
    """What is answered."""

    def __init__(self, engine: ExecutionEngine) -> None:
        self.engine = engine
        self.dashboard = Dashboard(engine)

    async def index(self, request: Request) -> Response:
        """List what runs and what ran."""
        if _wants_html(request):
            return await self.dashboard.overview(request)
        return _json({"executions": await self.engine.list_executions(limit=50)})

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
        return _json(shown | {"truncated": cut, "can_stream": now.status == "running"})

    async def stream(self, request: Request) -> Response:
        """Stream the output of one execution until its end (server-sent events)."""
        execution_id = request.path_params["id"]
        after = request.query_params.get("after", "")
        offsets = sse.place(request.headers.get("last-event-id", after))
        await self.engine.get_status(execution_id)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "Connection": "keep-alive",
            "X-Accel-Buffering": "no",
        }
        body: AsyncGenerator[bytes] = sse.stream(self.engine, execution_id, offsets)
        return StreamingResponse(body, headers=headers)

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
        return _json(await (await self.engine.client()).request(kind, name, body, within, trace))


class _Guard:
    """Lets in who belongs here."""

    def __init__(self, app: ASGIApp, settings: Settings, port: int) -> None:
        self._app = app
        self._token = settings.http.token
        names = {"localhost", "127.0.0.1", "[::1]"}
        if settings.http.url:
            names.add(urlsplit(settings.http.url).netloc.lower())
        self._hosts = {name for each in names for name in (each, f"{each}:{port}")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, text = refusal
        response = _error(status, "validation", text)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "").lower()
        if self._token is None and host not in self._hosts:
            return 421, f"nobody here is called {host!r}: set http.url to the name that is used"
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and (
            (origin is not None and urlsplit(origin).netloc.lower() != host)
            or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        ):
            return 403, "a page of another origin may not do this"
        if self._token is not None and request.url.path not in OPEN:
            scheme, _, shown = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode(), self._token.encode()):
                return 401, "this door needs a token: Authorization: Bearer <http.token>"
        return None


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


def _json(value: Any, status: int = 200) -> Response:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    return _json({"error": {"code": code, "message": message, "details": details or {}}}, status)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HindbrainError):
        raise error
    if not isinstance(error, Refusal | Unavailable):
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return _error(error.status, error.code, error.message, error.details)


async def _nowhere(request: Request, error: Exception) -> Response:
    return _error(getattr(error, "status_code", 404), "not_found", f"there is nothing at {request.url.path}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
