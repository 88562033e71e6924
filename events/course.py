"""A plan as its events tell it: where each step stands, which could start, and what is behind it.

      new ---> running <---> paused
                  |             |
                  '---> over <--'

It is over when it is completed, failed or cancelled; then it may be taken back, or steps of it run again.
"""

from typing import TYPE_CHECKING, Literal

import msgspec

from events import batch, condition, params
from events.batch import Batch
from events.condition import Condition
from events.errors import Problem
from events.message import Event, Message
from events.planned import (
    Advanced,
    Cancelled,
    CancelRequested,
    Completed,
    Extended,
    Failed,
    Launch,
    Paused,
    RerunRequested,
    Result,
    Resumed,
    RollbackFailed,
    RollbackStarted,
    RolledBack,
    Sealed,
    StepEnded,
    StepsSkipped,
    StepsStarted,
    StepUndone,
    Submitted,
    UndoStarted,
)
from events.steps import Definition, Step

if TYPE_CHECKING:
    from events.codec import Fact

Status = Literal["", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "running", "completed", "failed", "cancelled", "timed_out", "skipped"]
OVER = ("completed", "failed", "cancelled", "timed_out", "skipped")


class Graph(Message):
    """What does not change of a plan's steps; steps go by their place in the definition."""

    index: dict[str, int] = {}
    needs: tuple[tuple[int, ...], ...] = ()
    dependents: tuple[tuple[int, ...], ...] = ()
    """Who needs it."""
    readers: tuple[tuple[int, ...], ...] = ()
    """Who needs it, asks for it in a condition, or takes what it left."""
    conditions: tuple[Condition | None, ...] = ()
    reads: tuple[bool, ...] = ()
    """Whether what it runs takes something from other steps."""


class Cell(Message):
    """One step."""

    status: StepStatus = "pending"
    run: int = 1
    place: int = 0
    """As how many-th it ended; 0 while it has not."""
    result: Result | None = None
    reason: str = ""
    """Why it was skipped."""
    undone: bool = False
    tries: int = 0
    """How often it was tried to take it back."""


class State(Message):
    """A plan, as its events tell it."""

    id: str = ""
    phase: Literal["new", "active", "over"] = "new"
    status: Status = ""
    rollback: Literal["none", "running", "done", "failed"] = "none"
    submitted: Submitted | None = None
    definition: Definition = Definition()
    graph: Graph = Graph()
    cells: dict[str, Cell] = {}
    waiting: tuple[int, ...] = ()
    """Of how many needs each step does not know the end."""
    ready: tuple[int, ...] = ()
    """Steps that could start, in the order in which they will."""
    running: dict[str, int] = {}
    """Steps that run, with the number of the run."""
    batch: Batch | None = None
    total: int | None = None
    """How many steps or operations there are; None while more may come."""
    completed: int = 0
    failed: int = 0
    """How many ended in any other way, those that may fail among them."""
    skipped: int = 0
    ends: int = 0
    """How many steps have ended so far, each run by itself."""
    pause: Paused | None = None
    cancel: CancelRequested | None = None
    undoing: tuple[str, ...] = ()
    """What is still to be taken back, the next one first."""
    undo: Launch | None = None
    """What is being taken back."""
    error: Problem | None = None
    """Why it failed or was cancelled."""
    trouble: RollbackFailed | None = None
    """Why it could not be taken back."""
    reruns: int = 0
    created_at: str | None = None
    completed_at: str | None = None
    trace: str = ""
    """The traceparent of its first event."""
    seq: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself: it ended, and is not being taken back."""
        return self.phase == "over" and self.rollback != "running"

    @property
    def done(self) -> int:
        """How many steps or operations are behind it."""
        return self.completed + self.failed + self.skipped

    @property
    def outstanding(self) -> int:
        """How many run."""
        return len(self.batch.outstanding) if self.batch is not None else len(self.running)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps as they are defined."""
        return self.definition.steps


