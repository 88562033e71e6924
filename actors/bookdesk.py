"""What the desks for playbooks have in common: to begin one, to read one, to change one."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import hiding
from actors.clerk import Clerk, Turns, answer, kindly
from actors.home import Home, milliseconds
from actors.saving import Saver
from actors.vault import Vault
from events import codec, estimate, ids, phases, playbook, playing, workspace
from events.artifact import ARTIFACT, Refer, Referenced
from events.asks import playbook as asks
from events.errors import HindbrainError, NotFound, Unavailable
from events.message import Command, Message
from events.playbook import PLAYBOOK, State
from events.played import Initialize, Memory
from events.ports import Ask, Call, Loaded, Log, Outcome, Snapshot
from events.workspace import WORKSPACE

log = logging.getLogger(__name__)


class BookDesk:
    """A desk for playbooks, in the thread of the gateway."""

    def __init__(
        self, clerk: Clerk, journal: Log, home: Home, vault: Vault, saver: Saver, turn: Turns
    ) -> None:
        self.clerk, self.log, self.home, self.vault = clerk, journal, home, vault
        self.saver, self.turn = saver, turn

    def begin(
        self,
        call: Call,
        entity: str,
        initialized: playbook.Initialized,
        memory: Memory | None,
        *,
        kept: bool,
    ) -> None:
        """Have its workspace opened, and it stored."""
        name = initialized.definition.workspace

        def opened(outcome: Outcome) -> None:
            state: workspace.State = outcome.snapshot.state
            path = state.opened.path if state.opened is not None else None
            made = msgspec.structs.replace(
                initialized, workspace_path=path, **playing.papers(entity, name, path)
            )
            command = Initialize(initialized=made, memory=memory, now_ms=milliseconds())
            ask = Ask(
                PLAYBOOK, entity, command, by=call.by, trace=call.trace, known=Snapshot(PLAYBOOK.initial)
            )
            self.log.handle([ask], stored)

        def stored(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.error is None and memory is not None:
                    self._refer(entity, memory, call)
                answer(call, lambda outcome=outcome: self._begun(outcome, kept))

        self._ask(call, Ask(WORKSPACE, name, workspace.Open(name=name), by=call.by), opened)

    def _refer(self, entity: str, memory: Memory, call: Call) -> None:
        """What a fork remembers it needs as much as where it branched off from."""
        wanted = [
            Ask(ARTIFACT, each, Refer(reference=reference), by=call.by)
            for cell in memory.cells
            if cell.result is not None
            for each in cell.result.artifacts
            for reference in [Referenced(by=entity, phase_id=cell.phase_id, step=cell.step)]
        ]
        if wanted:
            self.log.handle(wanted, told)

    def _begun(self, outcome: Outcome, kept: bool) -> Message | HindbrainError:
        entity, error = outcome.ask.entity, outcome.error
        if error is not None:
            if kept and not isinstance(error, Unavailable) and error.status < 500:
                self.vault.drop(entity)
            error.details.setdefault("playbook_id", entity)
            return error
        state: State = outcome.snapshot.state
        fork = state.initialized.fork if state.initialized is not None else None
        steps = estimate.number(state.total, "steps")
        accepted = asks.Accepted(
            playbook_id=entity,
            status=state.status,
            message=f"Playbook started with {steps}.",
            monitor_url=f"{self.home.monitor_url}/playbooks/{entity}",
            seq=outcome.facts[0].seq if outcome.facts else outcome.snapshot.seq,
            duplicate=not outcome.facts,
        )
        if fork is None:
            return accepted
        return msgspec.structs.replace(accepted, fork_of=fork.playbook_id, checkpoint_id=fork.checkpoint_id)

    def change(self, ask: Any, call: Call, command: Command) -> None:
        """Have a command decided, and answer what the playbook is after it."""

        def reply(outcome: Outcome) -> Message:
            state: State = outcome.snapshot.state
            return asks.Changed(
                playbook_id=state.id,
                status=state.status,
                changed=bool(outcome.facts),
                seq=outcome.snapshot.seq,
                checkpoint_id=state.current,
            )

        self.clerk.command(
            kindly(call, unknown(ask.playbook_id)), PLAYBOOK, named(ask.playbook_id), command, reply
        )

    # ---- reading -----------------------------------------------------------------------------------------

    def read_one(self, call: Call, entity: str, act: Callable[[State], None]) -> None:
        """Read one and go on with it in the gateway's thread; what that raises is the answer."""

        def read(loaded: Sequence[Loaded]) -> None:
            for each in loaded:
                self.turn(call, lambda each=each: go_on(each))

        def go_on(loaded: Loaded) -> None:
            if loaded.error is not None:
                raise loaded.error
            if not loaded.snapshot.n:
                raise unknown(entity)
            act(loaded.snapshot.state)

        self.log.load(PLAYBOOK, [named(entity)], read)

    def look_at(self, call: Call, entity: str, reply: Callable[[State, int], Message]) -> None:
        """Read one as the log knows it, and answer what `reply` makes of it."""

        def shown(outcome: Outcome) -> Message:
            return reply(outcome.snapshot.state, outcome.snapshot.seq)

        self.clerk.command(kindly(call, unknown(entity)), PLAYBOOK, named(entity), playbook.Look(), shown)

    def _ask(self, call: Call, ask: Ask, act: Callable[[Outcome], None]) -> None:
        def done(outcomes: Sequence[Outcome]) -> None:
            for outcome in outcomes:
                if outcome.error is not None:
                    call.refuse(outcome.error)
                else:
                    act(outcome)

        self.log.handle([ask], done)


def told(outcomes: Sequence[Outcome]) -> None:
    """Say what could not be noted."""
    for outcome in outcomes:
        if outcome.error is not None:
            log.warning("%s: %s", outcome.ask.entity, outcome.error)


def digest(definition: phases.Definition, rest: list[Any]) -> str:
    """A hash of a wish, by which a repeat is told from another one under the same key."""
    nameless = phases.raised(definition, hiding.nameless(phases.flat(definition)))
    return codec.digest([codec.encode(nameless), msgspec.json.encode(rest, order="sorted")])[:32]


def unknown(entity: str) -> NotFound:
    """Nobody knows a playbook of that id."""
    return NotFound(f"Playbook not found: {entity}", playbook_id=entity)


def named(entity: str) -> str:
    """An id that can be one."""
    if not ids.TOKEN.fullmatch(entity):
        raise unknown(entity)
    return entity
