"""Where a playbook stands, for whoever goes on with it; and what is different between two of them."""

from typing import Any

from events import portrait
from events.asks import playbook as asks
from events.journey import State
from events.params import written
from events.played import Cell

GOOD = ("completed", "skipped")
TENTH = 0.1
FRESH, NAMED = 5, 20
"""So many summaries come before anything older, and so many artifacts are named."""


def features(state: State) -> list[dict[str, Any]]:
    """The steps as things that are to be achieved."""
    return [
        {
            "id": f"{phase.id}/{step.name}",
            "description": step.description or portrait.command(step),
            "status": state.cells[step.name].status,
            "passes": state.cells[step.name].status in GOOD,
        }
        for phase in state.definition.phases
        for step in phase.steps
    ]


def standing(state: State) -> str:
    """Where it stands, in a sentence."""
    phase, step = portrait.here(state)
    what = f"{state.definition.name or state.id} is {state.status.replace('_', ' ')}"
    if state.over:
        why = f": {state.error.message}" if state.error is not None else ""
        return f"{what}{why}, {state.at} of {state.total} steps done."
    where = f" in phase {phase}" if phase else ""
    now = f", at step {step}" if step else ""
    said = f"{what}{where}{now}, {state.at} of {state.total} steps done."
    if state.pause is not None:
        reason = state.pause.error.message if state.pause.error is not None else state.pause.reason
        said += f" It is paused: {reason}." if reason else ""
    if (question := portrait.asked(state)) is not None:
        said += f" It asks: {question.message}"
    return said


def bearings(state: State, artifacts: list[dict[str, Any]], seq: int) -> asks.Bearings:
    """Where am I, what is done, what failed, what is next, and what is there."""
    phase, step = portrait.here(state)
    known = state.initialized
    latest = next(reversed(state.summaries.values()), None)
    summary = standing(state) + (f" {latest.summary}" if latest is not None else "")
    failed = [
        {
            "step": name,
            "status": cell.status,
            "error": portrait.problem(cell.result.error if cell.result else None),
        }
        for name, cell in state.cells.items()
        if cell.status in ("failed", "timed_out", "cancelled")
    ]
    return asks.Bearings(
        playbook_id=state.id,
        status=state.status,
        phase=phase,
        done=[name for name, cell in state.cells.items() if cell.status in GOOD],
        failed=failed,
        next=step,
        asked=portrait.asked(state),
        artifacts=artifacts,
        features=features(state),
        summary=summary,
        checkpoint_id=state.current,
        progress_log_path=known.progress_log_path if known else None,
        feature_list_path=known.feature_list_path if known else None,
        seq=seq,
    )


# ---- two of them -----------------------------------------------------------------------------------------


def difference(one: State, other: State) -> asks.Difference:
    """What is different between two runs: parameters, steps, artifacts, times."""
    params = [
        {"name": name, "a": left.get(name), "b": right.get(name)}
        for left, right in [(_params(one), _params(other))]
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]
    names = list(dict.fromkeys((*one.cells, *other.cells)))
    steps: list[dict[str, Any]] = []
    artifacts: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    for name in names:
        a, b = one.cells.get(name), other.cells.get(name)
        steps += _fields(name, a, b)
        left, right = _artifacts(a), _artifacts(b)
        if left != right:
            artifacts.append({"step": name, "a": left, "b": right})
        spent = (_took(a), _took(b))
        if None not in spent and _apart(*spent):
            times.append({"step": name, "field": "duration_ms", "a": spent[0], "b": spent[1]})
    return asks.Difference(
        a=one.id,
        b=other.id,
        same=not (params or steps or artifacts),
        params=params,
        steps=steps,
        artifacts=artifacts,
        times=times,
    )


def _params(state: State) -> dict[str, Any]:
    return state.initialized.params if state.initialized is not None else {}


def _fields(name: str, a: Cell | None, b: Cell | None) -> list[dict[str, Any]]:
    if a is None or b is None:
        there = ("missing" if a is None else a.status, "missing" if b is None else b.status)
        return [{"step": name, "field": "status", "a": there[0], "b": there[1]}]
    found: list[dict[str, Any]] = []
    for field, left, right in (
        ("status", a.status, b.status),
        ("exit_code", a.result and a.result.exit_code, b.result and b.result.exit_code),
        ("error", _error(a), _error(b)),
    ):
        if left != right:
            found.append({"step": name, "field": field, "a": left, "b": right})
    left, right = (a.result.outputs if a.result else {}), (b.result.outputs if b.result else {})
    return found + [
        {"step": name, "field": f"outputs.{key}", "a": left.get(key), "b": right.get(key)}
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    ]


