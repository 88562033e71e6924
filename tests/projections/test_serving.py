"""Any DuckDB client on this machine may read the live tables, and change or open nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from histories import Log

from events import execution
from events.spec import Shell, Spec
from projections import quack
from projections.check import verify
from projections.store import Store

pytest.importorskip("duckdb_extension_quack")

CLIENT = """
import json, sys
import duckdb
from projections import quack
uri, token, queries = json.loads(sys.argv[1])
con = duckdb.connect(":memory:", config={"autoload_known_extensions": False})
quack.load(con)
answers = []
attaching = [f"ATTACH '{uri}' AS thief (TOKEN 'wrong')", f"ATTACH '{uri}' AS brain (TOKEN '{token}')"]
for query in [*attaching, *queries]:
    try:
        answers.append(con.execute(query).fetchall())
    except duckdb.Error as error:
        answers.append("refused")
sys.stdout.write(json.dumps(answers, default=str))
"""
READS = [
    "SELECT id, status FROM brain.executions",
    "SELECT count(*) FROM brain.events",
    "FROM brain.query('SELECT count(*) FROM executions e JOIN events v ON v.entity = e.id')",
]
REFUSED = [
    "INSERT INTO brain.events VALUES (1)",
    "CREATE TABLE brain.x (i INT)",
    "CREATE VIEW brain.x AS SELECT 1",
    "DROP VIEW brain.executions",
    "DELETE FROM brain.executions",
    *(
        "FROM brain.query('" + sql.replace("'", "''") + "')"
        for sql in (
            "DELETE FROM store.main._events",
            "SELECT 1; DROP VIEW executions",
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT (SELECT count(*) FROM glob('/*'))",
            "SELECT * FROM query('SELECT 1')",
            "SELECT getenv('HOME')",
            "ATTACH '/tmp/x.duckdb'",
            "COPY events TO '/tmp/x.csv'",
            "SET threads = 1",
            "CALL quack_stop('x')",
            "CHECKPOINT",
        )
    ),
]


def test_another_process_reads_what_the_store_follows_and_is_refused_everything_else(tmp_path: Path) -> None:
    log = Log()
    spec = Spec(shell=Shell(command="true"))
    log.ask("execution", "exec_a", execution.Submit(spec=spec, digest="d", taken_by="node_a"))
    store = Store(tmp_path / "brain.duckdb", prepare=quack.prepare)
    store.apply(log.records)
    served = quack.serve(store)
    log.ask("execution", "exec_a", execution.Start(node="node_a", boot="b", log_path="x"))
    store.apply(log.records)
    asked = json.dumps([served.uri, served.token, [*READS, *REFUSED]])
    run = subprocess.run(
        [sys.executable, "-c", CLIENT, asked], capture_output=True, text=True, check=True, timeout=60
    )
    thief, attached, *answers = json.loads(run.stdout)
    assert (thief, attached) == ("refused", [])
    assert answers[: len(READS)] == [[["exec_a", "running"]], [[2]], [[2]]]
    unrefused: list[Any] = [
        query for query, answer in zip(REFUSED, answers[len(READS) :], strict=True) if answer != "refused"
    ]
    assert unrefused == []
    assert verify(store, log.records) == []
    quack.stop(store, served)
    store.close()
