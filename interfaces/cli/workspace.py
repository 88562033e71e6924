"""Workspaces: folders that playbooks share."""

from pathlib import Path
from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place


@click.group("workspace")
def workspace_verb() -> None:
    r"""Folders that playbooks share, with the artifacts that they leave there.

    \b
    hindbrain workspace create research --path /srv/research
    hindbrain workspace list
    """


@workspace_verb.command("create")
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="Its folder.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@json_option
@place
def create_verb(settings: Any, name: str, path: Path | None, description: str | None, as_json: bool) -> None:
    r"""Open a workspace; whoever names one that is not there opens it as well.

    \b
    hindbrain workspace create research --path /srv/research
    """
    where = None if path is None else str(path.absolute())
    body = {"name": name, "path": where, "description": description}
    reply = asked(settings(), "workspace", "create", body)
    if as_json:
        show.dump(reply)
    else:
        already = "" if reply["changed"] else " already"
        click.echo(f"Workspace {reply['workspace_id']} is open{already}. (event {reply['seq']})")


@workspace_verb.command("list")
@json_option
@place
def list_verb(settings: Any, as_json: bool) -> None:
    r"""List all workspaces by name.

    \b
    hindbrain workspace list --json
    """
    found = asked(settings(), "workspace", "list", {}, fresh=True)["workspaces"]
    if as_json:
        show.dump(found)
    else:
        rows = [[each["id"], each["path"], each["created_at"], each["description"]] for each in found]
        show.table(("name", "path", "since", "what"), rows)
