"""The store follows the log: in lots, exactly once, never ahead of itself."""

from pathlib import Path

import duckdb
import pytest
from histories import Log

from events import execution, limit, node
from events.codec import Envelope, chain
from events.errors import Conflict, Damaged
from events.ports import Chunk
from events.spec import Shell, Spec
from projections.check import compare, fingerprint, verify
from projections.executions import EXECUTIONS
from projections.loose import Sample
from projections.queries import Queries
from projections.replay import into
from projections.store import KEPT, Bookmark, Store


def history(count: int) -> Log:
    log = Log()
    for index in range(count):
        log.now += 10
        spec = Spec(shell=Shell(command=f"echo {index}"))
        log.ask("execution", f"exec_{index:05}", execution.Submit(spec=spec, digest="d", taken_by="node_a"))
        start = execution.Start(node="node_a", boot="b", log_path=f"/nowhere/{index}_stdout.log")
        log.ask("execution", f"exec_{index:05}", start)
        end = execution.End(exit_code=index % 2, pid=index + 1, stdout_bytes=7)
        log.ask("execution", f"exec_{index:05}", execution.Finish(attempt=1, why="exited", end=end))
    return log


def test_a_record_hashes_as_the_chain_does() -> None:
    record = history(1).records[1]
    envelope = Envelope(id=record.id, time=record.time, cause=record.cause, by=record.by, prev=record.prev)
    assert record.hash == chain(record.subject, envelope, record.body)


def test_what_was_taken_in_is_skipped_and_survives_a_restart(tmp_path: Path) -> None:
    log = history(5)
    store = Store(tmp_path / "brain.duckdb")
    store.apply(log.records[:7])
    assert store.apply(log.records[:4]) == Bookmark(7, log.records[6].hash)
    store.close()
    store = Store(tmp_path / "brain.duckdb")
    assert store.bookmark() == Bookmark(7, log.records[6].hash)
    assert store.apply(log.records).seq == 15
    assert store.moved is None
    assert store.folded == []
    assert verify(store, log.records) == []
    store.close()


def test_a_gap_is_named_and_nothing_beyond_it_is_taken_in(tmp_path: Path) -> None:
    log = history(5)
    store = Store(tmp_path / "brain.duckdb")
    store.apply(log.records[:3])
    with pytest.raises(Damaged, match="event 4 is missing before 5"):
        store.apply(log.records[4:])
    assert store.bookmark().seq == 3
    assert store.apply(log.records).seq == 15
    store.close()


def test_a_body_that_is_no_json_is_kept_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    log = history(1)
    log.write("execution", "exec_00000", "mumbled", b"\xffnot json")
    log.ask("node", "node_a", node.Record(event=node.Stopped(boot="")))
    store = Store(tmp_path / "brain.duckdb")
    assert store.apply(log.records).seq == 5
    assert Queries(store).ask("SELECT data FROM events WHERE seq = 4").rows == [["\ufffdnot json"]]
    store.close()


def test_an_error_in_a_lot_takes_all_of_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = history(2)
    store = Store(tmp_path / "brain.duckdb")
    store.apply(log.records[:3])
    with monkeypatch.context() as patch:
        patch.setattr("projections.store.KEPT", (EXECUTIONS, object()))
        with pytest.raises(AttributeError):
            store.apply(log.records[3:])
    assert store.bookmark().seq == 3
    assert Queries(store).ask("SELECT count(*), max(seq) FROM events").rows == [[3, 3]]
    store.apply(log.records)
    assert verify(store, log.records) == []
    store.close()


def test_a_file_that_cannot_be_read_is_moved_aside_and_made_anew(tmp_path: Path) -> None:
    log = history(2)
    path = tmp_path / "brain.duckdb"
    path.write_bytes(b"this is no database at all" * 1000)
    store = Store(path)
    assert store.moved is not None
    assert store.moved.read_bytes().startswith(b"this is no")
    assert store.apply(log.records).seq == 6
    store.close()


