"""Loading and unloading plugins on a node, and asking their code; all of it in the thread of the modules."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from actors import manifest
from actors.monitor import Noticed
from actors.pool import Pool
from events import hosting
from events.errors import Conflict, HindbrainError, NotFound


class Loading:
    """Knows who waits for a plugin to be there, and who asked one something."""

    def __init__(
        self,
        pools: dict[str, Pool],
        overrides: dict[str, dict[str, Any]],
        read: Callable[[], None],
        notice: Callable[[Noticed], None],
    ) -> None:
        """Prepare; `read` has the modules read from the log when there is a new one."""
        self._pools, self._overrides, self._read, self._notice = pools, overrides, read, notice
        self._loading: dict[str, list[Callable[[HindbrainError | str | None], None]]] = {}
        self._queries = 0
        self._asked: dict[int, Callable[[Any, str | None], None]] = {}

    def load(
        self, name: str, source: str | None, done: Callable[[HindbrainError | str | None], None]
    ) -> None:
        """Load a plugin, or the version of it that is there now; the old one works until the new one does."""
        pool = self._pools.get(name)
        if pool is not None and pool.resident is not None:
            raise Conflict(f"{name} is a module of the node itself: a plugin has to be called otherwise")
        if source is None:
            source = pool.source if pool is not None else manifest.entries().get(name)
            if source is None:
                known = ", ".join(manifest.entries()) or "none"
                raise NotFound(f"no installed plugin is called {name!r}; there are {known}")
        if pool is None:
            pool = self._pools[name] = Pool(name, source, overrides=self._overrides.get(name, {}))
            self._read()
        pool.source, pool.wanted, pool.refusal = source, True, ""
        pool.used = time.monotonic()
        pool.loads += 1
        self._loading.setdefault(name, []).append(done)

    def has(self, name: str) -> bool:
        """Whether that module is to run on this node."""
        pool = self._pools.get(name)
        return pool is not None and pool.wanted and not pool.refusal

    def begin(
        self, name: str, profile: Mapping[str, Any], done: Callable[[HindbrainError | str | None], None]
    ) -> None:
        """Bring up a module of functions, or wait until it is up; the settings win over what is said here."""
        if self.has(name):
            pool = self._pools[name]
            if pool.total or pool.state.status == "error":
                done(None)
            else:
                self._loading.setdefault(name, []).append(done)
            return
        self._overrides[name] = {**profile, **self._overrides.get(name, {})}
        if pool := self._pools.get(name):
            pool.overrides = self._overrides[name]
        self.load(name, "", done)

    def unload(self, name: str) -> None:
        """Its hosts finish what they have and end."""
        if pool := self._pools.get(name):
            pool.wanted = False

    def loaded(self, name: str, error: HindbrainError | None) -> None:
        """A plugin was registered, or could not be."""
        if error is None:
            self._notice(Noticed("plugin", name, "it is loaded", {}, over=True))
        if pool := self._pools.get(name):
            self.settled(pool, error)

    def settled(self, pool: Pool, answer: HindbrainError | str | None) -> None:
        """Whoever waits for a plugin hears that it is there, or why it is not."""
        for done in self._loading.pop(pool.name, []):
            done(answer)
        later, pool.later = pool.later, []
        for ask in later:
            ask()

    def query(
        self, pool: Pool, what: str, name: str, data: Any, done: Callable[[Any, str | None], None]
    ) -> bool:
        """Ask the code of a plugin; False when none of its hosts is up."""
        pool.used = time.monotonic()
        ready = pool.up()
        if not ready and (pool.refusal or not pool.wanted):
            return False
        if not ready:
            why = f"no worker of {pool.name} came up: {pool.refusal or 'see its log'}"
            pool.later.append(lambda: self.query(pool, what, name, data, done) or done(None, why))
            return True
        self._queries += 1
        self._asked[self._queries] = done
        ready[0].process.say(hosting.Query(id=self._queries, what=what, name=name, data=data))
        return True

    def answered(self, reply: hosting.Reply) -> None:
        """The code of a plugin answered."""
        if done := self._asked.pop(reply.id, None):
            done(reply.value, reply.error)
