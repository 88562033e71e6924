"""Plans with real processes, by the verbs that any NATS client has."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, connect

pytestmark = pytest.mark.asyncio


async def over(bus: Foreign, plan: str, seconds: float = 60) -> dict[str, Any]:
    """Wait for the end of a plan."""
    reply = await bus.ask("plan.wait", {"plan_id": plan, "timeout_ms": round(seconds * 1000)}, seconds + 10)
    assert reply["done"], reply["plan"]
    return reply["plan"]


async def start(bus: Foreign, **body: Any) -> str:
    """Submit a plan, and give its id."""
    return (await bus.ask("plan.submit", body))["plan_id"]


async def run(bus: Foreign, **body: Any) -> dict[str, Any]:
    """Submit a plan and wait for its end."""
    return await over(bus, await start(bus, **body))


def steps(plan: dict[str, Any]) -> dict[str, str]:
    """The status of every step."""
    return {step["name"]: step["status"] for step in plan["steps"]}


def note(log: Path, word: str, more: str = "") -> dict[str, Any]:
    """A command that writes a word behind a file."""
    return {"shell": {"command": f"echo {word} >> {log}; {more or 'true'}"}}


async def test_serial_steps_run_one_after_the_other_and_say_so_before(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    heard = await bus.hear("brain.progress.plan.>")
    plan = await start(
        bus, name="three", strategy="serial", steps=[{"name": word, **note(log, word)} for word in "abc"]
    )
    end = await over(bus, plan)
    assert end["status"] == "completed"
    assert log.read_text().split() == ["a", "b", "c"]
    told: list[dict[str, Any]] = []
    while not told or not told[-1]["final"]:
        said = json.loads((await heard.next_msg(timeout=10)).data)
        if said["id"] == plan:
            told.append(said)
    begun = [said["current_command"] for said in told if said["current_command"]]
    assert list(dict.fromkeys(begun)) == [f"echo {word} >> {log}; true" for word in "abc"]
    assert [said["completed"] for said in told] == sorted(said["completed"] for said in told)
    assert told[-1]["completed"] == told[-1]["total"] == 3


async def test_a_serial_plan_stops_at_an_error_or_goes_on(bus: Foreign, tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "name": "stops",
        "strategy": "serial",
        "steps": [
            {"name": "bad", "exec": {"program": "false"}},
            {"name": "next", **note(tmp_path / "log", "next")},
        ],
    }
    end = await run(bus, **body)
    assert end["status"] == "failed"
    assert steps(end) == {"bad": "failed", "next": "skipped"}
    end = await run(bus, **body, stop_on_error=False)
    assert end["status"] == "failed"
    assert steps(end) == {"bad": "failed", "next": "completed"}


async def test_parallel_steps_run_beside_each_other_up_to_the_limit(bus: Foreign, tmp_path: Path) -> None:
    wait = f"while [ $(ls {tmp_path}/in | wc -l) -lt 3 ]; do sleep 0.02; done"
    (tmp_path / "in").mkdir()
    every = [
        {"name": f"s{n}", "shell": {"command": f": > {tmp_path}/in/{n}; {wait}"}, "timeout_ms": 20_000}
        for n in range(3)
    ]
    end = await run(bus, name="beside", strategy="parallel", max_concurrency=3, steps=every)
    assert end["status"] == "completed", end


async def test_a_graph_runs_by_its_needs_and_hands_outputs_on(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    end = await run(
        bus,
        name="graph",
        strategy="graph",
        steps=[
            {
                "name": "last",
                "needs": ["left", "right"],
                "shell": {"command": f"echo last ${{steps.left.outputs.word}} >> {log}"},
            },
            {
                "name": "left",
                "needs": ["first"],
                "shell": {"command": 'echo \'word=a "b" $HOME\' > "$HINDBRAIN_OUTPUT"'},
            },
            {"name": "right", "needs": ["first"], **note(log, "right")},
            {"name": "first", **note(log, "first")},
        ],
    )
    assert end["status"] == "completed", end
    assert log.read_text().splitlines() == ["first", "right", 'last a "b" $HOME']


async def test_a_condition_skips_a_step(bus: Foreign) -> None:
    end = await run(
        bus,
        name="conditions",
        strategy="graph",
        steps=[
            {"name": "check", "shell": {"command": "exit 3"}, "allow_failure": True},
            {
                "name": "three",
                "needs": ["check"],
                "when": "steps.check.exit_code == 3",
                "exec": {"program": "true"},
            },
            {
                "name": "fine",
                "needs": ["check"],
                "when": "steps.check.status == 'completed'",
                "exec": {"program": "true"},
            },
        ],
    )
    assert end["status"] == "completed", end
    assert steps(end) == {"check": "failed", "three": "completed", "fine": "skipped"}


async def test_what_cannot_be_is_refused_before_anything_starts(bus: Foreign) -> None:
    true: dict[str, Any] = {"exec": {"program": "true"}}
    before = await bus.last()
    for bad, what in (
        ([{"name": "a", "needs": ["b"], **true}, {"name": "b", "needs": ["a"], **true}], "a"),
        ([{"name": "a", "needs": ["c"], **true}], "c"),
        ([{"name": "a", **true}, {"name": "a", **true}], "a"),
        ([{"name": "a", "code": "1", "language": "cobol"}], "cobol"),
    ):
        with pytest.raises(Refused) as refused:
            await start(bus, name="bad", strategy="graph", steps=bad)
        assert refused.value.code == "validation"
        assert what in refused.value.message
    assert not [each for each in await bus.born(before) if "plan" in each]


async def test_a_plan_inside_a_plan(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    inner = {"name": "inner", "strategy": "serial", "steps": [{"name": w, **note(log, w)} for w in "xy"]}
    end = await run(
        bus,
        name="outer",
        strategy="serial",
        steps=[
            {"name": "a", **note(log, "a")},
            {"name": "in", "plan": inner},
            {"name": "z", **note(log, "z")},
        ],
    )
    assert end["status"] == "completed", end
    assert log.read_text().split() == ["a", "x", "y", "z"]


async def test_a_paused_plan_starts_nothing_until_it_is_resumed(bus: Foreign, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    waiting = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    plan = await start(
        bus,
        name="pausing",
        strategy="serial",
        steps=[{"name": "a", **note(log, "a", waiting)}, {"name": "b", **note(log, "b")}],
    )
    await bus.until(lambda: asyncio.to_thread(log.exists))
    assert (await bus.ask("plan.pause", {"plan_id": plan}))["status"] == "paused"
    gate.touch()

    async def ended() -> bool:
        return steps((await bus.ask("plan.get", {"plan_id": plan}))["plan"])["a"] == "completed"

    await bus.until(ended)
    assert steps((await bus.ask("plan.get", {"plan_id": plan}))["plan"])["b"] == "pending"
    assert (await bus.ask("plan.resume", {"plan_id": plan}))["status"] == "running"
    assert (await over(bus, plan))["status"] == "completed"
    assert log.read_text().split() == ["a", "b"]


async def test_cancelling_stops_what_runs(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    plan = await start(
        bus,
        name="long",
        strategy="parallel",
        max_concurrency=2,
        steps=[{"name": f"s{n}", **note(log, "$$", "exec sleep 600")} for n in range(4)],
    )

    async def two() -> bool:
        return log.exists() and len(log.read_text().split()) == 2

    await bus.until(two)
    await bus.ask("plan.cancel", {"plan_id": plan, "reason": "enough"})
    end = await over(bus, plan, 20)
    assert end["status"] == "cancelled"
    assert sorted(steps(end).values()) == ["cancelled", "cancelled", "skipped", "skipped"]
    pids = [int(word) for word in log.read_text().split()]
    assert len(pids) == 2
    assert not alive(pids)


def alive(pids: list[int]) -> list[int]:
    """Which of these processes there are."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def test_only_what_failed_is_run_again(bus: Foreign, tmp_path: Path) -> None:
    log, good = tmp_path / "log", tmp_path / "good"
    plan = await start(
        bus,
        name="again",
        strategy="graph",
        steps=[
            {"name": "a", **note(log, "a")},
            {"name": "b", "needs": ["a"], **note(log, "b", f"test -e {good}")},
            {"name": "c", "needs": ["b"], **note(log, "c")},
        ],
    )
    assert (await over(bus, plan))["status"] == "failed"
    good.touch()
    await bus.ask("plan.rerun", {"plan_id": plan})
    assert (await over(bus, plan))["status"] == "completed"
    assert log.read_text().split() == ["a", "b", "b", "c"]
    await bus.ask("plan.rerun", {"plan_id": plan, "from_step": "b"})
    assert (await over(bus, plan))["status"] == "completed"
    assert log.read_text().split() == ["a", "b", "b", "c", "b", "c"]


