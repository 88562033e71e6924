"""The monitor's address: what everybody gets back from a submission can be opened."""

import json
from typing import Any

import httpx
import pytest
from foreign import Foreign

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


def messages(text: str) -> list[dict[str, Any]]:
    """Read a stream of server-sent events as the standard says."""
    found: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            if name:
                fields[name] = f"{fields[name]}\n{value.lstrip(' ')}" if name in fields else value.lstrip(" ")
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


async def test_the_monitor_url_answers_json_a_page_and_a_stream(bus: Foreign) -> None:
    line = "printf 'a\\303'; sleep 0.3; printf '\\244b\\n'; echo err >&2; printf '50%%\\r60%%\\r'; sleep 0.6"
    reply = await bus.ask("execution.submit", {"shell": {"command": line}})
    async with httpx.AsyncClient(timeout=20) as http:
        early = await http.get(reply["monitor_url"])
        assert early.status_code == 200
        stream = await http.get(reply["monitor_url"] + "/stream")
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = messages(stream.text)
        output = [each["data"] for each in told if "event" not in each]
        assert "".join(each["text"] for each in output if each["stream"] == "stdout") == "aäb\n50%\r60%\r"
        assert "".join(each["text"] for each in output if each["stream"] == "stderr") == "err\n"
        assert all({"stream", "offset", "time", "text"} <= each.keys() for each in output)
        assert {each["event"] for each in told if "event" in each} == {"progress", "end"}
        assert (told[-1]["event"], told[-1]["data"]["status"]) == ("end", "completed")
        assert told[-1]["data"]["id"] == reply["execution_id"]
        assert all("id" in each for each in told if "event" not in each)
        shown = (await http.get(reply["monitor_url"])).json()
        assert (shown["id"], shown["stdout"], shown["stderr"]) == (
            reply["execution_id"],
            "aäb\n50%\r60%\r",
            "err\n",
        )
        page = await http.get(reply["monitor_url"], headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert reply["execution_id"] in page.text


async def test_a_page_is_there_as_soon_as_its_address_is_told(bus: Foreign) -> None:
    async with httpx.AsyncClient(timeout=20, headers={"Accept": "text/html"}) as http:
        for _ in range(10):
            made = await bus.ask("execution.submit", {"exec": {"program": "true"}})
            assert (await http.get(made["monitor_url"])).status_code == 200


async def test_every_place_in_the_stream_can_be_come_back_to(bus: Foreign) -> None:
    code = "import sys\nfor n in range(300): sys.stdout.write(f'{n} ä€\\n')"
    reply = await bus.ask("execution.submit", {"code": code})
    await bus.over(reply["execution_id"])
    whole = "".join(f"{n} ä€\n" for n in range(300))
    async with httpx.AsyncClient(timeout=20) as http:
        told = messages((await http.get(reply["monitor_url"] + "/stream")).text)
        seen = ""
        for each in told[:-1]:
            if "event" in each:
                continue
            seen += each["data"]["text"]
            rest = await http.get(reply["monitor_url"] + "/stream", headers={"Last-Event-ID": each["id"]})
            after = "".join(m["data"]["text"] for m in messages(rest.text) if "event" not in m)
            assert seen + after == whole


async def test_http_refuses_as_the_bus_does(info: dict[str, Any]) -> None:
    nobody = "exec_" + "0" * 26
    cases: list[tuple[str, Any, int, str]] = [
        ("execution/submit", {}, 400, "validation"),
        ("execution/submit", {"exec": {"program": "a\0"}}, 400, "validation"),
        ("execution/get", {"execution_id": nobody}, 404, "not_found"),
        ("execution/bake", {}, 404, "not_found"),
        ("query/sql", {"sql": "DROP TABLE events"}, 422, "sql_error"),
    ]
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        for path, body, status, code in cases:
            reply = await http.post(f"/api/{path}", json=body)
            assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), path
            assert set(reply.json()["error"]) == {"code", "message", "details"}
        for raw in (b"{", b"[]", b"\xff", b'{"a":' * 10_000, b'{"timeout_ms": 1e400}'):
            reply = await http.post("/api/execution/submit", content=raw)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "validation"), raw[:20]
        odd: list[Any] = ["x", [], None, True, -(10**30), 10**400, 1e300]
        for timeout in odd:
            reply = await http.post(
                "/api/execution/wait", json={"execution_id": nobody, "timeout_ms": timeout}
            )
            assert reply.status_code in (400, 404), timeout
        for path in ("/executions/x", f"/executions/{nobody}", f"/executions/{nobody}/stream", "/nothing"):
            assert (await http.get(path)).status_code == 404, path
        assert (await http.get("/executions/%00")).status_code in (400, 404)
        assert (await http.get("/executions/..%2f..%2fetc")).status_code == 404
        assert (await http.delete("/api/execution/submit")).status_code == 405
        bad = {"Last-Event-ID": "o-1.e99999999999999999999"}
        assert (await http.get(f"/executions/{nobody}/stream", headers=bad)).status_code in (400, 404)
        assert (await http.get("/healthz")).status_code == 200


async def test_a_large_code_over_http_becomes_a_blob(info: dict[str, Any], bus: Foreign) -> None:
    code = "#" * 2_000_000 + "\nprint('large')"
    async with httpx.AsyncClient(timeout=30, base_url=info["http_url"]) as http:
        reply = (await http.post("/api/execution/submit", json={"code": code})).json()
    assert (await bus.over(reply["execution_id"]))["result"]["stdout"] == "large\n"
