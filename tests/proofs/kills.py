"""Node, server, or both are killed again and again while commands run: each ends once, and truly.

Short commands leave a file that can be made only once for each attempt, so a second start of one attempt is
seen; long ones write a line a second and end with a code of their own.  Clients go on submitting all the time
and repeat with the same key whatever has no known outcome.
"""

import asyncio
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.proofs import fold
from tests.proofs.ground import Ground, birth, ground, until
from tests.proofs.outside import TERMINAL, Event, Outsider, by_entity, endings, restarts_unsaid, unlinked
from tests.proofs.report import Report

CLIENTS = 8
EXIT = 7
VICTIMS = (("node",), ("nats",), ("node", "nats"))
MORE = (*VICTIMS, ("keeper",), ("projector",))
SHORT = 'set -C; : > "$MARKS/$HINDBRAIN_EXECUTION_ID.$HINDBRAIN_ATTEMPT" || : > "$MARKS/again.$$"; sleep "$1"'
LONG = """
echo $$ > "$MARKS/pid.$1"; i=0
while [ $i -lt "$2" ]; do i=$((i+1)); echo line $i; sleep 1; done
exit 7
"""


class Blow(NamedTuple):
    """When processes were killed, in seconds since 1970, and which."""

    time: float
    hit: list[str]


async def prove(
    report: Report,
    folder: Path,
    seed: int,
    kills: int = 30,
    shorts: int = 200,
    longs: int = 5,
    lines: int = 100,
    more: bool = False,
) -> None:
    """Do it `kills` times at moments that the seed chooses."""
    marks = folder / "marks"
    await asyncio.to_thread(marks.mkdir)
    async with ground(folder / "d", HINDBRAIN_LOG__LEVEL="debug" if more else "info") as node:
        await node.up()
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, marks, random.Random(seed), kills, shorts, longs, lines, more)
        finally:
            await them.close()


