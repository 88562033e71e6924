"""The projector folds the log into tables, in a process of its own; librarians answer questions on them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import msgspec

from actors import admission
from actors.clerk import check_page
from events import codec, service
from events.asks import decision as decisions
from events.asks import why as whys
from events.decision import Type
from events.errors import HindbrainError, Internal, Timeout, Validation
from events.params import near
from events.ports import Call
from events.standing import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lot:
    """The next records of the log, in order."""

    records: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """Telemetry came in."""

    samples: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Fold everything again."""

    call: Call


class Store(Protocol):
    """The tables."""

    def apply(self, records: Sequence[Any]) -> None:
        """Fold the next records; all or nothing."""
        ...

    def sample(self, samples: Sequence[dict[str, Any]]) -> None:
        """Note usage samples."""
        ...

    def rebuild(self) -> int:
        """Fold all tables again; answers how many events there were."""
        ...

    @property
    def seq(self) -> int:
        """The last sequence that the tables know."""
        ...


class Progress:
    """How far the tables are, for those who wait for a certain fact to be in them."""

    def __init__(self, seq: int) -> None:
        self._seq = seq
        self._moved = threading.Condition()
        self._hurry = threading.Event()

    @property
    def seq(self) -> int:
        """The last sequence that the tables know."""
        return self._seq

    def reached(self, seq: int) -> None:
        """Note that the tables know this sequence."""
        with self._moved:
            self._seq = seq
            self._moved.notify_all()

    def gather(self, least: float, most: float) -> None:
        """Let seconds pass in which more comes: the least, and then until somebody waits, or the most."""
        time.sleep(least)
        self._hurry.wait(most - least)
        self._hurry.clear()

    def wait(self, seq: int, seconds: float) -> None:
        """Wait until they know that one; `Timeout` when they do not in time."""
        if self._seq < seq:
            self._hurry.set()
        with self._moved:
            if not self._moved.wait_for(lambda: self._seq >= seq, seconds):
                raise Timeout(f"the tables are at {self._seq} and did not reach {seq} in time", seq=self._seq)


class Projector:
    """The only writer of the tables."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self._store, self._progress = store, progress

    def receive(self, message: Any) -> None:
        """Deal with one message."""
        match message:
            case Lot(records):
                self._store.apply(records)
                self._progress.reached(self._store.seq)
            case Samples(samples):
                self._store.sample(samples)
            case Rebuild(call):
                began = time.monotonic()
                events = self._store.rebuild()
                seconds = round(time.monotonic() - began, 3)
                answer = service.Rebuilt(seq=self._store.seq, events=events, seconds=seconds)
                call.answer(codec.encode(answer))
            case _:
                raise TypeError(f"the projector has no use for a {type(message).__name__}")


class Shelf(Protocol):
    """The tables, to be read."""

    def ask(self, query: service.Sql) -> service.Table:
        """Answer a query; `SqlError` or `Timeout`."""
        ...

    def list(self, query: service.List) -> service.Page:
        """A page of executions."""
        ...

    def decisions(self, query: decisions.List) -> decisions.Page:
        """A page of decisions."""
        ...

    def why(self, kind: str, entity: str) -> whys.Explained:
        """Why something stands where it stands."""
        ...

    def background(self) -> whys.Background:
        """What goes on now."""
        ...

    def verify(self) -> service.Verified:
        """Compare the tables with their copy of the log."""
        ...


class Librarian:
    """Answers one question after the other; several of them share the questions."""

    def __init__(self, shelf: Shelf, progress: Progress) -> None:
        self._shelf, self._progress = shelf, progress

    def receive(self, message: Any) -> None:
        """Deal with one call."""
        if not isinstance(message, Call):
            raise TypeError(f"a librarian has no use for a {type(message).__name__}")
        try:
            message.answer(msgspec.json.encode(self._answer(message)))
        except HindbrainError as error:
            message.refuse(error)
        except Exception as error:
            log.exception("%s.%s failed", message.kind, message.verb)
            message.refuse(Internal(f"{message.kind}.{message.verb} failed: {error}"))

    def _answer(self, call: Call) -> Any:
        if call.verb == "list" and call.kind == "decision":
            made = admission.parse(_DECISIONS, call.body)
            _page(made.limit, made.before)
            if made.type is not None and made.type not in TYPES:
                raise Validation(f"unknown type {made.type!r}, {near(made.type, TYPES)}", field="type")
            self._reach(made.min_seq)
            return self._shelf.decisions(made)
        if call.verb == "list":
            page = admission.parse(_LIST, call.body)
            _page(page.limit, page.before)
            if page.status is not None and page.status not in STATUSES:
                raise Validation(
                    f"unknown status {page.status!r}: use one of {', '.join(STATUSES)}", field="status"
                )
            return self._shelf.list(page)
        if call.verb == "verify":
            return self._shelf.verify()
        if call.verb == "why":
            return self._why(admission.parse(_WHY, call.body))
        if call.verb == "status":
            self._reach(admission.parse(_STATUS, call.body).min_seq)
            return self._shelf.background()
        query = admission.parse(_SQL, call.body)
        if not 1 <= query.timeout_ms <= 60_000:
            raise Validation("timeout_ms must be between 1 and 60000", field="timeout_ms")
        if query.min_seq is not None:
            self._progress.wait(query.min_seq, query.timeout_ms / 1000)
        return self._shelf.ask(query)

    def _why(self, ask: whys.Why) -> whys.Explained:
        given = {"execution": ask.execution_id, "plan": ask.plan_id, "schedule": ask.schedule_id}
        given["playbook"] = ask.playbook_id
        named = [(kind, entity) for kind, entity in given.items() if entity is not None]
        if len(named) != 1:
            raise Validation(
                "give one of execution_id, plan_id, schedule_id and playbook_id", field="execution_id"
            )
        self._reach(ask.min_seq)
        return self._shelf.why(*named[0])

    def _reach(self, seq: int | None) -> None:
        if seq is not None:
            self._progress.wait(seq, WAIT_SECONDS)


def _page(limit: int, before: int | None) -> None:
    """Refuse a page that there cannot be."""
    check_page(limit, 1000)
    if before is not None and not 0 <= before < 2**63:
        raise Validation("before must be a sequence: `next` of the page before", field="before")


STATUSES = tuple(status for status in get_args(Status) if status)
TYPES = get_args(Type)
_NOTHING = msgspec.json.Decoder(service.Nothing)
_LIST = msgspec.json.Decoder(service.List)
_DECISIONS = msgspec.json.Decoder(decisions.List)
_SQL = msgspec.json.Decoder(service.Sql)
_WHY = msgspec.json.Decoder(whys.Why)
_STATUS = msgspec.json.Decoder(whys.Status)
WAIT_SECONDS = 5.0
"""So long the tables may take to know what a question wants them to know."""


class Desk:
    """Hands questions to the librarians in turn."""

    def __init__(
        self, librarians: Sequence[Callable[[Call], None]], projector: Callable[[Any], None]
    ) -> None:
        self._librarians, self._projector, self._next = librarians, projector, 0

    def take(self, calls: Sequence[Call]) -> None:
        """Pass every call on; a full mailbox is the caller's answer."""
        for call in calls:
            self._next = (self._next + 1) % len(self._librarians)
            try:
                if call.verb == "rebuild":
                    admission.parse(_NOTHING, call.body)
                    self._projector(Rebuild(call))
                else:
                    self._librarians[self._next](call)
            except HindbrainError as error:
                call.refuse(error)
