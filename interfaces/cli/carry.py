"""Executions, plans and playbooks as files that can be carried away."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.capsule import Manifest


@click.command("export")
@click.argument("roots", metavar="ID...", nargs=-1, required=True)
@click.option("-o", "file", type=click.Path(path_type=Path), help="Where to write it.")
@json_option
@place
def export_verb(settings: Any, roots: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    r"""Pack executions, plans, batches and playbooks into one file; values that look like secrets are masked.

    With a plan or a batch come all executions of its steps, with a playbook all that it ran and its
    checkpoints; with everything its events, output and artifacts.

    \b
    hindbrain export exec_01j... -o build.capsule
    hindbrain export plan_01j... play_01j... -o release.capsule
    """
    from interfaces import capsule

    file = file or capsule.default_name(roots)
    _tell(_export(settings(), tuple(dict.fromkeys(roots)), file), file, as_json)


def _tell(manifest: "Manifest", file: Path, as_json: bool) -> None:
    if as_json:
        kinds = ("executions", "plans", "playbooks", "artifacts", "checkpoints", "events")
        show.dump({"file": str(file), **{name: getattr(manifest, name) for name in kinds}})
    else:
        click.echo(f"{manifest.inside} are in {file}")


@connected
async def _export(engine: "ExecutionEngine", roots: tuple[str, ...], file: Path) -> "Manifest":
    import time
    from importlib import metadata

    from events import codec
    from interfaces import packing

    now = codec.stamp(time.time_ns() // 1_000_000)
    return await packing.write(engine, roots, file, now, metadata.version("hindbrain"))


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), required=True, help="The DuckDB file to make.")
@json_option
def import_verb(file: Path, into: Path, as_json: bool) -> None:
    r"""Open an exported file as a DuckDB file with the same tables; needs no node and changes none.

    \b
    hindbrain import build.capsule --into build.duckdb
    duckdb build.duckdb "FROM executions"
    """
    from interfaces import capsule

    _tell(capsule.into(file, into), into, as_json)
