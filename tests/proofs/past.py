"""What a query answered, it answers for ever about that moment; and tables fold again the same."""

import asyncio
import itertools
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.proofs.ground import Ground, ground, until
from tests.proofs.kills import caught_up, judge
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

TABLES = (
    *("executions", "attempts", "dead_letters", "plans", "plan_steps", "schedules", "limits", "templates"),
    *("nodes", "findings", "decisions", "events", "artifacts", "workspaces"),
    *("playbook_executions", "phases", "playbook_steps", "checkpoints", "phase_summaries", "inputs"),
)
QUERIES = (
    "SELECT * EXCLUDE (stdout, stderr) FROM executions ORDER BY id",
    "SELECT status, count(*) AS n, max(seq), sum(stdout_bytes) FROM executions GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS n, max(seq) AS last, sum(length(data::VARCHAR)) AS bytes FROM events",
    "SELECT * FROM nodes",
    "SELECT * FROM findings ORDER BY id",
)


class Moment(NamedTuple):
    """What a query answered, and when."""

    query: str
    seq: int
    at: str
    rows: Any


async def prove(report: Report, folder: Path, seed: int, moments: int = 200, count: int = 400) -> None:
    """Note `moments` answers while `count` commands or more run and end, then ask for each of them again."""
    async with ground(folder / "d") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, random.Random(seed), moments, count)
        finally:
            await them.close()


async def _run(
    report: Report, node: Ground, them: Outsider, chance: random.Random, moments: int, count: int
) -> None:
    taken: list[str] = []
    noted: list[Moment] = []
    done = asyncio.Event()

    async def load() -> None:
        for number in itertools.count():
            taken.append(await them.submit(_body(number, chance.uniform(0.0, 0.2))))
            # Slow enough for the tables to follow in small steps, of which each is a moment.
            await asyncio.sleep(chance.uniform(0.0, 0.06))
            if number % 10 == 9:
                await them.insist("execution.cancel", {"execution_id": taken[-1]})
            if done.is_set() and number >= count:
                return

    await caught_up(them, 1)
    began = time.monotonic()
    loading = asyncio.create_task(load())
    while len(noted) < moments:
        noted.append(await _note(them, QUERIES[len(noted) % len(QUERIES)]))
        await asyncio.sleep(chance.uniform(0.0, 0.15))
    report.note(f"{len(taken)} executions were submitted meanwhile")
    done.set()
    await loading
    report.note(f"{len(taken)} executions in all")
    for entity in taken:
        await them.over(entity)
    last = max(each.seq for each in noted)
    seqs = {each.seq for each in noted}
    report.note(f"{moments} moments in {time.monotonic() - began:.1f} s: {len(seqs)} sequences to {last}")

    wrong, spent = await _again(them, noted)
    report.claim(
        not wrong, f"sql with seq answers {moments} moments as they were ({spent:.0f} ms each)", wrong[:3]
    )
    log = await them.log()
    clean = [each for each in noted if _alone(each, log)]
    bad = [text for each in clean if (text := await _at(them, each))]
    report.claim(
        not bad,
        f"sql with at answers {len(clean)} moments as they were (the others share a millisecond)",
        bad[:3],
    )
    for each in noted[:: max(50, moments // 4)]:
        rows = await node.sql(each.query, "--seq", str(each.seq))
        report.claim(
            _same([list(row.values()) for row in rows], each.rows), f"so does the command line at {each.seq}"
        )
    await judge(report, node, them, log, taken)

    before = await _tables(them)
    rebuilt = await node.told("rebuild")
    report.claim(await _tables(them) == before, f"folded again: the same tables ({rebuilt})")
    await node.call("down")
    for name in ("brain.duckdb", "brain.duckdb.wal"):
        await asyncio.to_thread((node.data / name).unlink, missing_ok=True)
    await node.up()
    end = log[-1].seq
    await until(lambda: (node.data / "brain.duckdb").exists(), 20, "a new database")
    await caught_up(them, end)
    after = await _tables(them)
    expected = await _tables(them, end)
    ours = {
        table: [row for row in before[table] if row["seq"] <= end] for table in before if table != "nodes"
    }
    found = {table: [row for row in after[table] if row["seq"] <= end] for table in ours}
    report.claim(found == ours, "deleted and read again from the log: the same tables", _first(found, ours))
    report.claim(expected["nodes"] == before["nodes"], "and the nodes as they were then", expected["nodes"])
    wrong, spent = await _again(them, noted[:: max(1, moments // 50)])
    report.claim(not wrong, "the past is the same in the new database", wrong[:3])


async def _note(them: Outsider, query: str) -> Moment:
    answer = await them.insist("query.sql", {"sql": query, "limit": 100_000})
    assert "rows" in answer, answer
    now = datetime.now(UTC)
    return Moment(query, answer["seq"], f"{now:%Y-%m-%dT%H:%M:%S.%f}Z", answer["rows"])


async def _again(them: Outsider, noted: list[Moment]) -> tuple[list[str], float]:
    wrong: list[str] = []
    began = time.monotonic()
    for each in noted:
        answer = await them.insist("query.sql", {"sql": each.query, "limit": 100_000, "seq": each.seq})
        if not _same(answer.get("rows"), each.rows):
            wrong.append(
                f"{each.query[:40]} at {each.seq}: {_apart(answer.get('rows') or [answer], each.rows)}"
            )
    return wrong, (time.monotonic() - began) / len(noted) * 1000


def _alone(moment: Moment, log: list[Any]) -> bool:
    """Whether a time can name this moment: the next event came in a later millisecond."""
    if moment.seq >= len(log):
        return True
    here, there = log[moment.seq - 1].time, log[moment.seq].time
    return max(event.time for event in log[: moment.seq]) < there and here < there


async def _at(them: Outsider, moment: Moment) -> str:
    log_time = await them.insist(
        "query.sql", {"sql": "SELECT max(time) FROM events WHERE seq <= ?", "params": [moment.seq]}
    )
    ask = {"sql": moment.query, "limit": 100_000, "at": log_time["rows"][0][0]}
    answer = await them.insist("query.sql", ask)
    if answer.get("seq") != moment.seq or not _same(answer.get("rows"), moment.rows):
        rows = answer.get("rows") or [answer]
        return f"{ask['at']} is {answer.get('seq')}, not {moment.seq}: {_apart(rows, moment.rows)}"
    return ""


async def _tables(them: Outsider, seq: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, now or as of an event."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        key = "seq" if table == "events" else "id"
        shown = "* EXCLUDE (stdout, stderr)" if table == "executions" else "*"
        ask: dict[str, Any] = {"sql": f"SELECT {shown} FROM {table} ORDER BY {key}", "limit": 100_000}
        answer = await them.insist("query.sql", ask if seq is None else ask | {"seq": seq})
        names = [column["name"] for column in answer["columns"]]
        found[table] = [dict(zip(names, row, strict=True)) for row in answer["rows"]]
    return found


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _apart(one: list[Any], other: list[Any]) -> str:
    for here, there in zip(one, other, strict=False):
        if not _same(here, there):
            return f"{here} was {there}"
    return f"{len(one)} rows were {len(other)}"


def _first(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> str:
    return next(
        (f"{table}: {_apart(one[table], other[table])}" for table in one if one[table] != other[table]), ""
    )


def _body(number: int, seconds: float) -> dict[str, Any]:
    command = f"echo begin {number}; sleep {seconds:.3f}; echo end >&2; exit {number % 3}"
    return {"shell": {"command": command}, "idempotency_key": f"past-{number}", "labels": [f"l{number % 5}"]}
