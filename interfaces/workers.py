"""The wiring of modules and plugins: the actor `modules`, its hosts, and what it is told."""

from collections.abc import Callable, Sequence
from typing import Any

from actors import clerk, manifest, pools
from actors.clerk import Table
from actors.gateway import Gateway, Turn
from actors.home import Home
from actors.modules import NOBODY, Asked, Modules, Said, Told, Wake
from actors.monitor import Noticed
from actors.pools import Pools
from bus.bridge import Bridge
from bus.doors import Doors
from bus.feed import Feed
from bus.log import Log
from events import hosting, plugin, spec
from events.codec import Fact
from events.errors import HindbrainError, Unavailable, Validation
from events.job import Job
from events.look import CATEGORIES, Decision, Snapshot
from events.policy import Policy
from events.ports import Call
from interfaces import policyfile
from interfaces.hosts import HostProcess, alive
from interfaces.settings import Settings

OFF = "off"


class Workers:
    """What a node has for its modules."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        bridge: Bridge,
        journal: Log,
        doors: Doors,
        url: str,
        tell: Callable[[Any], None],
        notice: Callable[[Noticed], None],
    ) -> None:
        self._home, self._settings, self._log, self._doors = home, settings, journal, doors
        self._url, self._tell, self._notice = url, tell, notice
        self._feeds = [Feed(bridge, self._heard, (), kind) for kind in ("plugin", "module")]

    def start(self) -> None:
        """Hear what happens to plugins and modules, and learn which plugins other nodes have."""
        for feed in self._feeds:
            feed.start()

    def learn(self) -> None:
        """Ask the tables which plugins there are; those of this node say so themselves."""
        sql = "SELECT id, loaded, manifest FROM plugins"

        def found(answer: Table | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                return  # what other nodes have is told again when they start
            for name, loaded, text in answer.rows:
                if name not in self._home.catalogue.plugins:
                    known = pools.read(text)
                    self._home.catalogue.learn(name, plugin.State(manifest=known, loaded=bool(loaded)))

        clerk.ask(self._doors, sql, (), found)

    def stop(self) -> None:
        """Hear no more."""
        for feed in self._feeds:
            feed.stop()

    def _heard(self, facts: Sequence[Fact] | None) -> None:
        if facts is None:
            self.learn()
        else:
            self._home.catalogue.hear([fact for fact in facts if fact.kind == "plugin"])
        self._tell(Told(facts))

    def modules(self) -> Modules:
        """Make the actor's logic."""
        settings = self._settings
        overrides = {name: dict(each) for name, each in settings.modules.items()}
        sources = sources_of(settings) if "worker" in settings.roles else {}

        def spawn(begin: hosting.Begin) -> HostProcess:
            return HostProcess(settings.data, begin, lambda message: self._tell(Said(begin.host, message)))

        return Modules(
            self._home,
            self._log,
            self._doors,
            sources,
            overrides,
            settings.workers_max,
            {**CATEGORIES, **settings.categories},
            self._url,
            str(settings.data),
            spawn,
            lambda host: alive(settings.data, host),
            self._tell,
            self._notice,
        )

    def scaling(self) -> dict[str, Any]:
        """What the scaler is given: how to look at all modules, and how to have done what it decided."""
        chosen = self._settings.scaler.policy

        def look(done: Callable[[Snapshot], None]) -> None:
            self._tell(Asked(lambda modules: done(modules.survey.snapshot(modules.pools.values())), NOBODY))

        def act(decision: Decision) -> None:
            self._tell(Asked(lambda modules: modules.carry_out(decision), NOBODY))

        return {
            "look": look,
            "act": act,
            "policy": policyfile.read(chosen) if chosen is not None else Policy(),
            "every_seconds": self._settings.scaler.every_seconds,
        }

    def desk(self, gateway: Callable[[], Gateway | None], turn: Callable[[Any], None]) -> Pools:
        """Make the desk; `gateway` gives the one that submits, whoever plays it now."""

        def submit(wish: spec.Submit, call: Call, done: Callable[[bytes], None]) -> None:
            context = (call.by, call.trace, call.key, call.token)
            inner = Call(call.kind, call.verb, call.body, done, call.refuse, *context)

            def act() -> None:
                player = gateway()
                if player is None:
                    raise Unavailable("the node is starting")
                player.submit(wish, inner)

            turn(Turn(inner, act))

        return Pools(
            self._log,
            self._home.node,
            self._home.catalogue,
            self._tell,
            submit,
            self._home.rights,
            self._doors,
        )

    def wake(self, name: str) -> None:
        """There is work for a module that slept."""
        self._tell(Wake(name))

    def check(self, job: Job, call: Call, then: Callable[[], None]) -> None:
        """Ask a plugin whether a job's data will do; what it refuses is refused."""

        def act(modules: Modules) -> None:
            def done(_: Any, error: str | None) -> None:
                if error is not None:
                    call.refuse(Validation(f"{job.type} does not take this: {error}", field="job.data"))
                else:
                    then()

            pool = pools.found(modules, job.plugin)
            if not modules.plugins.query(pool, "check", job.type, job.data, done):
                raise Unavailable(f"no worker of {job.plugin} is up to check this: try again in a moment")

        self._tell(Asked(act, call))


def sources_of(settings: Settings) -> dict[str, str]:
    """Which modules this node has, and where the plugin of each is found; empty for one without a plugin."""
    found = manifest.entries() | settings.plugins
    found = {name: source for name, source in found.items() if source != OFF}
    return found | {name: "" for name in settings.modules if name not in found}
