"""The courier takes tasks from engine to engine: it starts a phase, follows it, and says how it ended.

Each phase runs as a playbook whose id is derived from task, phase and run, so one who took over starts it
once more and nothing of it twice.  What a phase leaves goes into the task before the next one starts.

It is long because the whole way of a phase, from its start to what it left, is read in one place.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from actors import translation
from actors.clerk import Table
from actors.role import Role
from events import playbook
from events.codec import Fact
from events.errors import HindbrainError, IdempotencyConflict, Trouble
from events.ir import ArtifactReference
from events.playbook import PLAYBOOK
from events.ports import Ask, Loaded, Outcome
from events.task import TASK, Cancel, End, Going, Hold, Resume, State, child, child_of

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
ASK_SECONDS = 10.0
HEARD = (playbook.Completed, playbook.Failed, playbook.Cancelled, playbook.Paused, playbook.Resumed)
STATUS = {"completed": "done", "failed": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Read:
    """Tasks were read."""

    loaded: Sequence[Loaded]


@dataclass(frozen=True, slots=True)
class Asked:
    """The front door answered what was asked for a task."""

    task: str
    playbook: str
    answer: bytes | HindbrainError
    started: bool
    """It was asked to start."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The playbook of a phase was read."""

    task: str
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Decided:
    """The log answered."""

    outcomes: Sequence[Outcome]


