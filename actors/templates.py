"""The desk for templates: plans that are kept under a name, and started from there."""

from collections.abc import Sequence

import msgspec

from actors import clerk
from actors.clerk import Clerk, Gather, Table, Turns, Verbs, answer, check_page
from actors.plans import Plans
from actors.vault import split
from events import checking, codec, ids, spec, template
from events.asks import template as asks
from events.asks.plan import definition as planned
from events.errors import HindbrainError, NotFound, Validation
from events.message import Command, Message
from events.ports import Call, Doors, Loaded, Log, Outcome
from events.steps import Definition
from events.template import TEMPLATE, State

LIST_MAX = 1000
LISTED = """
SELECT entity FROM events WHERE kind = 'template' AND (?1 IS NULL OR entity > ?1)
GROUP BY entity HAVING last(event ORDER BY seq) <> 'deleted' ORDER BY entity LIMIT ?2
"""


class Templates:
    """Answers the verbs of templates; what is started is a plan, and begins as all plans do."""

    def __init__(self, desk: Clerk, journal: Log, doors: Doors, plans: Plans, turn: Turns) -> None:
        self._clerk, self._log, self._doors = desk, journal, doors
        self._plans, self._turn = plans, turn

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("template", "save"): self._save,
            ("template", "get"): self._get,
            ("template", "list"): self._list,
            ("template", "start"): self._start,
            ("template", "delete"): self._delete,
        }

    def _save(self, ask: asks.Save, call: Call) -> None:
        definition = planned(ask.plan)
        _check(definition)
        command = template.Save(
            name=ask.name,
            definition=definition,
            digest=codec.digest([codec.encode(definition)])[:32],
            comment=ask.comment,
        )
        if not ids.TOKEN.fullmatch(ask.name):
            raise Validation(
                f"bad template name {ask.name!r}: use a-z, 0-9, _ and -, at most 64", field="name"
            )
        self._clerk.command(call, TEMPLATE, ask.name, command, _changed)

    def _delete(self, ask: asks.Delete, call: Call) -> None:
        self._command(call, ask.name, template.Delete(reason=ask.reason))

    def _command(self, call: Call, name: str, command: Command) -> None:
        self._clerk.command(call, TEMPLATE, _named(name), command, _changed)

    def _get(self, ask: asks.Get, call: Call) -> None:
        def reply(outcome: Outcome) -> Message:
            state: State = outcome.snapshot.state
            saved = state.version(ask.version)
            return asks.One(template=_shown(state, saved), plan=msgspec.to_builtins(saved.definition))

        self._clerk.command(call, TEMPLATE, _named(ask.name), template.Look(), reply)

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX)

        def found(table: Table | HindbrainError) -> None:
            if isinstance(table, HindbrainError):
                call.refuse(table)
                return
            names = [str(row[0]) for row in table.rows]
            if names:
                self._log.load(TEMPLATE, names, Gather[Loaded](len(names), shown))
            else:
                answer(call, lambda: asks.Page(templates=[], next=None))

        def shown(loaded: list[Loaded]) -> None:
            answer(call, lambda: _page(loaded, ask.limit))

        clerk.ask(self._doors, LISTED, [ask.after, ask.limit + 1], found, min_seq=ask.min_seq)

    def _start(self, ask: asks.Start, call: Call) -> None:
        name = _named(ask.template)

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                self._turn(call, lambda each=each: self._begin(call, ask, each))

        self._log.load(TEMPLATE, [name], read)

    def _begin(self, call: Call, ask: asks.Start, loaded: Loaded) -> None:
        if loaded.error is not None:
            raise loaded.error
        state: State = loaded.snapshot.state
        if loaded.snapshot.n == 0:
            raise NotFound(f"Template not found: {ask.template}", template=ask.template)
        saved = state.version(ask.version)
        definition = template.wanted(saved, ask.items, ask.count)
        definition = msgspec.structs.replace(
            definition,
            name=definition.name or ask.template,
            labels=tuple(dict.fromkeys((*definition.labels, *ask.labels))),
            working_dir=definition.working_dir or ask.working_dir,
        )
        self._plans.begin(
            call,
            definition,
            values=ask.params,
            secrets=ask.secrets,
            key=ask.idempotency_key,
            template=ask.template,
            version=saved.version,
        )


def _check(definition: Definition) -> None:
    """A template is kept for long and read by many: no value of a secret belongs into it."""
    checking.check(definition)
    hidden = {name for name, value in split(definition.env)[1].items() if "${" not in value}

    def look(_: str, ask: spec.Submit) -> spec.Submit:
        hidden.update(ask.secrets)
        hidden.update(name for name, value in split(ask.env)[1].items() if "${" not in value)
        return ask

    checking.mapped(definition, look)
    if hidden:
        raise Validation(
            f"{', '.join(sorted(hidden))}: a template keeps no secrets, give them when it is started",
            field="plan",
        )


def _page(loaded: Sequence[Loaded], limit: int) -> Message:
    error = next((each.error for each in loaded if each.error is not None), None)
    if error is not None:
        raise error
    states: list[State] = [each.snapshot.state for each in sorted(loaded, key=lambda each: each.entity)]
    shown = [_shown(state, state.current) for state in states if state.current is not None]
    more = states[limit - 1].id if len(states) > limit else None
    return asks.Page(templates=shown[:limit], next=more)


def _changed(outcome: Outcome) -> Message:
    state: State = outcome.snapshot.state
    return asks.Changed(
        name=outcome.ask.entity,
        version=len(state.versions),
        changed=bool(outcome.facts),
        seq=outcome.snapshot.seq,
    )


def _shown(state: State, saved: template.Saved) -> asks.Template:
    definition = saved.definition
    return asks.Template(
        name=state.id,
        version=saved.version,
        versions=len(state.versions),
        description=definition.description,
        strategy=definition.strategy,
        params=msgspec.to_builtins(definition.params),
        steps=[step.name for step in definition.steps],
        comment=saved.comment,
        created_at=state.created_at,
        saved_at=state.saved_at,
        seq=state.seq,
    )


def _named(name: str) -> str:
    if not ids.TOKEN.fullmatch(name):
        raise NotFound(f"Template not found: {name}", template=name)
    return name
