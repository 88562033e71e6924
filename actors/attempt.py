"""One attempt as the executor sees it, what it is told of it, and what it concludes at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from actors import kept, preparing
from events import codec, execution
from events.errors import HindbrainError
from events.execution import End, State
from events.ports import Delivery, Loaded, Outcome, Snapshot


@dataclass(frozen=True, slots=True)
class Offered:
    """Work is offered to this node."""

    deliveries: Sequence[Delivery]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The log says what became of claims."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Kept:
    """The keeper said something."""

    messages: Sequence[kept.Message]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an execution needs before it can start has come, or has not."""

    entity: str
    error: HindbrainError | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """What is offered has a history, and that was read."""

    delivery: Delivery
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Brought:
    """The output of an earlier attempt on another node is here now, or cannot be had."""

    delivery: Delivery
    snapshot: Snapshot[State]
    good: bool


@dataclass(frozen=True, slots=True)
class Shared:
    """The node that took a command sent its secrets, or did not answer."""

    delivery: Delivery
    snapshot: Snapshot[State]
    answer: bytes | HindbrainError


@dataclass(frozen=True, slots=True)
class Finished:
    """The log says what became of ends."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Heard:
    """Facts about executions; None when some may have been missed."""

    facts: Sequence[codec.Fact] | None


@dataclass(frozen=True, slots=True)
class Owned:
    """What the tables say is running on this node."""

    answer: bytes | HindbrainError


@dataclass(frozen=True, slots=True)
class Inquired:
    """Executions that somebody mentioned were read from the log."""

    loaded: Sequence[Loaded]


@dataclass(slots=True)
class Run:
    """One attempt on this node."""

    entity: str
    snapshot: Snapshot[State]
    phase: Literal["claiming", "fetching", "running", "draining", "finishing"] = "claiming"
    delivery: Delivery | None = None
    exit: kept.End | None = None
    missing: int = 0
    """How many things it needs are still under way."""
    finish: execution.Finish | execution.Lose | None = None
    made: list[Path] = field(default_factory=list[Path])
    pid: int | None = None
    since: float = field(default_factory=time.monotonic)
    left: bool = False
    """It does not run any more, only its end has to be stored."""
    early: list[codec.Fact] = field(default_factory=list[codec.Fact])
    """Facts that came before the answer to the claim."""

    @property
    def state(self) -> State:
        """What the log says of it."""
        return self.snapshot.state


class Keeper(Protocol):
    """What the executor asks of the keeper."""

    def spawn(self, request: kept.Spawn) -> None:
        """Start an attempt, or say what became of it."""
        ...

    def kill(self, execution: str, attempt: int, reason: str, grace_ms: int) -> None:
        """End a whole tree."""
        ...

    def forget(self, execution: str, attempt: int) -> None:
        """Its end is stored."""
        ...

    def list(self) -> None:
        """Tell everything that is known."""
        ...


def born(fact: codec.Fact) -> Snapshot[State]:
    """An execution after its first event, which needs no look at the log."""
    state = execution.evolve(State(), fact)
    return Snapshot(state, 1, fact.seq, codec.chain(fact.subject, fact.envelope, fact.body), fact.time)


def verdict(run: Run, end: End) -> execution.Finish | execution.Lose:
    """How the attempt ended, by what the keeper says."""
    attempt = run.state.attempt
    match run.exit:
        case kept.Exited() as exited:
            end = msgspec.structs.replace(
                end,
                exit_code=exited.exit_code,
                signal=None if exited.signal is None else preparing.signal_name(exited.signal),
                ended_at=codec.stamp(round(exited.ended_at * 1000)),
                duration_ms=max(0, round((exited.ended_at - exited.started_at) * 1000)),
                pid=exited.pid,
                cpu_seconds=round(exited.user_seconds + exited.system_seconds, 6),
                max_rss_bytes=exited.max_rss_bytes,
            )
            why: execution.Why = "exited"
            if exited.killed in ("timeout", "output_limit"):
                why = "timeout" if exited.killed == "timeout" else "output_limit"
            elif exited.killed is not None:
                why = "cancelled"
            return execution.Finish(attempt=attempt, why=why, end=end, text=exited.killed or "")
        case kept.SpawnFailed(message=message, code=code):
            return execution.Finish(attempt=attempt, why="spawn_failed", end=end, text=message, errno=code)
        case _:
            return execution.Lose(attempt=attempt, reason="nobody saw how the command ended")
