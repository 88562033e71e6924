"""The desk for schedules: what is asked of them, checked and answered."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from actors import admission, almanac, hiding
from actors.clerk import Clerk, Table, Verbs, check_page
from actors.home import Home, milliseconds
from actors.vault import Vault
from events import calendar, checking, codec, ids, plan, schedule, spec
from events.asks import plan as plans
from events.asks import schedule as asks
from events.asks import template
from events.calendar import When
from events.clock import stamp
from events.errors import HindbrainError, NotFound, TooLarge, Validation
from events.message import Message
from events.ports import Call, Doors, Outcome
from events.schedule import SCHEDULE, AnyCommand, State, Ticked
from events.template import TEMPLATE, Look

NEXT = 5
LIST_MAX = 1000
COUNT_MAX = 1000
REQUEST_MAX = 1024 * 1024
PLAN_SECONDS = 10.0
STATUSES = ("active", "paused", "done", "deleted")


class Schedules:
    """Answers the verbs of schedules, in the thread of the gateway."""

    def __init__(self, clerk: Clerk, home: Home, vault: Vault, doors: Doors) -> None:
        self._clerk, self._home, self._vault, self._doors = clerk, home, vault, doors

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("schedule", "create"): self._create,
            ("schedule", "get"): self._get,
            ("schedule", "list"): self._list,
            ("schedule", "pause"): self._pause,
            ("schedule", "resume"): self._resume,
            ("schedule", "run"): self._run,
            ("schedule", "delete"): self._delete,
        }

    def _create(self, ask: asks.Create, call: Call) -> None:
        now = milliseconds()
        when = _when(ask)
        if when.at is not None and not calendar.coming(when, now, now):
            raise Validation(f"at is {when.at}, which is over: give a time to come", field="at")
        if not calendar.coming(when, now, now):
            raise Validation("no tick is left before ends: give a later one", field="ends")
        created = self._wish(ask, when)
        key = ask.idempotency_key or call.key
        entity = ids.derived("schedule", key) if key else ids.fresh("schedule", now)

        def reply(outcome: Outcome) -> Message:
            state: State = outcome.snapshot.state
            return asks.Created(
                schedule_id=entity,
                status=state.status,
                message=f"Scheduled: {calendar.text(when)}.",
                next=state.coming(NEXT),
                seq=outcome.snapshot.seq,
                duplicate=not outcome.facts,
            )

        command = schedule.Create(created=created, now_ms=now)

        def store(_: bytes = b"") -> None:
            self._clerk.command(call, SCHEDULE, entity, command, reply, new=True)

        if ask.template is None:
            store()
        else:
            self._find(ask.template, msgspec.structs.replace(call, answer=store))

    def _find(self, wanted: template.Start, call: Call) -> None:
        """See that there is such a template, before it is scheduled."""
        if not ids.TOKEN.fullmatch(wanted.template):
            raise Validation(f"bad name {wanted.template!r}", field="template.template")

        def found(outcome: Outcome) -> Message:
            outcome.snapshot.state.version(wanted.version)
            return Message()

        self._clerk.command(call, TEMPLATE, wanted.template, Look(), found)

    def _wish(self, ask: asks.Create, when: When) -> schedule.Created:
        given = [name for name in ("submit", "plan", "template") if getattr(ask, name) is not None]
        if len(given) != 1:
            text = f"{' and '.join(given)} are given" if given else "nothing says what to do"
            raise Validation(f"{text}: give exactly one of submit, plan and template", field="submit")
        if not 0 <= ask.grace_ms <= spec.DAY_MS:
            raise Validation("grace_ms must be between 0 and a day", field="grace_ms")
        wanted = ask.plan if ask.template is None else ask.template
        request = None if wanted is None else self._request(wanted, given[0])
        asked = codec.encode(msgspec.structs.replace(ask, submit=None, idempotency_key=None))
        admitted = None if ask.submit is None else self._admitted(ask.submit)
        digest = codec.digest([asked, (admitted.digest if admitted else "").encode()])[:32]
        return schedule.Created(
            when=when,
            what=cast("schedule.What", given[0]),
            spec=admitted.spec if admitted else None,
            request=request,
            catch_up=ask.catch_up,
            overlap=ask.overlap,
            grace_ms=ask.grace_ms,
            description=ask.description,
            digest=digest,
            taken_by=self._home.node,
        )

    def _request(self, wanted: plans.Submit | template.Start, name: str) -> dict[str, Any]:
        """What is asked at every tick, checked as it would be then."""
        if wanted.idempotency_key is not None:
            raise Validation("idempotency_key: the schedule has its own", field=f"{name}.idempotency_key")
        hidden = set(wanted.secrets)
        try:
            if isinstance(wanted, plans.Submit):
                definition = plans.definition(wanted)
                checking.check(definition)
                stored, found = hiding.hide(definition, self._vault, wanted.secrets)
                hidden |= set(found)
                plan.decide(plan.State(), plan.Submit(definition=stored, params=wanted.values))
        except Validation as error:
            error.details["field"] = f"{name}.{error.details.get('field', '')}".rstrip(".")
            raise
        if hidden:
            raise _secret(hidden, f"{name}.secrets")
        body = codec.encode(wanted)
        if len(body) > REQUEST_MAX:
            raise TooLarge(f"{name} is larger than {REQUEST_MAX} bytes", field=name, limit=REQUEST_MAX)
        return msgspec.json.decode(body)

    def _admitted(self, submit: spec.Submit) -> admission.Admitted:
        try:
            for name, what in (("delay_ms", "every_ms or at"), ("at", "at"), ("idempotency_key", "its own")):
                if getattr(submit, name) is not None:
                    raise Validation(
                        f"{name} has no place in what is scheduled: the schedule has {what}", field=name
                    )
            admitted = admission.admit(
                submit, self._vault, self._home.default_timeout_ms, self._home.catalogue
            )
        except HindbrainError as error:
            if "field" in error.details:
                error.details["field"] = f"submit.{error.details['field']}"
            raise
        if admitted.secrets:
            raise _secret(admitted.secrets, "submit.secrets")
        return admitted

    def _get(self, ask: asks.Get, call: Call) -> None:
        if not 0 <= ask.count <= COUNT_MAX:
            raise Validation(f"count must be between 0 and {COUNT_MAX}", field="count")

        def reply(outcome: Outcome) -> Message:
            return asks.One(schedule=show(outcome.snapshot.state, ask.count))

        self._command(call, ask.schedule_id, schedule.Look(), reply)

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX, ask.status, STATUSES)

        def reply(table: Table) -> Message:
            return _page(table, ask)

        self._clerk.question(call, almanac.SCHEDULES, (), reply, min_seq=ask.min_seq)

    def _pause(self, ask: asks.Pause, call: Call) -> None:
        self._command(call, ask.schedule_id, schedule.Pause(reason=ask.reason), _changed)

    def _resume(self, ask: asks.Resume, call: Call) -> None:
        self._command(call, ask.schedule_id, schedule.Resume(now_ms=milliseconds()), _changed)

    def _delete(self, ask: asks.Delete, call: Call) -> None:
        self._command(call, ask.schedule_id, schedule.Delete(reason=ask.reason), _changed)

    def _run(self, ask: asks.Run, call: Call) -> None:
        """Grant it, have it stored, and answer its id."""
        granted: list[Outcome] = []

        def reply(outcome: Outcome) -> Message:
            granted.append(outcome)
            ticked = cast("Ticked", outcome.facts[0].event)
            return asks.Started(
                schedule_id=ask.schedule_id,
                tick=ticked.tick,
                seq=outcome.snapshot.seq,
                execution_id=ticked.execution_id or msgspec.UNSET,
                plan_id=ticked.plan_id or msgspec.UNSET,
            )

        def launch(body: bytes) -> None:
            def launched(_: bytes) -> None:
                call.answer(body)

            self._launch(granted[0], msgspec.structs.replace(call, answer=launched))

        command = schedule.Run(now_ms=milliseconds())
        self._command(msgspec.structs.replace(call, answer=launch), ask.schedule_id, command, reply)

    def _launch(self, granted: Outcome, call: Call) -> None:
        """Submit what was granted; the timer does the same should this node die before."""
        state, ticked = granted.snapshot.state, cast("Ticked", granted.facts[0].event)
        ask = almanac.submission(state, ticked, self._home.node, call.by)
        if ask is not None:
            self._clerk.command(call, ask.decider, ask.entity, ask.command, _submitted)
            return

        def done(answer: bytes | HindbrainError) -> None:
            if isinstance(answer, HindbrainError):
                call.refuse(answer)
            else:
                call.answer(answer)

        kind, verb, body = almanac.request(state, ticked)
        self._doors.request(kind, verb, body, PLAN_SECONDS, done)

    def _command(
        self, call: Call, entity: str, command: AnyCommand, reply: Callable[[Outcome], Message]
    ) -> None:
        if not ids.TOKEN.fullmatch(entity):
            raise _unknown(entity)

        def refuse(error: HindbrainError) -> None:
            call.refuse(_unknown(entity) if isinstance(error, NotFound) else error)

        self._clerk.command(msgspec.structs.replace(call, refuse=refuse), SCHEDULE, entity, command, reply)


def _unknown(entity: str) -> NotFound:
    return NotFound(f"Schedule not found: {entity}", schedule_id=entity)


def _when(ask: asks.Create) -> When:
    """Read when it is to happen; times are stored in UTC."""
    when = When(
        at=ask.at, every_ms=ask.every_ms, cron=ask.cron, zone=ask.zone, starts=ask.starts, ends=ask.ends
    )
    calendar.check(when)
    moments = {
        name: stamp(calendar.moment(text, name))
        for name in ("at", "starts", "ends")
        if (text := getattr(when, name)) is not None
    }
    return msgspec.structs.replace(when, **moments)


def _secret(names: Iterable[str], field: str) -> Validation:
    return Validation(
        f"{', '.join(sorted(set(names)))}: values of secrets are kept only until their execution ends, so "
        "they cannot be scheduled: set them in the environment of the node, or let a script read them where "
        "they are kept",
        field=field,
    )


def _submitted(outcome: Outcome) -> Message:  # noqa: ARG001  the shape of a reply; nobody reads this one
    return Message()


def _changed(outcome: Outcome) -> Message:
    state: State = outcome.snapshot.state
    return asks.Changed(
        schedule_id=state.id,
        status=state.status,
        changed=bool(outcome.facts),
        next=state.coming(NEXT),
        seq=outcome.snapshot.seq,
    )


def _page(table: Table, ask: asks.List) -> asks.Page:
    rows = sorted(((row[-1], almanac.state(row)) for row in table.rows), key=lambda each: -each[0])
    found = [
        (born, state)
        for born, state in rows
        if (ask.before is None or born < ask.before)
        and (state.status == ask.status if ask.status else state.status != "deleted")
    ]
    page = found[: ask.limit]
    more = page[-1][0] if len(found) > len(page) else None
    return asks.Page(schedules=[show(state, NEXT) for _, state in page], next=more)


def show(state: State, count: int) -> asks.Schedule:
    """A schedule as the doors show it."""
    created = state.created
    assert created is not None  # noqa: S101  what was found was created
    when = created.when
    request = created.request
    return asks.Schedule(
        id=state.id,
        status=state.status,
        description=created.description,
        what=created.what,
        command=created.spec.text if created.spec else str((request or {}).get("name") or created.what),
        when=calendar.text(when),
        at=when.at,
        every_ms=when.every_ms,
        cron=when.cron,
        zone=when.zone,
        starts=when.starts,
        ends=when.ends,
        catch_up=created.catch_up,
        overlap=created.overlap,
        grace_ms=created.grace_ms,
        request=request or msgspec.to_builtins(created.spec),
        created_at=created.at or None,
        next=state.coming(count),
        last=msgspec.to_builtins(state.last) if state.last else None,
        passed=msgspec.to_builtins(state.passed) if state.passed else None,
        runs=state.runs,
        seq=state.seq,
    )
