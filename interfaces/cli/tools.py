"""Tools of plugins as verbs: what a tool takes becomes options, made from its JSON Schema."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import click

from interfaces.cli import following, run, show
from interfaces.cli.options import asked, connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

Schema = dict[str, Any]
PLAIN: dict[Any, Any] = {"string": click.STRING, "integer": click.INT, "number": click.FLOAT}
PLACE = {"--data": "data", "--nats": "nats.url", "--config": "config"}
TAKEN = {"data", "nats", "config", "json", "wait", "help"}
"""Options that every verb of this kind has; a tool's own of such a name gets `tool-` before it."""

wait_option = click.option("--wait", is_flag=True, help="Show how far it is, and end as it ends.")


class Json(click.ParamType):  # type: ignore[reportMissingTypeArgument] -- older versions take none
    """A value that is written as JSON."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        try:
            return json.loads(value)
        except ValueError as error:
            return self.fail(f"{value!r} is no JSON: {error}", param, ctx)


class Field(NamedTuple):
    """One thing that a tool takes."""

    name: str
    option: click.Option
    path: bool
    """It is a path, which counts from where the caller is."""
    default: Any


def tools(settings: "Settings") -> list[dict[str, Any]]:
    """The tools of the running node that we may see."""
    return asked(settings, "plugin", "tools", {})["tools"]


def find(name: str, words: Sequence[str]) -> tuple[click.Command | None, list[str]]:
    """The tool of that name as a verb, and the names of all tools of the node that the words mean."""
    from interfaces.settings import load

    given: dict[str, Any] = {}
    row = iter(words)
    for word in row:
        option, equals, value = word.partition("=")
        if option in PLACE:
            given[PLACE[option]] = value if equals else next(row, None)
    found = {tool["name"]: tool for tool in tools(load(given))}
    return (verb(found[name]) if name in found else None), list(found)


def verb(tool: dict[str, Any]) -> click.Command:
    """Make a verb of a tool."""
    fields = _fields(tool["schema"])

    @click.command(tool["name"], help=f"{tool['description']} (a tool of {tool['plugin']})")
    @wait_option
    @json_option
    @place
    def called(settings: Any, wait: bool, as_json: bool, **given: Any) -> None:
        arguments: dict[str, Any] = {}
        for field in fields:
            value = given[str(field.option.name)]
            value = list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
            value = field.default if value in (None, []) and field.path else value
            if value not in (None, []):
                arguments[field.name] = _absolute(value) if field.path else value
        call(settings(), tool["name"], arguments, wait=wait, as_json=as_json)

    called.params[:0] = [field.option for field in fields]
    return called


def call(settings: "Settings", name: str, arguments: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Call a tool, and follow what it has begun if wanted."""
    result: Any = asked(settings, "plugin", "call", {"name": name, "arguments": arguments})["result"]
    begun = cast("dict[str, Any]", result) if isinstance(result, dict) else {}
    entity = begun.get("batchId") or begun.get("jobId")
    if wait and entity:
        sys.exit(followed(settings, entity, as_json))
    if as_json:
        show.dump(result)
    elif entity and begun.get("message"):
        click.echo(f"{begun['message']}: hindbrain wait {entity}")
    else:
        click.echo(result if isinstance(result, str) else show.cell(result))


def followed(settings: "Settings", entity: str, as_json: bool) -> int:
    """Follow a job or a batch to its end; gives the exit code."""
    return (
        following.watch(settings, entity, as_json=as_json)
        if entity.startswith("plan_")
        else _follow(settings, entity, as_json)
    )


@connected
async def _follow(engine: "ExecutionEngine", execution_id: str, as_json: bool) -> int:
    return await run.follow(engine, execution_id, as_json, lines=True)


def _absolute(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_absolute(each) for each in cast("Sequence[Any]", value)]
    return str(Path(value).expanduser().absolute())


# ---- from a schema to options ----------------------------------------------------------------------------


def _fields(schema: Schema) -> list[Field]:
    whole = _resolved(schema, schema)
    needed = whole.get("required", ())
    properties: dict[str, Schema] = whole.get("properties", {})
    return [_field(name, each, schema, name in needed) for name, each in properties.items()]


def _resolved(part: Schema, schema: Schema) -> Schema:
    """A part without references, and without the null beside what it is."""
    for _ in range(20):
        some = [each for each in part.get("anyOf", ()) if each.get("type") != "null"]
        if "$ref" in part:
            target: Any = schema
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            part = {**target, **{name: each for name, each in part.items() if name != "$ref"}}
        elif len(some) == 1:
            part = {**some[0], **{name: each for name, each in part.items() if name != "anyOf"}}
        else:
            break
    return part


def _field(name: str, given: Schema, schema: Schema, needed: bool) -> Field:
    part = _resolved(given, schema)
    many = part.get("type") == "array"
    inner = _resolved(part.get("items", {}), schema) if many else part
    kind = _kind(inner)
    many = many and not isinstance(kind, Json)
    path = inner.get("format") == "path"
    default = part.get("default")
    word = kebab(name)
    word = f"tool-{word}" if word in TAKEN or word.startswith("no-") else word
    switch = inner.get("type") == "boolean" and not many
    unsaid: dict[str, Any] = {"default": None} if switch else {}
    option = click.Option(
        [f"--{word}/--no-{word}" if switch else f"--{word}", f"given_{word.replace('-', '_')}"],
        type=click.BOOL if switch else kind,
        required=needed,
        multiple=many,
        **unsaid,
        metavar="PATH" if path else None,
        help=" ".join([str(part.get("description", "")), _usually(default)]).strip() or None,
    )
    return Field(name, option, path, default)


def _kind(part: Schema) -> Any:
    options = part.get("enum")
    if options and all(isinstance(each, str) for each in options):
        return click.Choice(options)
    return PLAIN.get(part.get("type"), Json())


def _usually(default: Any) -> str:
    match default:
        case None | "" | [] | {}:
            return ""
        case bool():
            return f"[default: {'yes' if default else 'no'}]"
        case _:
            return f"[default: {default if isinstance(default, str) else json.dumps(default)}]"


def kebab(name: str) -> str:
    """A property as an option is written: `outputDir` and `output_dir` become `output-dir`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", parted.lower()).strip("-")
