"""An execution as people and programs see it: the state, put into words and numbers."""

from typing import Any

import msgspec

from events import codec, service
from events.execution import AttemptFailed, AttemptLost, Completed, End, Failed, Held, Progress, State
from events.spec import Blob


def age(seconds: float) -> str:
    """A time ago: `2 minutes ago`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    count = max(0, int(seconds))
    return "just now" if count < 2 else f"{count} seconds ago"


def progress_text(progress: Progress | None) -> str | None:
    """Progress as text: `60% complete`, `3/10`, or its message."""
    if progress is None:
        return None
    if progress.fraction is not None:
        return f"{progress.fraction:.0%} complete"
    if progress.current is not None:
        return f"{progress.current:g}" + (f"/{progress.total:g}" if progress.total is not None else "")
    return progress.message


def accepted(state: State) -> str:
    """What to tell whoever submitted it."""
    wait = state.held
    if wait is None:
        return service.MESSAGE
    match wait.reason:
        case "time" | "backoff":
            return f"Execution scheduled for {wait.until}. Check monitor for output."
        case "limit":
            return f"Execution waits for a place: {wait.by}. Check monitor for output."
        case _:
            return "Execution waits until nothing else runs. Check monitor for output."


def execution(
    entity: str, state: State, now: int, result: service.Outcome | None = None
) -> service.Execution:
    """Put a state into words; `now` in milliseconds since 1970."""
    end = state.end.end if state.end else End()
    over = state.phase == "over"
    report = state.report
    progress = end.progress if over else report.progress if report else None
    started = codec.millis(state.started_at) if state.started_at else None
    finished = codec.millis(state.completed_at) if state.completed_at else now
    elapsed = None if started is None else max(0, finished - started) / 1000
    error = None if state.end is None else getattr(state.end, "error", None)
    return service.Execution(
        id=entity,
        status=state.status,
        description=state.spec.description,
        command=state.spec.text,
        started=None if started is None else age((now - started) / 1000),
        elapsed_seconds=elapsed,
        progress=progress_text(progress),
        progress_detail=None if progress is None else _detail(progress, elapsed, over),
        last_output=end.last_output if over else report.last_output if report else None,
        exit_code=end.exit_code,
        attempt=state.attempt,
        node=state.started.node if state.started else None,
        result=result,
        error=None if error is None else msgspec.to_builtins(error),
        created_at=state.created_at,
        started_at=state.started_at,
        completed_at=state.completed_at,
        seq=state.seq,
        module=state.spec.module,
        priority=state.priority,
        labels=list(state.spec.labels),
        language=state.spec.language,
        signal=end.signal,
        reason=error.code if isinstance(state.end, Failed) and error else None,
        held=None if state.held is None else held(state.held),
        log_path=state.started.log_path if state.started else None,
        stdout_bytes=end.stdout_bytes if over else report.stdout_bytes if report else 0,
        stderr_bytes=end.stderr_bytes if over else report.stderr_bytes if report else 0,
        retry_of=state.retry_of,
        plan_id=state.spec.plan_id,
        playbook_id=state.spec.playbook_id,
        step=state.spec.step,
        attempts_failed=state.attempts_failed,
        retries=None if state.spec.retries is None else state.spec.retries.max,
        why=why(state),
    )


def why(state: State) -> str | None:
    """Why it stands where it stands, in a sentence; None for what runs or ended well."""
    wait = state.held
    match state.phase, wait and wait.reason:
        case "held", "time" if wait:
            return f"Starts at {wait.until}."
        case "held", "backoff" if wait:
            retries = state.spec.retries.max if state.spec.retries else 0
            return f"{_broken(state)} Retry {state.attempts_failed} of {retries} starts at {wait.until}."
        case "held", "limit" if wait:
            return f"Waits for a place: {wait.by}."
        case "held", "idle":
            return "Waits until nothing else runs."
        case "held", reason:
            return f"Waits for {reason}."
        case "queued", _:
            return f"{_broken(state)} Waits for its turn." if state.last else "Waits for its turn."
        case "over", _ if state.end is not None and not isinstance(state.end, Completed):
            problem = state.end.error
            more = problem.details.get("retries") or problem.details.get("reason")
            return f"{problem.message}: {more}." if more else f"{problem.message}."
        case _:
            return None


def _broken(state: State) -> str:
    match state.last:
        case AttemptFailed(attempt=n, error=error):
            return f"Attempt {n} failed: {error.message}."
        case AttemptLost(attempt=n, reason=reason):
            return f"Attempt {n} was lost: {reason}."
        case None:
            return ""


def held(event: Held) -> service.Held:
    """What it waits for, and who will let it go on."""
    return service.Held(reason=event.reason, by=event.by or event.taken_by, until=event.until)


def _detail(progress: Progress, elapsed: float | None, over: bool) -> service.Detail:
    eta = None
    if not over and elapsed and progress.fraction:
        eta = round(elapsed * 1000 * (1 - progress.fraction) / progress.fraction)
    return service.Detail(**msgspec.structs.asdict(progress), eta_ms=eta)


def listed(row: dict[str, Any], now: int) -> dict[str, Any]:
    """A row of the table `executions` as the doors show an execution; results are not in lists."""
    started, ended = row["started_at"], row["completed_at"]
    elapsed = None
    if started is not None:
        elapsed = max(0, (codec.millis(ended) if ended else now) - codec.millis(started)) / 1000
    progress = None
    if row["progress"] is not None:
        current, total = row["progress_current"], row["progress_total"]
        fraction = min(1.0, max(0.0, current / total)) if current is not None and total else None
        progress = _detail(
            Progress(current=current, total=total, fraction=fraction), elapsed, ended is not None
        )
    shown = {name: row.get(name) for name in service.Execution.__struct_fields__}
    return shown | {
        "started": None if started is None else age((now - codec.millis(started)) / 1000),
        "elapsed_seconds": elapsed,
        "progress_detail": progress,
        "log_path": row.get("log_path"),
    }


def announcement(entity: str, state: State, now: int) -> dict[str, Any]:
    """What is said on the progress subject about an execution."""
    end = state.end.end if state.end else None
    report = state.report
    progress = end.progress if end else report.progress if report else None
    elapsed = None
    if state.started_at is not None:
        finished = codec.millis(state.completed_at) if state.completed_at else now
        elapsed = max(0, finished - codec.millis(state.started_at)) / 1000
    detail = service.Detail() if progress is None else _detail(progress, elapsed, end is not None)
    return {
        "kind": "execution",
        "id": entity,
        "status": state.status,
        "current": detail.current,
        "total": detail.total,
        "unit": detail.unit,
        "message": detail.message,
        "fraction": detail.fraction,
        "text": progress_text(progress) or state.status,
        "eta_ms": detail.eta_ms,
        "elapsed_seconds": elapsed,
        "last_output": end.last_output if end else report.last_output if report else None,
        "parent": state.spec.plan_id or state.spec.playbook_id,
        "seq": state.seq,
        "time": codec.stamp(now),
        "final": end is not None,
    }


def outcome(entity: str, state: State, stdout: str, stderr: str, truncated: bool) -> service.Outcome:
    """The result of an execution that is over."""
    if state.end is None:
        raise AssertionError("an execution that is not over has no result")
    end, error = state.end.end, getattr(state.end, "error", None)
    return service.Outcome(
        execution_id=entity,
        exit_code=-1 if end.exit_code is None else end.exit_code,
        signal=end.signal,
        success=state.status == "completed",
        stdout=stdout,
        stderr=stderr,
        truncated=truncated,
        duration_ms=end.duration_ms,
        log_path=state.started.log_path if state.started else None,
        error=None if error is None else msgspec.to_builtins(error),
        stdout_sha256=end.stdout_sha256,
        stderr_sha256=end.stderr_sha256,
        value=end.value,
    )


def code_text(state: State) -> str | None:
    """The code that was given, or where it lies."""
    code = state.spec.code
    return f"blob:{code.blob}" if isinstance(code, Blob) else code


def row(fact: codec.Fact) -> service.Row:
    """A fact as the doors show it."""
    envelope = fact.envelope
    return service.Row(
        seq=fact.seq,
        id=envelope.id,
        time=envelope.time,
        kind=fact.kind,
        entity=fact.entity,
        n=fact.n,
        event=fact.name,
        cause=envelope.cause,
        by=envelope.by,
        prev=envelope.prev,
        trace=envelope.trace,
        data=msgspec.Raw(fact.body),
    )
