"""The actor `modules` keeps the worker hosts of this node as the log wants them: up, scaled, paused, healed.

What a module is to be stands in the log, and every node that runs it reconciles its hosts to that.  Whoever
wants a change has a fact stored; nothing is told to a host that is not in the log before.

It is long because a module's whole life on a node stands in one place: wanted, up, watched and gone.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.home import Home
from actors.loading import Loading
from actors.monitor import Noticed
from actors.orphans import Orphans, Running
from actors.pool import DEAF_SECONDS, READY_SECONDS, Host, Pool, Spawn, ordered
from actors.survey import Survey
from events import hosting, module, plugin
from events.codec import Fact
from events.errors import HindbrainError, Limit
from events.look import Decision
from events.module import MODULE
from events.plugin import PLUGIN
from events.ports import Ask, Call, Doors, Loaded, Log, Outcome

log = logging.getLogger(__name__)

REST_SECONDS = 8.0
"""How long running jobs have to end when the node goes down."""
KILL_SECONDS = 2.0
LAST_WORDS_SECONDS = 1.0
"""How long the last words of a host that has ended are waited for; what it started may keep its pipe open."""


@dataclass(frozen=True, slots=True)
class Said:
    """A host said something, or None: it will say no more."""

    host: str
    message: hosting.FromHost | None


@dataclass(frozen=True, slots=True)
class Told:
    """Facts about modules and plugins; None: some may have been missed."""

    facts: Sequence[Fact] | None


@dataclass(frozen=True, slots=True)
class Stored:
    """The log decided about modules and plugins."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Read:
    """Modules were read from the log."""

    loaded: Sequence[Loaded]


