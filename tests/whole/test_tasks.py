"""Tasks go from engine to engine, through crashes and to other nodes, and lose nothing on the way.

It is long because every engine and every place of a crash has a story of its own.
"""

import asyncio
import fcntl
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, Refused, clean, connect, gone, kill

from events.ir import TaskIR
from interfaces.adapters import MCPIRAdapter, PlaybookIRAdapter
from interfaces.api import ExecutionEngine
from interfaces.settings import load
from interfaces.tasks import HandoffHandler, Tasks

pytestmark = pytest.mark.asyncio
ADDER = Path(__file__).parent / "adder.py"
SERVERS = Path(__file__).parent / "servers" / "package.json"
CACHE = Path(__file__).parents[1] / ".cache"
WAIT_MS = 90_000
SEVEN = "echo n=seven >> $HINDBRAIN_OUTPUT"


def configure(data: Path, *more: str) -> None:
    data.mkdir(exist_ok=True)
    lines = ["[mcp.adder]", f"command = {sys.executable!r}", f"args = ['{ADDER}']", *more]
    (data / "hindbrain.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def fresh(own: Place) -> Place:
    configure(own.data)
    return own.up()


@pytest.fixture(scope="module")
def tools(shared: Place) -> Place:
    configure(shared.data)
    return shared.up()


@pytest_asyncio.fixture
async def node(tools: Place) -> AsyncGenerator[Foreign]:
    async with connect(tools.wrote["nats_url"]) as bus:
        yield bus


@pytest_asyncio.fixture
async def alone(fresh: Place) -> AsyncGenerator[Foreign]:
    async with connect(fresh.wrote["nats_url"]) as bus:
        yield bus


async def typed(place: Place, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Type a verb of a group."""
    line, env = [sys.executable, "-P", "-m", "interfaces.cli", *words], clean(HINDBRAIN_DATA=str(place.data))
    return await asyncio.to_thread(
        subprocess.run, line, env=env, capture_output=True, timeout=100, check=False
    )


def book(command: str, **more: Any) -> dict[str, Any]:
    step = {"name": "do", "shell": {"command": command}, "artifacts": ["*.txt"]}
    return {"phases": [{"id": "only", "steps": [step]}], **more}


def three(folder: Path, name: str = "move") -> dict[str, Any]:
    """A playbook, a tool, and a playbook again; each says that it begins, and waits for a file."""
    log = folder / "log"

    def gated(number: int, then: str) -> str:
        wait = f"until [ -e {folder}/go{number} ]; do sleep 0.02; done"
        return f"echo playbook{number} >> {log}; {wait}; {then}"

    values = {"path": f"{folder}/go1", "log": str(log), "text": "${steps.one.outputs.do.n}"}
    last: dict[str, Any] = {"params": {"n": {}}, **book(gated(2, "echo last ${params.n} > last.txt"))}
    phases: list[dict[str, Any]] = [
        {
            "id": "one",
            "preferred_engine": "playbook:make",
            "work": book(gated(0, "echo first > first.txt; echo n=seven >> $HINDBRAIN_OUTPUT")),
        },
        {"id": "two", "preferred_engine": "mcp:adder/linger", "values": values, "keep": ["left.txt"]},
        {
            "id": "three",
            "preferred_engine": "playbook:finish",
            "work": last,
            "values": {"n": "${steps.two.outputs.text}"},
        },
    ]
    return {"task_id": name, "phases": phases, "metadata": {"working_dir": str(folder)}}


LEFT = {f"art_{hashlib.sha256(text).hexdigest()}" for text in (b"first\n", b"seven\n", b"last seven\n")}
BEGUN = ("playbook0", "linger", "playbook2")


async def finished(bus: Foreign, task: str) -> dict[str, Any]:
    found = await bus.ask("task.wait", {"task_id": task, "timeout_ms": WAIT_MS}, WAIT_MS / 1000 + 10)
    assert found["done"], found
    return found


def ids(found: dict[str, Any]) -> set[str]:
    return {each["id"] for each in found["task"]["artifacts"]}


async def written(file: Path, text: str) -> None:
    for _ in range(3000):
        if await asyncio.to_thread(lambda: file.exists() and text in file.read_text()):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{text} was not written to {file}")


# ---- handing over ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_crash_in_any_engine_loses_nothing_and_does_nothing_twice(
    fresh: Place, tmp_path: Path, place: int
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number in range(3):
        if number != place:
            (folder / f"go{number}").touch()
    async with connect(fresh.wrote["nats_url"]) as bus:
        task = (await bus.ask("task.submit", {"task": three(folder)}))["task_id"]
        await written(folder / "log", BEGUN[place])
    pid = fresh.wrote["pid"]
    kill(pid, 9)
    assert gone(pid)
    (folder / f"go{place}").touch()
    fresh.up()
    async with connect(fresh.wrote["nats_url"]) as bus:
        found = await finished(bus, task)
        assert found["task"]["status"] == "done", found
        assert ids(found) == LEFT
        assert (folder / "log").read_text().split() == list(BEGUN)
        route = [(each["from_engine"], each["to_engine"]) for each in found["handoffs"]]
        assert route == [("playbook:make", "mcp:adder/linger"), ("mcp:adder/linger", "playbook:finish")]
        assert [each["run"] for each in found["task"]["phases"]] == [1, 1, 1]
        again = await bus.ask("task.submit", {"task": three(folder)})
        assert (again["duplicate"], again["task_id"]) == (True, task)
        sql = "SELECT phase_id, len(artifacts) AS n FROM handoffs ORDER BY seq"
        rows = (await bus.ask("query.sql", {"sql": sql, "min_seq": found["seq"]}))["rows"]
        assert rows == [["two", 1], ["three", 2]]


async def test_a_phase_that_runs_is_handed_over_once_its_engine_lets_go(
    tools: Place, node: Foreign, tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"go{number}").touch()
    whole = three(folder, "let-go")
    whole["phases"][0]["work"]["phases"][0]["steps"].insert(
        0, {"name": "before", "shell": {"command": "echo early > early.txt"}, "artifacts": ["early.txt"]}
    )
    settings = load({"data": str(tools.data)})
    async with ExecutionEngine.new(settings) as engine:
        tasks = Tasks(engine)
        task = (await tasks.initiate_task_execution(whole))["task_id"]
        await written(folder / "log", "playbook0")
        values = {"path": f"{folder}/go1", "log": f"{folder}/log", "text": "first"}
        with pytest.raises(Exception, match="did you mean 'mcp'"):
            await tasks.handoff(task, "mpc:adder/linger")
        reply = await tasks.handoff(
            task, "mcp:adder/linger", values=values, keep=["left.txt"], work={}, reason="it takes too long"
        )
        assert (reply["changed"], reply["from_engine"]) == (True, "playbook:make")
        # The second phase needs what the first one would have left as a playbook.
        found, done = await tasks.wait(task, 60)
        assert done
        assert found["task"]["status"] == "failed"
        assert "there is no 'do'" in found["problem"]["message"]
        first = found["task"]["phases"][0]
        assert (first["run"], first["status"], first["outputs"]["text"]) == (2, "done", "first")
        early = f"art_{hashlib.sha256(b'early' + bytes([10])).hexdigest()}"
        assert early in ids(found), "what it left before it was handed over is not lost"
        event = {
            "task_ir": found["task"],
            "from_engine": "mcp:adder/linger",
            "to_engine": "mcp:adder/shout",
            "phase_id": "two",
        }
        told = await HandoffHandler(engine).handle_handoff(event)
        assert told["changed"]
        refused = await tasks.wait(task, 60)
        assert refused[0]["task"]["status"] == "failed"
        await tasks.handoff(task, "mcp:adder/shout", values={"words": "seven"})
        found, done = await tasks.wait(task, 60)
        assert (done, found["task"]["status"]) == (True, "done"), found
        assert (folder / "last.txt").read_text() == "last SEVEN\n"
        with pytest.raises(Exception, match="is done: only what is not behind it"):
            await tasks.handoff(task, "mcp:adder/add", phase_id="two")
    stopped = (await node.ask("playbook.list", {"status": "cancelled", "name": "make"}))["playbooks"]
    assert len(stopped) == 1


async def test_a_handoff_brings_a_task_that_nobody_here_knows(tools: Place, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for number in range(3):
        (folder / f"go{number}").touch()
    whole = three(folder, "brought")
    whole["phases"][0] |= {"status": "done", "outputs": {"do": {"n": "seven"}}, "artifacts": ["art_x"]}
    whole["artifacts"] = [{"id": "art_x", "phase_id": "one"}]
    event = {
        "task_ir": whole,
        "from_engine": "elsewhere:x",
        "to_engine": "mcp:adder/linger",
        "phase_id": "two",
        "reason": "it is yours",
    }
    async with ExecutionEngine.new(load({"data": str(tools.data)})) as engine:
        told = await HandoffHandler(engine).handle_handoff(event)
        again = await HandoffHandler(engine).handle_handoff(event)
        assert (told["changed"], again["changed"], again["task_id"]) == (True, False, told["task_id"])
        found, done = await Tasks(engine).wait(told["task_id"], 60)
        assert (done, found["task"]["status"]) == (True, "done"), found
        assert "art_x" in ids(found)
        assert not (folder / "first.txt").exists(), "what is behind it is not done again"


async def test_what_waits_goes_on_and_what_is_not_wanted_stops(
    tools: Place, node: Foreign, tmp_path: Path
) -> None:
    made = book("cat needed && echo ok > ok.txt")
    task: dict[str, Any] = {
        "phases": [{"id": "one", "preferred_engine": "playbook:x", "work": made}],
        "metadata": {"working_dir": str(tmp_path)},
    }
    name = (await node.ask("task.submit", {"task": task}))["task_id"]
    found = await node.ask("task.wait", {"task_id": name, "timeout_ms": WAIT_MS}, 100)
    assert (found["done"], found["task"]["status"]) == (False, "paused")
    assert "step do" in found["reason"]
    (tmp_path / "needed").touch()
    assert (await node.ask("task.resume", {"task_id": name}))["changed"]
    found = await finished(node, name)
    assert (found["task"]["status"], found["task"]["phases"][0]["run"]) == ("done", 1)

    task["phases"][0]["work"] = book("echo begun > begun; sleep 600")
    name = (await node.ask("task.submit", {"task": task}))["task_id"]
    await written(tmp_path / "begun", "begun")
    assert (await node.ask("task.cancel", {"task_id": name, "reason": "enough"}))["changed"]
    found = await finished(node, name)
    assert found["task"]["status"] == found["task"]["phases"][0]["status"] == "cancelled"
    assert not (await node.ask("task.cancel", {"task_id": name}))["changed"]
    for verb, body in (("get", {}), ("handoff", {"to_engine": "mcp:a/b"}), ("wait", {"timeout_ms": 0})):
        with pytest.raises(Refused) as refused:
            await node.ask(f"task.{verb}", {"task_id": "task_nobody", **body})
        assert refused.value.code == "not_found"


async def test_plans_of_templates_are_engines_too(node: Foreign) -> None:
    steps = [{"name": "say", "shell": {"command": "echo said=${params.word} >> $HINDBRAIN_OUTPUT"}}]
    plan: dict[str, Any] = {"params": {"word": {}}, "steps": steps}
    await node.ask("template.save", {"name": "say", "plan": plan})
    phases: list[dict[str, Any]] = [
        {"id": "one", "preferred_engine": "plan:say", "values": {"word": "well ${params.x"}},
        {
            "id": "two",
            "preferred_engine": "mcp:adder/shout",
            "values": {"words": "${steps.one.outputs.say.said}"},
        },
    ]
    name = (await node.ask("task.submit", {"task": {"phases": phases}}))["task_id"]
    found = await finished(node, name)
    assert found["task"]["status"] == "done", found["problem"]
    assert found["task"]["phases"][1]["outputs"]["text"] == "WELL ${PARAMS.X"
    phases[0]["preferred_engine"] = "plan:nothing"
    with pytest.raises(Refused, match="nothing"):
        await node.ask("task.submit", {"task": {"phases": phases}})


# ---- in the words of others ------------------------------------------------------------------------------


async def test_what_it_becomes_as_a_playbook_and_in_mcp_leaves_the_same(
    tools: Place, node: Foreign, tmp_path: Path
) -> None:
    runs = [tmp_path / name for name in ("task", "playbook", "mcp", "tool")]
    for folder in runs:
        folder.mkdir()
        for number in range(3):
            (folder / f"go{number}").touch()
    task = (await node.ask("task.submit", {"task": three(runs[0])}))["task_id"]
    assert ids(await finished(node, task)) == LEFT

    def read(folder: Path) -> TaskIR:
        return PlaybookIRAdapter().from_playbook(_as_task(three(folder)))

    file = tmp_path / "book.json"
    file.write_text(PlaybookIRAdapter().to_playbook(read(runs[1])))
    done = await typed(tools, "playbook", "run", str(file), "--json")
    assert done.returncode == 0, done.stderr.decode()
    steps = json.loads(done.stdout)["steps"]
    assert {each for step in steps for each in step["artifacts"]} == LEFT
    file.write_text(MCPIRAdapter().to_mcp(read(runs[2])).replace('"move"', '"move-again"'))
    done = await typed(tools, "task", "run", str(file), "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert ids(json.loads(done.stdout)) == LEFT
    found = json.loads(done.stdout)["task"]["task_id"]
    shown = await typed(tools, "task", "export", found, "--as", "mcp")
    wire = json.loads(shown.stdout)
    assert (wire["taskId"], wire["status"]) == (found, "completed")
    assert ids({"task": {"artifacts": wire["request"]["params"]["arguments"]["task"]["artifacts"]}}) == LEFT
    # The task of one tool is the call of that tool, whoever makes it.
    one = three(runs[3])["phases"][1] | {
        "values": {"path": f"{runs[3]}/go1", "log": f"{runs[3]}/log", "text": "seven"}
    }
    said = {"task_id": "tool", "phases": [one], "metadata": {"working_dir": str(runs[3])}}
    call = json.loads(MCPIRAdapter().to_mcp(PlaybookIRAdapter().from_playbook(_as_task(said))))["request"][
        "params"
    ]
    words = ("call", "adder", call["name"], json.dumps(call["arguments"]))
    done = await asyncio.to_thread(
        subprocess.run, tools.command(*words), cwd=runs[3], capture_output=True, timeout=60, check=True
    )
    assert (runs[3] / "left.txt").read_bytes() == b"seven\n" == (runs[0] / "left.txt").read_bytes()


def _as_task(whole: dict[str, Any]) -> str:
    """A task as the text of a playbook, by the adapter, from plain data."""
    import msgspec

    return PlaybookIRAdapter().to_playbook(msgspec.convert(whole, TaskIR))


async def test_tasks_of_another_system_run_as_playbooks_without_checkpoints(
    fresh: Place, alone: Foreign, tmp_path: Path
) -> None:
    lines: list[dict[str, Any]] = [
        {
            "id": 7,
            "title": "Make it",
            "status": "todo",
            "command": f"echo made > {tmp_path}/made",
            "owner": "ann",
        },
        {"id": 8, "title": "Long ago", "status": "Completed"},
        {"id": 9, "title": "Two", "state": "in progress", "steps": ["true", {"exec": {"program": "true"}}]},
    ]
    file = tmp_path / "old.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    done = await typed(fresh, "task", "import", str(file), "--json")
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    for each in made:
        assert (await finished(alone, each["task_id"]))["task"]["status"] == "done"
    assert (tmp_path / "made").read_text() == "made\n"
    again = await typed(fresh, "task", "import", str(file), "--json")
    assert [each["duplicate"] for each in json.loads(again.stdout)] == [True] * 3
    sql = "SELECT playbook_code, supports_resume, checkpoints FROM playbook_executions ORDER BY playbook_code"
    rows = (await alone.ask("query.sql", {"sql": sql, "min_seq": await alone.last()}))["rows"]
    assert rows == [["Make-it", False, 0], ["Two", False, 0]]
    sql = (
        "SELECT source, source_id, source_status, metadata->>'$.extra.owner' FROM task_ir ORDER BY source_id"
    )
    rows = (await alone.ask("query.sql", {"sql": sql}))["rows"]
    assert rows == [
        ["old", "7", "todo", "ann"],
        ["old", "8", "Completed", None],
        ["old", "9", "in progress", None],
    ]
    file.write_text(json.dumps({"id": 10, "command": "true"}) + "\n" + json.dumps({"id": 11}) + "\n")
    bad = await typed(fresh, "task", "import", str(file))
    assert bad.returncode == 2
    assert "task 2: it does not say what is to be done" in bad.stderr.decode()
    listed = await typed(fresh, "task", "list", "--json")
    assert len(json.loads(listed.stdout)) == 3, "nothing of a file that is wrong is taken on"


# ---- another Hindbrain -----------------------------------------------------------------------------------


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def far(tmp_path: Path) -> Generator[tuple[Place, str]]:
    """Another node, on its own NATS server, whose door needs a token."""
    place, number = Place(tmp_path / "far"), port()
    configure(place.data, "[http]", f"port = {number}", "token = 'geheim'")
    up(place)
    yield place, f"http://127.0.0.1:{number}"
    place.end()


def up(place: Place) -> None:
    done = place.cli("up", "--detach", "--nats-port", "0")
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


async def test_another_hindbrain_does_a_phase_and_gives_it_back(
    own: Place, far: tuple[Place, str], tmp_path: Path
) -> None:
    there, url = far
    folder, away = tmp_path / "f", tmp_path / "away"
    for each in (folder, away):
        each.mkdir()
    for number in (0, 2):
        (folder / f"go{number}").touch()
    configure(own.data, "[remotes]", f"'{url}' = 'geheim'")
    own.up()
    whole = three(folder)
    begin = f"echo there >> {away}/log; until [ -e {away}/go ]; do sleep 0.02; done"
    command = f"{begin}; echo text=${{params.n}} >> $HINDBRAIN_OUTPUT; echo ${{params.n}} > left.txt"
    whole["phases"][1] = {
        "id": "two",
        "preferred_engine": f"remote:{url}",
        "work": {"params": {"n": {}}, **book(command, working_dir=str(away))},
        "values": {"n": "${steps.one.outputs.do.n}"},
    }
    whole["phases"][2]["values"] = {"n": "${steps.two.outputs.do.text}"}
    async with connect(own.wrote["nats_url"]) as bus:
        task = (await bus.ask("task.submit", {"task": whole}))["task_id"]
        await written(away / "log", "there")
        # Both nodes die while it runs there.
        for place in (there, own):
            pid = place.wrote["pid"]
            kill(pid, 9)
            assert gone(pid)
    (away / "go").touch()
    up(there)
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        found = await finished(bus, task)
        assert found["task"]["status"] == "done", found
        assert ids(found) == LEFT
        assert (away / "log").read_text() == "there\n"
        body = {"artifact_id": found["task"]["phases"][1]["artifacts"][0], "content": True}
        assert (await bus.ask("artifact.get", body))["base64"] == "c2V2ZW4K"
    listed = json.loads((await typed(there, "task", "list", "--json")).stdout)
    assert [(each["status"], each["source"]) for each in listed] == [("done", "remote")]


async def test_a_door_that_is_shut_pauses_the_task_and_stopping_it_stops_it_there(
    own: Place, far: tuple[Place, str], tmp_path: Path
) -> None:
    there, url = far
    configure(own.data)
    own.up()
    work = book(f"echo there > {tmp_path}/begun; sleep 600", working_dir=str(tmp_path))
    phase = {"id": "p", "preferred_engine": f"remote:{url}", "work": work}
    async with connect(own.wrote["nats_url"]) as bus:
        task = (await bus.ask("task.submit", {"task": {"phases": [phase]}}))["task_id"]
        found = await bus.ask("task.wait", {"task_id": task, "timeout_ms": WAIT_MS}, 100)
        assert (found["done"], found["task"]["status"]) == (False, "paused"), found
        configure(own.data, "[remotes]", f"'{url}' = 'geheim'")
        await bus.ask("task.resume", {"task_id": task})
        await written(tmp_path / "begun", "there")
        await bus.ask("task.cancel", {"task_id": task})
        assert (await finished(bus, task))["task"]["status"] == "cancelled"
    listed = json.loads((await typed(there, "task", "list", "--json")).stdout)
    done = await typed(there, "task", "wait", listed[0]["id"], "--timeout", "60")
    assert done.returncode == 130
    shown = await typed(own, "settings", "--json")
    assert "geheim" not in shown.stdout.decode()


# ---- a server that others published ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def filesystem() -> Path:
    """Have npm bring it, once."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm is not on this machine: the filesystem server of MCP was not used")
    folder = CACHE / f"servers-{hashlib.sha256(SERVERS.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copy(SERVERS, folder)
        if not (folder / "installed").exists():
            words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(words, cwd=folder, capture_output=True, timeout=170, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm could not bring the filesystem server: {done.stderr.decode()[-300:]}")
            (folder / "installed").touch()
    return folder / "node_modules" / ".bin" / "mcp-server-filesystem"


async def test_a_published_server_takes_over_in_the_middle(
    own: Place, filesystem: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    configure(own.data, "[mcp.files]", f"command = '{filesystem}'", f"args = ['{folder}']")
    own.up()
    read: dict[str, Any] = {"n": "${steps.read.outputs.text}"}
    phases: list[dict[str, Any]] = [
        {
            "id": "make",
            "preferred_engine": "playbook:make",
            "work": {"phases": [{"id": "only", "steps": [{"name": "do", "shell": {"command": SEVEN}}]}]},
        },
        {
            "id": "write",
            "preferred_engine": "mcp:files/write_file",
            "values": {"path": f"{folder}/a.txt", "content": "it is ${steps.make.outputs.do.n}\n"},
            "keep": ["a.txt"],
        },
        {
            "id": "read",
            "preferred_engine": "mcp:files/read_text_file",
            "values": {"path": f"{folder}/a.txt"},
        },
        {
            "id": "tell",
            "preferred_engine": "playbook:tell",
            "work": {"params": {"n": {}}, **book("printf '%s' ${params.n} > told.txt")},
            "values": read,
        },
    ]
    async with connect(own.wrote["nats_url"]) as bus:
        task: dict[str, Any] = {"phases": phases, "metadata": {"working_dir": str(folder)}}
        found = await finished(bus, (await bus.ask("task.submit", {"task": task}))["task_id"])
        assert found["task"]["status"] == "done", found
        assert (folder / "told.txt").read_text() == "it is seven\n"
        assert f"art_{hashlib.sha256(b'it is seven' + bytes([10])).hexdigest()}" in ids(found)
