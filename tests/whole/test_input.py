"""Bad input: every request gets an answer that says what to do, and nothing is stored."""

import json
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from foreign import Foreign, Place, Refused, connect

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]
NOBODY = "exec_" + "0" * 26
OK: dict[str, Any] = {"exec": {"program": "true"}}


def ok(**more: Any) -> dict[str, Any]:
    return OK | more


SUBMISSIONS: dict[str, tuple[Any, str]] = {
    "no command": ({}, "exactly one"),
    "an empty body": (b"", "exactly one"),
    "two commands": (ok(shell={"command": "true"}), "exactly one"),
    "not JSON": (b"{", "JSON"),
    "bytes": (b"\xff\xfe\x00", "JSON"),
    "a list": (b"[]", "object"),
    "a number": (b"7", "object"),
    "two bodies": (b"{}{}", "JSON"),
    "an unknown field": (ok(timout_ms=5), "timout_ms"),
    "an unknown field inside": ({"exec": {"program": "true", "argz": []}}, "argz"),
    "text for a number": (ok(timeout_ms="5"), "timeout_ms"),
    "a number for text": ({"code": 5}, "code"),
    "a list for an object": ({"exec": ["true"]}, "exec"),
    "a number as argument": ({"exec": {"program": "true", "args": [1]}}, "exec.args"),
    "null as program": ({"exec": {"program": None}}, "program"),
    "no program": ({"exec": {}}, "program"),
    "an empty program": ({"exec": {"program": ""}}, "empty"),
    "an unknown language": ({"code": "1", "language": "pythn"}, "did you mean python"),
    "a language without code": (ok(language="python"), "language"),
    "NUL in an argument": ({"exec": {"program": "echo", "args": ["a\0b"]}}, "NUL"),
    "NUL in a program": ({"exec": {"program": "a\0b"}}, "NUL"),
    "NUL in env": (ok(env={"A": "a\0b"}), "NUL"),
    "NUL in code": ({"code": "a\0b"}, "NUL"),
    "a bad env name": (ok(env={"A-B": "1"}), "A-B"),
    "an empty env name": (ok(env={"": "1"}), "environment name"),
    "an equals sign in an env name": (ok(secrets={"A=B": "1"}), "A=B"),
    "a name in env and secrets": (ok(env={"A": "1"}, secrets={"A": "2"}), "keep one"),
    "a missing folder": (ok(working_dir="/no/such/folder"), "/no/such/folder"),
    "a file as folder": (ok(working_dir="/etc/passwd"), "/etc/passwd"),
    "a relative folder": (ok(working_dir="here"), "absolute"),
    "a script that is not there": ({"script": {"path": "/no/such.sh"}}, "/no/such.sh"),
    "a folder as script": ({"script": {"path": "/tmp"}}, "/tmp"),
    "a relative script": ({"script": {"path": "x.sh"}}, "working_dir"),
    "a negative timeout_ms": (ok(timeout_ms=-1), "timeout_ms"),
    "a negative timeout": (ok(timeout=-0.5), "timeout"),
    "no time at all": (ok(timeout_ms=0), "timeout_ms"),
    "no seconds at all": (ok(timeout=0), "timeout"),
    "an endless timeout": (b'{"exec":{"program":"true"},"timeout":1e400}', "timeout"),
    "not a number": (b'{"exec":{"program":"true"},"timeout":NaN}', "JSON"),
    "both timeouts": (ok(timeout=1, timeout_ms=1000), "one of them"),
    "a negative grace": (ok(grace_ms=-1), "grace_ms"),
    "a huge timeout_ms": (ok(timeout_ms=10**18), "timeout_ms"),
    "a timeout_ms of 400 digits": (ok(timeout_ms=10**400), "timeout_ms"),
    "a limit of 400 digits": (ok(limits={"memory_bytes": 10**400}), "memory_bytes"),
    "a limit beyond 64 bits": (ok(limits={"memory_bytes": 2**65}), "memory_bytes"),
    "a negative limit": (ok(limits={"open_files": -1}), "open_files"),
    "an unknown limit": (ok(limits={"cpu": 1}), "cpu"),
    "a bad priority": (ok(priority="urgent"), "critical"),
    "priority 0": (ok(priority=0), "critical"),
    "priority true": (ok(priority=True), "priority"),
    "a priority of 400 digits": (ok(priority=10**400), "priority"),
    "a bad label": (ok(labels=["Not A Word"]), "label"),
    "an unknown module": (ok(module="pool"), "module"),
    "an empty key": (ok(idempotency_key=""), "idempotency_key"),
    "a job": ({"job": {"type": "site-builder:site-build", "data": {}}}, "job"),
    "a blob that is no hash": ({"code": {"blob": "abc"}}, "SHA-256"),
    "a high surrogate": (b'{"code":"\\ud800"}', "JSON"),
    "a low surrogate": (b'{"exec":{"program":"true"},"description":"\\udc00"}', "surrogate"),
    "overlong UTF-8": (b'{"code":"\xc0\x80"}', "UTF-8"),
    "deep JSON": (b'{"env":' + b"[" * 10_000 + b"]" * 10_000 + b"}", ""),
    "deep JSON in a job": (b'{"job":{"type":"a:b","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}}", "deep"),
}


def machine_readable(refused: Refused, code: str) -> None:
    assert refused.code == code, refused
    assert refused.message
    assert isinstance(refused.details, dict)
    assert refused.headers["Nats-Service-Error"] == code
    assert refused.headers["Nats-Service-Error-Code"].isdecimal()


@pytest.mark.parametrize("name", SUBMISSIONS)
async def test_a_bad_submission_is_refused_with_what_to_do(bus: Foreign, name: str) -> None:
    body, said = SUBMISSIONS[name]
    before = await bus.last()
    with pytest.raises(Refused) as caught:
        await bus.ask("execution.submit", body)
    machine_readable(caught.value, "validation")
    assert said.lower() in caught.value.message.lower()
    assert await bus.born(before) == []


async def test_a_language_that_is_not_there_is_refused_with_what_to_do(own: Place, tmp_path: Path) -> None:
    own.up(PATH=str(tmp_path))
    async with connect(own.wrote["nats_url"]) as bus:
        with pytest.raises(Refused) as caught:
            await bus.ask("execution.submit", {"code": "1", "language": "perl"})
        machine_readable(caught.value, "validation")
        assert "install perl" in caught.value.message
        assert (await bus.run(code="print(1)"))["status"] == "completed"


async def test_what_no_node_can_run_waits_for_one_that_can(own: Place, tmp_path: Path) -> None:
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        # It must not begin before the node is down, however long that takes.
        await bus.ask("module.pause", {"module": "commands"})
        later = await bus.submit(code="print 1", language="perl")
    own.cli("down")
    own.up(PATH=str(tmp_path))
    async with connect(own.wrote["nats_url"]) as bus:
        await bus.ask("module.resume", {"module": "commands"})

        async def told() -> bool:
            why = await bus.ask("query.why", {"execution_id": later})
            return "No node that is up can run perl." in [each["text"] for each in why["sentences"]]

        await bus.until(told)
        assert (await bus.run(code="print(1)"))["status"] == "completed"
    own.cli("down")
    own.up()
    async with connect(own.wrote["nats_url"]) as bus:
        assert (await bus.over(later))["result"]["stdout"] == "1"


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("get", {}, "validation"),
        ("get", {"execution_id": NOBODY}, "not_found"),
        ("get", {"execution_id": "../../etc"}, "not_found"),
        ("get", {"execution_id": "*"}, "not_found"),
        ("get", {"execution_id": ">"}, "not_found"),
        ("get", {"execution_id": "a.b"}, "not_found"),
        ("get", {"execution_id": ""}, "not_found"),
        ("get", {"execution_id": "x" * 500_000}, "not_found"),
        ("get", {"execution_id": 5}, "validation"),
        ("get", {"idempotency_key": "never seen"}, "not_found"),
        ("get", {"execution_id": NOBODY, "idempotency_key": "k"}, "validation"),
        ("get", {"execution_id": NOBODY, "min_seq": 10**400}, "not_found"),
        ("wait", {"execution_id": NOBODY}, "not_found"),
        ("wait", {"execution_id": NOBODY, "timeout_ms": -1}, "validation"),
        ("wait", {"execution_id": NOBODY, "timeout_ms": 600_001}, "validation"),
        ("wait", {}, "validation"),
        ("cancel", {"execution_id": NOBODY}, "not_found"),
        ("cancel", {"execution_id": NOBODY, "grace_ms": -1}, "validation"),
        ("cancel", {"execution_id": NOBODY, "grace_ms": 10**400}, "validation"),
        ("result", {"execution_id": NOBODY}, "not_found"),
        ("result", {"execution_id": NOBODY, "max_bytes": -1}, "validation"),
        ("logs", {"execution_id": NOBODY}, "not_found"),
        ("logs", {"execution_id": NOBODY, "stream": "both!"}, "validation"),
        ("logs", {"execution_id": NOBODY, "offset": -1}, "validation"),
        ("logs", {"execution_id": NOBODY, "max_bytes": 0}, "validation"),
        ("logs", {"execution_id": NOBODY, "encoding": "hex"}, "validation"),
        ("list", {"limit": 0}, "validation"),
        ("list", {"limit": 1001}, "validation"),
        ("list", {"limit": 10**400}, "validation"),
        ("list", {"status": "gone"}, "validation"),
        ("list", {"statuss": "failed"}, "validation"),
        ("list", {"before": 10**400}, "validation"),
        ("retry", {"execution_id": NOBODY}, "not_found"),
        ("retry", {}, "validation"),
        ("events", {"execution_id": NOBODY}, "not_found"),
        ("events", {"execution_id": NOBODY, "limit": 0}, "validation"),
    ],
)
async def test_a_bad_question_is_refused_too(bus: Foreign, verb: str, body: Any, code: str) -> None:
    before = await bus.last()
    with pytest.raises(Refused) as caught:
        await bus.ask(f"execution.{verb}", body)
    machine_readable(caught.value, code)
    assert await bus.born(before) == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE executions",
        "SELECT 1; DELETE FROM events",
        "COPY events TO '/tmp/hindbrain-stolen.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH '/tmp/hindbrain-other.db'",
        "SET memory_limit='100GB'",
        "INSTALL httpfs",
        "SELEKT",
        "",
        "SELECT getenv('HOME')",
    ],
)
async def test_a_query_reads_tables_and_nothing_else(bus: Foreign, sql: str) -> None:
    with pytest.raises(Refused) as caught:
        await bus.ask("query.sql", {"sql": sql})
    machine_readable(caught.value, "sql_error")