async def _run(
    report: Report,
    node: Ground,
    them: Outsider,
    marks: Path,
    chance: random.Random,
    kills: int,
    shorts: int,
    longs: int,
    lines: int,
    more: bool,
) -> None:
    long = [await them.submit(_long(marks, number, lines)) for number in range(longs)]
    await until(lambda: len(list(marks.glob("pid.*"))) == longs, 20, "the long commands")
    pids = [int((marks / f"pid.{number}").read_text()) for number in range(longs)]
    taken: list[str] = []
    killing = asyncio.create_task(_kill(report, node, chance, kills, more))
    # Submissions last as long as the kills: who waits for an outcome holds up the next one.
    pace = asyncio.Semaphore(CLIENTS)
    jobs = [_short(marks, number, chance.uniform(0.05, 1.5)) for number in range(shorts)]

    async def client(body: dict[str, Any]) -> None:
        async with pace:
            taken.append(await them.submit(body))

    asking = [asyncio.create_task(client(body)) for body in jobs[: shorts // 3]]
    for body in jobs[shorts // 3 :]:
        await asyncio.sleep(0.0 if killing.done() else kills * 2.0 / shorts)
        asking.append(asyncio.create_task(client(body)))
    await asyncio.gather(*asking)
    blows = await killing
    report.note(f"{len(taken)} short commands acknowledged, {them.repeats} questions asked again")
    same = [
        (await them.submit(body)) == entity
        for body, entity in zip(jobs[:20], await _ids(them, jobs[:20]), strict=True)
    ]
    report.claim(all(same), "a repeat after it all answers the first id")
    if not more:
        alive = [pid for pid in pids if birth(pid) is not None]
        table = {row["id"]: row["pid"] for row in await node.sql("SELECT id, pid FROM executions")}
        kept = all(table[entity] == pid for entity, pid in zip(long, pids, strict=True))
        report.claim(kept, f"the long commands kept their pid ({len(alive)} of {longs} still run)", pids)
    ends = await asyncio.gather(*(them.over(entity, 120.0 + lines) for entity in taken))
    last = await asyncio.gather(*(them.over(entity, 120.0 + lines) for entity in long))
    lost = [each["id"] for each in (*ends, *last) if each["reason"] == "lost"]
    report.note(f"ends: {_count([each['status'] for each in ends])}, lost {len(lost)}")
    log = await them.log()
    await judge(report, node, them, log, taken + long, marks)
    _within(report, log, taken, blows)
    wrong = [e for e in last if e["id"] not in lost and (e["status"], e["exit_code"]) != ("failed", EXIT)]
    report.claim(not wrong, f"the long commands ended with their true exit code {EXIT}", wrong)
    bad = [each for each in ends if each["id"] not in lost and each["status"] != "completed"]
    report.claim(not bad, "the short commands ended well", bad[:3])
    lives = by_entity(log)
    doomed = [each for each in lost if _orphaned(lives[each], blows)]
    report.claim(
        doomed == lost, f"{len(lost)} were lost, each to the death of its keeper and of the node", lost
    )
    whole = "".join(f"line {number + 1}\n" for number in range(lines)).encode()
    for entity, pid, end in zip(long, pids, last, strict=True):
        if entity in lost:
            continue
        said = await node.call("logs", entity)
        report.claim(said.out == whole, f"{entity}: whole output, {len(said.out)} bytes", said.out[-200:])
        told = [e.data["end"].get("pid") for e in by_entity(log)[entity] if e.name in TERMINAL]
        report.claim(
            told == [pid] and end["stdout_bytes"] == len(whole), f"{entity}: pid {pid} to the end", told
        )


def _long(marks: Path, number: int, lines: int) -> dict[str, Any]:
    body = {"exec": {"program": "/bin/sh", "args": ["-c", LONG, "long", str(number), str(lines)]}}
    return {**body, "env": {"MARKS": str(marks)}, "idempotency_key": f"long-{number}", "labels": ["long"]}


def _short(marks: Path, number: int, seconds: float) -> dict[str, Any]:
    body = {"exec": {"program": "/bin/sh", "args": ["-c", SHORT, "short", f"{seconds:.3f}"]}}
    return {**body, "env": {"MARKS": str(marks)}, "idempotency_key": f"short-{number}", "labels": ["short"]}


async def _ids(them: Outsider, jobs: list[dict[str, Any]]) -> list[str]:
    ask = [{"idempotency_key": body["idempotency_key"]} for body in jobs]
    return [(await them.insist("execution.get", each))["execution"]["id"] for each in ask]


async def _kill(report: Report, node: Ground, chance: random.Random, kills: int, more: bool) -> list[Blow]:
    """Kill, bring up again, and so on."""
    blows: list[Blow] = []
    slowest = 0.0
    plan = [(MORE if more else VICTIMS)[n % len(MORE if more else VICTIMS)] for n in range(kills)]
    chance.shuffle(plan)
    for victims in plan:
        await asyncio.sleep(chance.uniform(0.1, 2.0))
        before = node.pids()
        moment = time.time()
        hit = node.kill(*victims)
        blows.append(Blow(moment, hit))
        began = time.monotonic()
        if "node" in hit:
            await node.gone(before["node"])
            await node.up()
        else:
            name = hit[0] if hit else victims[0]
            await until(
                lambda n=name, old=before: node.pids().get(n, old.get(n)) != old.get(n), 30, f"a new {name}"
            )
        slowest = max(slowest, time.monotonic() - began)
        report.note(f"killed {' and '.join(hit)}: back after {time.monotonic() - began:.1f} s")
    report.note(f"{len(blows)} kills, slowest return {slowest:.1f} s")
    return blows


async def judge(
    report: Report,
    node: Ground,
    them: Outsider,
    log: list[Event],
    taken: list[str],
    marks: Path | None = None,
) -> None:
    """Claim what holds after anything: each ended once, nothing ran twice unsaid, tables are the log."""
    wrong = endings(log, taken)
    report.claim(not wrong, f"each of {len(taken)} acknowledged executions has exactly one end", wrong[:5])
    foreign = by_entity(log).keys() - set(taken)
    report.claim(not foreign, "nothing runs that nobody asked for", sorted(foreign)[:5])
    report.claim(not (bad := restarts_unsaid(log)), "no second start without a lost attempt", bad[:5])
    report.claim(not (bad := unlinked(log)), f"{len(log)} events, versions and hashes in a chain", bad[:5])
    if marks is not None:
        again = await asyncio.to_thread(lambda: [path.name for path in marks.glob("again.*")])
        report.claim(not again, "no attempt was started twice", again)
    await compare(report, log, them)


LIVELY = ("events", "decisions", "nodes", "modules", "workers", "plugins")
"""Tables of what a node does by itself; in the others nothing may happen any more."""


async def compare(report: Report, log: list[Event], them: Outsider) -> None:
    """Claim that every folded table is what this proof folds itself from the same events."""
    end = log[-1].seq
    await caught_up(them, end)
    mine = fold.fold(log)
    shown = {table: "* EXCLUDE (stdout, stderr)" if table == "executions" else "*" for table in mine}
    for table in mine:
        rows = await _rows(them, f"SELECT {shown[table]} FROM {table}")
        # A node goes on deciding and recording while this is asked.
        late: set[Any] = (
            {row.get("id", row["seq"]) for row in rows if row["seq"] > end} if table in LIVELY else set()
        )
        known = {key: row for key, row in mine[table].items() if key not in late}
        rows = [row for row in rows if row.get("id", row["seq"]) not in late]
        bad = fold.differences(table, known, rows)
        report.claim(not bad, f"{table}: {len(rows)} rows are what the log says, both ways", bad[:4])


async def _rows(them: Outsider, query: str) -> list[dict[str, Any]]:
    ask = {"sql": query, "limit": 100_000, "timeout_ms": 60_000}
    answer = await them.insist("query.sql", ask)
    assert answer.get("truncated") is False, answer
    names = [each["name"] for each in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]


async def caught_up(them: Outsider, end: int, within: float = 60.0) -> None:
    """Wait until the tables know an event."""
    deadline = time.monotonic() + within
    while int((await them.insist("query.sql", {"sql": "SELECT 1"}))["seq"]) < end:
        assert time.monotonic() < deadline, "the tables do not catch up"
        await asyncio.sleep(0.1)


def _orphaned(life: list[Event], blows: list[Blow]) -> bool:
    """Whether nobody could wait for it: its keeper was killed, and so was the node that began that keeper.

    A node inherits the commands of a keeper only as its ancestor, so not those of one that it took over.
    """
    begin, end = _seconds(next(e.time for e in life if e.name == "started")), _seconds(life[-1].time)
    born = 0.0
    for blow in blows:
        if "keeper" not in blow.hit:
            continue
        if begin - 0.5 <= blow.time <= end:
            return any("node" in each.hit and born < each.time <= end for each in blows)
        born = blow.time
    return False


def _within(report: Report, log: list[Event], entities: list[str], blows: list[Blow]) -> None:
    """Count the blows that fell between `queued` and the end of some short execution."""
    lives = by_entity(log)
    spans = [
        (_seconds(lives[each][0].time), _seconds(next(e.time for e in lives[each] if e.name in TERMINAL)))
        for each in entities
    ]
    inside = [sum(begin <= blow.time <= end for begin, end in spans) for blow in blows if blow.hit]
    hit = sum(count > 0 for count in inside)
    wanted = len(inside) // 3
    report.claim(
        hit >= wanted,
        f"{hit} of {len(inside)} kills fell between queued and end of some short execution",
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _count(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}
