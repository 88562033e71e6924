"""The desks: who answers which verbs of the kinds that need no more than the log and the tables."""

from collections.abc import Callable, Sequence
from typing import Any

from actors.again import Again
from actors.artifacts import Artifacts
from actors.checkpoints import Checkpoints
from actors.clerk import Clerk, Verbs
from actors.dead import Dead
from actors.gateway import Turn
from actors.home import Home
from actors.limits import Limits
from actors.orders import Orders
from actors.plans import Plans
from actors.playbooks import Playbooks
from actors.saving import Saver
from actors.schedules import Schedules
from actors.submitting import Submitting
from actors.taskdesk import TaskDesk
from actors.templates import Templates
from actors.undo import Undo
from actors.vault import Vault
from events.codec import Fact
from events.ports import Call, Doors, Log


def desks(
    home: Home,
    journal: Log,
    doors: Doors,
    vault: Vault,
    gateway: Callable[[Any], None],
    bounds: Callable[[Sequence[Fact]], None],
    waiter: Callable[[Any], None],
    archivist: Callable[[Any], None],
    saver: Saver,
    attendant: Callable[[Any], None],
    messenger: Callable[[Any], None],
) -> tuple[Again, Verbs]:
    """Set up all of them.

    `gateway` is told what has to go on in its thread, `bounds` of new limits, `waiter` who waits for the
    end of a plan, and `archivist` whose artifacts are to be kept or read,
    `attendant` who waits for a playbook, `messenger` who waits for a task.
    """

    def turn(call: Call, act: Callable[[], None]) -> None:
        gateway(Turn(call, act))

    again = Again(journal, doors, Submitting(home, vault), turn)
    verbs = Orders(journal, doors, turn).verbs | Dead(journal, again).verbs
    verbs |= Schedules(Clerk(journal, doors), home, vault, doors).verbs
    verbs |= Limits(journal, doors, bounds).verbs
    plans = Plans(Clerk(journal, doors), journal, home, vault, waiter)
    verbs |= plans.verbs | Templates(Clerk(journal, doors), journal, doors, plans, turn).verbs
    verbs |= Artifacts(Clerk(journal, doors), archivist).verbs
    shared = (Clerk(journal, doors), journal, home, vault, saver, turn)
    verbs |= Playbooks(*shared, attendant).verbs | Checkpoints(*shared).verbs
    verbs |= TaskDesk(Clerk(journal, doors), journal, doors, turn, messenger).verbs
    return again, verbs | Undo(journal, doors, verbs, turn).verbs
