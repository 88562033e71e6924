"""Every door against everybody who has no business there: one table of doors, one of attacks, one node.

The doors are those that the application has: a new one that is missing here fails a test.
"""

import asyncio
import base64
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from foreign import Place, connect
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute

from events import service
from interfaces.guard import Guard
from interfaces.settings import load
from interfaces.vitals import Vitals
from interfaces.web import application

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

TOKEN = "the-token-of-this-door"
JEWELS = "the crown jewels"
NOBODY = "0" * 26
EVIL = "http://evil.example"
PROBES = ("/healthz", "/readyz")
"""What load balancers may ask without a token."""


class Door(NamedTuple):
    """One address, and how it is asked."""

    route: str
    method: str = "GET"
    more: tuple[tuple[str, str], ...] = ()


HTML = (("Accept", "text/html"),)
JSON = (("Content-Type", "application/json"),)
AGENT = (*JSON, ("Accept", "application/json, text/event-stream"))
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
SOCKET = (
    *(("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")),
    ("Sec-WebSocket-Key", base64.b64encode(b"0" * 16).decode()),
)
PAGES = (
    *("/", "/brain", "/executions", "/executions/{id}", "/plans", "/plans/{id}", "/playbooks", "/schedules"),
    *("/playbooks/{id}", "/dead", "/modules", "/decisions", "/sql", "/log/{kind}/{id}", "/search", "/submit"),
)
READ = (
    *("/", "/executions/{id}", "/executions/{id}/stream", "/executions/{id}/pieces", "/events", "/live"),
    *("/executions/{id}/play", "/executions/{id}/download", "/plans/{id}/stream", "/openapi.json", "/open"),
    *("/api/threads/status", "/api/threads/decisions", "/metrics", "/healthz", "/readyz", "/mcp"),
)
DOORS = [
    *(Door(path, more=HTML) for path in PAGES),
    *(Door(path) for path in READ),
    Door("/static"),
    Door("/ws", more=SOCKET),
    Door("/api/{kind}/{verb}", "POST", JSON),
    Door("/mcp", "POST", AGENT),
    Door("/submit", "POST", FORM),
    Door("/do/{kind}/{verb}", "POST", FORM),
]
WITHOUT: dict[str, dict[str, str]] = {
    "nothing": {},
    "a wrong token": {"Authorization": f"Bearer {TOKEN[:-1]}x"},
    "a token that goes on": {"Authorization": f"Bearer {TOKEN}x"},
    "an empty token": {"Authorization": "Bearer "},
    "letters that no token has": {"Authorization": "Bearer \xff\xfe"},
    "another way to say it": {"Authorization": f"Basic {base64.b64encode(TOKEN.encode()).decode()}"},
    "a cookie that somebody made": {"Cookie": f"brain=9999999999.{'0' * 32}.{'A' * 43}"},
    "the token as a cookie": {"Cookie": f"brain={TOKEN}"},
    "a name that was bound to this machine": {"Host": "evil.example"},
}
"""What is shown instead of the token."""
ELSEWHERE: dict[str, dict[str, str]] = {
    "another origin": {"Origin": EVIL},
    "an origin that hides": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://localhost:1"},
    "a fetch of another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a picture of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"},
    "a frame of another site": {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "iframe",
    },
}
"""What a browser says of a page of somebody else; the token goes along, as if it were a cookie."""


class Guarded(NamedTuple):
    """A node that listens to everybody who knows a token, and what is to be kept from others."""

    place: Place
    port: int
    execution: str
    mark: Path

    def path(self, door: Door) -> str:
        """An address that is there."""
        known = {"execution": self.execution, "plan": f"plan_{NOBODY}", "playbook": f"play_{NOBODY}"}
        kind = door.route.split("/")[1].removesuffix("s")
        filled = door.route.replace("{kind}/{id}", f"execution/{self.execution}")
        filled = filled.replace("{id}", known.get(kind, self.execution))
        filled = filled.replace("/api/{kind}/{verb}", "/api/execution/submit")
        filled = filled.replace("{kind}/{verb}", "execution/cancel")
        return "/static/style.css" if filled == "/static" else filled

    def body(self, door: Door) -> bytes:
        """Something that would be seen to have been done."""
        command = f"touch {self.mark}"
        if door.route == "/mcp":
            call = {"name": "execute", "arguments": {"code": command, "language": "sh"}}
            return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
        if door.more == FORM:
            return f"text={command}&execution_id={self.execution}".encode()
        return json.dumps({"shell": {"command": command}}).encode()

    async def ask(self, door: Door, headers: dict[str, str], path: str = "") -> tuple[int, bytes]:
        """Ask as the letters stand; of what has no end only the head is read."""
        return await asked(
            self.port,
            door.method,
            path or self.path(door),
            {"Host": f"localhost:{self.port}", **dict(door.more), **headers},
            self.body(door) if door.method == "POST" else b"",
        )


