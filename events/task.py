"""A task: phases that go from engine to engine, and what each of them left.

      new ---> active <---> paused
                 |
                 '---> over: done, failed or cancelled; a phase that failed can be given to another engine

What a phase is, and how its engine does it, is not known here: a phase is started, and some day somebody says
how it ended.  It never ends twice, and never runs in two engines at once: the one that has it lets go first.
"""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from events import ids, ir
from events.errors import AlreadyOver, Conflict, IdempotencyConflict, NotFound, Problem, Validation
from events.ir import PhaseIR, TaskIR
from events.message import Message
from events.params import near
from events.ports import Decider
from events.tasked import ENDS as ENDS
from events.tasked import EVENTS as EVENTS
from events.tasked import AnyCommand as AnyCommand
from events.tasked import AnyEvent as AnyEvent
from events.tasked import Cancel as Cancel
from events.tasked import Cancelled as Cancelled
from events.tasked import CancelRequested as CancelRequested
from events.tasked import Completed as Completed
from events.tasked import End as End
from events.tasked import Failed as Failed
from events.tasked import HandedOver as HandedOver
from events.tasked import Handoff as Handoff
from events.tasked import Hold as Hold
from events.tasked import Look as Look
from events.tasked import Paused as Paused
from events.tasked import PhaseEnded as PhaseEnded
from events.tasked import PhaseStarted as PhaseStarted
from events.tasked import Resume as Resume
from events.tasked import Resumed as Resumed
from events.tasked import Submit as Submit
from events.tasked import Submitted as Submitted

if TYPE_CHECKING:
    from events.codec import Fact


# ---- state -----------------------------------------------------------------------------------------------


class Going(Message):
    """The phase that an engine has."""

    phase_id: str
    engine: str
    run: int


class Handed(Message):
    """A handoff, and when it was."""

    handed: HandedOver
    time: str


class State(Message):
    """A task, as its events tell it."""

    id: str = ""
    phase: Literal["new", "active", "over"] = "new"
    task: TaskIR = TaskIR()
    """As it stands now."""
    digest: str = ""
    going: Going | None = None
    handing: HandedOver | None = None
    """To whom the phase goes once its engine lets go of it."""
    pause: Paused | None = None
    held: int = -1
    """Which pauses of the engine are known."""
    cancel: CancelRequested | None = None
    error: Problem | None = None
    engine: str = ""
    """Who had it last."""
    handoffs: tuple[Handed, ...] = ()
    completed_at: str | None = None
    seq: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.phase == "over"


def named(task_id: str) -> str:
    """The id of a task here: its own when that is one of ours, else one that belongs to it for good."""
    ours = task_id.startswith("task_") and ids.TOKEN.fullmatch(task_id)
    return task_id if ours else ids.derived("task", task_id)


def child(task: str, phase_id: str, run: int) -> str:
    """The key of the playbook by which a phase runs, always the same one: starting it twice makes one."""
    return f"{task}/{phase_id}/{run}"


def child_of(state: State) -> str | None:
    """The playbook by which the phase runs that an engine has."""
    going = state.going
    return going and ids.derived("playbook", child(state.id, going.phase_id, going.run))


# ---- the rules -------------------------------------------------------------------------------------------


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new", Submit(task=task, digest=digest):
            return _submit(task, digest)
        case "new", _:
            raise NotFound("Task not found")
        case _, Submit(digest=digest):
            if digest == state.digest:
                return ()
            raise IdempotencyConflict
        case _, Look():
            return ()
        case _, Handoff():
            return _handoff(state, command)
        case "over", End() | Hold() | Cancel():
            return ()
        case "over", _:
            raise AlreadyOver(f"the task is over ({state.task.status})")
        case _, End():
            return _end(state, command)
        case _, Hold(run=run, mark=mark, reason=reason, error=error):
            going = state.going
            if going is None or going.run != run or mark <= state.held or state.handing or state.cancel:
                return ()
            return (Paused(phase_id=going.phase_id, reason=reason, error=error, mark=mark),)
        case _, Resume():
            return () if state.pause is None else (Resumed(),)
        case _, Cancel(reason=reason):
            return () if state.cancel is not None else (CancelRequested(reason=reason),)
        case _:
            raise Conflict(f"a task that is {state.task.status} cannot do that")


