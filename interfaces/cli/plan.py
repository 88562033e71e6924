"""Plans: many executions under one id, from a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import following, show
from interfaces.cli.options import asked, json_option, place, values

if TYPE_CHECKING:
    from interfaces.settings import Settings

ID = click.argument("plan_id", metavar="ID")
param_option = click.option("--param", multiple=True, metavar="K=V", help="A parameter; JSON, or text.")
rehearse_option = click.option("--rehearse", is_flag=True, help="Only say what would happen.")
reason_option = click.option("--reason", help="Why.")


@click.group("plan")
def plan_verb() -> None:
    r"""Run plans: steps in a row, beside each other, or by their needs.

    \b
    hindbrain plan run checks.toml
    hindbrain plan list --status running
    hindbrain plan show plan_01j...
    """


@plan_verb.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@param_option
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@click.option("--label", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it runs; here when left out.")
@click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@place
def run_verb(settings: Any, file: Path, detach: bool, as_json: bool, **given: Any) -> None:
    r"""Run a plan file (TOML, YAML or JSON), show how it goes, end with 1 when it fails.

    \b
    hindbrain plan run deploy.toml --param target=staging
    """
    from interfaces.cli.background import ensure
    from interfaces.cli.run import secret

    body: dict[str, Any] = _written(file)
    body |= {"values": values(given["param"]), "secrets": {name: secret(name) for name in given["secret"]}}
    body["working_dir"] = _inside(given["cwd"], body.get("working_dir"))
    body["labels"] = [*body.get("labels", ()), *given["label"]]
    body["idempotency_key"] = given["key"]
    known = settings()
    ensure(known)
    start(known, ("plan", "submit"), body, detach=detach, as_json=as_json)


def start(
    settings: "Settings", verb: tuple[str, str], body: dict[str, Any], *, detach: bool, as_json: bool
) -> None:
    """Have a plan or a batch stored, and watch it unless told otherwise."""
    if detach:
        reply = asked(settings, *verb, body)
        if as_json:
            show.dump(reply)
        else:
            click.echo(f"{reply['message']} {reply['plan_id']}, monitor at {reply['monitor_url']}")
        return
    sys.exit(following.run(settings, verb, body, as_json=as_json))


def _written(file: Path) -> dict[str, Any]:
    """Read a plan file into a request."""
    import msgspec

    from interfaces.planfile import read

    return msgspec.to_builtins(read(file).tree)


def _inside(given: Path | None, named: str | None) -> str:
    """Where it runs: a relative folder of the file is one below ours."""
    here = (given or Path.cwd()).absolute()
    if named is None:
        return str(here)
    return named if "${" in named else str(here / named)


@plan_verb.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check_verb(file: Path, as_json: bool) -> None:
    r"""Read a plan file and say what is wrong with it, with file and line; needs no node.

    \b
    hindbrain plan check checks.toml
    """
    tree = _written(file)
    if as_json:
        show.dump(tree)
    else:
        steps = tree.get("steps", [])
        click.echo(f"{file} is a plan of {len(steps)} steps." if steps else f"{file} is a batch.")


@plan_verb.command("list")
@click.option("--status", help="Only those: running, paused, completed, failed, cancelled.")
@click.option("--label", help="Only those with this label.")
@click.option("--template", help="Only those started from this template.")
@click.option("--parent", metavar="ID", help="Only those that are steps of this plan.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=int, metavar="SEQ", help="Only those born before this sequence.")
@json_option
@place
def list_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List plans and batches, newest first.

    \b
    hindbrain plan list --status failed
    """
    found = asked(settings(), "plan", "list", which, fresh=True)["plans"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [each["id"], each["status"], each["strategy"], _counts(each), each["created_at"], _name(each)]
        for each in found
    ]
    show.table(("id", "status", "strategy", "done", "started", "what"), rows)


def _counts(plan: dict[str, Any]) -> str:
    done = plan["completed"] + plan["failed"] + plan["skipped"]
    failed = f", {plan['failed']} failed" if plan["failed"] else ""
    return f"{done}/{'?' if plan['total'] is None else plan['total']}{failed}"


def _name(plan: dict[str, Any]) -> str:
    return plan["description"] or plan["name"]


@plan_verb.command("show")
@ID
@json_option
@place
def show_verb(settings: Any, plan_id: str, as_json: bool) -> None:
    r"""Show one plan with all its steps; plans inside it too.

    \b
    hindbrain plan show plan_01j...
    """
    shown(settings(), plan_id, as_json)


def shown(settings: "Settings", plan_id: str, as_json: bool) -> None:
    """Show a plan as it is now."""
    from interfaces.cli import trees

    found = trees.read(settings, plan_id)
    if as_json:
        show.dump(found.plan)
    else:
        trees.draw(found)


