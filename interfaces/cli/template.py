"""Templates: plans that are kept under a name."""

from pathlib import Path
from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place, values
from interfaces.cli.plan import param_option, reason_option, start

NAME = click.argument("name")


@click.group("template")
def template_verb() -> None:
    r"""Keep plans under a name, and start them with other parameters each time.

    \b
    hindbrain template save deploy.toml
    hindbrain template start deploy --param target=staging
    hindbrain template list
    """


@template_verb.command("save")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Its name; the one that the plan has, or the file, when left out.")
@click.option("--comment", help="What is new.")
@json_option
@place
def save_verb(settings: Any, file: Path, name: str | None, comment: str | None, as_json: bool) -> None:
    r"""Keep a plan file; the same name again is its next version.

    \b
    hindbrain template save deploy.toml --comment 'one more step'
    """
    import msgspec

    from interfaces.planfile import read

    tree = read(file).tree
    called = name or tree.name or file.stem.lower()
    body = {"name": called, "plan": msgspec.to_builtins(tree), "comment": comment}
    reply = asked(settings(), "template", "save", body)
    if as_json:
        show.dump(reply)
    else:
        already = "" if reply["changed"] else ", as it was already"
        click.echo(f"{called} is kept in version {reply['version']}{already}. (event {reply['seq']})")


@template_verb.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@place
def list_verb(settings: Any, limit: int, as_json: bool) -> None:
    r"""List templates by name.

    \b
    hindbrain template list
    """
    found = asked(settings(), "template", "list", {"limit": limit}, fresh=True)["templates"]
    if as_json:
        show.dump(found)
        return
    rows = [
        [each["name"], each["version"], each["strategy"], " ".join(each["params"]), each["description"]]
        for each in found
    ]
    show.table(("name", "version", "strategy", "parameters", "what"), rows)


@template_verb.command("show")
@NAME
@click.option("--version", type=int, help="An earlier version.")
@json_option
@place
def show_verb(settings: Any, name: str, version: int | None, as_json: bool) -> None:
    r"""Show a template with its parameters and its steps.

    \b
    hindbrain template show deploy
    """
    found = asked(settings(), "template", "get", {"name": name, "version": version})
    if as_json:
        show.dump(found)
        return
    one = found["template"]
    rows: list[tuple[str, Any]] = [
        (key, one[key])
        for key in ("name", "version", "versions", "description", "strategy", "comment", "saved_at")
    ]
    rows.append(("steps", ", ".join(one["steps"]) or None))
    show.pairs([(key, value) for key, value in rows if value is not None])
    if one["params"]:
        heads = ("parameter", "type", "default", "what")
        keys = ("type", "default", "description")
        show.table(heads, [[key, *map(param.get, keys)] for key, param in one["params"].items()])


@template_verb.command("start")
@NAME
@param_option
@click.option("--version", type=int, help="An earlier version.")
@click.option("--item", multiple=True, metavar="TEXT", help="One item of a batch, in place of its own.")
@click.option("--items", metavar="FILE", help="A file with an item on each line, or a JSON list; - is stdin.")
@click.option("--count", type=click.IntRange(1), help="How many operations of a batch.")
@click.option("--secret", multiple=True, metavar="NAME", help="A secret from our environment, or typed.")
@click.option("--label", multiple=True, metavar="WORD", help="A word to find it by.")
@click.option("--cwd", type=click.Path(path_type=Path), help="Where it runs; here when left out.")
@click.option("--key", metavar="KEY", help="An idempotency key: the same key runs only once, ever.")
@click.option("--detach", is_flag=True, help="Do not wait for it.")
@json_option
@place
def start_verb(settings: Any, name: str, detach: bool, as_json: bool, **given: Any) -> None:
    r"""Run a template with these parameters, show how it goes, end with 1 when it fails.

    \b
    hindbrain template start deploy --param target=staging
    """
    from interfaces.cli.background import ensure
    from interfaces.cli.batch import items_of
    from interfaces.cli.run import secret

    body = {
        "template": name,
        "version": given["version"],
        "params": values(given["param"]),
        "items": items_of(given["item"], given["items"]),
        "count": given["count"],
        "secrets": {each: secret(each) for each in given["secret"]},
        "labels": list(given["label"]),
        "working_dir": str((given["cwd"] or Path.cwd()).absolute()),
        "idempotency_key": given["key"],
    }
    known = settings()
    ensure(known)
    start(known, ("template", "start"), body, detach=detach, as_json=as_json)


@template_verb.command("delete")
@NAME
@reason_option
@json_option
@place
def delete_verb(settings: Any, name: str, reason: str | None, as_json: bool) -> None:
    r"""Keep a template no more; what was started of it goes on.

    \b
    hindbrain template delete deploy
    """
    reply = asked(settings(), "template", "delete", {"name": name, "reason": reason})
    if as_json:
        show.dump(reply)
    else:
        click.echo(f"{name} is kept no more. (event {reply['seq']})")
