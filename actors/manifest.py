"""From a plugin's code to what can be said of it without its code; runs where the plugin runs."""

import importlib
import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec

from actors.plugin import Capabilities, Handler, Jobs, PluginContext, PluginLike, Resource, Tool
from events import job, plugin
from events.errors import NotFound, Validation
from events.module import Profile, check

GROUP = "hindbrain.plugins"
"""The entry points by which installed plugins are found."""
ENTRY = "entry:"
TOOL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What hosts of MCP take as the name of a tool; a full match is meant."""
NAME_LETTERS = 64
CALL = "call"
"""The handler that every module has: it runs a function that can be imported."""


class Loaded(NamedTuple):
    """A plugin in this process."""

    manifest: plugin.Manifest
    handlers: dict[str, Handler]
    tools: dict[str, Tool]
    resources: dict[str, Resource]
    context: PluginContext


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function to call."""

    function: str
    """`package.module:name`."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def call(wish: Call) -> Any:
    """Run a function that can be imported."""
    return find(wish.function)(*wish.args, **wish.kwargs)


def find(path: str) -> Any:
    """Import `package.module:name`; `NotFound` says what is not there."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise Validation(f"{path!r} names no function: write package.module:name", field="function")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise NotFound(f"{path} cannot be imported: {error}") from error
    return found


def entries() -> dict[str, str]:
    """Installed plugins by name, and the source of each."""
    return {each.name: f"{ENTRY}{each.name}" for each in importlib.metadata.entry_points(group=GROUP)}


def load(module: str, source: str, jobs: Jobs, overrides: Mapping[str, Any]) -> Loaded:
    """Load a plugin and have it register; without a source, a module that runs functions.

    `overrides` changes what the plugin says of its module.
    """
    if not source:
        context = PluginContext(module, jobs)
        context.register_job_handler(CALL, call, description="Run a function that can be imported.")
        return _loaded(context, Capabilities(), "0", "", source, profiled(module, overrides))
    if source.startswith(ENTRY):
        name = source.removeprefix(ENTRY)
        points = importlib.metadata.entry_points(group=GROUP, name=name)
        if not points:
            raise NotFound(f"no installed distribution brings the plugin {name!r}")
        brought: Any = next(iter(points)).load()
    else:
        brought = find(source)
    given = cast("PluginLike", brought() if isinstance(brought, type) else brought)
    name = job.plugin_name(str(getattr(given, "name", "")))
    context = PluginContext(name, jobs)
    capabilities = given.register(context) or Capabilities()
    if f"{name}:{CALL}" not in context.handlers:
        context.register_job_handler(
            CALL, call, visibility="trusted", description="Run a function that can be imported."
        )
    made = profiled(name, {**getattr(given, "module", {}), **overrides, "plugin": name})
    version, text = str(getattr(given, "version", "0")), str(getattr(given, "description", ""))
    return _loaded(context, capabilities, version, text, source, made)


class _Strict(Profile, forbid_unknown_fields=True):
    """What is said of a module; a typo must fail loudly."""


def profiled(name: str, options: Mapping[str, Any]) -> Profile:
    """Make a profile of what is said of a module; `Validation` says what cannot be."""
    try:
        strict = msgspec.convert(dict(options), _Strict)
    except msgspec.ValidationError as error:
        raise Validation(f"module {name}: {error}") from error
    made = Profile(**msgspec.structs.asdict(strict))
    check(made)
    return made


def _loaded(
    context: PluginContext,
    capabilities: Capabilities,
    version: str,
    description: str,
    source: str,
    profile: Profile,
) -> Loaded:
    handlers = {name: _handler(each) for name, each in context.handlers.items()}
    tools = tuple(_tool(context, each, handlers) for each in capabilities.tools)
    if len({each.name for each in tools}) < len(tools):
        raise Validation(f"plugin {context.plugin} offers two tools of one name")
    resources = tuple(map(_resource, capabilities.resources))
    if len({each.uri for each in resources}) < len(resources):
        raise Validation(f"plugin {context.plugin} offers two resources of one address")
    manifest = plugin.Manifest(
        name=context.plugin,
        version=version,
        description=description,
        source=source,
        handlers=tuple(handlers.values()),
        tools=tools,
        resources=resources,
        profile=profile,
    )
    return Loaded(
        manifest,
        dict(context.handlers),
        {each.name: each for each in capabilities.tools},
        {each.uri: each for each in capabilities.resources},
        context,
    )


def _resource(given: Resource) -> plugin.Resource:
    if given.handler is None:
        raise Validation(f"resource {given.uri}: give a handler, which says what is there")
    return plugin.Resource(
        uri=given.uri, name=given.name, description=given.description, mime_type=given.mime_type
    )


def _handler(handler: Handler) -> plugin.Handler:
    job.check(job.Job(type=handler.type))
    options = handler.options
    return plugin.Handler(
        type=handler.type,
        description=handler.description,
        input=schema(handler.input),
        output=schema(handler.output),
        retries=options.retries,
        timeout_ms=options.timeout_ms,
        priority=options.priority,
        visibility=options.visibility,
        repeatable=options.repeatable,
        checks=handler.parse is not None,
    )


def _tool(context: PluginContext, tool: Tool, handlers: dict[str, plugin.Handler]) -> plugin.Tool:
    if bool(tool.job) == (tool.handler is not None):
        raise Validation(f"tool {tool.name}: give a job or a handler, one of them")
    if not TOOL.fullmatch(tool.name):
        raise Validation(f"{tool.name!r} cannot be the name of a tool: use a-z, 0-9, _ and -, at most 64")
    kind = context.typed(tool.job) if tool.job else ""
    if kind and kind not in handlers:
        raise Validation(f"tool {tool.name}: there is no handler of {kind}")
    given = schema(tool.schema)
    taken = handlers[kind].input if kind else None
    return plugin.Tool(
        name=tool.name,
        description=tool.description,
        schema=given or taken or {"type": "object"},
        visibility=tool.visibility,
        job=kind,
        message=tool.message,
        tip=tool.tip,
    )


def implied(known: plugin.Manifest) -> list[plugin.Tool]:
    """A tool for each type of job that no tool of its plugin stands for, by the name `plugin-job`.

    Messages of modules and the running of functions are no jobs of the plugin's own, and what a tool takes is
    an object.
    """
    told = {each.job for each in known.tools} | {f"{known.name}:{CALL}"}
    return [
        plugin.Tool(
            name=each.type.replace(":", "-")[:NAME_LETTERS],
            description=each.description,
            schema=each.input or {"type": "object"},
            visibility=each.visibility,
            job=each.type,
            message="Job queued",
            tip="Use the status tool to check progress",
        )
        for each in known.handlers
        if each.type not in told and not each.type.partition(":")[2].startswith("on-") and _object(each.input)
    ]


def _object(given: dict[str, Any] | None) -> bool:
    """Whether a schema is that of an object, or says nothing."""
    if given is None:
        return True
    part = given.get("$defs", {}).get(str(given.get("$ref", "")).rpartition("/")[2], given)
    return part.get("type") == "object"


def schema(kind: Any) -> dict[str, Any] | None:
    """The JSON Schema of a type, or a schema as it is; None for a type that says nothing."""
    if isinstance(kind, dict):
        return cast("dict[str, Any]", kind)
    if kind is None or kind is Any or kind is type(None):
        return None
    try:
        return msgspec.json.schema(kind)
    except TypeError as error:
        raise Validation(f"{kind} has no JSON Schema: {error}") from error