def _error(cell: Cell) -> str | None:
    return cell.result.error.message if cell.result and cell.result.error else None


def _artifacts(cell: Cell | None) -> list[str]:
    return list(cell.result.artifacts) if cell is not None and cell.result is not None else []


def _took(cell: Cell | None) -> int | None:
    return cell.result.duration_ms if cell is not None and cell.result is not None else None


def _apart(a: int | None, b: int | None) -> bool:
    a, b = a or 0, b or 0
    return abs(a - b) > TENTH * max(a, b)


# ---- a context -------------------------------------------------------------------------------------------


def tokens(text: str) -> int:
    """How many tokens a text has: a token is three bytes of UTF-8, the last one may be less."""
    return -(-len(text.encode()) // 3)


def context(state: State, artifacts: list[dict[str, Any]], budget: int) -> str:
    """What whoever goes on has to know, within so many tokens: failures and the newest first.

    A line that does not fit is left out, but for failures, which are shortened as long as a piece fits.
    """
    text = ""
    for line, sure in _lines(state, artifacts):
        grown = f"{text}{line}\n"
        if tokens(grown) <= budget:
            text = grown
        elif sure and (short := _cut(line, budget * 3 - len(text.encode()) - 1)):
            text += f"{short}\n"
    return text


def _cut(line: str, room: int) -> str:
    """As much of a line as there is room for, at least a few words of it."""
    if room < 24:
        return ""
    return line.encode()[: room - 3].decode(errors="ignore") + "…"


def _lines(state: State, artifacts: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """What there is to say, the most needed first; True: a failure, which is said in any case."""
    failed = [(name, cell) for name, cell in state.cells.items() if cell.status in ("failed", "timed_out")]
    failed.sort(key=lambda each: each[1].ended_at or "", reverse=True)
    lines = [(_failure(name, cell), True) for name, cell in failed]
    lines.append((standing(state), False))
    if state.going is not None:
        lines.append((f"Running: {state.going.step}, run {state.going.run}.", False))
    coming = [state.spot(place)[1] for place in range(state.at, min(state.total, state.at + 5))]
    if coming and not state.over:
        lines.append(
            ("Next: " + "; ".join(f"{step.name} ({portrait.command(step)[:80]})" for step in coming), False)
        )
    over = [phase for phase in reversed(state.definition.phases) if phase.id in state.summaries]
    said = [
        f"Summary of {phase.name or phase.id}: {' '.join(state.summaries[phase.id].summary.split())}"
        for phase in over
    ]
    lines += [(line, False) for line in said[:FRESH]]
    for each in artifacts[:NAMED]:
        where = f"{each.get('size')} bytes, {each.get('phase_id') or '-'}"
        lines.append((f"Artifact {each['id']} {each.get('name') or ''} ({where})", False))
    if values := _params(state):
        lines.append((f"Parameters: {written(values)[:1000]}", False))
    lines += [(line, False) for line in said[FRESH:]]
    done = [(name, cell) for name, cell in state.cells.items() if cell.status in GOOD]
    lines += [(_done(name, cell), False) for name, cell in reversed(done)]
    return lines


def _failure(name: str, cell: Cell) -> str:
    why = _error(cell)
    code = cell.result.exit_code if cell.result is not None else None
    ran = (cell.result.execution_id or cell.result.plan_id or "") if cell.result is not None else ""
    text = f"FAILED {name}: {why or cell.status}"
    if code is not None and f"code {code}" not in text:
        text += f", exit code {code}"
    return " ".join(f"{text}{f' [{ran}]' if ran else ''}".split())


def _done(name: str, cell: Cell) -> str:
    outputs = cell.result.outputs if cell.result is not None else {}
    left = ", ".join(f"{key}={written(value)[:200]}" for key, value in outputs.items())
    return " ".join(f"Done {name}{f': {left}' if left else ''}".split())
