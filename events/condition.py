"""Conditions on what earlier steps did: `steps.lint.status == 'completed' and not params.draft`.

    or       and | or or and
    and      not | and and not
    not      comparison | not not
    operand  'text' | 12.5 | true | false | null | (or)
             steps.<name>.status | steps.<name>.exit_code | steps.<name>.outputs.<key> | params.<name>

What is not there is null.  Only values of one sort are less or more than each other; a text that is a number
is compared with a number as one, because a step that writes `count=3` means a number.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from events.errors import Validation
from events.params import Reference, near

FACTS = ("status", "exit_code", "outputs")
"""What a condition can ask of a step."""
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'[^']*'|"[^"]*")
      | (?P<number>-?\d+(?:\.\d+)?(?![\w.]))
      | (?P<name>[A-Za-z_][\w-]*(?:\.[\w-]+)*)
      | (?P<sign>==|!=|<=|>=|<|>|\(|\))
    )""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "null": None}
_DEEP = 50


class Value(NamedTuple):
    """A value that is written in the condition."""

    value: Any


class Asked(NamedTuple):
    """A value that is looked up."""

    reference: Reference


class Node(NamedTuple):
    """`and or not` and comparisons."""

    sign: str
    parts: "tuple[Condition, ...]"


Condition = Value | Asked | Node
_SIGNS = ("==", "!=", "<=", ">=", "<", ">")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self._tokens = list(self._scan())

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                rest = self._text[at:]
                if rest[0] in "'\"":
                    raise ValueError(f"the text that begins at character {at + 1} has no end")
                if rest[0] == "=":
                    raise ValueError(f"'=' at character {at + 1}: write ==")
                raise ValueError(f"{rest[:10]!r} at character {at + 1} is not understood")
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1
            at = match.end()
        yield "end", "the end", len(self._text) + 1

    def whole(self) -> Condition:
        found = self._either()
        sort, token, at = self._tokens[self._at]
        if sort != "end":
            raise ValueError(f"{token!r} at character {at} is one too many: join conditions with and, or")
        return found

    def _next(self, *wanted: str) -> str | None:
        sort, token, _ = self._tokens[self._at]
        if sort in ("name", "sign") and token in wanted:
            self._at += 1
            return token
        return None

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._next("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Node("or", tuple(parts))

    def _both(self) -> Condition:
        parts = [self._not()]
        while self._next("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else Node("and", tuple(parts))

    def _not(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEP:
            raise ValueError(f"it is nested more than {_DEEP} deep")
        try:
            if self._next("not"):
                return Node("not", (self._not(),))
            left = self._operand()
            sign = self._next(*_SIGNS)
            return left if sign is None else Node(sign, (left, self._operand()))
        finally:
            self._depth -= 1

    def _operand(self) -> Condition:
        sort, token, at = self._tokens[self._at]
        self._at += sort != "end"
        match sort:
            case "text":
                return Value(token[1:-1])
            case "number":
                return Value(float(token) if "." in token else int(token))
            case "name" if token in _WORDS:
                return Value(_WORDS[token])
            case "name" if token not in ("and", "or", "not"):
                return Asked(_reference(token, at))
            case "sign" if token == "(":  # noqa: S105  a bracket
                found = self._either()
                if not self._next(")"):
                    raise ValueError(f"the bracket at character {at} is not closed")
                return found
            case _:
                raise ValueError(f"a value is missing before {token!r} at character {at}")


def _reference(token: str, at: int) -> Reference:
    root, *path = token.split(".")
    if root not in ("steps", "params"):
        hint = f", {near(root, ['steps', 'params'])}" if path else ": write texts in quotes"
        raise ValueError(f"unknown name {token!r} at character {at}{hint}")
    if root == "params":
        if not path:
            raise ValueError("params needs a name: params.<name>")
        return Reference(root, tuple(path))
    if len(path) < 2 or path[1] not in FACTS:
        meant = near(path[1], FACTS) if len(path) > 1 else f"there are {', '.join(sorted(FACTS))}"
        raise ValueError(f"{token!r} at character {at} does not say what of the step: {meant}")
    if path[1] == "outputs" and len(path) < 3:
        raise ValueError(f"{token!r} at character {at} needs a key: {token}.<key>")
    if path[1] != "outputs" and len(path) > 2:
        raise ValueError(f"{token!r} at character {at}: there is nothing in {path[1]}")
    return Reference(root, tuple(path))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Condition:
    return _Parser(text).whole()


def parse(text: str, field: str = "when") -> Condition:
    """Read a condition; `Validation` says what is wrong with it, and where."""
    try:
        if not text.strip():
            raise ValueError("it is empty")  # noqa: TRY301 - told like all the others
        return _parsed(text)
    except ValueError as error:
        raise Validation(f"{field}: {error}", field=field) from None


def asked(condition: Condition) -> Iterator[Reference]:
    """All that it asks for."""
    match condition:
        case Asked(reference):
            yield reference
        case Node(_, parts):
            for part in parts:
                yield from asked(part)
        case _:
            pass


def holds(condition: Condition, look: Callable[[Reference], Any]) -> bool:
    """Say whether it holds; `look` gives None for what is not there."""
    return _true(_value(condition, look))


def _true(value: Any) -> bool:
    return bool(value) and value != "false"


def _value(condition: Condition, look: Callable[[Reference], Any]) -> Any:
    match condition:
        case Value(value):
            return value
        case Asked(reference):
            return look(reference)
        case Node("not", parts):
            return not holds(parts[0], look)
        case Node("and", parts):
            return all(holds(part, look) for part in parts)
        case Node("or", parts):
            return any(holds(part, look) for part in parts)
        case Node(sign, parts):
            left, right = _alike(_value(parts[0], look), _value(parts[1], look))
            return _compared(sign, left, right)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """A text that is a number, or true or false, becomes one beside such a value."""
    if isinstance(left, str) and not isinstance(right, str):
        return _as(left, right), right
    if isinstance(right, str) and not isinstance(left, str):
        return left, _as(right, left)
    return left, right


def _as(text: str, other: Any) -> Any:
    if isinstance(other, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(other, int | float):
        try:
            return float(text) if not re.fullmatch(r"-?\d{1,18}", text) else int(text)
        except ValueError:
            return text
    return text


def _compared(sign: str, left: Any, right: Any) -> bool:
    same = left == right and isinstance(left, bool) == isinstance(right, bool)
    if sign in ("==", "!="):
        return same == (sign == "==")
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        return False
    match sign:
        case "<":
            return left < right
        case ">":
            return left > right
        case "<=":
            return left <= right
        case _:
            return left >= right
