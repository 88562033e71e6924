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
    async with connect(own.wrote["nats_url"]) as bus:
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
    await _plans(bus, ask)
    await _playbooks(bus, ask)
    await _tasks(ask)
    await _standing(ask)
    await _modules(ask)
    await ask("query.sql", {"sql": "SELECT * FROM executions", "limit": 3})
    await ask("query.sql", {"sql": "nonsense"})
    await ask("query.verify", {})
    await ask("query.rebuild", {})
    await ask("node.info", {})
    await ask("actor.list", {})
    await ask("actor.fail", {"name": "nobody"})


async def _modules(ask: Any) -> None:
    """Modules, jobs, plugins, tools and decisions."""
    for verb in (
        "module.list",
        "module.threads",
        "job.types",
        "plugin.list",
        "plugin.tools",
        "plugin.resources",
        "decision.list",
    ):
        await ask(verb, {})
    for verb in ("status", "pause", "resume", "restart"):
        await ask(f"module.{verb}", {"module": "site-builder"})
    await ask("module.scale", {"module": "site-builder", "workers": 2})
    await ask("module.submit", {"module": "site-builder", "function": "os.path:join", "args": ["a"]})
    await ask("module.start", {"module": "functions"})
    await ask(
        "job.submit", {"type": "site-builder:call", "data": {"function": "os.path:join", "args": ["a"]}}
    )
    await ask("plugin.call", {"name": "nothing"})
    await ask("plugin.read", {"uri": "nothing://"})
    await ask("plugin.load", {"name": "nothing"})
    await ask("plugin.unload", {"name": "nothing"})


async def _plans(bus: Foreign, ask: Any) -> None:
    """Plans, batches and templates."""
    true, false = {"exec": {"program": "true"}}, {"exec": {"program": "false"}}
    undo = {"shell": {"command": "true"}}
    steps: list[dict[str, Any]] = [
        {"name": "a", **true, "undo": undo},
        {"name": "b", **false, "needs": ["a"]},
        {"name": "c", **true, "needs": ["b"], "when": "steps.b.status == 'failed'", "allow_failure": True},
        {"name": "d", "steps": [{"name": "in", **true}]},
    ]
    plan = (await ask("plan.submit", {"name": "p", "steps": steps}))["plan_id"]
    await ask("plan.submit", {"steps": [{"name": "a", **true, "needs": ["nobody"]}]})
    await ask("plan.wait", {"plan_id": plan, "timeout_ms": 20_000})
    for verb in ("get", "result"):
        await ask(f"plan.{verb}", {"plan_id": plan})
    await ask("plan.rerun", {"plan_id": plan, "rehearse": True})
    await ask("plan.rerun", {"plan_id": plan})
    await ask("plan.wait", {"plan_id": plan, "timeout_ms": 20_000})
    await ask("plan.rollback", {"plan_id": plan})
    await ask("plan.wait", {"plan_id": plan, "timeout_ms": 20_000})
    slow = {"exec": {"program": "sleep", "args": ["60"]}}
    long = (await ask("plan.submit", {"steps": [{"name": "a", **slow}]}))["plan_id"]
    paused = await ask("plan.pause", {"plan_id": long, "reason": "r"})
    await ask("query.why", {"plan_id": long})
    await ask("log.undo", {"seq": paused["seq"], "rehearse": True})
    await ask("log.undo", {"seq": paused["seq"]})
    await ask("plan.resume", {"plan_id": long})
    await ask("plan.cancel", {"plan_id": long, "rehearse": True})
    await ask("plan.cancel", {"plan_id": long, "reason": "r", "grace_ms": 100})
    await ask("plan.wait", {"plan_id": long, "timeout_ms": 20_000})
    await ask("plan.list", {"limit": 2})
    batch = (await ask("batch.submit", {"do": true, "items": ["x"], "open": True}))["plan_id"]
    await ask("batch.add", {"plan_id": batch, "items": ["y"], "offset": 1})
    await ask("batch.seal", {"plan_id": batch})
    await ask("plan.wait", {"plan_id": batch, "timeout_ms": 20_000})
    tree = {"params": {"n": {"type": "integer", "default": 1}}, "steps": [{"name": "a", **true}]}
    await ask("template.save", {"name": "t", "plan": tree})
    await ask("template.get", {"name": "t"})
    await ask("template.list", {})
    await ask("template.start", {"template": "t", "params": {"n": "three"}})
    begun = await ask("template.start", {"template": "t", "params": {"n": 3}})
    await ask("plan.wait", {"plan_id": begun["plan_id"], "timeout_ms": 20_000})
    await ask("template.delete", {"name": "t"})


