"""A plan or a playbook in a file: TOML, YAML or JSON, the same tree.

What is wrong with it is said with file and line.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import inspect

from events import checking, faults, phases
from events.asks import book, tree
from events.asks.book import Book
from events.asks.tree import Tree
from events.checking import Trouble
from events.errors import Validation
from events.params import near
from events.steps import Definition
from interfaces import positions
from interfaces.positions import Faulty

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
FILE_MOST = 4 * 1024 * 1024
ERRORS_MOST = 50

Where = tuple[str | int, ...]


class Wrong(Validation):
    """The plan file is not right."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines[0], errors=lines)
        self.message = "\n".join(lines)
        self.lines = lines


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int


class Plan(NamedTuple):
    """What a file says, read and checked."""

    tree: Tree
    definition: Definition


class Playbook(NamedTuple):
    """What a file says that holds a playbook, read and checked."""

    tree: Book
    definition: phases.Definition


class _Sort(NamedTuple):
    """What a file can be, and how it is read."""

    word: str
    shape: type
    define: Callable[[Any], Any]
    problems: Callable[[Any], Iterator[Trouble]]


_PLAN = _Sort("plan", Tree, tree.definition, checking.problems)
_PLAYBOOK = _Sort("playbook", Book, book.definition, faults.problems)


def read(path: str | Path) -> Plan:
    """Read a plan file; `Wrong` has a line `file:line: text` for everything that is wrong with it."""
    return Plan(*_Reader(_PLAN).whole(Path(path)))


def read_playbook(path: str | Path) -> Playbook:
    """Read a playbook file; `Wrong` has a line `file:line: text` for everything that is wrong with it."""
    return Playbook(*_Reader(_PLAYBOOK).whole(Path(path)))


class _Reader:
    def __init__(self, sort: _Sort) -> None:
        self._sort = sort
        self._places: dict[Where, Place] = {}
        self._found: list[tuple[Place, str]] = []

    def whole(self, path: Path) -> tuple[Any, Any]:
        """Read all of it: what is written, and what is meant."""
        sort = self._sort
        found = self._load(path, (), ())
        self._stop()
        self._fits(found, sort.shape, ())
        self._stop()
        try:
            written = cast(Any, msgspec).convert(found, sort.shape)
        except msgspec.ValidationError as error:  # the walk above should have seen it
            raise Wrong([f"{path}:1: {error}"]) from None
        try:
            definition = sort.define(written)
        except Validation as error:
            self._say(self._field(error.details.get("field", "")), _text(error))
            self._stop()
            raise
        for trouble in sort.problems(definition):
            self._say(self._field(trouble.field), trouble.text)
        self._stop()
        return written, definition

    def _stop(self) -> None:
        if self._found:
            rows = sorted(dict.fromkeys(self._found), key=lambda each: (each[0].file, each[0].line))
            raise Wrong([f"{place.file}:{place.line}: {text}" for place, text in rows[:ERRORS_MOST]])

    def _say(self, where: Where, text: str) -> None:
        while where not in self._places and where:
            where = where[:-1]
        self._found.append((self._places[where], text))

    def _field(self, field: str) -> Where:
        """Where a field of a plan stands in the tree; steps may stand in a step without a `plan` around."""
        where: Where = ()
        for part in field.replace("[", ".[").split("."):
            if not part:
                continue
            name = int(part[1:-1]) if part.startswith("[") else part
            if (*where, name) in self._places:
                where = (*where, name)
            elif name != "plan":
                break
        return where

    # ---- files -------------------------------------------------------------------------------------------

    def _load(self, path: Path, where: Where, chain: tuple[Path, ...]) -> dict[str, Any]:
        """Read a file, and the files that it includes, into one tree."""
        name, known = str(path), self._places.get(where)
        at = known or Place(name, 1)
        if path.suffix.lower() not in SUFFIXES:
            self._found.append(
                (at, f"{name!r} is no {self._sort.word} file: its name ends in .toml, .yaml, .yml or .json")
            )
            return {}
        try:
            if path.resolve() in chain:
                self._found.append((at, f"{name!r} includes itself"))
                return {}
            data = path.read_bytes()
            if len(data) > FILE_MOST:
                self._found.append((at, f"{name!r} is larger than {FILE_MOST // 2**20} MiB"))
                return {}
            parsed = positions.parse(data.decode("utf-8-sig"), path.suffix.lower())
        except OSError as error:
            self._found.append((at, f"{name!r} cannot be read: {error.strerror or error}"))
            return {}
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._found.append((Place(name, line), "it is not UTF-8"))
            return {}
        except Faulty as error:
            self._found.append((Place(name, error.line), error.text))
            return {}
        self._places[where] = Place(name, 1) if known is None else known
        for inner, line in parsed.lines.items():
            self._places[*where, *inner] = Place(name, line)
        found: Any = parsed.tree
        if not isinstance(found, dict):
            self._found.append((Place(name, 1), f"a {self._sort.word} is a table, not {_sort(found)}"))
            return {}
        whole = cast(dict[str, Any], found)
        self._include(whole, path, where, (*chain, path.resolve()))
        return whole

    def _include(self, whole: dict[str, Any], path: Path, where: Where, chain: tuple[Path, ...]) -> None:
        """Put other files in place of their names, in the steps of a plan, a phase or a step."""
        for within in ("steps", "phases"):
            rows: Any = whole.get(within)
            for index, row in enumerate(cast(list[Any], rows) if isinstance(rows, list) else []):
                if not isinstance(row, dict):
                    continue
                entry, here = cast(dict[str, Any], row), (*where, within, index)
                for name in ("plan", "playbook"):
                    inner: Any = entry.get(name)
                    if isinstance(inner, str):
                        entry[name] = self._load(path.parent / inner, (*here, name), chain)
                    elif isinstance(inner, dict):
                        self._include(cast(dict[str, Any], inner), path, (*here, name), chain)
                self._include(entry, path, here, chain)

    # ---- shapes ------------------------------------------------------------------------------------------

    def _fits(self, value: Any, kind: type, where: Where) -> None:
        self._walk(value, inspect.type_info(kind), where)

    def _walk(self, value: Any, kind: inspect.Type, where: Where) -> None:
        name = _name(where, self._sort.word)
        kinds: tuple[inspect.Type, ...] = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        fitting = [each for each in kinds if _may_be(value, each)]
        if not fitting:
            called = [each for each in map(_called, kinds) if each]
            allowed = " or ".join(dict.fromkeys(called))
            self._say(where, f"{name} must be {allowed}, not {_sort(value)}")
            return
        match fitting[0]:
            case inspect.StructType() as struct:
                self._struct(cast(dict[str, Any], value), struct, where)
            case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
                for index, each in enumerate(cast(list[Any], value)):
                    self._walk(each, inner, (*where, index))
            case inspect.DictType(value_type=inner):
                for key, each in cast(dict[Any, Any], value).items():
                    if isinstance(key, str):
                        self._walk(each, inner, (*where, key))
                    else:
                        self._say(
                            (*where, str(key)), f"key {key!r} of {name} must be a text: put it in quotes"
                        )
            case inspect.LiteralType(values=values) if value not in values:
                self._say(where, f"unknown {where[-1]} {value!r}, {_near(value, list(map(str, values)))}")
            case _:
                pass

    def _struct(self, value: dict[str, Any], struct: inspect.StructType, where: Where) -> None:
        fields = {field.encode_name: field for field in struct.fields}
        for key, each in value.items():
            if str(key) in fields:
                self._walk(each, fields[str(key)].type, (*where, str(key)))
            else:
                self._say((*where, str(key)), f"unknown key {str(key)!r}, {_near(str(key), list(fields))}")
        for key, field in fields.items():
            if field.required and key not in value:
                whose = _WHOSE.get(struct.cls) or _name(where, self._sort.word)
                self._say(where, f"{whose} needs a {key}")


