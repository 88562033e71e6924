"""Playbooks from outside: remembered step by step, whatever dies, answered once, gone on from anywhere.

It is long because it is one list: what people do with playbooks, each by the command that does it.
"""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreign import Foreign, Place, Refused, connect, gone, kill

from interfaces.playbooks import written

pytestmark = pytest.mark.asyncio


def step(name: str, command: str = "true", **more: Any) -> dict[str, Any]:
    return {"name": name, "shell": {"command": command}, **more}


def phase(key: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": key, "steps": list(steps), **more}


async def start(bus: Foreign, *phases: dict[str, Any], **more: Any) -> str:
    return (await bus.ask("playbook.run", {"name": "test", "phases": list(phases), **more}))["playbook_id"]


async def get(bus: Foreign, playbook: str) -> dict[str, Any]:
    return (await bus.ask("playbook.get", {"playbook_id": playbook}))["playbook"]


async def settled(bus: Foreign, playbook: str) -> dict[str, Any]:
    """Over, or paused."""
    ask = {"playbook_id": playbook, "timeout_ms": 40_000}
    reply = await bus.ask("playbook.wait", ask, within=60)
    assert reply["done"] or reply["playbook"]["status"] == "paused"
    return reply["playbook"]


async def status(bus: Foreign, playbook: str, wanted: str) -> dict[str, Any]:
    async def there() -> Any:
        found = await get(bus, playbook)
        return found if found["status"] == wanted else None

    return await bus.until(there, 40)


def counted(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# ---- the seven checks ------------------------------------------------------------------------------------


async def test_state_is_saved_after_each_step_and_is_whole(bus: Foreign) -> None:
    playbook = await start(bus, phase("p", step("a"), step("b"), step("c")))
    found = await settled(bus, playbook)
    assert (found["status"], found["completed"]) == ("completed", 3)
    checkpoints = (await bus.ask("playbook.checkpoints", {"playbook_id": playbook}))["checkpoints"]
    assert [each["reason"] for each in checkpoints] == ["start", "step", "step", "step"]
    assert [each["at"] for each in checkpoints] == [0, 1, 2, 3]
    for each in checkpoints:
        ask = {"playbook_id": playbook, "checkpoint_id": each["checkpoint_id"], "data": True}
        valid = await bus.ask("playbook.validate", ask)
        assert valid["valid"]
        assert valid["data"]["schema_version"] == each["schema_version"] == 1
        assert valid["data"]["position"] == each["position"]
        assert len(valid["data"]["cells"]) == each["at"]


async def test_a_failed_step_leaves_it_paused_and_it_goes_on_from_there(bus: Foreign, tmp_path: Path) -> None:
    ran, door = tmp_path / "ran", tmp_path / "door"
    playbook = await start(
        bus,
        phase("p", step("a", f"echo a >> {ran}"), step("b", f"echo b >> {ran}; test -e {door}")),
        phase("q", step("c", f"echo c >> {ran}")),
    )
    found = await settled(bus, playbook)
    assert (found["status"], found["step"], found["pause"]["step"]) == ("paused", "b", "b")
    assert "exit code 1" in found["error"]["message"]
    door.touch()
    await bus.ask("playbook.resume", {"playbook_id": playbook})
    assert (await settled(bus, playbook))["status"] == "completed"
    assert counted(ran) == ["a", "b", "b", "c"]


async def test_it_is_restored_from_any_checkpoint_and_comes_to_the_same_end(
    bus: Foreign, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    steps = [step(each, f"echo {each} >> {ran}; echo k={each} >> $HINDBRAIN_OUTPUT") for each in "abcd"]
    playbook = await start(bus, phase("p", *steps[:2]), phase("q", *steps[2:]))
    first = await settled(bus, playbook)
    summaries = (await bus.ask("playbook.summaries", {"playbook_id": playbook}))["summaries"]
    checkpoints = (await bus.ask("playbook.checkpoints", {"playbook_id": playbook}))["checkpoints"]
    for each in checkpoints[:5]:
        ran.unlink(missing_ok=True)
        ask = {"playbook_id": playbook, "checkpoint_id": each["checkpoint_id"]}
        await bus.ask("playbook.resume", ask)
        found = await settled(bus, playbook)
        assert found["status"] == "completed"
        assert counted(ran) == list("abcd")[each["at"] :]
        assert [one["outputs"] for one in found["steps"]] == [one["outputs"] for one in first["steps"]]
        again = (await bus.ask("playbook.summaries", {"playbook_id": playbook}))["summaries"]
        assert again == summaries


async def test_a_phase_is_summed_up_by_a_template_by_itself_or_by_hand(bus: Foreign) -> None:
    playbook = await start(
        bus,
        phase("one", step("a", "echo n=3 >> $HINDBRAIN_OUTPUT"), summary="there are ${steps.a.outputs.n}"),
        phase("two", step("b"), name="The second"),
    )
    await settled(bus, playbook)
    said = (await bus.ask("playbook.summaries", {"playbook_id": playbook}))["summaries"]
    assert [each["summary"] for each in said] == ["there are 3", "The second: 1 of 1 step completed."]
    ask = {"playbook_id": playbook, "phase_id": "two", "summary": "by hand", "by": "ada"}
    await bus.ask("playbook.summarize", ask)
    said = (await bus.ask("playbook.summaries", {"playbook_id": playbook}))["summaries"]
    assert (said[1]["summary"], said[1]["by"]) == ("by hand", "ada")
    sql = f"SELECT data->>'$.summary' FROM events WHERE entity = '{playbook}' AND event = 'phase_summary'"
    rows = (await bus.ask("query.sql", {"sql": sql, "min_seq": await bus.last()}))["rows"]
    assert ["by hand"] in rows


async def test_a_job_sums_a_phase_up(bus: Foreign) -> None:
    told = '{"text": "a job says that there are ${steps.a.outputs.n}"}'
    job = {"type": "site-builder:call", "data": {"function": "json:loads", "args": [told]}}
    steps = step("a", "echo n=3 >> $HINDBRAIN_OUTPUT"), {"name": "tell", "job": job}
    playbook = await start(bus, phase("one", *steps, summary="${steps.tell.outputs.text}"))
    await settled(bus, playbook)
    said = (await bus.ask("playbook.summaries", {"playbook_id": playbook}))["summaries"]
    assert [each["summary"] for each in said] == ["a job says that there are 3"]


async def test_the_files_of_its_beginning_tell_what_there_is_to_do_and_the_story(
    bus: Foreign, info: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "readme").write_text("x")
    playbook = await start(
        bus,
        phase("p", step("a", description="the first thing"), step("b", "false")),
        git=True,
        working_dir=str(tmp_path),
    )
    found = await settled(bus, playbook)
    data = Path(info["data"])
    listed = json.loads((data / found["feature_list_path"]).read_text())
    assert [(each["id"], each["passes"]) for each in listed["features"]] == [("p/a", True), ("p/b", False)]
    assert listed["features"][0]["description"] == "the first thing"
    story = (data / found["progress_log_path"]).read_text()
    assert "step a completed" in story
    assert "step b failed: Command failed with exit code 1" in story
    assert "paused: step b failed" in story
    assert (tmp_path / ".git" / "HEAD").exists()
    bearings = await bus.ask("playbook.bearings", {"playbook_id": playbook})
    assert (bearings["done"], bearings["next"], bearings["phase"]) == (["a"], "b", "p")
    assert bearings["failed"][0]["step"] == "b"
    assert bearings["features"] == listed["features"]


async def test_what_a_step_leaves_is_kept_and_belongs_to_its_phase(bus: Foreign) -> None:
    playbook = await start(
        bus,
        phase(
            "p",
            step("a", "mkdir out; echo one > out/1.txt; echo two > out/2.txt", artifacts=["out/*.txt"]),
            step("b", "echo three > f; hindbrain artifact register f"),
        ),
        phase("q", step("c", artifacts=["nothing/*"])),
        workspace="leaving",
    )
    found = await settled(bus, playbook)
    assert found["status"] == "paused"
    assert "nothing" in found["error"]["message"]
    assert len(found["steps"][0]["artifacts"]) == 2
    bearings = await bus.ask("playbook.bearings", {"playbook_id": playbook})
    assert sorted(each["name"] for each in bearings["artifacts"]) == ["f", "out/1.txt", "out/2.txt"]
    assert {each["phase_id"] for each in bearings["artifacts"]} == {"p"}
    pruned = await bus.ask(
        "artifact.prune", {"older_seconds": 0, "workspace": "leaving", "min_seq": await bus.last()}
    )
    assert pruned["removed"] == []


# ---- long steps ------------------------------------------------------------------------------------------

SAVING = """
for n in 1 2 3 4 5 6; do
    at=$(cat $HINDBRAIN_CHECKPOINT 2>/dev/null || echo 0)
    [ "$at" -ge 6 ] && break
    at=$((at + 1)); echo $at >> {ran}; echo $at > $HINDBRAIN_CHECKPOINT
    [ "$at" = 3 ] && [ ! -e {door} ] && exit 1
done; true
"""


async def test_a_step_goes_on_with_what_it_saved_itself(bus: Foreign, tmp_path: Path) -> None:
    ran, door = tmp_path / "ran", tmp_path / "door"
    playbook = await start(bus, phase("p", step("a", SAVING.format(ran=ran, door=door))))
    assert (await settled(bus, playbook))["status"] == "paused"
    door.touch()
    await bus.ask("playbook.resume", {"playbook_id": playbook})
    assert (await settled(bus, playbook))["status"] == "completed"
    assert counted(ran) == ["1", "2", "3", "4", "5", "6"]


async def test_a_checkpoint_in_the_middle_of_a_step_brings_its_file_back(
    bus: Foreign, tmp_path: Path
) -> None:
    gate, seen = tmp_path / "gate", tmp_path / "seen"
    command = (
        f"cat $HINDBRAIN_CHECKPOINT >> {seen} 2>/dev/null; echo half > $HINDBRAIN_CHECKPOINT; "
        f"touch {gate}.up; until [ -e {gate} ]; do sleep 0.02; done; echo whole > $HINDBRAIN_CHECKPOINT"
    )
    playbook = await start(bus, phase("p", step("a", command)), checkpoint_every="100ms")

    async def timed() -> Any:
        rows = (await bus.ask("playbook.checkpoints", {"playbook_id": playbook}))["checkpoints"]
        return [each for each in rows if each["reason"] == "timer"]

    await bus.until(lambda: asyncio.to_thread(Path(f"{gate}.up").exists))
    by_hand = await bus.ask("playbook.checkpoint", {"playbook_id": playbook})
    assert await bus.until(timed)
    gate.touch()
    assert (await settled(bus, playbook))["status"] == "completed"
    fork = await bus.ask(
        "playbook.fork", {"playbook_id": playbook, "checkpoint_id": by_hand["checkpoint_id"]}
    )
    assert (await settled(bus, fork["playbook_id"]))["status"] == "completed"
    assert counted(seen) == ["half"]


# ---- people ----------------------------------------------------------------------------------------------

QUESTION = {
    "message": "May ${params.what} go out?",
    "schema": {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}},
}


async def test_an_answer_has_to_fit_and_the_first_one_wins(bus: Foreign) -> None:
    playbook = await start(
        bus,
        phase(
            "p",
            {"name": "ask", "input": QUESTION},
            step("go", "true", when="steps.ask.outputs.answer.ok == true"),
        ),
        params={"what": {"default": "it"}},
    )
    found = await status(bus, playbook, "waiting_input")
    assert found["asked"]["message"] == "May it go out?"
    for wrong in ("yes", {"ok": "yes"}, {}):
        with pytest.raises(Refused) as refused:
            await bus.ask("playbook.answer", {"playbook_id": playbook, "value": wrong})
        assert refused.value.code == "validation"
    answers = [
        bus.ask("playbook.answer", {"playbook_id": playbook, "value": {"ok": True}, "by": who})
        for who in ("ada", "bob", "eve")
    ]
    got = await asyncio.gather(*answers, return_exceptions=True)
    won = [each for each in got if isinstance(each, dict)]
    assert len(won) == 1
    assert all(isinstance(each, Refused) and each.code == "conflict" for each in got if each not in won)
    assert (await settled(bus, playbook))["status"] == "completed"
    sql = f"SELECT status, answered_by, reminders FROM inputs WHERE playbook_id = '{playbook}'"
    rows = (await bus.ask("query.sql", {"sql": sql, "min_seq": await bus.last()}))["rows"]
    assert rows[0][0] == "answered"
    assert rows[0][1] in ("ada", "bob", "eve")


async def test_a_deadline_acts(bus: Foreign) -> None:
    asked = {"message": "?", "deadline": "100ms", "default": "no"}
    playbook = await start(bus, phase("p", {"name": "ask", "input": asked}))
    found = await settled(bus, playbook)
    assert found["steps"][0]["outputs"] == {"answer": "no", "by": "deadline"}
    asked = {"message": "?", "deadline": "100ms"}
    playbook = await start(bus, phase("p", {"name": "ask", "input": asked}))
    found = await settled(bus, playbook)
    assert (found["status"], found["steps"][0]["status"]) == ("paused", "timed_out")


async def test_it_reminds_until_somebody_answers(bus: Foreign) -> None:
    playbook = await start(bus, phase("p", {"name": "ask", "input": {"message": "?", "remind": "1s"}}))

    async def twice() -> bool:
        asked = (await get(bus, playbook))["asked"]
        return bool(asked and asked["reminders"] >= 2)

    await bus.until(twice, 40)
    await bus.ask("playbook.answer", {"playbook_id": playbook, "value": "at last"})
    assert (await settled(bus, playbook))["status"] == "completed"


# ---- what steps can be -----------------------------------------------------------------------------------


async def test_plans_playbooks_and_sleeps_are_steps(bus: Foreign, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    inner = {
        "name": "inner",
        "params": {"n": {"type": "integer"}},
        "phases": [
            phase("x", step("deep", f"echo deep ${{params.n}} >> {ran}; echo k=v >> $HINDBRAIN_OUTPUT"))
        ],
    }
    plan = {"strategy": "parallel", "steps": [step("l", f"echo l >> {ran}"), step("r", f"echo r >> {ran}")]}
    playbook = await start(
        bus,
        phase(
            "p",
            {"name": "both", "plan": plan},
            {"name": "nap", "sleep": "200ms"},
            {"name": "nested", "playbook": inner, "values": {"n": 7}},
            step("after", f"echo ${{steps.nested.outputs.deep.k}} >> {ran}"),
        ),
    )
    found = await settled(bus, playbook)
    assert found["status"] == "completed", found["error"]
    assert sorted(counted(ran)[:2]) == ["l", "r"]
    assert counted(ran)[2:] == ["deep", "7", "v"]
    child = found["steps"][2]["playbook_id"]
    assert (await get(bus, child))["parent"]["playbook_id"] == playbook
    # When it is over is set a moment before its fact is stamped, from which its time is counted.
    assert found["steps"][1]["duration_ms"] >= 190


async def test_a_nested_playbook_that_is_cancelled_with_its_parent(bus: Foreign) -> None:
    inner = {"phases": [phase("x", {"name": "wait", "sleep": "1d"})]}
    playbook = await start(bus, phase("p", {"name": "nested", "playbook": inner}))

    async def asleep() -> Any:
        listed = (await bus.ask("playbook.list", {"parent": playbook}))["playbooks"]
        return listed and listed[0]["wakes_at"] and listed[0]["id"]

    child = await bus.until(asleep)
    await bus.ask("playbook.cancel", {"playbook_id": playbook, "reason": "enough"})
    assert (await settled(bus, playbook))["status"] == "cancelled"
    assert (await get(bus, child))["status"] == "cancelled"


async def test_secrets_reach_their_steps_and_no_fact(bus: Foreign, tmp_path: Path) -> None:
    say = f'printf %s "$MINE $OURS;" >> {tmp_path}/out'
    playbook = await start(
        bus,
        phase("p", step("a", say, secrets={"MINE": "hush-9431"}), step("b", say)),
        secrets={"OURS": "shared-9431"},
    )
    assert (await settled(bus, playbook))["status"] == "completed"
    assert (tmp_path / "out").read_text() == "hush-9431 shared-9431; shared-9431;"
    sql = "SELECT count(*) FROM events WHERE data::VARCHAR LIKE '%-9431%'"
    assert (await bus.ask("query.sql", {"sql": sql}))["rows"] == [[0]]
    validated = await bus.ask("playbook.validate", {"playbook_id": playbook, "data": True})
    assert "9431" not in json.dumps(validated)


async def test_a_fork_shares_the_past_and_can_be_compared(bus: Foreign, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    playbook = await start(
        bus,
        phase(
            "p",
            step("a", f"echo a >> {ran}; echo f > f", artifacts=["f"]),
            step("b", f"echo ${{params.size}} >> {ran}; echo size=${{params.size}} >> $HINDBRAIN_OUTPUT"),
        ),
        params={"size": {"default": "small"}},
        workspace="forks",
    )
    await settled(bus, playbook)
    checkpoints = (await bus.ask("playbook.checkpoints", {"playbook_id": playbook}))["checkpoints"]
    ask = {
        "playbook_id": playbook,
        "checkpoint_id": checkpoints[1]["checkpoint_id"],
        "set": {"size": "large"},
    }
    with pytest.raises(Refused, match="unknown parameter"):
        await bus.ask("playbook.fork", ask | {"set": {"sice": 1}})
    fork = (await bus.ask("playbook.fork", ask))["playbook_id"]
    assert (await settled(bus, fork))["status"] == "completed"
    assert counted(ran) == ["a", "small", "large"]
    diff = await bus.ask("playbook.diff", {"playbook_id": playbook, "other_id": fork})
    assert diff["params"] == [{"name": "size", "a": "small", "b": "large"}]
    assert [(each["step"], each["field"]) for each in diff["steps"]] == [("b", "outputs.size")]
    assert diff["artifacts"] == []
    artifact = (await get(bus, playbook))["steps"][0]["artifacts"][0]

    async def both() -> Any:
        one = (await bus.ask("artifact.get", {"artifact_id": artifact}))["artifact"]
        return {each["by"] for each in one["references"]} == {playbook, fork}

    assert await bus.until(both)


async def test_it_has_a_page_with_what_can_be_done(bus: Foreign, info: dict[str, Any]) -> None:
    playbook = await start(
        bus, phase("p", step("made"), {"name": "q", "input": {"message": "is <b>it</b> well?"}})
    )
    await status(bus, playbook, "waiting_input")
    async with httpx.AsyncClient(base_url=info["http_url"], headers={"Accept": "text/html"}) as web:

        async def asks() -> str:
            page = await web.get(f"/playbooks/{playbook}")
            return page.text if "waiting input" in page.text and "well?" in page.text else ""

        page = await bus.until(asks)
        assert "is &lt;b&gt;it&lt;/b&gt; well?" in page
        assert "made" in page
        assert playbook in (await web.get("/playbooks")).text
        assert (await web.get("/playbooks/nobody")).status_code == 404
        pressed = await web.post("/do/playbook/cancel", data={"playbook_id": playbook})
        assert pressed.status_code == 303
        assert pressed.headers["location"].startswith(f"/playbooks/{playbook}")
    assert (await settled(bus, playbook))["status"] == "cancelled"


async def test_it_can_say_why_it_stands_where_it_stands(bus: Foreign) -> None:
    async def why(playbook: str) -> str:
        ask = {"playbook_id": playbook, "min_seq": await bus.last()}
        found = await bus.ask("query.why", ask)
        assert all(each["seq"] for each in found["sentences"])
        return " ".join(each["text"] for each in found["sentences"])

    asleep = await start(bus, phase("p", {"name": "nap", "sleep": "1d"}))
    asked = await start(bus, phase("p", {"name": "q", "input": {"message": "well?", "deadline": "1h"}}))
    broken = await start(bus, phase("p", step("a"), step("b", "exit 7")))
    await status(bus, asked, "waiting_input")
    await status(bus, broken, "paused")

    async def naps() -> bool:
        return "Step nap sleeps until" in await why(asleep)

    await bus.until(naps)
    assert "waits for an answer: well? It has to come until" in await why(asked)
    said = await why(broken)
    assert "It is paused: step b: Command failed with exit code 7: resume it" in said
    assert "1/2 steps (50%) are behind it, and its last checkpoint is ckpt_" in said


# ---- what goes wrong -------------------------------------------------------------------------------------


async def test_a_damaged_checkpoint_is_named_and_the_one_before_it_offered(bus: Foreign) -> None:
    playbook = await start(bus, phase("p", step("a"), step("b")))
    await settled(bus, playbook)
    first, middle, _ = (await bus.ask("playbook.checkpoints", {"playbook_id": playbook}))["checkpoints"]
    # Whoever is on the bus can write blobs; this one now holds something else.
    name = base64.urlsafe_b64encode(middle["checksum"].encode()).decode()
    meta = f"$O.BRAIN_BLOBS.M.{name}"
    js = bus.nc.jetstream()
    found = json.loads((await js.get_last_msg("OBJ_BRAIN_BLOBS", meta)).data)
    await js.publish(f"$O.BRAIN_BLOBS.C.{found['nuid']}x", b"flipped")
    changed = found | {"nuid": f"{found['nuid']}x", "size": 7, "chunks": 1}
    await js.publish(meta, json.dumps(changed).encode(), headers={"Nats-Rollup": "sub"})
    valid = await bus.ask(
        "playbook.validate", {"playbook_id": playbook, "checkpoint_id": middle["checkpoint_id"]}
    )
    assert (valid["valid"], valid["previous"]) == (False, first["checkpoint_id"])
    for verb in ("playbook.resume", "playbook.fork"):
        with pytest.raises(Refused) as refused:
            await bus.ask(verb, {"playbook_id": playbook, "checkpoint_id": middle["checkpoint_id"]})
        assert middle["checkpoint_id"] in refused.value.message
        assert refused.value.details["previous"] == first["checkpoint_id"]
    await bus.ask("playbook.resume", {"playbook_id": playbook, "checkpoint_id": first["checkpoint_id"]})
    assert (await settled(bus, playbook))["status"] == "completed"


async def test_what_cannot_be_is_refused_and_changes_nothing(bus: Foreign) -> None:
    before = await bus.last()
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("playbook.run", {"phases": []}, "at least one phase"),
        ("playbook.run", {"phases": [phase("p", {"name": "a", "sleep": "soon"})]}, "no duration"),
        ("playbook.run", {"phases": [phase("p", {"name": "a"})]}, "runs nothing"),
        ("playbook.run", {"phases": [phase("p", step("a"))], "values": {"x": 1}}, "unknown parameter"),
        (
            "playbook.run",
            {"phases": [phase("p", {"name": "a", "input": {"message": "?", "schema": {"type": "nothing"}}})]},
            "nothing",
        ),
        ("playbook.get", {"playbook_id": "play_none"}, "not found"),
        ("playbook.resume", {"playbook_id": "play_none"}, "not found"),
        ("playbook.context", {"playbook_id": "play_none", "max_tokens": 0}, "max_tokens"),
        ("playbook.list", {"status": "asleep"}, "unknown status"),
    ]
    for verb, body, text in bad:
        with pytest.raises(Refused) as refused:
            await bus.ask(verb, body)
        assert text in refused.value.message, (verb, body)
    kinds = f"SELECT count(*) FROM events WHERE kind = 'playbook' AND seq > {before}"
    assert (await bus.ask("query.sql", {"sql": kinds, "min_seq": await bus.last()}))["rows"] == [[0]]


async def test_the_same_key_is_the_same_playbook(bus: Foreign) -> None:
    body = {"name": "once", "idempotency_key": "play-once", "phases": [phase("p", step("a"))]}
    first = await bus.ask("playbook.run", body)
    again = await bus.ask("playbook.run", body)
    assert again["playbook_id"] == first["playbook_id"]
    assert again["duplicate"]
    with pytest.raises(Refused) as refused:
        await bus.ask("playbook.run", body | {"name": "other"})
    assert refused.value.code == "idempotency_conflict"


async def test_a_run_without_checkpoints_still_works(bus: Foreign) -> None:
    playbook = await start(bus, phase("p", step("a"), step("b", "false")), supports_resume=False)
    found = await settled(bus, playbook)
    assert (found["status"], found["checkpoints"], found["last_checkpoint"]) == ("paused", 0, None)
    with pytest.raises(Refused, match="supports_resume"):
        await bus.ask("playbook.checkpoint", {"playbook_id": playbook})
    assert (await bus.ask("playbook.resume", {"playbook_id": playbook}))["status"] == "running"


# ---- what dies -------------------------------------------------------------------------------------------


async def test_it_goes_on_when_node_and_server_were_killed(own: Place, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    own.up()
    steps = [step(f"s{n}", f"echo s{n} >> {ran}; sleep 0.05") for n in range(6)]
    async with connect(own.wrote["nats_url"]) as bus:
        playbook = await start(bus, phase("p", *steps[:3]), phase("q", *steps[3:]))
        await bus.until(lambda: asyncio.to_thread(lambda: "s1" in counted(ran)))
    info = own.wrote
    for name in ("pid", "nats_pid"):
        await asyncio.to_thread(kill, info[name], 9)
        assert await asyncio.to_thread(gone, info[name])
    await asyncio.to_thread(own.up)
    async with connect(own.wrote["nats_url"]) as bus:
        found = await settled(bus, playbook)
        assert found["status"] == "completed"
        assert counted(ran) == [f"s{n}" for n in range(6)]
        story = (Path(own.wrote["data"]) / found["progress_log_path"]).read_text().splitlines()
        seqs = [int(line.split("#")[1].split()[0]) for line in story]
        assert seqs == sorted(set(seqs)), "every fact is told once"


PROGRAM = """
import sys
from pathlib import Path
from interfaces.steps import step

ran = Path(sys.argv[0]).with_name("ran")

def note(name, value):
    with ran.open("a") as file:
        print(name, file=file)
    return value

one = step("one", note, "one", {"n": 1})
two = step("two", note, "two", one["n"] + 1)
if not ran.with_name("door").exists():
    sys.exit("the door is closed")
step("THREE", note, "three", two + 1)
"""


async def test_a_python_program_goes_on_where_it_stopped(bus: Foreign, tmp_path: Path) -> None:
    program, ran = tmp_path / "chain.py", tmp_path / "ran"
    program.write_text(PROGRAM)
    playbook = (await bus.ask("playbook.run", written(program)))["playbook_id"]
    found = await settled(bus, playbook)
    assert (found["status"], counted(ran)) == ("paused", ["one", "two"])
    program.write_text(PROGRAM.replace('step("one"', 'step("other"'))
    await bus.ask("playbook.resume", {"playbook_id": playbook})
    changed = await settled(bus, playbook)
    ask = {"execution_id": changed["steps"][0]["execution_id"]}
    assert "-one\n+other" in (await bus.ask("execution.result", ask))["result"]["stderr"]
    program.write_text(PROGRAM)
    (tmp_path / "door").touch()
    await bus.ask("playbook.resume", {"playbook_id": playbook})
    assert (await settled(bus, playbook))["status"] == "completed"
    assert counted(ran) == ["one", "two", "three"]
