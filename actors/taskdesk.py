"""The desk for tasks: what is asked of them, checked, stored and answered.

It is long because each verb needs its checks, and they are read beside each other.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from actors import engines, translation
from actors.clerk import Clerk, Gather, Table, Turns, Verbs, answer, check_page, kindly
from actors.home import milliseconds
from actors.waiting import Awaited, Ended, Waiter
from events import codec, ids, ir, legacy, task
from events.asks import task as asks
from events.codec import Fact
from events.errors import Conflict, HindbrainError, NotFound, Validation
from events.ir import ENDS, PhaseIR, TaskIR
from events.message import Command, Message
from events.ports import Ask, Call, Doors, Loaded, Log, Outcome, Snapshot
from events.task import TASK, State

LIST_MAX = 1000
IMPORT_MAX = 1000
WAIT_MAX_MS = 600_000
RESOLVE_SECONDS = 10.0
STATUSES = ("pending", "running", "paused", "done", "failed", "cancelled")
SHOWN = (
    *("id", "status", "title", "current_phase", "engine", "workspace_id", "actor_id", "source"),
    *("source_id", "source_status", "supports_resume", "error", "created_at", "updated_at"),
    *("completed_at", "seq"),
)
LISTED = f"""
SELECT {", ".join(f't."{name}"' for name in SHOWN)}, e.seq AS born
FROM task_ir t JOIN events e ON e.kind = 'task' AND e.entity = t.id AND e.n = 1
WHERE (?1 IS NULL OR t.status = ?1) AND (?2 IS NULL OR t.workspace_id = ?2)
AND (?3 IS NULL OR t.source = ?3) AND (?4 IS NULL OR e.seq < ?4) ORDER BY e.seq DESC LIMIT ?5
"""  # noqa: S608 -- only names of our own columns stand in it
SETTLED = (*task.ENDS, task.Paused)


class TaskDesk:
    """Answers the verbs of tasks, in the thread of the gateway."""

    def __init__(
        self, clerk: Clerk, journal: Log, doors: Doors, turn: Turns, waiter: Callable[[Any], None]
    ) -> None:
        self._clerk, self._log, self._doors = clerk, journal, doors
        self._turn, self._waiter = turn, waiter

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("task", "submit"): self._submit,
            ("task", "import"): self._import,
            ("task", "handoff"): self._handoff,
            ("task", "get"): self._get,
            ("task", "wait"): self._wait,
            ("task", "list"): self._list,
            ("task", "resume"): lambda ask, call: self._change(ask, call, task.Resume()),
            ("task", "cancel"): lambda ask, call: self._change(ask, call, task.Cancel(reason=ask.reason)),
        }

    # ---- beginning ---------------------------------------------------------------------------------------

    def _submit(self, ask: asks.Submit, call: Call) -> None:
        given, first = translation.plain(ask.task), ask.task.next
        if ask.starting_engine is not None and first is not None:
            engines.find(ask.starting_engine, "starting_engine")
            begun = msgspec.structs.replace(first, preferred_engine=ask.starting_engine)
            given = _with(given, begun)

        def store(whole: TaskIR) -> None:
            translation.check(whole)
            known = whole.task_id or call.key
            entity = task.named(known) if known else ids.fresh("task", milliseconds())
            command = task.Submit(task=whole, digest=_digest(whole))
            new = Snapshot(TASK.initial)
            wanted = Ask(TASK, entity, command, by=call.by, trace=call.trace, known=new)

            def stored(outcomes: Sequence[Outcome]) -> None:
                for outcome in outcomes:
                    answer(call, lambda outcome=outcome: outcome.error or self._accepted(outcome))

            self._log.handle([wanted], stored)

        self._resolve(call, given, store)

    def _accepted(self, outcome: Outcome) -> asks.Accepted:
        state: State = outcome.snapshot.state
        return asks.Accepted(
            task_id=outcome.ask.entity,
            status=state.task.status,
            message=f"Task taken on with {len(state.task.phases)} phases.",
            seq=outcome.facts[0].seq if outcome.facts else outcome.snapshot.seq,
            duplicate=not outcome.facts,
        )

    def _resolve(self, call: Call, given: TaskIR, then: Callable[[TaskIR], None]) -> None:
        """Look up the templates of phases that do not say what their plan is, one after the other."""
        open_ = [each for each in given.phases if _template(each) and not each.work]
        if not open_ or given.status in ENDS:
            then(given)
            return
        phase, name = open_[0], _template(open_[0])

        def found(reply: bytes | HindbrainError) -> None:
            self._turn(call, lambda: take(reply))

        def take(reply: bytes | HindbrainError) -> None:
            if isinstance(reply, NotFound):
                raise NotFound(f"Template not found: {name}", template=name, phase_id=phase.id)
            if isinstance(reply, HindbrainError):
                raise reply
            work = engines.plan(msgspec.json.decode(reply)["plan"])
            self._resolve(call, _with(given, msgspec.structs.replace(phase, work=work)), then)

        self._doors.request("template", "get", msgspec.json.encode({"name": name}), RESOLVE_SECONDS, found)

    def _import(self, ask: asks.Import, call: Call) -> None:
        """Read all of them before anything is stored."""
        if not 1 <= len(ask.tasks) <= IMPORT_MAX:
            raise Validation(f"give 1 to {IMPORT_MAX} tasks at once", field="tasks")
        wanted: list[Ask] = []
        for at, record in enumerate(ask.tasks):
            try:
                read = translation.plain(legacy.task(record, ask.source, ask.workspace))
                translation.check(read)
            except (Validation, msgspec.ValidationError) as error:
                text = str(error).removeprefix("Validation error: ")
                raise Validation(f"tasks[{at}]: {text}", field=f"tasks[{at}]") from None
            key = f"{ask.source}/{read.metadata.source_id or read.task_id}"
            command = task.Submit(task=read, digest=_digest(read))
            known = Snapshot(TASK.initial)
            wanted.append(Ask(TASK, ids.derived("task", key), command, by=call.by, known=known, tag=at))
        twice = len(wanted) - len({each.entity for each in wanted})
        if twice:
            raise Validation(f"{twice} of these tasks have an id that another one has", field="tasks")

        def stored(outcomes: list[Outcome]) -> None:
            def reply() -> Message | HindbrainError:
                order = sorted(outcomes, key=lambda outcome: outcome.ask.tag)
                for outcome in order:
                    if outcome.error is not None:
                        outcome.error.details["field"] = f"tasks[{outcome.ask.tag}]"
                        return outcome.error
                seq = max(outcome.snapshot.seq for outcome in order)
                return asks.Imported(tasks=[self._accepted(each) for each in order], seq=seq)

            answer(call, reply)

        self._log.handle(wanted, Gather[Outcome](len(wanted), stored))

    # ---- changing ----------------------------------------------------------------------------------------

    def _handoff(self, ask: asks.Handoff, call: Call) -> None:
        engines.find(ask.to_engine, "to_engine")

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                self._turn(call, lambda each=each: found(each))

        def found(loaded: Loaded) -> None:
            if loaded.error is not None:
                raise loaded.error
            if not loaded.snapshot.n:
                raise unknown(ask.task_id)
            state: State = loaded.snapshot.state
            phase = state.task.phase(ask.phase_id) if ask.phase_id else state.task.next
            if phase is None:
                if ask.phase_id is None:
                    raise Conflict("no phase is left that could be handed over")
                self._change(ask, call, task.Handoff(phase_id=ask.phase_id, to_engine=ask.to_engine))
                return
            self._resolve(call, _with(state.task, _said(phase, ask)), partial(check, state, phase))

        def check(state: State, before: PhaseIR, whole: TaskIR) -> None:
            translation.check(msgspec.structs.replace(whole, status="running"))
            phase = whole.phase(before.id)
            command = task.Handoff(
                phase_id=before.id, to_engine=ask.to_engine, reason=ask.reason, phase=phase
            )

            def reply(outcome: Outcome) -> Message:
                now: State = outcome.snapshot.state
                return asks.Handed(
                    task_id=state.id,
                    status=now.task.status,
                    changed=bool(outcome.facts),
                    seq=outcome.snapshot.seq,
                    phase=now.task.phase(before.id) or before,
                    from_engine=before.preferred_engine,
                )

            self._clerk.command(kindly(call, unknown(state.id)), TASK, state.id, command, reply)

        self._log.load(TASK, [_token(ask.task_id)], read)

    def _change(self, ask: Any, call: Call, command: Command) -> None:
        def reply(outcome: Outcome) -> Message:
            state: State = outcome.snapshot.state
            return asks.Changed(
                task_id=state.id,
                status=state.task.status,
                changed=bool(outcome.facts),
                seq=outcome.snapshot.seq,
            )

        self._clerk.command(kindly(call, unknown(ask.task_id)), TASK, _token(ask.task_id), command, reply)

    # ---- looking -----------------------------------------------------------------------------------------

    def _get(self, ask: asks.Get, call: Call) -> None:
        self._clerk.command(
            kindly(call, unknown(ask.task_id)),
            TASK,
            _token(ask.task_id),
            task.Look(),
            lambda outcome: asks.Task(**shown(outcome.snapshot.state)),
        )

    def _wait(self, ask: asks.Wait, call: Call) -> None:
        if not 0 <= ask.timeout_ms <= WAIT_MAX_MS:
            raise Validation(f"timeout_ms must be between 0 and {WAIT_MAX_MS}", field="timeout_ms")
        self._waiter(Awaited(call, _token(ask.task_id), ask.timeout_ms / 1000))

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX, ask.status, STATUSES)

        def reply(table: Table) -> Message:
            rows = [dict(zip(SHOWN, row, strict=False)) for row in table.rows[: ask.limit]]
            more = table.rows[ask.limit - 1][-1] if len(table.rows) > ask.limit else None
            return asks.Page(tasks=rows, next=more)

        params = [ask.status, ask.workspace, ask.source, ask.before, ask.limit + 1]
        self._clerk.question(call, LISTED, params, reply, min_seq=ask.min_seq)


def shown(state: State) -> dict[str, Any]:
    """A task as the doors show it."""
    return {
        "task": state.task,
        "engine": state.engine,
        "playbook_id": task.child_of(state),
        "problem": msgspec.to_builtins(state.error) if state.error is not None else None,
        "reason": state.pause.reason if state.pause is not None else None,
        "handoffs": [
            {
                "phase_id": each.handed.phase_id,
                "from_engine": each.handed.from_engine,
                "to_engine": each.handed.to_engine,
                "reason": each.handed.reason,
                "artifacts": list(each.handed.artifacts),
                "time": each.time,
            }
            for each in state.handoffs
        ],
        "completed_at": state.completed_at,
        "seq": state.seq,
    }


def waiter(journal: Log, tell: Callable[[Any], None]) -> Waiter:
    """Set up who answers those who wait for the end of a task, or for a pause."""

    def waited(loaded: Loaded) -> Message:
        state: State = loaded.snapshot.state
        return asks.Waited(**shown(state), done=state.over)

    return Waiter(TASK, journal, tell, lambda state: state.over or state.pause is not None, waited)


def settled(facts: Sequence[Fact] | None) -> Ended | None:
    """What facts mean for those who wait."""
    if facts is None:
        return Ended(None)
    ends = [fact.entity for fact in facts if fact.kind == "task" and isinstance(fact.event, SETTLED)]
    return Ended(ends) if ends else None


def unknown(entity: str) -> NotFound:
    """Nobody knows a task of that id."""
    return NotFound(f"Task not found: {entity}", task_id=entity)


def _said(phase: PhaseIR, ask: asks.Handoff) -> PhaseIR:
    """The phase as it is said to the engine that shall have it."""
    news: dict[str, Any] = {"preferred_engine": ask.to_engine, "status": "pending"}
    had, gets = (ir.parted(each)[0] for each in (phase.preferred_engine, ask.to_engine))
    if gets == "remote" != had and not phase.there:
        news["there"] = phase.preferred_engine
    elif had == "remote" != gets:
        news["there"] = ""
    elif had != gets and ask.work is None:
        news["work"] = {}
    news |= {} if ask.work is None else {"work": ask.work}
    news |= {} if ask.values is None else {"values": ask.values}
    news |= {} if ask.keep is None else {"keep": tuple(ask.keep)}
    return engines.plain(msgspec.structs.replace(phase, **news))


def _template(phase: PhaseIR) -> str:
    kind, _, rest = phase.preferred_engine.partition(":")
    return rest if kind == "plan" else ""


def _with(whole: TaskIR, phase: PhaseIR) -> TaskIR:
    phases = tuple(phase if each.id == phase.id else each for each in whole.phases)
    return msgspec.structs.replace(whole, phases=phases)


def _digest(whole: TaskIR) -> str:
    bare = msgspec.structs.replace(whole, created_at=None, updated_at=None)
    return codec.digest([codec.encode(bare)])[:32]


def _token(entity: str) -> str:
    if not ids.TOKEN.fullmatch(entity):
        raise unknown(entity)
    return entity
