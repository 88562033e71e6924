"""What became of the work, and what else should become of it."""

import sys
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import GAVE_UP, show, why
from interfaces.cli.options import connected, exit_code, json_option, place, seconds

if TYPE_CHECKING:
    from events.service import Accepted, Execution, Outcome, Stopped
    from interfaces.api import ExecutionEngine


@click.command("status")
@click.argument("execution_id", metavar="[ID]", required=False)
@json_option
@place
def status_verb(settings: Any, execution_id: str | None, as_json: bool) -> None:
    r"""Show one execution as it is now; without an ID, all that goes on in the background.

    \b
    hindbrain status exec_01j...
    """
    if execution_id is None:
        why.going(settings(), as_json)
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
    r"""Wait for the end of an execution, and end as it ended.

    \b
    hindbrain wait exec_01j... --timeout 5m
    """
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


@click.command("cancel")
@click.argument("execution_id", metavar="ID")
@click.option("--reason", help="Why.")
@click.option("--grace", metavar="S", help="How long it may tidy up before it is killed.")
@json_option
@place
def cancel_verb(
    settings: Any, execution_id: str, reason: str | None, grace: str | None, as_json: bool
) -> None:
    r"""Stop an execution with its whole process tree.

    \b
    hindbrain cancel exec_01j... --reason 'wrong branch'
    """
    grace_ms = None if grace is None else round(seconds(grace) * 1000)
    reply = _cancel(settings(), execution_id, reason, grace_ms)
    if as_json:
        show.dump(reply)
    elif reply.changed:
        click.echo(f"{reply.execution_id} was asked to stop.")
    else:
        click.echo(f"{reply.execution_id} is {reply.status} already.")


@connected
async def _cancel(
    engine: "ExecutionEngine", execution_id: str, reason: str | None, grace_ms: int | None
) -> "Stopped":
    return await engine.cancel(execution_id, reason, grace_ms)


@click.command("retry")
@click.argument("execution_id", metavar="ID")
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@json_option
@place
def retry_verb(settings: Any, execution_id: str, secret: tuple[str, ...], as_json: bool) -> None:
    r"""Run the same again as a new execution.

    \b
    hindbrain retry exec_01j...
    """
    import os

    secrets = {
        name: os.environ[name] if name in os.environ else click.prompt(name, hide_input=True, err=True)
        for name in secret
    }
    reply = _retry(settings(), execution_id, secrets)
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"Execution queued. Monitor at {reply.monitor_url}")


@connected
async def _retry(engine: "ExecutionEngine", execution_id: str, secrets: dict[str, str]) -> "Accepted":
    return await engine.retry(execution_id, secrets)
