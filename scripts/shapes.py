"""Messages as Markdown: their fields with types, defaults and the sentences that stand under them."""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec


class Field(NamedTuple):
    """One field of a message."""

    name: str
    type: str
    default: str
    text: str


def fields(kind: type[Any]) -> list[Field]:
    """The fields of a struct as its source tells them, those it inherits first."""
    told: dict[str, tuple[str, str]] = {}
    for each in reversed(kind.__mro__):
        if not each.__module__.startswith(("events", "interfaces")):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        body: list[ast.stmt] = getattr(tree, "body", [])
        for statement, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                told[statement.target.id] = (ast.unparse(statement.annotation), _docstring(following))
    found: list[Field] = []
    for field in msgspec.structs.fields(kind):
        annotation, text = told[field.name]
        if field.default is not msgspec.NODEFAULT:
            default = (
                "null"
                if field.default is None
                else ""
                if field.default is msgspec.UNSET
                else repr(field.default)
            )
        elif field.default_factory is not msgspec.NODEFAULT:
            default = repr(field.default_factory()).replace("()", "")
        else:
            default = "required"
        found.append(Field(field.encode_name, annotation.strip("'\""), default, text))
    return found


def _docstring(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
        case _:
            return ""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n\n"
    )


def shape(kind: type[Any]) -> str:
    """The fields of a message as a table; nothing for one without fields."""
    rows = [
        (f"`{f.name}`", f"`{f.type}`", f"`{f.default}`" if f.default else "", f.text) for f in fields(kind)
    ]
    return table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n\n"


def arguments(schema: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The properties of a JSON Schema: name, type, default and meaning."""
    needed = schema.get("required", ())
    rows: list[tuple[str, str, str, str]] = []
    for name, each in schema.get("properties", {}).items():
        kinds = [kind for kind in each.get("anyOf", [each]) if kind.get("type") != "null"]
        bounds = [
            f"{word} {kind[key]:g}"
            for kind in kinds
            for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
            if key in kind
        ]
        default = "required" if name in needed else each.get("default")
        words = " or ".join(str(kind.get("type", "any")) for kind in kinds)
        shown = "" if default is None else f"`{default}`"
        rows.append((f"`{name}`", " ".join([words, *bounds]), shown, each.get("description", "")))
    return rows


def text(kind: object) -> str:
    """What a class or function says of itself."""
    return (inspect.getdoc(kind) or "").strip()
