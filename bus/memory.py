"""A log that forgets everything at the end of the process, with the manners of the one that does not.

For tests of what stands on a log, and for one process without a server.  It answers in the thread that asks,
before `handle` or `load` returns.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from bus import subjects
from bus.commit import prepare
from bus.lanes import Answers, Clock, Done, Head, Key, Scribe, blank, land
from events.codec import Fact
from events.errors import HindbrainError, Internal
from events.ports import Ask, Decider, Loaded, Outcome, Snapshot

MAX_PAYLOAD = 8 * 1024 * 1024
"""Bytes of one event with its headers."""

Listener = Callable[[Sequence[Fact]], None]


class Memory:
    """All facts in a list.  `clock` gives milliseconds since 1970, `limit` is the largest event in bytes."""

    def __init__(self, clock: Clock, *, limit: int = MAX_PAYLOAD) -> None:
        self._scribe = Scribe(clock)
        self._limit = limit
        self._lock = threading.RLock()
        self._facts: list[Fact] = []
        self._heads: dict[Key, Head] = {}
        self._histories: dict[Key, list[Fact]] = {}
        self._listeners: list[Listener] = []

    def handle(self, asks: Sequence[Ask], done: Done) -> None:
        """Decide and store; `done` gets all outcomes in one lot."""
        answers = Answers()
        with self._lock:
            before = len(self._facts)
            for ask in asks:
                answers.add(done, self._handle(ask))
            told = Answers()
            for fact in self._facts[before:]:
                for listener in self._listeners:
                    told.add(listener, fact)
            told.tell()
        answers.tell()

    def load(
        self, decider: Decider[Any], entities: Sequence[str], done: Callable[[Sequence[Loaded]], None]
    ) -> None:
        """Read whole entities with their facts."""
        answers = Answers()
        with self._lock:
            for entity in entities:
                answers.add(done, self._load(decider, entity))
        answers.tell()

    def since(self, seq: int = 0) -> list[Fact]:
        """All facts after a sequence, in order."""
        with self._lock:
            return self._facts[seq:]

    def follow(self, listener: Listener, after: int = 0) -> None:
        """Hear all facts after a sequence: at once what is there, then each lot as it is stored.

        The listener is called while nobody can write, so it must be quick and must not ask this log.
        """
        with self._lock:
            if self._facts[after:]:
                listener(self._facts[after:])
            self._listeners.append(listener)

    def _handle(self, ask: Ask) -> Outcome:
        key = (ask.decider.kind, ask.entity)
        head = self._heads.get(key) or blank(ask.decider)
        try:
            subjects.entity(*key)
            if ask.known is not None and ask.known.n > head.snapshot.n:
                text = f"{ask.entity} has {head.snapshot.n} events, and somebody saw {ask.known.n}"
                raise Internal(text, entity=ask.entity)
            made = self._scribe.decide(ask, head)
            if isinstance(made, HindbrainError):
                raise made
            prepare(made, lambda _: None, 0.0, self._limit)
        except HindbrainError as error:
            return Outcome(ask, head.snapshot, error=error)
        if not made.drafts:
            return Outcome(ask, head.snapshot)
        head, facts = land(made, len(self._facts) + 1, 0.0)
        self._facts.extend(facts)
        self._heads[key] = head
        self._histories.setdefault(key, []).extend(facts)
        return Outcome(ask, head.snapshot, facts)

    def _load(self, decider: Decider[Any], entity: str) -> Loaded:
        key = (decider.kind, entity)
        try:
            subjects.entity(*key)
        except HindbrainError as error:
            return Loaded(entity, Snapshot(decider.initial), error=error)
        head = self._heads.get(key) or blank(decider)
        return Loaded(entity, head.snapshot, tuple(self._histories.get(key, ())))
