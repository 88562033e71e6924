"""The projector's process: follows the log, owns the tables, answers questions about them.

    python -m interfaces.child interfaces.projector

reads one line of JSON: {"data", "url", "node", "quack"}.
It ends when its standard input does, so it never outlives its node.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actors import heap
from actors.actor import Actor
from actors.home import milliseconds
from actors.monitor import Noticed
from actors.projector import Desk, Librarian, Lot, Progress, Projector, Samples
from actors.supervisor import Child, Exhausted, Restarted, Supervisor
from bus.bridge import Bridge
from bus.history import Record as Stored
from bus.log import Log
from bus.peers import Peers
from bus.reader import Reader
from bus.services import Services
from events import finding, ids, service, view
from events import node as facts
from events.asks import decision as decisions
from events.asks.why import Background, Explained
from events.errors import Damaged, HindbrainError, NotFound
from events.finding import FINDING
from events.ports import Ask, Call, Outcome
from interfaces.processes import TABLES, tables
from projections import check, quack, why, whyplan
from projections.loose import Sample
from projections.queries import Queries
from projections.record import Record
from projections.store import Store

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

LIBRARIANS = 3
GATHER, GATHER_MAX = 0.04, 1.0
"""Seconds for which records gather before they are folded."""
SHARE = 10
"""Under load they gather so many times as long as the last lot took."""
WINDOW = 20_000
"""Records that may be on their way to the tables at once."""

DECIDED = """
SELECT seq, id, time, type, module, context, data FROM decisions
WHERE (?1 IS NULL OR module = ?1) AND (?2 IS NULL OR type = ?2) AND (?3 IS NULL OR seq < ?3)
ORDER BY seq DESC LIMIT ?4
"""


class Keeper:
    """The store, as the projector actor wants it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, records: Sequence[Stored]) -> None:
        """Fold the next records."""
        self._store.apply([record(each) for each in records])

    def sample(self, samples: Sequence[dict[str, Any]]) -> None:
        """Note usage samples."""
        self._store.usage(
            [
                Sample(
                    each["execution"],
                    each["time"],
                    each["cpu_percent"],
                    each["memory_bytes"],
                    each["processes"],
                )
                for each in samples
            ]
        )

    def rebuild(self) -> int:
        """Fold all tables again."""
        self._store.rebuild()
        return self._store.bookmark().seq

    @property
    def seq(self) -> int:
        """The last sequence that the tables know."""
        return self._store.bookmark().seq


class Shelf:
    """The tables, as librarians want them."""

    def __init__(self, store: Store) -> None:
        self._store, self._queries = store, Queries(store)

    def ask(self, query: service.Sql) -> service.Table:
        """Answer a query."""
        found = self._queries.ask(query.sql, query.params, query.seq, query.at, query.limit, query.timeout_ms)
        columns = [service.Column(name=name, type=kind) for name, kind in found.columns]
        return service.Table(columns=columns, rows=found.rows, seq=found.seq, truncated=found.truncated)

    def list(self, query: service.List) -> service.Page:
        """A page of executions."""
        rows, after = self._queries.list(
            query.status, query.module, query.label, query.limit, query.before, query.plan_id
        )
        now = milliseconds()
        return service.Page(executions=[view.listed(row, now) for row in rows], next=after)

    def decisions(self, query: decisions.List) -> decisions.Page:
        """A page of decisions."""
        found = self._queries.rows(DECIDED, query.module, query.type, query.before, query.limit + 1)
        rows = msgspec.convert(found[: query.limit], list[decisions.Decision])
        return decisions.Page(decisions=rows, next=rows[-1].seq if len(found) > query.limit else None)

    def why(self, kind: str, entity: str) -> Explained:
        """Why something stands where it stands."""
        return why.explain(self._queries.rows, kind, entity, milliseconds())

    def background(self) -> Background:
        """What goes on now."""
        return whyplan.background(self._queries.rows)

    def verify(self) -> service.Verified:
        """Compare the tables with their copy of the log."""
        found = check.verify(self._store)
        differences = [service.Difference(table=each.table, key=each.key, text=each.text) for each in found]
        return service.Verified(differences=differences, seq=self._store.bookmark().seq)


