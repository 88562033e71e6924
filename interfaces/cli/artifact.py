"""Artifacts: files that are kept under their hash."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, connected, json_option, place, seconds

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

SHOWN = ("size", "references", "workspace_id", "created_at", "name")
ID = click.argument("artifact_id", metavar="ID")


@click.group("artifact")
def artifact_verb() -> None:
    r"""Keep files under their hash, and get them back.

    \b
    hindbrain artifact register dist/app.whl
    hindbrain artifact list --name '*.whl'
    hindbrain artifact get art_9f86... -o app.whl
    """


@artifact_verb.command("register")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", help="What to call it; the file's name when left out.")
@click.option("--workspace", help="Where it is kept; `default` when left out.")
@click.option("--backend", help="Who keeps it; the node's setting when left out.")
@click.option("--media-type", help="What it is; guessed by the name when left out.")
@click.option("--label", "labels", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("--reference", metavar="WHO", help="Who needs it; it is kept at least until released.")
@json_option
@place
def register_verb(settings: Any, file: Path, as_json: bool, **given: Any) -> None:
    r"""Keep a file; the same content is kept once, however often it comes.

    Inside of a step of a playbook, the playbook needs it.

    \b
    hindbrain artifact register dist/app.whl --label release
    """
    from interfaces.artifacts import ArtifactRegistry

    body = {name: value for name, value in given.items() if value is not None}
    body |= {"name": given["name"] or file.name, "labels": list(given["labels"])}
    if given["reference"] is None:
        body |= _step()

    @connected
    async def register(engine: "ExecutionEngine") -> dict[str, Any]:
        return await ArtifactRegistry(engine).register(body, file)

    reply = register(settings())
    if as_json:
        show.dump(reply)
    else:
        known = " It was there already." if reply["duplicate"] else ""
        click.echo(f"{reply['artifact_id']} is kept, {reply['size']} bytes.{known}")


def _step() -> dict[str, str]:
    """The playbook or the execution that we are a part of."""
    found: dict[str, str] = {}
    if who := os.environ.get("HINDBRAIN_PLAYBOOK_ID"):
        found["reference"] = who
        if phase := os.environ.get("HINDBRAIN_PHASE_ID"):
            found["phase_id"] = phase
    elif who := os.environ.get("HINDBRAIN_EXECUTION_ID"):
        found["reference"] = who
    return found


@artifact_verb.command("get")
@ID
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file; standard output if left out.")
@click.option("--info", is_flag=True, help="Not the content, only what it is.")
@json_option
@place
def get_verb(settings: Any, artifact_id: str, output: Path | None, info: bool, as_json: bool) -> None:
    r"""Write the content of an artifact, checked against its hash.

    \b
    hindbrain artifact get art_9f86... > app.whl
    """
    from interfaces.artifacts import ArtifactRegistry

    if info or as_json:
        found = asked(settings(), "artifact", "get", {"artifact_id": artifact_id})["artifact"]
        if as_json:
            show.dump(found)
        else:
            show.pairs(list(found.items()))
        return

    @connected
    async def read(engine: "ExecutionEngine") -> None:
        part = None if output is None else output.with_name(f".{output.name}.part")
        file = sys.stdout.buffer if part is None else part.open("wb")
        try:
            async for piece in ArtifactRegistry(engine).pieces(artifact_id):
                file.write(piece)
            file.flush()
        except BaseException:
            if part is not None:
                part.unlink(missing_ok=True)
            raise
        finally:
            if part is not None:
                file.close()
        if part is not None and output is not None:
            part.replace(output)

    read(settings())


@artifact_verb.command("list")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--name", metavar="PATTERN", help="Only those of such a name, for example '*.whl'.")
@click.option("--label", help="Only those with this label.")
@click.option("--media-type", help="Only those of this type.")
@click.option("--reference", metavar="WHO", help="Only those that this one needs.")
@click.option("--removed", is_flag=True, help="Those whose content was removed.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", type=int, metavar="SEQ", help="Only those born before this sequence.")
@json_option
@place
def list_verb(settings: Any, removed: bool, as_json: bool, **which: Any) -> None:
    r"""List artifacts, newest first.

    \b
    hindbrain artifact list --label release
    """
    which["status"] = "removed" if removed else None
    found = asked(settings(), "artifact", "list", which, fresh=True)["artifacts"]
    if as_json:
        show.dump(found)
        return
    rows = [[f"{each['id'][:16]}...", *(each[name] for name in SHOWN)] for each in found]
    show.table(("id", "bytes", "needed by", "workspace", "since", "name"), rows)


@artifact_verb.command("release")
@ID
@click.option("--reference", metavar="WHO", required=True, help="Who needs it no more.")
@json_option
@place
def release_verb(settings: Any, artifact_id: str, reference: str, as_json: bool) -> None:
    r"""Say that somebody needs an artifact no more.

    \b
    hindbrain artifact release art_9f86... --reference play_01j...
    """
    reply = asked(settings(), "artifact", "release", {"artifact_id": artifact_id, "reference": reference})
    if as_json:
        show.dump(reply)
    else:
        left = ", ".join(reply["references"]) or "nobody"
        click.echo(f"{reply['artifact_id']} is needed by {left}.")


@artifact_verb.command("prune")
@click.option("--older", metavar="AGE", required=True, help="Of which nothing was said for so long: 30d.")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--rehearse", is_flag=True, help="Only say what would happen.")
@json_option
@place
def prune_verb(settings: Any, older: str, as_json: bool, **which: Any) -> None:
    r"""Remove artifacts that nobody needs.

    \b
    hindbrain artifact prune --older 30d --rehearse
    """
    reply = asked(settings(), "artifact", "prune", {"older_seconds": seconds(older), **which}, fresh=True)
    if as_json:
        show.dump(reply)
    elif "rehearsed" in reply:
        show.rehearsal(reply)
    else:
        click.echo(f"{len(reply['removed'])} removed, {reply['bytes']} bytes.")
