"""The reader gives everything once and in order, and finds what the server does not tell."""

import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from bus.bridge import Bridge
from bus.history import Record
from bus.log import Log
from bus.reader import Chain, Reader, read_between, read_range, state, verify
from bus.server import Server
from bus.streams import ensure
from events import codec
from events.errors import Damaged
from events.execution import EXECUTION
from events.ports import Ask
from tests.contract.logs import NEW, START, SUBMIT, WITHIN, Lots, clock, fresh, handle, submitted


class Page:
    """Collects what a reader gives."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.damage: list[Damaged] = []
        self._changed = threading.Condition()

    def take(self, records: Sequence[Record]) -> None:
        with self._changed:
            self.records += records
            self._changed.notify_all()

    def damaged(self, reason: Damaged) -> None:
        with self._changed:
            self.damage.append(reason)
            self._changed.notify_all()

    def wait(self, true: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(true, WITHIN), (len(self.records), self.damage)

    @property
    def seqs(self) -> list[int]:
        return [record.seq for record in self.records]


@pytest.fixture
def lonely(own: Server) -> Generator[Bridge]:
    bridge = Bridge(own.url("node"), heartbeat=0.5)
    bridge.start()
    bridge.call(ensure(bridge.js), WITHIN)
    yield bridge
    bridge.stop()


def write(bridge: Bridge, count: int) -> list[str]:
    """Write two events of each of so many entities."""
    log = Log(bridge, clock)
    names = submitted(log, count)
    assert all(outcome.error is None for outcome in handle(log, [Ask(EXECUTION, n, START) for n in names]))
    return names


def test_everything_comes_once_and_in_order_and_live(lonely: Bridge) -> None:
    write(lonely, 700)
    page = Page()
    reader = Reader(lonely, page.take, page.damaged)
    lonely.call(reader.start(), WITHIN)
    page.wait(lambda: len(page.records) == 1400)
    write(lonely, 100)
    page.wait(lambda: len(page.records) == 1600)
    assert page.seqs == list(range(1, 1601))
    assert page.damage == []
    assert reader.bookmark == (1600, page.records[-1].hash)
    lonely.call(reader.stop(), WITHIN)


def test_it_goes_on_at_a_bookmark_and_asks_who_knows_the_hashes_of_before(lonely: Bridge) -> None:
    names = write(lonely, 10)
    first = Page()
    lonely.call(read_range(lonely, 1, 10, first.take), WITHIN)
    ends = {record.key: record.hash for record in first.records}
    page = Page()
    asked: list[str] = []

    def known(kind: str, entity: str) -> str | None:
        asked.append(entity)
        return ends[kind, entity]

    reader = Reader(lonely, page.take, page.damaged, after=10, hash=first.records[-1].hash, known=known)
    lonely.call(reader.start(), WITHIN)
    page.wait(lambda: len(page.records) == 10)
    assert page.seqs == list(range(11, 21))
    assert asked == names
    lonely.call(reader.stop(), WITHIN)

    other = Page()
    reader = Reader(lonely, other.take, other.damaged, after=10, known=lambda _kind, _entity: "0" * 64)
    lonely.call(reader.start(), WITHIN)
    other.wait(lambda: bool(other.damage))
    assert (other.records, other.damage[0].details["seq"]) == ([], 11)


def test_a_window_bounds_what_is_handed_over(lonely: Bridge) -> None:
    write(lonely, 100)
    page = Page()
    reader = Reader(lonely, page.take, page.damaged, window=30)
    lonely.call(reader.start(), WITHIN)
    page.wait(lambda: len(page.records) == 30)
    submitted(Log(lonely, clock), 1)
    assert len(page.records) == 30
    reader.taken(20)
    page.wait(lambda: len(page.records) == 50)
    lonely.call(reader.stop(), WITHIN)


def test_it_survives_a_restart_of_the_server(own: Server, lonely: Bridge) -> None:
    page = Page()
    reader = Reader(lonely, page.take, page.damaged)
    write(lonely, 20)
    lonely.call(reader.start(), WITHIN)
    page.wait(lambda: len(page.records) == 40)
    own.restart()
    write(lonely, 20)
    page.wait(lambda: len(page.records) == 80)
    assert page.seqs == list(range(1, 81))
    assert page.damage == []
    lonely.call(reader.stop(), WITHIN)


def test_a_bookmark_beyond_the_end_is_a_lost_tail(lonely: Bridge) -> None:
    write(lonely, 5)
    page = Page()
    with pytest.raises(Damaged, match="was read up to 99 and now ends at 10"):
        lonely.call(Reader(lonely, page.take, page.damaged, after=99).start(), WITHIN)
    with pytest.raises(Damaged, match="another one"):
        lonely.call(Reader(lonely, page.take, page.damaged, after=9, hash="0" * 64).start(), WITHIN)


def test_ranges_are_read_by_sequence_and_by_time(lonely: Bridge) -> None:
    write(lonely, 20)
    page = Page()
    lonely.call(read_range(lonely, 11, 30, page.take), WITHIN)
    assert page.seqs == list(range(11, 31))
    everything, nothing, before = Page(), Page(), Page()
    past = codec.stamp(clock() - 3_600_000)
    lonely.call(read_between(lonely, past, None, everything.take), WITHIN)
    assert everything.seqs == list(range(1, 41))
    lonely.call(read_between(lonely, past, past, nothing.take), WITHIN)
    assert nothing.seqs == []
    lonely.call(read_range(lonely, 41, None, before.take), WITHIN)
    assert before.seqs == []


def test_a_flipped_byte_in_a_block_is_found(own: Server, lonely: Bridge, tmp_path: Path) -> None:
    """The server itself serves what is left, as if nothing had happened."""
    write(lonely, 2000)
    assert lonely.call(verify(lonely), WITHIN) is None
    port = own.port
    own.stop()
    (block, *_) = sorted(tmp_path.rglob("streams/BRAIN_EVENTS/msgs/*.blk"))
    content = bytearray(block.read_bytes())
    content[content.index(b'"queued"', len(content) // 3) + 2] ^= 1
    block.write_bytes(content)
    again = Server(tmp_path, port=port)
    again.start()
    try:
        damage = lonely.call(_verify_when_up(lonely), WITHIN)
        assert damage is not None
        assert lonely.call(state(lonely), WITHIN)["last_seq"] == 4000
        after = Page()
        lonely.call(Reader(lonely, after.take, after.damaged).start(), WITHIN)
        after.wait(lambda: bool(after.damage))
        assert after.damage[0].details == damage.details
        assert after.seqs == list(range(1, damage.details["seq"]))
    finally:
        again.stop()


async def _verify_when_up(bridge: Bridge) -> Damaged | None:
    await bridge.ready()
    return await verify(bridge)


def test_a_broken_chain_is_found_at_the_event_that_breaks_it(lonely: Bridge) -> None:
    names = write(lonely, 3)
    subject = f"brain.evt.execution.{names[1]}.3.progressed"
    headers = {"Brain-Id": "x", "Brain-Time": codec.stamp(clock()), "Brain-Prev": "0" * 64}
    lonely.call(lonely.request(subject, b'{"event":"progressed","attempt":1}', headers=headers), WITHIN)
    damage = lonely.call(verify(lonely), WITHIN)
    assert damage is not None
    assert damage.details == {"seq": 7, "kind": "execution", "entity": names[1], "n": 3}


def test_a_gap_and_a_step_back_are_damage() -> None:
    envelope = {"Brain-Id": "x", "Brain-Time": codec.stamp(0)}
    for seq in (3, 0):
        with pytest.raises(Damaged, match="gap"):
            Chain(1).follow(Record(seq, f"brain.evt.node.{fresh()}.1.started", envelope, b"{}"))


def test_lots_are_read_fast_enough_to_follow_any_writer(lonely: Bridge) -> None:
    log, lots = Log(lonely, clock), Lots()
    for _ in range(5):
        log.handle([Ask(EXECUTION, fresh(), SUBMIT, known=NEW) for _ in range(1000)], lots)
    lots.wait(5000)
    page = Page()
    lonely.call(read_range(lonely, 1, None, page.take), WITHIN)
    assert page.seqs == list(range(1, 5001))


def test_what_is_no_event_of_ours_is_passed_over_and_named(lonely: Bridge) -> None:
    write(lonely, 1)
    # Whoever may ask the server can have its answer sent to a subject of the log.
    for subject in ("brain.evt.somewhere", "brain.evt.execution.exec_forged.1.queued.commands.medium"):
        lonely.call(lonely.publish("$JS.API.INFO", reply=subject), WITHIN)
    lonely.call(lonely.api("INFO"), WITHIN)
    write(lonely, 1)
    page = Page()
    reader = Reader(lonely, page.take, page.damaged)
    lonely.call(reader.start(), WITHIN)
    page.wait(lambda: len(page.records) == 6)
    assert [record.seq for record in page.records if record.foreign] == [3, 4]
    assert page.damage == []
    assert lonely.call(verify(lonely), WITHIN) is None
    lonely.call(reader.stop(), WITHIN)
