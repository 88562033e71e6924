"""Write the pages of docs/reference that follow from the types; `--check` says whether they are up to date.

A page is made of what the program itself uses: the table of verbs, the events, the subject map, the
declarations of the columns, the settings, the tree of errors, the command line and the facade.

It is long because it is one list: a function for each page.
"""

import inspect
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import wording
from shapes import arguments, fields, shape, table, text

from bus import permissions, streams
from events import codec, service, spec
from events.message import Message
from interfaces import client, describe, settings, sinks
from interfaces import metrics as figures
from interfaces.api import ExecutionEngine
from interfaces.cli import VERBS, cli
from interfaces.mcp import asking, working
from projections.projection import Column, Count, Projection
from projections.store import PROJECTIONS, SELECTIONS, Store

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by scripts/reference.py from the code. Change it there. -->\n\n"


def commands() -> str:
    """Every verb with its request and its reply."""
    page = wording.COMMANDS
    page += table(
        ("subject", "what it does"),
        [(f"[`brain.cmd.{v.kind}.{v.name}`](#{v.kind}-{v.name})", v.text) for v in service.VERBS],
    )
    for verb in service.VERBS:
        page += f"## {verb.kind} {verb.name}\n\n{verb.text} (`brain.cmd.{verb.kind}.{verb.name}`)\n\n"
        page += f"**Request**\n\n{shape(verb.request)}"
        page += f"**Reply**\n\n{shape(verb.reply)}"
    page += "# Parts of requests and replies\n\n"
    parts = (
        spec.Script,
        spec.Exec,
        spec.Shell,
        spec.Aws,
        spec.Blob,
        spec.Limits,
        service.Execution,
        service.Detail,
        service.Held,
    )
    more = (service.Outcome, service.Piece, service.Row, service.Column, describe.Problem)
    for kind in (*parts, *more):
        page += f"## {kind.__name__}\n\n{text(kind)}\n\n{shape(kind)}"
    return page


def events() -> str:
    """Every event with its body and its envelope."""
    page = wording.EVENTS
    page += table(
        ("in `events`", "where it is on the bus"),
        [(f"`{name}`", where) for name, where in wording.ENVELOPE.items()],
    )
    page += wording.CHAIN
    for kind, module in codec.KINDS.items():
        page += f"# {kind}\n\n{text(module)}\n\n".replace("\n      ", "\n          ")
        for event in codec.events_of(kind):
            page += f"## {kind} {event.name()}\n\n{text(event)}\n\n{shape(event)}"
    page += "# Parts of events\n\n"
    from events import execution, scaling

    seen = (scaling.Seen, scaling.Decision, scaling.Policy)
    looks = (scaling.Snapshot, scaling.ModuleLook, scaling.CategoryLook)
    for part in (spec.Spec, execution.End, execution.Progress, *seen, *looks):
        page += f"## {part.__name__}\n\n{text(part)}\n\n{shape(part)}"
    return page


def bus() -> str:
    """The subject map, the streams behind it and who may do what."""
    page = "# Subjects\n\n" + table(
        ("subject", "meaning"),
        [(f"`{pattern}`", meaning) for pattern, meaning in describe.channels().items()],
    )
    page += (
        "`<kind>` is one of "
        + ", ".join(f"`{kind}`" for kind in codec.KINDS)
        + "; a token is 1 to 64 of `a-z 0-9 _ -`.\n"
    )
    page += "## Headers\n\n"
    page += table(("subject", "headers"), wording.HEADERS)
    page += "# Streams\n\n" + textwrap.indent(inspect.getdoc(streams) or "", "    ") + "\n\n"
    rows = [
        (
            f"`{each.name}`",
            " ".join(f"`{subject}`" for subject in each.subjects),
            f"{each.max_bytes / streams.GIB:g} GiB",
            f"{each.max_age / streams.DAY:g} days" if each.max_age else "for good",
            "refuses more" if each.full.value == "new" else "drops the oldest",
            "after" if each.lazy else "before",
        )
        for each in streams.definitions()
    ]
    page += table(
        ("stream", "subjects", "at most", "kept", "when full", "confirmed ... it is on the disk"), rows
    )
    page += "# Users\n\n" + text(permissions) + "\n\n"
    for user in permissions.USERS:
        allowed = permissions.permissions(user)
        page += f"## {user}\n\n"
        if allowed is None:
            page += "Everything.\n\n"
            continue
        for side, word in (("publish", "May publish"), ("subscribe", "May listen")):
            page += f"{word}:\n\n    " + "\n    ".join(allowed[side]["allow"]) + "\n\n"
    return page


