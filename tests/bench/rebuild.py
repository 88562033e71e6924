"""How long it takes to fold all tables anew from their copy of the log."""

import time
from pathlib import Path

import duckdb

from events import codec
from events.execution import Completed, Queued, Started
from projections.store import Store
from tests.bench.run import Run
from tests.bench.writer import END, SPEC

EVENTS = ("queued", "started", "completed")


async def measure(run: Run) -> None:
    """Fold as the process of the tables does, with its limits of memory and threads."""
    count = run.size(10_000_000, 300_000)
    folder = run.place()
    folder.mkdir()
    file = folder / "brain.duckdb"
    Store(file).close()
    made = fill(file, count // 3)
    took: list[float] = []
    store = Store(file)
    try:
        for _ in range(run.size(3, 2)):
            begun = time.perf_counter()
            store.rebuild()
            took.append(time.perf_counter() - begun)
            cursor = store.cursor()
            query = (
                "SELECT count(*), count(*) FILTER (status = 'completed' AND exit_code = 0) FROM executions"
            )
            assert cursor.execute(query).fetchone() == (count // 3, count // 3)
            cursor.close()
    finally:
        store.close()
    run.add(f"all tables folded anew from {made:,} events of {count // 3:,} executions", "s", took)
    run.add("the same", "events/s", [made / seconds for seconds in took])
    run.add(f"file with {made:,} events and the tables", "MiB", [file.stat().st_size / 2**20])


def fill(file: Path, executions: int) -> int:
    """Put the lives of so many executions into the copy of the log, 1,000 of them at a time."""
    log = "/srv/brain/logs/executions/@_stdout.log"
    queued = Queued(
        spec=SPEC, digest="8ebe76aac7480e7750debc406c7894f7", taken_by="node_01m822x8xt1xjcgpm29xccnmsx"
    )
    started = Started(
        attempt=1, node="node_01m822x8xt1xjcgpm29xccnmsx", boot="4f0b7d9e43496618", log_path=log
    )
    bodies = [codec.encode(event).decode() for event in (queued, started, Completed(attempt=1, end=END))]
    con = duckdb.connect(str(file))
    try:
        con.execute(
            """
            INSERT INTO _events
            SELECT seq, 'ev' || lpad(seq::VARCHAR, 24, '0'), TIMESTAMP '2026-01-01' + to_milliseconds(seq),
                'execution', entity, step + 1, $events[step + 1], '', 'client',
                if(step = 0, '', md5(entity) || md5(seq::VARCHAR)), '',
                replace(replace($bodies[step + 1], '@', entity), '4711', (seq % 32768)::VARCHAR)::JSON,
                if(step = 0, 'commands.medium', ''), NULL
            FROM (
                SELECT range + 1 AS seq, range // 3000 * 1000 + range % 1000 AS number,
                    range % 3000 // 1000 AS step, 'exec_' || left(md5(number::VARCHAR), 26) AS entity
                FROM range($rows)
            )
            WHERE number < $executions
            """,
            {
                "events": list(EVENTS),
                "bodies": bodies,
                "rows": executions * 3 + 3000,
                "executions": executions,
            },
        )
        con.execute("UPDATE _projection_bookmarks SET seq = (SELECT max(seq) FROM _events)")
        (made,) = con.execute("SELECT count(*) FROM _events").fetchone() or (0,)
        con.execute("CHECKPOINT")
    finally:
        con.close()
    return made
