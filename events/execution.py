"""An execution: one piece of work, from the wish to its one and only end.

      new ---> held ---> queued ---> running ---> over
                ^ |        |  ^         |          ^
                | |        |  `--lost---|          |
                | `--------`----- cancelled -------|
                `--- backoff ---- failed, lost ----'

Whatever is asked and whatever crashes, it ends at most once: `completed`, `failed`, `cancelled` or
`timed_out`.  What it has to wait for is passed in order, before the first attempt and before every other:
its time or the pause after a failure, then its limit, then an idle system, then its turn in the queue.
"""

import msgspec

from events import retrying
from events.clock import millis, stamp
from events.errors import AlreadyOver, Conflict, IdempotencyConflict, NotFound, Problem
from events.executed import (
    EVENTS,
    TERMINAL,
    AnyCommand,
    AnyEvent,
    AttemptFailed,
    AttemptLost,
    Began,
    Cancel,
    Cancelled,
    CancelRequested,
    Completed,
    Discard,
    Discarded,
    End,
    Failed,
    Finish,
    Held,
    Hold,
    Lose,
    Perform,
    Prioritize,
    Prioritized,
    Progress,
    Progressed,
    Queued,
    Release,
    Remember,
    Remembered,
    Report,
    Requeue,
    Start,
    Started,
    Submit,
    Terminal,
    TimedOut,
    Why,
)
from events.ports import Decider
from events.spec import Priority, Retries, Spec
from events.standing import SHUTDOWN, State, begun, evolve, left

__all__ = [
    "EVENTS",
    "EXECUTION",
    "TERMINAL",
    "AnyCommand",
    "AnyEvent",
    "AttemptFailed",
    "AttemptLost",
    "Began",
    "Cancel",
    "CancelRequested",
    "Cancelled",
    "Completed",
    "Discard",
    "Discarded",
    "End",
    "Failed",
    "Finish",
    "Held",
    "Hold",
    "Lose",
    "Perform",
    "Prioritize",
    "Prioritized",
    "Problem",
    "Progress",
    "Progressed",
    "Queued",
    "Release",
    "Remember",
    "Remembered",
    "Report",
    "Requeue",
    "Start",
    "Started",
    "State",
    "Submit",
    "Terminal",
    "TimedOut",
    "Why",
    "decide",
    "evolve",
    "owner",
    "waits",
]

LOST_IN_A_ROW = 3
"""An execution whose attempts were lost so many times in a row is poisoned."""


def waits(spec: Spec, priority: Priority | None = None) -> tuple[str, ...]:
    """What it has to wait for once its time has come, in order, before it may be queued."""
    idle = (priority or spec.priority) == "idle"
    return (*(["limit"] if spec.concurrency_key else []), *(["idle"] if idle else []))


def owner(reason: str, spec: Spec) -> str:
    """Who lets go on what waits for that."""
    match reason:
        case "time" | "backoff":
            return "timer"
        case "limit" if spec.concurrency_key:
            return f"limit {spec.concurrency_key}"
        case _:
            return "limiter"


