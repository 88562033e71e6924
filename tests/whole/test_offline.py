"""An exported run shown without a node: the pages say what they said live, and can only be read."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import picture, visit
from foreign import Done, Foreign, Place, clean
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio

HTML = {"Accept": "text/html"}
LINE = "echo one; sleep 0.4; echo two >&2; sleep 0.4; printf '\\033[32mthree\\033[0m\\n'"
OPEN = [sys.executable, "-P", "-m", "interfaces.cli", "open", "--print"]
SERVER = Path(sys.executable).parent / "nats-server"
ALONE = r"""
import json, subprocess, sys, urllib.request
paths = json.loads(sys.stdin.read())
shown = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
root = shown.stdout.readline().split("/executions/")[0]
ask = lambda path: urllib.request.Request(root + path, headers={"Accept": "text/html"})
print(json.dumps([urllib.request.urlopen(ask(path)).read().decode() for path in paths]))
shown.terminate()
sys.exit(shown.wait())
"""
"""Opens a capsule and reads pages of it; it stands for itself, because it runs where nothing else is."""


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


async def test_an_exported_run_is_shown_and_played_back_and_nothing_can_be_done(
    bus: Foreign, place: Place, tmp_path: Path
) -> None:
    wish = {"shell": {"command": LINE}, "env": {"API_TOKEN": "carry-me-not", "COLOUR": "blue"}}
    execution, file = await exported(bus, place, tmp_path, description="to look at", **wish)
    with shown(file) as url:
        root = url.removesuffix(f"/executions/{execution}")
        async with visit(url) as page:
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
