# ruff: noqa: S608 -- SQL is made of our own declarations here; what users give travels as parameters
"""Why something stands where it stands: sentences, each with the fact it rests on.

What has happened is folded by the rules themselves, from the events in the tables; what is around it (who is
ahead, who holds a place, which nodes there are) is asked of the tables.  Nothing is looked at but the log.
"""

from collections.abc import Sequence
from typing import Any

from events import codec, estimate, execution, limit, module
from events.asks.why import Explained, Sentence
from events.errors import NotFound
from events.spec import PRIORITIES
from projections.story import Rows, Story, because, say, soon, who
from projections.whybook import of_playbook
from projections.whyplan import of_plan, of_schedule

# ---- executions ------------------------------------------------------------------------------------------


def of_execution(rows: Rows, entity: str, now: int) -> Explained:
    """Why an execution waits, runs, or ended as it did."""
    story = Story(rows, execution.EXECUTION, entity)
    state: execution.State = story.state
    match state.phase:
        case "new":
            raise NotFound("Execution not found")
        case "held":
            said = [*_tried(story), *_held(rows, story, now)]
        case "queued":
            said = [*_tried(story), *_queued(rows, story)]
        case "running":
            said = [*_tried(story), *_running(rows, story, now)]
        case "over":
            said = [*_tried(story), *_ended(story)]
    return Explained(id=entity, status=state.status, sentences=said)


def _tried(story: Story) -> list[Sentence]:
    """What became of earlier attempts, and whether it repeats another execution."""
    said: list[Sentence] = []
    state: execution.State = story.state
    if state.retry_of:
        said.append(say(f"It repeats {state.retry_of}.", story.facts[0]))
    most = state.spec.retries.max if state.spec.retries else 0
    for fact in story.facts:
        match fact.event:
            case execution.AttemptFailed(attempt=n, error=error):
                said.append(say(f"Attempt {n} failed ({error.message}); {most} may follow the first.", fact))
            case execution.AttemptLost(attempt=n, reason=reason):
                said.append(say(f"Attempt {n} was lost: {reason}.", fact))
            case execution.Prioritized(priority=priority, reason=reason):
                said.append(say(f"Its priority was changed to {priority}{because(reason)}.", fact))
            case _:
                pass
    return said


def _held(rows: Rows, story: Story, now: int) -> list[Sentence]:
    state: execution.State = story.state
    fact, wait = story.last("held"), state.held
    if wait is None:
        return []
    match wait.reason:
        case "time":
            return [say(f"It is scheduled: it starts at {wait.until}{soon(wait.until, now)}.", fact)]
        case "backoff":
            text = f"It pauses after attempt {state.attempt}: the next one may start at {wait.until}"
            return [say(f"{text}{soon(wait.until, now)}.", fact)]
        case "idle":
            busy = rows(
                "SELECT count(*) AS n, max(seq) AS seq FROM executions"
                " WHERE status IN ('running', 'queued') AND priority <> 'idle'"
            )[0]
            said = [say("Its priority is idle: it waits until nothing else is active.", fact)]
            if busy["n"]:
                said.append(say(f"{busy['n']} others run or wait now.", busy["seq"]))
            return said
        case "limit":
            return [say(f"It waits for a place: {wait.by}.", fact), *_places(rows, story, now)]
        case reason:
            return [say(f"It waits for {reason}.", fact)]


def _places(rows: Rows, story: Story, now: int) -> list[Sentence]:
    """Which limits there are on its way, and who is at them."""
    state: execution.State = story.state
    said: list[Sentence] = []
    firsts = [("module", state.spec.module)]
    if state.spec.concurrency_key:
        firsts.append(("key", state.spec.concurrency_key))
    for on, target in firsts:
        page = rows(
            "SELECT entity FROM events WHERE kind = 'limit'"
            " AND (entity = ?1 OR starts_with(entity, ?1 || '--')) ORDER BY seq DESC LIMIT 1",
            limit.base(on, target),  # type: ignore[arg-type] -- one of the two literals above
        )
        if page:
            said += _limited(f"{on} {target}", Story(rows, limit.LIMIT, page[0]["entity"]), story, now)
    return said


