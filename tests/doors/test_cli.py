"""The command line where no node runs: help, refusals, exit codes, and progress from inside a command."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from events.service import Execution
from interfaces.cli import VERBS, cli, options
from interfaces.cli.show import cell

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def ended(status: str, **more: object) -> Execution:
    fields: dict[str, Any] = dict.fromkeys(Execution.__struct_fields__)
    fields |= {"status": status, "error": {}, **more}
    return Execution(**fields)


@pytest.mark.parametrize(
    ("execution", "code"),
    [
        (ended("completed", exit_code=0), 0),
        (ended("failed", reason="command_failed", exit_code=3), 3),
        (ended("failed", reason="command_failed", signal="SIGKILL"), 137),
        (ended("failed", reason="command_failed", signal="SIGRTMIN+1"), 163),
        (ended("timed_out", signal="SIGTERM"), 124),
        (ended("cancelled", signal="SIGTERM"), 130),
        (ended("failed", reason="spawn_failed", error={"details": {"errno": "ENOENT"}}), 127),
        (ended("failed", reason="spawn_failed", error={"details": {"errno": "EACCES"}}), 126),
        (ended("failed", reason="lost"), 125),
        (ended("failed", reason="output_limit", signal="SIGKILL"), 125),
        (ended("failed", reason="poisoned"), 125),
        (ended("failed", reason="io"), 125),
    ],
)
def test_an_end_becomes_an_exit_code(execution: Execution, code: int) -> None:
    assert options.exit_code(execution) == code


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"hindbrain {verb}" in shown.output
    assert "--help" in shown.output


def test_help_lists_every_verb(hindbrain: Run) -> None:
    shown = hindbrain("--help").stdout.decode()
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", [("status", "x"), ("list",), ("sql", "SELECT 1"), ("info",), ("down",)])
def test_without_a_node_it_ends_with_3(hindbrain: Run, verb: tuple[str, ...]) -> None:
    done = hindbrain(*verb, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"
    assert done.stderr == b""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--shell", "--code", "--", "x"),
        ("nothing",),
        ("wait",),
        ("run", "--env", "X", "--", "a"),
    ],
)
def test_a_mistake_ends_with_2_and_json_is_only_the_error(hindbrain: Run, arguments: tuple[str, ...]) -> None:
    assert hindbrain(*arguments).returncode == 2
    first, *rest = arguments
    done = hindbrain(first, "--json", *rest)
    assert (done.returncode, done.stderr) == (2, b"")
    assert json.loads(done.stdout)["error"]["code"] == "validation"


def test_json_behind_the_dashes_belongs_to_the_command(hindbrain: Run) -> None:
    done = hindbrain("nothing", "--", "--json")
    assert done.stdout == b""
    assert done.stderr


def test_an_unknown_setting_is_refused_with_a_proposal(hindbrain: Run) -> None:
    done = hindbrain("settings", HINDBRAIN_HTTP__PROT="1")
    assert done.returncode == 2
    assert b"did you mean 'HINDBRAIN_HTTP__PORT'" in done.stderr


def test_settings_tell_value_and_origin(hindbrain: Run) -> None:
    shown = json.loads(hindbrain("settings", "--json", HINDBRAIN_HTTP__PORT="9").stdout)
    assert shown["http.port"] == {"value": 9, "origin": "HINDBRAIN_HTTP__PORT"}
    assert shown["lease_seconds"]["origin"] == "default"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (("3", "10", "third"), {"current": 3, "total": 10, "unit": None, "message": "third"}),
        (("3",), {"current": 3, "total": None, "unit": None, "message": None}),
        (("3", "third"), {"current": 3, "total": None, "unit": None, "message": "third"}),
        (("60%",), {"current": 60, "total": 100.0, "unit": "%", "message": None}),
        (("2.5", "4", "--unit", "MB"), {"current": 2.5, "total": 4, "unit": "MB", "message": None}),
    ],
)
def test_progress_appends_one_line(
    call: Run, tmp_path: Path, said: tuple[str, ...], line: dict[str, object]
) -> None:
    file = tmp_path / "run" / "exec_1.progress"
    for _ in range(2):
        assert call(tmp_path, "progress", *said, HINDBRAIN_EXECUTION_ID="exec_1").returncode == 0
    first, second = map(json.loads, file.read_text().splitlines())
    assert {name: first[name] for name in line} == line
    assert 0 <= second["time"] - first["time"] < 60
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("said", [("many",), ("50%", "10", "x"), ("-1",)])
def test_progress_that_is_none_is_refused(call: Run, tmp_path: Path, said: tuple[str, ...]) -> None:
    assert call(tmp_path, "progress", *said, HINDBRAIN_EXECUTION_ID="exec_1").returncode == 2
    assert call(tmp_path, "progress", "1").returncode == 2


def test_progress_reads_nothing_heavy(call: Run, tmp_path: Path) -> None:
    done = call(tmp_path, "progress", "1", HINDBRAIN_EXECUTION_ID="exec_1", PYTHONPROFILEIMPORTTIME="1")
    read = done.stderr.decode()
    assert not [name for name in ("nats", "msgspec", "duckdb", "asyncio", "rich") if f"| {name}\n" in read]


def test_a_table_cannot_be_used_to_talk_to_the_terminal() -> None:
    assert cell("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_is_a_script(shell: str) -> None:
    assert "_HINDBRAIN_COMPLETE" in CliRunner().invoke(cli, ["completion", shell]).output
