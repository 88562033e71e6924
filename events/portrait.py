"""Playbooks as the doors show them."""

from typing import Any

import msgspec

from events import playing
from events.asks import playbook as asks
from events.clock import millis, stamp
from events.errors import Problem
from events.journey import State
from events.phases import Step
from events.picture import text
from events.played import CheckpointCreated


def playbook(state: State, seq: int, now: int) -> asks.Playbook:
    """All of it."""
    known = state.initialized
    assert known is not None  # noqa: S101  what was found was started
    place = here(state)
    created = state.created_at or stamp(now)
    ended = now if state.completed_at is None else millis(state.completed_at)
    return asks.Playbook(
        id=state.id,
        name=state.definition.name,
        version=state.definition.version,
        description=state.definition.description,
        status=state.status,
        workspace_id=state.definition.workspace,
        phase=place[0],
        step=place[1],
        completed=state.at,
        total=state.total,
        params=known.params,
        phases=[_phase(state, each.id, each.name) for each in state.definition.phases],
        steps=[_stage(state, step) for phase in state.definition.phases for step in phase.steps],
        asked=asked(state),
        pause=None
        if state.pause is None
        else {
            "reason": state.pause.reason,
            "step": state.pause.step,
            "error": problem(state.pause.error),
            "checkpoint_id": state.current,
        },
        error=problem(state.error),
        last_checkpoint=checkpoint(state.checkpoints[-1]) if state.checkpoints else None,
        checkpoints=len(state.checkpoints),
        supports_resume=known.supports_resume,
        intent_instance_id=known.intent_instance_id,
        parent=None if known.parent is None else msgspec.to_builtins(known.parent),
        fork=None if known.fork is None else msgspec.to_builtins(known.fork),
        progress_log_path=known.progress_log_path or None,
        feature_list_path=known.feature_list_path or None,
        created_at=state.created_at,
        updated_at=state.updated_at,
        completed_at=state.completed_at,
        elapsed_seconds=max(0, ended - millis(created)) / 1000,
        seq=seq,
    )


def here(state: State) -> tuple[str | None, str | None]:
    """The phase and the step that it is at; the last ones when it is through."""
    if not state.total:
        return None, None
    phase, step = state.spot(min(state.at, state.total - 1))
    return phase.id, None if state.at >= state.total else step.name


def asked(state: State) -> asks.Asked | None:
    """The question that waits."""
    going = state.going
    if going is None or going.asked is None:
        return None
    question = going.asked
    return asks.Asked(
        step=going.step,
        message=question.message,
        schema=question.schema,
        asked_at=stamp(going.began),
        deadline=question.deadline,
        reminders=going.reminders,
    )


def problem(error: Problem | None) -> dict[str, Any] | None:
    """An error as it travels."""
    return None if error is None else msgspec.to_builtins(error)


def checkpoint(event: CheckpointCreated) -> dict[str, Any]:
    """A checkpoint as the doors show it."""
    fields: dict[str, Any] = msgspec.structs.asdict(event)
    return fields


def command(step: Step) -> str:
    """What a step does, as a person would write it; references stand as they are."""
    match step.kind:
        case _ if step.mcp is not None:
            return f"mcp {step.mcp.server}/{step.mcp.tool}"
        case "plan" if step.plan is not None:
            return f"plan {step.plan.name}".strip()
        case "playbook" if step.playbook is not None:
            return f"playbook {step.playbook.name}".strip()
        case "sleep":
            return f"sleep {step.sleep}"
        case "input" if step.input is not None:
            return f"ask: {step.input.message}"
        case _:
            return "" if step.do is None else text(step.do)


def _phase(state: State, name: str, title: str) -> dict[str, Any]:
    said = state.summaries.get(name)
    status = state.ended.get(name) or ("running" if name in state.begun else "pending")
    return {
        "id": name,
        "name": title,
        "status": status,
        "summary": None if said is None else said.summary,
        "artifacts": [] if said is None else list(said.artifacts),
    }


def _stage(state: State, step: Step) -> asks.Stage:
    cell = state.cells[step.name]
    result, going = cell.result, state.going
    runs = going is not None and going.step == step.name
    child = (
        playing.child(state.id, step.name, cell.run, step.kind)
        if runs and step.kind in playing.KINDS
        else None
    )
    return asks.Stage(
        phase_id=cell.phase_id,
        name=step.name,
        does=step.kind,
        status=cell.status,
        run=cell.run,
        command=command(step),
        execution_id=(result.execution_id if result else None)
        or (child if step.kind == "execution" else None),
        plan_id=(result.plan_id if result else None) or (child if step.kind == "plan" else None),
        playbook_id=(result.playbook_id if result else None) or (child if step.kind == "playbook" else None),
        exit_code=result.exit_code if result else None,
        error=problem(result.error) if result else None,
        outputs=result.outputs if result else {},
        artifacts=list(result.artifacts) if result else [],
        reason=cell.reason or None,
        until=stamp(going.until) if runs and going is not None and going.until is not None else None,
        started_at=cell.started_at,
        ended_at=cell.ended_at,
        duration_ms=result.duration_ms if result else None,
    )
