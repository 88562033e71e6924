"""Playbooks: long chains that are remembered step by step, from a file."""

import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import GAVE_UP, behind, show
from interfaces.cli.behind import changed
from interfaces.cli.options import CANCELLED, asked, connected, json_option, place, seconds, values

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

ID = click.argument("playbook_id", metavar="ID")
reason_option = click.option("--reason", help="Why.")
checkpoint_option = click.option("--from", "checkpoint_id", metavar="CHECKPOINT", help="This checkpoint.")
FAILED = 1


@click.group("playbook")
def playbook_verb() -> None:
    r"""Run playbooks: long chains that are remembered step by step, and go on from there.

    \b
    hindbrain playbook run release.toml
    hindbrain playbook show play_01j...
    hindbrain playbook resume play_01j...
    """


@playbook_verb.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--param", multiple=True, metavar="K=V", help="A parameter; JSON, or text.")
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@click.option("--label", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("--workspace", help="The folder that it shares with others.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it runs; here when left out.")
@click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever.")
@click.option("--git", is_flag=True, help="Make the working directory a git repository, unless it is one.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@place
def run_verb(settings: Any, file: Path, detach: bool, as_json: bool, **given: Any) -> None:
    r"""Run a playbook file (TOML, YAML or JSON), show how it goes, end with 1 when it fails or is paused.

    \b
    hindbrain playbook run release.toml --param version=1.2
    """
    from interfaces.cli.background import ensure
    from interfaces.cli.run import secret
    from interfaces.playbooks import written

    body: dict[str, Any] = written(file)
    body |= {"values": values(given["param"]), "secrets": {name: secret(name) for name in given["secret"]}}
    here = (given["cwd"] or Path.cwd()).absolute()
    named = body.get("working_dir")
    body["working_dir"] = str(here) if named is None else named if "${" in named else str(here / named)
    body["labels"] = [*body.get("labels", ()), *given["label"]]
    body["idempotency_key"] = given["key"]
    body["workspace"] = given["workspace"] or body.get("workspace")
    body["git"] = given["git"] or body.get("git", False)
    known = settings()
    ensure(known)

    @connected
    async def start(engine: "ExecutionEngine") -> dict[str, Any]:
        return await engine.submit_plan(("playbook", "run"), body)

    reply = start(known)
    if detach and as_json:
        show.dump(reply)
        return
    if not as_json or detach:
        click.echo(f"{reply['message']} {reply['playbook_id']}", err=not detach)
    if not detach:
        sys.exit(_follow(known, reply["playbook_id"], as_json))


def _follow(settings: "Settings", playbook_id: str, as_json: bool) -> int:
    """Show how it goes until it is over or paused; gives the exit code."""

    @connected
    async def follow(engine: "ExecutionEngine") -> dict[str, Any]:
        from interfaces.playbooks import Playbooks

        playbooks, told = Playbooks(engine), dict[str, str]()
        async for said in playbooks.progress(playbook_id):
            found = await playbooks.get(playbook_id)
            if not as_json:
                _tell(found, told)
            if said["final"] or found["status"] == "paused":
                return found
        return await playbooks.get(playbook_id)

    found = follow(settings)
    if as_json:
        show.dump(found)
    else:
        click.echo(_title(found), err=True)
    return _exit(found)


def _tell(found: dict[str, Any], told: dict[str, str]) -> None:
    """Say what is new of each step, once."""
    for step in found["steps"]:
        news = f"{step['status']} {step['run']}"
        if step["status"] == "pending" or told.get(step["name"]) == news:
            continue
        told[step["name"]] = news
        error = f": {step['error']['message']}" if step["error"] else ""
        took = f" in {show.length(step['duration_ms'])}" if step["duration_ms"] is not None else ""
        click.echo(f"{step['phase_id']}/{step['name']} {step['status']}{took}{error}", err=True)
        if step["does"] == "input" and step["status"] == "running" and found["asked"]:
            click.echo(f"  {found['asked']['message']}", err=True)
            click.echo(f"  hindbrain playbook answer {found['id']} VALUE", err=True)


def _title(found: dict[str, Any]) -> str:
    text = f"{found['id']} {found['status']}, {found['completed']} of {found['total']} steps"
    if found["error"]:
        text += f": {found['error']['message']}"
    if found["status"] == "paused":
        text += f"\nGo on with: hindbrain playbook resume {found['id']}"
    return text


def _exit(found: dict[str, Any]) -> int:
    if found["status"] == "cancelled":
        return CANCELLED
    return 0 if found["status"] == "completed" else FAILED


@playbook_verb.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check_verb(file: Path, as_json: bool) -> None:
    r"""Read a playbook file and say what is wrong with it, with file and line; needs no node.

    \b
    hindbrain playbook check release.toml
    """
    from interfaces.playbooks import written

    tree = written(file)
    if as_json:
        show.dump(tree)
    else:
        phases = tree.get("phases", [])
        steps = sum(len(phase.get("steps", [])) for phase in phases)
        click.echo(f"{file} is a playbook of {len(phases)} phases and {steps} steps.")


@playbook_verb.command("list")
@click.option("--status", help="Only those: running, paused, waiting_input, completed, failed, cancelled.")
@click.option("--name", help="Only those of this playbook.")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--parent", metavar="ID", help="Only those that are steps of this playbook.")
@click.option("--fork-of", metavar="ID", help="Only those that branched off from this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--before", type=int, metavar="SEQ", help="Only those born before this sequence.")
@json_option
@place
def list_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List playbooks, newest first.

    \b
    hindbrain playbook list --status waiting_input
    """
    found = asked(settings(), "playbook", "list", which, fresh=True)["playbooks"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [
            *(each["id"], each["status"], f"{each['completed']}/{each['total']}", each["phase"]),
            *(each["step"], each["created_at"], each["description"] or each["playbook_code"]),
        ]
        for each in found
    ]
    show.table(("id", "status", "done", "phase", "step", "started", "what"), rows)


@playbook_verb.command("show")
@ID
@json_option
@place
def show_verb(settings: Any, playbook_id: str, as_json: bool) -> None:
    r"""Show one playbook with all its steps.

    \b
    hindbrain playbook show play_01j...
    """
    found = asked(settings(), "playbook", "get", {"playbook_id": playbook_id})["playbook"]
    if as_json:
        show.dump(found)
        return
    click.echo(_title(found))
    rows: list[list[Any]] = [
        [
            step["phase_id"],
            step["name"],
            step["status"],
            step["run"] or None,
            show.length(step["duration_ms"]),
            step["error"]["message"] if step["error"] else step["command"],
        ]
        for step in found["steps"]
    ]
    show.table(("phase", "step", "status", "run", "took", "what"), rows)
    for phase in found["phases"]:
        if phase["summary"]:
            click.echo(f"{phase['name'] or phase['id']}: {phase['summary']}")
    if found["asked"]:
        click.echo(f"It asks: {found['asked']['message']}")


@playbook_verb.command("watch")
@ID
@json_option
@place
def watch_verb(settings: Any, playbook_id: str, as_json: bool) -> None:
    r"""Show how a playbook goes until it is over or paused; end with 1 unless it is completed.

    \b
    hindbrain playbook watch play_01j...
    """
    sys.exit(_follow(settings(), playbook_id, as_json))


@playbook_verb.command("wait")
@ID
@click.option("--timeout", metavar="S", help="Give up after so long: exit code 4.")
@json_option
@place
def wait_verb(settings: Any, playbook_id: str, timeout: str | None, as_json: bool) -> None:
    r"""Wait until a playbook is over or paused; end with 1 unless it is completed.

    \b
    hindbrain playbook wait play_01j... --timeout 1h
    """

    @connected
    async def wait(engine: "ExecutionEngine") -> tuple[dict[str, Any], bool]:
        from interfaces.playbooks import Playbooks

        return await Playbooks(engine).wait(playbook_id, None if timeout is None else seconds(timeout))

    found, done = wait(settings())
    if as_json:
        show.dump(found)
    else:
        click.echo(_title(found))
    sys.exit(_exit(found) if done or found["status"] == "paused" else GAVE_UP)


@playbook_verb.command("pause")
@ID
@reason_option
@json_option
@place
def pause_verb(settings: Any, playbook_id: str, reason: str | None, as_json: bool) -> None:
    r"""Start nothing more of a playbook until it is resumed; what runs goes on.

    \b
    hindbrain playbook pause play_01j... --reason 'until Monday'
    """
    changed(settings(), "pause", {"playbook_id": playbook_id, "reason": reason}, as_json)


@playbook_verb.command("resume")
@ID
@checkpoint_option
@json_option
@place
def resume_verb(settings: Any, playbook_id: str, checkpoint_id: str | None, as_json: bool) -> None:
    r"""Let a playbook go on, from where it stands or from a checkpoint.

    What came after that checkpoint is done again; what was before it is not.

    \b
    hindbrain playbook resume play_01j...
    hindbrain playbook resume play_01j... --from ckpt_4z3...
    """
    changed(settings(), "resume", {"playbook_id": playbook_id, "checkpoint_id": checkpoint_id}, as_json)


@playbook_verb.command("cancel")
@ID
@reason_option
@click.option("--grace", metavar="S", help="How long what runs may tidy up before it is killed.")
@json_option
@place
def cancel_verb(settings: Any, playbook_id: str, grace: str | None, as_json: bool, **more: Any) -> None:
    r"""Start nothing more of a playbook, and stop what runs.

    \b
    hindbrain playbook cancel play_01j... --reason 'not needed'
    """
    grace_ms = None if grace is None else round(seconds(grace) * 1000)
    changed(settings(), "cancel", {"playbook_id": playbook_id, "grace_ms": grace_ms, **more}, as_json)


@playbook_verb.command("answer")
@ID
@click.argument("value")
@click.option("--step", help="Which question; the one that waits when left out.")
@click.option("--by", help="Who answers; the name of the user when left out.")
@json_option
@place
def answer_verb(
    settings: Any, playbook_id: str, value: str, step: str | None, by: str | None, as_json: bool
) -> None:
    r"""Answer what a playbook asks: JSON, or text.  The first answer that fits wins.

    \b
    hindbrain playbook answer play_01j... true
    hindbrain playbook answer play_01j... '{"approved": true, "note": "go"}'
    """
    try:
        given: Any = json.loads(value)
    except ValueError:
        given = value
    body = {"playbook_id": playbook_id, "value": given, "step": step, "by": by or getpass.getuser()}
    changed(settings(), "answer", body, as_json)


for _verb in behind.VERBS:
    playbook_verb.add_command(_verb)
