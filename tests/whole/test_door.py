"""The HTTP door for programs: its description, streams that can be cut anywhere, sockets, and who gets in."""

import asyncio
import json
import logging
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from foreign import Foreign, Place
from openapi_spec_validator import validate
from test_web import messages
from websockets.asyncio.client import ClientConnection, connect

from events import service
from interfaces import sse
from interfaces.settings import load
from interfaces.vitals import Vitals
from interfaces.web import Web
from tests.waiting import until

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]

NOBODY = "exec_" + "0" * 26
GATED = "while [ ! -e {gate} ]; do sleep 0.01; done"


async def test_the_description_is_valid_and_complete(info: dict[str, Any]) -> None:
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        reply = await http.get("/openapi.json")
        assert reply.headers["content-type"] == "application/json"
        document = reply.json()
        validate(document)
        verbs = {f"/api/{verb.kind}/{verb.name}" for verb in service.VERBS}
        offered = {path for path in document["paths"] if path.startswith("/api/")}
        assert offered == verbs | {"/api/threads/status", "/api/threads/decisions"}
        assert {path for path in offered if "post" in document["paths"][path]} == verbs
        # What it says of a submission holds for one.
        submit = document["paths"]["/api/execution/submit"]["post"]["responses"]["200"]["content"]
        name = submit["application/json"]["schema"]["$ref"].rpartition("/")[2]
        accepted = document["components"]["schemas"][name]
        made = (await http.post("/api/execution/submit", json={"code": "1"})).json()
        assert set(accepted["required"]) <= set(made) <= set(accepted["properties"])
        for path in document["paths"]:
            if "{id}" in path and not path.startswith("/api/"):
                assert (await http.get(path.format(id=NOBODY))).status_code == 404, path