def _limited(name: str, page: Story, story: Story, now: int) -> list[Sentence]:
    state: limit.State = page.state
    if not state.force:
        return []
    fact = page.last("set", "opened")
    said: list[Sentence] = []
    if state.max == 0:
        said.append(say(f"The {name} is paused: its limit is 0.", fact))
    elif state.max is not None:
        said.append(
            say(f"The limit of {name} is {state.max} at once, and {len(state.holders)} hold it.", fact)
        )
        others = [(holder, seq) for holder, seq in state.holders.items() if holder != story.entity]
        said += [say(f"{holder} holds a place of it.", seq) for holder, seq in others[:5]]
    if state.rate is not None:
        begun = sum(count for until, count in state.recent if until > now)
        per = estimate.duration(state.rate.per_ms)
        text = f"The rate of {name} is {state.rate.count} in {per}, and {begun} of them are used"
        full = begun >= state.rate.count
        more = f": the next may begin at {codec.stamp(state.relief)}" if full else ""
        said.append(say(f"{text}{more}.", page.last("granted", "set", "opened") if full else fact))
    return said


def _queued(rows: Rows, story: Story) -> list[Sentence]:
    """Who could take it, and who is ahead."""
    state: execution.State = story.state
    fact = story.last("queued")
    said = [say(f"It waits for its turn among those of priority {state.priority}.", fact)]
    event = fact.event if fact else None
    if isinstance(event, execution.Queued) and event.reason:
        said[0] = say(f"It was queued again: {event.reason}.", fact)
    if (stands := _stands(rows, state.spec.module)) is not None:
        return [*said, stands]
    nodes = rows("SELECT id, seq, cores, status, started_at, roles, languages FROM nodes ORDER BY id")
    last = max((each["seq"] for each in nodes), default=None)
    able = [each for each in nodes if each["status"] == "up" and _works(each["roles"])]
    if not able:
        return [*said, say("No node is up that could run it.", last)]
    if (language := state.spec.language) is not None:
        able = [each for each in able if not each["languages"] or language in each["languages"]]
        if not able:
            return [*said, say(f"No node that is up can run {language}.", last)]
    order = " ".join(f"WHEN '{name}' THEN {place}" for place, name in enumerate(PRIORITIES))
    ahead = rows(
        f"SELECT count(*) AS n, max(seq) AS seq FROM executions WHERE status = 'queued' AND held IS NULL"
        f" AND module = ? AND (CASE priority {order} END, queued_at, seq) <"
        f" (SELECT (CASE priority {order} END, queued_at, seq) FROM executions WHERE id = ?)",
        state.spec.module,
        story.entity,
    )[0]
    if ahead["n"]:
        said.append(say(f"{ahead['n']} more urgent or earlier ones are ahead of it.", ahead["seq"]))
    said += [_busy(rows, each) for each in able[:5]]
    return [*said, *_places(rows, story, 0)]


def _stands(rows: Rows, name: str) -> Sentence | None:
    """Why its module takes nothing; None while it does."""
    page = Story(rows, module.MODULE, name)
    state: module.State = page.state
    if state.status == "paused" and (fact := page.last("paused")) is not None:
        return say(f"The module {name} is paused{who(fact.envelope.by)}{because(state.reason)}.", fact)
    if state.status == "error":
        return say(f"The module {name} is in error: {state.reason}.", page.last("broken"))
    if state.status == "stopped":
        return say(f"The module {name} is stopped{because(state.reason)}.", page.last("stopped"))
    return None


def _works(roles: Sequence[str] | None) -> bool:
    return not roles or "all" in roles or any(role in roles for role in ("executor", "worker", "workers"))


