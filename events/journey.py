"""A playbook as its events tell it: what is behind it, what runs, what comes next.

      new ---> running <---> paused          running is said as waiting_input while somebody is asked
                  |             |
                  '---> over <--'             over: completed, failed or cancelled

Its steps go in one row through all phases; `at` is how many of them are behind it.  What ended well, or was
skipped, is remembered for good: it never runs again unless somebody goes back to a checkpoint before it.
"""

from typing import TYPE_CHECKING, Literal

import msgspec

from events import phases
from events.clock import millis
from events.errors import Problem
from events.message import Event, Message
from events.phases import Definition, Phase, Spot, Step
from events.played import (
    Cancelled,
    CancelRequested,
    Cell,
    CheckpointCreated,
    Completed,
    Failed,
    Initialized,
    InputAnswered,
    InputExpired,
    InputReminded,
    InputRequested,
    Memory,
    Paused,
    PhaseEnded,
    PhaseStarted,
    PhaseSummary,
    Result,
    Resumed,
    StepEnded,
    StepSkipped,
    StepStarted,
    Summary,
)

if TYPE_CHECKING:
    from events.codec import Fact


class Going(Message):
    """The step that runs."""

    step: str
    run: int
    does: phases.Kind
    until: int | None = None
    """When a sleep is over, or an answer has to be there, in milliseconds since 1970."""
    asked: InputRequested | None = None
    began: int = 0
    reminders: int = 0


class State(Message):
    """A playbook, as its events tell it."""

    id: str = ""
    phase: Literal["new", "active", "over"] = "new"
    ending: Literal["", "completed", "failed", "cancelled"] = ""
    initialized: Initialized | None = None
    definition: Definition = Definition()
    row: tuple[Spot, ...] = ()
    at: int = 0
    cells: dict[str, Cell] = {}
    runs: dict[str, int] = {}
    """How often each step was started, whatever is remembered of it."""
    begun: tuple[str, ...] = ()
    """Which phases have begun."""
    ended: dict[str, str] = {}
    """How each phase ended that has."""
    summaries: dict[str, Summary] = {}
    going: Going | None = None
    pause: Paused | None = None
    cancel: CancelRequested | None = None
    dirty: bool = False
    """Something is behind it that no checkpoint knows."""
    checkpoints: tuple[CheckpointCreated, ...] = ()
    """All there are, the first one first."""
    current: str | None = None
    """The checkpoint that it would go on from."""
    blobs: dict[str, str] = {}
    """What steps to come find in `$HINDBRAIN_CHECKPOINT`, by the checkpoint that it was resumed from."""
    answers: dict[str, InputAnswered] = {}
    """The last answer of each question."""
    error: Problem | None = None
    resumes: int = 0
    trace: str = ""
    """The traceparent of its first event."""
    created_at: str | None = None
    updated_at: str | None = None
    completed_at: str | None = None
    seq: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.phase == "over"

    @property
    def status(self) -> str:
        """One word: `running paused waiting_input completed failed cancelled`."""
        if self.over:
            return self.ending
        if self.pause is not None:
            return "paused"
        if self.going is not None and self.going.does == "input":
            return "waiting_input"
        return "running" if self.phase == "active" else ""

    @property
    def saves(self) -> bool:
        """Whether checkpoints are made of it."""
        return self.initialized is not None and self.initialized.supports_resume

    @property
    def total(self) -> int:
        """How many steps there are."""
        return len(self.row)

    @property
    def wake(self) -> int | None:
        """When something is due by itself, in milliseconds since 1970."""
        going = self.going
        if going is None or going.does not in ("sleep", "input"):
            return None
        due = [] if going.until is None else [going.until]
        asked = self.step(going.step).input
        if asked is not None and asked.remind is not None:
            due.append(going.began + (going.reminders + 1) * max(1000, phases.span(asked.remind)))
        return min(due, default=None)

    def spot(self, place: int) -> tuple[Phase, Step]:
        """The phase and the step at a place of the row."""
        spot = self.row[place]
        phase = self.definition.phases[spot.phase]
        return phase, phase.steps[spot.step]

    def step(self, name: str) -> Step:
        """A step by its name."""
        return next(step for phase in self.definition.phases for step in phase.steps if step.name == name)

    def phase_of(self, name: str) -> Phase:
        """The phase of a step."""
        return next(
            phase for phase in self.definition.phases if any(step.name == name for step in phase.steps)
        )

    def checkpoint(self, name: str | None = None) -> CheckpointCreated | None:
        """A checkpoint, the one that it would go on from unless it is named."""
        wanted = self.current if name is None else name
        return next((each for each in self.checkpoints if each.checkpoint_id == wanted), None)

    def memory(self, blobs: dict[str, str] | None = None) -> Memory:
        """All that has to be known to go on from here."""
        behind = tuple(self.cells[step.name] for _, step in map(self.spot, range(self.at)))
        return Memory(
            playbook_id=self.id,
            name=self.definition.name,
            version=self.definition.version,
            position=self.seq,
            at=self.at,
            params=self.initialized.params if self.initialized is not None else {},
            cells=behind,
            summaries=tuple(said for name, said in self.summaries.items() if name in self.ended),
            blobs=blobs or {},
        )


# ---- what events change ----------------------------------------------------------------------------------


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    change, event = msgspec.structs.replace, fact.event
    state = change(state, id=fact.entity, seq=fact.seq, updated_at=fact.time)
    if isinstance(event, Initialized):
        state = change(state, created_at=fact.time, trace=fact.envelope.trace)
    if isinstance(event, Completed | Failed | Cancelled):
        state = change(state, completed_at=fact.time)
    return apply(state, event, fact.time)


