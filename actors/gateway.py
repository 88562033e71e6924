"""The gateway takes what comes in through the doors, and answers once the facts are stored.

It is long because every request passes here: what comes in, what the log says, and what was read.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors import admission, reading
from actors.again import Again
from actors.files import Files
from actors.home import Home as Home
from actors.home import milliseconds as milliseconds
from actors.patience import Waiting, Waits
from actors.stopping import Stopping
from actors.submitting import Stored, Submitting, wished, with_key
from actors.vault import Vault
from events import codec, execution, ids, service, view
from events.errors import (
    HindbrainError,
    Internal,
    NotFound,
    NotOver,
    Unavailable,
    Validation,
)
from events.execution import EXECUTION, State
from events.job import Job
from events.message import Message
from events.ports import Ask, Call, Chunk, Loaded, Log, Outcome, Outlet, Peers
from events.spec import Spec, Submit

log = logging.getLogger(__name__)

WAIT_MAX_MS = 600_000
PEER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests came in."""

    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Decided:
    """The log decided."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Read:
    """Whole executions were read from the log, some of those that were asked for, in any order."""

    loaded: Sequence[Loaded]
    calls: "dict[str, list[tuple[Call, Any]]]"
    """Who asked, by execution; each answer takes one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Facts say that executions are over; None when some may have been missed."""

    entities: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Turn:
    """Something about a request goes on, in the gateway's thread; what it raises is the answer."""

    call: Call
    act: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Another node answered a question that belonged to it."""

    call: Call
    answer: bytes | HindbrainError


class Whose(Message):
    """Of which execution another node needs the secrets."""

    execution_id: str
    plan_id: str | None = None
    step: str | None = None
    names: list[str] = []


_DECODERS = {(verb.kind, verb.name): msgspec.json.Decoder(verb.request) for verb in service.VERBS}

_WHOSE = msgspec.json.Decoder(Whose)


class Gateway:
    """Reads requests, refuses what cannot be, sends the rest to the log, and answers."""

    every = 0.25

    def __init__(
        self,
        home: Home,
        journal: Log,
        outlet: Outlet,
        peers: Peers,
        files: Files,
        vault: Vault,
        tell: Callable[[Any], None],
        local: "dict[tuple[str, str], Callable[[Any, Call], None]]",
        refused: Callable[[str, Callable[[HindbrainError | None], None]], None],
        again: Again,
        check: Callable[[Job, Call, Callable[[], None]], None],
        wake: Callable[[str], None],
        reports: Mapping[str, execution.Progressed],
    ) -> None:
        self._home, self._log, self._outlet, self._peers = home, journal, outlet, peers
        self._files, self._vault, self._tell, self._refused = files, vault, tell, refused
        self._wake = wake
        """Tells a module that slept that there is work."""
        self._check = check
        """Asks a plugin about the data of a job, and goes on if it takes that."""
        self._local = local
        """Verbs that a function of this node answers by itself."""
        self._submitting, self._again = Submitting(home, vault), again
        self._stopping = Stopping(journal, again, lambda calls: tell(Calls(calls)))
        self._reports = reports
        """How far commands of this node are, as listeners were told: the log hears of it later."""
        self.waits = Waits()  # other threads look whether anybody waits for a certain end

    # ---- the mailbox ---------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Calls(calls):
                self._take(calls)
            case Decided(outcomes):
                for outcome in outcomes:
                    call, ask = outcome.ask.tag
                    self._guard(call, self._decided, call, ask, outcome)
            case Read(loaded, calls):
                for each in loaded:
                    call, ask = calls[each.entity].pop()
                    self._guard(call, self._show, call, ask, each)
            case Ended(entities):
                self._vault.forget(entities or ())
                self._look(self.waits.of(entities))
            case Turn(call, act):
                self._guard(call, act)
            case Fetched(call, answer):
                self._pass_on(call, answer)
            case _:
                raise TypeError(f"the gateway has no use for a {type(message).__name__}")

    def tick(self) -> None:
        """Answer those whose time is up."""
        self._look(self.waits.due())

    def _guard(self, call: Call, act: Callable[..., None], *args: Any) -> None:
        """One bad request must not stop the others: whatever goes wrong is that one's answer."""
        try:
            act(*args)
        except HindbrainError as error:
            call.refuse(error)
        except Exception as error:
            log.exception("%s.%s failed", call.kind, call.verb)
            call.refuse(Internal(f"{call.kind}.{call.verb} failed: {error}"))

    # ---- what comes in -------------------------------------------------------------------------------

    def _take(self, calls: Sequence[Call]) -> None:
        asks: list[Ask] = []
        reads: list[tuple[str, Call, Any]] = []
        for call in calls:
            self._guard(call, self._sort, call, asks, reads)
        if asks:
            self._log.handle(asks, self._told)
        self._read(reads)

    def _sort(self, call: Call, asks: list[Ask], reads: list[tuple[str, Call, Any]]) -> None:
        if call.kind == "peer":
            self._peer(call, reads)
            return
        if (call.kind, call.verb) == ("execution", "submit"):
            self._submit(call, with_key(admission.read(call.body), call), asks)
            return
        decoder = _DECODERS.get((call.kind, call.verb))
        if decoder is None:
            raise NotFound(f"there is no verb {call.kind}.{call.verb}")
        ask = admission.parse(decoder, call.body)
        self._home.rights.check(call, ask, self._home.catalogue)
        if answer := self._local.get((call.kind, call.verb)):
            answer(ask, call)
            return
        match ask:
            case (
                service.Cancel(execution_id=None, where=None)
                | service.Cancel(execution_id=str(), where=service.Where())
                | service.Retry(execution_id=None, where=None)
                | service.Retry(execution_id=str(), where=service.Where())
            ):
                raise Validation("give execution_id or where, and not both", field="execution_id")
            case service.Cancel(grace_ms=int(grace)) if not 0 <= grace <= admission.spec.DAY_MS:
                raise Validation("grace_ms must be between 0 and a day", field="grace_ms")
            case service.Cancel(execution_id=None) | service.Cancel(rehearse=True):
                self._stopping.cancel(ask, call)
            case service.Cancel(execution_id=entity, reason=reason, grace_ms=grace):
                command = execution.Cancel(reason=reason, grace_ms=grace)
                asks.append(self._ask(call, ask, _named(entity), command))
            case service.Get(execution_id=None, idempotency_key=None):
                raise Validation("give execution_id or idempotency_key", field="execution_id")
            case service.Get(execution_id=str(), idempotency_key=str()):
                raise Validation("give execution_id or idempotency_key, not both", field="idempotency_key")
            case service.Get(execution_id=None, idempotency_key=str(key)):
                reads.append((ids.derived("execution", key), call, ask))
            case service.Wait(timeout_ms=timeout) if not 0 <= timeout <= WAIT_MAX_MS:
                raise Validation(f"timeout_ms must be between 0 and {WAIT_MAX_MS}", field="timeout_ms")
            case service.Wait(timeout_ms=timeout):
                waiting = self.waits.add(call, _named(ask.execution_id), timeout / 1000)
                reads.append((waiting.entity, call, waiting))
            case service.Retry(execution_id=None) | service.Retry(rehearse=True):
                self._again.retry(ask, call)
            case service.Logs():
                reading.check(ask)
                reads.append((_named(ask.execution_id), call, ask))
            case service.Result(max_bytes=size) if not 0 <= size <= reading.MOST:
                raise Validation(f"max_bytes must be between 0 and {reading.MOST}", field="max_bytes")
            case service.Events(limit=limit) if not 1 <= limit <= 1000:
                raise Validation("limit must be between 1 and 1000", field="limit")
            case _:
                reads.append((_named(getattr(ask, "execution_id", None)), call, ask))

    def _peer(self, call: Call, reads: list[tuple[str, Call, Any]]) -> None:
        """Another node asks: for secrets of what this one took, or for output that lies here."""
        if call.verb == "secrets":
            whose = admission.parse(_WHOSE, call.body)
            entity = _named(whose.execution_id)
            needs = Spec(secrets=dict.fromkeys(whose.names, ""), plan_id=whose.plan_id, step=whose.step)
            values = self._vault.of(entity, needs)
            if values is None:
                raise NotFound(f"there are no secrets of {entity} here", execution_id=entity)
            call.answer(msgspec.json.encode(values))
            return
        kind, _, verb = call.verb.partition("-")
        self._sort(Call(kind, verb, call.body, call.answer, call.refuse, by=call.by), [], reads)

    def _read(self, reads: Sequence[tuple[str, Call, Any]]) -> None:
        if reads:
            calls: dict[str, list[tuple[Call, Any]]] = {}
            for entity, call, ask in reads:
                calls.setdefault(entity, []).append((call, ask))
            entities = [entity for entity, _, _ in reads]
            self._log.load(EXECUTION, entities, lambda loaded: self._tell(Read(loaded, calls)))

    def submit(self, wish: Submit, call: Call) -> None:
        """Have something stored that another verb stands for; called in this thread."""
        asks: list[Ask] = []
        self._submit(call, with_key(wish, call), asks)
        if asks:
            self._log.handle(asks, self._told)

    def _submit(self, call: Call, wish: Submit, asks: list[Ask]) -> None:
        """Store it; a plugin that checks its jobs itself is asked first."""
        ask = self._submission(call, wish)
        if wish.job is None or not self._home.catalogue.find(wish.job).checks:
            asks.append(ask)
            return

        def checked() -> None:
            self._log.handle([ask], self._told)

        self._check(wish.job, call, checked)

    def _submission(self, call: Call, wish: Submit, retry_of: str | None = None) -> Ask:
        ask, stored = self._submitting.submission(call, wish, retry_of)
        return msgspec.structs.replace(ask, tag=(call, stored))

    def _ask(self, call: Call, ask: Any, entity: str, command: execution.AnyCommand) -> Ask:
        return Ask(EXECUTION, entity, command, by=call.by, trace=call.trace, tag=(call, ask))

    # ---- what the log says -----------------------------------------------------------------------------

    def _told(self, outcomes: Sequence[Outcome]) -> None:
        """Announce what was stored before anybody can act on it, so that listeners hear it in its order."""
        for outcome in outcomes:
            if outcome.facts:
                entity, state = outcome.ask.entity, outcome.snapshot.state
                self._outlet.progress("execution", entity, view.announcement(entity, state, milliseconds()))
        self._tell(Decided(outcomes))

    def _decided(self, call: Call, ask: Any, outcome: Outcome) -> None:
        entity, state = outcome.ask.entity, outcome.snapshot.state
        if isinstance(ask, Stored):
            self._stored(call, ask, outcome)
            return
        if outcome.error:
            raise outcome.error if not isinstance(outcome.error, NotFound) else _unknown(entity)
        changed = bool(outcome.facts)
        if changed and state.phase == "over":
            self._vault.drop(entity)
            self._close(entity, state)
        answer = service.Stopped(
            execution_id=entity, status=state.status, changed=changed, seq=outcome.snapshot.seq
        )
        call.answer(codec.encode(answer))

    def _close(self, entity: str, state: State) -> None:
        """It was stopped between two attempts: nobody else will say that its output is complete."""
        if state.started is not None and state.end is not None:
            end, stamp = state.end.end, codec.stamp(milliseconds())
            sizes = {"stdout": end.stdout_bytes, "stderr": end.stderr_bytes}
            n = state.attempt
            ends = [Chunk(entity, each, size, n, stamp, b"", end=True) for each, size in sizes.items()]
            self._outlet.output(ends, _hoped)

    def _stored(self, call: Call, ask: Stored, outcome: Outcome) -> None:
        entity, state = outcome.ask.entity, outcome.snapshot.state
        if error := self._submitting.settle(ask, outcome):
            raise error
        if state.spec.module in self._home.catalogue.asleep:
            self._wake(state.spec.module)
        call.answer(
            codec.encode(
                service.Accepted(
                    execution_id=entity,
                    status=state.status,
                    message=view.accepted(state),
                    monitor_url=f"{self._home.monitor_url}/executions/{entity}",
                    seq=outcome.facts[0].seq if outcome.facts else outcome.snapshot.seq,
                    duplicate=not outcome.facts,
                    retry_of=ask.retry_of or msgspec.UNSET,
                )
            )
        )

    def _look(self, waiting: Sequence[Waiting]) -> None:
        self._read([(each.entity, each.call, each) for each in waiting])

    # ---- what was read -----------------------------------------------------------------------------------

    def _show(self, call: Call, ask: Any, loaded: Loaded) -> None:
        if isinstance(ask, Waiting):
            if self.waits.done(ask, loaded):
                self._show(ask.call, service.Wait(execution_id=ask.entity), loaded)
            return
        entity, state = loaded.entity, loaded.snapshot.state
        if loaded.error:
            raise loaded.error
        if loaded.snapshot.n == 0:
            if isinstance(ask, service.Get) and ask.idempotency_key is not None:
                self._refused(ask.idempotency_key, lambda error: call.refuse(error or _unknown(entity)))
                return
            raise _unknown(entity)
        match ask:
            case service.Events(after_seq=after, limit=limit):
                rows = [view.row(fact) for fact in loaded.facts if fact.seq > after][:limit]
                call.answer(codec.encode(service.Rows(events=rows)))
            case service.Retry():
                self._retry(call, ask, entity, state)
            case service.Result() if state.phase != "over":
                raise NotOver(f"{entity} is {state.status}: wait for it, or read its logs")
            case service.Get() | service.Wait() if state.phase != "over":
                self._answer(call, ask, entity, state)
            case _ if self._is_mine(state):
                self._answer(call, ask, entity, state)
            case _:
                self._elsewhere(call, ask, entity, state)

    def _is_mine(self, state: State) -> bool:
        return state.started is None or state.started.node == self._home.node

    def _answer(self, call: Call, ask: Any, entity: str, state: State) -> None:
        now, said = milliseconds(), self._reports.get(entity)
        if said is not None and state.phase != "over" and said.attempt == state.attempt:
            state = msgspec.structs.replace(state, report=said)
        match ask:
            case service.Logs():
                call.answer(codec.encode(reading.logs(self._files, entity, state, ask)))
            case service.Result(max_bytes=size):
                result = reading.result(self._files, entity, state, size)
                call.answer(codec.encode(service.Came(result=result)))
            case service.Wait():
                result = reading.result(self._files, entity, state) if state.phase == "over" else None
                shown = view.execution(entity, state, now, result)
                call.answer(codec.encode(service.Waited(execution=shown, done=state.phase == "over")))
            case _:
                result = reading.result(self._files, entity, state) if state.phase == "over" else None
                call.answer(codec.encode(service.One(execution=view.execution(entity, state, now, result))))

    def _elsewhere(self, call: Call, ask: Any, entity: str, state: State) -> None:
        """Its output lies on another node: ask that one; without it, answer what the log knows."""
        node = state.started.node if state.started else ""
        verb = f"{call.kind}-{call.verb}"

        def done(answer: bytes | HindbrainError) -> None:
            self._tell(Fetched(call, answer))

        if call.by.startswith("node"):
            self._answer(call, ask, entity, state)
        else:
            self._peers.ask(node, verb, call.body, PEER_SECONDS, done)

    def _pass_on(self, call: Call, answer: bytes | HindbrainError) -> None:
        if isinstance(answer, bytes):
            call.answer(answer)
        elif isinstance(answer, Unavailable) and call.verb in ("get", "wait"):
            again = Call(call.kind, call.verb, call.body, call.answer, call.refuse, by="node:absent")
            self._take([again])
        else:
            call.refuse(answer)

    def _retry(self, call: Call, ask: service.Retry, entity: str, state: State) -> None:
        wish = wished(entity, state, ask.secrets, ask.idempotency_key)
        stored = self._submission(call, wish, retry_of=entity)
        self._log.handle([stored], self._told)


def _named(entity: str | None) -> str:
    if entity is None or not ids.TOKEN.fullmatch(entity):
        raise NotFound(f"Execution not found: {entity}", execution_id=entity)
    return entity


def _unknown(entity: str) -> NotFound:
    return NotFound(f"Execution not found: {entity}", execution_id=entity)


def _hoped(sure: bool) -> None:
    if not sure:
        log.info("the end of a stream may not have been said; its end stands in the log")
