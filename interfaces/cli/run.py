"""Have something run, and watch it if wanted."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from interfaces.cli import INTERRUPTED, show
from interfaces.cli.interrupts import REASON, interrupts
from interfaces.cli.options import connected, exit_code, json_option, place, seconds

if TYPE_CHECKING:
    from events.service import Accepted, Execution
    from interfaces.api import ExecutionEngine

Verb = Callable[..., Any]


def wished(verb: Verb) -> Verb:
    """Add the options that say what to run."""
    options = (
        click.option("--shell", is_flag=True, help="A line for /bin/sh."),
        click.option("--code", is_flag=True, help="Source code; - reads it from standard input."),
        click.option("--language", help="The language of the code; python when left out."),
        click.option("--script", is_flag=True, help="A script file; its shebang says who runs it."),
        click.option("--env", multiple=True, metavar="K=V", help="A variable for its environment."),
        click.option(
            "--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed."
        ),
        click.option("--timeout", metavar="S", help="Stop it after so long: 90, 5m, 2h."),
        click.option("--description", metavar="TEXT", help="What it is for."),
        click.option("--label", multiple=True, metavar="WORD", help="A word to find it by."),
        click.option("--priority", help="critical, high, medium, low, idle, or 1 to 5."),
        click.option("--retries", type=click.IntRange(0), help="Try again so often when it fails."),
        click.option("--backoff", metavar="S", help="With --retries: the first pause; it doubles each time."),
        click.option("--retry-on", metavar="CODES", help="With --retries: only on these exits, as 1,75."),
        click.option("--concurrency-key", metavar="KEY", help="What has the same key shares a limit."),
        click.option("--stdin", metavar="FILE", help="What it reads; - is our own standard input."),
        click.option("--cwd", type=click.Path(path_type=Path), help="Where it runs; here when left out."),
        click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever."),
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
    )
    for option in reversed(options):
        verb = option(verb)
    return verb


def timed(verb: Verb) -> Verb:
    """Add the options that say when it may start."""
    verb = click.option("--at", metavar="TIME", help="Start it then: 2026-01-31T12:00:00Z.")(verb)
    return click.option("--delay", metavar="S", help="Start it after so long: 90, 5m, 2h.")(verb)


@click.command("run")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@timed
@json_option
@wished
@place
def run_verb(settings: Any, detach: bool, as_json: bool, **wish: Any) -> None:
    r"""Run a command, show its output, end as it ends.  A node is started when none runs.

    Ctrl-C asks it to stop; a second one leaves it alone.

    \b
    hindbrain run -- make -j4 test
    hindbrain run --shell -- 'make | tee log'
    hindbrain run --code --language python -- 'print(1)'
    """
    from interfaces.cli.background import ensure

    given = settings()
    body = _when(wish) | body_of(wish)
    ensure(given)
    if detach:
        _told(_submit(given, body), as_json)
    else:
        sys.exit(_run(given, body, as_json))


@click.command("submit")
@click.option("-q", "--quiet", is_flag=True, help="Print only the id.")
@timed
@json_option
@wished
@place
def submit_verb(settings: Any, quiet: bool, as_json: bool, **wish: Any) -> None:
    r"""Run a command in the background and print where to watch it.

    \b
    hindbrain submit --label nightly -- ./backup.sh
    """
    _told(_submit(settings(), _when(wish) | body_of(wish)), as_json, quiet)


def _told(reply: "Accepted", as_json: bool, quiet: bool = False) -> None:
    if as_json:
        show.dump(reply)
    else:
        click.echo(reply.execution_id if quiet else f"Execution queued. Monitor at {reply.monitor_url}")


@connected
async def _submit(engine: "ExecutionEngine", body: dict[str, Any]) -> "Accepted":
    return await engine.submit(body)


def body_of(wish: dict[str, Any]) -> dict[str, Any]:
    """Make the request of what was given on the command line."""
    words: list[str] = list(wish["command"])
    forms = [name for name in ("shell", "code", "script") if wish[name]]
    if len(forms) > 1:
        raise click.UsageError(f"--{forms[0]} and --{forms[1]}: choose one")
    if not words:
        raise click.UsageError("nothing to run: hindbrain run -- COMMAND ARGUMENTS")
    form = forms[0] if forms else "exec"
    if form != "exec" and len(words) > 1:
        raise click.UsageError(f"--{form} takes one word after --: put it into quotes")
    if wish["language"] and form != "code":
        raise click.UsageError("--language goes with --code")
    body: dict[str, Any] = {
        "working_dir": str((wish["cwd"] or Path.cwd()).absolute()),
        "env": dict(_variable(each) for each in wish["env"]),
        "secrets": {name: secret(name) for name in wish["secret"]},
        "labels": list(wish["label"]),
    }
    match form:
        case "exec":
            body["exec"] = {"program": words[0], "args": list(words[1:])}
        case "shell":
            body["shell"] = {"command": words[0]}
        case "script":
            body["script"] = {"path": words[0]}
        case _:
            body["code"] = sys.stdin.read() if words[0] == "-" else words[0]
    if wish["timeout"]:
        body["timeout_ms"] = max(1, round(seconds(wish["timeout"]) * 1000))
    if wish["stdin"]:
        body["stdin"] = _content(wish["stdin"])
    if wish["priority"]:
        body["priority"] = int(wish["priority"]) if wish["priority"].isdecimal() else wish["priority"]
    if retries := _retries(wish):
        body["retries"] = retries
    optional = {"language": "language", "description": "description", "key": "idempotency_key"}
    optional["concurrency_key"] = "concurrency_key"
    return body | {field: wish[name] for name, field in optional.items() if wish[name]}


def _retries(wish: dict[str, Any]) -> dict[str, Any] | None:
    """Read how often it is tried again, after which pause, and after which ends."""
    codes, pause = wish["retry_on"], wish["backoff"]
    if wish["retries"] is None:
        if codes or pause:
            raise click.UsageError("--backoff and --retry-on go with --retries")
        return None
    found: dict[str, Any] = {"max": wish["retries"]}
    if pause:
        found["backoff_ms"] = round(seconds(pause) * 1000)
    if codes:
        try:
            found["on_exit"] = [int(each) for each in codes.split(",")]
        except ValueError:
            raise click.UsageError(f"--retry-on {codes}: write exit codes, as in 1,75") from None
    return found


def _when(given: dict[str, Any]) -> dict[str, Any]:
    """Take what says when it may start out of the options."""
    from interfaces.cli.options import moment

    delay, at = given.pop("delay"), given.pop("at")
    if delay is not None and at is not None:
        raise click.UsageError("--delay and --at: choose one")
    if delay is not None:
        return {"delay_ms": round(seconds(delay) * 1000)}
    return {} if at is None else {"at": moment("--at", at)}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--env {text}: write NAME=VALUE")
    return name, value


def secret(name: str) -> str:
    """Give the value of a secret: from our environment, or typed."""
    value = os.environ.get(name)
    return click.prompt(name, hide_input=True, err=True) if value is None else value


def _content(source: str) -> str | bytes:
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--stdin {source}: {error.strerror}") from error
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


@connected
async def _run(engine: "ExecutionEngine", body: dict[str, Any], as_json: bool) -> int:
    reply = await engine.submit(body)
    if sys.stderr.isatty() and not as_json:
        click.echo(f"{reply.message} Monitor at {reply.monitor_url}", err=True)
    return await follow(engine, reply.execution_id, as_json)


async def follow(engine: "ExecutionEngine", execution_id: str, as_json: bool, lines: bool = False) -> int:
    """Show what it writes and how far it is, until it is over; gives the exit code.

    With `lines` every text of its progress is a line of its own where there is no terminal.
    """
    with show.bar(wanted=not as_json, lines=lines) as bar:
        watching = asyncio.create_task(_watch(engine, execution_id, bar, quiet=as_json))
        try:
            with interrupts(lambda: engine.cancel(execution_id, REASON), watching):
                over = await watching
        except asyncio.CancelledError:
            click.echo(f"Left alone: {execution_id} runs on.", err=True)
            return INTERRUPTED
    if as_json:
        show.dump(over)
    elif (
        over.error
        and over.status != "completed"
        and (over.status, over.reason) != ("failed", "command_failed")
    ):
        click.echo(f"hindbrain: {over.error['message']}", err=True)
    value = over.result.value if over.result is not None else None
    if value is not None and not as_json:
        click.echo(value if isinstance(value, str) else show.cell(value))
    unwell = isinstance(value, dict) and cast("dict[str, Any]", value).get("success") is False
    return exit_code(over) or int(unwell)


async def _watch(
    engine: "ExecutionEngine", execution_id: str, bar: "show.Bar | show.Lines | None", quiet: bool
) -> "Execution":
    async def progress() -> None:
        if bar is not None:
            async for step in engine.progress(execution_id):
                bar.update(step)

    moving = asyncio.create_task(progress())
    try:
        if not quiet:
            async for chunk in engine.output(execution_id):
                out = sys.stderr.buffer if chunk.stream == "stderr" else sys.stdout.buffer
                if bar is None:
                    out.write(chunk.data)
                    out.flush()
                else:
                    bar.write(out, chunk.data)
        return await engine.wait_for_completion(execution_id)
    finally:
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
