"""Nodes are killed around ticks, and owners of the timer stopped: each tick is one execution, by its policy.

First one node is killed again and again a moment before or after a tick.  Then there are two, and whoever
plays the timer is killed, or stopped until the other one has taken over and then let go on.  Executions with
a delay wait all the while, and each is released once.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, birth, ground, until
from tests.proofs.outside import STREAM, Event, Outsider, by_entity, endings, restarts_unsaid, unlinked
from tests.proofs.pair import joining
from tests.proofs.report import Report

EVERY_MS = 1000
GRACE_MS = 1500
AROUND_SECONDS = 0.15
"""How far from a tick a blow falls."""
TAKE_OVER_SECONDS = 10.0
POLICIES = ("all", "once", "skip")
RUN = {"exec": {"program": "true"}}


class Book:
    """The log, read on from where it was read last."""

    def __init__(self, them: Outsider) -> None:
        self._them = them
        self._events: list[Event] = []

    async def read(self) -> list[Event]:
        """Everything until now."""
        streams = await self._them.streams()
        for seq in range(len(self._events) + 1, await self._them.last() + 1):
            message: Any = await streams.get_msg(STREAM, seq)
            headers: dict[str, str] = message.headers or {}
            self._events.append(Event(seq, message.subject, headers, message.data or b""))
        return self._events


async def prove(
    report: Report, folder: Path, seed: int, kills: int = 20, changes: int = 8, delayed: int = 200
) -> None:
    """Kill one node `kills` times around ticks, then hit the timer of two nodes `changes` times."""
    chance = random.Random(seed)
    async with ground(folder / "a") as first, ground(folder / "b") as second:
        await first.up()
        them = Outsider(lambda: str(first.info["nats_url"]))
        book = Book(them)
        try:
            made = {policy: await _create(them, policy) for policy in POLICIES}
            await _kill(report, first, book, chance, made["all"], kills)
            url = await asyncio.to_thread(joining, first)
            await second.up("--nats", url)
            waiting = await _delay(them, delayed, changes * 12.0)
            await _change(report, (first, second), book, chance, changes)
            for schedule in made.values():
                await them.insist("schedule.delete", {"schedule_id": schedule})
            await _judge(report, them, made, waiting)
        finally:
            await them.close()


async def _create(them: Outsider, policy: str) -> str:
    wish = {"submit": RUN, "every_ms": EVERY_MS, "catch_up": policy, "grace_ms": GRACE_MS}
    reply = await them.insist("schedule.create", {**wish, "idempotency_key": f"ticks-{policy}"})
    return str(reply["schedule_id"])


async def _delay(them: Outsider, count: int, seconds: float) -> list[str]:
    """Have some executions wait for times that are spread over what comes."""
    return [
        await them.submit(
            {**RUN, "delay_ms": round(1000 * seconds * number / count), "idempotency_key": f"later-{number}"}
        )
        for number in range(count)
    ]


async def _near(chance: random.Random, anchor: float) -> None:
    """Wait until a moment before or after a tick."""
    aim = chance.uniform(-AROUND_SECONDS, AROUND_SECONDS)
    now = time.time()
    ahead = EVERY_MS / 1000 - (now - anchor - aim) % (EVERY_MS / 1000)
    await asyncio.sleep(ahead + chance.randrange(3) * EVERY_MS / 1000)


async def _kill(
    report: Report, node: Ground, book: Book, chance: random.Random, schedule: str, kills: int
) -> None:
    anchor = _seconds(next(e.time for e in await book.read() if e.entity == schedule))
    for number in range(kills):
        before = await _ticks(book)
        await _past(book, before)
        await _near(chance, anchor)
        pid = node.pids()["node"]
        hit = node.kill("node")
        report.claim(hit == ["node"], f"blow {number + 1} of {kills} hit the node")
        await node.gone(pid)
        await asyncio.sleep(chance.uniform(0.0, 3.0))
        await node.up()
    await _past(book, await _ticks(book))


async def _change(
    report: Report, nodes: tuple[Ground, Ground], book: Book, chance: random.Random, changes: int
) -> None:
    slowest = 0.0
    for number in range(changes):
        await _past(book, await _ticks(book))
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        name = await _timer(book)
        owner = next(each for each in nodes if each.info["node"] == name)
        pid = owner.pids()["node"]
        how = "killed" if number % 2 else "stopped"
        moment = time.time()
        os.kill(pid, signal.SIGKILL if number % 2 else signal.SIGSTOP)
        try:
            after = await _taken(book, name, moment)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        slowest = max(slowest, after)
        report.note(f"the timer {how}: another one after {after:.1f} s")
        if number % 2:
            await owner.gone(pid)
            await owner.up(
                *(() if owner is nodes[0] else ("--nats", await asyncio.to_thread(joining, nodes[0])))
            )
        else:
            await until(lambda pid=pid: birth(pid) is not None, 5.0, "the stopped node")
    report.claim(
        slowest <= TAKE_OVER_SECONDS, f"{changes} times another one took over, in {slowest:.1f} s at most"
    )


async def _ticks(book: Book) -> int:
    """The sequence of the last tick that was granted."""
    return max((e.seq for e in await book.read() if _granted(e)), default=0)


async def _past(book: Book, seq: int, seconds: float = 40.0) -> None:
    """Wait until another tick was granted."""
    deadline = time.monotonic() + seconds
    while await _ticks(book) <= seq:
        assert time.monotonic() < deadline, "nothing ticks any more"
        await asyncio.sleep(0.2)


async def _timer(book: Book) -> str:
    """Which node plays the timer: who granted last."""
    last = max((e for e in await book.read() if _granted(e)), key=lambda e: e.seq)
    return last.headers["Brain-By"].removeprefix("timer:")


async def _taken(book: Book, old: str, moment: float) -> float:
    """Wait until another node plays the timer; how long after the blow it granted its first tick."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for event in await book.read():
            if (
                _granted(event)
                and event.headers["Brain-By"] != f"timer:{old}"
                and _seconds(event.time) > moment
            ):
                return _seconds(event.time) - moment
        await asyncio.sleep(0.2)
    raise AssertionError("nobody took over")


