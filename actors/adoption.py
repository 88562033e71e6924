"""What a node was running before: attempts that its keeper or the tables name, and that it does not know."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import kept
from actors.attempt import Inquired, Keeper, Owned
from events.errors import HindbrainError
from events.execution import EXECUTION, State
from events.ports import Doors, Loaded, Log, Snapshot

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
ASK_SECONDS = 30.0

Said = kept.Spawned | kept.End


class Adoption:
    """Finds out whose they are: `adopt` gets those that the log says are ours, the others are disowned."""

    def __init__(
        self,
        node: str,
        since: int,
        journal: Log,
        doors: Doors,
        keeper: Keeper,
        tell: Callable[[Any], None],
        adopt: Callable[[str, Snapshot[State]], None],
    ) -> None:
        self._node, self._log, self._doors, self._keeper = node, journal, doors, keeper
        self._tell, self._adopt = tell, adopt
        self._since = since
        """The sequence of this node's own start: what it ran before is known to whoever has read so far."""
        self._strangers: dict[str, list[Said]] = {}
        """What the keeper said of attempts that are not in the table, until the log says whose they are."""
        self._fresh: list[str] = []
        """Strangers that nobody was asked about yet."""
        self._asked: float | None = None
        self._reconciled = False
        self._unread: list[str] = []

    def tick(self) -> None:
        """Learn what this node was doing before, until everything is known."""
        moment = time.monotonic()
        if not self._reconciled and (self._asked is None or moment - self._asked > ASK_SECONDS):
            self._asked = moment
            self._keeper.list()
            self._ask_owned()
        unread, self._unread = self._unread, []
        self.inquire(unread)

    def stranger(self, message: Said) -> None:
        """The keeper speaks of an attempt that nobody here knows."""
        if message.execution not in self._strangers:
            self._fresh.append(message.execution)
        self._strangers.setdefault(message.execution, []).append(message)

    def settle(self) -> None:
        """Ask the log whose the new strangers are."""
        fresh, self._fresh = self._fresh, []
        self.inquire(sorted(fresh))

    def owned(self, answer: bytes | HindbrainError, known: Callable[[str], bool]) -> None:
        """The tables say what runs on this node."""
        if isinstance(answer, HindbrainError):
            log.info("cannot learn yet what this node was running: %s", answer)
            self._asked = time.monotonic() - ASK_SECONDS + AGAIN_SECONDS
            return
        rows: list[list[str]] = msgspec.json.decode(answer)["rows"]
        self._reconciled = True
        self.inquire([row[0] for row in rows if not known(row[0])])

    def inquire(self, entities: Sequence[str]) -> None:
        """Have these read from the log."""
        if entities:
            self._log.load(EXECUTION, entities, lambda loaded: self._tell(Inquired(loaded)))

    def inquired(self, loaded: Loaded, known: bool) -> None:
        """One of them was read."""
        if loaded.error:
            log.warning("%s: cannot be read, asking again: %s", loaded.entity, loaded.error)
            self._unread.append(loaded.entity)
            return
        messages = self._strangers.pop(loaded.entity, [])
        if known:
            return
        state = loaded.snapshot.state
        ours = owns(self._node, state)
        for message in messages:
            if not ours or message.attempt != state.attempt:
                self.disown(message)
        if ours:
            log.info("%s: attempt %d is taken up again", loaded.entity, state.attempt)
            self._adopt(loaded.entity, loaded.snapshot)

    def disown(self, message: Said) -> None:
        """An attempt that the log does not know any more, or has given to somebody else."""
        if isinstance(message, kept.Spawned):
            self._keeper.kill(message.execution, message.attempt, "lost", 1000)
        else:
            self._keeper.forget(message.execution, message.attempt)

    def _ask_owned(self) -> None:
        query = {
            "sql": "select id from executions where status = 'running' and node = ? and kind <> 'job'",
            "params": [self._node],
            "min_seq": self._since,
            "limit": 100_000,
            "timeout_ms": 25_000,
        }
        body = msgspec.json.encode(query)
        self._doors.request("query", "sql", body, ASK_SECONDS, lambda answer: self._tell(Owned(answer)))


def owns(node: str, state: State, boot: str | None = None) -> bool:
    """Whether that node runs it now as a command; with `boot`, since it came up that time."""
    if (
        state.spec.job is not None
        or state.phase != "running"
        or state.started is None
        or state.started.node != node
    ):
        return False
    return boot is None or state.started.boot == boot
