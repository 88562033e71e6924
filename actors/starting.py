"""From what the rules of a plan say shall run to what the log is asked, and from its end to a result."""

from typing import Any

import msgspec

from actors import languages
from actors.catalogue import Catalogue
from events import codec, execution, ids, plan, spec, trace
from events.errors import Problem
from events.execution import EXECUTION
from events.launching import UNDO
from events.message import Event
from events.plan import PLAN
from events.planned import Ended, Launch, Parent, Result
from events.ports import Ask, Snapshot
from events.steps import Definition

_STATUS: dict[type[Event], Ended] = {
    execution.Completed: "completed",
    execution.Failed: "failed",
    execution.Cancelled: "cancelled",
    execution.TimedOut: "timed_out",
}


def ask(
    state: plan.State,
    launch: Launch,
    default_timeout_ms: int | None,
    now: int,
    by: str,
    catalogue: Catalogue,
) -> Ask:
    """What makes a step run; `Validation` when what it refers to is not there.

    It is the same whoever asks and how often, so it is stored once.
    """
    wish, child = plan.wish(state, launch), plan.child_of(state, launch)
    context = trace.under(state.trace, state.id)
    entity, taken_by = state.id, state.submitted.taken_by if state.submitted else ""
    if isinstance(wish, plan.Takeback):
        command = plan.Rollback(reason=f"a step of {entity} is taken back")
        return Ask(PLAN, child, command, by=by, tag=launch)
    if isinstance(wish, plan.Nested):
        nested = plan.Submit(
            definition=wish.definition,
            params=wish.params,
            digest=_digest(wish.definition, wish.params),
            taken_by=taken_by,
            parent=Parent(plan_id=entity, step=launch.step, run=launch.run),
        )
        return Ask(PLAN, child, nested, by=by, trace=context, known=Snapshot(PLAN.initial), tag=launch)
    made = msgspec.structs.replace(
        spec.check(wish), plan_id=entity, step=launch.step, secrets=dict(sorted(wish.secrets.items()))
    )
    if made.language is not None:
        made = msgspec.structs.replace(made, language=languages.find(made.language).name)
    if made.timeout_ms is None:
        made = msgspec.structs.replace(made, timeout_ms=default_timeout_ms)
    due = spec.due(wish, now)
    command = execution.Submit(
        spec=catalogue.known(made),
        digest=codec.digest([codec.encode(made)])[:32],
        taken_by=taken_by,
        until=None if due is None else codec.stamp(due),
    )
    known = Snapshot(EXECUTION.initial)
    return Ask(EXECUTION, child, command, by=by, trace=context, known=known, tag=launch)


def said(ask: Ask) -> str:
    """What is asked for as a person would write it."""
    match ask.command:
        case execution.Submit(spec=made):
            return made.text
        case plan.Submit(definition=definition):
            return f"plan {definition.name}".strip()
        case _:
            return f"take back {ask.entity}"


def purpose(ask: Ask) -> str | None:
    """What is asked for as its submitter described it."""
    return ask.command.spec.description if isinstance(ask.command, execution.Submit) else None


def stop(state: plan.State, child: str, launch: Launch, by: str) -> Ask:
    """What stops a child."""
    reason = state.cancel.reason if state.cancel else None
    grace = state.cancel.grace_ms if state.cancel else None
    if child.startswith(ids.PREFIXES["plan"]):
        return Ask(PLAN, child, plan.Cancel(reason=reason, grace_ms=grace), by=by, tag=launch)
    return Ask(EXECUTION, child, execution.Cancel(reason=reason, grace_ms=grace), by=by, tag=launch)


def ended(launch: Launch, child: str, end: execution.Terminal) -> Result:
    """How a step ended, by the last fact of its execution."""
    return Result(step=launch.step, run=launch.run, **left(child, end))


def left(child: str, end: execution.Terminal) -> dict[str, Any]:
    """What a result says of an execution."""
    value = end.end.value
    return {
        "status": _STATUS[type(end)],
        "execution_id": child,
        "exit_code": end.end.exit_code,
        "error": getattr(end, "error", None),
        # What a job returned, if that has names by which later steps can ask for it.
        "outputs": end.end.outputs or (value if isinstance(value, dict) else {}),
        "duration_ms": end.end.duration_ms,
    }


def refused(launch: Launch, problem: Problem) -> Result:
    """A step that could not even be asked for."""
    return Result(step=launch.step, run=launch.run, status="failed", error=problem)


def nested(launch: Launch, child: str, state: plan.State) -> Result | None:
    """How a step that is a plan ended, or what takes it back; None while that goes on."""
    if launch.step.endswith(UNDO):
        if state.rollback not in ("done", "failed"):
            return None
        status: Ended = "completed" if state.rollback == "done" else "failed"
        return Result(step=launch.step, run=launch.run, status=status, plan_id=child)
    if not state.over:
        return None
    status, error, outputs = plan.result_of_plan(state)
    return Result(
        step=launch.step, run=launch.run, status=status, plan_id=child, error=error, outputs=outputs
    )


def _digest(definition: Definition, params: dict[str, Any]) -> str:
    return codec.digest([codec.encode(definition), msgspec.json.encode(params, order="sorted")])[:32]