def tables() -> str:
    """Every public table; for each column its type and where it comes from."""
    page = wording.TABLES
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "brain.duckdb")
        found = store.cursor().execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            " WHERE database_name = 'memory' AND schema_name = 'main' AND NOT internal"
            " ORDER BY table_oid, column_index"
        )
        types: dict[str, dict[str, str]] = {}
        for name, column, kind in found.fetchall():
            types.setdefault(name, {})[column] = kind
        store.close()
    folded = {each.name: each for each in PROJECTIONS}
    selected = {each.name: each for each in SELECTIONS}
    for name, about in wording.ABOUT.items():
        columns = types.pop(name)
        page += f"## {name}\n\n{about}\n\n"
        if name in folded:
            rows = [
                (f"`{column}`", f"`{kind}`", *_origin(folded[name], column))
                for column, kind in columns.items()
            ]
            page += table(("column", "type", "meaning", "where it comes from"), rows)
        elif name in selected:
            taken = dict(selected[name].columns)
            rows = [
                (f"`{column}`", f"`{kind}`", f"`{taken[column]}` of `{selected[name].of.name}`")
                for column, kind in columns.items()
            ]
            page += table(("column", "type", "meaning"), rows)
        else:
            said = wording.ENVELOPE if name == "events" else wording.LOOSE[name]
            page += table(
                ("column", "type", "meaning"),
                [(f"`{column}`", f"`{kind}`", said[column]) for column, kind in columns.items()],
            )
    if types:
        raise SystemExit(f"scripts/reference.py has no text for {', '.join(types)}")
    return page


def _origin(projection: Projection, name: str) -> tuple[str, str]:
    if name == "id":
        return "the id", "fourth token of the subject"
    if name == "seq":
        return "the last event that speaks of it", "the sequence of that event"
    if name in dict(projection.told):
        return dict(projection.told)[name], "worked out when it is asked for, from columns of the tables"
    if name in dict(projection.extras):
        return f"the text of {name}", "a view over the log file; not folded, and it has no past of its own"
    column = next(each for each in projection.columns if each.name == name)
    if isinstance(column, Count):
        since = column.since
        if since is None:
            return column.text, f"counted over {_names(column.events)}"
        return column.text, f"number of {_names(column.events)} after the {since.pick} {_names(since.events)}"
    return column.text, _source(column)


def _source(column: Column) -> str:
    if column.source is None:
        return "no event yet"
    paths = list(dict.fromkeys(re.findall(r"\$((?:\.\w+)+)", column.value)))
    envelope = list(dict.fromkeys(re.findall(r"@(\w+)", column.value)))
    read = [f"`{path[1:]}`" for path in paths] + [f"the {wording.SAID[name]}" for name in envelope]
    return f"{', '.join(read)} of the {column.source.pick} {_names(column.source.events)}"


def _names(events: Sequence[str]) -> str:
    return " / ".join(f"`{event}`" for event in events)


def options() -> str:
    """Every setting."""
    page = "# Settings\n\n" + text(settings) + "\n\n"
    rows: list[tuple[str, ...]] = []
    known = settings.keys()

    def walk(kind: type[Any], before: str) -> None:
        for field in fields(kind):
            inner = getattr(settings, field.type, None)
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                walk(inner, f"{before}{field.name}.")
            elif before + field.name in known:
                key = before + field.name
                variable = settings.PREFIX + key.upper().replace(".", "__")
                default = {"data": "the platform's place", "max_concurrent_executions": "4 x cores"}.get(
                    key, f"`{field.default}`"
                )
                rows.append((f"`{key}`", f"`{variable}`", f"`{field.type}`", default, field.text))

    walk(settings.Settings, "")
    page += table(("key", "environment variable", "type", "default", "meaning"), rows)
    page += f"Roles: {', '.join(f'`{role}`' for role in settings.ROLES)}.\n\n"
    page += (
        "A node tells its commands "
        + ", ".join(f"`{name}`" for name in sorted(settings.OURS))
        + " and `HINDBRAIN_DATA`; the first are no settings.\n"
    )
    return page


