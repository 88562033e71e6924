"""What another policy would have decided where something was decided."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from events import scaling
from events.clock import stamp
from events.look import Decision
from events.message import Message
from events.policy import Policy
from events.scaling import Seen


class Recorded(NamedTuple):
    """A decision of the log."""

    seq: int
    seen: Seen


class Difference(Message, omit_defaults=False):
    """Of one module at one moment: what was decided, and what the other policy decides on what was seen."""

    time: str
    seq: int | None
    """The recorded decision; null where nothing was decided."""
    module: str
    recorded: Decision | None
    instead: Decision | None


def differences(recorded: Sequence[Recorded], policy: Policy, module: str | None = None) -> list[Difference]:
    """Decide again on all that was seen when something was decided; why it was decided is not compared."""
    found: list[Difference] = []
    for snapshot, group in groupby(recorded, key=lambda each: each.seen.snapshot):
        was = {each.seen.decision.module: each for each in group}
        now = {each.module: each for each in scaling.decide(snapshot, policy)}
        for name in sorted(was.keys() | now.keys()):
            before, after = was.get(name), now.get(name)
            said = before.seen.decision if before else None
            if module in (None, name) and _what(said) != _what(after):
                found.append(
                    Difference(
                        time=stamp(snapshot.time_ms),
                        seq=before.seq if before else None,
                        module=name,
                        recorded=said,
                        instead=after,
                    )
                )
    return found


def _what(made: Decision | None) -> tuple[object, ...] | None:
    return made and (made.type, made.before, made.after, made.max_before, made.max_after)
