"""Why a plan, its steps, or a schedule stands where it stands, and all that goes on now."""

from typing import Any

from events import estimate, plan, schedule
from events.asks.why import Background, Explained, Sentence
from events.errors import NotFound
from projections.story import Rows, Story, because, say, soon, who

# ---- plans and schedules ---------------------------------------------------------------------------------


def of_plan(rows: Rows, entity: str, now: int) -> Explained:  # noqa: ARG001 -- as of the others
    """Why a plan and each of its steps stands where it stands."""
    story = Story(rows, plan.PLAN, entity)
    state: plan.State = story.state
    if state.phase == "new":
        raise NotFound("Plan not found")
    said: list[Sentence] = []
    if (paused := story.last("paused")) is not None and state.pause is not None:
        text = f"It is paused{who(paused.envelope.by)}{because(state.pause.reason)}: nothing more is started."
        said.append(say(text, paused))
    if (stop := story.last("cancel_requested")) is not None and state.cancel is not None:
        text = f"It was asked to stop{who(stop.envelope.by)}{because(state.cancel.reason)}."
        said.append(say(text, stop))
    if state.phase == "over":
        end = story.last("completed", "failed", "cancelled")
        why = because(state.error.message) if state.error else ""
        text = f"It {'was ' if state.status == 'cancelled' else ''}{state.status}{why}."
        said.append(say(text, end))
    if state.rollback != "none":
        back = story.last("rollback_started", "rolled_back", "rollback_failed")
        words = {"running": "is being taken back", "done": "was taken back"}
        text = words.get(state.rollback, "could not be taken back")
        more = f": {state.trouble.step}: {state.trouble.error.message}" if state.trouble else ""
        said.append(say(f"It {text}{more}.", back))
    count = estimate.counted(state.done, state.total, "operations" if state.batch else "steps")
    said.append(say(f"{count} are behind it, {state.outstanding} run.", story.facts[-1]))
    for step in state.steps:
        said += _step(story, step.name)
    return Explained(id=entity, status=state.status, sentences=said)


def _step(story: Story, name: str) -> list[Sentence]:
    state: plan.State = story.state
    cell = state.cells[name]
    fact = next((each for each in reversed(story.facts) if _speaks(each.event, name)), story.facts[0])
    match cell.status:
        case "pending":
            needs = [
                state.steps[place].name
                for place in state.graph.needs[state.graph.index[name]]
                if state.cells[state.steps[place].name].status not in plan.OVER
            ]
            if needs:
                return [say(f"Step {name} waits for {', '.join(needs)}.", fact)]
            if state.phase == "over":
                return [say(f"Step {name} was not reached.", story.facts[-1])]
            if state.pause is not None:
                return [say(f"Step {name} waits until the plan is resumed.", story.last("paused"))]
            text = f"Step {name} waits for one of the {state.definition.limit} places of the plan."
            return [say(text, fact)]
        case "running":
            return [say(f"Step {name} runs.", fact)]
        case "completed":
            return []
        case "skipped":
            return [say(f"Step {name} was skipped: {cell.reason}.", fact)]
        case status:
            why = cell.result.error.message if cell.result and cell.result.error else status
            child = cell.result.execution_id or cell.result.plan_id if cell.result else None
            return [say(f"Step {name} {status.replace('_', ' ')}: {why} ({child}).", fact)]


def _speaks(event: Any, name: str) -> bool:
    match event:
        case plan.StepsStarted(steps=steps) | plan.StepsSkipped(steps=steps):
            return any(each.step == name for each in steps)
        case plan.StepEnded(step=step):
            return step == name
        case plan.RerunRequested(steps=names):
            return name in names
        case _:
            return False


def of_schedule(rows: Rows, entity: str, now: int) -> Explained:
    """Why a schedule ticks, or does not."""
    story = Story(rows, schedule.SCHEDULE, entity)
    state: schedule.State = story.state
    if state.phase == "new":
        raise NotFound("Schedule not found")
    said: list[Sentence] = []
    match state.status:
        case "active":
            coming = state.coming(1)[0]
            text = f"It ticks next at {coming}{soon(coming, now)}."
            said.append(say(text, story.last("created", "resumed", "ticked")))
        case "done":
            said.append(say("No tick is left.", story.last("created", "resumed", "ticked")))
        case status:
            fact = story.last("paused", "deleted")
            reason = getattr(fact.event, "reason", None) if fact else None
            text = f"It is {status}{who(fact.envelope.by if fact else '')}{because(reason)}."
            said.append(say(text, fact))
    for one in (state.last, state.passed):
        fact = next((each for each in reversed(story.facts) if each.event == one), None)
        if one is not None and one.child:
            said.append(say(f"The tick of {one.tick} submitted {one.child}.", fact))
        elif one is not None:
            said.append(say(f"The tick of {one.tick} was passed over: {one.skipped}.", fact))
    return Explained(id=entity, status=state.status, sentences=said)


# ---- all that goes on ------------------------------------------------------------------------------------


def background(rows: Rows) -> Background:
    """What goes on now: plans and batches, and executions that are no part of one."""
    running = rows(
        "SELECT plan_id, arg_max(description, created_at) AS task FROM executions"
        " WHERE status = 'running' AND plan_id IS NOT NULL GROUP BY plan_id"
    )
    tasks: dict[str, Any] = {row["plan_id"]: row["task"] for row in running}
    plans = rows(
        "SELECT id, name, description, strategy, job, status, total, completed, failed, skipped FROM plans"
        " WHERE status IN ('running', 'paused') AND parent IS NULL ORDER BY created_at DESC LIMIT 1000"
    )
    operations = [_plan(row, tasks.get(row["id"])) for row in plans]
    operations += map(
        _single,
        rows(
            "SELECT id, kind, module, command, description, progress, progress_message, status"
            " FROM executions WHERE status IN ('running', 'queued', 'scheduled') AND plan_id IS NULL"
            " ORDER BY created_at DESC LIMIT 1000"
        ),
    )
    count = len(operations)
    message = f"{count or 'No'} background operation{'s' if count != 1 else ''} in progress"
    return Background(message=message, operations=operations)


def _plan(row: dict[str, Any], task: str | None) -> dict[str, Any]:
    """A plan or a batch; of jobs it says whose and which they are."""
    batch = row["strategy"] == "batch"
    plugin, _, job = (row["job"] or "").rpartition(":")
    unit = estimate.words(row["description"])[1] if batch else "steps"
    done = row["completed"] + row["failed"] + row["skipped"]
    said = task or row["description"] or row["name"] or estimate.announced(None, row["total"])
    return {
        "batchId": row["id"],
        "type": job or ("batch" if batch else "plan"),
        "status": "paused" if row["status"] == "paused" else "processing",
        "plugin": plugin or "commands",
        "progress": estimate.counted(done, row["total"], unit),
        "currentTask": said,
    }


def _single(row: dict[str, Any]) -> dict[str, Any]:
    """An execution that is no part of a plan; a job says in its own words how far it is."""
    job = row["kind"] == "job"
    return {
        "jobId": row["id"],
        "type": row["command"].rpartition(":")[2] if job else row["kind"],
        "status": "processing" if row["status"] == "running" else row["status"],
        "plugin": row["module"],
        "progress": (row["progress_message"] if job else None) or row["progress"],
        "currentTask": row["description"] or row["command"],
    }
