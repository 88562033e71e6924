"""Where artifacts lie, as the archivist knows it: the depots of all workspaces, and what comes in."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import depot
from actors.home import Home
from events import workspace
from events.artifact import Registered
from events.ports import Ask, Call, Depot, Log, Outcome, Place
from events.workspace import WORKSPACE


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where artifacts can lie: what the settings say."""

    data: Path
    backend: str = "local"
    url: str | None = None
    keep_days: float | None = None
    bus: Any = None


@dataclass(frozen=True, slots=True)
class Then:
    """Something about a request goes on; what it raises is the answer."""

    call: Call
    act: Callable[[], None]


class Rooms:
    """The depots of a node; `tell` has something go on in the archivist's thread."""

    def __init__(self, home: Home, shelves: Shelves, journal: Log, tell: Callable[[Any], None]) -> None:
        self._home, self.shelves, self._log, self._tell = home, shelves, journal, tell
        self._depots: dict[tuple[str, Path], Depot] = {}
        self._incoming = shelves.data / "incoming"

    def then(self, call: Call, act: Callable[[], None]) -> None:
        """Go on with a request; what that raises is its answer."""
        self._tell(Then(call, act))

    def file(self) -> Path:
        """A new file for what comes in, or for what is read from elsewhere."""
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        return self._incoming / secrets.token_hex(8)

    def depot(self, backend: str, workspace_id: str, path: str | None) -> Depot:
        """Who keeps artifacts so, in a workspace; `path` is the folder of that."""
        folder = Path(path) if path else self.shelves.data / "workspaces" / workspace_id
        key = (backend, folder)
        if key not in self._depots:
            place = Place(folder=folder / "artifacts", url=self.shelves.url, bus=self.shelves.bus)
            self._depots[key] = depot.maker(backend)(place)
        return self._depots[key]

    def elsewhere(self, registered: Registered) -> bool:
        """Whether its content lies in a folder of another node."""
        return registered.backend == "local" and registered.node not in ("", self._home.node)

    def open(self, name: str, call: Call, act: Callable[[str | None], None]) -> None:
        """Have a workspace of that name; `act` gets its folder."""

        def opened(outcomes: Sequence[Outcome]) -> None:
            outcome = outcomes[0]
            if outcome.error is not None:
                call.refuse(outcome.error)
                return
            state: workspace.State = outcome.snapshot.state
            path = state.opened.path if state.opened else None
            self.then(call, lambda: act(path))

        ask = Ask(WORKSPACE, name, workspace.Open(name=name), by=call.by, trace=call.trace)
        self._log.handle([ask], opened)
