"""What was decided about modules, and what another policy would have decided."""

from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place


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
