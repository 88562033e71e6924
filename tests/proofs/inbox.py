"""What is put into the inbox while no node works is done when one comes, and never twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.proofs.ground import Ground, ground
from tests.proofs.kills import judge
from tests.proofs.outside import Outsider
from tests.proofs.report import Report

SUBJECT = "brain.inbox.execution.submit"
WINDOW = 1.0


async def prove(report: Report, folder: Path, seed: int, count: int = 50) -> None:
    """Publish, start, repeat inside and after the window, restart, repeat again."""
    async with ground(folder / "d", HINDBRAIN_INBOX__WINDOW_SECONDS=str(WINDOW)) as node:
        them = Outsider(lambda: str(node.info["nats_url"]))
        try:
            await _run(report, node, them, folder / "said", count)
        finally:
            await them.close()


async def _run(report: Report, node: Ground, them: Outsider, said: Path, count: int) -> None:
    info = await node.up("--roles", "nats")
    report.claim(info["roles"] == ["nats"], "only the server runs", info["roles"])
    twins = [(await _put(them, _body(said, "id 0"), msg_id="m-0"))["duplicate"] for _ in range(3)]
    report.claim(twins == [False, True, True], "the stream refuses a message id inside its window", twins)
    for number in range(count):
        await _put(them, _body(said, f"id {number}"), msg_id=f"m-{number}")
        await _put(them, _body(said, f"key {number}") | {"idempotency_key": f"k-{number}"})
    bare = [await _put(them, _body(said, "bare")) for _ in range(2)]
    report.claim(
        len(await them.log()) == 0 or all(e.kind == "node" for e in await them.log()), "nothing ran yet"
    )
    server = node.pids()["nats"]
    down = await node.call("down")
    report.claim(down.code == 0, "the server's node went down", down.err.decode())
    report.note(f"nats-server {server}, now {node.pids().get('nats')}")
    await node.up()
    ids = {f"id {n}": await _key(them, f"m-{n}") for n in range(count)}
    ids |= {f"key {n}": await _key(them, f"k-{n}") for n in range(count)}
    ids |= {f"bare {n}": await _key(them, f"inbox-{each['seq']}") for n, each in enumerate(bare)}
    for entity in ids.values():
        await them.over(entity)
    report.claim(len(set(ids.values())) == 2 * count + 2, f"{len(ids)} messages became as many executions")
    again: list[str] = []
    for moment in ("after the window", "after a restart"):
        if moment == "after a restart":
            await node.call("down")
            await node.up()
        else:
            await asyncio.sleep(WINDOW * 1.5)
        before = await them.last()
        for number in range(count):
            await _put(them, _body(said, f"id {number}"), msg_id=f"m-{number}")
            await _put(them, _body(said, f"key {number}") | {"idempotency_key": f"k-{number}"})
        await _empty(them, node)
        same = [await _key(them, f"{kind}-{n}") for kind in "mk" for n in range(count)]
        answer = await them.insist("execution.submit", _body(said, "key 0") | {"idempotency_key": "k-0"})
        first = ids["key 0"]
        report.claim(
            (answer.get("execution_id"), answer.get("duplicate")) == (first, True),
            f"{moment}: the first id",
            answer,
        )
        again += [each for each in same if each not in ids.values()]
        new = [event for event in (await them.log())[before:] if event.kind == "execution"]
        report.claim(not new, f"{moment}: {2 * count} repeats changed nothing", [e.subject for e in new[:3]])
    report.claim(not again, "the same ids are named ever after", again)
    other = await them.insist("execution.submit", _body(said, "other") | {"idempotency_key": "k-0"})
    code = other.get("error", {}).get("code")
    report.claim(code == "idempotency_conflict", "another wish under a used key is refused", other)
    lines = await asyncio.to_thread(lambda: said.read_text().splitlines())
    twice = sorted({line for line in lines if line != "bare" and lines.count(line) > 1})
    report.claim(
        not twice and len(lines) == 2 * count + 2, f"each command ran once: {len(lines)} lines", twice
    )
    await judge(report, node, them, await them.log(), list(ids.values()))


def _body(said: Path, text: str) -> dict[str, Any]:
    return {"shell": {"command": f'echo "{text}" >> "{said}"'}}


async def _put(them: Outsider, body: dict[str, Any], msg_id: str | None = None) -> dict[str, Any]:
    js = await them.streams()
    headers = {"Nats-Msg-Id": msg_id} if msg_id else None
    ack = await js.publish(SUBJECT, json.dumps(body).encode(), headers=headers)
    return {"seq": ack.seq, "duplicate": bool(ack.duplicate)}


async def _key(them: Outsider, key: str) -> str:
    """The id under which a key is known, once it is."""
    for _ in range(600):
        answer = await them.insist("execution.get", {"idempotency_key": key})
        if "execution" in answer:
            return str(answer["execution"]["id"])
        assert answer["error"]["code"] == "not_found", answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"nothing became of {key}")


async def _empty(them: Outsider, node: Ground) -> None:
    """Wait until every message of the inbox was dealt with, which erases it."""
    for _ in range(600):
        if await _left(them) == 0:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the inbox of {node.data} is not emptied")


async def _left(them: Outsider) -> int:
    info = await (await them.streams()).stream_info("BRAIN_INBOX")
    return info.state.messages
