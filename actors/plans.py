"""The desk for plans and batches: what is asked of them, checked, stored and answered."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from actors import failures, hiding
from actors.clerk import Clerk, Table, Verbs, answer, check_page
from actors.home import Home, milliseconds
from actors.vault import Vault
from actors.waiting import Awaited, Ended, Waiter
from events import checking, codec, estimate, ids, picture, plan, rehearsal
from events.asks import plan as asks
from events.asks.rehearse import Line
from events.codec import Fact
from events.errors import Conflict, HindbrainError, NotFound, Unavailable, Validation
from events.message import Command, Message
from events.plan import PLAN, State
from events.ports import Ask, Call, Loaded, Log, Outcome, Snapshot
from events.spec import DAY_MS
from events.steps import Definition

ENDS = (plan.Completed, plan.Failed, plan.Cancelled, plan.RolledBack, plan.RollbackFailed)
WAIT_MAX_MS = 600_000
LIST_MAX = 1000
STATUSES = ("running", "paused", "completed", "failed", "cancelled")
SHOWN = (
    *("id", "name", "description", "strategy", "status", "rollback", "total", "completed", "failed"),
    *(
        "skipped",
        "labels",
        "template",
        "version",
        "parent",
        "schedule_id",
        "created_at",
        "completed_at",
        "seq",
    ),
)
LISTED = f"""
SELECT {", ".join(f"p.{name}" for name in SHOWN)}, e.seq AS born
FROM plans p JOIN events e ON e.kind = 'plan' AND e.entity = p.id AND e.n = 1
WHERE (?1 IS NULL OR p.status = ?1) AND (?2 IS NULL OR list_contains(p.labels, ?2))
AND (?3 IS NULL OR p.template = ?3) AND p.parent IS NOT DISTINCT FROM ?4
AND (?5 IS NULL OR e.seq < ?5) ORDER BY e.seq DESC LIMIT ?6
"""  # noqa: S608 -- only names of our own columns stand in it


class Plans:
    """Answers the verbs of plans and batches, in the thread of the gateway."""

    def __init__(
        self, clerk: Clerk, journal: Log, home: Home, vault: Vault, waiter: Callable[[Any], None]
    ) -> None:
        self._clerk, self._log, self._home, self._vault = clerk, journal, home, vault
        self._waiter = waiter

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("plan", "submit"): self._submit,
            ("plan", "get"): self._get,
            ("plan", "wait"): self._wait,
            ("plan", "list"): self._list,
            ("plan", "cancel"): self._cancel,
            ("plan", "pause"): lambda ask, call: self._change(ask, call, plan.Pause(reason=ask.reason)),
            ("plan", "resume"): lambda ask, call: self._change(ask, call, plan.Resume()),
            ("plan", "rerun"): self._rerun,
            ("plan", "rollback"): lambda ask, call: self._again(ask, call, plan.Rollback(reason=ask.reason)),
            ("plan", "result"): self._result,
            ("batch", "submit"): self._batch,
            ("batch", "add"): self._add,
            ("batch", "seal"): lambda ask, call: self._change(ask, call, plan.Seal(), sized=True),
        }

    # ---- beginning ---------------------------------------------------------------------------------------

    def _submit(self, ask: asks.Submit, call: Call) -> None:
        self.begin(
            call, asks.definition(ask), values=ask.values, secrets=ask.secrets, key=ask.idempotency_key
        )

    def _batch(self, ask: asks.Batch, call: Call) -> None:
        definition = asks.batch(ask)
        self.begin(call, definition, secrets=ask.secrets, key=ask.idempotency_key, open_=ask.open)

    def begin(
        self,
        call: Call,
        definition: Definition,
        *,
        values: dict[str, Any] | None = None,
        secrets: dict[str, str] | None = None,
        key: str | None = None,
        template: str | None = None,
        version: int | None = None,
        open_: bool = False,
    ) -> None:
        """Check everything before anything starts, keep its secrets, and store it."""
        checking.check(definition)
        stored, found = hiding.hide(definition, self._vault, secrets or {})
        key = key or call.key or None
        entity = ids.derived("plan", key) if key else ids.fresh("plan", milliseconds())
        kept = hiding.keep(entity, stored, found, self._vault)
        command = plan.Submit(
            definition=stored,
            params=values or {},
            digest=_digest(hiding.nameless(stored), values or {}, template, open_),
            taken_by=self._home.node,
            template=template,
            version=version,
            open=open_,
        )

        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                answer(call, lambda outcome=outcome: self._begun(outcome, stored, kept))

        ask = Ask(PLAN, entity, command, by=call.by, trace=call.trace, known=Snapshot(PLAN.initial))
        self._log.handle([ask], done)

    def _begun(self, outcome: Outcome, stored: Definition, kept: bool) -> Message | HindbrainError:
        entity, state, error = outcome.ask.entity, outcome.snapshot.state, outcome.error
        if error is not None:
            if kept and not isinstance(error, Unavailable) and error.status < 500:
                hiding.drop(entity, stored, self._vault)
            error.details.setdefault("plan_id", entity)
            return error
        many, description = state.batch is not None, state.definition.description
        accepted = asks.Accepted(
            plan_id=entity,
            status="queued" if many else state.status,
            message=estimate.announced(description, state.total)
            if many
            else f"Plan started with {estimate.number(len(state.steps), 'steps')}.",
            monitor_url=f"{self._home.monitor_url}/plans/{entity}",
            seq=outcome.facts[0].seq if outcome.facts else outcome.snapshot.seq,
            duplicate=not outcome.facts,
        )
        return msgspec.structs.replace(accepted, batchId=entity, tip=asks.TIP) if many else accepted

    # ---- looking -----------------------------------------------------------------------------------------

    def _get(self, ask: asks.Get, call: Call) -> None:
        if (ask.plan_id is None) == (ask.idempotency_key is None):
            raise Validation("give plan_id or idempotency_key, one of them", field="plan_id")
        entity = ask.plan_id or ids.derived("plan", ask.idempotency_key or "")
        self._clerk.command(call, PLAN, _named(entity), plan.Look(), _one)

    def _wait(self, ask: asks.Wait, call: Call) -> None:
        if not 0 <= ask.timeout_ms <= WAIT_MAX_MS:
            raise Validation(f"timeout_ms must be between 0 and {WAIT_MAX_MS}", field="timeout_ms")
        self._waiter(Awaited(call, _named(ask.plan_id), ask.timeout_ms / 1000))

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX, ask.status, STATUSES)

        def reply(table: Table) -> Message:
            rows = [dict(zip([*SHOWN, "born"], row, strict=True)) for row in table.rows]
            more = rows[ask.limit - 1]["born"] if len(rows) > ask.limit else None
            plans = [{name: row[name] for name in SHOWN} for row in rows[: ask.limit]]
            return asks.Page(plans=plans, next=more)

        params = [ask.status, ask.label, ask.template, ask.parent, ask.before, ask.limit + 1]
        self._clerk.question(call, LISTED, params, reply, min_seq=ask.min_seq)

    def _result(self, ask: asks.Result, call: Call) -> None:
        """A batch only knows which of its operations failed; how they did, their executions know."""

        def told(outcome: Outcome, entries: list[asks.Entry]) -> None:
            state, seq = outcome.snapshot.state, outcome.snapshot.seq
            answer(call, lambda: outcome.error or asks.Came(result=picture.outcome(state, seq, entries)))

        def decided(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                failures.tell(self._log, outcome.snapshot.state, partial(told, outcome))

        look = Ask(PLAN, _named(ask.plan_id), plan.Look(), by=call.by, trace=call.trace)
        self._log.handle([look], decided)

    # ---- changing ----------------------------------------------------------------------------------------

    def _cancel(self, ask: asks.Cancel, call: Call) -> None:
        if ask.grace_ms is not None and not 0 <= ask.grace_ms <= DAY_MS:
            raise Validation("grace_ms must be between 0 and a day", field="grace_ms")
        command = plan.Cancel(reason=ask.reason, grace_ms=ask.grace_ms)
        if ask.rehearse:
            self._rehearse(call, ask.plan_id, command, rehearsal.FINAL)
        else:
            self._change(ask, call, command)

    def _rerun(self, ask: asks.Rerun, call: Call) -> None:
        if ask.steps and ask.from_step is not None:
            raise Validation("steps and from_step: give one of them", field="from_step")
        command = plan.Rerun(steps=tuple(ask.steps), from_step=ask.from_step, reason=ask.reason)
        self._again(ask, call, command)

    def _add(self, ask: asks.Add, call: Call) -> None:
        if (ask.items is None) == (ask.count is None):
            raise Validation("give items or a count, one of them", field="items")
        command = plan.Extend(items=tuple(ask.items or ()), count=ask.count or 0, offset=ask.offset)
        self._change(ask, call, command, sized=True)

    def _again(self, ask: asks.Rerun | asks.Rollback, call: Call, command: Command) -> None:
        """Something more is to be done for a plan that may be over: it needs its secrets once more."""
        entity = _named(ask.plan_id)
        if ask.rehearse:
            back = isinstance(command, plan.Rollback)
            self._rehearse(call, entity, command, rehearsal.BACK if back else rehearsal.AGAIN)
            return

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                error = each.error or self._poor(each)
                if error is not None:
                    call.refuse(error)
                    continue
                hiding.renew(each.entity, each.snapshot.state, self._vault)
                self._change(ask, call, command)

        self._log.load(PLAN, [entity], read)

    def _rehearse(self, call: Call, entity: str, command: Command, note: str) -> None:
        def made(loaded: Loaded, lines: list[Line]) -> Message:
            state: State = loaded.snapshot.state
            return asks.Changed(
                plan_id=entity,
                status=state.status,
                rollback=state.rollback,
                changed=False,
                seq=loaded.snapshot.seq,
                rehearsed=lines,
                note=note,
            )

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                line = rehearsal.line(PLAN, entity, each.snapshot.state, command)
                answer(call, lambda each=each, line=line: each.error or made(each, [line]))

        self._log.load(PLAN, [_named(entity)], read)

    def _poor(self, loaded: Loaded) -> HindbrainError | None:
        state: State = loaded.snapshot.state
        if loaded.snapshot.n == 0 or state.submitted is None or not hiding.wanted(state.definition):
            return None
        if state.submitted.taken_by != self._home.node or self._vault.get(loaded.entity) is not None:
            return None
        return Conflict("its secrets are gone since its end: submit it again with them")

    def _change(self, ask: Any, call: Call, command: Command, *, sized: bool = False) -> None:
        def reply(outcome: Outcome) -> Message:
            state: State = outcome.snapshot.state
            changed = asks.Changed(
                plan_id=outcome.ask.entity,
                status=state.status,
                rollback=state.rollback,
                changed=bool(outcome.facts),
                seq=outcome.snapshot.seq,
            )
            if sized:
                size = state.batch.size if state.batch is not None else state.total
                changed = msgspec.structs.replace(changed, total=size)
            steps = [each for fact in outcome.facts for each in _about(fact.event)]
            return msgspec.structs.replace(changed, steps=steps) if steps else changed

        self._clerk.command(call, PLAN, _named(ask.plan_id), command, reply)


def waiter(journal: Log, tell: Callable[[Any], None]) -> Waiter:
    """Set up who answers those who wait for the end of a plan."""

    def waited(loaded: Loaded) -> Message:
        state: State = loaded.snapshot.state
        shown = picture.plan(state, loaded.snapshot.seq, milliseconds())
        return asks.Waited(plan=shown, done=state.over)

    return Waiter(PLAN, journal, tell, lambda state: state.over, waited)


def ended(facts: Sequence[Fact] | None, journal: Log, vault: Vault) -> Ended | None:
    """What facts mean for those who wait; secrets of what is over for good are forgotten."""
    if facts is None:
        return Ended(None)
    ends = [fact.entity for fact in facts if isinstance(fact.event, ENDS)]

    def read(loaded: Sequence[Loaded]) -> None:
        for each in loaded:
            state: State = each.snapshot.state
            well = state.status in ("completed", "cancelled") or state.rollback == "done"
            inside = state.submitted is not None and state.submitted.parent is not None
            if each.error is None and state.over and well and not inside:
                hiding.drop(each.entity, state.definition, vault)

    if poor := [entity for entity in ends if vault.get(entity) is not None]:
        journal.load(PLAN, poor, read)
    return Ended(ends) if ends else None


def _one(outcome: Outcome) -> Message:
    return asks.One(plan=picture.plan(outcome.snapshot.state, outcome.snapshot.seq, milliseconds()))


def _about(event: Any) -> tuple[str, ...]:
    return event.steps if isinstance(event, plan.RerunRequested | plan.RollbackStarted) else ()


def _digest(definition: Definition, values: dict[str, Any], template: str | None, open_: bool) -> str:
    rest = msgspec.json.encode([values, template, open_], order="sorted")
    return codec.digest([codec.encode(definition), rest])[:32]


def _named(entity: str) -> str:
    if not ids.TOKEN.fullmatch(entity):
        raise NotFound(f"Plan not found: {entity}", plan_id=entity)
    return entity
