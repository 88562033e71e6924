"""What was decided about modules, and what another policy would have decided."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, connected, json_option, moment, place, seconds

if TYPE_CHECKING:
    from events.crew import Waits
    from events.look import Decision
    from interfaces.api import ExecutionEngine
    from interfaces.backtest import Record, Report


@click.command("decisions")
@click.option("--module", metavar="NAME", help="Only those about this module.")
@click.option("--type", "type", metavar="WORD", help="Only those of this type: scale_up, refused, ...")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@json_option
@place
def decisions_verb(settings: Any, as_json: bool, **which: Any) -> None:
    r"""List what was decided about modules and why, newest first; --json has all that was seen.

    \b
    hindbrain decisions
    hindbrain decisions --type refused --json
    """
    found = asked(settings(), "decision", "list", which, fresh=True)["decisions"]
    if as_json:
        show.dump(found)
        return
    rows = [[each[name] for name in ("seq", "time", "type", "module", "context")] for each in found]
    show.table(("seq", "time", "type", "module", "why"), rows)


@click.group("scaler")
def scaler_verb() -> None:
    r"""Try out how the scaler would decide.

    \b
    hindbrain scaler backtest --policy calm.toml --since 7d
    """


@scaler_verb.command("backtest")
@click.option(
    "--policy", type=click.Path(path_type=Path), help="A file with the policy, else the node's own."
)
@click.option("--since", default="7d", show_default=True, help="How far back: 7d, 2h, or a time.")
@click.option("--module", metavar="NAME", help="Only this module.")
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Where none were seen.")
@click.option("--every", metavar="10s", help="How often it decides, else as often as the node does.")
@json_option
@place
def backtest_verb(
    settings: Any,
    as_json: bool,
    policy: Path | None,
    since: str,
    module: str | None,
    workers: int,
    every: str | None,
) -> None:
    r"""Run recorded work again under another policy: waits, workers, and what it would decide otherwise.

    \b
    hindbrain scaler backtest --policy calm.toml --since 2h --module site-builder
    """
    from events.policy import Policy
    from interfaces import backtest, policyfile

    known = settings(**{"scaler.policy": policy, "scaler.every_seconds": every and seconds(every)})
    rules = policyfile.read(known.scaler.policy) if known.scaler.policy else Policy()
    record = _fetched(known, _since(since), module)
    found = backtest.report(record, rules, known.scaler.every_seconds, module, workers)
    if as_json:
        show.dump(found)
    else:
        _print(found)


@connected
async def _fetched(engine: "ExecutionEngine", since: str, module: str | None) -> "Record":
    from interfaces import backtest

    return await backtest.fetch(engine, since, module)


def _since(text: str) -> str:
    """Read how far back, or a time."""
    from datetime import UTC, datetime, timedelta

    if text[-1:] in "smhd" and text[:1].isdecimal():
        return (datetime.now(UTC) - timedelta(seconds=seconds(text))).isoformat()
    return str(moment("--since", text))


def _print(found: "Report") -> None:
    click.echo(f"{found.recorded.count} executions, {found.first} to {found.last}")
    head = (
        "module",
        "waited",
        "p50",
        "p95",
        "most",
        "would wait",
        "p50",
        "p95",
        "most",
        "peak",
        "worker time",
    )
    show.table(
        head,
        [
            (
                each.module,
                *_waits(each.recorded),
                *_waits(each.simulated.waits),
                each.simulated.peak_workers,
                show.length(each.simulated.worker_seconds * 1000),
            )
            for each in found.modules
        ],
    )
    for each in found.modules:
        if each.simulated.unserved:
            click.echo(f"{each.simulated.unserved} of {each.module} would wait for ever")
    worked = show.length(found.worker_seconds * 1000)
    click.echo(f"at most {found.peak_workers} workers at once, {worked} of worker time")
    counts: dict[str, int] = {}
    for each in found.decisions:
        counts[each.decision.type] = counts.get(each.decision.type, 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
    click.echo(f"decisions in the simulation: {told}")
    click.echo(f"{len(found.differences)} differ where {found.recorded_decisions} were made")
    if found.differences:
        rows = [
            (each.seq, each.time, each.module, _said(each.recorded), _said(each.instead))
            for each in found.differences
        ]
        show.table(("seq", "time", "module", "was decided", "instead"), rows)


def _waits(waits: "Waits") -> tuple[Any, ...]:
    return (waits.count, *map(show.length, (waits.p50_ms, waits.p95_ms, waits.max_ms)))


def _said(made: "Decision | None") -> str:
    return "nothing" if made is None else f"{made.type} {made.before} -> {made.after}"
