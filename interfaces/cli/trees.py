"""A plan on a terminal: its steps as a tree, plans inside it as branches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from interfaces.cli import show
from interfaces.cli.options import WITHIN_SECONDS, connected

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.tree import Tree

    from interfaces.api import ExecutionEngine

MARKS = {
    "pending": ("·", "dim"),
    "running": ("▶", "cyan"),
    "paused": ("▮", "yellow"),
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "timed_out": ("✘", "red"),
    "cancelled": ("■", "magenta"),
    "skipped": ("↷", "dim"),
}
DEPTH = 5
"""So deep plans inside plans are shown."""


class Whole(NamedTuple):
    """A plan, and the plans that are steps of it by their id."""

    plan: dict[str, Any]
    inside: "dict[str, Whole]"


@connected
async def read(engine: "ExecutionEngine", plan_id: str) -> Whole:
    """Read a plan with all that is inside."""
    return await look(engine, plan_id)


async def look(engine: "ExecutionEngine", plan_id: str, depth: int = DEPTH) -> Whole:
    """Read a plan, and the plans inside it that have begun."""
    plan = (await engine.request("plan", "get", WITHIN_SECONDS, plan_id=plan_id))["plan"]
    inside: dict[str, Whole] = {}
    for step in plan["steps"]:
        if step["plan_id"] and depth and step["status"] not in ("pending", "skipped"):
            try:
                inside[step["plan_id"]] = await look(engine, step["plan_id"], depth - 1)
            except LookupError:
                continue
    return Whole(plan, inside)


def draw(whole: Whole) -> None:
    """Print a plan: a tree on a terminal, lines for programs that read lines."""
    if show.coloured():
        from rich.console import Console

        Console().print(tree(whole))
        return
    click.echo(title(whole.plan))
    for line in _lines(whole, 1):
        click.echo(line)


def title(plan: dict[str, Any]) -> str:
    """A plan on one line."""
    name = plan["description"] or plan["name"] or plan["strategy"]
    back = "" if plan["rollback"] == "none" else f", taking back: {plan['rollback']}"
    error = plan["rollback_error"] or plan["error"]
    why = f": {error['message']}" if error else f": {plan['reason']}" if plan["reason"] else ""
    return show.cell(f"{plan['id']} {name} {plan['status']}{back}, {plan['progress']}{why}")


def said(step: dict[str, Any]) -> str:
    """What is to be said of a step beside its name."""
    parts = [step["status"]]
    if step["duration_ms"] is not None:
        parts.append(f"in {show.length(step['duration_ms'])}")
    if step["run"] > 1:
        parts.append(f"run {step['run']}")
    if step["reason"]:
        parts.append(f"({step['reason']})")
    elif step["error"]:
        parts.append(f"({step['error']['message']})")
    if step["undo"] not in (None, "none"):
        parts.append(f"undo {step['undo']}")
    return show.cell(" ".join(parts))


def _lines(whole: Whole, depth: int) -> Iterator[str]:
    for step in whole.plan["steps"]:
        needs = f" after {', '.join(step['needs'])}" if step["needs"] else ""
        child = step["execution_id"] or step["plan_id"] or ""
        yield f"{'  ' * depth}{step['name']}: {said(step)}{needs} {child}".rstrip()
        if step["plan_id"] in whole.inside:
            yield from _lines(whole.inside[step["plan_id"]], depth + 1)


def tree(whole: Whole) -> "RenderableType":
    """A plan as a tree with colours."""
    from rich.text import Text
    from rich.tree import Tree

    mark, style = MARKS.get(whole.plan["status"], ("·", ""))
    top = Tree(Text.assemble((f"{mark} ", style), title(whole.plan)), guide_style="dim")
    _grow(top, whole)
    return top


def _grow(branch: "Tree", whole: Whole) -> None:
    from rich.text import Text

    for step in whole.plan["steps"]:
        mark, style = MARKS.get(step["status"], ("·", ""))
        needs = f"  after {', '.join(step['needs'])}" if step["needs"] else ""
        text = Text.assemble(
            (f"{mark} ", style), (step["name"], "bold"), " ", (said(step), style), (needs, "dim")
        )
        twig = branch.add(text)
        if step["plan_id"] in whole.inside:
            _grow(twig, whole.inside[step["plan_id"]])
