"""The log from end to end, read by whoever wants to be sure: a copy of the tables, and a check of everything.

Both read the log itself with the rights of a client, and need no node but its bus.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bus.client import Here
from bus.feed import envelope
from bus.history import Record as Stored
from bus.permissions import INBOX
from bus.reader import read_range, state, verify
from events.errors import HindbrainError
from interfaces.settings import Settings
from interfaces.whereabouts import address

if TYPE_CHECKING:
    from projections.record import Record
    from projections.store import Bookmark

LOTS = 16
"""So many lots wait for the fold; then the reading waits."""


@contextlib.asynccontextmanager
async def _bus(settings: Settings) -> AsyncGenerator[Here]:
    bridge = Here(address(settings), name="audit", inbox=INBOX["client"], patience=3.0)
    await bridge.open()
    try:
        yield bridge
    finally:
        await bridge.close()


async def into(settings: Settings, path: Path) -> "Bookmark":
    """Fold the whole log into a new DuckDB file; `Conflict` when it exists, `Damaged` when the log is."""
    from projections import replay

    lots: queue.Queue[Sequence[Stored] | None] = queue.Queue(LOTS)

    def records() -> "Iterator[Record]":
        while (lot := lots.get()) is not None:
            yield from map(_record, lot)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        folding = pool.submit(replay.into, path, records())

        def take(lot: Sequence[Stored] | None) -> None:
            # This loop reads and nothing else, so to hold it up is what keeps the memory small.
            while not folding.done():
                with contextlib.suppress(queue.Full):
                    lots.put(lot, timeout=0.1)
                    return

        try:
            async with _bus(settings) as bridge:
                await read_range(bridge, 1, None, take)
        finally:
            take(None)
        return await asyncio.wrap_future(folding)


def _record(stored: Stored) -> "Record":
    from projections.record import Record

    head = envelope(stored.headers)
    return Record(
        stored.seq,
        stored.subject,
        head.id,
        head.time,
        head.cause,
        head.by,
        head.prev,
        head.trace,
        stored.headers.get("Nats-Time-Stamp"),
        stored.body,
    )


async def end(settings: Settings) -> int:
    """Say which is the last sequence of the log."""
    async with _bus(settings) as bridge:
        return int((await state(bridge))["last_seq"])


async def log_damage(settings: Settings) -> HindbrainError | None:
    """Read the whole log, and say where its sequences have a gap or the chain of an entity breaks."""
    async with _bus(settings) as bridge:
        return await verify(bridge)
