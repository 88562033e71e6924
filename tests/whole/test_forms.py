"""Every form of a command, and everything that can stand beside it."""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, connect

from interfaces.api import ExecutionEngine

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]
MIB = 1024 * 1024

PROGRAMS = {
    "python": "import sys; print(sys.stdin.read() + 'ä \"q\" $HOME')",
    "bash": '[[ a == a ]] && echo "$(cat)ä \\"q\\" \\$HOME"',
    "sh": 'echo "$(cat)ä \\"q\\" \\$HOME"',
    "zsh": 'echo "$(cat)ä \\"q\\" \\$HOME"',
    "fish": "echo (cat)'ä \"q\" $HOME'",
    "node": "console.log(require('fs').readFileSync(0, 'utf8') + 'ä \"q\" $HOME')",
    "perl": 'print <STDIN>, \'ä "q" $HOME\', "\\n"',
    "ruby": "puts STDIN.read + 'ä \"q\" $HOME'",
    "php": 'echo stream_get_contents(STDIN), \'ä "q" $HOME\', "\\n";',
    "lua": "print(io.read('a') .. 'ä \"q\" $HOME')",
    "awk": '{ print $0 "ä \\"q\\" $HOME" }',
    "tcl": 'puts "[read stdin]ä \\"q\\" \\$HOME"',
    "r": "cat(readLines('stdin'), 'ä \"q\" $HOME\\n', sep='')",
}


@pytest.mark.parametrize("language", PROGRAMS)
async def test_code_runs_in_every_language_of_this_machine(
    bus: Foreign, info: dict[str, Any], language: str
) -> None:
    body: dict[str, Any] = {"code": PROGRAMS[language], "language": language.upper(), "stdin": "in "}
    if info["languages"][language] is None:
        with pytest.raises(Refused) as caught:
            await bus.ask("execution.submit", body)
        assert "install" in caught.value.message
        return
    done = await bus.run(**body)
    assert (done["exit_code"], done["language"]) == (0, language), done["result"]
    assert done["result"]["stdout"] == 'in ä "q" $HOME\n'


async def test_all_languages_are_tried(info: dict[str, Any]) -> None:
    assert set(info["languages"]) == set(PROGRAMS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho sh $0 | sed 's|/.*/||'\n", "sh a b.x\n"),
        ("#!/usr/bin/env -S python3 -u\nimport sys; print('py', sys.argv[1:])\n", "py []\n"),
        ("echo bash ${BASH_VERSION:+yes}\n", "bash yes\n"),
        ("", ""),
    ],
)
async def test_a_script_is_run_by_whom_it_names(bus: Foreign, tmp_path: Path, text: str, said: str) -> None:
    folder = tmp_path / "with space ä"
    folder.mkdir()
    path = folder / "a b.x"
    path.write_text(text)
    assert (await bus.run(script={"path": str(path)}))["result"]["stdout"] == said
    relative = await bus.run(script={"path": "a b.x"}, working_dir=str(folder))
    assert relative["result"]["stdout"] == said


