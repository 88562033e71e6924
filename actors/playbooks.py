"""The desk for playbooks: what is asked of them, checked, stored and answered."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import answers, hiding
from actors.bookdesk import BookDesk, digest, named, unknown
from actors.clerk import Clerk, Gather, Table, Turns, Verbs, check_page
from actors.home import Home, milliseconds
from actors.saving import Saver
from actors.vault import Vault
from actors.waiting import Awaited, Ended, Waiter
from events import (
    bearings,
    codec,
    faults,
    ids,
    phases,
    playbook,
    portrait,
)
from events.asks import playbook as asks
from events.codec import Fact
from events.errors import TooLarge, Validation
from events.message import Message
from events.playbook import PLAYBOOK, State
from events.played import CheckpointCreated
from events.ports import Call, Loaded, Log
from events.spec import DAY_MS

WAIT_MAX_MS = 600_000
LIST_MAX = 1000
TOKENS_MAX = 1_000_000
ANSWER_MAX = 256 * 1024
STATUSES = ("running", "paused", "waiting_input", "completed", "failed", "cancelled")
SETTLED = (playbook.Paused, playbook.Completed, playbook.Failed, playbook.Cancelled)
SHOWN = (
    *("id", "playbook_code", "version", "description", "status", "workspace_id", "phase", "step"),
    *("completed", "total", "error", "pause_reason", "parent", "fork_of", "fork_checkpoint"),
    *("wakes_at", "created_at", "updated_at", "completed_at", "seq"),
)
LISTED = f"""
SELECT {", ".join(f"p.{name}" for name in SHOWN)}, e.seq AS born
FROM playbook_executions p JOIN events e ON e.kind = 'playbook' AND e.entity = p.id AND e.n = 1
WHERE (?1 IS NULL OR p.status = ?1) AND (?2 IS NULL OR p.playbook_code = ?2)
AND (?3 IS NULL OR p.workspace_id = ?3) AND p.parent IS NOT DISTINCT FROM ?4
AND (?5 IS NULL OR p.fork_of = ?5) AND (?6 IS NULL OR e.seq < ?6) ORDER BY e.seq DESC LIMIT ?7
"""  # noqa: S608 -- only names of our own columns stand in it
ARTIFACTS = """
SELECT a.id, coalesce(r.data->>'$.title', a.name), a.size, r.data->>'$.phase_id', r.data->>'$.step'
FROM artifacts a JOIN events r ON r.kind = 'artifact' AND r.entity = a.id AND r.event = 'referenced'
WHERE (r.data->>'$.by') = ?1 AND a.status = 'kept' ORDER BY r.seq DESC
"""


class Playbooks(BookDesk):
    """Answers the verbs of playbooks, in the thread of the gateway."""

    def __init__(
        self,
        clerk: Clerk,
        journal: Log,
        home: Home,
        vault: Vault,
        saver: Saver,
        turn: Turns,
        waiter: Callable[[Any], None],
    ) -> None:
        super().__init__(clerk, journal, home, vault, saver, turn)
        self._waiter = waiter

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("playbook", "run"): self._run,
            ("playbook", "get"): self._get,
            ("playbook", "wait"): self._wait,
            ("playbook", "list"): self._list,
            ("playbook", "pause"): lambda ask, call: self.change(
                ask, call, playbook.Pause(reason=ask.reason)
            ),
            ("playbook", "cancel"): self._cancel,
            ("playbook", "answer"): self._answer,
            ("playbook", "summarize"): self._summarize,
            ("playbook", "summaries"): self._summaries,
            ("playbook", "context"): self._context,
            ("playbook", "bearings"): self._bearings,
            ("playbook", "diff"): self._diff,
        }

    # ---- beginning ---------------------------------------------------------------------------------------

    def _run(self, ask: asks.Run, call: Call) -> None:
        definition = asks.definition(ask)
        faults.check(definition)
        answers.schemas(definition)
        key = ask.idempotency_key or call.key or None
        entity = ids.derived("playbook", key) if key else ids.fresh("playbook", milliseconds())
        stored, kept = self._hidden(entity, definition, ask.secrets)
        body = [ask.values, ask.intent_instance_id, ask.supports_resume]
        initialized = playbook.Initialized(
            definition=stored,
            params=ask.values,
            digest=digest(stored, body),
            taken_by=self.home.node,
            intent_instance_id=ask.intent_instance_id,
            supports_resume=ask.supports_resume,
        )
        self.begin(call, entity, initialized, None, kept=kept)

    def _hidden(
        self, entity: str, definition: phases.Definition, secrets: dict[str, str]
    ) -> tuple[phases.Definition, bool]:
        """Part it from the values of its secrets, and keep those here."""
        plan, found = hiding.hide(phases.flat(definition), self.vault, secrets)
        if any(name.count("/") > 1 for name in found):
            raise Validation(
                "secrets of what is inside of a plan or a playbook that is a step are not kept: let a script "
                "read them where they are kept",
                field="secrets",
            )
        return phases.raised(definition, plan), hiding.keep(entity, plan, found, self.vault)

    # ---- looking -----------------------------------------------------------------------------------------

    def _get(self, ask: asks.Get, call: Call) -> None:
        if (ask.playbook_id is None) == (ask.idempotency_key is None):
            raise Validation("give playbook_id or idempotency_key, one of them", field="playbook_id")
        entity = ask.playbook_id or ids.derived("playbook", ask.idempotency_key or "")

        def reply(state: State, seq: int) -> Message:
            return asks.One(playbook=portrait.playbook(state, seq, milliseconds()))

        self.look_at(call, entity, reply)

    def _wait(self, ask: asks.Wait, call: Call) -> None:
        if not 0 <= ask.timeout_ms <= WAIT_MAX_MS:
            raise Validation(f"timeout_ms must be between 0 and {WAIT_MAX_MS}", field="timeout_ms")
        self._waiter(Awaited(call, named(ask.playbook_id), ask.timeout_ms / 1000))

    def _list(self, ask: asks.List, call: Call) -> None:
        check_page(ask.limit, LIST_MAX, ask.status, STATUSES)

        def reply(table: Table) -> Message:
            rows = [dict(zip(SHOWN, row, strict=False)) for row in table.rows[: ask.limit]]
            more = table.rows[ask.limit - 1][-1] if len(table.rows) > ask.limit else None
            return asks.Page(playbooks=rows, next=more)

        params = [ask.status, ask.name, ask.workspace, ask.parent, ask.fork_of, ask.before, ask.limit + 1]
        self.clerk.question(call, LISTED, params, reply, min_seq=ask.min_seq)

    def _summaries(self, ask: asks.Named, call: Call) -> None:
        def reply(state: State, seq: int) -> Message:
            order = [phase.id for phase in state.definition.phases]
            said = [state.summaries[name] for name in order if name in state.summaries]
            return asks.Summaries(summaries=[msgspec.structs.asdict(each) for each in said], seq=seq)

        self.look_at(call, ask.playbook_id, reply)

    def _context(self, ask: asks.Context, call: Call) -> None:
        if not 1 <= ask.max_tokens <= TOKENS_MAX:
            raise Validation(f"max_tokens must be between 1 and {TOKENS_MAX}", field="max_tokens")

        def reply(state: State, artifacts: list[dict[str, Any]]) -> Message:
            text = bearings.context(state, artifacts, ask.max_tokens)
            return asks.Known(
                playbook_id=state.id,
                context=text,
                tokens=bearings.tokens(text),
                max_tokens=ask.max_tokens,
                seq=state.seq,
            )

        self._with_artifacts(call, ask.playbook_id, reply)

    def _bearings(self, ask: asks.Named, call: Call) -> None:
        def reply(state: State, artifacts: list[dict[str, Any]]) -> Message:
            return bearings.bearings(state, artifacts, state.seq)

        self._with_artifacts(call, ask.playbook_id, reply)

    def _with_artifacts(
        self, call: Call, entity: str, reply: Callable[[State, list[dict[str, Any]]], Message]
    ) -> None:
        def found(state: State) -> None:
            def asked(table: Table) -> Message:
                names = ("id", "name", "size", "phase_id", "step")
                return reply(state, [dict(zip(names, row, strict=True)) for row in table.rows])

            self.clerk.question(call, ARTIFACTS, [state.id], asked, min_seq=state.seq)

        self.read_one(call, entity, found)

    def _diff(self, ask: asks.Diff, call: Call) -> None:
        one, other = named(ask.playbook_id), named(ask.other_id)

        def read(loaded: list[Loaded]) -> None:
            states = {each.entity: each for each in loaded}
            for name in (one, other):
                if (error := states[name].error) is not None:
                    raise error
                if not states[name].snapshot.n:
                    raise unknown(name)
            a, b = states[one].snapshot.state, states[other].snapshot.state
            call.answer(codec.encode(bearings.difference(a, b)))

        wanted = list(dict.fromkeys((one, other)))
        gather = Gather[Loaded](len(wanted), lambda found: self.turn(call, lambda: read(found)))
        self.log.load(PLAYBOOK, wanted, gather)

    # ---- changing ----------------------------------------------------------------------------------------

    def _cancel(self, ask: asks.Cancel, call: Call) -> None:
        if ask.grace_ms is not None and not 0 <= ask.grace_ms <= DAY_MS:
            raise Validation("grace_ms must be between 0 and a day", field="grace_ms")
        command = playbook.Cancel(reason=ask.reason, grace_ms=ask.grace_ms, now_ms=milliseconds())
        self.change(ask, call, command)

    def _summarize(self, ask: asks.Summarize, call: Call) -> None:
        command = playbook.Summarize(
            phase_id=ask.phase_id, summary=ask.summary, artifacts=tuple(ask.artifacts), by=ask.by or call.by
        )
        self.change(ask, call, command)

    def _answer(self, ask: asks.Answer, call: Call) -> None:
        """See whether it fits the schema, then let the first one win."""
        if len(msgspec.json.encode(ask.value)) > ANSWER_MAX:
            raise TooLarge(f"the answer is larger than {ANSWER_MAX} bytes", field="value")

        def found(state: State) -> None:
            going = state.going
            if going is not None and going.asked is not None and ask.step in (None, going.step):
                answers.check(going.asked.schema, ask.value)
            command = playbook.Answer(
                value=ask.value, by=ask.by or call.by, step=ask.step, now_ms=milliseconds()
            )
            self.change(ask, call, command)

        self.read_one(call, ask.playbook_id, found)


def waiter(journal: Log, tell: Callable[[Any], None]) -> Waiter:
    """Set up who answers those who wait for the end of a playbook, or for a pause."""

    def waited(loaded: Loaded) -> Message:
        state: State = loaded.snapshot.state
        shown = portrait.playbook(state, loaded.snapshot.seq, milliseconds())
        return asks.Waited(playbook=shown, done=state.over)

    def settled(state: State) -> bool:
        return state.over or (state.pause is not None and state.going is None and not state.dirty)

    return Waiter(PLAYBOOK, journal, tell, settled, waited)


def settled(facts: Sequence[Fact] | None, vault: Vault) -> Ended | None:
    """What facts mean for those who wait; secrets of what ended well are forgotten."""
    if facts is None:
        return Ended(None)
    mine = [fact for fact in facts if fact.kind == "playbook"]
    for fact in mine:
        if isinstance(fact.event, playbook.Completed | playbook.Cancelled):
            vault.forget([fact.entity])
    ends = [fact.entity for fact in mine if isinstance(fact.event, (*SETTLED, CheckpointCreated))]
    return Ended(ends) if ends else None