def decide(state: State, command: AnyCommand) -> tuple[AnyEvent, ...]:
    """Say what happens.  No facts means it already had; to refuse is to raise."""
    match state.phase, command:
        case "new", Submit():
            return (_birth(command),)
        case "new", _:
            raise NotFound("Execution not found")
        case _, Submit(digest=digest) if digest == state.digest:
            return ()
        case _, Submit():
            raise IdempotencyConflict
        case "over", Cancel() | Release():
            return ()
        case "over", Discard(reason=reason) if state.poisoned:
            return () if state.discarded else (Discarded(reason=reason),)
        case "over", Discard():
            raise Conflict("only what was poisoned is parked, and can be discarded")
        case "over", _:
            raise AlreadyOver
        case "held", Release(reason=reason, attempt=n) if state.held and reason == state.held.reason:
            return (_onward(state, reason),) if n in (None, state.attempt) else ()
        case _, Release():
            return ()
        case "held", Hold(reason=reason) if state.held and reason == state.held.reason:
            return ()
        case "queued", Hold(reason=reason, by=by, until=until):
            by = by or owner(reason, state.spec)
            return (Held(reason=reason, by=by, until=until, attempt=state.attempt),)
        case "held" | "queued", Prioritize():
            return _prioritize(state, command)
        case "queued", Requeue(reason=reason):
            return (_queued(state.spec, state.priority, reason),)
        case "held" | "queued", Cancel(reason=reason):
            return (Cancelled(attempt=state.attempt, error=_cancelled(reason), end=left(state)),)
        case "queued", Start(queued=seq) | Perform(queued=seq) if seq is not None and seq != state.queued:
            raise Conflict("it was queued again since")
        case "queued", Start():
            return (
                Started(
                    attempt=state.attempt + 1,
                    node=command.node,
                    boot=command.boot,
                    log_path=command.log_path,
                    stdout_offset=command.stdout_offset,
                    stderr_offset=command.stderr_offset,
                    worker=command.worker,
                ),
            )
        case "queued", Perform():
            return _performed(state, command)
        case "running", Cancel(reason=reason, grace_ms=grace):
            return () if state.cancel else (CancelRequested(reason=reason, grace_ms=grace),)
        case "running", (Remember(attempt=n) | Report(attempt=n) | Finish(attempt=n) | Lose(attempt=n)) if (
            n != state.attempt
        ):
            raise Conflict("that attempt belongs to somebody else now")
        case "running", Remember(part=part) if part in state.memory:
            return ()
        case "running", Remember(attempt=n, part=part, value=value):
            return (Remembered(attempt=n, part=part, value=value),)
        case "running", Report():
            return (Progressed(**{name: getattr(command, name) for name in Progressed.__struct_fields__}),)
        case "running", Finish():
            return _finish(state, command)
        case "running", Lose():
            return _lose(state, command)
        case _:
            raise Conflict(f"an execution that is {state.status} cannot do that")


def _birth(command: Submit) -> Held | Queued:
    spec = command.spec
    reason = command.held or ("time" if command.until else next(iter(waits(spec)), None))
    if reason is None:
        return Queued(spec=spec, digest=command.digest, taken_by=command.taken_by, retry_of=command.retry_of)
    return Held(
        spec=spec,
        digest=command.digest,
        reason=reason,
        taken_by=command.taken_by,
        until=command.until,
        retry_of=command.retry_of,
        by=owner(reason, spec),
    )


def _queued(spec: Spec, priority: Priority, reason: str = "") -> Queued:
    return Queued(priority=None if priority == spec.priority else priority, reason=reason)


def _onward(state: State, passed: str = "", priority: Priority | None = None) -> Held | Queued:
    """What comes after a wait: the next one, or the queue."""
    priority = priority or state.priority
    ahead = waits(state.spec, priority)
    if passed in ahead:
        ahead = ahead[ahead.index(passed) + 1 :]
    elif passed == "idle":  # it was idle when it began to wait, and has passed its limit
        ahead = ()
    for reason in ahead:
        return Held(reason=reason, by=owner(reason, state.spec), attempt=state.attempt)
    return _queued(state.spec, priority)


def _prioritize(state: State, command: Prioritize) -> tuple[AnyEvent, ...]:
    priority = command.priority
    if priority == state.priority:
        return ()
    said = Prioritized(priority=priority, reason=command.reason)
    if state.phase == "held" and state.held and state.held.reason != "idle":
        return (said,)
    passed = "limit" if priority == "idle" else "idle"
    return (said, _onward(state, passed, priority))


def _cancelled(reason: str | None) -> Problem:
    return Problem(
        code="cancelled", message="Execution cancelled", details={"reason": reason} if reason else {}
    )