def graph(definition: Definition) -> Graph:
    """Work out who waits for whom."""
    index = {step.name: place for place, step in enumerate(definition.steps)}
    count = len(index)
    dependents: list[list[int]] = [[] for _ in range(count)]
    readers: list[list[int]] = [[] for _ in range(count)]
    needs: list[tuple[int, ...]] = []
    conditions: list[Condition | None] = []
    reads: list[bool] = []
    for place, step in enumerate(definition.steps):
        mine = tuple(dict.fromkeys(index[name] for name in step.needs if name in index))
        needs.append(mine)
        conditions.append(None if step.when is None else condition.parse(step.when))
        taken = {each.path[0] for each in _taken(step) if each.root == "steps" and each.path}
        reads.append(bool(taken))
        if (when := conditions[-1]) is not None:
            taken |= {each.path[0] for each in condition.asked(when) if each.root == "steps"}
        for other in mine:
            dependents[other].append(place)
        for other in {*mine, *(index[name] for name in taken if name in index)} - {place}:
            readers[other].append(place)
    return Graph(
        index=index,
        needs=tuple(needs),
        dependents=tuple(map(tuple, dependents)),
        readers=tuple(map(tuple, readers)),
        conditions=tuple(conditions),
        reads=tuple(reads),
    )


def _taken(step: Step) -> list[params.Reference]:
    if not params.refers((step.do, step.values)):
        return []
    places = [*params.places(step.do), *params.places(step.values)]
    return [each for place in places if "${" in place.text for each in params.references(place.text)]


# ---- what events change ----------------------------------------------------------------------------------


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    state = apply(msgspec.structs.replace(state, id=fact.entity, seq=fact.seq), fact.event)
    match fact.event:
        case Submitted():
            return msgspec.structs.replace(state, created_at=fact.time, trace=fact.envelope.trace)
        case Completed() | Failed() | Cancelled():
            return msgspec.structs.replace(state, completed_at=fact.time)
        case RerunRequested():
            return msgspec.structs.replace(state, completed_at=None)
        case _:
            return state


def apply(state: State, event: Event) -> State:
    """What an event changes, whoever says it and when."""
    change = msgspec.structs.replace
    match event:
        case Submitted():
            return _born(state, event)
        case _ if state.phase == "new":
            return state
        case StepsStarted():
            cells, running = dict(state.cells), dict(state.running)
            for each in event.steps:
                cells[each.step] = change(cells[each.step], status="running", run=each.run)
                running[each.step] = each.run
            started = {state.graph.index[each.step] for each in event.steps}
            ready = tuple(place for place in state.ready if place not in started)
            return change(state, cells=cells, running=running, ready=ready)
        case StepEnded():
            return _ended(state, event)
        case StepsSkipped():
            return _skipped(state, event)
        case Extended() | Sealed() | Advanced() if state.batch is not None:
            return _counted(change(state, batch=batch.apply(state.batch, event)))
        case Paused():
            return change(state, status="paused", pause=event)
        case Resumed():
            return change(state, status="running", pause=None)
        case CancelRequested():
            return change(state, cancel=event)
        case Completed() | Failed() | Cancelled():
            error = None if isinstance(event, Completed) else event.error
            skipped = state.skipped if state.batch is None else event.skipped
            return change(state, phase="over", status=event.name(), error=error, pause=None, skipped=skipped)
        case RerunRequested():
            return _again(state, event)
        case _:
            return _undoing(state, event)


def _born(state: State, event: Submitted) -> State:
    definition = event.definition
    state = msgspec.structs.replace(
        state, phase="active", status="running", submitted=event, definition=definition, total=event.total
    )
    if definition.strategy == "batch":
        return _counted(msgspec.structs.replace(state, batch=batch.born(event)))
    made = graph(definition)
    waiting = tuple(map(len, made.needs))
    return msgspec.structs.replace(
        state,
        graph=made,
        cells={step.name: Cell() for step in definition.steps},
        waiting=waiting,
        ready=tuple(place for place, count in enumerate(waiting) if not count),
        total=len(definition.steps),
    )


def _counted(state: State) -> State:
    many = state.batch
    if many is None:
        return state
    total = many.size if many.sealed else None
    return msgspec.structs.replace(state, total=total, completed=many.completed, failed=many.failures.size)


