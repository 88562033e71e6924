"""From what a playbook wants to run to what the log is asked, and from its end to a result."""

from typing import Any

import msgspec

from actors import languages
from actors.catalogue import Catalogue
from actors.starting import left
from events import codec, execution, plan, playbook, playing, spec, trace
from events.errors import Problem
from events.execution import EXECUTION
from events.journey import Going, State
from events.plan import PLAN
from events.playbook import PLAYBOOK
from events.played import Result
from events.ports import Ask, Decider, Snapshot

DECIDERS: dict[str, Decider[Any]] = {"execution": EXECUTION, "plan": PLAN, "playbook": PLAYBOOK}


def ask(
    state: State,
    going: Going,
    place: str,
    default_timeout_ms: int | None,
    now: int,
    by: str,
    catalogue: Catalogue,
) -> Ask:
    """What makes a step run; `Validation` when what it refers to is not there.

    It is the same whoever asks and how often, so it is stored once.  `place` is where it may leave something
    for its next attempt.
    """
    path = state.initialized.workspace_path if state.initialized else None
    wish, entity = playing.wish(state, going), playing.child_of(state, going) or ""
    taken_by = state.initialized.taken_by if state.initialized else ""
    match wish:
        case playing.Planned(definition=definition, params=params):
            command: Any = plan.Submit(
                definition=definition, params=params, digest=_digest(definition, params), taken_by=taken_by
            )
        case playing.Nested(definition=definition, params=params):
            initialized = playbook.Initialized(
                definition=definition,
                params=params,
                digest=_digest(definition, params),
                taken_by=taken_by,
                workspace_path=path if definition.workspace == state.definition.workspace else None,
                intent_instance_id=state.initialized.intent_instance_id if state.initialized else None,
                supports_resume=state.saves,
                parent=playbook.Parent(playbook_id=state.id, step=going.step, run=going.run),
            )
            papers = playing.papers(entity, definition.workspace, initialized.workspace_path)
            initialized = msgspec.structs.replace(initialized, **papers)
            command = playbook.Initialize(initialized=initialized, now_ms=now)
        case spec.Submit():
            command = _execution(state, going, wish, place, default_timeout_ms, now, catalogue)
    decider = DECIDERS[going.does]
    known, context = Snapshot(decider.initial), trace.under(state.trace, state.id)
    return Ask(decider, entity, command, by=by, trace=context, known=known, tag=state.id)


def _execution(
    state: State,
    going: Going,
    wish: spec.Submit,
    place: str,
    default_timeout_ms: int | None,
    now: int,
    catalogue: Catalogue,
) -> execution.Submit:
    made = msgspec.structs.replace(
        spec.check(wish),
        playbook_id=state.id,
        phase_id=state.phase_of(going.step).id,
        step=going.step,
        checkpoint=place,
        secrets=dict(sorted(wish.secrets.items())),
    )
    if made.language is not None:
        made = msgspec.structs.replace(made, language=languages.find(made.language).name)
    if made.timeout_ms is None:
        made = msgspec.structs.replace(made, timeout_ms=default_timeout_ms)
    due = spec.due(wish, now)
    return execution.Submit(
        spec=catalogue.known(made),
        digest=codec.digest([codec.encode(made)])[:32],
        taken_by=state.initialized.taken_by if state.initialized else "",
        until=None if due is None else codec.stamp(due),
    )


def stop(state: State, going: Going, now: int, by: str) -> Ask | None:
    """What stops the step that runs."""
    child, wanted = playing.child_of(state, going), state.cancel
    if child is None or wanted is None:
        return None
    why: dict[str, Any] = {"reason": wanted.reason, "grace_ms": wanted.grace_ms}
    match going.does:
        case "execution":
            command: Any = execution.Cancel(**why)
        case "plan":
            command = plan.Cancel(**why)
        case _:
            command = playbook.Cancel(**why, now_ms=now)
    return Ask(DECIDERS[going.does], child, command, by=by, tag=state.id)


def executed(going: Going, child: str, end: execution.Terminal) -> Result:
    """How a step ended, by the last fact of its execution."""
    return Result(step=going.step, run=going.run, **left(child, end))


def ended(going: Going, child: str, state: Any) -> Result | None:
    """How a step ended, by what it ran; None while that goes on."""
    match state:
        case execution.State(end=end) if end is not None:
            return executed(going, child, end)
        case plan.State(over=True):
            status, error, outputs = plan.result_of_plan(state)
            return Result(
                step=going.step, run=going.run, status=status, plan_id=child, error=error, outputs=outputs
            )
        case State(over=True):
            left = {name: cell.result.outputs for name, cell in state.cells.items() if cell.result}
            return Result(
                step=going.step,
                run=going.run,
                status=state.ending or "failed",
                playbook_id=child,
                error=state.error,
                outputs={name: outputs for name, outputs in left.items() if outputs},
                artifacts=_artifacts(state),
            )
        case _:
            return None


def _artifacts(state: State) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(each for cell in state.cells.values() if cell.result for each in cell.result.artifacts)
    )


def refused(going: Going, problem: Problem) -> Result:
    """A step that could not even be asked for."""
    return Result(step=going.step, run=going.run, status="failed", error=problem)


def _digest(definition: Any, params: dict[str, Any]) -> str:
    return codec.digest([codec.encode(definition), msgspec.json.encode(params, order="sorted")])[:32]
