"""What the scaler decides on what it sees; nothing else goes in, so the log alone repeats it.

    Snapshot + Policy ---> decide ---> Decisions: scale_up, scale_down, scale_down_suggested,
                                                  self_heal, restart, refused

What is only said (a suggestion, a refusal) is said once for as long as it is so.  What was said and still
stands is a part of the snapshot: whoever makes the next one puts in what `standing` answers to this one.
"""

from typing import Any

import msgspec

from events import classic, target
from events.decision import Made, Make
from events.headcount import Headcount
from events.look import CATEGORIES as CATEGORIES
from events.look import TOTAL_MAX as TOTAL_MAX
from events.look import URGENCY as URGENCY
from events.look import CategoryLook as CategoryLook
from events.look import Decision as Decision
from events.look import ModuleLook as ModuleLook
from events.look import Snapshot as Snapshot
from events.message import Message
from events.policy import Policy as Policy

RULES = {"classic": classic.scale, "target": target.scale}
DONE = ("scale_up", "scale_down", "self_heal", "restart")
"""Decisions that something has to be done about."""


class Seen(Message, omit_defaults=False):
    """What a decision of the scaler keeps in the log: what follows, and everything that it saw."""

    decision: Decision
    policy: Policy
    snapshot: Snapshot


def decide(snapshot: Snapshot, policy: Policy) -> tuple[Decision, ...]:
    """Say what happens now; of a module at most one thing."""
    return judge(snapshot, policy)[0]


def standing(snapshot: Snapshot, policy: Policy) -> tuple[str, ...]:
    """What is only said, now or before, and is so now; the next snapshot begins with it."""
    return judge(snapshot, policy)[1]


def judge(snapshot: Snapshot, policy: Policy) -> tuple[tuple[Decision, ...], tuple[str, ...]]:
    """Both at once."""
    count = Headcount(snapshot, policy)
    count.heal()
    RULES[policy.kind](count)
    news = tuple(each for each in count.decisions if each.key not in snapshot.standing)
    return news, tuple(sorted({each.key for each in count.decisions if each.key}))


def exact(snapshot: Snapshot) -> Snapshot:
    """The snapshot as it will be read from the log, with every category in it: it stands for itself."""
    known = {each.name for each in snapshot.categories}
    more: list[CategoryLook] = []
    for name in sorted({each.category for each in snapshot.modules} - known):
        most = CATEGORIES.get(name, sum(each.workers for each in snapshot.modules if each.category == name))
        more.append(CategoryLook(name=name, max=most, base=most))
    whole = msgspec.structs.replace(snapshot, categories=(*snapshot.categories, *more))
    return msgspec.json.decode(msgspec.json.encode(whole), type=Snapshot)


def make(decision: Decision, snapshot: Snapshot, policy: Policy) -> Make:
    """Say a decision to the log."""
    data: dict[str, Any] = msgspec.to_builtins(Seen(decision=decision, policy=policy, snapshot=snapshot))
    return Make(type=decision.type, module=decision.module, context=decision.reason, data=data)


def seen(made: Made) -> Seen | None:
    """What a decision in the log saw; None when it was not the scaler's."""
    return msgspec.convert(made.data, Seen) if "snapshot" in made.data else None