async def test_an_execution_has_its_output_and_says_whether_it_runs(bus: Foreign, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    line = f"echo out; echo err >&2; {GATED.format(gate=gate)}"
    made = await bus.ask("execution.submit", {"shell": {"command": line}})
    async with httpx.AsyncClient(timeout=20) as http:

        async def shown() -> dict[str, Any] | None:
            now = (await http.get(made["monitor_url"])).json()
            return now if now["stdout"] and now["stderr"] else None

        now = await bus.until(shown)
        assert (now["stdout"], now["stderr"], now["can_stream"]) == ("out\n", "err\n", True)
        gate.touch()
        await bus.over(made["execution_id"])
        over = (await http.get(made["monitor_url"])).json()
        assert (over["stdout"], over["stderr"], over["can_stream"]) == ("out\n", "err\n", False)
        known = (await bus.ask("execution.get", {"execution_id": made["execution_id"]}))["execution"]
        assert set(over) == {*known, "stdout", "stderr", "can_stream", "truncated"}
        stream = await http.get(made["monitor_url"] + "/stream")
        head = {name: stream.headers[name] for name in ("content-type", "cache-control", "connection")}
        assert head["content-type"].startswith("text/event-stream")
        assert (head["cache-control"], head["connection"]) == ("no-cache", "keep-alive")
        assert all(
            line.startswith(("data: ", "id: ", "event: ", ":")) or not line
            for line in stream.text.split("\n")
        )


async def cut_up(url: str, cuts: int, seed: int) -> list[dict[str, Any]]:
    """Follow a stream until its end, and lose the connection after a few bytes, so many times."""
    dice = random.Random(seed)
    found: list[dict[str, Any]] = []
    last = ""
    async with httpx.AsyncClient(timeout=30) as http:
        while True:
            room = dice.randrange(1, 4000) if cuts > 0 else 1 << 40
            cuts -= 1
            text = b""
            headers = {"Last-Event-ID": last} if last else {}
            async with http.stream("GET", url, headers=headers) as reply:
                assert reply.status_code == 200
                async for part in reply.aiter_bytes():
                    text += part[: max(0, room - len(text))]
                    if len(text) >= room:
                        break
            # A message counts when its empty line has come, as the standard says.
            whole = messages(text.rpartition(b"\n\n")[0].decode())
            found += whole
            last = whole[-1].get("id", last) if whole else last
            if whole and whole[-1].get("event") == "end":
                assert cuts < 0
                return found


async def test_a_stream_that_is_cut_twenty_times_misses_and_doubles_nothing(
    bus: Foreign, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    code = f"""import os, sys, time
for n in range(3000):
    sys.stdout.write(f'{{n}} ä€\\n')
    if n % 10 == 0: print('err', n, file=sys.stderr, flush=True)
sys.stdout.flush()
while not os.path.exists({str(gate)!r}): time.sleep(0.01)
for n in range(3000, 4000): sys.stdout.write(f'{{n}} ä€\\n')
"""
    made = await bus.ask("execution.submit", {"code": code})
    url = made["monitor_url"] + "/stream"
    following = [asyncio.create_task(cut_up(url, 20, seed)) for seed in range(3)]
    await asyncio.wait(following, timeout=0.5)
    gate.touch()
    for told in await asyncio.gather(*following):
        text = {"stdout": "", "stderr": ""}
        for each in told:
            if "event" not in each:
                text[each["data"]["stream"]] += each["data"]["text"]
        assert text["stdout"] == "".join(f"{n} ä€\n" for n in range(4000))
        assert text["stderr"] == "".join(f"err {n}\n" for n in range(0, 3000, 10))
        assert [each["event"] for each in told if each.get("event") == "end"] == ["end"]


async def test_facts_are_told_as_they_are_stored_and_from_any_place_on(
    bus: Foreign, info: dict[str, Any]
) -> None:
    begin = await bus.last()
    first = await bus.submit(code="print(1)")
    await bus.over(first)
    found: list[dict[str, Any]] = []
    last, second = f"s{begin}", ""
    async with httpx.AsyncClient(timeout=30, base_url=info["http_url"]) as http:
        while not second or not any(
            each["data"]["entity"] == second and each["data"]["event"] == "completed" for each in found
        ):
            async with http.stream("GET", "/events", headers={"Last-Event-ID": last}) as reply:
                lines: dict[str, str] = {}
                async for line in reply.aiter_lines():
                    name, _, value = line.partition(": ")
                    lines[name] = value
                    if line:
                        continue
                    if "data" in lines:
                        found.append({**lines, "data": json.loads(lines["data"])})
                        last, lines = lines["id"], {}
                        # Cut it after every third one.
                        if len(found) % 3 == 0:
                            break
                    if not second:
                        second = await bus.submit(code="print(2)")
                    if found[-1]["data"]["entity"] == second and found[-1]["data"]["event"] == "completed":
                        break
        seqs = [each["data"]["seq"] for each in found]
        assert seqs == list(range(begin + 1, seqs[-1] + 1))
        rows = (await bus.ask("execution.events", {"execution_id": first}))["events"]
        ours = [each["data"] for each in found if each["data"]["entity"] == first]
        assert ours == rows
        assert all(each["event"] == "fact" and each["id"] == f"s{each['data']['seq']}" for each in found)
        for query, status in (
            ("kind=nothing", 400),
            ("after=x", 400),
            ("entity=a.b", 400),
            ("after=-1", 400),
        ):
            assert (await http.get(f"/events?{query}")).status_code == status, query
        assert (await http.get("/events", headers={"Last-Event-ID": "o1.e1"})).status_code == 400


async def test_the_stream_of_a_plan_ends_with_the_plan(bus: Foreign, info: dict[str, Any]) -> None:
    steps = [{"name": name, "shell": {"command": "true"}} for name in "abc"]
    made = await bus.ask("plan.submit", {"strategy": "serial", "steps": steps})
    async with httpx.AsyncClient(timeout=30, base_url=info["http_url"]) as http:
        told = messages((await http.get(f"/plans/{made['plan_id']}/stream")).text)
        assert {each["event"] for each in told} == {"progress", "end"}
        assert (told[-1]["event"], told[-1]["data"]["status"]) == ("end", "completed")
        assert (await http.get(f"/plans/plan_{'0' * 26}/stream")).status_code == 404


@asynccontextmanager
async def web_socket(info: dict[str, Any], query: str = "", **more: Any) -> AsyncGenerator[ClientConnection]:
    async with connect(info["http_url"].replace("http", "ws", 1) + f"/ws{query}", **more) as opened:
        yield opened


async def test_progress_comes_over_a_websocket(bus: Foreign, info: dict[str, Any], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    line = f"echo '::progress 3/10'; {GATED.format(gate=gate)}"
    async with web_socket(info) as everything:
        made = await bus.submit(shell={"command": line})
        async with web_socket(info, f"?id={made}") as one:
            told = [json.loads(await one.recv())]
            while told[-1]["text"] != "30% complete":
                told.append(json.loads(await one.recv()))
            gate.touch()
            told += [json.loads(message) async for message in one]
        assert one.close_code == 1000
        assert {each["id"] for each in told} == {made}
        assert [each["final"] for each in told] == [False] * (len(told) - 1) + [True]
        heard: list[dict[str, Any]] = []
        while not any(each["id"] == made and each["final"] for each in heard):
            heard.append(json.loads(await everything.recv()))
    async with web_socket(info, f"?id={NOBODY}") as nothing:
        assert json.loads(await nothing.recv())["error"]["code"] == "not_found"
    async with web_socket(info, "?" + "&".join(f"id=exec_{n}" for n in range(51))) as many:
        await many.wait_closed()
        assert many.close_code == 1008
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with web_socket(info, additional_headers=headers):
                pass
        assert refused.value.response.status_code in (400, 403, 421)


@pytest.fixture
def hasty(info: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Web]:
    """A door of its own in this process that drops who is stuck after half a second."""
    monkeypatch.setattr(sse, "STUCK_SECONDS", 0.5)
    vitals = Vitals(str, "", 1, dict, lambda _: None, lambda: None)
    web = Web(load({"data": tmp_path, "nats.url": info["nats_url"], "http.port": 0}, {}), vitals)
    web.start()
    yield web
    web.stop()


async def test_who_does_not_read_is_dropped_and_holds_up_nobody(
    bus: Foreign, hasty: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "interfaces.sse")
    size = 24 * 1024 * 1024
    one = await bus.submit(shell={"command": f"head -c {size} /dev/zero | tr '\\0' x"})
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", hasty.port))
        ask = f"GET /executions/{one}/stream HTTP/1.1\r\nHost: localhost:{hasty.port}\r\n\r\n"
        stuck.sendall(ask.encode())
        async with httpx.AsyncClient(timeout=60) as http:
            told = messages((await http.get(f"{hasty.url}/executions/{one}/stream")).text)
        assert sum(len(each["data"]["text"]) for each in told if "event" not in each) == size
        await asyncio.to_thread(until, lambda: "that was stuck" in caplog.text)
        stuck.settimeout(20)
        rest = b""
        while part := await asyncio.to_thread(stuck.recv, 1 << 16):
            rest += part
        assert b"event: end" not in rest
        assert len(rest) < size


async def test_a_browser_gets_in_once_with_a_ticket(own: Place) -> None:
    own.up(HINDBRAIN_HTTP__TOKEN="the-token")
    url = own.wrote["http_url"]
    page = {"Accept": "text/html"}

    def ticket(*words: str) -> str:
        done = own.cli("open", "--print", *words)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    async with httpx.AsyncClient(timeout=20, base_url=url) as http:
        for path in ("/", "/openapi.json", "/events", f"/executions/{NOBODY}", "/mcp"):
            assert (await http.get(path)).status_code == 401, path
        assert (await http.post("/api/execution/submit", json={"code": "1"})).status_code == 401
        assert (await http.get("/healthz")).status_code == 200
        address = ticket()
        assert address.startswith(f"{url}/open?ticket=")
        first = await http.get(address)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        told = first.headers["set-cookie"]
        assert all(word in told for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age="))
        assert (await http.get("/", headers=page)).status_code == 200
        submit: Any = {"json": {"code": "1"}, "headers": {"Origin": "http://evil.example"}}
        assert (await http.post("/api/execution/submit", **submit)).status_code == 403
        submit = {"json": {"code": "1"}, "headers": {"Origin": url}}
        assert (await http.post("/api/execution/submit", **submit)).status_code == 200
        cookie = dict(http.cookies)["brain"]
        async with web_socket(own.wrote, additional_headers={"Cookie": f"brain={cookie}"}):
            pass
    for bad in (cookie[:-1] + ("A" if cookie[-1] != "A" else "B"), "", "1", ".", f"9{cookie}", "ä"):
        async with httpx.AsyncClient(timeout=20, base_url=url) as http:
            reply = await http.get("/", headers=[(b"Cookie", f"brain={bad}".encode())])
            assert reply.status_code == 401, bad
    async with httpx.AsyncClient(timeout=20, base_url=url) as http:
        assert (await http.get(address)).status_code == 401
        assert not http.cookies
        for to in ("//evil.example", "http://evil.example", "/\\evil", "/%0d%0aX: y"):
            reply = await http.get(f"{ticket()}&to={to}")
            assert reply.headers["location"] == "/", to
        assert (await http.get(ticket(NOBODY))).headers["location"] == f"/executions/{NOBODY}"
    async with httpx.AsyncClient(timeout=20, base_url=url) as http:
        for wrong in ("", "x", "1.2.3", address.partition("ticket=")[2][:-2]):
            assert (await http.get("/open", params={"ticket": wrong})).status_code == 401
        bearer = {"Authorization": "Bearer the-token"}
        assert (await http.get("/openapi.json", headers=bearer)).status_code == 200
        wrong = {"Authorization": "Bearer the-tokem"}
        assert (await http.get("/openapi.json", headers=wrong)).status_code == 401
    assert (own.data / "door.key").stat().st_mode & 0o777 == 0o600
    assert own.cli("open", "--print", "sched_1").returncode == 2


async def test_curl_alone_can_submit_follow_and_cancel(info: dict[str, Any], tmp_path: Path) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not on this machine: httpx does the same in the other tests")
    host = str(info["http_url"]).removeprefix("http://")

    def curl(*words: str) -> bytes:
        done = subprocess.run(
            [program, "-sS", "--max-time", "60", *words], capture_output=True, check=False, timeout=90
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    gate = tmp_path / "gate"
    line = json.dumps({"shell": {"command": f"echo begin; {GATED.format(gate=gate)}; echo end"}})
    made = json.loads(await asyncio.to_thread(curl, f"{host}/api/execution/submit", "-d", line))
    follow = asyncio.create_task(
        asyncio.to_thread(curl, "-N", f"{host}/executions/{made['execution_id']}/stream")
    )
    gate.touch()
    told = messages((await follow).decode())
    assert "".join(each["data"]["text"] for each in told if "event" not in each) == "begin\nend\n"
    assert told[-1]["data"]["status"] == "completed"
    long = json.dumps({"exec": {"program": "sleep", "args": ["1000"]}})
    made = json.loads(await asyncio.to_thread(curl, f"{host}/api/execution/submit", "-d", long))
    which = json.dumps({"execution_id": made["execution_id"]})
    assert json.loads(await asyncio.to_thread(curl, f"{host}/api/execution/cancel", "-d", which))["changed"]
    over = json.loads(await asyncio.to_thread(curl, f"{host}/api/execution/wait", "-d", which))
    assert over["execution"]["status"] == "cancelled"
