"""Everything that is said in a recorded run is valid by the schemas that we publish."""

import json
from typing import Any

import jsonschema
import pytest
from foreign import Foreign, Place, connect

from interfaces import describe

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]


class Judge:
    """Validates, and remembers what it saw."""

    def __init__(self) -> None:
        self.schemas = describe.schemas()
        self.seen: set[str] = set()

    def __call__(self, name: str, value: Any) -> None:
        self.seen.add(name)
        schema = self.schemas[name]
        validator: Any = jsonschema.Draft202012Validator(schema)
        validator.validate(value)
        known = set(schema.get("properties", {}))
        assert not known or set(value) <= known, f"{name}: {set(value) - known} is not in the schema"


async def test_a_whole_run_is_valid_by_the_schemas(own: Place) -> None:
    own.up()
    judge = Judge()
    async with connect(own.info["nats_url"]) as bus:
        heard = await bus.hear("brain.fact.>")

        async def ask(verb: str, body: dict[str, Any]) -> dict[str, Any]:
            judge(f"{verb}.request", body)
            reply = await bus.send(verb, json.dumps(body).encode(), 60)
            answer: dict[str, Any] = json.loads(reply.data)
            judge("error" if "Nats-Service-Error" in (reply.headers or {}) else f"{verb}.reply", answer)
            return answer

        await _everything(bus, ask)
        events = (await bus.js.stream_info("BRAIN_EVENTS")).state.last_seq
        facts: set[int] = set()
        for seq in range(1, events + 1):
            message = await bus.js.get_msg("BRAIN_EVENTS", seq)
            words = message.subject.split(".")
            judge(f"{words[2]}.{words[5]}", json.loads(message.data))
        while heard.pending_msgs:
            fact = await heard.next_msg(1)
            words = fact.subject.split(".")
            facts.add(int(fact.headers["Nats-Sequence"]))
            judge(f"{words[2]}.{words[5]}", json.loads(fact.data))
        assert facts
    verbs = {name.rsplit(".", 1)[0] for name in judge.schemas if name.endswith(".request")}
    asked = {name.rsplit(".", 1)[0] for name in judge.seen if name.endswith(".request")}
    assert verbs - asked <= {"node.down"}
    wanted = ("queued", "started", "progressed", "cancel_requested", "completed", "failed", "cancelled")
    assert {f"execution.{name}" for name in (*wanted, "timed_out")} <= judge.seen


async def _everything(bus: Foreign, ask: Any) -> None:
    """Do a little of all there is."""
    wishes: list[dict[str, Any]] = [
        {"code": "print(1)", "language": "python", "stdin": "x", "description": "d", "labels": ["a"]},
        {"shell": {"command": "exit 3"}, "env": {"A": "1"}, "secrets": {"S": "value"}, "priority": 1},
        {"exec": {"program": "/no/such"}, "idempotency_key": "schema"},
        {"shell": {"command": "sleep 9"}, "timeout_ms": 200, "grace_ms": 100},
        {"shell": {"command": "yes"}, "limits": {"output_bytes": 1000}},
        {"shell": {"command": "echo '::progress 1/2files half'; sleep 2.2"}, "priority": "low"},
        {"script": {"path": "/bin/true", "interpreter": "/bin/sh"}, "working_dir": "/tmp"},
        {"code": {"blob": "0" * 64}, "timeout": 5},
    ]
    ids = [(await ask("execution.submit", wish))["execution_id"] for wish in wishes]
    await ask("execution.submit", wishes[2])
    await ask("execution.submit", wishes[2] | {"labels": ["other"]})
    slow = (await ask("execution.submit", {"shell": {"command": "sleep 60"}}))["execution_id"]

    async def runs() -> bool:
        return (await ask("execution.get", {"execution_id": slow}))["execution"]["status"] == "running"

    await bus.until(runs)
    await ask("execution.result", {"execution_id": slow})
    await ask("execution.retry", {"execution_id": slow})
    await ask("execution.retry", {"where": {"status": "failed"}})
    await ask("execution.reorder", {"execution_id": slow, "to": "last"})
    later = (await ask("execution.submit", {"exec": {"program": "true"}, "delay_ms": 3_600_000}))[
        "execution_id"
    ]
    await ask("execution.reorder", {"execution_id": later, "priority": "low"})
    await ask("execution.cancel", {"execution_id": later})
    await ask("dead.list", {})
    await ask("dead.get", {"execution_id": slow})
    await ask("dead.retry", {"all": True})
    await ask("dead.discard", {"all": True})
    await ask("execution.cancel", {"execution_id": slow, "reason": "r", "grace_ms": 100})
    for each in (*ids, slow):
        done = await ask("execution.wait", {"execution_id": each, "timeout_ms": 30_000})
        assert done["done"] is True
        await ask("execution.get", {"execution_id": each})
        await ask("execution.result", {"execution_id": each, "max_bytes": 100})
        await ask("execution.logs", {"execution_id": each, "encoding": "base64", "max_bytes": 5000})
        await ask("execution.logs", {"execution_id": each, "max_bytes": 5000})
        await ask("execution.events", {"execution_id": each})
    await ask("execution.cancel", {"execution_id": slow})
    await ask("execution.retry", {"execution_id": ids[0]})
    await ask("execution.get", {"execution_id": "exec_" + "0" * 26})
    await ask("execution.list", {"limit": 3})
    await ask("query.sql", {"sql": "SELECT * FROM executions", "limit": 3})
    await ask("query.sql", {"sql": "nonsense"})
    await ask("query.verify", {})
    await ask("query.rebuild", {})
    await ask("node.info", {})
    await ask("actor.list", {})
    await ask("actor.fail", {"name": "nobody"})
