"""What became of the operations of a batch that failed: the batch counts them, their executions know."""

from collections.abc import Callable, Sequence

import msgspec

from actors.clerk import Gather
from actors.starting import left
from events import picture
from events.asks.plan import Entry
from events.execution import EXECUTION, Terminal
from events.plan import State
from events.ports import Loaded, Log


def tell(journal: Log, state: State, done: Callable[[list[Entry]], None]) -> None:
    """Say of each what is stored of its execution; of a plan that is not over nothing is read."""
    entries = [picture.operation(state, number) for number in picture.failed(state)] if state.over else []

    def read(found: Sequence[Loaded]) -> None:
        ends = {each.entity: each.snapshot.state.end for each in found}
        done([_told(entry, ends.get(entry.execution_id or "")) for entry in entries])

    entities = [entry.execution_id for entry in entries if entry.execution_id]
    if entities:
        gather: Gather[Loaded] = Gather(len(entities), read)
        journal.load(EXECUTION, entities, gather)
    else:
        read(())


def _told(entry: Entry, end: Terminal | None) -> Entry:
    if end is None or entry.execution_id is None:
        return entry
    return msgspec.structs.replace(entry, **msgspec.to_builtins(left(entry.execution_id, end)))
