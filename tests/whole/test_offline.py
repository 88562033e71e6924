"""An exported run shown without a node: the pages say what they said live, and can only be read.

It is long because executions, plans, playbooks and what they left each have pages to compare.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from browsing import picture, visit
from foreign import Done, Foreign, Place, clean, connect
from playwright.async_api import Browser, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTML = {"Accept": "text/html"}
LINE = "echo one; sleep 0.4; echo two >&2; sleep 0.4; printf '\\033[32mthree\\033[0m\\n'"
OPEN = [sys.executable, "-P", "-m", "interfaces.cli", "open", "--print"]
SERVER = Path(sys.executable).parent / "nats-server"
ALONE = r"""
import json, subprocess, sys, urllib.request
paths = json.loads(sys.stdin.read())
shown = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
root = "/".join(shown.stdout.readline().strip().split("/")[:3])
ask = lambda path: urllib.request.Request(root + path, headers={"Accept": "text/html"})
print(json.dumps([urllib.request.urlopen(ask(path)).read().decode() for path in paths]))
shown.terminate()
sys.exit(shown.wait())
"""
"""Opens a capsule and reads pages of it; it stands for itself, because it runs where nothing else is."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(info: dict[str, Any]) -> AsyncGenerator[Foreign]:
    """A connection in the loop of the browser."""
    async with connect(info["nats_url"]) as bus:
        yield bus


class Words(HTMLParser):
    """The text of a page's main part, but for what a person can only do now, and samples."""

    VOID = ("input", "br", "img", "meta", "link")

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._inside = self._left_out = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        out = "hidden" in given or "data-sample" in given or tag in ("form", "noscript", "script")
        if tag not in self.VOID:
            self._inside += bool(self._inside) or tag == "main"
            self._left_out += bool(self._left_out) or out

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            self._inside -= bool(self._inside)
            self._left_out -= bool(self._left_out)

    def handle_data(self, data: str) -> None:
        if self._inside and not self._left_out:
            self.text += data.split()


def words(page: str) -> list[str]:
    reader = Words()
    reader.feed(page)
    assert reader.text
    return reader.text


async def exported(bus: Foreign, place: Place, folder: Path, **wish: Any) -> tuple[str, Path]:
    """Run something, and pack it."""
    execution = await bus.submit(**wish)
    await bus.over(execution)
    await bus.ask("query.sql", {"sql": "SELECT 1", "min_seq": await bus.last()})
    file = folder / "run.capsule"
    done = place.cli("export", execution, "-o", str(file))
    assert done.returncode == 0, done.stderr
    return execution, file


def typed(command: list[str], stdin: bytes = b"") -> Done:
    """Type a command, and wait for its end."""
    return subprocess.run(command, input=stdin, env=clean(), capture_output=True, timeout=60, check=False)


