"""A plugin of somebody else, in a distribution of its own: installed, used, upgraded and removed."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from foreign import Place, clean

from tests.waiting import until

pytestmark = pytest.mark.patient
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "greeter"


class Outside(Place):
    """A node in an environment of its own, which sees our packages and can get more of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "d")
        self._folder = folder
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, capture_output=True
        )
        # What this project needs is installed beside us already; only the project itself is installed anew.
        ours = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        target = next((folder / "venv" / "lib").glob("python3*/site-packages"))
        (target / "beside.pth").write_text(f"{ours}\n")
        self.pip("install", "--no-deps", "-e", str(ROOT))

    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *arguments]
        command += ["-q", "--disable-pip-version-check"]
        done = subprocess.run(command, env=clean(), capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def install(self, version: str, words: str) -> None:
        """Install a version of the example that greets so."""
        source = self._folder / f"greeter-{version}"
        shutil.copytree(EXAMPLE, source)
        for name, old, new in (
            ("pyproject.toml", 'version = "1.0"', f'version = "{version}"'),
            ("hindbrain_greeter.py", 'words: str = "Hello"', f'words: str = "{words}"'),
        ):
            text = (source / name).read_text()
            assert old in text
            (source / name).write_text(text.replace(old, new))
        self.pip("install", "--no-deps", str(source))

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-P", "-m", "interfaces.cli", *arguments, "--data", str(self.data)]

    def told(self, *arguments: str, code: int = 0) -> str:
        done = self.cli(*arguments)
        assert done.returncode == code, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.told(*arguments, "--json"))


@pytest.fixture
def outside(tmp_path: Path) -> Generator[Outside]:
    place = Outside(tmp_path)
    yield place
    place.end()


def test_it_imports_nothing_of_ours_but_what_plugins_are_made_of() -> None:
    tree = ast.parse((EXAMPLE / "hindbrain_greeter.py").read_text())
    names = {each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    assert names == {"actors.plugin", "importlib.metadata"}


def test_it_is_installed_used_upgraded_and_removed_while_the_node_runs(outside: Outside) -> None:
    outside.up()
    assert "greeter" not in outside.told("plugin", "list")
    outside.install("1.0", "Hello")
    assert (
        outside.told("plugin", "load", "greeter") == "greeter 1.0 is loaded: greeter:greet, greeter:call.\n"
    )
    assert json.loads(outside.told("greet", "--name", "World", "--wait")) == {
        "text": "Hello, World!",
        "version": "1.0",
    }

    outside.install("2.0", "Good day")
    assert outside.told("plugin", "load", "greeter").startswith("greeter 2.0 is loaded")
    assert json.loads(outside.told("job", "submit", "greeter:greet", '{"name": "you"}', "--wait")) == {
        "text": "Good day, you!",
        "version": "2.0",
    }

    outside.told("module", "pause", "greeter")
    job = outside.json("job", "submit", "greeter:greet", '{"name": "later"}')["execution_id"]
    outside.told("plugin", "unload", "greeter")
    outside.told("greet", "--name", "nobody", code=2)
    assert b"unloaded" in outside.cli("job", "submit", "greeter:greet", '{"name": "x"}').stderr
    until(lambda: not outside.json("module", "status", "greeter")["total"])
    assert outside.json("status", job)["status"] == "queued"

    outside.told("plugin", "load", "greeter")
    outside.told("module", "resume", "greeter")
    assert "Good day, later!" in outside.told("wait", job) + outside.told("result", job)

    outside.told("plugin", "unload", "greeter")
    outside.pip("uninstall", "-y", "hindbrain-greeter")
    refused = outside.cli("plugin", "load", "greeter")
    assert refused.returncode == 2
    assert b"greeter" in refused.stderr
    events = "SELECT event FROM events WHERE kind = 'plugin' AND entity = 'greeter' ORDER BY seq"
    assert [row["event"] for row in outside.json("sql", events)] == [
        *("registered", "registered", "unregistered", "registered", "unregistered")
    ]
