"""From a request to what the log is asked to store: the checks, the id, the secrets, when it may start."""

from dataclasses import dataclass
from typing import Any

import msgspec

from actors import admission
from actors.home import Home, milliseconds
from actors.vault import Vault
from events import codec, execution, ids, spec
from events.errors import HindbrainError, NotOver, Unavailable, Validation
from events.execution import EXECUTION, State
from events.ports import Ask, Call, Outcome, Snapshot


@dataclass(frozen=True, slots=True)
class Stored:
    """What a submission has to remember: whether it put secrets aside."""

    kept: bool
    retry_of: str | None


class Submitting:
    """Makes submissions on a node, which keeps their secrets."""

    def __init__(self, home: Home, vault: Vault) -> None:
        self._home, self._vault = home, vault

    def submission(self, call: Call, wish: spec.Submit, retry_of: str | None = None) -> tuple[Ask, Stored]:
        """Check a wish and make the command; what it raises is the answer."""
        now = milliseconds()
        due = spec.due(wish, now)
        home = self._home
        home.rights.check(call, wish.job, home.catalogue)
        admitted = admission.admit(wish, self._vault, home.default_timeout_ms, home.catalogue)
        key = wish.idempotency_key
        entity = ids.fresh("execution", now) if key is None else ids.derived("execution", key)
        kept = bool(admitted.secrets) and self._vault.put(entity, admitted.secrets)
        command = execution.Submit(
            spec=admitted.spec,
            digest=admitted.digest,
            taken_by=self._home.node,
            retry_of=retry_of,
            until=None if due is None else codec.stamp(due),
        )
        ask = Ask(EXECUTION, entity, command, by=call.by, trace=call.trace, known=Snapshot(State()))
        return ask, Stored(kept, retry_of)

    def settle(self, stored: Stored, outcome: Outcome) -> HindbrainError | None:
        """Keep or forget the secrets, now that the log has answered; gives its refusal back."""
        entity, error = outcome.ask.entity, outcome.error
        if error is None:
            if stored.kept and not outcome.facts and outcome.snapshot.state.phase == "over":
                self._vault.drop(entity)
            return None
        sure = not isinstance(error, Unavailable) and error.status < 500
        if stored.kept and sure:
            self._vault.drop(entity)
        error.details.setdefault("execution_id", entity)
        return error


def wished(entity: str, state: State, secrets: dict[str, str], key: str | None) -> spec.Submit:
    """The wish that an execution came from, made once more; only what is over can be run again."""
    if state.phase != "over":
        raise NotOver(f"{entity} is {state.status}: only what is over can be run again")
    missing = sorted(set(state.spec.secrets) - set(secrets))
    if missing:
        raise Validation(
            f"its secrets are gone since its end: give {', '.join(missing)} again in secrets",
            field="secrets",
        )
    names = set(spec.Submit.__struct_fields__) & set(spec.Spec.__struct_fields__)
    wish: dict[str, Any] = {name: getattr(state.spec, name) for name in names}
    wish |= {"secrets": secrets, "labels": list(state.spec.labels), "idempotency_key": key}
    return spec.Submit(**wish)


def with_key(wish: spec.Submit, call: Call) -> spec.Submit:
    """The key of the carrier holds when the body has none."""
    if wish.idempotency_key is None and call.key:
        return msgspec.structs.replace(wish, idempotency_key=call.key)
    return wish
