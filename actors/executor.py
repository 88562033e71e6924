"""The executor takes what is queued, has the keeper run it, and states how it ended.

It keeps nothing that it could not learn again: what it runs is in the log, in the keeper, and in the files.
After a crash it asks all three.  To start an attempt is safe to ask twice, so adopting a command that runs
already and starting one that was only claimed are the same request.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import kept, preparing
from actors.attempt import (
    Claimed,
    Fetched,
    Finished,
    Heard,
    Inquired,
    Keeper,
    Kept,
    Offered,
    Owned,
    Run,
    Shared,
    verdict,
)
from actors.files import Files
from actors.gateway import Home, milliseconds
from actors.monitor import Running
from actors.tail import Anew, Drain, Drained, Flooded, Follow, Note, Over, Ran
from actors.vault import Vault
from events import codec, execution, view
from events.errors import Conflict, HindbrainError, NotFound
from events.execution import EXECUTION, End, State
from events.ports import (
    Ask,
    Blobs,
    Delivery,
    Doors,
    Loaded,
    Log,
    Outcome,
    Outlet,
    Peers,
    Snapshot,
    Work,
)

log = logging.getLogger(__name__)

SPARE_SECONDS = 2.0
"""How long work that came too early is kept before it is given back."""
BRISK_SECONDS = 0.2
"""While commands are shorter than that, the next ones are fetched ahead of time."""
AGAIN_SECONDS = 1.0
"""Until what could not be stored or learned is tried again."""


class Executor:
    """Claims, starts, watches, ends."""

    every = 0.25

    def __init__(
        self,
        home: Home,
        slots: int,
        journal: Log,
        work: Work,
        keeper: Keeper,
        outlet: Outlet,
        blobs: Blobs,
        peers: Peers,
        doors: Doors,
        files: Files,
        vault: Vault,
        tell: Callable[[Any], None],
        tailer: Callable[[Any], None],
        since: int,
        monitor: Callable[[Any], None],
    ) -> None:
        self._home, self._slots, self._log, self._work = home, slots, journal, work
        self._keeper, self._outlet, self._blobs, self._peers = keeper, outlet, blobs, peers
        self._doors, self._files, self._vault = doors, files, vault
        self._tell, self._tailer, self._monitor = tell, tailer, monitor
        self._since = since
        """The sequence of this node's own start: what it ran before is known to whoever has read so far."""
        self._runs: dict[str, Run] = {}
        self._spare: deque[tuple[float, Delivery]] = deque()
        self._again: list[str] = []
        self._strangers: dict[str, list[kept.Spawned | kept.End]] = {}
        """What the keeper said of attempts that are not in the table, until the log says whose they are."""
        self._unread: list[str] = []
        self._asked: float | None = None
        self._reconciled = False
        self._draining = False
        self._wanted = -1
        self._busy = 0
        self._brisk = 0.0
        """How many seconds a command has its place, on a moving average."""
        self._shown: dict[str, int] = {}

    # ---- the mailbox -----------------------------------------------------------------------------------

    def receive(self, message: Any) -> Any:
        """Deal with one message."""
        match message:
            case Offered(deliveries):
                self._take(deliveries)
            case Claimed(outcomes):
                for outcome in outcomes:
                    self._claimed(outcome)
            case Kept(messages):
                self._hear(messages)
            case Drained(entity, end):
                self._drained(entity, end)
            case Finished(outcomes):
                for outcome in outcomes:
                    self._finished(outcome)
            case Heard(facts):
                self._facts(facts)
            case Fetched(entity, error):
                self._fetched(entity, error)
            case Shared(delivery, answer):
                self._shared(delivery, answer)
            case Flooded(entity):
                self._kill(entity, "output_limit")
            case Anew():
                self._follow_all()
            case Owned(answer):
                self._owned(answer)
            case Inquired(loaded):
                for each in loaded:
                    self._inquired(each)
            case "rest":
                self._draining = True
            case "cancel":
                for run in self._runs.values():
                    self._kill(run.entity, "shutdown")
            case "count":
                return len(self._runs)
            case _:
                raise TypeError(f"the executor has no use for a {type(message).__name__}")
        self._ask_for_more()
        return None

    def tick(self) -> None:
        """Try again what did not work, and learn what this node was doing before."""
        moment = time.monotonic()
        if not self._reconciled and (self._asked is None or moment - self._asked > 30):
            self._asked = moment
            self._keeper.list()
            self._ask_owned()
        while self._spare and moment - self._spare[0][0] > SPARE_SECONDS:
            self._spare.popleft()[1].nak(0.0)
        unread, self._unread = self._unread, []
        self._inquire(unread)
        again, self._again = self._again, []
        for entity in again:
            if run := self._runs.get(entity):
                self._store_end(run)
        pids = {run.entity: run.pid for run in self._runs.values() if run.pid and run.phase == "running"}
        if pids != self._shown:
            for entity in pids.keys() - self._shown.keys():
                self._tailer(Note(entity, self._runs[entity].state, pids[entity]))
            self._shown = pids
            self._monitor(Running(pids))
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        while self._spare and self._free and not self._draining:
            self._claim(self._spare.popleft()[1])
        ahead = self._slots if self._brisk < BRISK_SECONDS else 0
        wanted = 0 if self._draining else max(0, self._free + ahead - len(self._spare))
        if wanted or self._wanted:
            self._wanted = wanted
            self._work.want(wanted)

    @property
    def _free(self) -> int:
        """How many more commands could run; one that has ended makes room before its end is stored."""
        return max(0, self._slots - self._busy)

    # ---- taking ----------------------------------------------------------------------------------------

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if self._draining:
                delivery.nak(0.0)
            elif self._free:
                self._claim(delivery)
            else:
                self._spare.append((time.monotonic(), delivery))

    def _claim(self, delivery: Delivery) -> None:
        entity = delivery.fact.entity
        if entity in self._runs:
            delivery.ack()
            return
        event = delivery.fact.event
        queued = event if isinstance(event, execution.Queued) else execution.Queued()
        if queued.spec and queued.spec.secrets and self._vault.get(entity) is None:
            if queued.taken_by == self._home.node:
                log.warning("%s: its secrets are gone from this node", entity)
            self._peers.ask(
                queued.taken_by,
                "secrets",
                msgspec.json.encode({"execution_id": entity}),
                AGAIN_SECONDS,
                lambda answer: self._tell(Shared(delivery, answer)),
            )
            return
        self._start(delivery)

    def _shared(self, delivery: Delivery, answer: bytes | HindbrainError) -> None:
        """With the secrets here the claim can go on; while their keeper is away, others may be luckier."""
        if isinstance(answer, bytes):
            values: dict[str, str] = msgspec.json.decode(answer, type=dict[str, str])
            self._vault.put(delivery.fact.entity, values)
            self._take_up(delivery)
        elif isinstance(answer, NotFound):
            self._start(delivery)
        else:
            delivery.nak(AGAIN_SECONDS)

    def _take_up(self, delivery: Delivery) -> None:
        if self._free:
            self._start(delivery)
        else:
            delivery.nak(0.0)

    def _start(self, delivery: Delivery) -> None:
        fact = delivery.fact
        entity = fact.entity
        known = None
        if fact.n == 1:
            state = execution.evolve(State(), fact)
            known = Snapshot(state, 1, fact.seq, codec.chain(fact.subject, fact.envelope, fact.body))
        self._add(Run(entity, known or Snapshot(State()), delivery=delivery))
        out, err = self._files.sizes(entity) if fact.n > 1 else (0, 0)
        command = execution.Start(
            node=self._home.node,
            boot=self._home.boot,
            log_path=str(self._files.output(entity, "stdout")),
            stdout_offset=out,
            stderr_offset=err,
        )
        self._log.handle([self._ask(entity, command, known)], lambda outcomes: self._tell(Claimed(outcomes)))

    def _add(self, run: Run) -> Run:
        self._runs[run.entity] = run
        self._busy += 1
        return run

    def _leave(self, run: Run) -> None:
        """Its command is gone: somebody else can have its place."""
        if not run.left:
            run.left = True
            self._busy -= 1
            self._brisk += (time.monotonic() - run.since - self._brisk) / 8

    def _ask(self, entity: str, command: execution.AnyCommand, known: Snapshot[State] | None = None) -> Ask:
        return Ask(EXECUTION, entity, command, by=f"node:{self._home.node}", known=known)

    def _claimed(self, outcome: Outcome) -> None:
        run = self._runs.get(outcome.ask.entity)
        if run is None or run.phase != "claiming":
            return
        run.snapshot = outcome.snapshot
        for fact in run.early:
            self._learn(run, fact)
        delivery, run.delivery = run.delivery, None
        if outcome.error is None:
            self._let(delivery, ack=True)
            self._begin(run)
        elif self._owns(run.state) and run.state.started and run.state.started.boot == self._home.boot:
            # Stored by a claim of ours whose answer never came.
            self._let(delivery, ack=True)
            self._begin(run, adopted=True)
        else:
            del self._runs[run.entity]
            self._leave(run)
            self._let(delivery, ack=isinstance(outcome.error, Conflict | NotFound))

    def _let(self, delivery: Delivery | None, ack: bool) -> None:
        if delivery is not None:
            delivery.ack() if ack else delivery.nak(AGAIN_SECONDS)

    def _owns(self, state: State) -> bool:
        return (
            state.phase == "running" and state.started is not None and state.started.node == self._home.node
        )

    # ---- starting --------------------------------------------------------------------------------------

    def _begin(self, run: Run, adopted: bool = False) -> None:
        state = run.state
        run.phase = "fetching"
        self._follow(run, adopted)
        self._announce(run)
        for sha256 in preparing.blobs(state.spec):
            if not self._files.blob(sha256).exists():
                run.missing += 1
                path = str(self._files.blob(sha256))
                self._blobs.fetch(sha256, path, lambda error: self._tell(Fetched(run.entity, error)))
        if not run.missing:
            self._spawn(run)

    def _follow(self, run: Run, adopted: bool) -> None:
        secrets = self._vault.get(run.entity) or {} if run.state.spec.secrets else {}
        self._tailer(Follow(run.entity, run.state, list(secrets.values()), adopted))

    def _follow_all(self) -> None:
        """Tell a tailer that was made anew of everything; one that knows already does not mind."""
        for run in self._runs.values():
            if run.phase in ("fetching", "running", "draining"):
                self._follow(run, adopted=True)
                if run.pid is not None:
                    self._tailer(Ran(run.entity, run.pid))
                if run.phase == "draining":
                    self._tailer(Drain(run.entity))

    def _fetched(self, entity: str, error: HindbrainError | None) -> None:
        run = self._runs.get(entity)
        if run is None or run.phase != "fetching":
            return
        run.missing -= 1
        if error is not None:
            self._give_up(run, "io", error.message)
        elif not run.missing:
            self._spawn(run)

    def _spawn(self, run: Run) -> None:
        try:
            request, run.made = preparing.prepare(run.entity, run.state, self._files, self._vault)
        except (OSError, HindbrainError) as error:
            self._give_up(run, "spawn_failed", str(error))
            return
        run.phase = "running"
        self._keeper.spawn(request)
        if run.state.cancel:
            self._kill(run.entity, "cancelled")

    def _give_up(self, run: Run, why: execution.Why, text: str) -> None:
        run.phase = "draining"
        self._leave(run)
        run.finish = execution.Finish(attempt=run.state.attempt, why=why, end=End(), text=text)
        self._tailer(Drain(run.entity))

    def _announce(self, run: Run) -> None:
        self._outlet.progress(
            "execution", run.entity, view.announcement(run.entity, run.state, milliseconds())
        )

    # ---- what the keeper says --------------------------------------------------------------------------

    def _hear(self, messages: Sequence[kept.Message]) -> None:
        before = set(self._strangers)
        for message in messages:
            match message:
                case kept.Attempts(running=running, ended=ended):
                    for each in (*running, *ended):
                        self._said(each)
                case kept.Spawned() | kept.Exited() | kept.Lost() | kept.SpawnFailed():
                    self._said(message)
                case kept.Refused(message=text):
                    log.error("the keeper refused a request: %s", text)
                case _:
                    log.debug("the keeper says %s", message)
        self._inquire(sorted(set(self._strangers) - before))

    def _said(self, message: kept.Spawned | kept.End) -> None:
        run = self._runs.get(message.execution)
        if run is None:
            self._strangers.setdefault(message.execution, []).append(message)
        elif run.state.attempt != message.attempt:
            if run.phase not in ("claiming", "finishing"):
                self._disown(message)
        elif isinstance(message, kept.Spawned):
            if run.pid is None:
                run.pid = message.pid
                self._tailer(Ran(run.entity, message.pid))
        elif run.phase == "running":
            run.phase, run.exit = "draining", message
            self._leave(run)
            self._tailer(Drain(run.entity))

    def _disown(self, message: kept.Spawned | kept.End) -> None:
        """An attempt that the log does not know any more, or has given to somebody else."""
        if isinstance(message, kept.Spawned):
            self._keeper.kill(message.execution, message.attempt, "lost", 1000)
        else:
            self._keeper.forget(message.execution, message.attempt)

    # ---- what this node did before ---------------------------------------------------------------------

    def _ask_owned(self) -> None:
        query = {
            "sql": "select id from executions where status = 'running' and node = ?",
            "params": [self._home.node],
            "min_seq": self._since,
            "limit": 100_000,
            "timeout_ms": 25_000,
        }
        body = msgspec.json.encode(query)
        self._doors.request("query", "sql", body, 30.0, lambda answer: self._tell(Owned(answer)))

    def _owned(self, answer: bytes | HindbrainError) -> None:
        if isinstance(answer, HindbrainError):
            log.info("cannot learn yet what this node was running: %s", answer)
            self._asked = time.monotonic() - 30 + AGAIN_SECONDS
            return
        rows: list[list[str]] = msgspec.json.decode(answer)["rows"]
        self._reconciled = True
        self._inquire([row[0] for row in rows if row[0] not in self._runs])

    def _inquire(self, entities: Sequence[str]) -> None:
        if entities:
            self._log.load(EXECUTION, entities, lambda loaded: self._tell(Inquired(loaded)))

    def _inquired(self, loaded: Loaded) -> None:
        if loaded.error:
            log.warning("%s: cannot be read, asking again: %s", loaded.entity, loaded.error)
            self._unread.append(loaded.entity)
            return
        messages = self._strangers.pop(loaded.entity, [])
        if loaded.entity in self._runs:
            return
        if self._owns(loaded.snapshot.state):
            log.info("%s: attempt %d is taken up again", loaded.entity, loaded.snapshot.state.attempt)
            run = self._add(Run(loaded.entity, loaded.snapshot))
            self._begin(run, adopted=True)
        else:
            for message in messages:
                self._disown(message)

    # ---- ending ----------------------------------------------------------------------------------------

    def _kill(self, entity: str, reason: str) -> None:
        run = self._runs.get(entity)
        if run is None or run.phase != "running":
            return
        spec, cancel = run.state.spec, run.state.cancel
        grace = cancel.grace_ms if cancel and cancel.grace_ms is not None else spec.grace_ms
        self._keeper.kill(entity, run.state.attempt, reason, grace)

    def _drained(self, entity: str, end: End) -> None:
        run = self._runs.get(entity)
        if run is None or run.phase != "draining":
            return
        if run.finish is None:
            run.finish = verdict(run, end)
        elif isinstance(run.finish, execution.Finish):
            run.finish = msgspec.structs.replace(run.finish, end=end)
        self._store_end(run)

    def _store_end(self, run: Run) -> None:
        if run.finish is not None:
            run.phase = "finishing"
            asks = [self._ask(run.entity, run.finish)]
            self._log.handle(asks, lambda outcomes: self._tell(Finished(outcomes)))

    def _finished(self, outcome: Outcome) -> None:
        run = self._runs.get(outcome.ask.entity)
        if run is None:
            return
        if outcome.error is not None and not isinstance(outcome.error, Conflict | NotFound):
            log.warning("%s: its end cannot be stored yet: %s", run.entity, outcome.error)
            self._again.append(run.entity)
            return
        if outcome.error is not None:
            log.warning("%s: its end was decided elsewhere: %s", run.entity, outcome.error)
        attempt = run.state.attempt
        run.snapshot = outcome.snapshot
        del self._runs[run.entity]
        self._tailer(Over(run.entity, run.state, run.pid, run.made))
        if run.state.spec.secrets:
            self._vault.drop(run.entity)
        self._keeper.forget(run.entity, attempt)
        self._announce(run)

    # ---- what others say -------------------------------------------------------------------------------

    def _facts(self, facts: Sequence[codec.Fact] | None) -> None:
        if facts is None:
            # Some may have been missed: look at everything that runs here.
            self._inquire_running()
            return
        for fact in facts:
            run = self._runs.get(fact.entity)
            if run is not None and run.phase == "claiming":
                run.early.append(fact)
            elif run is not None:
                self._learn(run, fact)

    def _learn(self, run: Run, fact: codec.Fact) -> None:
        if fact.seq <= run.snapshot.seq:
            return
        if isinstance(fact.event, execution.CancelRequested):
            run.snapshot = Snapshot(execution.evolve(run.state, fact), fact.n, fact.seq)
            self._kill(run.entity, "cancelled")
        elif isinstance(fact.event, execution.TERMINAL) and run.phase == "running":
            log.warning("%s was ended by somebody else: stopping it", fact.entity)
            self._kill(run.entity, "lost")

    def _inquire_running(self) -> None:
        running = [run.entity for run in self._runs.values() if run.phase == "running"]

        def done(loaded: Sequence[Loaded]) -> None:
            facts = [fact for each in loaded for fact in each.facts]
            self._tell(Heard(facts))

        if running:
            self._log.load(EXECUTION, running, done)
