"""Why a playbook stands where it stands."""

from events import estimate, playbook
from events.asks.why import Explained, Sentence
from events.errors import NotFound
from projections.story import Rows, Story, because, say, soon, who


def of_playbook(rows: Rows, entity: str, now: int) -> Explained:
    """Why a playbook waits, runs, is paused, or ended as it did."""
    story = Story(rows, playbook.PLAYBOOK, entity)
    state: playbook.State = story.state
    if state.phase == "new":
        raise NotFound("Playbook not found")
    said: list[Sentence] = []
    known = state.initialized
    if known is not None and known.fork is not None:
        text = f"It branched off from {known.fork.playbook_id} at {known.fork.checkpoint_id}."
        said.append(say(text, story.facts[0]))
    if (paused := story.last("paused")) is not None and state.pause is not None:
        error = state.pause.error
        why = because(error.message if error is not None else state.pause.reason)
        by = "" if state.pause.step is not None else who(paused.envelope.by)
        said.append(say(f"It is paused{by}{why}: resume it, and it goes on from there.", paused))
    if (stop := story.last("cancel_requested")) is not None and state.cancel is not None:
        said.append(say(f"It was asked to stop{who(stop.envelope.by)}{because(state.cancel.reason)}.", stop))
    said += _going(story, now)
    if state.over:
        end = story.last("completed", "failed", "cancelled")
        why = because(state.error.message) if state.error is not None else ""
        said.append(say(f"It {'was ' if state.status == 'cancelled' else ''}{state.status}{why}.", end))
    count = estimate.counted(state.at, state.total, "steps")
    saved = story.last("checkpoint_created")
    text = f"{count} are behind it"
    said.append(say(f"{text}, and its last checkpoint is {state.current}." if saved else f"{text}.", saved))
    if known is not None and known.parent is not None:
        text = f"It is step {known.parent.step} of {known.parent.playbook_id}."
        said.append(say(text, story.facts[0]))
    return Explained(id=entity, status=state.status, sentences=said)


def _going(story: Story, now: int) -> list[Sentence]:
    """What runs, or for what it waits."""
    state: playbook.State = story.state
    going = state.going
    if going is None:
        if playbook.due(state):
            return [say("A checkpoint is just being stored before it goes on.", story.facts[-1])]
        return []
    began = next(
        fact
        for fact in reversed(story.facts)
        if isinstance(fact.event, playbook.StepStarted) and fact.event.step == going.step
    )
    until = began.event.until if isinstance(began.event, playbook.StepStarted) else None
    match going.does:
        case "sleep":
            return [say(f"Step {going.step} sleeps until {until}{soon(until, now)}.", began)]
        case "input":
            asked = f"Step {going.step} waits for an answer: {going.asked.message}" if going.asked else ""
            late = f" It has to come until {until}{soon(until, now)}." if until else ""
            return [say(f"{asked}{late}", began)]
        case _:
            child = playbook.child_of(state, going)
            run = f", run {going.run}" if going.run > 1 else ""
            return [say(f"Step {going.step}{run} runs {child}.", began)]