def _finish(state: State, command: Finish) -> tuple[AnyEvent, ...]:
    n, end = command.attempt, command.end
    match command.why:
        case "returned":
            return (Completed(attempt=n, end=end),)
        case "raised":
            error = Problem(code="job_failed", message=f"Job failed: {command.text}")
        case "exited" if end.exit_code == 0:
            return (Completed(attempt=n, end=end),)
        case "exited":
            code = f"exit code {end.exit_code}" if end.signal is None else f"signal {end.signal}"
            error = Problem(code="command_failed", message=f"Command failed with {code}")
        case "spawn_failed":
            details = {"errno": command.errno} if command.errno else {}
            error = Problem(
                code="spawn_failed", message=f"Process spawn failed: {command.text}", details=details
            )
        case "timeout":
            error = Problem(code="timeout", message=f"Execution timeout after {state.spec.timeout_ms}ms")
        case "cancelled":
            reason = state.cancel.reason if state.cancel else command.text or None
            return (Cancelled(attempt=n, error=_cancelled(reason), end=end),)
        case "output_limit":
            limit = state.spec.limits.output_bytes if state.spec.limits else None
            error = Problem(code="output_limit", message=f"Output limit of {limit} bytes reached")
        case "io":
            error = Problem(code="io", message=f"IO error: {command.text}")
    wait = _pause(state, command, error.code, end.exit_code)
    if isinstance(wait, int):
        return (AttemptFailed(attempt=n, error=error, end=end), *_backoff(state, command, wait))
    if wait:
        error = msgspec.structs.replace(error, details={**error.details, "retries": wait})
    return ((TimedOut if command.why == "timeout" else Failed)(attempt=n, error=error, end=end),)


def _performed(state: State, command: Perform) -> tuple[AnyEvent, ...]:
    """The end of an attempt whose beginning was not said."""
    given = {name: getattr(command, name) for name in ("why", "end", "text", "now_ms", "jitter")}
    running = begun(state, command.began, state.attempt + 1)
    end, *more = _finish(running, Finish(attempt=running.attempt, **given))
    return (msgspec.structs.replace(end, began=command.began), *more)


def _pause(state: State, command: Finish | Lose, code: str, exit_code: int | None = None) -> int | str:
    """How many milliseconds to wait until the next attempt, or why there is none."""
    retries = state.spec.retries
    if retries is None:
        return ""
    failed = state.attempts_failed + 1
    if state.cancel:
        return "it was asked to stop"
    if refusal := retrying.refusal(retries, failed, code, exit_code):
        return refusal
    wait = retrying.pause(retries, failed, command.jitter)
    return wait if _within(state, retries, command.now_ms + wait) else "the time for retries was used up"


def _within(state: State, retries: Retries, moment: int) -> bool:
    if retries.budget_ms is None or state.first_started_at is None:
        return True
    return moment - millis(state.first_started_at) <= retries.budget_ms


def _backoff(state: State, command: Finish | Lose, wait: int) -> tuple[AnyEvent, ...]:
    if wait == 0:
        return (_onward(state),)
    until, by = stamp(command.now_ms + wait), owner("backoff", state.spec)
    return (Held(reason="backoff", until=until, by=by, attempt=state.attempt),)


def _lose(state: State, command: Lose) -> tuple[AnyEvent, ...]:
    """An attempt that vanished; commands are not run again unless they asked for it."""
    n, reason, end = state.attempt, command.reason, left(state)
    gone = AttemptLost(attempt=n, reason=reason)
    if state.cancel:
        return gone, Cancelled(attempt=n, error=_cancelled(state.cancel.reason), end=end)
    if reason == SHUTDOWN:
        return gone, _onward(state)
    if state.lost + 1 >= LOST_IN_A_ROW:
        text = f"{state.lost + 1} attempts in a row were lost: {reason}"
        return gone, Failed(attempt=n, error=Problem(code="poisoned", message=text), end=end)
    wait = _pause(state, command, "lost")
    if isinstance(wait, int):
        return gone, *_backoff(state, command, wait)
    details = {"retries": wait} if wait else {}
    error = Problem(code="lost", message=f"Execution lost: {reason}", details=details)
    return gone, Failed(attempt=n, error=error, end=end)


EXECUTION = Decider("execution", State(), decide, evolve, lambda state: state.trace)
"""What is to be run: its rules, for the log."""