def errors() -> str:
    """Every way to say no, every way to end, and what the command line makes of it."""
    page = wording.ERRORS
    page += table(
        ("code", "status", "message when there is no other"),
        [(f"`{e['code']}`", e["status"], e["message"]) for e in describe.errors()],
    )
    page += "The same as Python exceptions:\n\n" + textwrap.indent(_tree(), "    ") + "\n\n"
    page += wording.ENDS
    page += table(("code", "meaning"), [(f"`{code}`", meaning) for code, meaning in wording.REASONS.items()])
    return page


def _tree() -> str:
    from events import errors as module

    return "\n".join(line[4:] for line in (module.__doc__ or "").splitlines() if line.startswith("    "))


def line() -> str:
    """Every verb of the command line with its options."""
    page = "# The command line\n\n" + table(
        ("verb", "what it does"),
        [(f"[`hindbrain {name}`](#hindbrain-{name})", says) for name, (_, says) in VERBS.items()],
    )
    page += "## Exit codes\n\n" + table(("code", "meaning"), wording.EXITS)
    context = click.Context(cli, info_name="hindbrain")
    for name in VERBS:
        verb = cli.get_command(context, name)
        if verb is None:
            raise SystemExit(f"the verb {name} is not there")
        usage = " ".join(verb.collect_usage_pieces(click.Context(verb, info_name=name, parent=context)))
        says = inspect.cleandoc(verb.help or "").replace("\b", "\\b")
        first, _, example = says.partition("\n\n\\b\n")
        page += f"## hindbrain {name}\n\n    hindbrain {name} {usage}\n\n{first}\n\n"
        if example:
            page += textwrap.indent(example, "    ") + "\n\n"
        rows = [
            (", ".join(f"`{word}`" for word in (*option.opts, *option.secondary_opts)), option.help or "")
            for option in verb.params
            if isinstance(option, click.Option)
        ]
        page += table(("option", "meaning"), rows) if rows else ""
    return page


def methods(kind: type[Any]) -> str:
    """What can be called on it."""
    page = ""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = getattr(member, "__func__", member)
        given = (
            str(inspect.signature(function))
            .replace("'", "")
            .replace("events.service.", "")
            .replace("collections.abc.", "")
        )
        word = "async " if inspect.iscoroutinefunction(function) else ""
        given = re.sub(r"(cls|self)(, )?", "", given, count=1)
        page += f"### {name}\n\n    {word}{name}{given}\n\n{text(function)}\n\n"
    return page


def python() -> str:
    """The facade and what an observer is told."""
    page = (
        "# Python\n\n"
        + text(sys.modules[ExecutionEngine.__module__]).replace("\n    ", "\n        ")
        + "\n\n## ExecutionEngine\n\n"
        + text(ExecutionEngine)
        + "\n\n"
    )
    page += methods(ExecutionEngine)
    page += "## AsyncBrainClient\n\n" + text(client).replace("\n    ", "\n        ") + "\n\n"
    page += text(client.AsyncBrainClient) + "\n\n" + methods(client.AsyncBrainClient)
    rows = [
        (f"`{r.name}`", f"`{r.flag}`" if r.flag else "always", r.category, r.priority) for r in client.MODULES
    ]
    page += table(("module", "started by", "category", "priority"), rows)
    page += "### BrainClient\n\n" + text(client.BrainClient) + "\n\n"
    page += (
        "## What an event handler is told\n\n"
        + text(sinks)
        + "\n\nA handler has one method, `on_event(event)`.\n\n"
    )
    told = [
        each
        for each in vars(sinks).values()
        if isinstance(each, type) and issubclass(each, Message) and each is not sinks.Happening
    ]
    for kind in (each for each in told if each.__module__ == sinks.__name__):
        page += f"### {kind.__name__}\n\n{text(kind)}\n\n{shape(kind)}"
    return page


