"""Tasks: phases that go from engine to engine.

It is long because it is one list: every verb with its options and its help.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from interfaces.cli import GAVE_UP, show
from interfaces.cli.options import CANCELLED, asked, connected, json_option, place, seconds

if TYPE_CHECKING:
    from events.ir import TaskIR
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

ID = click.argument("task_id", metavar="ID")
words_option = click.option(
    "--as",
    "kind",
    type=click.Choice(["ir", "playbook", "mcp"]),
    help="In whose words: of a task, a playbook, or a task of MCP.",
)
FAILED = 1
LINES_MOST = 64 * 1024 * 1024
"""Bytes of a file with tasks of another system."""


@click.group("task")
def task_verb() -> None:
    r"""Run tasks: phases that go from engine to engine, with what each of them left.

    \b
    hindbrain task run move.json
    hindbrain task show task_01j...
    hindbrain task handoff task_01j... --to mcp:files/read
    """


@task_verb.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@words_option
@click.option("--engine", metavar="ENGINE", help="Who does the next phase, such as playbook:NAME.")
@click.option("--key", metavar="KEY", help="The same key runs only once, ever; the id in the file else.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it runs; here when left out.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@place
def run_verb(
    settings: Any,
    file: Path,
    kind: str | None,
    engine: str | None,
    key: str | None,
    cwd: Path | None,
    detach: bool,
    as_json: bool,
) -> None:
    r"""Take on the task of a file, and end with 1 when it fails or is paused.

    \b
    hindbrain task run move.json
    hindbrain task run release.toml --as playbook
    """
    import msgspec

    from interfaces.cli.background import ensure
    from interfaces.tasks import Tasks, read

    task, change = read(file, kind), msgspec.structs.replace
    here = str((cwd or Path.cwd()).absolute())
    if cwd is not None or task.metadata.working_dir is None:
        task = change(task, metadata=change(task.metadata, working_dir=here))
    if key is not None:
        task = change(task, task_id=key)
    known = settings()
    ensure(known)

    @connected
    async def start(connection: "ExecutionEngine") -> dict[str, Any]:
        return await Tasks(connection).initiate_task_execution(task, engine)

    reply = start(known)
    if detach and as_json:
        show.dump(reply)
    elif not as_json or detach:
        click.echo(f"{reply['message']} {reply['task_id']}", err=not detach)
    if not detach:
        sys.exit(_waited(known, reply["task_id"], None, as_json))


def _waited(settings: "Settings", task_id: str, timeout: float | None, as_json: bool) -> int:
    @connected
    async def wait(engine: "ExecutionEngine") -> tuple[dict[str, Any], bool]:
        from interfaces.tasks import Tasks

        return await Tasks(engine).wait(task_id, timeout)

    found, done = wait(settings)
    if as_json:
        show.dump(found)
    else:
        click.echo(_title(found), err=True)
    status = found["task"]["status"]
    if status == "cancelled":
        return CANCELLED
    if status == "done":
        return 0
    return FAILED if done or status == "paused" else GAVE_UP


def _title(found: dict[str, Any]) -> str:
    task = found["task"]
    phases = task.get("phases", [])
    behind = sum(each.get("status") in ("done", "skipped") for each in phases)
    text = f"{task['task_id']} {task.get('status', 'pending')}, {behind} of {len(phases)} phases"
    error: dict[str, Any] = found["problem"] or {}
    why = error.get("message") or found["reason"]
    text += f": {why}" if why else ""
    if task.get("status") == "paused":
        text += f"\nGo on with: hindbrain task resume {task['task_id']}"
    return text


@task_verb.command("list")
@click.option("--status", help="Only those: pending, running, paused, done, failed, cancelled.")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--source", help="Only those that came from there.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=int, metavar="SEQ", help="Only those born before this sequence.")
@json_option
@place
def list_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List tasks, newest first.

    \b
    hindbrain task list --status paused
    """
    found = asked(settings(), "task", "list", which, fresh=True)["tasks"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [
            *(each["id"], each["status"], each["current_phase"], each["engine"], each["created_at"]),
            each["title"] or each["source_id"],
        ]
        for each in found
    ]
    show.table(("id", "status", "phase", "engine", "taken on", "what"), rows)


@task_verb.command("show")
@ID
@json_option
@place
def show_verb(settings: Any, task_id: str, as_json: bool) -> None:
    r"""Show one task with its phases and handoffs.

    \b
    hindbrain task show task_01j...
    """
    found = asked(settings(), "task", "get", {"task_id": task_id})
    if as_json:
        show.dump(found)
        return
    click.echo(_title(found))
    rows: list[list[Any]] = [
        [
            *(each["id"], each["preferred_engine"], each.get("status", "pending"), each.get("run")),
            _said(each),
        ]
        for each in found["task"].get("phases", [])
    ]
    show.table(("phase", "engine", "status", "run", "what"), rows)
    for each in found["handoffs"]:
        route = f"{each['from_engine']} -> {each['to_engine']}"
        click.echo(f"{each['time']} {each['phase_id']}: {route} {each['reason']}".rstrip())


def _said(phase: dict[str, Any]) -> str:
    error: dict[str, Any] = phase.get("error") or {}
    return error.get("message") or str(phase.get("summary", "")).split("\n", 1)[0]


