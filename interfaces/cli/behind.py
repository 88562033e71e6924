"""What is behind a playbook: its checkpoints and branches, and what whoever goes on has to know."""

import getpass
import sys
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place, values

if TYPE_CHECKING:
    from interfaces.settings import Settings

ID = click.argument("playbook_id", metavar="ID")
FAILED = 1


def changed(settings: "Settings", verb: str, body: dict[str, Any], as_json: bool) -> None:
    """Ask for a change of a playbook, and say what it is now."""
    reply = asked(settings, "playbook", verb, body)
    if as_json:
        show.dump(reply)
    else:
        already = "" if reply["changed"] else " already"
        click.echo(f"{reply['playbook_id']} is {reply['status']}{already}. (event {reply['seq']})")


@click.command("checkpoint")
@ID
@json_option
@place
def checkpoint_verb(settings: Any, playbook_id: str, as_json: bool) -> None:
    r"""Make a checkpoint of a playbook now, also in the middle of a step.

    \b
    hindbrain playbook checkpoint play_01j...
    """
    reply = asked(settings(), "playbook", "checkpoint", {"playbook_id": playbook_id})
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{reply['checkpoint_id']} remembers {reply['at']} steps, {reply['size']} bytes.")


@click.command("checkpoints")
@ID
@click.option("--verify", is_flag=True, help="Read each, and say whether it is whole.")
@json_option
@place
def checkpoints_verb(settings: Any, playbook_id: str, verify: bool, as_json: bool) -> None:
    r"""List the checkpoints of a playbook, the first one first.

    \b
    hindbrain playbook checkpoints play_01j... --verify
    """
    known = settings()
    found = asked(known, "playbook", "checkpoints", {"playbook_id": playbook_id})["checkpoints"]
    for each in found if verify else ():
        body = {"playbook_id": playbook_id, "checkpoint_id": each["checkpoint_id"]}
        each["valid"] = asked(known, "playbook", "validate", body)["valid"]
    if as_json:
        show.dump(found)
    else:
        names = ("checkpoint_id", "reason", "at", "step", "size", "position", *(("valid",) if verify else ()))
        show.table(names, [[each[name] for name in names] for each in found])
    if not all(each.get("valid", True) for each in found):
        sys.exit(FAILED)


@click.command("fork")
@ID
@click.option(
    "--at", "checkpoint_id", metavar="CHECKPOINT", help="Where it branches off; the last one if left out."
)
@click.option("--set", "changes", multiple=True, metavar="K=V", help="A parameter that is other than there.")
@click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever.")
@json_option
@place
def fork_verb(
    settings: Any,
    playbook_id: str,
    checkpoint_id: str | None,
    changes: tuple[str, ...],
    key: str | None,
    as_json: bool,
) -> None:
    r"""Begin another run of a playbook that shares its past up to a checkpoint.

    \b
    hindbrain playbook fork play_01j... --at ckpt_4z3... --set model=large
    """
    body: dict[str, Any] = {
        "playbook_id": playbook_id,
        "checkpoint_id": checkpoint_id,
        "set": values(changes),
        "idempotency_key": key,
    }
    reply = asked(settings(), "playbook", "fork", body)
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{reply['playbook_id']} branches off from {playbook_id} at {reply['checkpoint_id']}.")


@click.command("diff")
@ID
@click.argument("other_id", metavar="OTHER")
@json_option
@place
def diff_verb(settings: Any, playbook_id: str, other_id: str, as_json: bool) -> None:
    r"""Show what is different between two runs; end with 1 when something is, times aside.

    \b
    hindbrain playbook diff play_01j... play_01k...
    """
    body = {"playbook_id": playbook_id, "other_id": other_id}
    found = asked(settings(), "playbook", "diff", body)
    if as_json:
        show.dump(found)
    else:
        rows = [["parameter", each["name"], each["a"], each["b"]] for each in found["params"]]
        rows += [[each["step"], each["field"], each["a"], each["b"]] for each in found["steps"]]
        rows += [[each["step"], "artifacts", each["a"], each["b"]] for each in found["artifacts"]]
        rows += [[each["step"], each["field"], each["a"], each["b"]] for each in found["times"]]
        if rows:
            show.table(("step", "what", "a", "b"), rows)
        else:
            click.echo("There is no difference.")
    sys.exit(0 if found["same"] else FAILED)


@click.command("summarize")
@ID
@click.argument("phase_id", metavar="PHASE")
@click.argument("summary")
@click.option("--artifact", "artifacts", multiple=True, metavar="ID", help="An artifact that belongs to it.")
@click.option("--by", help="Who says so; the name of the user when left out.")
@json_option
@place
def summarize_verb(
    settings: Any, as_json: bool, artifacts: tuple[str, ...], by: str | None, **more: Any
) -> None:
    r"""Sum up a phase of a playbook, in place of what was said at its end.

    \b
    hindbrain playbook summarize play_01j... research 'Three sources agree.'
    """
    body = {**more, "artifacts": list(artifacts), "by": by or getpass.getuser()}
    changed(settings(), "summarize", body, as_json)


@click.command("summaries")
@ID
@json_option
@place
def summaries_verb(settings: Any, playbook_id: str, as_json: bool) -> None:
    r"""Show what was said at the end of each phase of a playbook.

    \b
    hindbrain playbook summaries play_01j...
    """
    found = asked(settings(), "playbook", "summaries", {"playbook_id": playbook_id})["summaries"]
    if as_json:
        show.dump(found)
    else:
        for each in found:
            click.echo(f"{each['phase_id']}: {each['summary']}")


@click.command("context")
@ID
@click.option("--max-tokens", type=click.IntRange(1, 1_000_000), help="How much; a token is three bytes.")
@json_option
@place
def context_verb(settings: Any, playbook_id: str, max_tokens: int | None, as_json: bool) -> None:
    r"""Show what whoever goes on with a playbook has to know, within a budget.

    \b
    hindbrain playbook context play_01j... --max-tokens 1000
    """
    body = {"playbook_id": playbook_id, "max_tokens": max_tokens}
    found = asked(settings(), "playbook", "context", body)
    if as_json:
        show.dump(found)
    else:
        click.echo(found["context"], nl=False)


@click.command("bearings")
@ID
@json_option
@place
def bearings_verb(settings: Any, playbook_id: str, as_json: bool) -> None:
    r"""Show where a playbook stands: what is done, what failed, what is next, what there is.

    \b
    hindbrain playbook bearings play_01j...
    """
    found = asked(settings(), "playbook", "bearings", {"playbook_id": playbook_id})
    if as_json:
        show.dump(found)
        return
    click.echo(found["summary"])
    rows: list[tuple[str, Any]] = [
        ("phase", found["phase"]),
        ("done", ", ".join(found["done"]) or None),
        ("failed", ", ".join(each["step"] for each in found["failed"]) or None),
        ("next", found["next"]),
        ("asked", found["asked"] and found["asked"]["message"]),
        ("artifacts", ", ".join(each["name"] for each in found["artifacts"]) or None),
        ("checkpoint", found["checkpoint_id"]),
        ("story", found["progress_log_path"]),
        ("features", found["feature_list_path"]),
    ]
    show.pairs(rows)


VERBS = (
    checkpoint_verb,
    checkpoints_verb,
    fork_verb,
    diff_verb,
    summarize_verb,
    summaries_verb,
    context_verb,
    bearings_verb,
)
