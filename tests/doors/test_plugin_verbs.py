"""Plugins, their tools, jobs and modules on the command line of a real node."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from interfaces.cli import tools

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def told(done: "subprocess.CompletedProcess[bytes]", code: int = 0) -> str:
    """What was printed."""
    assert done.returncode == code, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\nText.\n")
    (tmp_path / "docs" / "about.md").write_text("# About\n")
    return tmp_path


@pytest.fixture
def here(data: Path, folder: Path, node: Run) -> Run:
    """The command line next to a node, typed in a folder with Markdown, once the plugin is loaded."""
    while not json.loads(told(node("job", "types", "--json"))):
        pass

    def typed(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDBRAIN_")}
        return subprocess.run(
            [sys.executable, "-P", "-m", "interfaces.cli", *arguments],
            env={**kept, "HINDBRAIN_DATA": str(data)},
            cwd=folder,
            capture_output=True,
            timeout=60,
            input=stdin,
            check=False,
        )

    return typed


def test_a_tool_is_a_verb_whose_paths_count_from_here(here: Run, folder: Path) -> None:
    done = here("build-site", "--output-dir", "./dist", "--wait")
    result = json.loads(told(done))
    assert result["success"]
    assert result["outputDir"] == str(folder / "dist")
    assert b"Built 2 routes" in done.stderr
    assert (folder / "dist" / "about.html").is_file()
    again = here("build-site", "--output-dir", "dist", "--no-clean")
    assert told(again).startswith("Site build queued: hindbrain wait exec_")
    assert told(here("wait", told(again).split()[-1])).count("completed") == 1


def test_a_tool_replies_as_json(here: Run, folder: Path) -> None:
    reply = json.loads(told(here("build-site", "--output-dir", str(folder / "dist"), "--json")))
    assert reply == {
        "status": "queued",
        "message": "Site build queued",
        "jobId": reply["jobId"],
        "tip": "Use the status tool to check build progress",
    }


def test_a_batch_of_a_tool_is_followed_to_its_end(here: Run, folder: Path) -> None:
    done = here("generate", "--page", "landing", "--wait")
    assert "3/3 sections (100%)" in told(done)
    assert b"3/3 sections (100%)" in done.stderr
    assert len(list((folder / "docs" / "_pages" / "landing").iterdir())) == 3


def test_a_build_with_errors_ends_with_1(here: Run, folder: Path) -> None:
    (folder / "dist").mkdir()
    (folder / "dist" / "letter.txt").write_text("dear")
    done = here("build-site", "--output-dir", "dist", "--wait")
    assert "no build has written" in json.loads(told(done, 1).splitlines()[-1])["errors"][0]


def test_what_a_tool_takes_stands_in_its_help(here: Run) -> None:
    shown = told(here("build-site", "--help"))
    assert "Build a static site" in shown
    assert "--output-dir PATH" in shown
    assert "[required]" in shown
    assert "--clean / --no-clean" in shown
    assert b"Missing option '--output-dir'" in here("build-site").stderr
    assert here("build-site", "--output-dir", "x", "--typo").returncode == 2


def test_a_verb_that_is_none_may_have_meant_a_tool(here: Run) -> None:
    done = here("biuld-site", "--output-dir", "x")
    assert done.returncode == 2
    assert b"Did you mean 'build-site'?" in done.stderr


def test_without_the_token_a_tool_for_administrators_is_not_there(here: Run, data: Path) -> None:
    token = data / "admin.token"
    kept = token.rename(data / "elsewhere")
    try:
        assert here("build-site", "--output-dir", "x").returncode == 2
        done = here("plugin", "call", "build-site", '{"outputDir": "/x"}', "--json")
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["details"] == {"visibility": "admin"}
        assert "generate" in told(here("plugin", "tools"))
    finally:
        kept.rename(token)


def test_without_a_node_a_tool_cannot_be_known(hindbrain: Run) -> None:
    done = hindbrain("build-site", "--output-dir", "x")
    assert done.returncode == 2
    assert b"may be a tool of a plugin, but no node runs" in done.stderr


def test_jobs_are_submitted_and_their_types_listed(here: Run, folder: Path) -> None:
    types = {each["type"]: each for each in json.loads(told(here("job", "types", "--json")))}
    assert "outputDir" in json.dumps(types["site-builder:site-build"]["input"])
    assert "site-builder:site-build" in told(here("job", "types", "--plugin", "site-builder"))
    given = json.dumps({"page": "landing", "section": "hero", "workingDir": str(folder / "docs")}).encode()
    kind = "site-builder:content-generation"
    done = here("job", "submit", kind, "-", "--label", "x", "--priority", "high", "--wait", stdin=given)
    assert json.loads(told(done))["written"]
    reply = json.loads(told(here("job", "submit", kind, given.decode(), "--json")))
    assert told(here("wait", reply["execution_id"]))
    assert '"section":"hero"' in told(here("result", reply["execution_id"]))
    assert b"no JSON" in here("job", "submit", kind, "{").stderr
    refused = here("job", "submit", kind, '{"page": 1}')
    assert refused.returncode == 2
    assert b"job.data" in refused.stderr


def test_plugins_are_listed_unloaded_and_loaded(here: Run) -> None:
    assert "site-builder  1.0" in told(here("plugin", "list"))
    assert "waits" in told(here("plugin", "unload", "site-builder", "--reason", "a test"))
    assert "unloaded" in told(here("plugin", "list"))
    assert here("plugin", "unload", "site-builder").returncode == 2
    assert "site-builder 1.0 is loaded" in told(here("plugin", "load", "site-builder"))
    refused = here("plugin", "load", "nobody")
    assert refused.returncode == 2
    assert b"no installed plugin is called 'nobody'" in refused.stderr


def test_modules_are_shown_and_changed(here: Run) -> None:
    assert "site-builder" in told(here("module", "list"))
    shown = [each["name"] for each in json.loads(told(here("module", "list", "--json")))]
    assert sorted(shown) == ["commands", "monitor", "scaler", "site-builder"]
    assert "is paused" in told(here("module", "pause", "site-builder", "--reason", "a test"))
    assert "paused" in told(here("module", "status", "site-builder"))
    assert "already" in told(here("module", "pause", "site-builder"))
    assert "is running" in told(here("module", "resume", "site-builder"))
    assert "3 workers" in told(here("module", "scale", "site-builder", "3"))
    assert json.loads(told(here("module", "scale", "site-builder", "2", "--json")))["workers"] == 2
    assert "is running" in told(here("module", "restart", "site-builder"))
    here_ = told(
        here("module", "submit", "site-builder", '["a", "b"]', "--function", "posixpath:join", "--wait")
    )
    assert here_ == "a/b\n"
    missing = here("module", "status", "nobody")
    assert missing.returncode == 2
    assert b"Module not found: nobody" in missing.stderr


# ---- from a schema to options, without a node ------------------------------------------------------------

SCHEMA: dict[str, Any] = {
    "$ref": "#/$defs/Given",
    "$defs": {
        "Given": {
            "type": "object",
            "properties": {
                "outputDir": {"type": "string", "format": "path"},
                "max_size": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "mode": {"enum": ["fast", "good"], "default": "fast"},
                "tags": {"type": "array", "items": {"type": "string"}, "default": []},
                "more": {"type": "object"},
                "data": {"type": "number"},
                "deep": {"type": "boolean", "default": False},
            },
            "required": ["outputDir"],
        }
    },
}


def parsed(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    seen: list[Any] = []

    def called(settings: Any, name: str, given: Any, **how: bool) -> None:
        seen.append((name, given, how, settings))

    monkeypatch.setattr(tools, "call", called)
    verb = tools.verb({"name": "t", "description": "D", "plugin": "p", "schema": SCHEMA})
    done = CliRunner().invoke(verb, words)
    return seen[0][1] if seen else done.output


def test_options_are_made_of_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    words = "--output-dir x --max-size 3 --mode good --tags a --tags b --tool-data 1.5 --deep"
    given = parsed(monkeypatch, *words.split(), "--more", '{"a": 1}')
    assert given == {
        "outputDir": "/tmp/x",
        "max_size": 3,
        "mode": "good",
        "tags": ["a", "b"],
        "more": {"a": 1},
        "data": 1.5,
        "deep": True,
    }
    assert parsed(monkeypatch, "--output-dir", "/y") == {"outputDir": "/y"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "Missing option '--output-dir'"),
        ("--output-dir x --mode bad", "'bad' is not one of"),
        ("--output-dir x --max-size many", "'many' is not a valid integer"),
        ("--output-dir x --more {", "is no JSON"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, words: str, text: str) -> None:
    assert text in parsed(monkeypatch, *words.split())


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("outputDir", "output-dir"),
        ("max_size", "max-size"),
        ("baseURL", "base-url"),
        ("HTTPPort", "http-port"),
    ],
)
def test_properties_are_written_as_options_are(name: str, word: str) -> None:
    assert tools.kebab(name) == word


def test_a_tool_whose_schema_says_nothing_takes_nothing() -> None:
    verb = tools.verb({"name": "t", "description": "D", "plugin": "p", "schema": {"type": "object"}})
    assert isinstance(verb, click.Command)
    assert {each.name for each in verb.params} == {"wait", "as_json", "data", "nats", "config"}
