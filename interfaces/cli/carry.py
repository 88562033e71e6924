"""Executions as files that can be carried away."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.capsule import Manifest


@click.command("export")
@click.argument("execution_ids", metavar="ID...", nargs=-1, required=True)
@click.option("-o", "file", type=click.Path(path_type=Path), help="Where to write it.")
@json_option
@place
def export_verb(settings: Any, execution_ids: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    r"""Pack executions with events and output into one file; values of secrets are masked.

    \b
    hindbrain export exec_01j... -o build.capsule
    """
    from interfaces import capsule

    file = file or capsule.default_name(execution_ids)
    manifest = _export(settings(), tuple(dict.fromkeys(execution_ids)), file)
    if as_json:
        show.dump({"file": str(file), "executions": manifest.executions, "events": manifest.events})
    else:
        click.echo(f"{len(manifest.executions)} executions with {manifest.events} events are in {file}")


@connected
async def _export(engine: "ExecutionEngine", execution_ids: tuple[str, ...], file: Path) -> "Manifest":
    import time
    from importlib import metadata

    from events import codec
    from interfaces import capsule

    now = codec.stamp(time.time_ns() // 1_000_000)
    return await capsule.write(engine, execution_ids, file, now, metadata.version("hindbrain"))


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

    manifest = capsule.into(file, into)
    if as_json:
        show.dump({"file": str(into), "executions": manifest.executions, "events": manifest.events})
    else:
        click.echo(f"{len(manifest.executions)} executions with {manifest.events} events are in {into}")
