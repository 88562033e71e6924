"""What became of the work, and what else should become of it."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import GAVE_UP, following, plan, show, why
from interfaces.cli.options import Verb, asked, connected, exit_code, json_option, place, seconds
from interfaces.cli.run import secret as value

if TYPE_CHECKING:
    from events.service import Execution, Outcome
    from interfaces.api import ExecutionEngine


@click.command("status")
@click.argument("execution_id", metavar="[ID]", required=False)
@json_option
@place
def status_verb(settings: Any, execution_id: str | None, as_json: bool) -> None:
    r"""Show an execution or a plan as it is now; without an ID, all that goes on in the background.

    \b
    hindbrain status exec_01j...
    """
    if execution_id is None:
        why.going(settings(), as_json)
    elif execution_id.startswith("plan_"):
        plan.shown(settings(), execution_id, as_json)
    else:
        _show(_status(settings(), execution_id), as_json)


def _show(execution: "Execution", as_json: bool) -> None:
    if as_json:
        show.dump(execution)
        return
    error = execution.error or {}
    rows = [
        ("id", execution.id),
        ("status", execution.status),
        ("command", execution.command),
        ("description", execution.description),
        ("waits for", execution.held.reason if execution.held else None),
        ("started", execution.started),
        ("elapsed", None if execution.elapsed_seconds is None else f"{execution.elapsed_seconds:.1f} s"),
        ("progress", execution.progress),
        ("last output", execution.last_output),
        ("exit code", execution.exit_code),
        ("signal", execution.signal),
        ("error", error.get("message")),
        ("labels", ", ".join(execution.labels) or None),
        ("attempt", execution.attempt if execution.attempt > 1 else None),
        ("retry of", execution.retry_of),
        ("output", execution.log_path),
    ]
    show.pairs([(name, value) for name, value in rows if value is not None])


@connected
async def _status(engine: "ExecutionEngine", execution_id: str) -> "Execution":
    return await engine.get_status(execution_id)


@click.command("list")
@click.option("--status", help="Only those: queued, running, completed, failed, ...")
@click.option("--label", help="Only those with this label.")
@click.option("--module", help="Only those of this module.")
@click.option("--plan", "plan_id", metavar="ID", help="Only those of this plan.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=int, metavar="SEQ", help="Only those born before this sequence.")
@json_option
@place
def list_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List executions, newest first.

    \b
    hindbrain list --status running
    """
    found = _list(settings(), which)
    if as_json:
        show.dump(found)
        return
    keys = ("id", "status", "started_at", "progress", "exit_code")
    rows = [[*map(row.get, keys), row.get("description") or row.get("command")] for row in found]
    show.table(("id", "status", "started", "progress", "exit", "command"), rows)


@connected
async def _list(engine: "ExecutionEngine", which: dict[str, Any]) -> list[dict[str, Any]]:
    return await engine.list_executions(**which)


@click.command("wait")
@click.argument("execution_id", metavar="ID")
@click.option("--timeout", metavar="S", help="Give up after so long: exit code 4.")
@json_option
@place
def wait_verb(settings: Any, execution_id: str, timeout: str | None, as_json: bool) -> None:
    r"""Wait for the end of an execution or a plan, and end as it ended.

    \b
    hindbrain wait exec_01j... --timeout 5m
    """
    if execution_id.startswith("plan_"):
        sys.exit(following.wait(settings(), execution_id, timeout, as_json=as_json))
    execution = _wait(settings(), execution_id, None if timeout is None else seconds(timeout))
    _show(execution, as_json)
    sys.exit(GAVE_UP if execution.completed_at is None else exit_code(execution))


@connected
async def _wait(engine: "ExecutionEngine", execution_id: str, limit: float | None) -> "Execution":
    from events.errors import Timeout

    try:
        return await engine.wait_for_completion(execution_id, limit)
    except Timeout:
        return await engine.get_status(execution_id)


@click.command("result")
@click.argument("execution_id", metavar="ID")
@click.option("--max-bytes", type=int, help="At most so much of each stream.")
@json_option
@place
def result_verb(settings: Any, execution_id: str, max_bytes: int | None, as_json: bool) -> None:
    r"""Show exit code and output of an execution that is over.

    \b
    hindbrain result exec_01j... --json
    """
    outcome = _result(settings(), execution_id, max_bytes)
    if as_json:
        show.dump(outcome)
        return
    rows = [
        ("success", "yes" if outcome.success else "no"),
        ("exit code", outcome.exit_code),
        ("signal", outcome.signal),
        ("error", (outcome.error or {}).get("message")),
        ("value", None if outcome.value is None else show.cell(outcome.value)),
        ("duration", None if outcome.duration_ms is None else f"{outcome.duration_ms / 1000:.3f} s"),
        ("truncated", "yes" if outcome.truncated else None),
    ]
    show.pairs([(name, value) for name, value in rows if value is not None])
    for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
        if text:
            click.echo(f"--- {name}\n{text}", nl=not text.endswith("\n"))


