"""Histories that can really happen: random commands, decided by the rules, chained as the log chains them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from events import (
    artifact,
    codec,
    decision,
    execution,
    finding,
    limit,
    module,
    node,
    plan,
    playbook,
    schedule,
    task,
    template,
    view,
    workspace,
)
from events.errors import HindbrainError
from events.execution import Began, End, Progress
from events.job import Job
from events.message import Event, Message
from events.ports import Decider
from events.spec import Aws, Blob, Exec, Retries, Script, Shell, Spec
from projections.record import Record

DECIDERS: dict[str, Decider[Any]] = {
    "execution": execution.EXECUTION,
    "node": node.NODE,
    "finding": finding.FINDING,
    "decision": decision.DECISION,
    "plan": plan.PLAN,
    "schedule": schedule.SCHEDULE,
    "limit": limit.LIMIT,
    "module": module.MODULE,
    "template": template.TEMPLATE,
    "artifact": artifact.ARTIFACT,
    "workspace": workspace.WORKSPACE,
    "playbook": playbook.PLAYBOOK,
    "task": task.TASK,
}


@dataclass
class Log:
    """A log in memory that goes on for as long as a test likes."""

    records: list[Record] = field(default_factory=list[Record])
    states: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    pids: dict[str, int | None] = field(default_factory=dict[str, int | None])
    told: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict[int, dict[str, dict[str, Any]]])
    """Per sequence, the rows of the executions of this history as they are after it."""
    _heads: dict[tuple[str, str], tuple[int, str]] = field(
        default_factory=dict[tuple[str, str], tuple[int, str]]
    )
    now: int = 1_767_225_600_000

    def ask(self, kind: str, entity: str, command: Message) -> list[Record]:
        """Decide and append; a refusal appends nothing."""
        decider = DECIDERS[kind]
        try:
            events = decider.decide(self.states.get((kind, entity), decider.initial), command)
        except HindbrainError:
            return []
        return [self.append(kind, entity, event) for event in events]

    def append(self, kind: str, entity: str, event: Event) -> Record:
        """Append one event, whatever it is."""
        record = self.write(kind, entity, event.name(), codec.encode(event), self._tail(kind, entity, event))
        decider = DECIDERS[kind]
        envelope = codec.Envelope(id=record.id, time=record.time)
        _, n, name = record.subject.split(".")[3:6]
        assert name == event.name()
        fact = codec.Fact(
            seq=record.seq,
            kind=kind,
            entity=entity,
            n=int(n) if n.isdigit() else 0,
            event=codec.decode(kind, record.body),
            envelope=envelope,
            subject=record.subject,
            body=record.body,
        )
        self.states[kind, entity] = decider.evolve(self.states.get((kind, entity), decider.initial), fact)
        match event:
            case execution.Started():
                self.pids[entity] = None
            case execution.Progressed(pid=int(pid)):
                self.pids[entity] = pid
            case execution.Completed() | execution.Failed() | execution.Cancelled() | execution.TimedOut():
                self.pids[entity] = event.end.pid
            case execution.AttemptFailed():
                self.pids[entity] = event.end.pid
            case _:
                pass
        return record

    def write(self, kind: str, entity: str, name: str, body: bytes, tail: str = "") -> Record:
        """Append bytes under a name that need not mean anything."""
        n, prev = self._heads.get((kind, entity), (0, ""))
        seq = len(self.records) + 1
        record = Record(
            seq=seq,
            subject=f"brain.evt.{kind}.{entity}.{n + 1}.{name}{tail}",
            id=f"event{seq}",
            time=codec.stamp(self.now),
            cause="cause",
            by="client",
            prev=prev,
            trace="",
            stored_at=None,
            body=body,
        )
        self._heads[kind, entity] = (n + 1, record.hash)
        self.records.append(record)
        return record

    def _tail(self, kind: str, entity: str, event: Event) -> str:
        if kind != "execution" or not isinstance(event, execution.Queued):
            return ""
        spec = event.spec or self.states[kind, entity].spec
        return f".{spec.module}.{event.priority or spec.priority}"

    def row(self, entity: str) -> dict[str, Any] | None:
        """The row of `executions` that the state of an execution says, without its log files."""
        state: execution.State | None = self.states.get(("execution", entity))
        if state is None or state.phase == "new":
            return None
        over = state.end is not None
        end = state.end.end if state.end else End()
        report = state.report
        progress = end.progress if over else report.progress if report else None
        problem = None if state.end is None else getattr(state.end, "error", None)
        return {
            "id": entity,
            "status": state.status,
            "reason": problem.code if isinstance(state.end, execution.Failed) and problem else None,
            "held": None if state.held is None else msgspec.to_builtins(view.held(state.held)),
            "kind": state.spec.form,
            "command": state.spec.text,
            "code": view.code_text(state),
            "language": state.spec.language,
            "description": state.spec.description,
            "labels": list(state.spec.labels),
            "module": state.spec.module,
            "priority": state.priority,
            "node": state.started.node if state.started else None,
            "worker": (state.started.worker or None) if state.started else None,
            "attempt": state.attempt,
            "pid": self.pids.get(entity),
            "exit_code": end.exit_code,
            "signal": end.signal,
            "error": None if problem is None else msgspec.to_builtins(problem),
            "created_at": state.created_at,
            "queued_at": state.queued_at,
            "started_at": state.started_at,
            "completed_at": state.completed_at,
            "duration_ms": end.duration_ms,
            "timeout_ms": state.spec.timeout_ms,
            "progress": view.progress_text(progress),
            "progress_current": progress and progress.current,
            "progress_total": progress and progress.total,
            "progress_message": progress and progress.message,
            "last_output": end.last_output if over else report and report.last_output,
            "last_output_at": end.last_output_at if over else report and report.last_output_at,
            "stdout_bytes": end.stdout_bytes if over else report.stdout_bytes if report else 0,
            "stderr_bytes": end.stderr_bytes if over else report.stderr_bytes if report else 0,
            "idempotency_key": state.spec.idempotency_key,
            "plan_id": state.spec.plan_id,
            "playbook_id": state.spec.playbook_id,
            "step": state.spec.step,
            "schedule_id": state.spec.schedule_id,
            "concurrency_key": state.spec.concurrency_key,
            "retries": state.spec.retries.max if state.spec.retries else 0,
            "attempts_failed": state.attempts_failed,
            "retry_of": state.retry_of,
            "job": (state.spec.job.data or None) if state.spec.job else None,
            "value": end.value,
            "seq": state.seq,
        }


text = st.text(max_size=8)
maybe = st.none() | text
words = st.lists(text, max_size=3)
times = st.integers(0, 4_000_000_000_000).map(codec.stamp)
counts = st.integers(0, 2**62)
numbers = st.none() | st.floats(0, 1e12, allow_nan=False) | st.integers(0, 1000).map(float)
filled = st.text(min_size=1, max_size=8)

progresses = st.none() | st.builds(
    Progress,
    current=numbers,
    total=numbers,
    unit=maybe,
    message=maybe,
    fraction=st.none() | st.floats(0, 1, allow_nan=False),
)
ends = st.builds(
    End,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.sampled_from([None, "SIGKILL"]),
    ended_at=st.none() | times,
    duration_ms=st.none() | counts,
    pid=st.none() | st.integers(1, 2**22),
    stdout_bytes=counts,
    stderr_bytes=counts,
    last_output=maybe,
    last_output_at=st.none() | times,
    progress=progresses,
    value=st.none() | text | st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), min_size=1),
)
codes = st.builds(Spec, code=st.text(max_size=300), language=filled)
blobs = st.builds(Spec, code=st.builds(Blob, blob=filled), language=filled)
scripts = st.builds(Spec, script=st.builds(Script, path=text, interpreter=maybe))
execs = st.builds(Spec, exec=st.builds(Exec, program=text, args=words))
shells = st.builds(Spec, shell=st.builds(Shell, command=text))
calls = st.builds(Spec, aws=st.builds(Aws, service=text, operation=text, args=words))
given = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | text, max_size=2)
jobs = st.builds(Spec, job=st.builds(Job, type=st.just("some:job"), data=given), module=st.just("some"))
asides = st.fixed_dictionaries(
    {
        "description": maybe,
        "labels": words.map(tuple),
        "timeout_ms": st.none() | st.integers(1, 10**9),
        "idempotency_key": maybe,
        "priority": st.sampled_from(["critical", "medium", "idle"]),
        "env": st.just({"A": "b"}),
        "retries": st.sampled_from([None, Retries(max=5, on=["command_failed", "lost", "timeout"])]),
        "concurrency_key": st.sampled_from([None, "tenant"]),
        "plan_id": maybe,
    }
)


def _beside(form: Spec, aside: dict[str, Any]) -> Spec:
    return msgspec.structs.replace(form, **aside)


specs = st.builds(_beside, st.one_of(codes, blobs, scripts, execs, shells, calls, jobs), asides)


def commands(attempt: int) -> st.SearchStrategy[Message]:
    """Something that might be asked of an execution on its n-th attempt."""
    n = st.just(attempt) if attempt else st.just(1)
    submit = st.builds(
        execution.Submit,
        spec=specs,
        digest=st.just("d"),
        taken_by=filled,
        retry_of=maybe,
        held=st.sampled_from([None, "time", "dependency"]),
        until=st.none() | times,
    )
    start = st.builds(execution.Start, node=filled, boot=filled, log_path=text, worker=text)
    report = st.builds(
        execution.Report,
        attempt=n,
        progress=progresses,
        pid=st.none() | st.integers(1, 2**22),
        last_output=maybe,
        last_output_at=st.none() | times,
        stdout_bytes=counts,
        stderr_bytes=counts,
    )
    why = st.sampled_from(
        ["exited", "returned", "raised", "spawn_failed", "timeout", "cancelled", "output_limit", "io"]
    )
    moment = st.integers(0, 4_000_000_000_000)
    finish = st.builds(execution.Finish, attempt=n, why=why, end=ends, text=text, now_ms=moment)
    began = st.builds(Began, node=filled, boot=filled, at=times, worker=text, log_path=text)
    perform = st.builds(
        execution.Perform, queued=st.integers(1, 16), began=began, why=why, end=ends, now_ms=moment
    )
    remember = st.builds(execution.Remember, attempt=n, part=text, value=counts)
    lose = st.builds(execution.Lose, attempt=n, reason=text, now_ms=moment)
    cancel = st.builds(execution.Cancel, reason=maybe)
    reasons = st.sampled_from(["time", "backoff", "limit", "idle"])
    waits = st.one_of(
        st.builds(execution.Release, reason=reasons),
        st.builds(execution.Hold, reason=reasons, until=st.none() | times),
        st.builds(execution.Prioritize, priority=st.sampled_from(["high", "low", "idle"]), reason=text),
        st.builds(execution.Requeue, reason=text),
        st.builds(execution.Discard, reason=maybe),
    )
    return st.one_of(submit, start, report, finish, perform, remember, lose, cancel, waits)


def chained(log: Log, entities: Iterable[str]) -> None:
    """Remember the rows of some executions as they are now."""
    log.told[len(log.records)] = {entity: row for entity in entities if (row := log.row(entity))}