class Courier(Role):
    """Played by one node at a time."""

    name = "task"
    questions = ("SELECT id FROM task_ir WHERE status IN ('pending', 'running', 'paused')",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tasks: dict[str, State] = {}
        self._whose: dict[str, str] = {}
        """Whose phase a playbook is."""
        self._started: set[str] = set()
        """Playbooks that are known to be there."""
        self._starting: set[str] = set()
        """Those that were asked to start, and nobody has answered yet."""
        self._stirred: dict[str, None] = {}
        self._later: dict[str, float] = {}

    # ---- what is known -----------------------------------------------------------------------------------

    def begin(self, answers: Sequence[Table]) -> None:
        """Read every task that is not over."""
        for each in (self._tasks, self._whose, self._started, self._starting, self._stirred, self._later):
            each.clear()
        self._stirred |= {str(row[0]): None for row in answers[0].rows}

    def learn(self, fact: Fact) -> None:
        """Take note of a fact of a task, or of how a phase goes."""
        if fact.kind == "task":
            self._stirred[fact.entity] = None
        elif fact.kind == "playbook" and isinstance(fact.event, HEARD) and fact.entity in self._whose:
            self._stirred[self._whose[fact.entity]] = None

    def act(self) -> None:
        """Read every task of which something is new, and go on from there."""
        now = time.monotonic()
        for entity in [each for each, due in self._later.items() if due <= now]:
            del self._later[entity]
            self._stirred[entity] = None
        if self._stirred:
            wanted = list(self._stirred)
            self._stirred.clear()
            self.log.load(TASK, wanted, lambda loaded: self.tell(Read(loaded)))

    def hear(self, message: Any) -> None:
        """Deal with an answer that was asked for."""
        match message:
            case Read(loaded):
                for each in loaded:
                    self._read(each)
            case Asked():
                self._asked(message)
            case Seen(entity, loaded):
                self._seen(entity, loaded)
            case Decided(outcomes):
                for outcome in outcomes:
                    self._decided(outcome)
            case _:
                super().hear(message)

    def _read(self, loaded: Loaded) -> None:
        entity, state = loaded.entity, loaded.snapshot.state
        if loaded.error is not None:
            self._retry(entity, loaded.error)
            return
        before = self._tasks.get(entity)
        if before is not None and before.seq > state.seq:
            return
        going = child_of(before) if before is not None else None
        if going is not None and going != child_of(state):
            self._whose.pop(going, None)
            self._started.discard(going)
        if state.over or not loaded.snapshot.n:
            self._tasks.pop(entity, None)
            return
        self._tasks[entity] = state
        self._drive(state)

    # ---- what is done ------------------------------------------------------------------------------------

    def _drive(self, state: State) -> None:
        """See that the phase which an engine has is started, and how it goes."""
        going, run = state.going, child_of(state)
        if going is None or run is None:
            return
        self._whose[run] = state.id
        if run in self._starting:
            return
        if run in self._started:
            self._follow(state.id, run)
        elif state.cancel is not None or state.handing is not None:
            # It may have been started by somebody who has forgotten it since; if not, it never will be.
            self._follow(state.id, run)
        else:
            self._start(state, going, run)

    def _start(self, state: State, going: Going, run: str) -> None:
        phase = state.task.phase(going.phase_id)
        if phase is None:
            return
        try:
            made = translation.run(state.task, phase)
        except HindbrainError as error:
            self._end(state, going, "failed", error=error)
            return
        body = made.tree | {
            "values": made.values,
            "idempotency_key": child(state.id, going.phase_id, going.run),
            "intent_instance_id": state.task.intent_instance_id,
            "supports_resume": state.task.metadata.supports_resume,
        }
        self._request(state.id, run, "run", {key: each for key, each in body.items() if each is not None})

    def _request(self, entity: str, run: str, verb: str, body: dict[str, Any]) -> None:
        started = verb == "run"
        if started:
            self._starting.add(run)

        def answered(answer: bytes | HindbrainError) -> None:
            self.tell(Asked(entity, run, answer, started))

        self._doors.request("playbook", verb, msgspec.json.encode(body), ASK_SECONDS, answered)

    def _asked(self, message: Asked) -> None:
        entity, answer = message.task, message.answer
        if message.started:
            self._starting.discard(message.playbook)
        state = self._tasks.get(entity)
        if state is None or child_of(state) != message.playbook or state.going is None:
            return
        if isinstance(answer, Trouble):
            self._retry(entity, answer)
        elif isinstance(answer, HindbrainError) and not isinstance(answer, IdempotencyConflict):
            if message.started:
                self._end(state, state.going, "failed", error=answer)
            else:
                log.warning("%s: %s", entity, answer)
                self._later[entity] = time.monotonic() + AGAIN_SECONDS
        else:
            self._started.add(message.playbook)
            self._follow(entity, message.playbook)

    def _follow(self, entity: str, run: str) -> None:
        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                self.tell(Seen(entity, each))

        self.log.load(PLAYBOOK, [run], read)

    def _seen(self, entity: str, loaded: Loaded) -> None:
        """How the phase goes: it is over, it is to stop, it waits, or it goes on."""
        state, run = self._tasks.get(entity), loaded.entity
        if state is None or child_of(state) != run or (going := state.going) is None:
            return
        if loaded.error is not None:
            self._retry(entity, loaded.error)
            return
        book: playbook.State = loaded.snapshot.state
        leave = state.cancel is not None or state.handing is not None
        if not loaded.snapshot.n:
            if leave:
                self._end(state, going, "cancelled")
            else:
                self._retry(entity, None)
            return
        self._started.add(run)
        if book.over:
            self._ended(state, going, book)
        elif leave:
            if book.cancel is None:
                self._request(entity, run, "cancel", {"playbook_id": run, "reason": _why(state)})
        elif book.pause is not None and state.pause is None:
            if book.resumes <= state.held:
                self._request(entity, run, "resume", {"playbook_id": run})
            else:
                reason, error = book.pause.reason or "paused", book.pause.error
                hold = Hold(run=going.run, mark=book.resumes, reason=reason, error=error)
                self._decide(state, hold)
        elif book.pause is None and state.pause is not None:
            self._decide(state, Resume())

    def _ended(self, state: State, going: Going, book: playbook.State) -> None:
        phase = state.task.phase(going.phase_id)
        if book.ending == "cancelled" and state.cancel is None and state.handing is None:
            self._decide(state, Cancel(reason=f"the playbook of phase {going.phase_id} was cancelled"))
        left = {name: cell.result for name, cell in book.cells.items() if cell.result}
        outputs: dict[str, Any] = {name: each.outputs for name, each in left.items() if each.outputs}
        if phase is not None and not going.engine.startswith("playbook:"):
            outputs = outputs.get(going.phase_id, {})
        names = [each for result in left.values() for each in result.artifacts]
        kept = tuple(ArtifactReference(id=each, phase_id=going.phase_id) for each in dict.fromkeys(names))
        summaries = [each.summary for each in book.summaries.values()]
        saved = any(each.reason != "start" for each in book.checkpoints)
        end = End(
            phase_id=going.phase_id,
            run=going.run,
            status=STATUS[book.ending],  # pyright: ignore[reportArgumentType] -- the three of them
            outputs=outputs,
            left=kept,
            summary="\n".join(summaries),
            error=book.error if book.ending == "failed" else None,
            checkpoint_at=book.updated_at if saved else None,
        )
        self._decide(state, end)

    def _end(self, state: State, going: Going, status: Any, error: HindbrainError | None = None) -> None:
        problem = error.problem if error is not None else None
        self._decide(state, End(phase_id=going.phase_id, run=going.run, status=status, error=problem))

    def _decide(self, state: State, command: Any) -> None:
        self.decide([Ask(TASK, state.id, command, by=self.by)], Decided)

    def _decided(self, outcome: Outcome) -> None:
        if isinstance(outcome.error, Trouble):
            self._retry(outcome.ask.entity, outcome.error)
        elif outcome.error is not None:
            log.warning("%s: %s", outcome.ask.entity, outcome.error)

    def _retry(self, entity: str, error: HindbrainError | None) -> None:
        if error is not None:
            log.warning("%s waits: %s", entity, error)
        self._later[entity] = time.monotonic() + AGAIN_SECONDS


def _why(state: State) -> str:
    """Why a phase is to be let go of."""
    if state.cancel is not None:
        return state.cancel.reason or "the task is cancelled"
    return f"handed over to {state.handing.to_engine}" if state.handing is not None else ""
