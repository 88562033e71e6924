"""What is offered to a node, until it can be claimed: its history and its secrets have to be here first."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from actors import languages
from actors.attempt import Brought, Looked, Run, Shared, born
from actors.files import STREAMS, Files
from actors.slots import Slots
from actors.vault import Vault
from events.errors import HindbrainError, NotFound
from events.execution import EXECUTION, State
from events.ports import Delivery, Loaded, Log, Outlet, Peers, Snapshot

log = logging.getLogger(__name__)

FOREIGN_SECONDS = 3.0
"""Until what cannot be run on this machine is offered again, to anybody."""
AGAIN_SECONDS = 1.0
"""Until what cannot be claimed now is offered again."""


class Offers:
    """Looks at deliveries; `start` gets those that can be claimed, with what is known of them."""

    def __init__(
        self,
        node: str,
        journal: Log,
        outlet: Outlet,
        files: Files,
        peers: Peers,
        vault: Vault,
        runs: dict[str, Run],
        tell: Callable[[Any], None],
        slots: Slots,
        start: Callable[[Delivery, Snapshot[State]], None],
    ) -> None:
        self._outlet, self._files = outlet, files
        self._node, self._log, self._peers, self._vault = node, journal, peers, vault
        self._runs, self._tell, self._slots, self._start = runs, tell, slots, start

    def claim(self, delivery: Delivery) -> None:
        """There is a place for it: learn what it needs."""
        fact = delivery.fact
        entity = fact.entity
        run = self._runs.get(entity)
        if run is not None and run.phase != "claiming" and fact.seq <= run.snapshot.seq:
            delivery.ack()
        elif run is not None:
            # It comes twice before its claim is answered, or before the end of the last attempt is.
            delivery.nak(AGAIN_SECONDS)
        elif fact.n == 1:
            self._gather(delivery, born(fact))
        else:
            self._slots.defer()
            self._log.load(
                EXECUTION, [entity], lambda loaded: self._tell(Looked(delivery, next(iter(loaded))))
            )

    def receive(self, message: Looked | Brought | Shared) -> None:
        """Deal with what an offer waited for."""
        match message:
            case Looked(delivery, loaded):
                self._looked(delivery, loaded)
            case Brought(delivery, snapshot, good):
                self._brought(delivery, snapshot, good)
            case Shared(delivery, snapshot, answer):
                self._shared(delivery, snapshot, answer)

    def _looked(self, delivery: Delivery, loaded: Loaded) -> None:
        """What it was before is known now; an offer that something newer has overtaken is over."""
        self._slots.resume()
        if loaded.error is not None:
            delivery.nak(AGAIN_SECONDS)
        elif loaded.snapshot.state.queued > delivery.fact.seq or loaded.snapshot.state.phase == "over":
            delivery.ack()
        elif not self._slots.free or delivery.fact.entity in self._runs:
            delivery.nak(0.0)
        elif _moved(loaded.snapshot.state, self._node):
            self._bring(delivery, loaded.snapshot)
        else:
            self._gather(delivery, loaded.snapshot)

    def _bring(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        """An attempt was made elsewhere: the next one goes on behind its output, so that has to be here."""
        entity, answers = delivery.fact.entity, list[bool]()
        self._slots.defer()

        def done(good: bool) -> None:
            answers.append(good)
            if len(answers) == len(STREAMS):
                self._tell(Brought(delivery, snapshot, all(answers)))

        for stream in STREAMS:
            self._outlet.restore(entity, stream, self._files.output(entity, stream), done)

    def _brought(self, delivery: Delivery, snapshot: Snapshot[State], good: bool) -> None:
        """It is here, or cannot be had now."""
        self._slots.resume()
        if good and self._slots.free and delivery.fact.entity not in self._runs:
            self._gather(delivery, snapshot)
        else:
            delivery.nak(0.0 if good else AGAIN_SECONDS)

    def _gather(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        """Its secrets have to be here before it is claimed; the node that took it has them."""
        entity, state = delivery.fact.entity, snapshot.state
        language = state.spec.language
        if language is not None and not languages.runs(language):
            # Another node took it, whose machine can; it waits for that one, or one like it.
            delivery.nak(FOREIGN_SECONDS)
        elif self._vault.of(entity, state.spec) is not None:
            self._start(delivery, snapshot)
        else:
            self._share(delivery, snapshot)

    def _share(self, delivery: Delivery, snapshot: Snapshot[State]) -> None:
        """The node that took it has its secrets."""
        entity, state = delivery.fact.entity, snapshot.state
        if state.taken_by == self._node:
            log.warning("%s: its secrets are gone from this node", entity)
        self._slots.defer()
        above = state.spec.plan_id or state.spec.playbook_id
        whose = {"execution_id": entity, "plan_id": above, "step": state.spec.step}
        self._peers.ask(
            state.taken_by,
            "secrets",
            msgspec.json.encode({**whose, "names": sorted(state.spec.secrets)}),
            AGAIN_SECONDS,
            lambda answer: self._tell(Shared(delivery, snapshot, answer)),
        )

    def _shared(self, delivery: Delivery, snapshot: Snapshot[State], answer: bytes | HindbrainError) -> None:
        """With the secrets here the claim can go on; while their keeper is away, others may be luckier."""
        self._slots.resume()
        entity = delivery.fact.entity
        if isinstance(answer, bytes):
            self._vault.put(entity, msgspec.json.decode(answer, type=dict[str, str]))
        elif not isinstance(answer, NotFound):
            delivery.nak(AGAIN_SECONDS)
            return
        if self._slots.free and entity not in self._runs:
            self._start(delivery, snapshot)
        else:
            delivery.nak(0.0)


def _moved(state: State, node: str) -> bool:
    return state.started is not None and state.started.node != node
