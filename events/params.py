"""Values that come from outside into a plan: typed parameters, and `${...}` where they are wanted.

    ${params.target}  ${steps.build.outputs.version}  ${steps.build.status}  ${item}  ${item.name}  ${index}

A value reaches a program as an argument or through its environment, never as text that a shell or an
interpreter reads, unless that is wished with `${...:raw}`.  `$${...}` stands for itself.
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, cast

import msgspec

from events.errors import Validation
from events.ids import TOKEN
from events.job import Job
from events.message import Message
from events.quoting import Unfit, quoted
from events.spec import Strict, Submit

Kind = Literal["string", "integer", "number", "boolean", "list"]
KINDS: tuple[Kind, ...] = ("string", "integer", "number", "boolean", "list")

ROOTS = ("params", "steps", "item", "index")
"""What a reference can begin with."""
_REFERENCE = re.compile(r"(\$?)\$\{([A-Za-z_][\w-]*)((?:\.[\w-]+)*)(:raw)?\}")
_TEXTS = ("code", "stdin")
"""What is read by an interpreter, so that no value may become a part of it unasked."""
VALUE = "HINDBRAIN_VALUE_"
"""Environment variables of this name and a number carry values into a line for a shell."""


class Param(Strict):
    """A parameter: a value that is given when it starts."""

    type: Kind = "string"
    default: Any = None
    required: bool | None = None
    """Unsaid, it is required when it has no default; one that is neither given nor required is null."""
    description: str | None = None


class Reference(NamedTuple):
    """What stands between the braces."""

    root: str
    path: tuple[str, ...] = ()
    raw: bool = False

    def __str__(self) -> str:
        return ".".join((self.root, *self.path))


Look = Callable[[Reference], Any]
"""Finds the value of a reference, or raises `Validation`."""


# ---- parameters ------------------------------------------------------------------------------------------


def near(word: str, known: "Iterator[str] | list[str] | tuple[str, ...]") -> str:
    """Say which known word was meant, or which there are."""
    words = list(known)
    if found := get_close_matches(word, words, 1):
        return f"did you mean {found[0]!r}?"
    return f"there are {', '.join(sorted(words))}" if words else "there are none"


def check(params: dict[str, Param], field: str = "params") -> Iterator[tuple[str, str]]:
    """What is wrong with the parameters of a plan: field and text."""
    for name, param in params.items():
        if not TOKEN.fullmatch(name):
            yield f"{field}.{name}", f"bad parameter name {name!r}: use a-z, 0-9, _ and -, at most 64"
        if param.default is not None and (text := _wrong(param, param.default)):
            yield f"{field}.{name}.default", f"the default of parameter {name!r} {text}"
        if param.required and param.default is not None:
            yield f"{field}.{name}.required", f"parameter {name!r} has a default, so it is never required"


def resolve(params: dict[str, Param], given: dict[str, Any], field: str = "params") -> dict[str, Any]:
    """The value of every parameter, defaults among them; `Validation` names the one that is wrong."""
    for name in given:
        if name not in params:
            raise Validation(
                f"unknown parameter {name!r}, {near(name, list(params))}", field=f"{field}.{name}"
            )
    found: dict[str, Any] = {}
    for name, param in params.items():
        value = given.get(name)
        if value is None:
            value = param.default
        if value is None and (param.required or param.required is None):
            raise Validation(
                f"parameter {name!r} is missing: it needs {_article(param.type)}", field=f"{field}.{name}"
            )
        if value is not None and (text := _wrong(param, value)):
            raise Validation(f"parameter {name!r} {text}", field=f"{field}.{name}")
        found[name] = value
    return found


def _wrong(param: Param, value: Any) -> str | None:
    fits = {
        "string": isinstance(value, str),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "list": isinstance(value, list | tuple),
    }
    if fits[param.type]:
        return None
    return f"must be {_article(param.type)}, not {_shown(value)}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _shown(value: Any) -> str:
    shown = written(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    match value:
        case bool():
            return f"the boolean {shown}"
        case int() | float():
            return f"the number {shown}"
        case str():
            return f"the string {shown!r}"
        case list() | tuple():
            return f"the list {shown}"
        case _:
            return shown


def read(param: Param, name: str, text: str) -> Any:
    """The value that somebody wrote as text, for example on a command line."""
    if param.type == "string":
        return text
    try:
        found: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = text
    if param.type == "list" and not text.lstrip().startswith("["):
        found = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := _wrong(param, found):
        raise Validation(f"parameter {name!r} {wrong}", field=f"params.{name}")
    return found


# ---- references ------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A text in which references may stand."""

    field: str
    text: str