@task_verb.command("wait")
@ID
@click.option("--timeout", metavar="S", help="Give up after so long: exit code 4.")
@json_option
@place
def wait_verb(settings: Any, task_id: str, timeout: str | None, as_json: bool) -> None:
    r"""Wait until a task is over or paused; end with 1 unless it is done.

    \b
    hindbrain task wait task_01j... --timeout 1h
    """
    sys.exit(_waited(settings(), task_id, None if timeout is None else seconds(timeout), as_json))


@task_verb.command("handoff")
@ID
@click.option("--to", "to_engine", required=True, metavar="ENGINE", help="Who gets it.")
@click.option("--phase", "phase_id", help="Which phase; the one that stands now when left out.")
@click.option("--reason", default="", help="Why.")
@click.option("--values", "given", metavar="JSON", help="What it gets there, in place of what it had.")
@json_option
@place
def handoff_verb(settings: Any, given: str | None, as_json: bool, **body: Any) -> None:
    r"""Give a phase of a task to another engine; the one that has it lets go first.

    \b
    hindbrain task handoff task_01j... --to remote:http://localhost:8899
    hindbrain task handoff task_01j... --to mcp:files/read --values '{"path": "notes.txt"}'
    """
    if given is not None:
        try:
            body["values"] = json.loads(given)
        except ValueError as error:
            raise click.UsageError(f"--values is no JSON: {error}") from None
    reply = asked(settings(), "task", "handoff", body)
    if as_json:
        show.dump(reply)
    else:
        route = f"{reply['from_engine']} -> {reply['phase']['preferred_engine']}"
        already = "" if reply["changed"] else " already"
        click.echo(f"{reply['task_id']} {reply['phase']['id']}: {route}{already}. (event {reply['seq']})")


@task_verb.command("resume")
@ID
@json_option
@place
def resume_verb(settings: Any, task_id: str, as_json: bool) -> None:
    r"""Let a paused task go on.

    \b
    hindbrain task resume task_01j...
    """
    _changed(settings(), "resume", {"task_id": task_id}, as_json)


@task_verb.command("cancel")
@ID
@click.option("--reason", help="Why.")
@json_option
@place
def cancel_verb(settings: Any, task_id: str, reason: str | None, as_json: bool) -> None:
    r"""Stop a task, and what runs of it.

    \b
    hindbrain task cancel task_01j... --reason 'not needed'
    """
    _changed(settings(), "cancel", {"task_id": task_id, "reason": reason}, as_json)


def _changed(settings: "Settings", verb: str, body: dict[str, Any], as_json: bool) -> None:
    reply = asked(settings, "task", verb, body)
    if as_json:
        show.dump(reply)
    else:
        already = "" if reply["changed"] else " already"
        click.echo(f"{reply['task_id']} is {reply['status']}{already}. (event {reply['seq']})")


@task_verb.command("export")
@ID
@words_option
@place
def export_verb(settings: Any, task_id: str, kind: str | None) -> None:
    r"""Print a task as it is now, for another program: as a task, a playbook, or a task of MCP.

    \b
    hindbrain task export task_01j... --as playbook > move.json
    """
    from interfaces.adapters import MCPIRAdapter, PlaybookIRAdapter
    from interfaces.tasks import Tasks

    @connected
    async def get(engine: "ExecutionEngine") -> "TaskIR":
        return await Tasks(engine).exported(task_id)

    task = get(settings())
    match kind:
        case "playbook":
            click.echo(PlaybookIRAdapter().to_playbook(task))
        case "mcp":
            click.echo(MCPIRAdapter().to_mcp(task))
        case _:
            import msgspec

            click.echo(msgspec.json.format(msgspec.json.encode(task), indent=2))


@task_verb.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--source", help="What the system is called that they come from; the file when left out.")
@click.option("--workspace", help="The workspace that they get.")
@json_option
@place
def import_verb(settings: Any, file: Path, source: str | None, workspace: str | None, as_json: bool) -> None:
    r"""Take on tasks of another system, one JSON object a line; those that are not over run as playbooks.

    The same file again takes on nothing twice.  No checkpoints are made of such tasks.

    \b
    hindbrain task import old.jsonl --source tracker
    """
    records = _records(file)

    @connected
    async def take(engine: "ExecutionEngine") -> list[dict[str, Any]]:
        from interfaces.tasks import Tasks

        return await Tasks(engine).taken_on(records, source or file.stem, workspace)

    made = take(settings())
    if as_json:
        show.dump(made)
        return
    for each in made:
        already = ", as it was already" if each["duplicate"] else ""
        click.echo(f"{each['task_id']} {each['status']}{already}")


def _records(file: Path) -> list[dict[str, Any]]:
    """Read all lines before anything is asked."""
    from events.errors import Validation

    try:
        if file.stat().st_size > LINES_MOST:
            raise Validation(f"{file} is larger than {LINES_MOST // 2**20} MiB: part it", field="file")
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Validation(f"{file} cannot be read: {error}", field="file") from None
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise Validation(f"{file}:{number}: {error}", field="file") from None
        if not isinstance(record, dict):
            raise Validation(f"{file}:{number}: a task is an object", field="file")
        records.append(cast("dict[str, Any]", record))
    if not records:
        raise Validation(f"{file} holds no tasks", field="file")
    return records
