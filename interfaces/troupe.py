"""Who acts on a node, what each is given, and whom they hear.

It is long because it is one list: every actor and everything that speaks to one is made and ended here.
"""

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors import attempt, gate, gateway, linux, monitor, plans, playbooks, taskdesk
from actors.actor import Actor
from actors.archivist import Archivist
from actors.conductor import Conductor
from actors.courier import Courier
from actors.executor import Executor
from actors.files import Files
from actors.gateway import Calls, Gateway, Home, milliseconds
from actors.history import History
from actors.keeping import Keeper
from actors.limiter import Limiter
from actors.modules import KILL_SECONDS, REST_SECONDS
from actors.monitor import Monitor
from actors.planner import Planner
from actors.role import Role, Told
from actors.rooms import Shelves
from actors.saving import Saver
from actors.scaler import Scaler
from actors.supervisor import Child, Dead, DeadLetter, Exhausted, Restarted, Supervisor
from actors.tail import Reconnected
from actors.tailer import Tailer
from actors.timer import Timer
from actors.vault import Vault
from actors.warden import Process, Warden, told
from bus.blobs import Blobs
from bus.bridge import Bridge
from bus.doors import Doors
from bus.feed import Feed
from bus.inbox import Inbox
from bus.lease import Lease
from bus.log import Log
from bus.output import Outlet
from bus.peers import Peers
from bus.services import Services
from bus.tenure import Tenure
from bus.work import Work
from events import codec, execution, node, service
from events.errors import Conflict, HindbrainError, Unavailable
from events.node import NODE
from events.ports import Ask, Call, Outcome
from interfaces.desks import desks
from interfaces.observers import Tap, handlers
from interfaces.processes import TABLES, tables
from interfaces.settings import ROLES, Settings
from interfaces.workers import Workers

log = logging.getLogger(__name__)

TOLD = (
    *("held", "prioritized", "attempt_failed", "attempt_lost", "cancel_requested"),
    *("completed", "failed", "cancelled", "timed_out"),
)
"""Events of executions that somebody in this process waits for."""
ENDS = frozenset(event.name() for event in execution.TERMINAL)
LED = ("plan", "schedule", "template", "playbook", "task")
"""Kinds of which the single roles are told everything."""
SINGLE: dict[str, type[Role]] = {
    "timer": Timer,
    "planner": Planner,
    "limiter": Limiter,
    "scaler": Scaler,
    "playbook": Conductor,
    "task": Courier,
}
READY_SECONDS = 15.0
RECORD_SECONDS = 20.0
ACTORS_SECONDS = 2.0
MAILBOX = 1_000_000
"""How many messages may wait for one actor; the bus and the slots keep it far below."""

