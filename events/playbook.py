"""A playbook: a long chain of steps that is remembered step by step, and goes on from there.

      new ---> running <---> paused
                  |             |
                  '---> over <--'      over: completed, failed or cancelled; it can be resumed

After each step it waits until a checkpoint of it is stored, and only then goes on.  So what is behind it
never runs again, whatever dies, and it can go on from every checkpoint.  A step that fails leaves it paused.
"""

import msgspec

from events import ids, params, phases, playing
from events.clock import stamp
from events.errors import (
    AlreadyOver,
    Conflict,
    IdempotencyConflict,
    NotFound,
    NotOver,
    Problem,
    Validation,
)
from events.journey import Going as Going
from events.journey import State as State
from events.journey import apply, behind
from events.journey import evolve as evolve
from events.message import Event
from events.phases import Phase, Step
from events.played import EVENTS as EVENTS
from events.played import Advance as Advance
from events.played import Answer as Answer
from events.played import AnyCommand as AnyCommand
from events.played import AnyEvent as AnyEvent
from events.played import Cancel as Cancel
from events.played import Cancelled as Cancelled
from events.played import CancelRequested as CancelRequested
from events.played import CheckpointCreated as CheckpointCreated
from events.played import Completed as Completed
from events.played import Failed as Failed
from events.played import Fork as Fork
from events.played import Initialize as Initialize
from events.played import Initialized as Initialized
from events.played import InputAnswered as InputAnswered
from events.played import InputExpired as InputExpired
from events.played import InputReminded as InputReminded
from events.played import InputRequested as InputRequested
from events.played import Look as Look
from events.played import Mark as Mark
from events.played import Memory as Memory
from events.played import Parent as Parent
from events.played import Pause as Pause
from events.played import Paused as Paused
from events.played import PhaseEnded as PhaseEnded
from events.played import PhaseStarted as PhaseStarted
from events.played import PhaseSummary as PhaseSummary
from events.played import Result as Result
from events.played import Resume as Resume
from events.played import Resumed as Resumed
from events.played import Save as Save
from events.played import StepEnded as StepEnded
from events.played import StepSkipped as StepSkipped
from events.played import StepStarted as StepStarted
from events.played import Summarize as Summarize
from events.played import Tick as Tick
from events.playing import child_of as child_of
from events.ports import Decider

CANCELLED = "Playbook cancelled"


class _Telling:
    """Events as they are decided, and the state after each of them."""

    def __init__(self, state: State, now: int) -> None:
        self.state, self._time, self.now = state, stamp(now), now
        self.events: list[Event] = []

    def say(self, *events: Event) -> None:
        for event in events:
            self.events.append(event)
            self.state = apply(self.state, event, self._time)