def _near(word: str, known: list[str]) -> str:
    """Without the question mark: it is said in passing."""
    return near(word, known).removesuffix("?")


_WHOSE: dict[type, str] = {tree.Task: "the step", book.Task: "the step", book.Part: "the phase"}


def _name(where: Where, word: str) -> str:
    """What a place is called: `needs`, `exec.args`, `steps[2]`."""
    names = [each for each in where if isinstance(each, str)]
    if not names:
        return f"the {word}"
    last = len(where) - 1 - list(reversed(where)).index(names[-1])
    inside = "".join(f"[{each}]" for each in where[last + 1 :])
    outer = names[-2] if len(names) > 1 and where[last - 1] == names[-2] else ""
    name = f"{outer}.{names[-1]}" if outer not in ("", "plan", "steps", "phases", "playbook") else names[-1]
    return f"{name}{inside}"


def _may_be(value: Any, kind: inspect.Type) -> bool:
    match kind:
        case inspect.AnyType():
            return True
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.StrType() | inspect.LiteralType():
            return isinstance(value, str)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case _:
            return False


def _called(kind: inspect.Type) -> str:
    """What a kind of value is called; nothing for one that nobody writes."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "an integer"
        case inspect.FloatType():
            return "a number"
        case inspect.StrType() | inspect.LiteralType():
            return "a string"
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
            plural: dict[str, str] = {"a string": "strings", "an integer": "integers", "a table": "tables"}
            named = plural.get(_called(inner))
            return f"a list of {named}" if named else "a list"
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case _:
            return ""


def _sort(value: Any) -> str:
    match value:
        case dict():
            return "a table"
        case list():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the string {value[:60]!r}"
        case int() | float():
            return f"the number {str(value)[:40]}"
        case _:
            return f"{value} (put it in quotes)"


def _text(error: Validation) -> str:
    return error.message.removeprefix("Validation error: ")
