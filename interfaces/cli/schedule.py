"""What is to happen later, or again and again."""

from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, moment, place, seconds, values
from interfaces.cli.run import body_of, wished

if TYPE_CHECKING:
    from interfaces.settings import Settings

ID = click.argument("schedule_id", metavar="ID")


@click.group("schedule")
def schedule_verb() -> None:
    r"""Run something later, or again and again.

    \b
    hindbrain schedule create --every 5m -- ./poll.sh
    hindbrain schedule create --cron '30 2 * * *' --zone Europe/Berlin -- make backup
    hindbrain schedule create --at '2026-12-31 23:59' --shell -- 'echo good night'
    hindbrain schedule list
    """


@schedule_verb.command("create")
@click.option("--at", metavar="TIME", help="Once, then: 2026-01-31T12:00:00Z; without a zone it is ours.")
@click.option("--every", metavar="S", help="Again and again: 90, 5m, 2h, 1d.")
@click.option("--cron", metavar="TEXT", help="minute hour day-of-month month day-of-week, in quotes.")
@click.option("--zone", metavar="NAME", help="The time zone of --cron; UTC when left out.")
@click.option("--starts", metavar="TIME", help="Not before this time.")
@click.option("--ends", metavar="TIME", help="Not after this time.")
@click.option(
    "--catch-up",
    type=click.Choice(("skip", "once", "all")),
    help="What is made up for when no node was there; once when left out.",
)
@click.option(
    "--overlap",
    type=click.Choice(("allow", "skip", "cancel", "queue")),
    help="What a tick does while the last one still runs; allow when left out.",
)
@click.option("--grace", metavar="S", help="How late a tick may come and is not missed; 30 when left out.")
@click.option("--template", metavar="NAME", help="Start this template, in place of a command.")
@click.option("--param", multiple=True, metavar="K=V", help="A parameter of the template; JSON, or text.")
@json_option
@wished
@place
def create_verb(settings: Any, as_json: bool, **given: Any) -> None:
    r"""Have a command run at its time; it takes the same options as `hindbrain run`.

    \b
    hindbrain schedule create --every 10s --overlap skip -- ./sync.sh
    """
    key = given.pop("key", None)
    when = {
        "at": moment("--at", given.pop("at")),
        "every_ms": _length(given.pop("every")),
        "cron": given.pop("cron"),
        "zone": given.pop("zone"),
        "starts": moment("--starts", given.pop("starts")),
        "ends": moment("--ends", given.pop("ends")),
        "catch_up": given.pop("catch_up"),
        "overlap": given.pop("overlap"),
        "grace_ms": _length(given.pop("grace")),
    }
    what = _what(given)
    reply = _ask(
        settings(),
        "create",
        {**when, **what, "description": given.get("description"), "idempotency_key": key},
    )
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{reply['schedule_id']}  {reply['message']}")
        _coming(reply["next"])


@schedule_verb.command("list")
@click.option("--status", help="Only those: active, paused, done, deleted.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@place
def list_verb(settings: Any, status: str | None, limit: int, as_json: bool) -> None:
    r"""List schedules, newest first.

    \b
    hindbrain schedule list --status paused
    """
    which = {"status": status, "limit": limit}
    found = asked(settings(), "schedule", "list", which, fresh=True)["schedules"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [
            each["id"],
            each["status"],
            each["when"],
            (each["next"] or [None])[0],
            each["runs"],
            each["description"] or each["command"],
        ]
        for each in found
    ]
    show.table(("id", "status", "when", "next", "runs", "what"), rows)


@schedule_verb.command("show")
@ID
@click.option("--count", type=click.IntRange(0, 1000), default=5, help="How many of the next ticks.")
@json_option
@place
def show_verb(settings: Any, schedule_id: str, count: int, as_json: bool) -> None:
    r"""Show one schedule with its last and its next ticks.

    \b
    hindbrain schedule show sched_01j... --count 20
    """
    found = _ask(settings(), "get", {"schedule_id": schedule_id, "count": count})["schedule"]
    if as_json:
        show.dump(found)
        return
    last: dict[str, Any] = found["last"] or {}
    passed: dict[str, Any] = found["passed"] or {}
    rows: list[tuple[str, Any]] = [
        ("id", found["id"]),
        ("status", found["status"]),
        ("description", found["description"]),
        ("command", found["command"]),
        ("when", found["when"]),
        ("starts", found["starts"]),
        ("ends", found["ends"]),
        ("catch up", found["catch_up"]),
        ("overlap", found["overlap"]),
        ("runs", found["runs"]),
        ("last tick", last.get("tick")),
        ("last id", last.get("execution_id") or last.get("plan_id")),
        ("passed over", f"{passed['tick']} ({passed['skipped']})" if passed else None),
    ]
    show.pairs([(name, value) for name, value in rows if value is not None])
    _coming(found["next"])


def _changing(name: str, done: str, text: str, **options: Any) -> click.Command:
    """Make a verb that changes one schedule."""

    @click.command(name, help=text)
    @ID
    @json_option
    @place
    def verb(settings: Any, schedule_id: str, as_json: bool, **more: Any) -> None:
        reply = _ask(settings(), name, {"schedule_id": schedule_id, **more})
        if as_json:
            show.dump(reply)
        elif reply["changed"]:
            click.echo(f"{schedule_id} is {done}.")
        else:
            click.echo(f"{schedule_id} is {reply['status']} already.")

    return click.option("--reason", help="Why.")(verb) if options.get("reason") else verb


for _each in (
    _changing("pause", "paused", "Have it tick no more until it is resumed.", reason=True),
    _changing("resume", "active again", "Have it tick again; what was missed meanwhile is not made up for."),
    _changing("delete", "deleted", "Have it never tick again; what it submitted goes on.", reason=True),
):
    schedule_verb.add_command(_each)


@schedule_verb.command("run")
@ID
@json_option
@place
def run_verb(settings: Any, schedule_id: str, as_json: bool) -> None:
    r"""Submit it now, beside the ticks to come, and print the id.

    \b
    hindbrain schedule run sched_01j...
    """
    reply = _ask(settings(), "run", {"schedule_id": schedule_id})
    if as_json:
        show.dump(reply)
    else:
        click.echo(reply.get("execution_id") or reply.get("plan_id"))


def _ask(settings: "Settings", verb: str, body: dict[str, Any]) -> dict[str, Any]:
    return asked(settings, "schedule", verb, body)


def _coming(moments: list[str]) -> None:
    for each in moments:
        click.echo(f"  next {each}")


def _what(given: dict[str, Any]) -> dict[str, Any]:
    """What is to be submitted: a command, or a template."""
    name, params = given.pop("template"), given.pop("param")
    if name is None:
        if params:
            raise click.UsageError("--param goes with --template")
        wish = body_of({**given, "key": None})
        if isinstance(wish.get("stdin"), bytes):
            raise click.UsageError(
                "--stdin: what is scheduled reads text; let a script read the file instead"
            )
        return {"submit": wish}
    if given["command"]:
        raise click.UsageError("--template and a command: choose one")
    return {"template": {"template": name, "params": values(params)}}


def _length(text: str | None) -> int | None:
    return None if text is None else round(seconds(text) * 1000)
