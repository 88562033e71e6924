"""A secret is used, and then it is nowhere: not in the log, the tables, the output, the node's own words."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, Place, Refused, clean

pytestmark = [pytest.mark.whole, pytest.mark.asyncio]
SECRET = "Pl4nted-5ecret/täglich"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def found(folder: Path, secret: str = SECRET) -> list[str]:
    """Every file below that has the secret in it, as it is or as JSON writes it."""
    forms = {secret.encode(), json.dumps(secret)[1:-1].encode()}
    places: list[str] = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            places += [str(path.relative_to(folder)) for form in forms if form in content]
    return places


ECHOES = {
    "whole": 'echo "a $S b"; echo "$S" >&2',
    "split": 'half=$(printf %s "$S" | head -c 9); printf %s "$half"; sleep 0.4; printf %s "${S#"$half"}"',
    "byte by byte": 'printf %s "$S" | fold -b -w1 | tr -d \'\\n\'; printf %s "$S" | dd bs=1 2>/dev/null',
    "bar": 'printf "10%% %s\\r" "$S"; printf "20%% %s\\r" "$S" >&2',
    "no newline": 'printf %s "$S"; printf "%s" "$S" >&2',
    "progress line": 'echo "::progress 1/2 $S"',
    "progress verb": 'hindbrain progress 1 2 "$S"; sleep 0.3',
}


@pytest.mark.parametrize("echo", ECHOES)
async def test_an_echoed_secret_is_masked_and_keeps_every_offset(
    bus: Foreign, place: Place, echo: str
) -> None:
    heard = await bus.hear("brain.out.>")
    told = await bus.hear("brain.progress.>")
    facts = await bus.hear("brain.fact.>")
    body: dict[str, Any] = {"shell": {"command": ECHOES[echo]}, "env": {"PATH": PATH}}
    done = await bus.run(**body, secrets={"S": SECRET})
    assert done["status"] == "completed"
    output = await bus.output(done["id"])
    body["env"]["S"] = "x" * len(SECRET.encode())
    plain = await bus.run(**body)
    as_written = await bus.output(plain["id"])
    for stream, data in output.items():
        assert data == as_written[stream].replace(b"x" * len(SECRET.encode()), b"*" * len(SECRET.encode()))
    for subscription in (heard, told, facts):
        while subscription.pending_msgs:
            assert SECRET.encode() not in (await subscription.next_msg(1)).data
    assert SECRET not in json.dumps(done, ensure_ascii=False)
    events = await bus.ask("execution.events", {"execution_id": done["id"]})
    assert SECRET not in json.dumps(events, ensure_ascii=False)
    assert found(place.data) == []


async def test_a_secret_lies_only_where_it_must_while_it_is_used(bus: Foreign, place: Place) -> None:
    heard = await bus.hear("brain.out.*.stdout")
    execution = await bus.submit(shell={"command": 'echo "$S"; sleep 30'}, secrets={"S": SECRET})
    while execution not in (await heard.next_msg(10)).subject:
        pass
    assert {Path(each).parts[0] for each in found(place.data)} <= {"secrets", "run"}
    assert found(place.data)
    for path in (place.data / "secrets", place.data / "run"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert all(each.stat().st_mode & 0o777 == 0o600 for each in path.iterdir())
    await bus.ask("execution.cancel", {"execution_id": execution, "grace_ms": 100})
    await bus.over(execution)

    async def nowhere() -> bool:
        return not found(place.data)

    await bus.until(nowhere)


async def test_names_that_look_like_secrets_are_secrets(bus: Foreign, place: Place) -> None:
    env = {"API_KEY": SECRET, "DB_PASSWORD": SECRET + "2", "PLAIN": "visible"}
    done = await bus.run(shell={"command": 'echo "$API_KEY $DB_PASSWORD $PLAIN"'}, env=env)
    size = len(SECRET.encode())
    assert done["result"]["stdout"] == f"{'*' * size} {'*' * (size + 1)} visible\n"
    events = (await bus.ask("execution.events", {"execution_id": done["id"]}))["events"]
    spec = events[0]["data"]["spec"]
    assert spec["env"] == {"PLAIN": "visible"}
    assert set(spec["secrets"]) == {"API_KEY", "DB_PASSWORD"}
    assert all(len(each) >= 32 for each in spec["secrets"].values())
    assert found(place.data) == []


async def test_a_retry_needs_the_secrets_again(bus: Foreign) -> None:
    done = await bus.run(shell={"command": 'test "$S" = two'}, secrets={"S": "one value"})
    assert done["exit_code"] == 1
    with pytest.raises(Refused) as caught:
        await bus.ask("execution.retry", {"execution_id": done["id"]})
    assert caught.value.code == "validation"
    assert "S" in caught.value.message
    again = await bus.ask("execution.retry", {"execution_id": done["id"], "secrets": {"S": "two"}})
    assert (await bus.over(again["execution_id"]))["status"] == "completed"


async def test_refused_and_failed_submissions_keep_no_secret(bus: Foreign, place: Place) -> None:
    with pytest.raises(Refused):
        await bus.ask("execution.submit", {"exec": {"program": ""}, "secrets": {"S": SECRET}})
    with pytest.raises(Refused) as caught:
        await bus.ask("execution.submit", {"exec": {"program": "a"}, "secrets": {"S": [SECRET]}})
    assert SECRET not in caught.value.message
    await bus.run(exec={"program": "/no/such/program"}, secrets={"S": SECRET})
    key = {"idempotency_key": "secret key", "secrets": {"S": SECRET}}
    first = await bus.ask("execution.submit", {"exec": {"program": "true"}} | key)
    await bus.over(first["execution_id"])
    assert (await bus.ask("execution.submit", {"exec": {"program": "true"}} | key))["duplicate"] is True
    refused = {"exec": {"programm": "x"}, "secrets": {"S": SECRET}, "env": {"TOKEN": SECRET}}
    await bus.js.publish("brain.inbox.execution.submit", json.dumps(refused, ensure_ascii=False).encode())

    async def handled() -> bool:
        return (await bus.js.stream_info("BRAIN_INBOX")).state.messages == 0

    await bus.until(handled)

    async def nowhere() -> bool:
        return not found(place.data)

    await bus.until(nowhere, 10)


async def test_the_command_line_tells_nobody(bus: Foreign, place: Place, tmp_path: Path) -> None:
    done = place.cli("run", "--shell", "--secret", "S", "--", 'echo "$S"; echo "$S" >&2', S=SECRET)
    stars = b"*" * len(SECRET.encode()) + b"\n"
    assert (done.stdout, done.stderr) == (stars, stars)
    execution = (await bus.ask("execution.list", {"limit": 1}))["executions"]
    named = await bus.run(shell={"command": 'echo "$S"'}, secrets={"S": SECRET})
    file = tmp_path / "x.capsule"
    assert place.cli("export", named["id"], "-o", str(file)).returncode == 0
    words = [sys.executable, "-P", "-m", "interfaces.cli", "import", str(file)]
    await asyncio.to_thread(
        subprocess.run, [*words, "--into", str(tmp_path / "x.duckdb")], env=clean(), check=True
    )
    assert place.cli("replay", "--into", str(tmp_path / "all.duckdb")).returncode == 0
    assert execution
    assert found(tmp_path) == []
    assert found(place.data) == []


async def test_the_masks_of_several_secrets_do_not_uncover_each_other(bus: Foreign) -> None:
    secrets = {"A": "abcd", "B": "abcdefgh", "C": "ghij"}
    done = await bus.run(
        shell={"command": "printf abcd; sleep 0.3; printf ef; sleep 0.2; printf ghij.abcdefg"},
        secrets=secrets,
    )
    assert done["result"]["stdout"] == "**********.****efg"
