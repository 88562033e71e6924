"""Takes back what can be taken back."""

from typing import Any

import click

from interfaces.cli import show
from interfaces.cli.options import asked, json_option, place
from interfaces.cli.plan import rehearse_option


@click.command("undo")
@click.argument("seq", type=click.IntRange(1))
@rehearse_option
@json_option
@place
def undo_verb(settings: Any, seq: int, rehearse: bool, as_json: bool) -> None:
    r"""Take back a pause, a limit, an order among what waits, or a change of a template.

    SEQ is the number of its event, as the verb said it; `hindbrain sql "FROM events"` knows them all.

    \b
    hindbrain undo 4711
    """
    reply = asked(settings(), "log", "undo", {"seq": seq, "rehearse": rehearse})
    if as_json:
        show.dump(reply)
    elif rehearse:
        click.echo(f"Nothing was changed. It would be so: {reply['text']}.")
    else:
        already = "" if reply["changed"] else " (it was so already)"
        told = f"Took back event {seq}, {reply['event']}: {reply['text']}{already}."
        click.echo(f"{told} (event {reply['seq']})")