class Pile:
    """Records on their way to the projector: however many came, it is told once, and takes them all."""

    def __init__(self) -> None:
        self._records: list[Stored] = []
        self._lock = threading.Lock()
        self.reader: Reader | None = None
        self.tell: Any = None
        self.alarm: Callable[[int, str], None] = _unheard

    def add(self, records: Sequence[Stored]) -> None:
        """Put more on it."""
        for each in records:
            if reason := each.foreign:
                self.alarm(each.seq, reason)
        with self._lock:
            first = not self._records
            self._records.extend(records)
        if first:
            self.tell(self)

    def take(self) -> list[Stored]:
        """Take all of it."""
        with self._lock:
            records, self._records = self._records, []
        return records

    def remind(self) -> None:
        """Say again that something lies here."""
        if self._records:
            self.tell(self)

    def give_back(self, records: list[Stored]) -> None:
        """Put on top again what could not be folded."""
        with self._lock:
            self._records = records + self._records

    def folded(self, count: int) -> None:
        """Make room for so many more."""
        if self.reader is not None:
            self.reader.taken(count)


def _unheard(seq: int, reason: str) -> None:
    log.error("sequence %d is no event of ours: %s", seq, reason)


class Scribe:
    """The projector's logic, fed from the pile.

    A lot costs 50 ms of planning in DuckDB, however small it is.  So it gathers a moment first: 40 ms when
    little happens, and under load ten times as long as the last lot took, up to a second, which leaves the
    cores to the commands.  Who waits for a certain fact to be in the tables ends the gathering.
    """

    def __init__(self, projector: Projector, progress: Progress) -> None:
        self._projector, self._progress = projector, progress
        self._took, self._ended = 0.0, 0.0

    def receive(self, message: Any) -> None:
        """Take what lies on the pile, or whatever else there is to do."""
        if not isinstance(message, Pile):
            self._projector.receive(message)
            return
        busy = time.monotonic() - self._ended < GATHER_MAX
        most = min(GATHER_MAX, max(GATHER, SHARE * self._took)) if busy else GATHER
        self._progress.gather(GATHER, most)
        records = message.take()
        if records:
            began = time.monotonic()
            try:
                self._projector.receive(Lot(records))
            except BaseException:
                message.give_back(records)
                raise
            message.folded(len(records))
            self._ended = time.monotonic()
            self._took = self._ended - began


def record(stored: Stored) -> Record:
    """A record of the bus as the tables take it."""
    say = stored.headers.get
    return Record(
        stored.seq,
        stored.subject,
        say("Brain-Id", ""),
        say("Brain-Time", ""),
        say("Brain-Cause", ""),
        say("Brain-By", ""),
        say("Brain-Prev", ""),
        say("traceparent", ""),
        None,
        stored.body,
    )