async def _judge(report: Report, them: Outsider, made: dict[str, str], waiting: list[str]) -> None:
    last = {schedule: await _deleted(them, schedule) for schedule in made.values()}
    log = await them.log()
    granted = [str(e.data["execution_id"]) for e in log if _granted(e)]
    report.claim(
        len(set(granted)) == len(granted), f"{len(granted)} ticks were granted, each with its own id"
    )
    for execution in (*granted, *waiting):
        await them.over(execution, 60.0)
    log = await them.log()
    lives = by_entity(log)
    wrong = endings(log, [*granted, *waiting])
    report.claim(not wrong, f"each of {len(granted)} ticks and {len(waiting)} others ended once", wrong[:5])
    foreign = {e.entity for e in log if e.kind == "execution"} - {*granted, *waiting}
    report.claim(not foreign, "nothing ran that no tick had asked for", sorted(foreign)[:5])
    others = sum(
        lives[str(e.data["execution_id"])][0].headers["Brain-By"] != e.headers["Brain-By"]
        for e in log
        if _granted(e)
    )
    report.note(f"{others} ticks were granted by one timer and submitted by another")
    report.claim(not (bad := restarts_unsaid(log)), "no second start without a lost attempt", bad[:5])
    report.claim(not (bad := unlinked(log)), f"{len(log)} events, versions and hashes in a chain", bad[:5])
    twice = [each for each in waiting if [e.name for e in lives[each]].count("queued") != 1]
    report.claim(not twice, f"each of {len(waiting)} that waited for a time was released once", twice[:5])
    early = [
        each
        for each in waiting
        if lives[each][0].name == "held"
        and _seconds(lives[each][1].time) < _seconds(lives[each][0].data["until"]) - 0.001
    ]
    report.claim(not early, "and none of them too early", early[:5])
    for policy, schedule in made.items():
        _policy(report, policy, [e for e in log if e.entity == schedule], last[schedule])


def _policy(report: Report, policy: str, life: list[Event], end: float) -> None:
    """Claim that every tick was decided once, and as the policy says."""
    born = _seconds(life[0].data["at"])
    count = int((end - born) * 1000 // EVERY_MS)
    seen: dict[int, int] = {}
    late: dict[str, int] = {}
    granted = 0
    for event in life:
        if event.name != "ticked":
            continue
        low, high = (
            round((_seconds(str(event.data.get(key) or event.data["tick"])) - born) * 1000 / EVERY_MS)
            for key in ("first", "tick")
        )
        for number in range(low, high + 1):
            seen[number] = seen.get(number, 0) + 1
        if "execution_id" in event.data:
            granted += 1
            if _seconds(event.time) - _seconds(event.data["tick"]) > GRACE_MS / 1000 + 0.05:
                late[event.time] = late.get(event.time, 0) + 1
    twice = [number for number, times in seen.items() if times > 1]
    # The very last ones may fall together with the deletion.
    gaps = [number for number in range(1, count - 1) if number not in seen]
    report.claim(not twice and not gaps, f"{policy}: each of {count} ticks was decided once", (twice, gaps))
    match policy:
        case "all":
            report.claim(
                granted == len(seen), f"all: {granted} of {len(seen)} ticks ran", len(seen) - granted
            )
        case "once":
            most = max(late.values(), default=0)
            report.claim(most <= 1, f"once: {granted} ran, of each downtime one late ({len(late)})", late)
        case _:
            report.claim(not late, f"skip: {granted} of {len(seen)} ran, none late", late)


async def _deleted(them: Outsider, schedule: str) -> float:
    return _seconds(next(e.time for e in await them.log() if e.entity == schedule and e.name == "deleted"))


def _granted(event: Event) -> bool:
    return event.kind == "schedule" and event.name == "ticked" and "execution_id" in event.data


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