Local = dict[tuple[str, str], Callable[[Any, Call], None]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the node lends to its actors."""

    home: Home
    settings: Settings
    bridge: Bridge
    processes: Sequence[Process]
    host_url: str
    """The bus, with the credentials of worker hosts."""
    pids: Callable[[], dict[str, int]]
    """The processes of this node by name."""
    local: Local
    """Verbs that the node itself answers."""
    look: Callable[[], None]
    """Called twice a second: a process may have another pid now."""
    fall: Callable[[], None]
    """The supervisor gave up."""


class Troupe:
    """The actors of a node and everything that speaks to them; `start` and `stop` in good order."""

    def __init__(self, stage: Stage, birth: node.Started) -> None:
        self._stage, self._birth = stage, birth
        self.roles = frozenset(stage.settings.roles)
        bridge = stage.bridge
        self.log = Log(bridge, milliseconds)
        self.peers = Peers(bridge)
        self._outlet, self._doors, self._lease = Outlet(bridge), Doors(bridge), Lease(bridge)
        self._reports: dict[str, execution.Progressed] = {}
        self._inbox = Inbox(bridge, lambda calls: self._tell("gateway", Calls(calls)))
        self._work = Work(bridge, lambda lot: self._tell("executor", attempt.Offered(lot)))
        self._feed = Feed(bridge, self._heard, TOLD, known=self._known)
        self._tenures = {
            name: Tenure(bridge, name, stage.home.node, stage.home.boot)
            for name in SINGLE
            if name in self.roles
        }
        self._leading: dict[str, Role] = {}
        """The roles as they are played by this node, whether they are its own now or not."""
        heard = LED if self._tenures else ("plan", "playbook", "task")
        self._led = [Feed(bridge, self._lead, (), kind) for kind in heard]
        self._led.append(Feed(bridge, self._bounds, (), "limit"))
        self._services = Services(
            bridge,
            [verb for verb in service.VERBS if (verb.kind, verb.name) not in TABLES],
            lambda calls: self._tell("gateway", Calls(calls)),
            details={"node": stage.home.node},
        )
        data = stage.settings.data
        self.keeper = Keeper(data, lambda messages: self._tell("executor", attempt.Kept(messages)))
        self._files, self._vault = Files(data), Vault(data / "secrets")
        self._saver = Saver(data, Blobs(bridge))
        self._since = 0
        self.workers = Workers(
            stage.home,
            stage.settings,
            bridge,
            self.log,
            self._doors,
            stage.host_url,
            lambda message: self._tell("modules", message),
            lambda noticed: self._tell("monitor", noticed),
        )
        self._gate: Gateway | None = None
        self._ending = False
        """Who has ended already hears nothing more, and that is as it should be."""
        self._supervisor: Supervisor | None = None
        self._stop: list[Callable[[], object]] = []

    # ---- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say that the node came up, and start everybody."""
        stage = self._stage
        self._stop.append(lambda: stage.bridge.call(self.log.stop(), 5.0))
        self._since = self.record(self._birth)
        supervisor = self._supervisor = Supervisor(
            self._children(), record=self._restarted, on_poison=self._poison, escalate=self._escalate
        )
        supervisor.begin()
        self._stop.append(supervisor.halt)
        self._lease.hold(stage.home.node, stage.home.boot, stage.settings.lease_seconds)
        self._stop.append(self._lease.release)
        if "executor" in self.roles:
            linux.subreaper()
            self._begin(self.keeper.start, self.keeper.close)
            self._begin(self._work.start, self._work.stop)
            stage.bridge.post(
                lambda: stage.bridge.on_reconnect.append(lambda: self._tell("tailer", Reconnected()))
            )
        for feed in (self._feed, *self._led):
            self._begin(feed.start, feed.stop)
        self._begin(self.workers.start, self.workers.stop)
        for tenure in self._tenures.values():
            self._begin(tenure.start, tenure.stop)
        if "gateway" in self.roles:
            self.peers.serve(stage.home.node, lambda calls: self._tell("gateway", Calls(calls)))
            self._stop.append(self.peers.stop)
            self._begin(self._services.start, self._services.stop)
            self._begin(self._inbox.start, self._inbox.stop)
        if "projector" in self.roles:
            self._await_tables()
        self.workers.learn()
        self._stop.append(lambda: self.record(node.Stopped(boot=stage.home.boot, reason="down")))

    def stop(self) -> None:
        """Stop everybody, the last one first; twice is fine."""
        self._ending = True
        while self._stop:
            undo = self._stop.pop()
            try:
                undo()
            except Exception:
                log.exception("something did not stop in good order")

    def rest(self, cancel: bool, wait_seconds: float) -> None:
        """Take nothing more, and let what runs end for so long; cancel it first if asked to."""
        if self._supervisor is None:
            return
        if "worker" in self.roles:
            self._supervisor.address("modules").tell(("rest", wait_seconds or REST_SECONDS))
        if "executor" in self.roles:
            self._rest_commands(cancel, wait_seconds)
        if "worker" in self.roles:
            modules = self._supervisor.address("modules")
            until = time.monotonic() + (wait_seconds or REST_SECONDS) + KILL_SECONDS
            while time.monotonic() < until and modules.ask("count", 5.0):
                time.sleep(0.05)
            modules.tell("kill")

    def _rest_commands(self, cancel: bool, wait_seconds: float) -> None:
        if self._supervisor is None:
            return
        executor = self._supervisor.address("executor")
        executor.tell("rest")
        if cancel:
            executor.tell("cancel")
        until = time.monotonic() + wait_seconds
        while time.monotonic() < until and executor.ask("count", 5.0):
            time.sleep(0.05)

    def _begin(self, start: Callable[[], object], stop: Callable[[], object]) -> None:
        start()
        self._stop.append(stop)

    def _await_tables(self) -> None:
        """Wait until the projector's process answers, so that "ready" is true for every door."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            answered: queue.SimpleQueue[bytes | HindbrainError] = queue.SimpleQueue()
            self._doors.request("query", "sql", b'{"sql": "SELECT 1"}', 5.0, answered.put)
            if isinstance(answered.get(), bytes):
                return
            time.sleep(0.05)
        log.warning("the tables do not answer yet; the log of the projector says why")

    # ---- the actors ------------------------------------------------------------------------------------

    def _children(self) -> list[Child]:
        made = {
            "gateway": self._gateway,
            "tailer": self._tailer,
            "executor": self._executor,
            "monitor": self._monitor,
            "warden": self._warden,
            "modules": self.workers.modules,
            "waiter": lambda: plans.waiter(self.log, self._to("waiter")),
            "attendant": lambda: playbooks.waiter(self.log, self._to("attendant")),
            "messenger": lambda: taskdesk.waiter(self.log, self._to("messenger")),
            "archivist": self._archivist,
        }
        made |= {name: functools.partial(self._role, name) for name in self._tenures}
        playing = {*self.roles, "warden", *(["tailer"] if "executor" in self.roles else [])}
        playing |= {"waiter", "attendant", "messenger", "archivist"} if "gateway" in self.roles else set()
        playing |= {"modules"} if "worker" in self.roles or self._stage.home.residents else set()
        children = [
            Child(name, _player(make, name), limit=MAILBOX) for name, make in made.items() if name in playing
        ]
        settings, bridge = self._stage.settings, self._stage.bridge
        for name, handler in handlers(settings, self.log, self._stage.home.node, self._birth.version).items():
            tap = Tap(name, handler, settings.data, bridge, self._since, self._to(f"observer-{name}"))
            children.append(tap.child())
        return children

    def _gateway(self) -> Gateway:
        local: Local = {
            ("actor", "list"): lambda _, call: self.census(call.answer),
            ("actor", "fail"): lambda ask, call: self._fail(ask, call),
        }
        home, tell = self._stage.home, self._to("gateway")
        verbs = self.workers.desk(lambda: self._gate, tell).verbs
        waiting = (self._to("attendant"), self._to("messenger"))
        given = (self._to("waiter"), self._to("archivist"), self._saver, *waiting)
        again, others = desks(home, self.log, self._doors, self._vault, tell, self._bounds, *given)
        verbs |= others
        gateway = self._gate = Gateway(
            home,
            self.log,
            self._outlet,
            self.peers,
            self._files,
            self._vault,
            tell,
            local | verbs | self._stage.local,
            self._inbox.refused,
            again,
            self.workers.check,
            self.workers.wake,
            self._reports,
        )
        return gateway

    def _archivist(self) -> Archivist:
        stage = self._stage
        kept = stage.settings.artifacts
        shelves = Shelves(stage.settings.data, kept.backend, kept.url, kept.keep_days, stage.bridge)
        return Archivist(
            stage.home,
            shelves,
            self.log,
            self._doors,
            self.peers,
            Blobs(stage.bridge),
            self._to("archivist"),
        )

    def _tailer(self) -> Tailer:
        history = History(self._doors, self._to("tailer"))
        told = (self._to("tailer"), self._to("executor"))
        return Tailer(self._files, self._outlet, self.log, *told, history, self._reports)

    def _executor(self) -> Executor:
        return Executor(
            self._stage.home,
            self._stage.settings.max_concurrent_executions,
            self.log,
            self._work,
            self.keeper,
            self._outlet,
            Blobs(self._stage.bridge),
            self.peers,
            self._doors,
            self._files,
            self._vault,
            self._to("executor"),
            self._to("tailer"),
            self._since,
            self._to("monitor"),
        )

    def _monitor(self) -> Monitor:
        def alive(done: Callable[[dict[str, str] | None], None]) -> None:
            self._lease.alive(lambda nodes: done(None if isinstance(nodes, HindbrainError) else nodes))

        return Monitor(
            self._stage.home,
            self._stage.settings.lease_seconds,
            self.log,
            self._outlet,
            self._doors,
            self._to("monitor"),
            alive,
            self._stage.pids,
        )

    def _warden(self) -> Warden:
        stage = self._stage
        return Warden(stage.home, self.log, stage.processes, self._to("monitor"), stage.look)

    def _role(self, name: str) -> Role:
        tenure = self._tenures[name]
        settings, more = self._stage.settings, dict[str, Any]()
        if name == "limiter":
            more = {"slots": settings.max_concurrent_executions, "ageing_seconds": settings.ageing_seconds}
        if name == "planner":
            more = {"outlet": self._outlet}
        if name == "scaler":
            more = self.workers.scaling()
        if name == "playbook":
            more = {"outlet": self._outlet, "saver": self._saver, "archivist": self._to("archivist")}
        play: Any = SINGLE[name]
        role: Role = play(self._stage.home, tenure, self.log, self._doors, self._to(name), **more)
        self._leading[name] = role
        return role

    # ---- whom they hear --------------------------------------------------------------------------------

    def _tell(self, name: str, message: Any) -> None:
        if self._supervisor is None:
            raise Unavailable("the node is starting")
        if name not in self.roles and name in ROLES:
            return
        try:
            self._supervisor.address(name).tell(message)
        except Dead:
            if not self._ending:
                raise
            for call in message.calls if isinstance(message, Calls) else ():
                call.refuse(Unavailable("the node goes down"))

    def _to(self, name: str) -> Callable[[Any], None]:
        """How to tell somebody something, whoever plays it then; nothing when nobody does on this node."""
        return lambda message: self._tell(name, message)

    def _known(self, entity: str, event: str, by: str) -> bool:
        """Whether it is an end that our executor has stated, of something that nobody else here looks at."""
        return (
            event in ENDS
            and by == f"node:{self._stage.home.node}"
            and not (self._gate and entity in self._gate.waits)
            and entity not in self._vault
            and not any(entity in role.watched for role in self._leading.values())
        )

    def _heard(self, facts: Sequence[codec.Fact] | None) -> None:
        over = [] if facts is None else [f.entity for f in facts if isinstance(f.event, execution.TERMINAL)]
        if facts is None or over:
            self._tell("gateway", gateway.Ended(None if facts is None else over))
        self._tell("executor", attempt.Heard(facts))
        self._lead(facts)

    def _bounds(self, facts: Sequence[codec.Fact] | None) -> None:
        """Limits changed: the executor hears it first."""
        self._tell("executor", gate.Bounds(facts))
        self._lead(facts)

    def _lead(self, facts: Sequence[codec.Fact] | None) -> None:
        """Tell the single roles that are ours what is theirs, and who waits for a plan of its end."""
        if "gateway" in self.roles and (news := plans.ended(facts, self.log, self._vault)):
            self._tell("waiter", news)
        if "gateway" in self.roles and (rest := playbooks.settled(facts, self._vault)):
            self._tell("attendant", rest)
        if "gateway" in self.roles and (told := taskdesk.settled(facts)):
            self._tell("messenger", told)
        for name, role in self._leading.items():
            if role.tenure.left <= 0:
                continue
            theirs = None if facts is None else [fact for fact in facts if _concerns(role, fact)]
            if theirs is None or theirs:
                self._tell(name, Told(theirs))

    def _reconnected(self) -> None:
        self._tell("tailer", Reconnected())

    # ---- facts about the node --------------------------------------------------------------------------

    def record(self, event: node.AnyEvent) -> int:
        """Store a fact about this node and wait for it; answers its sequence."""
        done = threading.Event()
        kept: list[Outcome] = []

        def take(outcomes: Sequence[Outcome]) -> None:
            kept.extend(outcomes)
            done.set()

        self.log.handle([self._fact(event)], take)
        if not done.wait(RECORD_SECONDS):
            raise Unavailable("the log does not answer")
        if kept[0].error is not None:
            raise kept[0].error
        return kept[0].snapshot.seq

    def _fact(self, event: node.AnyEvent) -> Ask:
        name = self._stage.home.node
        return Ask(NODE, name, node.Record(event=event), by=f"node:{name}")

    def _restarted(self, row: Restarted) -> None:
        reason = row.error or row.reason
        event = node.ActorRestarted(actor=row.name, reason=reason, restarts=row.restarts)
        self.log.handle([self._fact(event)], told)

    def _escalate(self, row: Exhausted) -> None:
        log.critical("%s failed %d times in %.0f s: the node goes down", row.name, row.restarts, row.seconds)
        self._stage.fall()

    def _poison(self, letter: DeadLetter) -> None:
        what = type(letter.message).__name__
        log.error("%s: nobody will read %s (%s): %s", letter.name, what, letter.reason, letter.error)
        answer = Unavailable(f"{letter.name} failed twice on this request: {letter.error}")
        for call in letter.message.calls if isinstance(letter.message, Calls) else ():
            call.refuse(answer)
        data = {"message": what, "reason": letter.reason}
        text = f"{letter.name} failed twice on one message and gave it up: {letter.error}"
        self._tell("monitor", monitor.Noticed("poison", letter.name, text, data))

    # ---- drills ----------------------------------------------------------------------------------------

    def _census(self) -> list[dict[str, Any]]:
        return (
            []
            if self._supervisor is None
            else [msgspec.to_builtins(row) for row in self._supervisor.census()]
        )

    def census(self, done: Callable[[bytes], None]) -> None:
        """The actors of this process, and of the projector's when it answers, as a `service.Census`."""

        def add(answer: bytes | HindbrainError) -> None:
            others: list[Any] = [] if isinstance(answer, HindbrainError) else msgspec.json.decode(answer)
            done(codec.encode(service.Census(actors=[*self._census(), *others])))

        self.peers.ask(tables(self._stage.home.node), "actors", b"", ACTORS_SECONDS, add)

    def _fail(self, ask: service.Fail, call: Call) -> None:
        if not self._stage.settings.fault_switch:
            raise Conflict("the fault switch is off: start the node with HINDBRAIN_FAULT_SWITCH=true")

        def done(answer: bytes | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                call.refuse(answer)
            else:
                call.answer(codec.encode(service.Failing(name=ask.name)))

        if self._supervisor and ask.name in {row["name"] for row in self._census()}:
            self._supervisor.fail(ask.name)
            done(b"")
        else:
            self.peers.ask(tables(self._stage.home.node), "fail", codec.encode(ask), ACTORS_SECONDS, done)


def _concerns(role: Role, fact: codec.Fact) -> bool:
    return fact.kind != "execution" or fact.entity in role.watched or fact.name in role.heeds


def _player(make: Callable[[], Any], name: str) -> Callable[[], Actor]:
    return lambda: Actor(make(), name=name)
