"""Every door of one real node: the command line, Python, HTTP and files."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from events.errors import Damaged, NotFound
from interfaces import capsule, sinks
from interfaces.api import ExecutionEngine
from interfaces.sinks import Happening

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

BYTES = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3); sys.stderr.buffer.write(b'\\xfferr')"

MARKUP = "echo ä; echo '<b>' >&2; echo c"


def url(data: Path) -> str:
    return json.loads((data / "node.json").read_bytes())["http_url"]


def config(data: Path) -> dict[str, Any]:
    return {"data": data}


def test_run_passes_bytes_and_exit_code_on(node: Run) -> None:
    done = node("run", "--code", "--", BYTES + "; sys.exit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, bytes(range(256)) * 3, b"\xfferr")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("--shell", "--", "kill -9 $$"), 137),
        (("--timeout", "0.3", "--", "sleep", "60"), 124),
        (("--", "/no/such/program"), 127),
        (("--", "/etc/passwd"), 126),
    ],
)
def test_run_ends_as_its_command_ends(node: Run, command: tuple[str, ...], code: int) -> None:
    assert node("run", *command).returncode == code


def test_what_a_command_needs_reaches_it(node: Run, tmp_path: Path) -> None:
    options = ("--shell", "--env", "A=1", "--secret", "S", "--cwd", str(tmp_path), "--stdin", "-")
    done = node("run", *options, "--", "echo $A $S; pwd; cat", stdin=b"in\xff", S="two")
    assert done.stdout == f"1 two\n{tmp_path}\n".encode() + b"in\xff"


def test_logs_are_the_same_bytes_later(node: Run) -> None:
    execution = json.loads(node("submit", "--json", "--code", "--", BYTES).stdout)["execution_id"]
    followed = node("logs", execution, "-f", "--both")
    later = node("logs", execution, "--both", "--offset", "2")
    assert (followed.stdout, followed.stderr) == (bytes(range(256)) * 3, b"\xfferr")
    assert (later.stdout, later.stderr) == ((bytes(range(256)) * 3)[2:], b"rr")


def test_status_wait_result_and_cancel_tell_one_story(node: Run) -> None:
    execution = node("submit", "-q", "--label", "long", "--", "sleep", "60").stdout.decode().strip()
    assert node("wait", execution, "--timeout", "0.1").returncode == 4
    refused = node("result", execution, "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "not_over")
    assert json.loads(node("cancel", execution, "--json").stdout)["changed"] is True
    assert node("wait", execution).returncode == 130
    assert json.loads(node("status", execution, "--json").stdout)["status"] == "cancelled"
    assert json.loads(node("result", execution, "--json").stdout)["exit_code"] in (-1, 143)
    events = [json.loads(line)["event"] for line in node("events", execution, "--json").stdout.splitlines()]
    assert (events[0], events[-1]) == ("queued", "cancelled")
    life = [json.loads(line) for line in node("replay", execution, "--json").stdout.splitlines()]
    assert [row["event"] for row in life] == events
    assert life[-1]["state"]["status"] == "cancelled"
    again = json.loads(node("retry", execution, "--json").stdout)
    assert again["retry_of"] == execution
    assert node("cancel", again["execution_id"]).returncode == 0


def test_the_sentence_of_submit_says_where_to_look(node: Run, data: Path) -> None:
    said = node("submit", "--", "true").stdout.decode()
    assert said.startswith(f"Execution queued. Monitor at {url(data)}/executions/exec_")


def test_a_key_runs_once(node: Run) -> None:
    first, second = (json.loads(node("submit", "--json", "--key", "k1", "--", "true").stdout) for _ in "12")
    assert (first["execution_id"], second["duplicate"]) == (second["execution_id"], True)


@pytest.mark.asyncio
async def test_python_sees_output_live_and_is_told(data: Path) -> None:
    told: list[Happening] = []
    over = asyncio.Event()

    class Handler:
        def on_event(self, event: Happening) -> None:
            told.append(event)
            if isinstance(event, sinks.Completed):
                over.set()

    async with ExecutionEngine.new(config(data)).with_event_handler(Handler()) as engine:
        script = "echo one; read line < $F; echo two >&2"
        fifo = data / "fifo"
        os.mkfifo(fifo)
        execution = await engine.execute({"shell": {"command": script}, "env": {"F": str(fifo)}})
        seen: list[tuple[str, bytes]] = []
        async for chunk in engine.output(execution):
            seen.append((chunk.stream, chunk.data))
            if chunk.data == b"one\n":
                await asyncio.to_thread(fifo.write_text, "go\n")
        assert seen == [("stdout", b"one\n"), ("stderr", b"two\n")]
        assert (await engine.wait_for_completion(execution)).status == "completed"
        steps = [step async for step in engine.progress(execution)]
        assert steps[-1]["final"] is True
        assert [chunk.stream for chunk in await engine.read_logs(execution)] == ["stdout", "stderr"]
        async with asyncio.timeout(10):
            await over.wait()
    names = [type(each).__name__ for each in told if type(each).__name__ != "Progress"]
    assert names == ["Started", "Stdout", "Stderr", "Completed"]


@pytest.mark.asyncio
async def test_an_unknown_execution_is_not_found(data: Path) -> None:
    async with ExecutionEngine.new(config(data)) as engine:
        with pytest.raises(NotFound):
            await engine.get_status("exec_00000000000000000000000000")


def sse(text: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            messages.append({**fields, "data": json.loads(fields["data"])})
    return messages


def test_http_streams_and_resumes(node: Run, data: Path) -> None:
    execution = node("submit", "-q", "--shell", "--", MARKUP).stdout.decode().strip()
    node("wait", execution)
    with httpx.Client(base_url=f"{url(data)}/executions", timeout=20) as http:
        reply = http.get(f"{execution}/stream")
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-cache"
        messages = sse(reply.text)
        output = [each for each in messages if "event" not in each]
        assert "".join(e["data"]["text"] for e in output if e["data"]["stream"] == "stdout") == "ä\nc\n"
        assert messages[-1]["event"] == "end"
        assert messages[-1]["data"]["status"] == "completed"
        rest = sse(http.get(f"{execution}/stream", headers={"Last-Event-ID": "o3.e4"}).text)
        assert [each["data"]["text"] for each in rest if "event" not in each] == ["c\n"]
        shown = http.get(execution).json()
        assert (shown["stdout"], shown["stderr"], shown["can_stream"]) == ("ä\nc\n", "<b>\n", False)
        last = json.loads(node("status", execution, "--json").stdout)["seq"]
        page = http.get(execution, params={"min_seq": last}, headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        assert "&lt;b&gt;" in page.text
        assert "echo '<b>'" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_http_answers_as_the_bus_does(data: Path) -> None:
    with httpx.Client(base_url=url(data), timeout=20) as http:
        reply = http.post("/api/execution/submit", json={"exec": {"program": "true"}})
        assert reply.status_code == 200
        ask = {"execution_id": reply.json()["execution_id"], "timeout_ms": 20000}
        assert http.post("/api/execution/wait", json=ask).json()["done"] is True
        assert http.post("/api/execution/submit", json={"exce": 1}).status_code == 400
        assert http.post("/api/execution/get", json={"execution_id": "exec_" + "0" * 26}).status_code == 404
        assert http.post("/api/execution/bake", json={}).status_code == 404
        assert http.post("/api/execution/submit", content=b"[").status_code == 400
        assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_foreign_page_cannot_come_in(data: Path, headers: dict[str, str], status: int) -> None:
    body = {"exec": {"program": "true"}}
    assert httpx.post(f"{url(data)}/api/execution/submit", json=body, headers=headers).status_code == status


def test_a_capsule_opens_without_a_node_and_notices_changes(node: Run, tmp_path: Path) -> None:
    execution = node("submit", "-q", "--shell", "--", "echo out; echo err >&2").stdout.decode().strip()
    node("wait", execution)
    file, tables = tmp_path / "a.capsule", tmp_path / "a.duckdb"
    assert node("export", execution, "-o", str(file)).returncode == 0
    assert node("export", execution, "-o", str(file)).returncode == 2
    assert node("import", str(file), "--into", str(tables)).returncode == 0
    with duckdb.connect(str(tables), read_only=True) as con:
        rows = con.execute("SELECT id, status, stdout, stderr FROM executions").fetchall()
        numbers = [row[0] for row in con.execute("SELECT seq FROM events ORDER BY seq").fetchall()]
    assert rows == [(execution, "completed", "out\n", "err\n")]
    assert numbers == [line.seq for line in capsule.read(file)[1]]
    file.write_bytes(rewritten(file, b"exit_code", b"exit_cope"))
    with pytest.raises(Damaged, match=r"events.jsonl in .* was changed"):
        capsule.read(file)


def rewritten(file: Path, old: bytes, new: bytes) -> bytes:
    import io
    import zipfile

    made = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(old, new) if name == "events.jsonl" else content)
    return made.getvalue()


def test_the_whole_log_becomes_a_file(node: Run, tmp_path: Path) -> None:
    node("run", "--", "true")
    file = tmp_path / "log.duckdb"
    seq = json.loads(node("replay", "--into", str(file), "--json").stdout)["seq"]
    with duckdb.connect(str(file), read_only=True) as con:
        assert con.execute("SELECT count(*), max(seq) FROM events").fetchone() == (seq, seq)
    assert node("replay", "--into", str(file)).returncode == 2


def test_info_tells_how_to_reach_it_and_a_bare_url_is_enough(node: Run, call: Run, tmp_path: Path) -> None:
    info = json.loads(node("info", "--json").stdout)
    assert {"nats_url", "http_url", "pid", "nats_pid", "keeper_pid", "data", "version"} <= info.keys()
    assert call(tmp_path, "run", "--nats", info["nats_url"], "--", "echo", "hi").stdout == b"hi\n"


def test_the_tables_answer(node: Run) -> None:
    reply = json.loads(node("submit", "--json", "--label", "tables", "--", "true").stdout)
    node("wait", reply["execution_id"])
    query = "SELECT id, status FROM executions WHERE id = ?"
    ask = ("sql", query, "--param", reply["execution_id"], "--json")
    assert json.loads(node(*ask).stdout)[0]["id"] == reply["execution_id"]
    past = json.loads(node(*ask, "--seq", str(reply["seq"])).stdout)
    assert past == [{"id": reply["execution_id"], "status": "queued"}]
    assert [row["id"] for row in json.loads(node("list", "--label", "tables", "--json").stdout)] == [
        reply["execution_id"]
    ]
    assert node("sql", "DROP TABLE executions").returncode == 2
    assert node("rebuild").returncode == 0


def test_the_doctor_finds_the_log_and_the_tables_well(node: Run) -> None:
    checks = {row["name"]: row for row in json.loads(node("doctor", "--verify", "--json").stdout)}
    assert {"disk", "node", "bus", "keeper", "projector", "log", "tables"} <= checks.keys()
    assert [checks[name]["ok"] for name in ("node", "bus", "keeper", "log", "tables")] == [True] * 5
