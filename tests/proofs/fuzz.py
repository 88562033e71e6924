"""Random bytes and requests that went wrong reach every verb: each gets an answer, and the node lives."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nats
from nats.errors import Error as NatsError

from tests.proofs.ground import birth, ground
from tests.proofs.report import Report

SECONDS = 60.0
AT_ONCE = 8
ANSWER_SECONDS = 20.0
NOBODY = "exec_" + "0" * 26

BODIES: dict[str, list[dict[str, Any]]] = {
    "execution.submit": [
        {"exec": {"program": "true", "args": ["a", "b"]}, "labels": ["x"], "priority": "low"},
        {"shell": {"command": "true"}, "env": {"A": "1"}, "secrets": {"S": "value"}, "timeout": 5},
        {"code": "1", "language": "sh", "stdin": "x", "limits": {"open_files": 64}, "idempotency_key": "k"},
        {"script": {"path": "/bin/true"}, "working_dir": "/tmp", "description": "d", "grace_ms": 10},
        {"aws": {"service": "s3", "operation": "ls", "args": [], "profile": "p", "region": "r"}},
        {"job": {"type": "a:b", "data": {"c": 1}}},
        {"code": {"blob": "0" * 64}},
    ],
    "execution.get": [{"execution_id": NOBODY}, {"idempotency_key": "k", "min_seq": 1}],
    "execution.wait": [{"execution_id": NOBODY, "timeout_ms": 10}],
    "execution.cancel": [{"execution_id": NOBODY, "reason": "r", "grace_ms": 10}],
    "execution.result": [{"execution_id": NOBODY, "max_bytes": 10}],
    "execution.logs": [
        {"execution_id": NOBODY, "stream": "both", "offset": 0, "max_bytes": 10, "encoding": "text"}
    ],
    "execution.list": [{"status": "failed", "module": "commands", "label": "x", "limit": 5, "before": 9}],
    "execution.retry": [{"execution_id": NOBODY, "secrets": {"S": "v"}}],
    "execution.events": [{"execution_id": NOBODY, "after_seq": 0, "limit": 10}],
    "query.sql": [
        {"sql": "SELECT * FROM executions WHERE id = ?", "params": ["x"], "limit": 5, "timeout_ms": 500},
        {"sql": "SELECT 1", "seq": 1},
        {"sql": "SELECT count(*) FROM events", "at": "2026-01-01T00:00:00Z"},
    ],
    "node.info": [{}],
    "actor.list": [{}],
    "actor.fail": [{"name": "nobody"}],
}
"""One good request of every kind; those that end a node or fold all tables again are only sent as noise."""
NOISE_ONLY = ("node.down", "query.rebuild")

NOISE = b"\xff"
"""What begins like this is no JSON."""

NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    -(2**65),
    10**400,
    1e308,
    -0.0,
    "",
    " ",
    "\0",
    "a\0b",
    "ä😀\u202e",
    "\ud800",
    "*",
    ">",
    "a.b",
    "../..",
    "%s%n{0}",
    "x" * 70_000,
    [],
    [[]],
    {},
    {"": ""},
    {"blob": "zz"},
    [None] * 500,
]


@dataclass
class Tally:
    """What was sent and what came back."""

    sent: int = 0
    accepted: int = 0
    codes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])


def mangle(dice: random.Random, body: Any) -> Any:
    """Change one thing in a request, somewhere."""
    if isinstance(body, dict) and body and dice.random() < 0.8:
        made = dict(cast("dict[str, Any]", body))
        key = dice.choice(list(made))
        match dice.randrange(5):
            case 0:
                del made[key]
            case 1:
                made[key] = dice.choice(NASTY)
            case 2:
                made[dice.choice(["", "x", key + "s", key.upper(), "\0"])] = made[key]
            case 3:
                other = dice.choice(list(made))
                made[key], made[other] = made[other], made[key]
            case _:
                made[key] = mangle(dice, made[key])
        return made
    if isinstance(body, list) and body and dice.random() < 0.7:
        items = cast("list[Any]", body)
        return [*items[:-1], mangle(dice, items[-1])]
    return dice.choice(NASTY)


def request(dice: random.Random) -> tuple[str, bytes]:
    """Make up a verb and a body for it."""
    verb = dice.choice([*BODIES, *NOISE_ONLY])
    kind = dice.random()
    if verb in NOISE_ONLY or kind < 0.15:
        return verb, NOISE + dice.randbytes(dice.choice([0, 1, 7, 200, 5000]))
    if kind < 0.2:
        depth = dice.choice([200, 5000, 100_000])
        return verb, b'{"a":' * depth if dice.random() < 0.5 else b"[" * depth + b"]" * depth
    body: Any = dice.choice(BODIES[verb])
    for _ in range(dice.choice([0, 1, 1, 1, 2, 4])):
        body = mangle(dice, body)
    text = bytearray(json.dumps(body, ensure_ascii=dice.random() < 0.5).encode(errors="surrogatepass"))
    if kind < 0.45:
        for _ in range(dice.choice([1, 1, 3])):
            if text:
                at = dice.randrange(len(text))
                change: Callable[[], None] = dice.choice(
                    [
                        lambda at=at: text.__setitem__(at, dice.randrange(256)),
                        lambda at=at: text.__delitem__(slice(at, None)),
                        lambda at=at: text.insert(at, dice.choice(b'{}[]",:\\0e-')),
                        lambda at=at: text.extend(text[at:]),
                    ]
                )
                change()
    return verb, bytes(text)


def judge(tally: Tally, verb: str, body: bytes, reply: Any) -> None:
    """See whether an answer is one that a program can read."""
    headers: dict[str, str] = reply.headers or {}
    try:
        answer = json.loads(reply.data)
        error: Any = answer.get("error")
    except (ValueError, AttributeError):
        tally.wrong.append(f"{verb} {body[:300]!r}: the answer is {reply.data[:300]!r}")
        return
    if "Nats-Service-Error" not in headers:
        tally.accepted += 1
        if body.startswith(NOISE):
            tally.wrong.append(f"{verb} took {body[:300]!r} for a request")
        return
    said = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    code = said.get("code")
    tally.codes[str(code)] += 1
    well = (
        isinstance(said.get("message"), str)
        and isinstance(said.get("details"), dict)
        and said["message"]
        and headers["Nats-Service-Error"] == code
    )
    if not well or code == "internal":
        tally.wrong.append(f"{verb} {body[:300]!r}: {reply.data[:300]!r}")


async def storm(url: str, seed: int, seconds: float, most: int = 10**9) -> Tally:
    """Send such requests for a while, but not more than so many, some at a time; look at every answer."""
    tally, dice = Tally(), random.Random(seed)
    until = time.monotonic() + seconds
    join: Any = cast("Any", nats).connect
    nc = await join(url, allow_reconnect=False)

    async def one() -> None:
        while time.monotonic() < until and tally.sent < most:
            verb, body = request(dice)
            tally.sent += 1
            try:
                reply = await nc.request(f"brain.cmd.{verb}", body, timeout=ANSWER_SECONDS)
            except NatsError as error:
                tally.wrong.append(f"{verb} {body[:300]!r}: {error!r}")
            else:
                judge(tally, verb, body, reply)

    try:
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    finally:
        await nc.close()
    return tally


async def prove(report: Report, folder: Path, seed: int, seconds: float = SECONDS) -> None:
    """Send a minute of it, and look at the node afterwards."""
    async with ground(folder / "d") as node:
        info = await node.up()
        born = birth(info["pid"])
        tally = await storm(info["nats_url"], seed, seconds)
        report.note(f"{tally.sent} requests, {tally.accepted} accepted, refused: {dict(tally.codes)}")
        report.claim(not tally.wrong, "every request got an answer with code, message, details", tally.wrong)
        report.claim(birth(info["pid"]) == born, "the node is the same process")
        actors: list[dict[str, Any]] = await node.told("actors")
        restarted = [each for each in actors if each.get("restarts")]
        report.claim(not restarted, "no actor had to be restarted", restarted)
        done = await node.call("run", "--", "echo", "alive")
        report.claim((done.code, done.out) == (0, b"alive\n"), "it still runs commands", done)
        waiting = await node.sql(
            "SELECT status, count(*) AS n FROM executions WHERE completed_at IS NULL GROUP BY ALL"
        )
        report.note(f"not over: {waiting}")
        checked = await node.call("doctor", "--verify")
        report.claim(checked.code == 0, "the log and the tables agree", checked.out.decode())