def places(value: Any, field: str = "") -> Iterator[Place]:
    """Every text in a request, with the field it stands in; keys are not looked at."""
    match value:
        case str():
            yield Place(field, value)
        case Message():
            for name in value.__struct_fields__:
                if name != "secrets":
                    yield from places(getattr(value, name), f"{field}.{name}" if field else name)
        case dict():
            for key, each in cast(dict[str, Any], value).items():
                yield from places(each, f"{field}.{key}" if field else key)
        case list() | tuple():
            for index, each in enumerate(cast(list[Any], value)):
                yield from places(each, f"{field}[{index}]")
        case _:
            pass


def refers(value: Any) -> bool:
    """Whether there may be a reference in it; fast, and sure when it says no."""
    return b"${" in msgspec.json.encode(value)


def references(text: str, *, batch: bool = False) -> Iterator[Reference]:
    """What a text refers to; `${item}` and `${index}` mean something in a batch only."""
    for match in _REFERENCE.finditer(text):
        if match[1] or not _ours(match, batch):
            continue
        yield Reference(match[2], tuple(match[3].split(".")[1:]), bool(match[4]))


def slips(text: str) -> Iterator[str]:
    """What looks like a reference and is none, with what was meant."""
    for match in _REFERENCE.finditer(text):
        root, rest = match[2], match[3]
        if match[1] or root in ROOTS or not (rest or match[4]):
            continue
        if meant := get_close_matches(root, ROOTS, 1, 0.7):
            yield f"unknown reference {match[0]}, did you mean ${{{meant[0]}{rest}}}?"


def _ours(match: re.Match[str], batch: bool) -> bool:
    return match[2] in (ROOTS if batch else ("params", "steps"))