def metrics() -> str:
    """Every figure that `/metrics` gives."""
    page = wording.METRICS
    page += table(
        ("name", "type", "labels", "meaning"),
        [
            (f"`{each.name}`", each.kind, " ".join(f"`{label}`" for label in each.labels), each.text)
            for each in figures.FAMILIES
        ],
    )
    bounds = ", ".join(f"{bound:g}" for bound in figures.BUCKETS)
    return page + f"Buckets of the histogram, in seconds: {bounds}. Parts: {', '.join(figures.PARTS)}.\n"


def agents() -> str:
    """Every tool of the MCP server with its arguments and its answer, and what can be read by address."""
    from interfaces.mcp import resources, server
    from interfaces.mcp.table import TOOLS

    page = wording.AGENTS + textwrap.indent(textwrap.fill(server.INSTRUCTIONS, 100), "> ") + "\n\n"
    page += table(("tool", "what it does"), [(f"[`{t.name}`](#{t.name})", t.title) for t in TOOLS.values()])
    for tool in TOOLS.values():
        hints = tool.hints._asdict().items()
        told = ", ".join(name.replace("_", " ") for name, so in hints if so)
        page += f"## {tool.name}\n\n{tool.text}\n\nHints: {told}.\n\n**Arguments**\n\n"
        page += table(("argument", "type", "default", "meaning"), arguments(tool.input))
        page += f"**Answer**\n\n{shape(tool.reply)}"
    page += "# Parts of answers\n\n"
    for kind in (working.Brief, asking.Step):
        page += f"## {kind.__name__}\n\n{text(kind)}\n\n{shape(kind)}"
    page += "# Resources\n\n" + table(
        ("address", "what it is"),
        [(f"`{each.uri_template}`", each.description) for each in resources.TEMPLATES],
    )
    return page + wording.TASKS


def door() -> str:
    """Every path of the HTTP door."""
    from interfaces import openapi

    paths: dict[str, dict[str, Any]] = json.loads(openapi.document())["paths"]
    rows = [
        (f"`{method.upper()} {path}`", operation["summary"])
        for path, methods in paths.items()
        for method, operation in methods.items()
        if not path.startswith("/api/") or method == "get"
    ]
    rows += [("`GET /brain`", "The same as `/`."), ("`WS /ws`", wording.SOCKET), *wording.PEOPLE]
    rows.append(("`POST /api/{kind}/{verb}`", "Any verb: the request as the body, the reply as the answer."))
    page = wording.HTTP + table(("route", "what it does"), rows) + wording.HTTP_MORE
    return page + table(
        ("route", "what it does"),
        [
            (f"[`POST /api/{verb.kind}/{verb.name}`](commands.md#{verb.kind}-{verb.name})", verb.text)
            for verb in service.VERBS
        ],
    )


PAGES = {
    "commands.md": commands,
    "events.md": events,
    "subjects.md": bus,
    "tables.md": tables,
    "settings.md": options,
    "errors.md": errors,
    "cli.md": line,
    "python.md": python,
    "metrics.md": metrics,
    "mcp.md": agents,
    "http.md": door,
}


def write(folder: Path) -> None:
    """Write all pages, and beside them the schemas and the AsyncAPI document."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(NOTE + page().rstrip() + "\n")
    describe.write(folder)


def stale() -> list[str]:
    """Which files are not what the code says."""
    with tempfile.TemporaryDirectory() as place:
        fresh = Path(place)
        write(fresh)
        names = {str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file()}
        names |= {str(path.relative_to(FOLDER)) for path in (FOLDER / "schemas").glob("*.json")}
        return sorted(name for name in names if _read(fresh / name) != _read(FOLDER / name))


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


if __name__ == "__main__":
    if "--check" in sys.argv:
        old = stale()
        sys.exit(f"out of date: {', '.join(old)}; run .venv/bin/python scripts/reference.py" if old else 0)
    write(FOLDER)