def _ended(state: State, event: StepEnded) -> State:
    change = msgspec.structs.replace
    result = Result(**{name: getattr(event, name) for name in Result.__struct_fields__})
    cell = change(
        state.cells[event.step], status=event.status, run=event.run, place=state.ends + 1, result=result
    )
    well = event.status == "completed"
    state = change(
        state,
        cells={**state.cells, event.step: cell},
        running={name: run for name, run in state.running.items() if name != event.step},
        ends=state.ends + 1,
        completed=state.completed + well,
        failed=state.failed + (not well),
    )
    return _freed(state, [state.graph.index[event.step]])


def _skipped(state: State, event: StepsSkipped) -> State:
    change = msgspec.structs.replace
    cells = dict(state.cells)
    for each in event.steps:
        cells[each.step] = change(cells[each.step], status="skipped", run=each.run, reason=each.reason)
    state = change(state, cells=cells, skipped=state.skipped + len(event.steps))
    return _freed(state, [state.graph.index[each.step] for each in event.steps])


def _freed(state: State, gone: list[int]) -> State:
    """Steps are behind it, so others may have everything that they need."""
    steps, dependents = state.definition.steps, state.graph.dependents
    waiting = list(state.waiting) if any(dependents[place] for place in gone) else None
    fresh: list[int] = []
    for place in gone:
        for other in dependents[place]:
            if waiting is not None:
                waiting[other] -= 1
                if not waiting[other]:
                    fresh.append(other)
    ready = {place for place in fresh if state.cells[steps[place].name].status == "pending"}
    ready.update(state.ready)
    ready.difference_update(gone)
    same = ready == set(state.ready)
    return msgspec.structs.replace(
        state,
        waiting=state.waiting if waiting is None else tuple(waiting),
        ready=state.ready if same else tuple(sorted(ready)),
    )


def _again(state: State, event: RerunRequested) -> State:
    change = msgspec.structs.replace
    state = change(
        state,
        phase="active",
        status="running",
        rollback="none",
        cancel=None,
        error=None,
        trouble=None,
        undoing=(),
        undo=None,
        skipped=0,
        reruns=state.reruns + 1,
    )
    if state.batch is not None:
        return _counted(change(state, batch=batch.apply(state.batch, event)))
    cells = dict(state.cells)
    for name in event.steps:
        cells[name] = Cell(run=cells[name].run + 1, tries=cells[name].tries)
    names = [step.name for step in state.steps]
    waiting = tuple(
        sum(cells[names[need]].status == "pending" for need in needs) for needs in state.graph.needs
    )
    ready = [at for at, name in enumerate(names) if not waiting[at] and cells[name].status == "pending"]
    statuses = [cell.status for cell in cells.values()]
    return change(
        state,
        cells=cells,
        waiting=waiting,
        ready=tuple(ready),
        completed=statuses.count("completed"),
        skipped=statuses.count("skipped"),
        failed=sum(statuses.count(each) for each in ("failed", "cancelled", "timed_out")),
    )


def _undoing(state: State, event: Event) -> State:
    change = msgspec.structs.replace
    match event:
        case RollbackStarted():
            return change(state, rollback="running", undoing=event.steps, trouble=None)
        case UndoStarted():
            state = change(state, undo=Launch(step=event.step, run=event.run))
            return _cell(state, event.step, tries=event.run)
        case StepUndone():
            state = change(state, undo=None, undoing=state.undoing[1:])
            if state.batch is not None:
                return change(state, batch=batch.undone(state.batch))
            return _cell(state, event.step, undone=True)
        case RolledBack():
            return change(state, rollback="done", undo=None)
        case RollbackFailed():
            return change(state, rollback="failed", undo=None, trouble=event)
        case _:
            return state


def _cell(state: State, name: str, **news: object) -> State:
    if state.batch is not None:
        return msgspec.structs.replace(state, batch=msgspec.structs.replace(state.batch, **news))
    cell = msgspec.structs.replace(state.cells[name], **news)
    return msgspec.structs.replace(state, cells={**state.cells, name: cell})