def written(value: Any) -> str:
    """A value as a program gets it: text as it is, nothing as an empty text, all else as JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case _:
            return msgspec.json.encode(value).decode()


def reach(value: Any, path: tuple[str, ...], name: str) -> Any:
    """Go down into a value by names, or by numbers in a list."""
    for step in path:
        match value:
            case dict() if step in value:
                value = cast(dict[str, Any], value)[step]
            case list() if step.isdigit() and int(step) < len(cast(list[Any], value)):
                value = cast(list[Any], value)[int(step)]
            case _:
                raise Validation(f"${{{name}}}: there is no {step!r} in it", field=name)
    return value


# ---- filling in ------------------------------------------------------------------------------------------


def text(given: str, look: Look, *, batch: bool = False) -> str:
    """Put values into a text that no interpreter reads."""

    def put(match: re.Match[str]) -> str:
        if not _ours(match, batch):
            return match[0]
        if match[1]:
            return match[0][1:]
        return written(look(Reference(match[2], tuple(match[3].split(".")[1:]))))

    return _REFERENCE.sub(put, given)


def whole(given: str, look: Look, *, batch: bool = False) -> Any:
    """Put values into a text; where it is nothing but one reference, the value keeps its type."""
    match = _REFERENCE.fullmatch(given)
    if match and not match[1] and _ours(match, batch):
        return look(Reference(match[2], tuple(match[3].split(".")[1:])))
    return text(given, look, batch=batch)


def values(given: Any, look: Look, *, batch: bool = False) -> Any:
    """Put values into every text of a tree."""
    match given:
        case str():
            return whole(given, look, batch=batch)
        case dict():
            return {key: values(each, look, batch=batch) for key, each in cast(dict[str, Any], given).items()}
        case list() | tuple():
            return [values(each, look, batch=batch) for each in cast(list[Any], given)]
        case _:
            return given


def escaped(given: Any) -> Any:
    """The tree that `values` makes this one of, whatever stands in its texts."""
    match given:
        case str():
            return _REFERENCE.sub(lambda match: f"${match[0]}" if _ours(match, False) else match[0], given)
        case dict():
            return {key: escaped(each) for key, each in cast(dict[str, Any], given).items()}
        case list() | tuple():
            return [escaped(each) for each in cast(list[Any], given)]
        case _:
            return given


def fill(ask: Submit, look: Look, *, batch: bool = False) -> Submit:
    """Put values into all that is to be run; into a line for a shell they come through the environment."""
    if not refers(ask):
        return ask
    made = {name: _filled(getattr(ask, name), look, batch) for name in ask.__struct_fields__}
    for name in _TEXTS:
        if isinstance(given := getattr(ask, name), str):
            made[name] = _raw(given, name, look, batch)
    if ask.secrets:
        made["secrets"] = ask.secrets
    if ask.exec is not None:
        args = [part for each in ask.exec.args for part in _argument(each, look, batch)]
        made["exec"] = msgspec.structs.replace(made["exec"], args=args)
    if ask.aws is not None:
        args = [part for each in ask.aws.args for part in _argument(each, look, batch)]
        made["aws"] = msgspec.structs.replace(made["aws"], args=args)
    if ask.job is not None:
        made["job"] = Job(type=ask.job.type, data=values(ask.job.data, look, batch=batch))
    if ask.shell is not None:
        command, carried = _line(ask.shell.command, ask.shell.shell, look, batch)
        made["shell"] = msgspec.structs.replace(made["shell"], command=command)
        made["env"] = {**made["env"], **carried}
    return Submit(**made)


def _filled(given: Any, look: Look, batch: bool) -> Any:
    """The same with all texts filled; what an interpreter reads is dealt with by itself."""
    match given:
        case str():
            return text(given, look, batch=batch) if "${" in given else given
        case Message():
            fields = given.__struct_fields__
            return type(given)(
                **{
                    name: each if name in ("args", "command") else _filled(each, look, batch)
                    for name in fields
                    for each in (getattr(given, name),)
                }
            )
        case dict():
            return {key: _filled(each, look, batch) for key, each in cast(dict[str, Any], given).items()}
        case list():
            return [_filled(each, look, batch) for each in cast(list[Any], given)]
        case _:
            return given


def _argument(given: str, look: Look, batch: bool) -> list[str]:
    """An argument; one that is nothing but a list becomes as many arguments."""
    value = whole(given, look, batch=batch)
    if isinstance(value, list | tuple):
        return [written(each) for each in cast(list[Any], value)]
    return [written(value)]


def _raw(given: str, field: str, look: Look, batch: bool) -> str:
    for reference in references(given, batch=batch):
        if not reference.raw:
            raise Validation(plain(field, reference), field=field)
    return text(given, look, batch=batch)


def plain(field: str, reference: Reference) -> str:
    """Why a plain reference cannot stand in a text that an interpreter reads."""
    return (
        f"{field}: ${{{reference}}} would become a part of the text: put it into env, "
        f"or write ${{{reference}:raw}} if that is what you want"
    )


def _line(given: str, shell: str, look: Look, batch: bool) -> tuple[str, dict[str, str]]:
    """A line for a shell, and the environment that carries the values into it."""
    carried: dict[str, str] = {}
    names: dict[str, str] = {}

    def value(match: re.Match[str]) -> str | None:
        """The text to be put there, or None where nothing is to be changed."""
        if not _ours(match, batch):
            return None
        return match[0][1:] if match[1] else None

    def put(match: re.Match[str]) -> tuple[str, bool] | None:
        if (kept := value(match)) is not None:
            return kept, False
        if not _ours(match, batch):
            return None
        reference = Reference(match[2], tuple(match[3].split(".")[1:]))
        found = look(reference)
        if match[4]:
            return written(found), False
        name = names.setdefault(str(reference), f"{VALUE}{len(names) + 1}")
        carried[name] = written(found)
        return name, True

    try:
        return quoted(given, shell, _REFERENCE, put), carried
    except Unfit as error:
        raise Validation(f"shell.command: {error}", field="shell.command") from None