def apply(state: State, event: Event, time: str) -> State:
    """What an event changes that is decided at a time."""
    change = msgspec.structs.replace
    match event:
        case Initialized():
            return _born(state, event)
        case _ if state.phase == "new":
            return state
        case PhaseStarted():
            return change(state, begun=(*state.begun, event.phase_id))
        case PhaseEnded():
            return change(state, ended={**state.ended, event.phase_id: event.status})
        case StepStarted():
            return _started(state, event, time)
        case StepSkipped():
            cell = Cell(
                step=event.step,
                phase_id=event.phase_id,
                status="skipped",
                run=state.runs.get(event.step, 0),
                reason=event.reason,
                ended_at=time,
            )
            return change(state, cells={**state.cells, event.step: cell}, at=state.at + 1)
        case StepEnded():
            return _ended(state, event, time)
        case InputRequested() | InputReminded() | InputAnswered() | InputExpired():
            return _asked(state, event)
        case PhaseSummary():
            said = Summary(
                phase_id=event.phase_id, summary=event.summary, artifacts=event.artifacts, by=event.written_by
            )
            return change(state, summaries={**state.summaries, event.phase_id: said})
        case CheckpointCreated():
            checkpoints = (*state.checkpoints, event)
            return change(state, checkpoints=checkpoints, current=event.checkpoint_id, dirty=False)
        case Paused():
            return change(state, pause=event, error=event.error)
        case Resumed():
            return _resumed(state, event)
        case CancelRequested():
            return change(state, cancel=event)
        case Completed() | Failed() | Cancelled():
            error = None if isinstance(event, Completed) else event.error
            ending: Literal["completed", "failed", "cancelled"] = "completed"
            if error is not None:
                ending = "failed" if isinstance(event, Failed) else "cancelled"
            return change(state, phase="over", ending=ending, error=error, pause=None, going=None)
        case _:
            return state


def _born(state: State, event: Initialized) -> State:
    return msgspec.structs.replace(
        state,
        phase="active",
        initialized=event,
        definition=event.definition,
        row=phases.row(event.definition),
        cells={
            step.name: Cell(step=step.name, phase_id=phase.id)
            for phase in event.definition.phases
            for step in phase.steps
        },
        dirty=event.supports_resume,
    )


def _remembering(state: State, memory: Memory) -> State:
    """Where it goes on with what a checkpoint holds; what came after that is to be done again."""
    known = {cell.step: cell for cell in memory.cells}
    cells = {
        name: known.get(name, Cell(step=name, phase_id=cell.phase_id)) for name, cell in state.cells.items()
    }
    over = behind(state, memory.at)
    return msgspec.structs.replace(
        state,
        at=memory.at,
        cells=cells,
        begun=over,
        ended=dict.fromkeys(over, "completed"),
        summaries={said.phase_id: said for said in memory.summaries if said.phase_id in over},
        blobs=memory.blobs,
    )


def behind(state: State, at: int) -> tuple[str, ...]:
    """The phases of which no step is left after so many steps."""
    left = {state.spot(place)[0].id for place in range(at, state.total)}
    return tuple(phase.id for phase in state.definition.phases if phase.id not in left)


def _started(state: State, event: StepStarted, time: str) -> State:
    cell = Cell(step=event.step, phase_id=event.phase_id, status="running", run=event.run, started_at=time)
    until = None if event.until is None else millis(event.until)
    going = Going(step=event.step, run=event.run, does=event.does, until=until, began=millis(time))
    return msgspec.structs.replace(
        state,
        cells={**state.cells, event.step: cell},
        runs={**state.runs, event.step: event.run},
        going=going,
        error=None,
    )


def _ended(state: State, event: StepEnded, time: str) -> State:
    result = Result(**{name: getattr(event, name) for name in Result.__struct_fields__})
    cell = msgspec.structs.replace(
        state.cells[event.step], status=event.status, run=event.run, result=result, ended_at=time
    )
    passed = event.status == "completed" or (
        state.step(event.step).allow_failure and event.status != "cancelled"
    )
    return msgspec.structs.replace(
        state,
        cells={**state.cells, event.step: cell},
        going=None,
        at=state.at + passed,
        dirty=state.saves if passed else state.dirty,
        blobs={name: blob for name, blob in state.blobs.items() if name != event.step},
    )


def _asked(state: State, event: InputRequested | InputReminded | InputAnswered | InputExpired) -> State:
    change, going = msgspec.structs.replace, state.going
    if isinstance(event, InputAnswered):
        state = change(state, answers={**state.answers, event.step: event})
    if going is None:
        return state
    match event:
        case InputRequested():
            return change(state, going=change(going, asked=event))
        case InputReminded(count=count):
            return change(state, going=change(going, reminders=count))
        case _:
            return state


def _resumed(state: State, event: Resumed) -> State:
    state = msgspec.structs.replace(
        state,
        phase="active",
        ending="",
        pause=None,
        cancel=None,
        error=None,
        completed_at=None,
        resumes=state.resumes + 1,
    )
    if event.memory is not None:
        state = _remembering(state, event.memory)
        # A fork has no checkpoint of its own yet.
        fresh = state.saves and state.checkpoint(event.checkpoint_id) is None
        return msgspec.structs.replace(state, going=None, dirty=fresh, current=event.checkpoint_id)
    failed = {name: each for name, each in state.ended.items() if each == "completed"}
    return msgspec.structs.replace(state, ended=failed)