def _submit(task: TaskIR, digest: str) -> tuple[AnyEvent, ...]:
    ir.check(task)
    submitted = Submitted(task=task, digest=digest)
    match task.status:
        case "failed":
            error = next((each.error for each in task.phases if each.error), None)
            problem = msgspec.convert(error, Problem) if error else Problem(code="failed", message="failed")
            return (submitted, Failed(error=problem))
        case "cancelled":
            return (submitted, Cancelled())
        case "done":
            return (submitted, Completed())
        case _:
            return (submitted, *_onward(task, "", 1))


def _onward(task: TaskIR, before: str, run: int | None = None) -> tuple[AnyEvent, ...]:
    """The next phase starts, or there is none; `before` is who had the task until now."""
    phase = task.next
    if phase is None:
        return (Completed(),)
    started = PhaseStarted(phase_id=phase.id, engine=phase.preferred_engine, run=run or phase.run + 1)
    if before in ("", phase.preferred_engine):
        return (started,)
    handed = HandedOver(
        phase_id=phase.id,
        from_engine=before,
        to_engine=phase.preferred_engine,
        reason="the next phase is for another engine",
        artifacts=tuple(each.id for each in task.artifacts),
    )
    return (handed, started)


def _handoff(state: State, command: Handoff) -> tuple[AnyEvent, ...]:
    task = state.task
    phase = task.phase(command.phase_id)
    if phase is None:
        meant = near(command.phase_id, [each.id for each in task.phases])
        raise Validation(f"unknown phase {command.phase_id!r}, {meant}", field="phase_id")
    if phase.status in ir.BEHIND:
        raise Conflict(f"phase {phase.id} is {phase.status}: only what is not behind it can be handed over")
    if state.over and phase.status != "failed":
        raise AlreadyOver(f"the task is over ({task.status})")
    if state.cancel is not None and not state.over:
        raise Conflict("the task is being cancelled")
    had = phase.preferred_engine
    same = command.phase is None or _said(command.phase) == _said(phase)
    if had == command.to_engine and same and not state.over:
        return ()
    handed = HandedOver(
        phase_id=phase.id,
        from_engine=had,
        to_engine=command.to_engine,
        reason=command.reason,
        artifacts=tuple(each.id for each in task.artifacts),
        phase=None if same else command.phase,
    )
    if state.over:
        return (handed, PhaseStarted(phase_id=phase.id, engine=command.to_engine, run=phase.run + 1))
    return (handed,) if state.pause is None else (handed, Resumed())


def _said(phase: PhaseIR) -> tuple[Any, ...]:
    """What an engine is told of a phase."""
    return (phase.work, phase.values, phase.keep, phase.there)


def _end(state: State, command: End) -> tuple[AnyEvent, ...]:
    """An engine lets go of a phase: it is done, it goes to another engine, or it is why all is over."""
    going, task = state.going, state.task
    if going is None or (going.phase_id, going.run) != (command.phase_id, command.run):
        return ()
    handing = state.handing if command.status != "done" and state.cancel is None else None
    known = {each.id for each in task.artifacts}
    ended = PhaseEnded(
        phase_id=going.phase_id,
        engine=going.engine,
        run=going.run,
        status=command.status if handing is None else "handed_over",
        outputs=command.outputs,
        artifacts=(*task.artifacts, *(each for each in command.left if each.id not in known)),
        left=tuple(each.id for each in command.left),
        summary=command.summary,
        error=command.error if handing is None else None,
        checkpoint_at=command.checkpoint_at,
    )
    if handing is not None:
        again = PhaseStarted(phase_id=going.phase_id, engine=handing.to_engine, run=going.run + 1)
        return (ended, again)
    if command.status == "done":
        after = _ended(task, ended, "")
        if state.cancel is not None and after.next is not None:
            return (ended, Cancelled(reason=state.cancel.reason))
        return (ended, *_onward(after, going.engine))
    if state.cancel is not None:
        return (ended, Cancelled(reason=state.cancel.reason))
    problem = command.error or Problem(code=command.status, message=command.status.replace("_", " "))
    said = f"phase {going.phase_id}: {problem.message}"
    return (ended, Failed(error=Problem(code=problem.code, message=said, details=problem.details)))