def decide(state: State, command: AnyCommand) -> tuple[Event, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new", Initialize():
            return _initialize(state, command)
        case "new", _:
            raise NotFound("Playbook not found")
        case _, Initialize(initialized=initialized):
            if state.initialized is not None and initialized.digest == state.initialized.digest:
                return ()
            raise IdempotencyConflict
        case _, Look():
            return ()
        case _, Summarize():
            return _summarize(state, command)
        case _, Answer():
            return _answer(state, command)
        case _, Resume():
            return _resume(state, command)
        case "over", Cancel() | Tick() | Advance() | Save(
            checkpoint=CheckpointCreated(reason="step" | "timer")
        ):
            return ()
        case "over", Save():
            raise AlreadyOver(f"the playbook is over ({state.status}): its last checkpoint holds all of it")
        case "over", _:
            raise AlreadyOver(f"the playbook is over ({state.status}): resume it, or fork it")
        case _, Advance(ended=ended, now_ms=now):
            return _advance(state, ended, now)
        case _, Tick(now_ms=now):
            return _tick(state, now)
        case _, Save():
            return _save(state, command)
        case _, Pause(reason=reason):
            said = state.current
            return () if state.pause is not None else (Paused(reason=reason, checkpoint_id=said),)
        case _, Cancel(reason=reason, grace_ms=grace, now_ms=now):
            return _cancel(state, CancelRequested(reason=reason, grace_ms=grace), now)
        case _:
            raise Conflict(f"a playbook that is {state.status} cannot do that")


def _initialize(state: State, command: Initialize) -> tuple[Event, ...]:
    event = command.initialized
    given = params.resolve(event.definition.params, event.params)
    telling = _Telling(state, command.now_ms)
    telling.say(msgspec.structs.replace(event, params=given))
    if command.memory is not None:
        name = event.fork.checkpoint_id if event.fork is not None else None
        telling.say(_resumed(telling.state, name, command.memory))
    return _onward(telling)


# ---- going on --------------------------------------------------------------------------------------------


def _onward(telling: _Telling) -> tuple[Event, ...]:
    """Everything that follows by itself: the next step, until one runs or a checkpoint is due."""
    while (state := telling.state).phase == "active" and state.going is None:
        if state.cancel is not None:
            telling.say(Cancelled(error=_why(state.cancel)))
        elif state.pause is not None or state.dirty:
            break
        elif state.at >= state.total:
            telling.say(Completed())
        else:
            _next(telling)
    return tuple(telling.events)


def _next(telling: _Telling) -> None:
    state = telling.state
    phase, step = state.spot(state.at)
    if phase.id not in state.begun:
        telling.say(PhaseStarted(phase_id=phase.id))
    if not playing.holds(telling.state, step):
        telling.say(StepSkipped(phase_id=phase.id, step=step.name))
        _close(telling, phase)
        return
    until = _until(step, telling.now)
    run = telling.state.runs.get(step.name, 0) + 1
    telling.say(StepStarted(phase_id=phase.id, step=step.name, run=run, does=step.kind, until=until))
    if step.input is not None:
        asked = InputRequested(
            phase_id=phase.id,
            step=step.name,
            run=run,
            message=playing.message(telling.state, step),
            schema=step.input.schema,
            deadline=until,
        )
        telling.say(asked)


def _until(step: Step, now: int) -> str | None:
    text = step.sleep if step.input is None else step.input.deadline
    return None if text is None else stamp(now + phases.span(text))


def _close(telling: _Telling, phase: Phase) -> None:
    """A phase whose last step is behind it is over, and summed up."""
    state = telling.state
    if state.at < state.total and state.spot(state.at)[0].id == phase.id:
        return
    _end_phase(telling, phase, PhaseEnded(phase_id=phase.id, status="completed"))


def _end_phase(telling: _Telling, phase: Phase, ended: PhaseEnded) -> None:
    text, artifacts = playing.summary(telling.state, phase)
    intent = telling.state.initialized.intent_instance_id if telling.state.initialized else None
    summary = PhaseSummary(phase_id=phase.id, summary=text, artifacts=artifacts, intent_instance_id=intent)
    telling.say(ended, summary)


def _advance(state: State, ended: Result, now: int) -> tuple[Event, ...]:
    going = state.going
    if going is None or (going.step, going.run) != (ended.step, ended.run):
        return ()
    telling = _Telling(state, now)
    _end(telling, ended)
    return _onward(telling)


def _end(telling: _Telling, ended: Result) -> None:
    """A step is over: it is behind us, or it is why we stand."""
    state = telling.state
    phase = state.phase_of(ended.step)
    fields = {name: getattr(ended, name) for name in Result.__struct_fields__}
    at = state.at
    telling.say(StepEnded(phase_id=phase.id, **fields))
    if telling.state.at > at:
        _close(telling, phase)
        return
    if state.cancel is not None:
        return
    problem = ended.error or Problem(code="failed", message=f"step {ended.step} {ended.status}")
    error = Problem(
        code=problem.code, message=f"step {ended.step}: {problem.message}", details=problem.details
    )
    if state.definition.on_error == "fail":
        _end_phase(telling, phase, PhaseEnded(phase_id=phase.id, status="failed"))
        telling.say(Failed(error=error))
    elif state.pause is None:
        reason = f"step {ended.step} {ended.status.replace('_', ' ')}"
        telling.say(Paused(reason=reason, step=ended.step, error=error, checkpoint_id=state.current))


def _tick(state: State, now: int) -> tuple[Event, ...]:
    going, wake = state.going, state.wake
    if going is None or wake is None or now < wake:
        return ()
    telling = _Telling(state, now)
    result = Result(step=going.step, run=going.run, status="completed", duration_ms=now - going.began)
    if going.until is None or now < going.until:
        return (InputReminded(step=going.step, run=going.run, count=going.reminders + 1),)
    if going.does == "input":
        asked = state.step(going.step).input
        telling.say(InputExpired(step=going.step, run=going.run))
        if asked is not None and asked.default is not None:
            telling.say(
                InputAnswered(step=going.step, run=going.run, value=asked.default, answered_by="deadline")
            )
            result = msgspec.structs.replace(result, outputs={"answer": asked.default, "by": "deadline"})
        else:
            late = Problem(code="timeout", message="nobody answered in time")
            result = msgspec.structs.replace(result, status="timed_out", error=late)
    _end(telling, result)
    return _onward(telling)


def _answer(state: State, command: Answer) -> tuple[Event, ...]:
    going = state.going if state.phase == "active" else None
    if going is None or going.does != "input" or command.step not in (None, going.step):
        known = state.answers.get(command.step or _last_asked(state))
        if known is None:
            raise Conflict("nobody is asked anything now", playbook_id=state.id)
        if (known.value, known.answered_by) == (command.value, command.by):
            return ()
        raise Conflict(
            f"{known.step} was answered already, by {known.answered_by or 'somebody'}", step=known.step
        )
    telling = _Telling(state, command.now_ms)
    telling.say(InputAnswered(step=going.step, run=going.run, value=command.value, answered_by=command.by))
    outputs = {"answer": command.value, "by": command.by}
    result = Result(
        step=going.step,
        run=going.run,
        status="completed",
        outputs=outputs,
        duration_ms=max(0, command.now_ms - going.began),
    )
    _end(telling, result)
    return _onward(telling)


def _last_asked(state: State) -> str:
    return next(reversed(state.answers), "")


# ---- checkpoints -----------------------------------------------------------------------------------------


def _save(state: State, command: Save) -> tuple[Event, ...]:
    checkpoint = command.checkpoint
    if not state.saves:
        raise Conflict("no checkpoints are made of this run: supports_resume is false")
    if state.checkpoint(checkpoint.checkpoint_id) is not None:
        return ()
    if checkpoint.position != state.seq:
        if checkpoint.reason == "command":
            raise Conflict("it went on meanwhile: ask again")
        return ()
    telling = _Telling(state, command.now_ms)
    telling.say(checkpoint)
    return _onward(telling)


def _resume(state: State, command: Resume) -> tuple[Event, ...]:
    named = command.checkpoint_id
    if named is not None and state.checkpoint(named) is None:
        raise NotFound(f"Checkpoint not found: {named}", checkpoint_id=named)
    if not state.over and state.pause is None:
        if named is None:
            return ()
        raise NotOver(f"the playbook is {state.status}: pause it first")
    if state.going is not None and command.memory is not None:
        raise NotOver(f"step {state.going.step} still runs: wait for its end, or cancel the playbook")
    if state.ending == "completed" and command.memory is None:
        raise AlreadyOver("the playbook is completed: name a checkpoint to go on from, or fork it")
    telling = _Telling(state, command.now_ms)
    telling.say(_resumed(state, named or state.current, command.memory))
    return _onward(telling)


def _resumed(state: State, name: str | None, memory: Memory | None) -> Resumed:
    """It goes on, from where it stands or from what a checkpoint holds."""
    if memory is None:
        return Resumed(checkpoint_id=name)
    again = tuple(state.spot(place)[1].name for place in range(memory.at, state.total))
    over = behind(state, memory.at)
    marks = tuple(
        Mark(phase_id=phase.id, status="completed" if phase.id in over else "pending")
        for phase in state.definition.phases
    )
    return Resumed(checkpoint_id=name, memory=memory, again=again, phases=marks)


# ---- by hand ---------------------------------------------------------------------------------------------


def _summarize(state: State, command: Summarize) -> tuple[Event, ...]:
    known = [phase.id for phase in state.definition.phases]
    if command.phase_id not in known:
        raise Validation(
            f"unknown phase {command.phase_id!r}, {params.near(command.phase_id, known)}", field="phase_id"
        )
    if not command.summary.strip():
        raise Validation("summary is empty", field="summary")
    if len(command.summary.encode()) > playing.SUMMARY_MOST:
        raise Validation(f"summary is longer than {playing.SUMMARY_MOST} bytes", field="summary")
    said = state.summaries.get(command.phase_id)
    if said is not None and (said.summary, said.artifacts, said.by) == (
        command.summary,
        command.artifacts,
        command.by,
    ):
        return ()
    intent = state.initialized.intent_instance_id if state.initialized is not None else None
    return (
        PhaseSummary(
            phase_id=command.phase_id,
            summary=command.summary,
            artifacts=command.artifacts,
            intent_instance_id=intent,
            written_by=command.by or "author",
        ),
    )


def _cancel(state: State, wanted: CancelRequested, now: int) -> tuple[Event, ...]:
    if state.cancel is not None:
        return ()
    telling = _Telling(state, now)
    telling.say(wanted)
    going = telling.state.going
    if going is not None and going.does in ("sleep", "input"):
        ended = Result(step=going.step, run=going.run, status="cancelled", error=_why(wanted))
        _end(telling, ended)
    return _onward(telling)


def _why(wanted: CancelRequested) -> Problem:
    return Problem(code="cancelled", message=f"{CANCELLED}: {wanted.reason}" if wanted.reason else CANCELLED)


def due(state: State) -> bool:
    """Whether a checkpoint has to be stored before it goes on."""
    return state.phase == "active" and state.dirty


def checkpoint_id(state: State, reason: str) -> str:
    """The id of the checkpoint of this moment: who makes it twice makes one."""
    return ids.derived("checkpoint", f"{state.id}/{state.seq}/{reason}")


def latest(state: State, before: str | None = None) -> CheckpointCreated | None:
    """The last checkpoint, or the last one before another."""
    found: CheckpointCreated | None = None
    for each in state.checkpoints:
        if each.checkpoint_id == before:
            break
        found = each
    return found


PLAYBOOK = Decider("playbook", State(), decide, evolve)