async def test_a_script_may_be_given_an_interpreter(bus: Foreign, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("print(6 * 7)")
    assert (await bus.run(script={"path": str(path), "interpreter": "python3"}))["result"]["stdout"] == "42\n"


async def test_arguments_reach_a_program_as_they_are(bus: Foreign) -> None:
    args = ["", " ", "a b", "*", "$HOME", "`id`", "ä😀", "--", "-n", "\n", "'\"\\"]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    done = await bus.run(exec={"program": "python3", "args": ["-c", code, *args]})
    assert json.loads(done["result"]["stdout"]) == args


async def test_a_shell_line_is_for_the_shell_that_was_named(bus: Foreign) -> None:
    assert (await bus.run(shell={"command": "echo a | tr a b && echo $0"}))["result"][
        "stdout"
    ] == "b\n/bin/sh\n"
    bash = await bus.run(shell={"command": "echo {1..3}", "shell": "/bin/bash"})
    assert bash["result"]["stdout"] == "1 2 3\n"


AWS = """#!/bin/sh
printf '{"args": "%s", "profile": "%s", "region": "%s", "output": "%s"}' \
    "$*" "$AWS_PROFILE" "$AWS_REGION" "$AWS_OUTPUT"
"""


async def test_aws_gets_its_environment_and_the_request_wins(bus: Foreign, tmp_path: Path) -> None:
    program = tmp_path / "aws"
    program.write_text(AWS)
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    call = {"service": "s3api", "operation": "list-buckets", "args": ["--max-items", "1"]}
    first = await bus.run(aws=call | {"profile": "dev", "region": "eu-central-1"}, env=path)
    assert json.loads(first["result"]["stdout"]) == {
        "args": "s3api list-buckets --max-items 1",
        "profile": "dev",
        "region": "eu-central-1",
        "output": "json",
    }
    assert first["command"] == "aws s3api list-buckets --max-items 1"
    own = {"AWS_OUTPUT": "text", "AWS_PROFILE": "mine", "AWS_REGION": "us-east-1"}
    second = await bus.run(aws=call | {"profile": "dev", "region": "eu-central-1"}, env=path | own)
    assert json.loads(second["result"]["stdout"]) | {"args": ""} == {
        "args": "",
        "profile": "mine",
        "region": "us-east-1",
        "output": "text",
    }


async def test_env_and_folder_are_what_was_asked_for(bus: Foreign, place: Place, tmp_path: Path) -> None:
    env = {"A": "ä b\n$c", "EMPTY": ""}
    code = "import os, json; print(json.dumps([dict(os.environ), os.getcwd()]))"
    seen, folder = json.loads(
        (await bus.run(code=code, env=env, working_dir=str(tmp_path)))["result"]["stdout"]
    )
    assert (seen["A"], seen["EMPTY"], folder) == (env["A"], "", str(tmp_path))
    assert seen["HINDBRAIN_EXECUTION_ID"].startswith("exec_")
    assert seen["HINDBRAIN_DATA"] == str(place.data)
    ours = {name for name in seen if name.startswith(("HINDBRAIN_", "NATS_"))}
    assert ours <= {"HINDBRAIN_EXECUTION_ID", "HINDBRAIN_DATA", "HINDBRAIN_ATTEMPT"}
    assert not any("nats://" in value for value in seen.values())
    done = await bus.run(code=code)
    assert json.loads(done["result"]["stdout"])[1] == str(place.data / "work" / done["id"])
    assert (await bus.run(code="import sys; print(repr(sys.stdin.read()))"))["result"]["stdout"] == "''\n"


async def test_limits_hold(bus: Foreign) -> None:
    memory = await bus.run(code="x = bytearray(400_000_000)", limits={"memory_bytes": 200_000_000})
    assert (memory["status"], "MemoryError" in memory["result"]["stderr"]) == ("failed", True)
    cpu = await bus.run(code="while True: pass", limits={"cpu_seconds": 1})
    assert (cpu["status"], cpu["signal"]) == ("failed", "SIGXCPU")
    files = await bus.run(shell={"command": "ulimit -n"}, limits={"open_files": 77})
    assert files["result"]["stdout"] == "77\n"


async def test_too_much_output_ends_the_command(bus: Foreign) -> None:
    done = await bus.run(shell={"command": "yes"}, limits={"output_bytes": 100_000})
    assert (done["status"], done["reason"], done["exit_code"]) == ("failed", "output_limit", None)
    assert done["error"]["code"] == "output_limit"
    assert done["stdout_bytes"] >= 100_000
    just = await bus.run(shell={"command": "head -c 1000 /dev/zero"}, limits={"output_bytes": 1000})
    assert just["status"] == "completed"
    more = await bus.run(shell={"command": "head -c 1001 /dev/zero"}, limits={"output_bytes": 1000})
    assert more["reason"] in (None, "output_limit")


@pytest.mark.parametrize(("given", "name"), [(1, "critical"), (5, "idle"), ("HIGH", "high"), ("low", "low")])
async def test_priorities_have_names_and_numbers(bus: Foreign, given: Any, name: str) -> None:
    done = await bus.run(exec={"program": "true"}, priority=given)
    assert done["priority"] == name
    events = (await bus.ask("execution.events", {"execution_id": done["id"]}))["events"]
    queued = next(each for each in events if each["event"] == "queued")
    message = await bus.js.get_msg("BRAIN_EVENTS", queued["seq"])
    assert message.subject.endswith(f".{queued['n']}.queued.commands.{name}")


async def test_words_beside_a_command_are_kept(bus: Foreign) -> None:
    done = await bus.run(exec={"program": "true"}, description="Größe 😀 <b>", labels=["a-1", "b_2"])
    assert (done["description"], done["labels"]) == ("Größe 😀 <b>", ["a-1", "b_2"])
    assert (done["command"], done["module"], done["attempt"]) == ("true", "commands", 1)


@pytest.mark.parametrize("limit", [{"timeout_ms": 300}, {"timeout": 0.3}])
async def test_time_runs_out(bus: Foreign, limit: dict[str, Any]) -> None:
    done = await bus.run(shell={"command": "echo begun; sleep 30"}, **limit)
    assert (done["status"], done["exit_code"]) == ("timed_out", None)
    assert done["error"]["message"] == "Execution timeout after 300ms"
    assert done["result"]["stdout"] == "begun\n"
    assert 0.3 <= done["elapsed_seconds"] < 5


async def test_a_megabyte_goes_through_every_door(bus: Foreign, place: Place, tmp_path: Path) -> None:
    text = "€" * (MIB // 3)
    size = len(text.encode())
    code = f"import sys; s = {text!r}; print(len(s.encode()), len(sys.stdin.buffer.read()))"
    async with ExecutionEngine.new({"data": place.data}) as engine:
        execution = await engine.execute({"code": code, "stdin": text})
        assert (await engine.wait_for_completion(execution)).status == "completed"
        assert (await engine.get_result(execution)).stdout == f"{size} {size}\n"
    file = tmp_path / "in"
    file.write_bytes(text.encode())
    done = await asyncio.to_thread(
        place.cli, "run", "--code", "--stdin", str(file), "--", "-", stdin=code.encode()
    )
    assert done.stdout == f"{size} {size}\n".encode(), done.stderr


async def test_100_mib_of_stdin_come_from_any_object_store_client(bus: Foreign, tmp_path: Path) -> None:
    file = tmp_path / "big"
    sha = hashlib.sha256()
    with file.open("wb") as out:
        for n in range(101):
            part = bytes([n]) * MIB
            sha.update(part)
            out.write(part)
    store = await bus.js.object_store("BRAIN_BLOBS")
    with file.open("rb") as content:
        await store.put(sha.hexdigest(), content)
    done = await bus.run(exec={"program": "sha256sum"}, stdin={"blob": sha.hexdigest()}, seconds=100)
    assert done["result"]["stdout"].split()[0] == sha.hexdigest()


async def test_100_mib_go_through_the_python_door(place: Place) -> None:
    data = os.urandom(MIB) * 101
    async with ExecutionEngine.new({"data": place.data}) as engine:
        execution = await engine.execute({"exec": {"program": "sha256sum"}, "stdin": data})
        done = await engine.wait_for_completion(execution, 100)
        assert done.status == "completed", done.error
        said = (await engine.get_result(execution)).stdout
    assert said.split()[0] == hashlib.sha256(data).hexdigest()


async def test_what_is_stored_under_a_wrong_name_is_not_run(bus: Foreign) -> None:
    store = await bus.js.object_store("BRAIN_BLOBS")
    name = hashlib.sha256(b"something else").hexdigest()
    await store.put(name, b"print('wrong')")
    done = await bus.run(code={"blob": name})
    assert done["status"] == "failed"
    assert "holds something else" in done["error"]["message"]


async def test_any_number_of_strangers_at_once(info: dict[str, Any]) -> None:
    async def one(n: int) -> str:
        async with connect(info["nats_url"]) as bus:
            return (await bus.run(exec={"program": "echo", "args": [str(n)]}))["result"]["stdout"]

    assert await asyncio.gather(*(one(n) for n in range(20))) == [f"{n}\n" for n in range(20)]