def main() -> None:
    """Run until the node is gone."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    # DuckDB makes its write-ahead log and its temporary files itself.
    os.umask(0o077)
    what = json.loads(sys.stdin.readline())
    data = Path(what["data"])
    prepare = quack.prepare if what.get("quack") else None
    store = Store(data / "brain.duckdb", data / "logs" / "executions", prepare=prepare)
    bridge = Bridge(what["url"], name=f"projector-{what['node']}")
    bridge.start()
    run(bridge, store, what["node"])
    if prepare:
        served = quack.serve(store)
        (data / "quack.json").touch(0o600)
        (data / "quack.json").write_text(json.dumps({"uri": served.uri, "token": served.token}))
    sys.stdin.read()
    (data / "quack.json").unlink(missing_ok=True)
    bridge.stop()
    store.close()


def run(bridge: Bridge, store: Store, node: str) -> None:
    """Start the actors, follow the log, serve."""
    journal, progress, pile = Log(bridge, milliseconds), Progress(store.bookmark().seq), Pile()
    keeper = Keeper(store)

    def scribe() -> Actor:
        pile.remind()  # what a fallen projector gave back
        return Actor(Scribe(Projector(keeper, progress), progress), name="projector")

    names = [f"librarian-{number}" for number in range(1, LIBRARIANS + 1)]
    supervisor = Supervisor(
        [
            Child("projector", scribe),
            *(
                Child(name, lambda: Actor(Librarian(Shelf(store), progress), name="librarian"))
                for name in names
            ),
        ],
        record=lambda row: _restarted(journal, node, row),
        escalate=_escalate,
    )
    supervisor.begin()
    projector = supervisor.address("projector")
    pile.tell = projector.tell
    desk = Desk([supervisor.address(name).tell for name in names], projector.tell)

    def damaged(reason: Damaged) -> None:
        """Tell the world where the log is broken; the tables stay at what was sound."""
        log.critical("the log is damaged: %s", reason)
        notice = Noticed(
            "log_gap", "BRAIN_EVENTS", f"{reason.message}; see `hindbrain doctor`", reason.details
        )
        report(journal, node, notice)

    def foreign(seq: int, reason: str) -> None:
        """Somebody wrote into the log beside us: the tables show it, nothing is folded from it."""
        text = f"sequence {seq} of the log was not written by Hindbrain: {reason}; who has its credentials?"
        report(journal, node, Noticed("log_foreign", str(seq), text, {"seq": seq}))

    pile.alarm = foreign

    async def follow() -> None:
        mark = store.bookmark()
        reader = pile.reader = Reader(
            bridge, pile.add, damaged, after=mark.seq, hash=mark.hash, window=WINDOW
        )
        try:
            await reader.start()
        except Damaged as reason:
            damaged(reason)

    def sampled(message: "Msg") -> None:
        projector.tell(Samples([msgspec.json.decode(message.data)]))

    async def listen() -> None:
        await bridge.subscribe("brain.tel.execution.*", sampled)

    bridge.call(follow(), 30.0)
    bridge.call(listen(), 10.0)
    verbs = [verb for verb in service.VERBS if (verb.kind, verb.name) in TABLES]
    Services(bridge, verbs, desk.take, name="hindbrain-tables", details={"node": node}).start()
    Peers(bridge).serve(tables(node), lambda calls: _peers(supervisor, calls))
    heap.settle()
    log.info("serving the tables from %d on", progress.seq)


def _peers(supervisor: Supervisor, calls: Sequence[Call]) -> None:
    """The node wants to know how the actors here are doing, or throws the fault switch."""
    for call in calls:
        try:
            if call.verb == "actors":
                call.answer(msgspec.json.encode(supervisor.census()))
            elif call.verb == "fail":
                supervisor.fail(msgspec.json.decode(call.body, type=service.Fail).name)
                call.answer(b"{}")
            else:
                raise NotFound(f"the tables know no {call.verb}")
        except HindbrainError as error:
            call.refuse(error)


def report(journal: Log, node: str, notice: Noticed) -> None:
    """Store a finding."""
    command = finding.Open(type=notice.type, about=notice.about, text=notice.text, data=notice.data)
    entity = ids.derived("finding", f"{notice.type}\n{notice.about}")
    journal.handle([Ask(FINDING, entity, command, by=f"node:{node}")], _reported)


def _restarted(journal: Log, node: str, row: Restarted) -> None:
    event = facts.ActorRestarted(actor=row.name, reason=row.error or row.reason, restarts=row.restarts)
    journal.handle([Ask(facts.NODE, node, facts.Record(event=event), by=f"node:{node}")], _reported)


def _reported(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            log.error("a fact could not be stored: %s", outcome.error)


def _escalate(row: Exhausted) -> None:
    log.critical("%s failed %d times in %.0f s", row.name, row.restarts, row.seconds)
    # Half a projector is worse than none: the warden starts a whole one.
    os._exit(70)