@connected
async def _result(engine: "ExecutionEngine", execution_id: str, max_bytes: int | None) -> "Outcome":
    return await engine.get_result(execution_id, max_bytes)


def chosen(statuses: str) -> Callable[[Verb], Verb]:
    """Add the options that choose many executions in place of one."""
    options = (
        click.option("--status", help=f"All of this status, in place of one: {statuses}."),
        click.option("--label", help="All with this label."),
        click.option("--plan", metavar="ID", help="All of this plan."),
        click.option("--module", help="All of this module."),
        click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True),
        click.option("--rehearse", is_flag=True, help="Only say what would happen."),
    )

    def add(verb: Verb) -> Verb:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return add


def _which(entity: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Say which executions are meant: one, or all that the options fit."""
    names = {"status": "status", "label": "label", "plan": "plan_id", "module": "module"}
    where = {field: given[name] for name, field in names.items() if given[name] is not None}
    if (entity is None) == (not where):
        raise click.UsageError("name one, or choose many with --status, --label, --plan or --module")
    more = {"rehearse": True} if given["rehearse"] else {}
    return {"execution_id": entity, **more} if entity else {"where": where, "limit": given["limit"], **more}


@click.command("cancel")
@click.argument("entity", metavar="[ID]", required=False)
@chosen("scheduled, queued, running")
@click.option("--reason", help="Why.")
@click.option("--grace", metavar="S", help="How long it may tidy up before it is killed.")
@json_option
@place
def cancel_verb(
    settings: Any, entity: str | None, reason: str | None, grace: str | None, as_json: bool, **given: Any
) -> None:
    r"""Stop an execution with its whole process tree, or many; or a plan with all that runs of it.

    \b
    hindbrain cancel exec_01j... --reason 'wrong branch'
    hindbrain cancel --label nightly --rehearse
    """
    more = {"reason": reason, "grace_ms": None if grace is None else round(seconds(grace) * 1000)}
    if entity is not None and entity.startswith("plan_"):
        plan.changed(
            settings(), "cancel", {"plan_id": entity, "rehearse": given["rehearse"], **more}, as_json
        )
        return
    reply = asked(settings(), "execution", "cancel", {**_which(entity, given), **more}, fresh=entity is None)
    if as_json or "rehearsed" in reply or "cancelled" in reply:
        show.many(reply, "cancelled", as_json)
    elif reply["changed"]:
        click.echo(f"{entity} was asked to stop.")
    else:
        click.echo(f"{entity} is {reply['status']} already.")


@click.command("retry")
@click.argument("entity", metavar="[ID]", required=False)
@chosen("completed, failed, cancelled, timed_out")
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@json_option
@place
def retry_verb(
    settings: Any, entity: str | None, secret: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    r"""Run the same again as a new execution; or many, each as a new one.

    \b
    hindbrain retry exec_01j...
    hindbrain retry --status failed --label nightly --rehearse
    """
    body = {**_which(entity, given), "secrets": {name: value(name) for name in secret} or None}
    reply = asked(settings(), "execution", "retry", body, fresh=entity is None)
    if as_json or "rehearsed" in reply or "retried" in reply:
        show.many(reply, "retried", as_json)
    else:
        click.echo(f"Execution queued. Monitor at {reply['monitor_url']}")


@click.command("reorder")
@click.argument("execution_id", metavar="ID")
@click.option("--priority", help="critical, high, medium, low, idle, or 1 to 5.")
@click.option("--first", "to", flag_value="first", help="Before all others of its level.")
@click.option("--last", "to", flag_value="last", help="Behind all others of its level.")
@json_option
@place
def reorder_verb(
    settings: Any, execution_id: str, priority: str | None, to: str | None, as_json: bool
) -> None:
    r"""Change the priority of an execution that waits, or its place.

    \b
    hindbrain reorder exec_01j... --priority critical
    hindbrain reorder exec_01j... --first
    """
    level = int(priority) if priority is not None and priority.isdecimal() else priority
    body = {"execution_id": execution_id, "priority": level, "to": to}
    reply = asked(settings(), "execution", "reorder", body)
    if as_json:
        show.dump(reply)
    else:
        passed = f", before {reply['passed']} others" if reply["passed"] else ""
        already = "" if reply["changed"] else " already"
        click.echo(f"{execution_id} waits as {reply['priority']}{already}{passed}. (event {reply['seq']})")