def _busy(rows: Rows, node: dict[str, Any]) -> Sentence:
    at = rows(
        "SELECT count(*) AS n, max(seq) AS seq FROM executions WHERE status = 'running' AND node = ?",
        node["id"],
    )[0]
    most = rows("SELECT max, seq FROM limits WHERE active AND scope = 'node' AND target = ?", node["id"])
    if most and most[0]["max"] is not None:
        full = "is full: it " if at["n"] >= most[0]["max"] else ""
        return say(f"{node['id']} {full}runs {at['n']} of {most[0]['max']}.", at["seq"] or most[0]["seq"])
    slots = 4 * (node["cores"] or 1)
    full = "is full: it " if at["n"] >= slots else ""
    text = f"{node['id']} {full}runs {at['n']} (it takes {slots} unless its settings say otherwise)."
    return say(text, at["seq"] or node["seq"])


def _running(rows: Rows, story: Story, now: int) -> list[Sentence]:
    state: execution.State = story.state
    fact = story.last("started")
    since = codec.millis(state.started_at) if state.started_at else now
    node = state.started.node if state.started else "a node"
    said = [say(f"It runs on {node} since {state.started_at}, for {estimate.duration(now - since)}.", fact)]
    before = rows(
        "SELECT count(*) AS n, quantile_cont(duration_ms, 0.5) AS middle, max(duration_ms) AS most,"
        " max(seq) AS seq FROM (SELECT duration_ms, seq FROM executions"
        " WHERE status = 'completed' AND duration_ms IS NOT NULL"
        " AND command = (SELECT command FROM executions WHERE id = ?) AND id <> ?"
        " ORDER BY seq DESC LIMIT 20)",
        story.entity,
        story.entity,
    )[0]
    if before["n"]:
        end = codec.stamp(since + round(before["middle"]))
        text = f"{before['n']} earlier runs of the same took {estimate.duration(before['middle'])}"
        most = estimate.duration(before["most"])
        said.append(say(f"{text} mostly, {most} at most: it may end at {end}.", before["seq"]))
    if state.spec.timeout_ms:
        text = f"It is stopped after {estimate.duration(state.spec.timeout_ms)} at the latest."
        said.append(say(text, story.facts[0]))
    if (asked := story.last("cancel_requested")) is not None and state.cancel:
        text = f"It was asked to stop{who(asked.envelope.by)}{because(state.cancel.reason)}."
        said.append(say(text, asked))
    return said


def _ended(story: Story) -> list[Sentence]:
    state: execution.State = story.state
    fact = story.last(*(event.name() for event in execution.TERMINAL))
    end = state.end
    if end is None or fact is None:
        return []
    took = f" after {estimate.duration(end.end.duration_ms)}" if end.end.duration_ms is not None else ""
    match end:
        case execution.Completed():
            return [say(f"It completed{took}, with exit code {end.end.exit_code}.", fact)]
        case execution.Cancelled():
            asked = story.last("cancel_requested") or fact
            reason = end.error.details.get("reason")
            said = [say(f"It was cancelled{who(asked.envelope.by)}{because(reason)}.", asked)]
            return said if asked is fact else [*said, say(f"It ended{took}.", fact)]
        case execution.TimedOut():
            said = [say(f"It timed out{took}: {end.error.message}.", fact)]
        case execution.Failed(error=error) if error.code == "poisoned":
            said = [say(f"It is poisoned and parked: {error.message}.", fact)]
            if (gone := story.last("discarded")) is not None:
                said.append(say(f"It was discarded{who(gone.envelope.by)}.", gone))
        case execution.Failed(error=error) if error.code == "lost":
            said = [say(f"It is lost: {error.message}.", fact)]
        case execution.Failed(error=error):
            said = [say(f"It failed{took}: {error.message}.", fact)]
    if more := end.error.details.get("retries"):
        said.append(say(f"It was not tried again: {more}.", fact))
    return said


def explain(rows: Rows, kind: str, entity: str, now: int) -> Explained:
    """Say why one of these stands where it stands; `now` in milliseconds since 1970."""
    of = {"execution": of_execution, "plan": of_plan, "schedule": of_schedule, "playbook": of_playbook}
    return of[kind](rows, entity, now)
