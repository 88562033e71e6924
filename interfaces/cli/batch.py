"""Batches: the same command for many items."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import following, show
from interfaces.cli.options import asked, json_option, place
from interfaces.cli.plan import ID, start
from interfaces.cli.run import body_of, wished

if TYPE_CHECKING:
    from interfaces.settings import Settings

PAGE_BYTES = 512 * 1024
"""Items of one message; what is more is added page by page."""


@click.group("batch")
def batch_verb() -> None:
    r"""Run the same command for many items, or many times.

    \b
    hindbrain batch run --item a.png --item b.png -- convert '${item}' '${item}.jpg'
    ls *.png | hindbrain batch run --items - --max 4 -- convert '${item}' '${item}.jpg'
    hindbrain batch run --count 100 -- ./one.sh '${index}'
    """


def items_of(item: tuple[str, ...], source: str | None) -> list[Any] | None:
    """Read the items: words of the command line, or the lines or the JSON list of a file."""
    if source is None:
        return list(item) or None
    import json

    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--items {source}: {error}") from error
    if text.lstrip().startswith("["):
        try:
            return [*item, *json.loads(text)]
        except ValueError as error:
            raise click.UsageError(f"--items {source}: it begins like a JSON list, but {error}") from error
    return [*item, *(line for line in text.splitlines() if line)]


@batch_verb.command("run")
@click.option("--item", multiple=True, metavar="TEXT", help="One item; ${item} stands for it.")
@click.option("--items", metavar="FILE", help="A file with an item on each line, or a JSON list; - is stdin.")
@click.option("--count", type=click.IntRange(1), help="So many times; ${index} counts from 0.")
@click.option("--max", "most", type=click.IntRange(1), help="How many run at once; 64 when left out.")
@click.option("--stop-on-error", is_flag=True, help="Start nothing more after a failure.")
@click.option("--undo", metavar="LINE", help="A line for /bin/sh that takes back one of them.")
@click.option("--rollback", is_flag=True, help="Take back what was done when it fails.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@wished
@place
def run_verb(
    settings: Any,
    item: tuple[str, ...],
    items: str | None,
    count: int | None,
    detach: bool,
    as_json: bool,
    **given: Any,
) -> None:
    r"""Run a command for every item, show how far it is, end with 1 when one fails.

    \b
    hindbrain batch run --count 10 --description 'Generating sections' -- ./section.sh '${index}'
    """
    from interfaces.cli.background import ensure

    found = items_of(item, items)
    if (found is None) == (count is None):
        raise click.UsageError("give --item or --items, or --count")
    shared = {name: given.pop(name) for name in ("most", "stop_on_error", "undo", "rollback")}
    do = body_of(given)
    body: dict[str, Any] = {
        "description": do.pop("description", None),
        "labels": do.pop("labels"),
        "idempotency_key": do.pop("idempotency_key", None),
        "secrets": do.pop("secrets"),
        "do": do,
        "count": count,
        "max_concurrency": shared["most"],
        "stop_on_error": shared["stop_on_error"] or None,
        "on_failure": "rollback" if shared["rollback"] else "none",
        "undo": {"shell": {"command": shared["undo"]}, "working_dir": do["working_dir"]}
        if shared["undo"]
        else None,
    }
    known = settings()
    ensure(known)
    pages = [] if found is None else _pages(found)
    if len(pages) <= 1:
        start(known, ("batch", "submit"), {**body, "items": found}, detach=detach, as_json=as_json)
        return
    plan = asked(known, "batch", "submit", {**body, "items": pages[0], "open": True})
    _fill(known, plan["plan_id"], pages)
    if detach and as_json:
        show.dump(plan)
    elif detach:
        click.echo(f"{plan['message']} {plan['plan_id']}, monitor at {plan['monitor_url']}")
    else:
        sys.exit(following.watch(known, plan["plan_id"], as_json=as_json))


def _pages(items: list[Any]) -> list[list[Any]]:
    """Part items so that each part fits a message."""
    import msgspec

    pages: list[list[Any]] = [[]]
    size = 0
    for each in items:
        length = len(msgspec.json.encode(each)) + 1
        if size + length > PAGE_BYTES and pages[-1]:
            pages.append([])
            size = 0
        pages[-1].append(each)
        size += length
    return pages


def _fill(settings: "Settings", plan_id: str, pages: list[list[Any]]) -> None:
    done = len(pages[0])
    for page in pages[1:]:
        asked(settings, "batch", "add", {"plan_id": plan_id, "items": page, "offset": done})
        done += len(page)
    asked(settings, "batch", "seal", {"plan_id": plan_id})


@batch_verb.command("add")
@ID
@click.option("--item", multiple=True, metavar="TEXT", help="One item.")
@click.option("--items", metavar="FILE", help="A file with an item on each line, or a JSON list; - is stdin.")
@click.option("--count", type=click.IntRange(1), help="So many more times.")
@json_option
@place
def add_verb(settings: Any, plan_id: str, as_json: bool, **given: Any) -> None:
    r"""Add operations to a batch that was opened for that.

    \b
    hindbrain batch add plan_01j... --items more.txt
    """
    found = items_of(given["item"], given["items"])
    if (found is None) == (given["count"] is None):
        raise click.UsageError("give --item or --items, or --count")
    known, reply = settings(), dict[str, Any]()
    for page in [None] if found is None else _pages(found):
        reply = asked(known, "batch", "add", {"plan_id": plan_id, "items": page, "count": given["count"]})
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{plan_id} has {reply['total']} operations.")


@batch_verb.command("seal")
@ID
@json_option
@place
def seal_verb(settings: Any, plan_id: str, as_json: bool) -> None:
    r"""Say that no more operations will come.

    \b
    hindbrain batch seal plan_01j...
    """
    reply = asked(settings(), "batch", "seal", {"plan_id": plan_id})
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{plan_id} has {reply['total']} operations, and no more will come.")
