"""The routes of the dashboard, and how a page is written."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jinja2
import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from events.clock import millis
from events.errors import HindbrainError, NotFound, Validation
from interfaces import sse
from interfaces.dashboard import acts, output, pages, words
from interfaces.dashboard.live import Hub
from interfaces.dashboard.look import Look

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

MOMENT = ("seq", "at")
"""What in an address says which moment of the past is looked at."""
SPEED = re.compile(r"\d{1,4}(?:\.\d{1,3})?")
PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _templates() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("interfaces.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = env.filters
    for each in (
        *(words.plain, words.size, words.short, words.clock, words.age, words.fraction, words.left),
        *(words.pretty, words.compact, words.count, words.duration, words.wish),
    ):
        filters[each.__name__] = each
    return env


class Dashboard:
    """Pages for people."""

    def __init__(self, engine: "ExecutionEngine") -> None:
        self._engine = engine
        self._hub = Hub(engine)
        self._templates = _templates()

    def routes(self) -> list[BaseRoute]:
        """Give every route but those of the overview and of one execution, which programs share."""
        return [
            *(Route(page.path, self._endpoint(page)) for page in pages.PAGES),
            Route("/submit", self.submit, methods=["POST"]),
            Route("/do/{kind}/{verb}", self.act, methods=["POST"]),
            Route("/live", self.live),
            Route("/executions/{id}/pieces", self.pieces),
            Route("/executions/{id}/play", self.play),
            Route("/executions/{id}/download", self.download),
            Mount("/static", StaticFiles(packages=[("interfaces.dashboard", "static")])),
        ]

    async def overview(self, request: Request) -> Response:
        """Show what goes on."""
        return await self._page(request, pages.OVERVIEW)

    async def execution(self, request: Request) -> Response:
        """Show one execution."""
        return await self._page(request, pages.EXECUTION)

    async def live(self, request: Request) -> Response:
        """Tell a page what happens (server-sent events); `after` is the last event that it knows."""
        after = request.query_params.get("after", "")
        known = int(after) if after.isdecimal() and len(after) < 16 else 0
        return StreamingResponse(self._hub.follow(known), headers=STREAM)

    async def pieces(self, request: Request) -> Response:
        """Answer what was written between two places of the output, as its stream would say it."""
        begin = sse.place(request.query_params.get("from", ""))
        until = sse.place(request.query_params.get("until", ""))
        execution_id = request.path_params["id"]
        await self._engine.get_status(execution_id)
        found = await output.between(self._engine, execution_id, begin, until)
        return Response(msgspec.json.encode({"pieces": found}), 200, PLAIN, "application/json")

    async def play(self, request: Request) -> Response:
        """Play the output of one execution back, `speed` times as quick (server-sent events)."""
        execution_id, speed = request.path_params["id"], request.query_params.get("speed", "1")
        await self._engine.get_status(execution_id)
        if not SPEED.fullmatch(speed) or not float(speed):
            raise Validation(f"speed is {speed!r}: write a number above 0", field="speed")
        return StreamingResponse(output.again(self._engine, execution_id, float(speed)), headers=STREAM)

    async def download(self, request: Request) -> Response:
        """Give all that was written until now; `stream` is stdout, stderr or both, merged by time."""
        execution_id = request.path_params["id"]
        stream = request.query_params.get("stream", "both")
        wanted = output.streams(stream)
        await self._engine.get_status(execution_id)
        headers = PLAIN | {"Content-Disposition": f'attachment; filename="{execution_id}_{stream}.log"'}
        body = output.raw(self._engine, execution_id, wanted)
        return StreamingResponse(body, headers=headers, media_type="text/plain")

    async def submit(self, request: Request) -> Response:
        """Have something run."""
        given: dict[str, str] = {}
        try:
            given = await acts.form(request)
            place, seq = await acts.submit(self._engine, given)
        except HindbrainError as error:
            return await self._refused(request, error, given)
        return RedirectResponse(f"{place}?{urlencode({'min_seq': seq})}", 303)

    async def act(self, request: Request) -> Response:
        """Do what a button says."""
        kind, verb = request.path_params["kind"], request.path_params["verb"]
        try:
            place, seq = await acts.act(self._engine, kind, verb, await acts.form(request))
        except HindbrainError as error:
            return await self._refused(request, error)
        return RedirectResponse(f"{place}?{urlencode({'min_seq': seq})}", 303)

    def _now(self) -> int:
        """The moment that is now, in milliseconds since 1970."""
        return millis(self._engine.as_of) if self._engine.as_of else round(time.time() * 1000)

    def _endpoint(self, page: pages.Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self._page(request, page)

        return endpoint

    async def _page(self, request: Request, page: pages.Page) -> Response:
        asked = {**request.query_params, **request.path_params}
        moment = {name: asked.get(name, "") for name in (*MOMENT, "min_seq")}
        try:
            look = await Look.open(self._engine, self._now(), **moment)
            try:
                shown = await page.show(look, asked)
            except NotFound:
                if look.still or moment["min_seq"]:
                    raise
                # Who was told of it a moment ago may be quicker than the tables.
                last = str(await self._engine.last_seq())
                look = await Look.open(self._engine, self._now(), min_seq=last)
                shown = await page.show(look, asked)
        except HindbrainError as error:
            return await self._refused(request, error)
        return self._write(
            request, page.template, {"title": page.title, "look": look, "asked": asked, **shown}
        )

    async def _refused(
        self, request: Request, error: HindbrainError, given: dict[str, str] | None = None
    ) -> Response:
        """Say on a page what went wrong; where a form was filled in, it is not lost."""
        look = Look(self._engine, self._now())
        shown: dict[str, Any] = {
            "title": "That did not work",
            "look": look,
            "error": error,
            "given": given or {},
        }
        response = self._write(request, "error.html", shown)
        response.status_code = error.status
        return response

    def _write(self, request: Request, template: str, shown: dict[str, Any]) -> Response:
        nonce = secrets.token_urlsafe(16)
        look: Look = shown["look"]
        kept = {name: request.query_params[name] for name in MOMENT if request.query_params.get(name)}

        def link(path: str, **more: Any) -> str:
            """Lead to a page at the same moment."""
            given = {name: value for name, value in more.items() if value not in (None, "")} | kept
            return f"{path}?{urlencode(given)}" if given else path

        text = self._templates.get_template(template).render(
            **shown, now=look.now, nonce=nonce, link=link, path=request.url.path, kept=kept
        )
        return HTMLResponse(text, headers=_headers(nonce))


def _headers(nonce: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # with no-referrer, forms would come from nowhere
        "Cache-Control": "no-store",
    }