async def _playbooks(bus: Foreign, ask: Any) -> None:
    """Playbooks, artifacts and workspaces."""
    await ask("workspace.create", {"name": "w", "path": None, "description": "d"})
    await ask("workspace.list", {})
    kept = await ask("artifact.register", {"name": "a.txt", "text": "a", "workspace": "w", "reference": "me"})
    which = {"artifact_id": kept["artifact_id"]}
    await ask("artifact.get", {**which, "content": True})
    await ask("artifact.list", {"workspace": "w", "reference": "me", "min_seq": kept["seq"]})
    await ask("artifact.release", {**which, "reference": "me"})
    await ask("artifact.prune", {"older_seconds": 9, "rehearse": True})
    await ask("artifact.prune", {"older_seconds": 0, "workspace": "w", "min_seq": await bus.last()})
    true, asked = {"exec": {"program": "true"}}, {"message": "?", "deadline": "1d", "remind": "1s"}
    steps: list[dict[str, Any]] = [
        {"name": "a", **true},
        {"name": "b", "when": "1 == 2", "sleep": "1d"},
        {"name": "nap", "sleep": "1500ms"},
        {"name": "q", "input": asked},
        {"name": "c", "exec": {"program": "false"}},
    ]
    phases: list[dict[str, Any]] = [{"id": "p", "summary": "${steps.a.status}", "steps": steps}]
    book = {"name": "b", "version": 1, "params": {"n": {"default": "x"}}, "phases": phases}
    one = {"playbook_id": (await ask("playbook.run", {**book, "values": {"n": "y"}}))["playbook_id"]}
    await ask("playbook.run", {"phases": []})

    async def waits() -> bool:
        found = (await ask("playbook.get", one))["playbook"]
        return bool(found["asked"] and found["asked"]["reminders"])

    await bus.until(waits)
    await ask("playbook.checkpoint", one)
    await ask("playbook.answer", {**one, "value": "yes", "by": "me"})
    await ask("playbook.wait", {**one, "timeout_ms": 20_000})
    checkpoints = (await ask("playbook.checkpoints", one))["checkpoints"]
    back = {**one, "checkpoint_id": checkpoints[1]["checkpoint_id"]}
    await ask("playbook.validate", {**back, "data": True})
    fork = {"playbook_id": (await ask("playbook.fork", {**back, "set": {"n": "z"}}))["playbook_id"]}
    await ask("playbook.pause", {**fork, "reason": "r"})
    await ask("playbook.resume", fork)
    await ask("playbook.cancel", {**fork, "reason": "r"})
    await ask("playbook.resume", one)
    await ask("playbook.wait", {**one, "timeout_ms": 20_000})
    await ask("playbook.summarize", {**one, "phase_id": "p", "summary": "s", "by": "me"})
    for verb in ("summaries", "context", "bearings"):
        await ask(f"playbook.{verb}", one)
    await ask("playbook.diff", {**one, "other_id": fork["playbook_id"]})
    await ask("playbook.list", {"limit": 1})
    await ask("query.why", one)


async def _tasks(ask: Any) -> None:
    """Tasks, which go from engine to engine."""

    def phase(name: str, command: str) -> dict[str, Any]:
        steps = [{"name": "do", "shell": {"command": command}}]
        work = {"phases": [{"id": "only", "steps": steps}]}
        return {"id": name, "preferred_engine": f"playbook:{name}", "work": work}

    phases = [phase("a", "exit 1"), phase("b", "true")]
    one = {"task_id": (await ask("task.submit", {"task": {"phases": phases}}))["task_id"]}
    await ask("task.submit", {"task": {"phases": []}})
    await ask("task.wait", {**one, "timeout_ms": 20_000})
    await ask("task.resume", one)
    hand = {"to_engine": "playbook:other", "reason": "r", "work": phase("a", "true")["work"]}
    await ask("task.handoff", {**one, **hand})
    await ask("task.wait", {**one, "timeout_ms": 20_000})
    await ask("task.get", one)
    await ask("task.cancel", {**one, "reason": "r"})
    await ask("task.list", {"limit": 1})
    old = {"id": 7, "title": "Make it", "status": "todo", "command": "true"}
    await ask("task.import", {"tasks": [old], "source": "old"})


async def _standing(ask: Any) -> None:
    """Schedules, limits, and what is said about it all."""
    made = await ask("schedule.create", {"submit": {"exec": {"program": "true"}}, "cron": "@yearly"})
    schedule = {"schedule_id": made["schedule_id"]}
    await ask("schedule.run", schedule)
    await ask("schedule.pause", schedule)
    await ask("schedule.resume", schedule)
    await ask("schedule.get", schedule)
    await ask("schedule.list", {})
    await ask("query.why", schedule)
    await ask("schedule.delete", schedule)
    await ask("limit.set", {"key": "k", "max": 2, "rate": {"count": 5, "per_ms": 1000}})
    keyed = await ask("execution.submit", {"exec": {"program": "true"}, "concurrency_key": "k"})
    await ask("execution.wait", {"execution_id": keyed["execution_id"], "timeout_ms": 20_000})
    await ask("query.why", {"execution_id": keyed["execution_id"]})
    await ask("limit.list", {})
    await ask("query.status", {})
    await ask("execution.cancel", {"where": {"label": "nobody"}})
    await ask("execution.retry", {"where": {"label": "a"}, "rehearse": True})
