"""The desk for checkpoints: made by hand, looked at, gone on from, and branched off from."""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from actors import hiding
from actors.bookdesk import BookDesk, digest
from actors.clerk import Verbs, answer
from actors.home import milliseconds
from events import ids, params, phases, playbook, portrait
from events.asks import playbook as asks
from events.errors import Conflict, Damaged, HindbrainError, NotFound, Validation
from events.message import Message
from events.playbook import PLAYBOOK, State
from events.played import CheckpointCreated, Fork, Memory, Save
from events.ports import Call, Outcome

TRIES = 5
"""How often a checkpoint on command is tried while the playbook goes on under its hands."""


class Checkpoints(BookDesk):
    """Answers the verbs that are about checkpoints."""

    @property
    def verbs(self) -> Verbs:
        """What is done for each verb."""
        return {
            ("playbook", "resume"): self._resume,
            ("playbook", "fork"): self._fork,
            ("playbook", "checkpoint"): self._checkpoint,
            ("playbook", "checkpoints"): self._checkpoints,
            ("playbook", "validate"): self._validate,
        }

    def _checkpoints(self, ask: asks.Named, call: Call) -> None:
        def reply(state: State, seq: int) -> Message:
            return asks.Checkpoints(checkpoints=list(map(portrait.checkpoint, state.checkpoints)), seq=seq)

        self.look_at(call, ask.playbook_id, reply)

    def _resume(self, ask: asks.Resume, call: Call) -> None:
        """Go on: from a checkpoint that is named, or that of a run that is over, only when it is whole."""

        def found(state: State) -> None:
            now = milliseconds()
            if not state.saves or (ask.checkpoint_id is None and state.ending != "failed"):
                self.change(ask, call, playbook.Resume(checkpoint_id=ask.checkpoint_id, now_ms=now))
                return
            checkpoint = _wanted(state, ask.checkpoint_id)

            def go_on(memory: Memory) -> None:
                name = checkpoint.checkpoint_id
                self.change(
                    ask, call, playbook.Resume(checkpoint_id=name, memory=memory, now_ms=milliseconds())
                )

            # What the rules refuse in any case is refused before anything is read.
            playbook.decide(
                state, playbook.Resume(checkpoint_id=checkpoint.checkpoint_id, memory=Memory(), now_ms=now)
            )
            self._reading(call, state, checkpoint, go_on)

        self.read_one(call, ask.playbook_id, found)

    def _fork(self, ask: asks.Branch, call: Call) -> None:
        def found(state: State) -> None:
            checkpoint = _wanted(state, ask.checkpoint_id)
            self._reading(
                call, state, checkpoint, lambda memory: self._branch(ask, call, state, checkpoint, memory)
            )

        self.read_one(call, ask.playbook_id, found)

    def _branch(
        self, ask: asks.Branch, call: Call, state: State, checkpoint: CheckpointCreated, memory: Memory
    ) -> None:
        known = state.initialized
        assert known is not None  # noqa: S101  what was found was started
        values = {**memory.params, **ask.set}
        params.resolve(state.definition.params, values, "set")
        key = ask.idempotency_key or call.key or None
        entity = ids.derived("playbook", key) if key else ids.fresh("playbook", milliseconds())
        kept = False
        if wanted := hiding.wanted(phases.flat(state.definition)):
            values_kept = self.vault.get(state.id) or ask.secrets
            if not values_kept:
                raise Validation(
                    "its secrets are gone since its end: give them again in secrets", field="secrets"
                )
            kept = wanted and self.vault.put(entity, values_kept)
        fork = Fork(playbook_id=state.id, checkpoint_id=checkpoint.checkpoint_id, set=ask.set)
        initialized = playbook.Initialized(
            definition=state.definition,
            params=values,
            digest=digest(state.definition, [values, fork.playbook_id, fork.checkpoint_id]),
            taken_by=self.home.node,
            intent_instance_id=known.intent_instance_id,
            fork=fork,
        )
        self.begin(call, entity, initialized, msgspec.structs.replace(memory, params=values), kept=kept)

    # ---- checkpoints -------------------------------------------------------------------------------------

    def _checkpoint(self, ask: asks.Checkpoint, call: Call, tries: int = TRIES) -> None:
        def found(state: State) -> None:
            if not state.saves:
                raise Conflict("no checkpoints are made of this run: supports_resume is false")
            playbook.decide(state, _dry(state))
            self.saver.save(state, "command", made)

        def made(command: Save | HindbrainError) -> None:
            if isinstance(command, HindbrainError):
                call.refuse(command)
            else:
                again = msgspec.structs.replace(call, refuse=refused)
                self.clerk.command(
                    again, PLAYBOOK, ask.playbook_id, command, lambda outcome: stored(outcome, command)
                )

        def refused(error: HindbrainError) -> None:
            if isinstance(error, Conflict) and "meanwhile" in error.message and tries > 1:
                self.turn(call, lambda: self._checkpoint(ask, call, tries - 1))
            else:
                call.refuse(error)

        def stored(outcome: Outcome, command: Save) -> Message:
            checkpoint = command.checkpoint
            names = ("checkpoint_id", "checksum", "size", "raw_size", "at", "position", "schema_version")
            fields = {name: getattr(checkpoint, name) for name in names}
            return asks.Saved(playbook_id=ask.playbook_id, seq=outcome.snapshot.seq, **fields)

        self.read_one(call, ask.playbook_id, found)

    def _validate(self, ask: asks.Validate, call: Call) -> None:
        def found(state: State) -> None:
            checkpoint = _wanted(state, ask.checkpoint_id)

            def read(answered: Memory | HindbrainError) -> None:
                answer(call, lambda: made(answered))

            def made(answered: Memory | HindbrainError) -> Message | HindbrainError:
                if isinstance(answered, HindbrainError) and not isinstance(answered, Damaged):
                    return answered
                bad = answered if isinstance(answered, Damaged) else None
                before = playbook.latest(state, checkpoint.checkpoint_id)
                return asks.Valid(
                    playbook_id=state.id,
                    checkpoint_id=checkpoint.checkpoint_id,
                    valid=bad is None,
                    problem=None if bad is None else portrait.problem(bad.problem),
                    previous=before.checkpoint_id if before is not None else None,
                    data=cast("dict[str, Any]", msgspec.to_builtins(answered))
                    if ask.data and isinstance(answered, Memory)
                    else None,
                )

            self.saver.read(checkpoint, read)

        self.read_one(call, ask.playbook_id, found)

    def _reading(
        self, call: Call, state: State, checkpoint: CheckpointCreated, act: Callable[[Memory], None]
    ) -> None:
        """Read a checkpoint; when it is damaged, the refusal names the one before it."""

        def read(memory: Memory | HindbrainError) -> None:
            if isinstance(memory, Memory):
                self.turn(call, lambda: act(memory))
            elif isinstance(memory, Damaged):
                before = playbook.latest(state, checkpoint.checkpoint_id)
                offer = f"; the one before it is {before.checkpoint_id}" if before is not None else ""
                name = before.checkpoint_id if before is not None else None
                call.refuse(Damaged(f"{memory.message}{offer}", **{**memory.details, "previous": name}))
            else:
                call.refuse(memory)

        self.saver.read(checkpoint, read)


def _dry(state: State) -> Save:
    """A checkpoint that nobody stores, to see whether the rules would take one."""
    checkpoint = CheckpointCreated(
        checkpoint_id="", reason="command", at=state.at, checksum="", size=0, raw_size=0, position=state.seq
    )
    return Save(checkpoint=checkpoint, now_ms=milliseconds())


def _wanted(state: State, name: str | None) -> CheckpointCreated:
    found = state.checkpoint(name) or (playbook.latest(state) if name is None else None)
    if found is None:
        if name is None:
            raise Conflict("there is no checkpoint of it yet")
        raise NotFound(f"Checkpoint not found: {name}", checkpoint_id=name)
    return found