async def asked(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Send one request as it stands, with nothing in the path made right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split()[1])
            size = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            return status, await reader.readexactly(int(size or b"0"))
    finally:
        writer.close()


def port_of(place: Place) -> int:
    """Where its door is."""
    url: str = place.wrote["http_url"]
    return int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Guarded]:
    """Start a node that listens beyond this machine, with something in it that is nobody else's."""
    folder = tmp_path_factory.mktemp("hostile")
    place = Place(folder / "d")
    place.up(HINDBRAIN_HTTP__TOKEN=TOKEN, HINDBRAIN_HTTP__HOST="0.0.0.0")
    done = place.cli("submit", "-q", "--shell", "--description", JEWELS, "--", f"echo {JEWELS}")
    execution = done.stdout.decode().strip()
    place.cli("wait", execution)
    yield Guarded(place, port_of(place), execution, folder / "mark")
    place.end()


def ways(door: Door) -> str:
    """A name for a row of the table."""
    return f"{door.method} {door.route}{' page' if door.more == HTML else ''}"


async def test_every_door_is_in_the_table(tmp_path: Path) -> None:
    vitals = Vitals(str, "", 1, dict, lambda _: None, lambda: None)
    guard = cast("Guard", application(load({"data": tmp_path}, {}), 1, vitals))
    found: set[tuple[str, str]] = set()
    for route in cast("Starlette", guard.app).routes:
        match route:
            case Route(path=path, methods=methods):
                found |= {(path, method) for method in (methods or {"GET", "POST"}) - {"HEAD"}}
            case WebSocketRoute(path=path) | Mount(path=path):
                found.add((path, "GET"))
            case _:
                pytest.fail(f"{route} is no door that is known here")
    assert {(door.route, door.method) for door in DOORS} == found


async def test_they_open_for_whoever_belongs_here(guarded: Guarded) -> None:
    for door in DOORS:
        if door.method == "GET" and door.route != "/open":
            status, body = await guarded.ask(door, {"Authorization": f"Bearer {TOKEN}"})
            missing = door.route == "/mcp" or (body and "{id}" in door.route)
            assert status == 101 or status < 300 or (missing and status in (404, 405, 406)), (door, body)


@pytest.mark.parametrize("attack", WITHOUT)
async def test_nobody_gets_in_without_the_token(guarded: Guarded, attack: str) -> None:
    for door in DOORS:
        status, body = await guarded.ask(door, WITHOUT[attack])
        assert status == (200 if door.route in PROBES else 401), (door, body)
        assert JEWELS.encode() not in body
    assert not guarded.mark.exists()


async def test_a_token_in_the_address_is_none(guarded: Guarded) -> None:
    for door in DOORS:
        path = f"{guarded.path(door)}?token={TOKEN}&access_token={TOKEN}&ticket={TOKEN}"
        status, body = await guarded.ask(door, {}, path)
        assert status == (200 if door.route in PROBES else 401), (door, body)


@pytest.mark.parametrize("attack", ELSEWHERE)
async def test_a_page_of_elsewhere_gets_nothing(guarded: Guarded, attack: str) -> None:
    for door in DOORS:
        status, body = await guarded.ask(door, {"Authorization": f"Bearer {TOKEN}", **ELSEWHERE[attack]})
        assert status == 403, (door, body)
        assert JEWELS.encode() not in body
    assert not guarded.mark.exists()


async def test_a_link_of_elsewhere_leads_here(guarded: Guarded) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    entitled = {"Authorization": f"Bearer {TOKEN}", **link}
    assert (await guarded.ask(Door("/executions/{id}", more=HTML), entitled))[0] == 200
    assert (await guarded.ask(Door("/submit", "POST", FORM), entitled))[0] == 403
    assert not guarded.mark.exists()


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::"])
async def test_where_no_token_is_needed_only_our_own_names_are_answered(
    place: Place, tmp_path: Path, host: str
) -> None:
    here = Guarded(place, port_of(place), f"exec_{NOBODY}", tmp_path / "mark")
    for door in DOORS:
        for name in (host, f"{host}:{here.port}"):
            status, body = await here.ask(door, {"Host": name})
            assert status == 421, (door, body)
    assert not here.mark.exists()


# ---- paths ------------------------------------------------------------------------------------------------

