"""Who may come in through the HTTP door.

A web page of somebody else can neither read here (the Host header is checked, so a name that was rebound to
this machine does not pass) nor write: what comes from another origin is refused, and so is what it would
embed or fetch; all that it can do is to lead a person here by a link.  Where a token is set, everybody has to
show it, or that of administrators, which gives their rights as well.
"""

import hmac
import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.rights import administrators
from interfaces.settings import Settings
from interfaces.tickets import COOKIE, COOKIE_SECONDS, Tickets

OPEN = ("/healthz", "/readyz", "/open")
"""What needs no token: for load balancers, which it tells no more than how the node is, and for tickets."""
_PATH = re.compile(r"/(?:[a-z0-9_-]+/?)*")
PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Guard:
    """Lets in who belongs here."""

    def __init__(self, app: ASGIApp, settings: Settings, port: int, tickets: Tickets) -> None:
        self.app = app
        self._token = settings.http.token
        self._administrators = administrators(settings.data)
        self._tickets = tickets
        names = {"localhost", "127.0.0.1", "[::1]"}
        if settings.http.url:
            names.add(urlsplit(settings.http.url).netloc.lower())
        self._hosts = {name for each in names for name in (each, f"{each}:{port}")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass, and answer the rest."""
        refusal = None if scope["type"] == "lifespan" else self._refusal(HTTPConnection(scope))
        if refusal is None:
            await self.app(scope, receive, send)
            return
        status, text = refusal
        response = as_error(status, "validation", text)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _refusal(self, asked: HTTPConnection) -> tuple[int, str] | None:
        host = asked.headers.get("host", "").lower()
        if self._token is None and host not in self._hosts:
            return 421, f"nobody here is called {host!r}: set http.url to the name that is used"
        if _foreign(asked, host) and not _followed(asked):
            return 403, "a page of another origin may not do this"
        if self._token is not None and asked.url.path not in OPEN:
            known = (self._token, self._administrators)
            shown = bearer(asked)
            let_in = any(hmac.compare_digest(shown.encode(), each.encode()) for each in known)
            if not let_in and not self._tickets.holds(asked.cookies.get(COOKIE, "")):
                return 401, "this door needs a token (Authorization: Bearer ...), or use `hindbrain open`"
        return None


def bearer(asked: HTTPConnection) -> str:
    """The token that is shown, if any."""
    scheme, _, shown = asked.headers.get("authorization", "").partition(" ")
    return shown if scheme.lower() == "bearer" else ""


def _foreign(asked: HTTPConnection, host: str) -> bool:
    """Whether a browser says that a page of somebody else asks."""
    origin = asked.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        return True
    return asked.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _followed(asked: HTTPConnection) -> bool:
    """Whether a person followed a link to here: what is answered is shown, and nobody else can read it."""
    modes = asked.headers.get("sec-fetch-mode"), asked.headers.get("sec-fetch-dest")
    return asked.scope.get("method") == "GET" and modes == ("navigate", "document")


def opened(asked: Request, tickets: Tickets) -> Response:
    """Take a ticket of `hindbrain open`: set the cookie and lead on."""
    cookie = tickets.take(asked.query_params.get("ticket", ""))
    if cookie is None:
        return as_error(401, "validation", "that ticket does not hold any more: use `hindbrain open` again")
    to = asked.query_params.get("to", "/")
    headers = PLAIN | {"Referrer-Policy": "no-referrer"}
    response = RedirectResponse(to if _PATH.fullmatch(to) else "/", 303, headers)
    secure = asked.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, COOKIE_SECONDS, httponly=True, samesite="lax", secure=secure)
    return response


def as_json(value: Any, status: int = 200) -> Response:
    """Answer data."""
    return Response(msgspec.json.encode(value), status, PLAIN, "application/json")


def as_error(status: int, code: str, message: str, details: dict[str, Any] | None = None) -> Response:
    """Answer an error, in the shape that all doors share."""
    return as_json({"error": {"code": code, "message": message, "details": details or {}}}, status)


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
