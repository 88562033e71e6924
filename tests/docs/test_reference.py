"""What can be used is described, and the description is what the code says."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from bus import streams
from events import codec, service, spec
from interfaces import describe, metrics, settings, sinks
from interfaces.api import ExecutionEngine
from interfaces.cli import VERBS, cli
from interfaces.client import AsyncBrainClient
from interfaces.mcp.table import TOOLS
from projections.store import Store

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text().replace("\\|", "|")


def missing(words: Iterable[str], where: str) -> list[str]:
    text = page(where)
    return [word for word in words if not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text)]


def fields(*kinds: type[Any]) -> list[str]:
    return [field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)]


def test_the_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_with_its_fields_is_described() -> None:
    assert not missing((f"brain.cmd.{verb.kind}.{verb.name}" for verb in service.VERBS), "commands.md")
    for verb in service.VERBS:
        assert not missing(fields(verb.request, verb.reply), "commands.md")
    assert not missing(spec.FORMS, "commands.md")


def test_every_event_with_its_fields_is_described() -> None:
    for kind in codec.KINDS:
        for event in codec.events_of(kind):
            assert not missing([f"{kind} {event.name()}", *fields(event)], "events.md")


def test_every_subject_and_stream_is_described() -> None:
    assert not missing(describe.channels(), "subjects.md")
    assert not missing((each.name for each in streams.definitions()), "subjects.md")


def test_every_table_with_its_columns_is_described(tmp_path: Path) -> None:
    store = Store(tmp_path / "brain.duckdb")
    rows = store.cursor().execute(
        "SELECT table_name, column_name FROM duckdb_columns()"
        " WHERE database_name = 'memory' AND schema_name = 'main' AND NOT internal"
    )
    found = rows.fetchall()
    store.close()
    assert len(found) > 50
    sections = {part.split("\n", 1)[0]: part for part in page("tables.md").split("\n## ")[1:]}
    assert not [(table, column) for table, column in found if f"`{column}`" not in sections[table]]


def test_every_setting_is_described() -> None:
    assert not missing(settings.keys(), "settings.md")


def test_every_error_and_every_bad_end_is_described() -> None:
    assert not missing((error["code"] for error in describe.errors()), "errors.md")
    source = (ROOT / "events" / "execution.py").read_text()
    ends = set(re.findall(r'Problem\(\s*code="(\w+)"', source))
    assert len(ends) > 5
    assert not missing(ends, "errors.md")


def test_every_verb_of_the_command_line_with_its_options_is_described() -> None:
    context = click.Context(cli, info_name="hindbrain")
    for name in VERBS:
        verb = cli.get_command(context, name)
        assert verb is not None
        options = [word for option in verb.params if isinstance(option, click.Option) for word in option.opts]
        section = page("cli.md").split(f"\n## hindbrain {name}\n", 1)[1].split("\n## ", 1)[0]
        assert not [option for option in options if f"`{option}`" not in section]


def test_every_name_of_the_python_interface_is_described() -> None:
    members = [*vars(ExecutionEngine), *vars(AsyncBrainClient)]
    names = [name for name in members if not name.startswith("_")]
    told = [each.__name__ for each in sinks.Happening.__subclasses__()]
    assert not missing([*names, *told], "python.md")


def test_every_metric_with_its_labels_is_described() -> None:
    rows = {line.split("`")[1]: line for line in page("metrics.md").splitlines() if line.startswith("| `")}
    assert rows.keys() == {family.name for family in metrics.FAMILIES}
    assert not [
        f for f in metrics.FAMILIES if [label for label in f.labels if f"`{label}`" not in rows[f.name]]
    ]


def test_a_metric_that_a_guide_names_is_there() -> None:
    made = {family.name for family in metrics.FAMILIES}
    made |= {
        f"{f.name}_{end}" for f in metrics.FAMILIES if f.kind == "histogram" for end in ("bucket", "sum")
    }
    text = (ROOT / "docs" / "guides" / "metrics.md").read_text()
    named = set(re.findall(r"hindbrain_[a-z_]+[a-z]", text))
    assert len(named) >= 10
    assert named <= made


def test_every_tool_with_its_arguments_is_described() -> None:
    for tool in TOOLS.values():
        section = page("mcp.md").split(f"\n## {tool.name}\n", 1)[1].split("\n## ", 1)[0]
        names = [*fields(tool.ask), *fields(tool.reply)]
        assert not [name for name in names if f"`{name}`" not in section]


def test_every_route_is_described() -> None:
    places = ("web.py", "threads.py", "dashboard/door.py", "dashboard/pages.py")
    source = "".join((ROOT / "interfaces" / place).read_text() for place in places)
    routes = re.findall(r'(?:Route|Page|Mount)\(\s*"(/[^"]*)"', source)
    assert len(routes) >= 6
    assert not [route for route in routes if f"{route}`" not in page("http.md")]
    verbs = [f"`POST /api/{verb.kind}/{verb.name}`" for verb in service.VERBS]
    assert not [verb for verb in verbs if verb not in page("http.md")]


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=str)
def test_every_link_between_the_pages_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (path.parent / link).exists()]
