"""The executor takes what is queued, has the keeper run it, and states how it ended.

It keeps nothing that it could not learn again: what it runs is in the log, in the keeper, and in the files.
After a crash it asks all three.  To start an attempt is safe to ask twice, so adopting a command that runs
already and starting one that was only claimed are the same request.

It is long because a command's whole way, from the claim to its stored end, is read in one place.
"""

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import kept, outputs, preparing
from actors.adoption import Adoption, owns
from actors.attempt import (
    Brought,
    Claimed,
    Fetched,
    Finished,
    Heard,
    Inquired,
    Keeper,
    Kept,
    Looked,
    Offered,
    Owned,
    Run,
    Shared,
    verdict,
)
from actors.files import Files
from actors.gate import Asked, Bound, Bounds, Gate
from actors.home import Home, milliseconds
from actors.monitor import Running
from actors.offers import Offers
from actors.slots import Slots
from actors.tail import Anew, Drain, Drained, Flooded, Follow, Note, Over, Ran
from actors.vault import Mask, Vault
from events import codec, execution, view
from events.errors import Conflict, HindbrainError, NotFound
from events.execution import EXECUTION, End, State
from events.ports import Ask, Blobs, Delivery, Doors, Loaded, Log, Outcome, Outlet, Peers, Snapshot, Work

log = logging.getLogger(__name__)

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
        self._home, self._log = home, journal
        self._keeper, self._outlet, self._blobs = keeper, outlet, blobs
        self._files, self._vault = files, vault
        self._tell, self._tailer, self._monitor = tell, tailer, monitor
        self._adoption = Adoption(home.node, since, journal, doors, keeper, tell, self._adopt)
        self._runs: dict[str, Run] = {}
        self._slots = Slots(slots, work, lambda delivery: self._offers.claim(delivery))
        self._gate = Gate(home.node, journal, self._slots, tell, self._start)
        self._offers = Offers(
            *(home.node, journal, outlet, files, peers, vault),
            self._runs,
            tell,
            self._slots,
            self._gate.pass_,
        )
        self._again: list[str] = []
        self._resident = home.residents.get("commands")
        self._shown: dict[str, int] = {}

    # ---- the mailbox -----------------------------------------------------------------------------------

    def receive(self, message: Any) -> Any:
        """Deal with one message."""
        match message:
            case Offered(deliveries):
                self._slots.take(deliveries)
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
            case Looked() | Brought() | Shared():
                self._offers.receive(message)
            case Flooded(entity):
                self._kill(entity, "output_limit")
            case Anew():
                self._follow_all()
            case Owned(answer):
                self._adoption.owned(answer, self._runs.__contains__)
            case Inquired(loaded):
                for each in loaded:
                    self._adoption.inquired(each, each.entity in self._runs)
            case Bounds() | Bound() | Asked():
                self._gate.receive(message)
            case "rest":
                self._slots.draining = True
            case "cancel":
                for run in self._runs.values():
                    self._kill(run.entity, "shutdown")
            case "count":
                return len(self._runs)
            case _:
                raise TypeError(f"the executor has no use for a {type(message).__name__}")
        self._fill()
        return None

    def tick(self) -> None:
        """Try again what did not work, and learn what this node was doing before."""
        self._adoption.tick()
        self._slots.tick()
        self._gate.tick()
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
        self._fill()

    def _fill(self) -> None:
        if self._resident is not None:
            self._slots.paused = self._resident.paused
            self._resident.active = len(self._runs)
        self._slots.fill()

    # ---- taking ----------------------------------------------------------------------------------------

    def _start(self, delivery: Delivery, known: Snapshot[State]) -> None:
        entity = delivery.fact.entity
        self._add(Run(entity, known, delivery=delivery))
        out, err = self._files.sizes(entity) if known.state.attempt else (0, 0)
        command = execution.Start(
            node=self._home.node,
            boot=self._home.boot,
            log_path=str(self._files.output(entity, "stdout")),
            stdout_offset=out,
            stderr_offset=err,
            queued=delivery.fact.seq,
        )
        self._log.handle([self._ask(entity, command, known)], lambda outcomes: self._tell(Claimed(outcomes)))

    def _add(self, run: Run) -> Run:
        self._runs[run.entity] = run
        self._slots.enter()
        return run

    def _leave(self, run: Run) -> None:
        """Its command is gone: somebody else can have its place."""
        if not run.left:
            run.left = True
            self._slots.leave(run.since)

    def _adopt(self, entity: str, snapshot: Snapshot[State]) -> None:
        self._begin(self._add(Run(entity, snapshot)), adopted=True)

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
        elif owns(self._home.node, run.state, self._home.boot):
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
        secrets = self._vault.of(run.entity, run.state.spec) or {}
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
        self._adoption.settle()

    def _said(self, message: kept.Spawned | kept.End) -> None:
        run = self._runs.get(message.execution)
        if run is None:
            self._adoption.stranger(message)
        elif run.state.attempt != message.attempt:
            if run.phase not in ("claiming", "finishing"):
                self._adoption.disown(message)
        elif isinstance(message, kept.Spawned):
            if run.pid is None:
                run.pid = message.pid
                self._tailer(Ran(run.entity, message.pid))
        elif run.phase == "running":
            run.phase, run.exit = "draining", message
            self._leave(run)
            self._tailer(Drain(run.entity))

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
        end = self._with_outputs(run, end)
        if run.finish is None:
            run.finish = verdict(run, end)
        elif isinstance(run.finish, execution.Finish):
            run.finish = msgspec.structs.replace(run.finish, end=end)
        self._store_end(run)

    def _with_outputs(self, run: Run, end: End) -> End:
        """A step of a plan may have left something for others."""
        spec = run.state.spec
        if spec.plan_id is None and spec.playbook_id is None:
            return end
        mask = Mask(list((self._vault.of(run.entity, spec) or {}).values()))
        found, note = outputs.read(self._files.outputs(run.entity, run.state.attempt), mask)
        return msgspec.structs.replace(end, outputs=found, note=note)

    def _store_end(self, run: Run) -> None:
        if run.finish is not None:
            run.phase = "finishing"
            finish = msgspec.structs.replace(run.finish, now_ms=milliseconds(), jitter=random.random())  # noqa: S311 -- no secret
            asks = [self._ask(run.entity, finish)]
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
        self._count(run.state.status)
        if run.state.spec.working_dir is None:
            self._files.folders.give(run.entity)
        self._tailer(Over(run.entity, run.state, run.pid, run.made))
        if run.state.spec.secrets and (run.state.phase == "over" or run.state.taken_by != self._home.node):
            self._vault.drop(run.entity)
        self._keeper.forget(run.entity, attempt)
        self._announce(run)

    def _count(self, status: str) -> None:
        if self._resident is not None:
            self._resident.completed += status == "completed"
            self._resident.failed += status in ("failed", "timed_out")

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
        elif isinstance(fact.event, (*execution.TERMINAL, execution.AttemptLost)) and run.phase == "running":
            log.warning("%s was ended by somebody else: stopping it", fact.entity)
            self._kill(run.entity, "lost")

    def _inquire_running(self) -> None:
        running = [run.entity for run in self._runs.values() if run.phase == "running"]

        def done(loaded: Sequence[Loaded]) -> None:
            facts = [fact for each in loaded for fact in each.facts]
            self._tell(Heard(facts))

        if running:
            self._log.load(EXECUTION, running, done)