@dataclass(frozen=True, slots=True)
class Wake:
    """There is work for a module."""

    module: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants something of a module or a plugin."""

    act: "Callable[[Modules], None]"
    call: Call


class Modules:
    """Reconciles, and hears what becomes of hosts."""

    every = 0.25

    def __init__(
        self,
        home: Home,
        journal: Log,
        doors: Doors,
        sources: Mapping[str, str],
        overrides: Mapping[str, Mapping[str, Any]],
        total_max: int,
        categories: Mapping[str, int],
        url: str,
        data: str,
        spawn: Spawn,
        alive: Callable[[str], bool],
        tell: Callable[[Any], None],
        notice: Callable[[Noticed], None],
    ) -> None:
        self.home, self._log, self.doors = home, journal, doors
        self._url, self._data, self._spawn = url, data, spawn
        self.tell, self._notice = tell, notice
        self._overrides = {name: dict(each) for name, each in overrides.items()}
        self.pools = {
            name: Pool(name, source, overrides=self._overrides.get(name, {}))
            for name, source in sources.items()
        } | {name: Pool(name, "", resident=each) for name, each in home.residents.items()}
        self._serial = 0
        self.plugins = Loading(self.pools, self._overrides, self.read, notice)
        self._orphans = Orphans(
            *(home.node, journal, doors),
            lambda: {host for pool in self.pools.values() for host in pool.hosts},
            *(alive, tell),
        )
        self._resting: float | None = None
        self.survey = Survey(
            doors,
            total_max,
            dict(categories),
            lambda act: tell(Asked(lambda _: act(), NOBODY)),
            notice,
            self._replace,
        )
        self._read = False

    # ---- the mailbox -----------------------------------------------------------------------------------

    def receive(self, message: Any) -> Any:
        """Deal with one message."""
        match message:
            case Said(host, said):
                self._said(host, said)
            case Told(facts):
                self._told(facts)
            case Stored(outcomes):
                for outcome in outcomes:
                    self._stored(outcome)
            case Read(loaded):
                self._learned(loaded)
            case Running():
                self._orphans.found(message)
            case Asked(act, call):
                try:
                    act(self)
                except HindbrainError as error:
                    call.refuse(error)
            case Wake(name):
                if pool := self.pools.get(name):
                    pool.used = time.monotonic()
            case ("rest", seconds):
                self._rest(seconds)
            case "kill":
                self.kill()
            case "count":
                return sum(len(pool.hosts) for pool in self.pools.values())
            case _:
                raise TypeError(f"modules has no use for a {type(message).__name__}")
        return None

    def tick(self) -> None:
        """Bring what is to what should be."""
        now = time.monotonic()
        if not self._read:
            self._read = True
            self.read()
        for pool in self.pools.values():
            for host in list(pool.hosts.values()):
                self._watch(pool, host, now)
            if pool.resident is not None:
                pool.completed, pool.failed = pool.resident.completed, pool.resident.failed
        for pool in self.pools.values():
            self._reconcile(pool, now)
        self.home.catalogue.asleep = {pool.name for pool in self.pools.values() if pool.asleep}
        self.survey.tick(self.pools.values())
        self._orphans.tick()

    # ---- what the log says -----------------------------------------------------------------------------

    def read(self) -> None:
        """Read the modules of this node from the log."""
        names = list(self.pools)
        if names:
            self._log.load(MODULE, names, lambda loaded: self.tell(Read(loaded)))

    def _learned(self, loaded: Sequence[Loaded]) -> None:
        for each in loaded:
            pool = self.pools.get(each.entity)
            if each.error is not None:
                log.warning("module %s cannot be read now: %s", each.entity, each.error)
                self._read = False
            elif pool is not None:
                for fact in each.facts:
                    pool.note(fact)
                self._know(pool, each.snapshot.state)
                if pool.resident is not None:
                    self.command(pool.name, module.Declare(profile=pool.resident.profile))
                    self.command(pool.name, module.Start())

    def _told(self, facts: Sequence[Fact] | None) -> None:
        if facts is None:
            self._read = False
            return
        for fact in facts:
            pool = self.pools.get(fact.entity)
            if pool is None:
                continue
            if fact.kind == "module":
                pool.note(fact)
                if fact.seq > pool.state.seq:
                    self._know(pool, module.evolve(pool.state, fact))
            elif isinstance(fact.event, plugin.Unregistered):
                pool.wanted = False
                log.info("plugin %s was unregistered: %s", fact.entity, fact.event.reason)

    def _stored(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            log.warning("%s %s: %s", outcome.ask.decider.kind, outcome.ask.entity, outcome.error)
        elif outcome.ask.decider is MODULE and (pool := self.pools.get(outcome.ask.entity)):
            self._know(pool, outcome.snapshot.state)

    def _know(self, pool: Pool, state: module.State) -> None:
        before, pool.state = pool.state, state
        if pool.resident is not None:
            pool.resident.paused = state.status == "paused"
        if state.status == "stopped" and not pool.loads:
            pool.wanted = False  # it was unloaded, before this node began: it stays so until it is loaded
        if state.status != before.status:
            if state.status == "running":
                pool.since = time.time()
                pool.falls.clear()
                pool.pause_until = 0.0
            for host in pool.hosts.values():
                host.process.say(hosting.Pause(on=state.status == "paused"))
        broken = state.status == "error"
        if broken or before.status == "error":
            text = (
                f"module {pool.name} is in error: {state.reason}; its work waits: `hindbrain module restart`"
            )
            self._notice(Noticed("module", pool.name, text, {"module": pool.name}, over=not broken))

    def command(self, name: str, command: module.AnyCommand, by: str = "") -> None:
        """Have something decided about a module."""
        self._log.handle([self._ask(name, command, by)], lambda outcomes: self.tell(Stored(outcomes)))

    def _ask(self, name: str, command: module.AnyCommand, by: str = "") -> Ask:
        return Ask(MODULE, name, command, by=by or f"node:{self.home.node}")

    def check_total(self, name: str, workers: int) -> None:
        """Refuse more workers than there may be in all."""
        others = sum(
            each.state.workers for each in self.pools.values() if each.name != name and not each.resident
        )
        before, most = self.pools[name].state.workers if name in self.pools else 0, self.survey.total_max
        if workers > before and others + workers > most:
            raise Limit(
                f"{workers} workers of {name} and {others} of others are more than {most}: "
                "raise workers_max, or have fewer elsewhere"
            )

    # ---- reconciling -----------------------------------------------------------------------------------

    def _free(self, pool: Pool) -> bool:
        """Whether everything that it depends on runs."""
        for name in pool.profile.depends_on:
            other = self.pools.get(name)
            if other is None or other.asleep:
                continue
            if other.state.status not in ("running", "paused") or not other.total:
                return False
        return True

    def _reconcile(self, pool: Pool, now: float) -> None:
        if self._resting is not None or pool.resident is not None:
            return
        free = self._free(pool)
        target = pool.target(free or bool(pool.hosts))
        for host in pool.surplus(target):
            self._retire(host, "it is not needed any more")
        if now >= pool.pause_until and not pool.refusal:
            for workers in pool.missing(target):
                self._start(pool, workers)
        known = pool.state.profile is not None
        if free and target and pool.total and known and pool.state.status in ("", "stopped"):
            self.command(pool.name, module.Start())
        if not pool.wanted and not pool.hosts and pool.state.status not in ("", "stopped"):
            self.command(pool.name, module.Stop(reason="its plugin was unloaded"))

    def _start(self, pool: Pool, workers: int) -> None:
        self._serial += 1
        name = f"{pool.name}-{self.home.boot[:8]}-{self._serial}"
        known = pool.state.profile is not None
        begin = hosting.Begin(
            url=self._url,
            node=self.home.node,
            boot=self.home.boot,
            host=name,
            module=pool.name,
            source=pool.source,
            workers=workers if known else None,
            overrides=pool.overrides,
            data=self._data,
            paused=pool.state.status != "running",
        )
        pool.hosts[name] = Host(name, self._spawn(begin), workers, pool.generation)

    def _retire(self, host: Host, reason: str, seconds: float | None = None) -> None:
        if host.state == "leaving" and seconds is None:
            return
        host.state, host.expected, host.reason = "leaving", True, reason
        host.process.say(hosting.Retire(seconds=seconds))
        if seconds is not None:
            host.left = time.monotonic() + seconds + KILL_SECONDS

    def _watch(self, pool: Pool, host: Host, now: float) -> None:
        code = host.process.code()
        if code is not None:
            host.ended = host.ended or now
            if host.silent or now - host.ended > LAST_WORDS_SECONDS:
                self._gone(pool, host, code)
        elif host.left and now > host.left:
            host.reason = "it did not end in time"
            host.process.kill()
        elif host.state == "starting" and now - host.began > READY_SECONDS:
            host.reason = f"it was not ready after {READY_SECONDS:g} s"
            host.process.kill()
        elif host.state != "starting" and now - host.heard > DEAF_SECONDS:
            host.reason = f"it did not answer for {DEAF_SECONDS:g} s"
            self._stuck(pool, host, host.reason)
            host.process.kill()
            host.heard = now

    def _gone(self, pool: Pool, host: Host, code: int) -> None:
        """A host has ended; what it had in hand is lost, unless it ended in good order."""
        del pool.hosts[host.name]
        reason = host.reason or (f"it was killed by signal {-code}" if code < 0 else f"it ended with {code}")
        if host.state == "starting" and pool.refusal:
            return
        expected = host.expected and code == 0
        self._notice(Noticed("stuck", host.name, "it is gone", {}, over=True))
        ended = module.WorkerEnded(host=host.name, node=self.home.node, reason=reason, expected=expected)
        ask = self._ask(pool.name, module.Note(event=ended))

        said = f"its host {host.name} died: {reason}"

        def mourn(seq: int | None) -> None:
            self.tell(Asked(lambda modules: modules.mourn(host.name, said, seq), NOBODY))

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                mourn(outcome.snapshot.seq if outcome.error is None else None)

        self._log.handle([ask], done)
        if not expected:
            log.warning("host %s of %s is gone: %s", host.name, pool.name, reason)
            if pool.fell(time.monotonic()):
                self.command(
                    pool.name, module.Break(reason=f"its hosts fell too often, the last one: {reason}")
                )

    def mourn(self, host: str, reason: str, seq: int | None) -> None:
        """The log knows that a host is gone: what it had in hand is looked for."""
        self._orphans.gone(host, reason, seq)

    def _replace(self, name: str) -> None:
        """Have hosts that hear nothing replaced by new ones."""
        if pool := self.pools.get(name):
            pool.loads += 1

    def _stuck(self, pool: Pool, host: Host, reason: str) -> None:
        self._notice(
            Noticed(
                "stuck",
                host.name,
                f"host {host.name} of module {pool.name} hangs: {reason}; it is replaced",
                {"module": pool.name, "host": host.name},
            )
        )

    # ---- what hosts say --------------------------------------------------------------------------------

    def _said(self, name: str, message: hosting.FromHost | None) -> None:
        pool = next((each for each in self.pools.values() if name in each.hosts), None)
        if pool is None:
            return
        host = pool.hosts[name]
        match message:
            case None:
                host.silent = True
            case hosting.Ready():
                self._ready(pool, host, message)
            case hosting.Beat():
                pool.hear(host, message)
            case hosting.Reply():
                self.plugins.answered(message)
            case hosting.Ended(reason=reason, expected=expected):
                host.state, host.expected, host.reason = "leaving", expected, host.reason or reason
                if not expected:
                    self._stuck(pool, host, reason)
            case hosting.Sorry(reason=reason):
                pool.refusal, host.expected, host.reason = reason, True, reason
                log.error("plugin %s cannot be loaded: %s", pool.name, reason)
                text = f"plugin {pool.name} cannot be loaded: {reason}"
                self._notice(Noticed("plugin", pool.name, text, {"source": pool.source}))
                self.plugins.settled(pool, reason)

    def _ready(self, pool: Pool, host: Host, ready: hosting.Ready) -> None:
        known = ready.manifest
        host.heard, host.workers, host.names = time.monotonic(), ready.workers, ready.names
        if host.state == "starting":
            host.state = "ready"
        if known.name != pool.name:
            self._refuse(pool, host, f"{pool.source} is the plugin {known.name!r}: load it under that name")
            return
        if taken := self.home.catalogue.taken(known, self.home.reserved):
            self._refuse(pool, host, taken)
            return
        pool.manifest = known
        node = self.home.node
        started = module.WorkerStarted(host=host.name, node=node, pid=ready.pid, workers=tuple(ready.names))
        register = Ask(PLUGIN, pool.name, plugin.Register(manifest=known, node=node), by=f"node:{node}")
        asks = [register, self._ask(pool.name, module.Declare(profile=known.profile))]
        asks.append(self._ask(pool.name, module.Note(event=started)))

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.ask.decider is not PLUGIN:
                    continue  # each of the three may be answered by itself
                error = outcome.error
                if error is None:
                    self.home.catalogue.learn(pool.name, outcome.snapshot.state)
                    types = ", ".join(each.type for each in known.handlers)
                    log.info("plugin %s %s is registered: %s", pool.name, known.version, types)
                self.tell(
                    Asked(lambda modules, error=error: modules.plugins.loaded(pool.name, error), NOBODY)
                )
            self.tell(Stored(outcomes))

        self._log.handle(asks, done)

    def _refuse(self, pool: Pool, host: Host, reason: str) -> None:
        host.state = "leaving"
        host.process.say(hosting.Retire())
        pool.refusal = reason
        self.plugins.settled(pool, reason)

    def carry_out(self, decision: Decision) -> None:
        """Do what the scaler decided."""
        self.survey.maxima[decision.category] = decision.max_after
        by = f"scaler:{self.home.node}"
        if decision.type in ("scale_up", "scale_down"):
            self.command(decision.module, module.Scale(workers=decision.after, reason=decision.reason), by)
        elif decision.type in ("self_heal", "restart"):
            self.command(decision.module, module.Restart(reason=decision.reason), by)

    # ---- going down ------------------------------------------------------------------------------------

    def _rest(self, seconds: float) -> None:
        """Let all hosts finish; those first that depend on others."""
        if self._resting is None:
            self._resting = time.monotonic()
            for pool in ordered(self.pools.values()):
                for host in pool.hosts.values():
                    self._retire(host, "the node goes down", seconds)

    def kill(self) -> None:
        """End what is left."""
        for pool in self.pools.values():
            for host in pool.hosts.values():
                host.process.kill()


def _ignore(_: object) -> None:
    return


NOBODY = Call("module", "loaded", b"", _ignore, _ignore)
