"""What follows in a plan from what happened: steps are passed over, steps start, the plan ends."""

from collections.abc import Iterable, Sequence

from events import batch, condition, course, rollback
from events.course import Cell, State
from events.errors import Problem, Validation
from events.launching import asked, wish
from events.planned import (
    Advanced,
    AnyEvent,
    Cancelled,
    Completed,
    Ended,
    Failed,
    Launch,
    Result,
    Skip,
    StepEnded,
    StepsSkipped,
    StepsStarted,
)

NAMED = 20
"""As many failed steps are named in the error of a plan."""


class Way:
    """What has been decided so far, and the plan as it is by then."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.facts: list[AnyEvent] = []

    def say(self, *events: AnyEvent) -> None:
        """Decide that something happens."""
        for event in events:
            self.facts.append(event)
            self.state = course.apply(self.state, event)


def on(state: State, event: AnyEvent) -> tuple[AnyEvent, ...]:
    """Say it, and all that follows from it."""
    way = Way(state)
    way.say(event)
    if way.state.batch is not None:
        _window(way, ())
    else:
        _forward(way, way.state.ready)
    return tuple(way.facts)


def advance(state: State, results: Sequence[Result]) -> tuple[AnyEvent, ...]:
    """Steps ended; of those that are not running, or ran before, nothing is said."""
    way = Way(state)
    if state.batch is not None:
        if news := batch.ended(state.batch, results):
            _window(way, news)
        return tuple(way.facts)
    fresh: list[int] = []
    for each in results:
        if way.state.running.get(each.step) == each.run:
            fields = {name: getattr(each, name) for name in Result.__struct_fields__}
            fresh += _end(way, StepEnded(**fields))
    if way.facts:
        _forward(way, fresh)
    return tuple(way.facts)


# ---- steps -----------------------------------------------------------------------------------------------


def _end(way: Way, event: StepEnded) -> list[int]:
    """A step is over; gives the steps that could start because of it."""
    way.say(event)
    definition, place = way.state.definition, way.state.graph.index[event.step]
    if event.status != "completed" and definition.stops and not definition.steps[place].allow_failure:
        _skip_all(way, "stopped")
    return _freed(way.state, place)


def _freed(state: State, place: int) -> list[int]:
    return [
        other
        for other in state.graph.dependents[place]
        if not state.waiting[other] and _cell(state, other).status == "pending"
    ]


def _cell(state: State, place: int) -> Cell:
    return state.cells[state.steps[place].name]


def _skip_all(way: Way, reason: str) -> None:
    cells = way.state.cells.items()
    skips = [Skip(step=name, run=cell.run, reason=reason) for name, cell in cells if cell.status == "pending"]
    if skips:
        way.say(StepsSkipped(steps=tuple(skips)))


def _forward(way: Way, fresh: Iterable[int]) -> None:
    """Skip what is to be skipped, start what can start, and end when nothing is left."""
    serial = way.state.definition.strategy == "serial"
    if way.state.cancel is not None:
        _skip_all(way, "cancelled")
    elif not serial:
        _judge(way, fresh)
    while _may_start(way.state):
        # In a row a condition is looked at when its turn has come: then all that it asks for is known.
        if serial and not _judge(way, way.state.ready[:1]):
            continue
        starts, unfit = _picked(way.state)
        if not unfit:
            way.say(StepsStarted(steps=starts))
            break
        freed: list[int] = []
        for launch, error in unfit:
            if way.state.cells[launch.step].status == "pending":
                freed += _end(
                    way, StepEnded(step=launch.step, run=launch.run, status="failed", error=error.problem)
                )
        _judge(way, freed)
    if not way.state.running and not way.state.ready:
        _finish(way)


def _may_start(state: State) -> bool:
    free = len(state.running) < state.definition.limit
    return free and bool(state.ready) and state.pause is None and state.cancel is None


def _judge(way: Way, fresh: Iterable[int]) -> list[int]:
    """Pass over those of the steps that are not to run, and what is not to run because of them."""
    row, kept, skips = list(dict.fromkeys(fresh)), list[int](), list[Skip]()
    state = way.state
    for place in row:
        if _cell(state, place).status != "pending":
            continue
        if (reason := _reason(state, place)) is None:
            kept.append(place)
            continue
        skip = Skip(step=state.steps[place].name, run=_cell(state, place).run, reason=reason)
        skips.append(skip)
        state = course.apply(state, StepsSkipped(steps=(skip,)))
        row += _freed(state, place)
    if skips:
        way.say(StepsSkipped(steps=tuple(skips)))
    return kept


def _reason(state: State, place: int) -> str | None:
    """Why a step whose needs are all over is not to run."""
    when = state.graph.conditions[place]
    known = set[str]()
    if when is not None:
        known = {each.path[0] for each in condition.asked(when) if each.root == "steps"}
    for need in state.graph.needs[place]:
        other, status = state.steps[need], _cell(state, need).status
        well = status == "completed" or (other.allow_failure and status != "skipped")
        if not well and other.name not in known:
            return f"needs {other.name}"
    if when is not None and not condition.holds(when, lambda reference: asked(state, reference)):
        return "when"
    return None


def _picked(state: State) -> tuple[tuple[Launch, ...], list[tuple[Launch, Validation]]]:
    """As many of those that are ready as may start, and those of them that cannot be formed."""
    room = state.definition.limit - len(state.running)
    starts, unfit = list[Launch](), list[tuple[Launch, Validation]]()
    for place in state.ready[:room]:
        launch = Launch(step=state.steps[place].name, run=_cell(state, place).run)
        try:
            if state.graph.reads[place]:
                wish(state, launch)
            starts.append(launch)
        except Validation as error:
            unfit.append((launch, error))
    return tuple(starts), unfit


# ---- operations of a batch -------------------------------------------------------------------------------


def _window(way: Way, news: tuple[tuple[int, Ended], ...]) -> None:
    """Let the window move on: operations ended, so others start."""
    state, many = way.state, way.state.batch
    assert many is not None  # noqa: S101  only a batch has a window
    failed = many.failures.size + sum(status != "completed" for _, status in news)
    stopped = state.cancel is not None or (failed > 0 and state.definition.stops)
    room = state.definition.limit - (len(many.outstanding) - len(news))
    count = 0 if stopped or state.pause is not None else max(0, min(room, many.row - many.cursor))
    if news or count:
        way.say(Advanced(ended=news, first=many.cursor if count else 0, count=count))
    many = way.state.batch or many
    if not many.outstanding and (stopped or (many.sealed and many.cursor == many.row)):
        _finish(way)


# ---- the end ---------------------------------------------------------------------------------------------


def _finish(way: Way) -> None:
    """Nothing runs and nothing can start: this is how it ended, and what is taken back because of that."""
    state = way.state
    many, definition = state.batch, state.definition
    skipped = state.skipped if many is None else many.row - many.cursor
    counts = {"completed": state.completed, "failed": state.failed, "skipped": skipped}
    bad = _bad(state)
    if state.cancel is not None:
        text = "Plan cancelled" + (f": {state.cancel.reason}" if state.cancel.reason else "")
        way.say(Cancelled(error=Problem(code="cancelled", message=text), **counts))
        if state.cancel.rollback:
            way.say(*rollback.begin(way.state, state.cancel.reason))
    elif bad is not None:
        way.say(Failed(error=bad, **counts))
        if definition.on_failure == "rollback":
            way.say(*rollback.begin(way.state, "failed"))
    else:
        way.say(Completed(**counts))


def _bad(state: State) -> Problem | None:
    """Why the plan failed, when it did."""
    if (many := state.batch) is not None:
        if not many.failures.size or not (
            state.definition.stops or state.definition.on_failure == "rollback"
        ):
            return None
        first = many.failures.pages[0][:NAMED]
        text = f"{many.failures.size} of {many.size} operations failed"
        return Problem(code="command_failed", message=text, details={"operations": list(first)})
    bad = [
        (cell.place, step.name, cell.result)
        for step in state.steps
        for cell in (state.cells[step.name],)
        if cell.status in ("failed", "cancelled", "timed_out") and not step.allow_failure
    ]
    if not bad:
        return None
    bad.sort(key=lambda each: each[0])
    _, name, result = bad[0]
    why = result.error if result is not None else None
    text = f"Step {name} failed" + (f": {why.message}" if why is not None else "")
    if len(bad) > 1:
        text += f" (and {len(bad) - 1} more)"
    names = [each[1] for each in bad[:NAMED]]
    return Problem(
        code=why.code if why is not None else "command_failed", message=text, details={"steps": names}
    )