def test_a_changed_projection_is_folded_again(tmp_path: Path) -> None:
    log = history(3)
    path = tmp_path / "brain.duckdb"
    store = Store(path)
    store.apply(log.records)
    before = fingerprint(store, "executions")
    store.close()
    con = duckdb.connect(str(path))
    con.execute("UPDATE _projection_bookmarks SET version = 0 WHERE name = 'executions'")
    con.execute("DELETE FROM _executions")
    con.close()
    store = Store(path)
    assert store.folded == ["executions"]
    assert fingerprint(store, "executions") == before
    store.close()


def test_a_difference_is_named_by_table_key_and_column(tmp_path: Path) -> None:
    log = history(3)
    path = tmp_path / "brain.duckdb"
    store = Store(path)
    store.apply(log.records)
    store.close()
    con = duckdb.connect(str(path))
    con.execute("UPDATE _executions SET exit_code = 42 WHERE id = 'exec_00001'")
    con.execute("UPDATE _events SET prev = 'x' WHERE seq = 5")
    con.close()
    store = Store(path)
    found = compare(store, EXECUTIONS)
    assert found is not None
    assert (found.table, found.key, found.text) == (
        "executions",
        "exec_00001",
        "not what the events say: exit_code",
    )
    assert [(each.table, each.key) for each in verify(store, log.records)] == [
        ("events", "5"),
        ("executions", "exec_00001"),
        ("events", "5"),
    ]
    store.rebuild()
    assert compare(store, EXECUTIONS) is None
    store.close()


def test_what_is_too_much_at_once_is_folded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = history(40)
    for page in ("key-a", "key-a--2", "key-b"):
        log.ask("limit", page, limit.Put(on="key", target=page, max=2))
    for number in range(9):
        log.ask("limit", "key-a", limit.Grant(ids=(f"exec_{number}",), now_ms=0))
    store = Store(tmp_path / "brain.duckdb")
    store.apply(log.records)
    whole = [fingerprint(store, each.name) for each in KEPT]
    monkeypatch.setattr("projections.anew.PART", 3)
    store.rebuild()
    assert [fingerprint(store, each.name) for each in KEPT] == whole
    assert verify(store, log.records) == []
    log.ask("execution", "exec_new", execution.Submit(spec=Spec(code="1"), digest="d", taken_by="n"))
    log.ask("execution", "exec_new", execution.Cancel())
    store.apply(log.records)
    assert verify(store, log.records) == []
    store.close()
    again = Store(tmp_path / "brain.duckdb")
    assert verify(again, log.records) == []
    again.close()


def test_samples_and_output_are_counted_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "brain.duckdb")
    time = "2026-01-01T00:00:00.000Z"
    store.usage([Sample("exec_a", "2126-01-01T00:00:00.000Z", 50.0, 1000, 2)])
    chunk = Chunk("exec_a", "stdout", 0, 1, time, b"one\ntwo\n")
    store.output([chunk])
    store.output(
        [
            chunk,
            Chunk("exec_a", "stdout", 8, 1, time, b"three\n"),
            Chunk("exec_a", "stdout", 14, 1, time, b"", end=True),
        ]
    )
    ask = Queries(store).ask
    assert ask("SELECT execution, cpu_percent, memory_bytes FROM execution_usage").rows == [
        ["exec_a", 50.0, 1000]
    ]
    index = ask("SELECT bytes, lines, last_offset, ended FROM output_index").rows
    assert index == [[14, 3, 8, True]]
    store.close()


def test_a_replayed_copy_is_readable_with_plain_duckdb(tmp_path: Path) -> None:
    log = history(3)
    assert into(tmp_path / "copy.duckdb", log.records).seq == 9
    con = duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True)
    rows = con.execute("SELECT id, status, stdout FROM executions ORDER BY id").fetchall()
    assert rows == [
        ("exec_00000", "completed", None),
        ("exec_00001", "failed", None),
        ("exec_00002", "completed", None),
    ]
    assert con.execute("SELECT count(*) FROM events").fetchall() == [(9,)]
    con.close()
    with pytest.raises(Conflict):
        into(tmp_path / "copy.duckdb", log.records)
