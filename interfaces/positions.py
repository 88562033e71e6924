"""Trees from TOML, YAML and JSON, with the line of every key and every value in a list."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, cast

import yaml

Path = tuple[str | int, ...]
NODES_MOST = 200_000


class Faulty(Exception):
    """A line that cannot be read."""

    def __init__(self, line: int, text: str) -> None:
        self.line, self.text = line, text
        super().__init__(f"{line}: {text}")


class Parsed(NamedTuple):
    """What a file says, and where."""

    tree: Any
    lines: dict[Path, int]


def parse(text: str, suffix: str) -> Parsed:
    """Read a text in the format that a file's name ends with; `Faulty` names the line."""
    match suffix:
        case ".toml":
            return _toml(text)
        case ".json":
            return _json(text)
        case _:
            return _yaml(text)


# ---- YAML and JSON ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML as version 1.2 means it: `on` and `no` are texts, and so are dates and `12:30`."""

    yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    cast(Any, _Loader).add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _yaml(text: str) -> Parsed:
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        if node is None:
            return Parsed({}, {})
        lines: dict[Path, int] = {}
        _twice(node, set())
        tree: Any = cast(Any, loader).construct_document(node)
        for path, line in _places(node, (), set()):
            lines[path] = line
            if len(lines) > NODES_MOST:
                raise Faulty(line, f"there are more than {NODES_MOST} values")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Faulty(mark.line + 1 if mark else 1, str(error.problem or error.context)) from None
    except yaml.YAMLError as error:
        raise Faulty(1, str(error).split("\n", 1)[0]) from None
    except (ValueError, RecursionError) as error:
        raise Faulty(1, f"it cannot be read: {error}") from None
    finally:
        if loader is not None:
            cast(Any, loader).dispose()
    return Parsed(tree, lines)


def _twice(node: yaml.Node, seen: set[int]) -> None:
    """A key that stands in a table twice is a slip."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in keys and name != "<<":
                raise Faulty(key.start_mark.line + 1, f"key {name!r} is given twice")
            keys.add(name)
            _twice(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _twice(value, seen)


def _places(node: yaml.Node, path: Path, above: set[int]) -> Iterator[tuple[Path, int]]:
    if id(node) in above:
        raise Faulty(node.start_mark.line + 1, "a value contains itself")
    above.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _places(value, here, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            yield here, value.start_mark.line + 1
            yield from _places(value, here, above)
    above.discard(id(node))


def _json(text: str) -> Parsed:
    try:
        tree = json.loads(text, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise Faulty(error.lineno, error.msg) from None
    except (ValueError, RecursionError) as error:
        raise Faulty(1, f"it cannot be read: {error}") from None
    # JSON is YAML, but for tabs between the values.
    return Parsed(tree, _yaml(text.replace("\t", " ")).lines)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# ---- TOML ------------------------------------------------------------------------------------------------


def _toml(text: str) -> Parsed:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at (?:line (\d+), column \d+|(end of document))\)$", str(error))
        if found is None:
            raise Faulty(1, str(error)) from None
        raise Faulty(int(found[2]) if found[2] else text.rstrip().count("\n") + 1, found[1]) from None
    except RecursionError:
        raise Faulty(1, "it is nested too deep") from None
    return Parsed(tree, _Lines(text).read())


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\n]+")
_STRINGS = ('"""', "'''", '"', "'")


class _Lines:
    """Goes through TOML that is known to be right, and notes where everything begins."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", self._text)]

    def read(self) -> dict[Path, int]:
        """Go through all of it."""
        table: Path = ()
        while self._skip() < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._header(2, many=True)
            elif self._text[self._at] == "[":
                table = self._header(1, many=False)
            else:
                self._pair(table)
        return self._lines

    def _line(self) -> int:
        low, high = 0, len(self._breaks)
        while low < high:
            middle = (low + high) // 2
            if self._breaks[middle] < self._at:
                low = middle + 1
            else:
                high = middle
        return low + 1

    def _skip(self) -> int:
        """Over white space, line ends and comments."""
        while self._at < len(self._text) and self._text[self._at] in " \t\n#":
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            else:
                self._at += 1
        return self._at

    def _header(self, width: int, *, many: bool) -> Path:
        line = self._line()
        self._at += width
        path = self._current(self._key())
        self._skip()
        self._at += width
        if many:
            index = self._counts.get(path, -1) + 1
            self._counts[path] = index
            self._lines.setdefault(path, line)
            path = (*path, index)
        self._note(path, line)
        return path

    def _current(self, names: Path) -> Path:
        """A name in a header means the last one of the tables of that name."""
        path: Path = ()
        for place, name in enumerate(names):
            path = (*path, name)
            if place < len(names) - 1 and path in self._counts:
                path = (*path, self._counts[path])
        return path

    def _note(self, path: Path, line: int) -> None:
        for size in range(1, len(path) + 1):
            self._lines.setdefault(path[:size], line)

    def _key(self) -> Path:
        names: list[str] = []
        while True:
            self._skip()
            if self._text[self._at] in "\"'":
                begin = self._at
                self._string()
                names.append(tomllib.loads(f"k = {self._text[begin : self._at]}")["k"])
            else:
                match = _BARE.match(self._text, self._at)
                if match is None:  # the text was read before, so there is always a key
                    raise Faulty(self._line(), "a key is missing")
                names.append(match[0])
                self._at = match.end()
            self._skip()
            if self._at >= len(self._text) or self._text[self._at] != ".":
                return tuple(names)
            self._at += 1

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = (*table, *self._key())
        self._at += 1  # the equals sign
        self._note(path, line)
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        char = self._text[self._at]
        if char in "\"'":
            self._string()
        elif char in "[{":
            self._inside(path, "]" if char == "[" else "}")
        else:
            match = _PLAIN.match(self._text, self._at)
            self._at = match.end() if match else self._at + 1

    def _inside(self, path: Path, end: str) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip()] != end:
            if self._text[self._at] == ",":
                self._at += 1
            elif end == "]":
                here = (*path, index)
                self._lines[here] = self._line()
                self._value(here)
                index += 1
            else:
                self._pair(path)
        self._at += 1

    def _string(self) -> None:
        quote = next(each for each in _STRINGS if self._text.startswith(each, self._at))
        self._at += len(quote)
        while not self._text.startswith(quote, self._at):
            self._at += 2 if self._text[self._at] == "\\" and quote[0] == '"' else 1
        self._at += len(quote)
        while len(quote) == 3 and self._text[self._at : self._at + 1] == quote[0]:
            self._at += 1
