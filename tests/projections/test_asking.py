"""Anybody may ask the tables anything, and can change or open nothing by it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories import Log

from events import execution
from events.errors import SqlError, Timeout
from events.spec import Shell, Spec
from projections.queries import Queries
from projections.store import Store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Log]]:
    folder = tmp_path_factory.mktemp("ask")
    logs = folder / "logs"
    logs.mkdir()
    log = Log()
    for index in range(6):
        entity = f"exec_{index}"
        spec = Spec(shell=Shell(command=f"echo {index}"), labels=("even",) if index % 2 == 0 else ())
        log.ask("execution", entity, execution.Submit(spec=spec, digest="d", taken_by="node_a"))
        path = logs / f"{entity}_stdout.log"
        path.write_bytes(f"out {index}\n".encode() + b"\xff")
        path.with_name(f"{entity}_stderr.log").write_text("oops" if index == 3 else "")
        start = execution.Start(node="node_a", boot="b", log_path=str(path))
        log.ask("execution", entity, start)
        log.now += 1000
        end = execution.End(exit_code=0, stdout_bytes=7)
        log.ask("execution", entity, execution.Finish(attempt=1, why="exited", end=end))
    spec = Spec(shell=Shell(command="true"))
    log.ask("execution", "exec_bad", execution.Submit(spec=spec, digest="d", taken_by="node_a"))
    outside = folder / "secret_stdout.log"
    outside.write_text("secret")
    start = execution.Start(node="node_a", boot="b", log_path=str(outside))
    log.ask("execution", "exec_bad", start)
    store = Store(folder / "brain.duckdb", logs=logs)
    store.apply(log.records)
    yield store, log
    store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO events VALUES (1)",
        "DELETE FROM store.main._events",
        "CREATE TABLE x (i INT)",
        "CREATE TEMP TABLE x (i INT)",
        "DROP VIEW executions",
        "ATTACH '/tmp/x.duckdb'",
        "DETACH store",
        "COPY events TO '/tmp/x.csv'",
        "SET threads = 1",
        "USE store",
        "PRAGMA database_list",
        "CALL force_checkpoint()",
        "CHECKPOINT",
        "LOAD json",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW executions",
        "EXPLAIN ANALYZE DELETE FROM store.main._events",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'https://example.org/x.parquet'",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('events')",
        "SELECT (SELECT count(*) FROM read_text('/etc/passwd'))",
        "WITH x AS (FROM read_blob('/etc/passwd')) FROM x",
        "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('temp_directory')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT nothing FROM events",
        "SELECT * FROM nothing",
        "SELEC 1",
        "",
    ],
)
def test_what_is_not_reading_the_tables_is_refused(world: tuple[Store, Log], sql: str) -> None:
    with pytest.raises(SqlError):
        Queries(world[0]).ask(sql)


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "DESCRIBE events", "SUMMARIZE nodes", "EXPLAIN SELECT 1", "VALUES (1);"]
)
def test_looking_around_is_allowed(world: tuple[Store, Log], sql: str) -> None:
    assert Queries(world[0]).ask(sql).rows


def test_a_query_gets_rows_ready_for_json(world: tuple[Store, Log]) -> None:
    answer = Queries(world[0]).ask(
        "SELECT 9007199254740993 AS big, 'ab'::BLOB AS b, TIMESTAMPTZ '2026-01-01 01:00:00+01' AS t,"
        " 1.5 AS d, data, ? AS p FROM events ORDER BY seq LIMIT 1",
        ["x"],
    )
    big, blob, time, decimal, data, param = answer.rows[0]
    assert (big, blob, time, decimal, param) == (
        "9007199254740993",
        "YWI=",
        "2026-01-01T00:00:00.000Z",
        1.5,
        "x",
    )
    assert data["event"] == "queued"
    assert answer.columns[0] == ("big", "BIGINT")


def test_rows_and_time_are_bounded(world: tuple[Store, Log], tmp_path: Path) -> None:
    ask = Queries(world[0]).ask
    answer = ask("SELECT seq FROM events ORDER BY seq", limit=2)
    assert (answer.rows, answer.truncated, answer.seq) == ([[1], [2]], True, 20)
    with pytest.raises(Timeout):
        ask(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1",
            timeout_ms=100,
        )
    small = Store(tmp_path / "small.duckdb", memory="100MB")
    with pytest.raises(SqlError, match="Out of"):
        Queries(small).ask("SELECT list(range) FROM range(1000000000)", timeout_ms=60_000)
    assert Queries(small).ask("SELECT 1").rows == [[1]]
    small.close()


def test_the_past_is_asked_with_the_same_words(world: tuple[Store, Log]) -> None:
    store, log = world
    ask = Queries(store).ask
    sql = "SELECT id, status FROM executions ORDER BY id"
    assert ask(sql, seq=0).rows == []
    assert ask(sql, seq=4).rows == [["exec_0", "completed"], ["exec_1", "queued"]]
    assert ask(sql, at=log.records[1].time).rows == [["exec_0", "running"]]
    assert ask("SELECT max(seq) FROM events", at="2100-01-01T00:00:00Z").seq == 20
    for refused in ("SELECT * FROM execution_usage", "SELECT * FROM main.executions"):
        with pytest.raises(SqlError):
            ask(refused, seq=4)
    with pytest.raises(SqlError, match="up to 20"):
        ask(sql, seq=21)
    with pytest.raises(SqlError, match="is no time"):
        ask(sql, at="yesterday")


def test_output_is_read_from_the_log_files(world: tuple[Store, Log]) -> None:
    ask = Queries(world[0]).ask
    assert ask("SELECT stdout, stderr FROM executions WHERE id = 'exec_3'").rows == [
        ["out 3\n\ufffd", "oops"]
    ]
    assert ask("SELECT id FROM executions WHERE stdout LIKE 'out 4%'").rows == [["exec_4"]]
    assert ask("SELECT count(DISTINCT stdout) FROM executions").rows == [[6]]
    assert ask("SELECT sum(length(stdout)) FROM executions WHERE id = ?", ["exec_2"]).rows == [[7]]
    assert ask("SELECT stdout FROM executions WHERE id = 'exec_0'", seq=2).rows == [[""]]
    assert ask("SELECT x.stdout FROM (SELECT * FROM executions) x WHERE x.id = 'exec_1'").rows == [
        ["out 1\n\ufffd"]
    ]


def test_no_other_file_is_read_whatever_an_event_says(world: tuple[Store, Log]) -> None:
    ask = Queries(world[0]).ask
    assert ask("SELECT stdout, stderr FROM executions WHERE id = 'exec_bad'").rows == [[None, None]]
    assert ask("SELECT id FROM executions WHERE stdout LIKE '%secret%'").rows == []


def test_the_list_is_paged_newest_first(world: tuple[Store, Log]) -> None:
    queries = Queries(world[0])
    page, following = queries.list(label="even", limit=2)
    assert [row["id"] for row in page] == ["exec_4", "exec_2"]
    page, following = queries.list(label="even", limit=2, before=following)
    assert ([row["id"] for row in page], following) == (["exec_0"], None)
    assert [row["id"] for row in queries.list(status="running")[0]] == ["exec_bad"]


def test_many_ask_while_the_store_follows(tmp_path: Path) -> None:
    log = Log()
    for index in range(300):
        spec = Spec(shell=Shell(command="true"))
        log.ask("execution", f"exec_{index}", execution.Submit(spec=spec, digest="d", taken_by="n"))
    store = Store(tmp_path / "brain.duckdb")
    wrong: list[object] = []
    over = threading.Event()

    def reader() -> None:
        while not over.is_set():
            try:
                answer = Queries(store).ask(
                    "SELECT (SELECT count(*) FROM executions), (SELECT max(seq) FROM events)"
                )
                count, last = answer.rows[0]
                if (count, last or 0) != (answer.seq, answer.seq):
                    wrong.append(answer)
            except Exception as error:  # noqa: BLE001 -- whatever went wrong in a thread is told by the test
                wrong.append(error)

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for low in range(0, 300, 50):
        store.apply(log.records[low : low + 50])
    over.set()
    for thread in threads:
        thread.join()
    store.close()
    assert wrong == []
