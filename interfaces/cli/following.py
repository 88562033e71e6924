"""A plan or a batch while it goes on: a tree or a bar on a terminal, plain lines elsewhere."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import GAVE_UP, INTERRUPTED, show, trees
from interfaces.cli.interrupts import REASON, interrupts
from interfaces.cli.options import CANCELLED, connected, seconds

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine
    from interfaces.settings import Settings

STARTING, BUSY = "Starting batch operation...", "Processing..."
FAILED = 1
RUNNING = ": running "
LOOK_SECONDS = 0.2
"""A tree is read anew no more often than this."""


def run(settings: "Settings", verb: tuple[str, str], body: dict[str, Any], *, as_json: bool) -> int:
    """Have it stored, and follow it to its end; gives the exit code."""

    @connected
    async def whole(engine: "ExecutionEngine") -> int:
        if not as_json and verb[0] == "batch":
            click.echo(STARTING, err=True)
        reply = await engine.submit_plan(verb, body)
        if not as_json:
            click.echo(f"{reply['message']} {reply['plan_id']}, monitor at {reply['monitor_url']}", err=True)
        return await _follow(engine, reply["plan_id"], as_json)

    return whole(settings)


def watch(settings: "Settings", plan_id: str, *, as_json: bool) -> int:
    """Follow a plan that is there to its end; gives the exit code."""

    @connected
    async def whole(engine: "ExecutionEngine") -> int:
        return await _follow(engine, plan_id, as_json)

    return whole(settings)


def wait(settings: "Settings", plan_id: str, timeout: str | None, *, as_json: bool) -> int:
    """Wait for the end of a plan; gives the exit code."""
    limit = None if timeout is None else seconds(timeout)

    @connected
    async def whole(engine: "ExecutionEngine") -> int:
        plan, done = await engine.wait_for_plan(plan_id, limit)
        _told(plan, as_json)
        return exit_code(plan) if done else GAVE_UP

    return whole(settings)


def exit_code(plan: dict[str, Any]) -> int:
    """Say as what a command line that ran this plan ends."""
    if plan["status"] == "cancelled":
        return CANCELLED
    return FAILED if plan["status"] != "completed" or plan["failed"] else 0


def _told(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.dump(plan)
    else:
        click.echo(trees.title(plan))


async def _follow(engine: "ExecutionEngine", plan_id: str, as_json: bool) -> int:
    watching = asyncio.create_task(_watch(engine, plan_id, quiet=as_json))
    try:
        with interrupts(lambda: engine.request("plan", "cancel", plan_id=plan_id, reason=REASON), watching):
            stands = await watching
    except asyncio.CancelledError:
        click.echo(f"Left alone: {plan_id} goes on.", err=True)
        return INTERRUPTED
    plan = (await trees.look(engine, plan_id, 0)).plan
    if not stands:
        _told(plan, as_json)
    return exit_code(plan)


async def _watch(engine: "ExecutionEngine", plan_id: str, *, quiet: bool) -> bool:
    """Show it until it is over; says whether its last state stands on the screen."""
    first = await trees.look(engine, plan_id)
    many = first.plan["strategy"] == "batch"
    live = not quiet and sys.stderr.isatty()
    shown = _live(first, many) if live else _nothing() if quiet else _lines(first, many)
    with shown as tell:
        async for step in engine.progress(plan_id):
            tell(step, None if many or quiet else await trees.look(engine, plan_id))
            if live and not step["final"]:
                await asyncio.sleep(LOOK_SECONDS)
    return live and not many


Tell = Callable[[dict[str, Any], trees.Whole | None], None]


@contextlib.contextmanager
def _nothing() -> Generator[Tell]:
    def tell(step: dict[str, Any], whole: trees.Whole | None) -> None:
        del step, whole

    yield tell


@contextlib.contextmanager
def _lines(first: trees.Whole, many: bool) -> Generator[Tell]:
    """Plain lines: every change of a step, or how far a batch is; each is said once."""
    said: set[str] = set()

    def tell(step: dict[str, Any], whole: trees.Whole | None) -> None:
        now = "" if step["final"] else f": {step['currentOperation'] or BUSY}"
        lines = [f"{step['text']}{now}"] if many else [*_begun(step), *_changes(whole or first, "")]
        for line in map(show.cell, lines):
            # Whoever tells that a step runs may write its command with its values, or without.
            key = line.partition(RUNNING)[0] + RUNNING if RUNNING in line else line
            if key not in said:
                said.add(key)
                click.echo(line, err=True)

    yield tell


def _begun(step: dict[str, Any]) -> Iterator[str]:
    """Which step starts, as it is told before it runs; it may be over when the plan is looked at."""
    if step.get("message") and step.get("current_command"):
        yield f"{step['message']}{RUNNING}{step['current_command']}"


def _changes(whole: trees.Whole, prefix: str) -> Iterator[str]:
    for step in whole.plan["steps"]:
        name = f"{prefix}{step['name']}"
        if step["status"] == "running":
            yield f"{name}{RUNNING}{step['command']}"
        elif step["status"] != "pending":
            yield f"{name}: {trees.said(step)}"
        if step["plan_id"] in whole.inside:
            yield from _changes(whole.inside[step["plan_id"]], f"{name}/")


@contextlib.contextmanager
def _live(first: trees.Whole, many: bool) -> Generator[Tell]:
    """A tree, or a bar with the operation at work, drawn over and over in one place."""
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.text import Text

    console = Console(stderr=True)
    progress = Progress(
        BarColumn(), TaskProgressColumn(), TextColumn("[dim]{task.fields[count]}[/dim]"), console=console
    )
    task = progress.add_task("", total=None, count="")

    def drawn(step: dict[str, Any] | None, whole: trees.Whole) -> RenderableType:
        if not many:
            return trees.tree(whole)
        said = step or {}
        text = show.cell(said.get("currentOperation") or BUSY)
        left = f"Time left: {said['eta']}" if said.get("eta") and not said["final"] else ""
        return Group(Text(text), progress, Text(left, "dim"))

    with Live(drawn(None, first), console=console, transient=many, auto_refresh=False) as live:

        def tell(step: dict[str, Any], whole: trees.Whole | None) -> None:
            done = step["current"] or 0
            total = step["total"]
            count = f"{done:g} / {'?' if total is None else f'{total:g}'} operations"
            progress.update(task, completed=done, total=total, count=count)
            live.update(drawn(step, whole or first), refresh=True)

        yield tell
