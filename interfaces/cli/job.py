"""Jobs: what handlers of plugins do."""

import json
import sys
from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, moment, place, seconds
from interfaces.cli.tools import followed, wait_option


@click.group("job")
def job_verb() -> None:
    r"""Run jobs of plugins, and see which there are.

    \b
    hindbrain job types
    hindbrain job submit site-builder:site-build '{"outputDir": "/srv/www"}' --wait
    """


def data_of(text: str, name: str) -> Any:
    """Read JSON from a word, or from standard input."""
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise click.UsageError(f"{name} is no JSON: {error}") from error


def queued(settings: Any, reply: dict[str, Any], wait: bool, as_json: bool) -> None:
    """Say what became of a submission, or follow it."""
    if wait:
        sys.exit(followed(settings, reply["execution_id"], as_json))
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{reply['message']} hindbrain wait {reply['execution_id']}")


@job_verb.command("submit")
@click.argument("type")
@click.argument("given", metavar="[DATA]", default="{}")
@click.option("--timeout", metavar="S", help="Stop an attempt after so long: 90, 5m, 2h.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--label", "labels", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("--priority", help="critical, high, medium, low, idle, or 1 to 5.")
@click.option("--retries", type=click.IntRange(0), help="Try again so often when it fails.")
@click.option("--concurrency-key", metavar="KEY", help="What has the same key shares a limit.")
@click.option("--delay", metavar="S", help="Start it after so long: 90, 5m, 2h.")
@click.option("--at", metavar="TIME", help="Start it then: 2026-01-31T12:00:00Z.")
@click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever.")
@wait_option
@json_option
@place
def submit_verb(
    settings: Any,
    type: str,  # noqa: A002  click gives it the name of the argument
    given: str,
    wait: bool,
    as_json: bool,
    **more: Any,
) -> None:
    r"""Run a job with its data as JSON; - reads it from standard input.

    \b
    hindbrain job submit greeter:greet '{"name": "World"}' --wait
    """
    timeout, delay, retries, key = (more.pop(name) for name in ("timeout", "delay", "retries", "key"))
    priority = more.pop("priority")
    body = {
        **more,
        "type": type,
        "data": data_of(given, "DATA"),
        "labels": list(more["labels"]),
        "at": moment("--at", more["at"]),
        "timeout_ms": None if timeout is None else max(1, round(seconds(timeout) * 1000)),
        "delay_ms": None if delay is None else round(seconds(delay) * 1000),
        "retries": None if retries is None else {"max": retries},
        "priority": int(priority) if priority and priority.isdecimal() else priority,
        "idempotency_key": key,
    }
    known = settings()
    queued(known, asked(known, "job", "submit", body), wait, as_json)


@job_verb.command("types")
@click.option("--plugin", metavar="NAME", help="Only those of this plugin.")
@json_option
@place
def types_verb(settings: Any, plugin: str | None, as_json: bool) -> None:
    r"""List the types of jobs that are taken now; --json has their schemas.

    \b
    hindbrain job types --plugin site-builder
    """
    found = asked(settings(), "job", "types", {"plugin": plugin})["types"]
    if as_json:
        show.dump(found)
        return
    rows = [[each["type"], (each.get("description") or "-").partition("\n")[0]] for each in found]
    show.table(("type", "what it does"), rows)