@contextmanager
def shown(file: Path) -> Generator[str]:
    """Open a capsule; gives where, and ends it as Ctrl-C does."""
    process = subprocess.Popen([*OPEN, str(file)], env=clean(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def nowhere() -> list[str]:
    """How to run something without network and without a NATS server; a skip where that is not allowed."""
    if os.getuid() or not all(shutil.which(each) for each in ("unshare", "mount", "ip")):
        pytest.skip("taking the network away needs root, unshare, mount and ip")
    hide = f'[ ! -e "{SERVER}" ] || mount --bind /dev/null "{SERVER}"'
    words = ["unshare", "-nm", "sh", "-ec", f'{hide}; ip link set lo up; exec "$@"', "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let its root take the network away")
    return words


async def test_a_capsule_says_without_network_and_server_what_the_pages_said_live(
    bus: Foreign, place: Place, info: dict[str, Any], tmp_path: Path
) -> None:
    alone = nowhere()
    execution, file = await exported(
        bus, place, tmp_path, shell={"command": LINE}, description="carried away", labels=["kept"]
    )
    query = f"/sql?q=SELECT+id,status,exit_code,stdout,stderr,seq+FROM+executions+WHERE+id='{execution}'"
    (middle,) = json.loads(
        place.cli(
            "sql", "--json", f"SELECT min(seq) AS n FROM events WHERE entity = '{execution}' AND n = 2"
        ).stdout
    )
    page = f"/executions/{execution}"
    paths = [page, f"{page}?seq={middle['n']}", f"/log/execution/{execution}", "/search?q=carried", query]
    async with httpx.AsyncClient(base_url=info["http_url"], headers=HTML, timeout=30) as http:
        live = [words((await http.get(path)).text) for path in paths]
    command = [*alone, sys.executable, "-P", "-c", ALONE, *OPEN, str(file)]
    done = typed(command, json.dumps(paths).encode())
    assert done.returncode == 0, done.stderr
    found = [words(each) for each in json.loads(done.stdout)]
    assert found[:3] == live[:3]
    assert "carried" in found[3]
    answers = [" ".join(each).partition(" Tables ")[0] for each in (found[4], live[4])]
    assert f"{execution[:13]} completed 0 one three two" in answers[0]
    assert answers[0] == answers[1]


async def settled(bus: Foreign, kind: str, name: str) -> dict[str, Any]:
    """Wait until a plan or a playbook is over; gives it."""
    reply = await bus.ask(f"{kind}.wait", {f"{kind}_id": name, "timeout_ms": 60_000}, within=70)
    assert reply["done"], reply
    return reply[kind]


def step(name: str, command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "shell": {"command": command}, **more}


async def carried(bus: Foreign, folder: Path) -> tuple[str, str, str]:
    """A plan with a plan in it, a batch, and a playbook that has all of it and leaves an artifact."""
    inner = {"strategy": "parallel", "steps": [step("left", "echo l"), step("right", "echo r; exit 3")]}
    steps = [
        step("first", "echo first; echo n=7 >> $HINDBRAIN_OUTPUT"),
        {"name": "inside", "plan": inner, "needs": ["first"], "allow_failure": True},
        step("last", "printf '${steps.first.outputs.n}\\n' >&2", needs=["inside"]),
    ]
    graph = {"name": "a graph", "strategy": "graph", "steps": steps, "labels": ["kept"]}
    plan = (await bus.ask("plan.submit", graph))["plan_id"]
    line = "echo ${item}; [ ${item} != b ]"
    many = {"description": "Turn 3 pages", "items": ["a", "b", "c"], "do": {"shell": {"command": line}}}
    batch = (await bus.ask("batch.submit", many))["plan_id"]
    phases = [
        {
            "id": "make",
            "name": "Make it",
            "steps": [
                step("write", f"echo kept > {folder}/left.txt", artifacts=["left.txt"]),
                {"name": "both", "plan": {"strategy": "serial", "steps": [step("deep", "echo deep")]}},
            ],
            "summary": "it was made",
        },
        {"id": "show", "steps": [step("read", "cat left.txt")]},
    ]
    wish = {"name": "a book", "phases": phases, "working_dir": str(folder)}
    book = (await bus.ask("playbook.run", wish))["playbook_id"]
    assert (await settled(bus, "plan", plan))["status"] == "completed"
    assert (await settled(bus, "plan", batch))["failed"] == 1
    assert (await settled(bus, "playbook", book))["status"] == "completed"
    return plan, batch, book


async def test_plans_and_playbooks_say_alone_what_their_pages_said_live(
    bus: Foreign, place: Place, info: dict[str, Any], tmp_path: Path
) -> None:
    alone = nowhere()
    roots = await carried(bus, tmp_path)
    file = tmp_path / "all.capsule"
    done = place.cli("export", *roots, "-o", str(file), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [len(told[name]) for name in ("executions", "plans", "playbooks", "artifacts")] == [10, 4, 1, 1]
    assert len(told["checkpoints"]) == 4
    paths = [
        *(f"/plans/{name}" for name in told["plans"]),
        *(f"/log/plan/{name}" for name in told["plans"]),
        *(f"/playbooks/{roots[2]}", f"/log/playbook/{roots[2]}", f"/log/artifact/{told['artifacts'][0]}"),
        *(f"/executions/{name}" for name in told["executions"]),
        f"/executions?plan_id={roots[1]}",
    ]
    async with httpx.AsyncClient(base_url=info["http_url"], headers=HTML, timeout=30) as http:
        live = [words((await http.get(path)).text) for path in paths]
    alone_done = typed(
        [*alone, sys.executable, "-P", "-c", ALONE, *OPEN, str(file)], json.dumps(paths).encode()
    )
    assert alone_done.returncode == 0, alone_done.stderr
    for path, before, page in zip(paths, live, json.loads(alone_done.stdout), strict=True):
        assert words(page) == before, path


async def test_a_plan_in_a_capsule_is_looked_at_and_its_artifacts_and_checkpoints_are_read(
    browser: Browser, bus: Foreign, place: Place, tmp_path: Path
) -> None:
    plan, _, book = await carried(bus, tmp_path)
    files = [tmp_path / "plan.capsule", tmp_path / "book.capsule"]
    for root, file in zip((plan, book), files, strict=True):
        done = place.cli("export", root, "-o", str(file))
        assert done.returncode == 0, done.stderr
    with shown(files[0]) as url:
        assert url.endswith(f"/plans/{plan}")
        async with visit(browser, url) as page:
            graph = page.locator("#graph a.step")
            await expect(graph).to_have_count(3)
            await expect(page.locator("main form[method=post]")).to_have_count(0)
            await picture(page, "capsule-plan")
            await graph.filter(has_text="inside").click()
            await page.locator("#steps tr", has_text="right").locator("a").click()
            await expect(page.locator("#output > div")).to_have_text(["r"])
            await expect(page.locator("#status")).to_contain_text("exit 3")
    live = (await bus.ask("playbook.get", {"playbook_id": book}))["playbook"]
    last = live["last_checkpoint"]["checkpoint_id"]
    which = {"playbook_id": book, "checkpoint_id": last, "data": True}
    with shown(files[1]) as url:
        assert url.endswith(f"/playbooks/{book}")
        async with httpx.AsyncClient(base_url=url.removesuffix(f"/playbooks/{book}"), timeout=20) as http:
            again = (await http.post("/api/playbook/get", json={"playbook_id": book})).json()["playbook"]
            assert again | {"elapsed_seconds": 0} == live | {"elapsed_seconds": 0}
            held = (await http.post("/api/playbook/validate", json=which)).json()
            assert held == await bus.ask("playbook.validate", which)
            (artifact,) = live["steps"][0]["artifacts"]
            ask = {"artifact_id": artifact, "content": True}
            assert (await http.post("/api/artifact/get", json=ask)).json() == await bus.ask(
                "artifact.get", ask
            )
            reply = await http.post("/api/playbook/resume", json={"playbook_id": book})
            assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")
            for verb, body in (
                ("plan/get", {"plan_id": plan}),
                ("playbook/validate", {**which, "checkpoint_id": "x"}),
            ):
                assert (await http.post(f"/api/{verb}", json=body)).status_code == 404, verb


async def test_what_looks_like_a_secret_of_a_plan_or_a_playbook_stays_at_home(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    secret = "carry-me-not"
    given = {
        "params": {"api_token": {"default": secret}, "who": {"default": "me"}},
        "values": {"api_token": secret + "-either", "who": "you"},
    }
    told = step("say", "echo ${params.who}", env={"API_TOKEN": secret, "COLOUR": "blue"})
    serial = {"name": "hush", "strategy": "serial", "steps": [told], **given}
    plan = (await bus.ask("plan.submit", serial))["plan_id"]
    wish = {"name": "hush", "phases": [{"id": "one", "steps": [told]}], **given}
    book = (await bus.ask("playbook.run", wish))["playbook_id"]
    for kind, name in (("plan", plan), ("playbook", book)):
        await settled(bus, kind, name)
    file = tmp_path / "hush.capsule"
    done = place.cli("export", plan, book, "-o", str(file))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            assert secret.encode() not in archive.read(name), name
        assert rb"\"who\":\"you\"" in archive.read("events.jsonl")
    done = typed([*OPEN[:-2], "import", str(file), "--into", str(tmp_path / "hush.duckdb")])
    assert done.returncode == 0, done.stderr
    assert secret.encode() not in (tmp_path / "hush.duckdb").read_bytes()
    with shown(file) as url:
        async with httpx.AsyncClient(base_url=url.rstrip("/"), headers=HTML, timeout=20) as http:
            for path in (
                f"/plans/{plan}",
                f"/log/plan/{plan}",
                f"/playbooks/{book}",
                f"/log/playbook/{book}",
            ):
                page = (await http.get(path)).text
                assert secret not in page, path
                assert "***" in page, path
    missing = place.cli("export", "plan_" + "0" * 26, "-o", str(tmp_path / "none.capsule"))
    assert (missing.returncode, b"Plan not found" in missing.stderr) == (2, True), missing.stderr
    wrong = place.cli("export", "sched_1", "-o", str(tmp_path / "none.capsule"))
    assert b"no id of an execution, a plan or a playbook" in wrong.stderr
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("*none*")))


async def test_an_exported_run_is_shown_and_played_back_and_nothing_can_be_done(
    browser: Browser, bus: Foreign, place: Place, tmp_path: Path
) -> None:
    wish = {"shell": {"command": LINE}, "env": {"API_TOKEN": "carry-me-not", "COLOUR": "blue"}}
    execution, file = await exported(bus, place, tmp_path, description="to look at", **wish)
    with shown(file) as url:
        root = url.removesuffix(f"/executions/{execution}")
        async with visit(browser, url) as page:
            lines = page.locator("#output > div")
            await expect(page.locator("h1")).to_have_text("to look at")
            await expect(lines).to_have_text(["one", "two", "three"])
            await expect(page.locator("#capsule")).to_be_visible()
            await expect(page.locator("main form[method=post]")).to_have_count(0)
            await expect(page.get_by_text("Run…")).to_have_count(0)
            await picture(page, "capsule")
            await page.select_option("#speed", "10")
            await page.click("#play")
            await expect(page.locator("#output[data-played]")).to_be_attached()
            await expect(lines).to_have_text(["one", "two", "three"])
            await page.locator("#facts summary").first.click()
            await expect(page.locator("#facts details[open]")).to_contain_text('"API_TOKEN"')
            await expect(page.locator("#facts details[open]")).to_contain_text('"COLOUR": "blue"')
            first = await page.locator("#seq").get_attribute("min")
            await page.goto(f"{url}?seq={first}")
            await expect(page.locator("#status")).to_have_text("queued")
            await page.click("text=Back to now")
            await expect(page.locator("#status")).to_have_text("completed")
            await page.click("nav >> text=Overview")
            await expect(page.locator("#ended")).to_contain_text("to look at")
            await expect(page.locator("#stale")).to_be_hidden()
            await page.click("nav >> text=SQL")
            await page.fill("#q", "SELECT stdout, stderr FROM executions WHERE stderr LIKE '%two%'")
            await page.locator("#q").press("Control+Enter")
            await expect(page.locator("#answer td").last).to_have_text("two")
            for path in (
                "/executions",
                "/plans",
                "/playbooks",
                "/schedules",
                "/modules",
                "/decisions",
                "/dead",
            ):
                await page.goto(root + path)
                await expect(page.locator("h1")).to_be_visible()
                await expect(page.locator("main form[method=post]")).to_have_count(0)
            await page.goto(root + "/submit")
            await expect(page.get_by_role("alert")).to_contain_text("nothing can be run in it")
        async with httpx.AsyncClient(base_url=root, timeout=20) as http:
            which = {"execution_id": execution}
            for verb in ("cancel", "retry"):
                reply = await http.post(f"/api/execution/{verb}", json=which)
                assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict"), verb
                reply = await http.post(f"/do/execution/{verb}", data=which)
                assert (reply.status_code, "this is a capsule" in reply.text) == (409, True), verb
            assert (await http.post("/submit", data={"text": "true"})).status_code == 409
            wrong = await http.post("/api/query/sql", json={"sql": "DELETE FROM events"})
            assert wrong.status_code == 422
            assert (await http.get("/", headers={"Host": "evil.example"})).status_code == 421
            shown_ = (await http.get(f"/executions/{execution}")).json()
            assert (shown_["stdout"], shown_["stderr"]) == ("one\n\x1b[32mthree\x1b[0m\n", "two\n")
            for each in ("/", f"/log/execution/{execution}", f"/executions/{execution}"):
                assert "carry-me-not" not in (await http.get(each, headers=HTML)).text
    with zipfile.ZipFile(file) as archive:
        assert all(b"carry-me-not" not in archive.read(name) for name in archive.namelist())


async def test_a_file_of_the_format_before_opens_and_one_of_the_next_is_refused(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    execution, file = await exported(bus, place, tmp_path, shell={"command": "echo old"})
    kept = ("version", "made_at", "executions", "events", "sha256")
    for number in (2, 4):
        other = tmp_path / f"{number}.capsule"
        with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w") as target:
            for each in source.namelist():
                content = source.read(each)
                if each == "manifest.json":
                    manifest = json.loads(content)
                    content = json.dumps({"format": number} | {name: manifest[name] for name in kept})
                target.writestr(each, content)
    with shown(tmp_path / "2.capsule") as url:
        assert url.endswith(f"/executions/{execution}")
        async with httpx.AsyncClient(timeout=20) as http:
            assert (await http.get(url)).json()["stdout"] == "old\n"
    done = typed([*OPEN, str(tmp_path / "4.capsule")])
    assert (done.returncode, b"has format 4; this version reads up to 3" in done.stderr) == (2, True)


async def test_a_file_that_was_damaged_is_refused_with_a_sentence(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    _, file = await exported(bus, place, tmp_path, shell={"command": "echo whole"})
    whole = file.read_bytes()

    def refusal(content: bytes) -> tuple[int, str]:
        file.write_bytes(content)
        done = typed([*OPEN, str(file)])
        assert done.stdout == b""
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stderr.decode()

    for content in (b"", b"no zip file", whole[: len(whole) // 2], whole[:60] + b"xxxx" + whole[64:]):
        code, text = refusal(content)
        assert code == 2, text
        assert "is no capsule, or not a whole one" in text
        assert "export it again" in text
    for name, old, new, said in (
        ("events.jsonl", b"exit_code", b"exit_cope", "events.jsonl in"),
        ("log", b"whole", b"whine", "_stdout.log in"),
    ):
        file.write_bytes(whole)
        changed = tmp_path / "changed"
        with zipfile.ZipFile(file) as source, zipfile.ZipFile(changed, "w") as target:
            for each in source.namelist():
                content = source.read(each)
                target.writestr(each, content.replace(old, new) if each.endswith(name) else content)
        code, text = refusal(changed.read_bytes())
        assert code != 0
        assert f"{said} {file} was changed" in text
    file.unlink()
    done = typed([*OPEN, str(file)])
    assert (done.returncode, b"there is no file" in done.stderr) == (2, True)