UPWARDS = (
    *("../", "%2e%2e/", "..%2f", "%2e%2e%2f", "%252e%252e%252f", "..%252f", "..%5c"),
    *("%c0%ae%c0%ae/", "....//"),
)
"""A step up, as it is and in every disguise."""
NAMES = [
    *(f"{up * far}{end}" for up in UPWARDS for far, end in ((1, "admin.token"), (2, "door.key"))),
    *(f"{up * 12}etc/passwd" for up in UPWARDS),
    *("%2fetc%2fpasswd", "/etc/passwd", "%2e%2e", "..", "%00", f"exec_{'0' * 25}%00", "exec_%0d%0aX:1"),
]
PLACES = (
    *("/executions/{}", "/executions/{}/stream", "/executions/{}/download", "/executions/{}/play"),
    *("/executions/{}/pieces", "/plans/{}", "/plans/{}/stream", "/playbooks/{}", "/log/execution/{}"),
    *("/log/artifact/{}", "/static/{}", "/{}"),
)
FIELDS = {
    *("execution_id", "plan_id", "playbook_id", "schedule_id", "artifact_id", "task_id", "workspace_id"),
    *("checkpoint_id", "other_id", "template", "module", "name", "workspace", "reference", "plugin"),
}
PLAIN = ("../admin.token", f"{'../' * 12}etc/passwd", "%2e%2e%2fx", "a\0b", "/etc/passwd", "..", ".")


def kept(place: Place) -> list[bytes]:
    """What no answer may hold."""
    secret = [(place.data / name).read_bytes().strip() for name in ("admin.token", "door.key")]
    return [*secret, b"root:x:0:0", TOKEN.encode(), b'"nats_url"']


def outside(place: Place) -> set[Path]:
    """What lies beside the data folder."""
    return set(place.data.parent.iterdir())


@pytest.mark.parametrize("where", PLACES)
async def test_no_path_leads_out(guarded: Guarded, where: str) -> None:
    # A ticket is what makes the key of the door.
    guarded.place.cli("open", "--print")
    secrets, headers = kept(guarded.place), {"Authorization": f"Bearer {TOKEN}"}
    for name in NAMES:
        for more in ((), HTML):
            status, body = await guarded.ask(Door(where, more=more), headers, where.format(name))
            assert 400 <= status < 500, (name, status, body)
            assert not any(secret in body for secret in secrets), name


async def test_no_id_in_a_verb_leads_out(guarded: Guarded) -> None:
    door, headers = Door("/api/{kind}/{verb}", "POST", JSON), {"Authorization": f"Bearer {TOKEN}"}
    secrets, before = kept(guarded.place), outside(guarded.place)
    headers["Host"] = f"localhost:{guarded.port}"
    count = 0
    for verb in service.VERBS:
        for field in FIELDS.intersection(verb.request.__struct_fields__):
            for name in PLAIN:
                body = json.dumps({field: name}).encode()
                path = f"/api/{verb.kind}/{verb.name}"
                status, reply = await asked(guarded.port, "POST", path, {**headers, **dict(door.more)}, body)
                assert status < 500, (path, body, reply)
                assert not any(secret in reply for secret in secrets), (path, body)
                count += 1
    assert count > 300
    assert outside(guarded.place) == before


async def test_no_name_of_a_folder_leads_out(guarded: Guarded) -> None:
    before = outside(guarded.place)
    phases = [{"id": "p", "steps": [{"name": "a", "shell": {"command": "true"}}]}]
    steps = [{"name": "../../x", "shell": {"command": "true"}}]
    wishes: list[tuple[str, dict[str, Any]]] = [
        *(("playbook.run", {"phases": phases, "workspace": name}) for name in PLAIN),
        *(("artifact.register", {"text": "x", "workspace": name}) for name in PLAIN),
        *(("template.save", {"name": name, "plan": {"steps": steps}}) for name in PLAIN),
        ("plan.submit", {"steps": steps}),
        ("artifact.register", {"blob": "../../admin.token", "name": "x"}),
        ("execution.submit", {"code": {"blob": "../../admin.token"}}),
        ("execution.submit", {"stdin": {"blob": "../" * 32}, "shell": {"command": "cat"}}),
    ]
    headers = {"Host": f"localhost:{guarded.port}", "Authorization": f"Bearer {TOKEN}", **dict(JSON)}
    for verb, wish in wishes:
        path = f"/api/{verb.replace('.', '/')}"
        status, reply = await asked(guarded.port, "POST", path, headers, json.dumps(wish).encode())
        assert 400 <= status < 500, (verb, wish, reply)
    assert outside(guarded.place) == before


async def test_nothing_came_of_all_that(guarded: Guarded) -> None:
    async with connect(guarded.place.wrote["nats_url"]) as bus:
        last = await bus.last()
        ask = {"sql": "SELECT list(id) FROM executions", "min_seq": last}
        assert (await bus.ask("query.sql", ask))["rows"] == [[[guarded.execution]]]
    assert not guarded.mark.exists()