@pytest.mark.parametrize("verb", ["query.rebuild", "node.info", "node.down", "actor.list", "actor.fail"])
@pytest.mark.parametrize("body", [b"\xff", b"[]", b'{"sure":true}'])
async def test_verbs_without_arguments_take_none(bus: Foreign, verb: str, body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await bus.ask(verb, body)
    machine_readable(caught.value, "validation")


async def test_wrong_verbs_have_nobody_who_answers(bus: Foreign) -> None:
    for verb in ("execution.bake", "executions.submit", "execution.submit.now"):
        with pytest.raises(nats.errors.NoRespondersError):
            await bus.send(verb, b"{}", 5)


async def test_a_command_over_a_megabyte_is_too_large(bus: Foreign) -> None:
    before = await bus.last()
    for size in (1024 * 1024, 5 * 1024 * 1024):
        with pytest.raises(Refused) as caught:
            await bus.ask("execution.submit", {"code": "#" * size})
        machine_readable(caught.value, "too_large")
        assert caught.value.details["limit"] == 1024 * 1024
    with pytest.raises(Refused) as caught:
        await bus.ask("execution.submit", {"code": "#" * 300_000})
    machine_readable(caught.value, "too_large")
    assert "BRAIN_BLOBS" in caught.value.message
    assert await bus.born(before) == []


async def test_a_program_that_is_not_there_ends_with_the_reason(bus: Foreign) -> None:
    done = await bus.run(exec={"program": "/no/such/program"})
    assert (done["status"], done["reason"], done["exit_code"]) == ("failed", "spawn_failed", None)
    assert done["error"]["code"] == "spawn_failed"
    assert done["error"]["message"].startswith("Process spawn failed: ")
    assert "/no/such/program" in done["error"]["message"]
    assert "No such" in done["error"]["message"]
    result = await bus.ask("execution.result", {"execution_id": done["id"]})
    assert (result["result"]["exit_code"], result["result"]["success"]) == (-1, False)


async def test_a_blob_that_nobody_put_ends_with_the_reason(bus: Foreign) -> None:
    done = await bus.run(code={"blob": "0" * 64})
    assert done["status"] == "failed"
    assert "0" * 64 in done["error"]["message"]


async def test_a_bad_message_does_not_stop_the_inbox(bus: Foreign) -> None:
    bodies = [
        b"",
        b"{",
        b"[" * 10_000,
        b'{"env":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"\xff",
        b'{"a":1}',
    ]
    bodies.append(b'{"code":"1","idempotency_key":' + b"9" * 400 + b"}")
    for body in bodies:
        await bus.js.publish("brain.inbox.execution.submit", body)
    await bus.js.publish("brain.inbox.execution.bake", b"{}")
    await bus.js.publish("brain.inbox.nobody.knows.this", b"{}")
    good = json.dumps(OK | {"idempotency_key": "behind the bad"}).encode()
    await bus.js.publish("brain.inbox.execution.submit", good)

    async def handled() -> bool:
        return (await bus.js.stream_info("BRAIN_INBOX")).state.messages == 0

    await bus.until(handled)
    found = (await bus.ask("execution.get", {"idempotency_key": "behind the bad"}))["execution"]
    assert (await bus.over(found["id"]))["status"] == "completed"


async def test_a_client_may_not_write_the_log_nor_change_a_stream(bus: Foreign) -> None:
    before = await bus.last()
    for subject in ("brain.evt.execution.x.1.queued", "$JS.API.STREAM.PURGE.BRAIN_EVENTS"):
        with pytest.raises((nats.errors.TimeoutError, nats.errors.Error)):
            await bus.nc.request(subject, b"{}", timeout=0.3)
    assert await bus.born(before) == []


async def test_after_all_this_the_node_lives(bus: Foreign, info: dict[str, Any]) -> None:
    assert (await bus.run(**OK))["status"] == "completed"
    found = await bus.ask("node.info")
    assert found["node"]["pid"] == info["pid"]
    actors = (await bus.ask("actor.list"))["actors"]
    assert sum(each.get("restarts", 0) for each in actors) == 0, json.dumps(actors)
