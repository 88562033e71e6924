"""What a command wrote, byte for byte."""

from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import connected, json_option, place

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine


@click.command("logs")
@click.argument("execution_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until it is over.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only its error output.")
@click.option("--both", "stream", flag_value="both", help="Both, each to where it belongs.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many bytes of each stream.")
@json_option
@place
def logs_verb(
    settings: Any, execution_id: str, follow: bool, stream: str | None, offset: int, as_json: bool
) -> None:
    r"""Show what an execution wrote, unchanged: stdout to stdout, stderr to stderr.

    Without --stderr or --both it is the standard output alone.

    \b
    hindbrain logs exec_01j... -f
    hindbrain logs exec_01j... --both > out 2> err
    """
    wanted = ("stdout", "stderr") if stream == "both" else (stream or "stdout",)
    _logs(settings(), execution_id, dict.fromkeys(wanted, offset), follow, as_json)


@connected
async def _logs(
    engine: "ExecutionEngine", execution_id: str, offsets: dict[str, int], follow: bool, as_json: bool
) -> None:
    async for chunk in engine.output(execution_id, offsets, follow):
        show.chunk(chunk, as_json)