@plan_verb.command("wait")
@ID
@click.option("--timeout", metavar="S", help="Give up after so long: exit code 4.")
@json_option
@place
def wait_verb(settings: Any, plan_id: str, timeout: str | None, as_json: bool) -> None:
    r"""Wait for the end of a plan, and end with 1 when it failed.

    \b
    hindbrain plan wait plan_01j... --timeout 5m
    """
    sys.exit(following.wait(settings(), plan_id, timeout, as_json=as_json))


@plan_verb.command("watch")
@ID
@json_option
@place
def watch_verb(settings: Any, plan_id: str, as_json: bool) -> None:
    r"""Show how a plan goes until it is over, and end with 1 when it fails.

    \b
    hindbrain plan watch plan_01j...
    """
    sys.exit(following.watch(settings(), plan_id, as_json=as_json))


@plan_verb.command("result")
@ID
@json_option
@place
def result_verb(settings: Any, plan_id: str, as_json: bool) -> None:
    r"""Show what came of every step of a plan that is over.

    \b
    hindbrain plan result plan_01j... --json
    """
    found = asked(settings(), "plan", "result", {"plan_id": plan_id})["result"]
    if as_json:
        show.dump(found)
        return
    rows = [_ended(each) for each in found["results"]]
    counts = f"{found['completed']} completed, {found['failed']} failed, {found['skipped']} skipped"
    click.echo(f"{found['plan_id']} {found['status']}: {counts} of {found['total']}")
    if rows:
        show.table(("step", "status", "exit", "took", "id", "error"), rows)


def _ended(step: dict[str, Any]) -> list[Any]:
    error = step["error"]["message"] if step["error"] else None
    took, child = show.length(step["duration_ms"]), step["execution_id"] or step["plan_id"]
    return [step["step"], step["status"], step["exit_code"], took, child, error]


@plan_verb.command("cancel")
@ID
@reason_option
@click.option("--grace", metavar="S", help="How long what runs may tidy up before it is killed.")
@rehearse_option
@json_option
@place
def cancel_verb(settings: Any, plan_id: str, grace: str | None, as_json: bool, **more: Any) -> None:
    r"""Start nothing more of a plan, and stop what runs.

    \b
    hindbrain plan cancel plan_01j... --rehearse
    """
    from interfaces.cli.options import seconds

    grace_ms = None if grace is None else round(seconds(grace) * 1000)
    changed(settings(), "cancel", {"plan_id": plan_id, "grace_ms": grace_ms, **more}, as_json)


@plan_verb.command("pause")
@ID
@reason_option
@json_option
@place
def pause_verb(settings: Any, plan_id: str, reason: str | None, as_json: bool) -> None:
    r"""Start nothing more of a plan until it is resumed; what runs goes on.

    \b
    hindbrain plan pause plan_01j... --reason 'until the release is out'
    """
    changed(settings(), "pause", {"plan_id": plan_id, "reason": reason}, as_json)


@plan_verb.command("resume")
@ID
@json_option
@place
def resume_verb(settings: Any, plan_id: str, as_json: bool) -> None:
    r"""Let a plan go on.

    \b
    hindbrain plan resume plan_01j...
    """
    changed(settings(), "resume", {"plan_id": plan_id}, as_json)


@plan_verb.command("rerun")
@ID
@click.option("--step", "steps", multiple=True, metavar="NAME", help="This step, and what depends on it.")
@click.option("--from", "from_step", metavar="NAME", help="This step, and all that comes after it.")
@reason_option
@rehearse_option
@json_option
@place
def rerun_verb(settings: Any, plan_id: str, steps: tuple[str, ...], as_json: bool, **more: Any) -> None:
    r"""Run steps of a plan that is over once more: those that failed, unless some are named.

    \b
    hindbrain plan rerun plan_01j...
    hindbrain plan rerun plan_01j... --from build --rehearse
    """
    changed(settings(), "rerun", {"plan_id": plan_id, "steps": list(steps), **more}, as_json)


@plan_verb.command("rollback")
@ID
@reason_option
@rehearse_option
@json_option
@place
def rollback_verb(settings: Any, plan_id: str, as_json: bool, **more: Any) -> None:
    r"""Take back what a plan did, the last first; what still runs is cancelled first.

    \b
    hindbrain plan rollback plan_01j... --rehearse
    """
    changed(settings(), "rollback", {"plan_id": plan_id, **more}, as_json)


def changed(settings: "Settings", verb: str, body: dict[str, Any], as_json: bool) -> None:
    """Ask for a change of a plan, and say what it is now."""
    reply = asked(settings, "plan", verb, body)
    if as_json:
        show.dump(reply)
    elif "rehearsed" in reply:
        show.rehearsal(reply)
    else:
        back = "" if reply["rollback"] == "none" else f", taking back: {reply['rollback']}"
        steps = f": {', '.join(reply['steps'])}" if reply.get("steps") else ""
        already = "" if reply["changed"] else " already"
        click.echo(f"{reply['plan_id']} is {reply['status']}{already}{back}{steps}. (event {reply['seq']})")