async def test_rollback_undoes_in_reverse_order(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    body: dict[str, Any] = {
        "name": "back",
        "strategy": "serial",
        "on_failure": "rollback",
        "steps": [
            {"name": "a", **note(log, "a"), "undo": note(log, "undo-a")},
            {"name": "b", **note(log, "b")},
            {"name": "c", **note(log, "c"), "undo": note(log, "undo-c")},
            {"name": "d", **note(log, "d", "false"), "undo": note(log, "undo-d")},
        ],
    }
    end = await run(bus, **body)
    assert end["status"] == "failed"
    assert end["rollback"] == "done"
    assert log.read_text().split() == ["a", "b", "c", "d", "undo-c", "undo-a"]


async def test_a_failing_undo_stops_the_rollback_and_says_so(bus: Foreign, tmp_path: Path) -> None:
    log = tmp_path / "log"
    plan = await start(
        bus,
        name="stuck",
        strategy="serial",
        steps=[
            {"name": "a", **note(log, "a"), "undo": note(log, "undo-a")},
            {"name": "b", **note(log, "b"), "undo": note(log, "undo-b", "false")},
        ],
    )
    assert (await over(bus, plan))["status"] == "completed"
    await bus.ask("plan.rollback", {"plan_id": plan})

    async def failed() -> Any:
        shown = (await bus.ask("plan.get", {"plan_id": plan}))["plan"]
        return shown["rollback"] == "failed" and shown

    await bus.until(failed)
    assert log.read_text().split() == ["a", "b", "undo-b"]


async def test_the_same_key_is_the_same_plan(bus: Foreign) -> None:
    body = {
        "name": "once",
        "strategy": "serial",
        "idempotency_key": "once",
        "steps": [{"name": "a", "exec": {"program": "true"}}],
    }
    first = await bus.ask("plan.submit", body)
    again = await bus.ask("plan.submit", body)
    assert again["plan_id"] == first["plan_id"]
    assert again["duplicate"]
    with pytest.raises(Refused) as refused:
        await bus.ask("plan.submit", body | {"name": "other"})
    assert refused.value.code == "idempotency_conflict"


async def test_secrets_of_a_plan_reach_its_steps_and_no_fact(bus: Foreign, tmp_path: Path) -> None:
    say = {"shell": {"command": f'printf %s "$MINE $OURS;" >> {tmp_path}/out'}}
    inner = {"name": "b", "steps": [{"name": "c", **say, "secrets": {"MINE": "deep-secret"}}]}
    plan = await start(
        bus,
        secrets={"OURS": "shared-secret"},
        steps=[{"name": "a", **say, "secrets": {"MINE": "hush-secret"}}, inner],
    )
    assert (await over(bus, plan))["status"] == "completed"
    text = (tmp_path / "out").read_text()
    assert text == "hush-secret shared-secret;deep-secret shared-secret;"
    sql = "SELECT count(*) FROM events WHERE data::VARCHAR LIKE '%-secret%'"
    assert (await bus.ask("query.sql", {"sql": sql}))["rows"] == [[0]]


async def test_a_template_is_started_with_typed_parameters(bus: Foreign, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = {
        "name": "greet",
        "strategy": "serial",
        "params": {"who": {"type": "string"}, "times": {"type": "integer", "default": 2}},
        "steps": [
            {
                "name": "say",
                "exec": {
                    "program": "sh",
                    "args": ["-c", f'echo "$1 $2" >> {out}', "sh", "${params.who}", "${params.times}"],
                },
            }
        ],
    }
    await bus.ask("template.save", {"name": "greet", "plan": plan})
    with pytest.raises(Refused) as refused:
        await bus.ask("template.start", {"template": "greet", "params": {"who": "you", "times": "many"}})
    assert "times" in refused.value.message
    reply = await bus.ask("template.start", {"template": "greet", "params": {"who": "you; rm"}})
    assert (await over(bus, reply["plan_id"]))["status"] == "completed"
    assert out.read_text() == "you; rm 2\n"


async def test_plans_and_templates_are_listed(bus: Foreign) -> None:
    true = [{"name": "a", "exec": {"program": "true"}}]
    found = [await start(bus, name=f"listed{n}", labels=["listed"], steps=true) for n in range(3)]
    for plan in found:
        await over(bus, plan)

    async def all_three() -> list[dict[str, Any]]:
        rows = (await bus.ask("plan.list", {"label": "listed", "status": "completed"}))["plans"]
        return rows if len(rows) == 3 else []

    rows = await bus.until(all_three)
    assert [row["id"] for row in rows] == found[::-1]
    page = await bus.ask("plan.list", {"label": "listed", "limit": 2})
    rest = await bus.ask("plan.list", {"label": "listed", "before": page["next"]})
    assert [row["id"] for row in page["plans"] + rest["plans"]] == found[::-1]
    result = (await bus.ask("plan.result", {"plan_id": found[0]}))["result"]
    assert (result["success"], [each["step"] for each in result["results"]]) == (True, ["a"])
    await bus.ask("template.save", {"name": "listed", "plan": {"steps": true}})

    async def kept() -> Any:
        templates = (await bus.ask("template.list"))["templates"]
        return [each for each in templates if each["name"] == "listed"]

    assert (await bus.until(kept))[0]["steps"] == ["a"]


async def test_a_killed_node_goes_on_with_its_plans(own: Place, tmp_path: Path) -> None:
    own.up()
    log, gate = tmp_path / "log", tmp_path / "gate"
    waiting = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    async with connect(own.wrote["nats_url"]) as bus:
        plan = await start(
            bus,
            name="survivor",
            strategy="serial",
            steps=[{"name": "a", **note(log, "a", waiting)}, *({"name": w, **note(log, w)} for w in "bcd")],
        )
        await bus.until(lambda: asyncio.to_thread(log.exists))
    await asyncio.to_thread(lambda: kill_node(own))
    gate.touch()
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        assert (await over(bus, plan))["status"] == "completed"
    assert log.read_text().split() == ["a", "b", "c", "d"]


def kill_node(place: Place) -> None:
    """Kill the node, and nothing else."""
    from foreign import gone, kill

    pid = place.wrote["pid"]
    kill(pid, 9)
    assert gone(pid)