# ---- folding ---------------------------------------------------------------------------------------------


def evolve(state: State, fact: "Fact") -> State:
    """Fold one fact into the state."""
    change, event, time = msgspec.structs.replace, fact.event, fact.time
    state = change(state, id=fact.entity, seq=fact.seq)
    task = change(state.task, updated_at=time)
    match event:
        case Submitted(task=given, digest=digest):
            task = change(given, task_id=fact.entity, created_at=given.created_at or time, updated_at=time)
            return change(state, phase="active", task=task, digest=digest)
        case PhaseStarted(phase_id=name, engine=engine, run=run):
            mark = {"status": "running", "run": run, "started_at": time, "ended_at": None, "error": None}
            task = change(_marked(task, name, **mark), status="running", current_phase=name)
            going = Going(phase_id=name, engine=engine, run=run)
            news: dict[str, Any] = {"going": going, "handing": None, "pause": None, "held": -1}
            return change(
                state, phase="active", task=task, engine=engine, error=None, completed_at=None, **news
            )
        case PhaseEnded():
            return change(state, task=_ended(task, event, time), going=None, pause=None)
        case HandedOver(phase_id=name, to_engine=to):
            phase = task.phase(name)
            if phase is not None:
                said = event.phase or phase
                told = {"work": said.work, "values": said.values, "keep": said.keep, "there": said.there}
                task = _marked(task, name, preferred_engine=to, **told)
            goes = state.going is not None and state.going.phase_id == name
            handoffs = (*state.handoffs, Handed(handed=event, time=time))
            return change(state, task=task, handing=event if goes else state.handing, handoffs=handoffs)
        case Paused(mark=mark, phase_id=name):
            task = change(_marked(task, name, status="paused"), status="paused")
            return change(state, task=task, pause=event, held=mark)
        case Resumed():
            name = state.pause.phase_id if state.pause is not None else ""
            return change(
                state, task=change(_marked(task, name, status="running"), status="running"), pause=None
            )
        case CancelRequested():
            return change(state, task=task, cancel=event)
        case Completed():
            return _over(state, change(task, status="done", current_phase=None), time)
        case Failed(error=error):
            return change(_over(state, change(task, status="failed"), time), error=error)
        case Cancelled():
            return _over(state, change(task, status="cancelled"), time)
        case _:
            return state


def _over(state: State, task: TaskIR, time: str) -> State:
    return msgspec.structs.replace(
        state, phase="over", task=task, going=None, handing=None, pause=None, completed_at=time
    )


def _marked(task: TaskIR, name: str, **news: Any) -> TaskIR:
    phases = tuple(msgspec.structs.replace(each, **news) if each.id == name else each for each in task.phases)
    return msgspec.structs.replace(task, phases=phases)


def _ended(task: TaskIR, event: PhaseEnded, time: str) -> TaskIR:
    """The task with what a phase left; one that is handed over has not ended."""
    left: dict[str, Any] = {"artifacts": event.left}
    if event.status != "handed_over":
        error = msgspec.to_builtins(event.error) if event.error is not None else None
        left |= {"status": event.status, "outputs": event.outputs, "summary": event.summary}
        left |= {"error": error, "ended_at": time}
    task = _marked(task, event.phase_id, **left)
    return msgspec.structs.replace(
        task,
        artifacts=event.artifacts,
        last_checkpoint_at=event.checkpoint_at or task.last_checkpoint_at,
    )


TASK = Decider("task", State(), decide, evolve)
