"""A JavaScript program with the usual npm packages works with a node, and reads what describes the bus."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from interfaces import describe

pytestmark = pytest.mark.whole


def run(folder: Path, *words: str) -> dict[str, Any]:
    """Run a program of it and read the line that it prints."""
    done = subprocess.run(["node", *words], cwd=folder, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_javascript_client_does_everything(js: Path, info: dict[str, Any]) -> None:
    seen = run(js, "client.mjs", info["nats_url"])
    submitted, execution = seen["submitted"], seen["waited"]["execution"]
    assert seen["milliseconds"] < 100
    assert submitted["status"] == "queued"
    assert submitted["message"]
    assert submitted["monitor_url"] == f"{info['http_url']}/executions/{submitted['execution_id']}"
    assert (seen["waited"]["done"], execution["status"], execution["exit_code"]) == (True, "completed", 0)
    assert seen["got"]["execution"]["id"] == execution["id"] == submitted["execution_id"]
    assert seen["result"]["result"]["stdout"] == "1\n"
    assert [each["text"] for each in seen["logs"]["chunks"]] == ["1\n"]
    assert seen["cancelled"]["changed"] is False
    assert seen["events"]["events"][0]["event"] == "queued"
    assert seen["retried"]["retry_of"] == execution["id"]
    assert (seen["refused"]["code"], seen["refused"]["error"]["code"]) == ("validation", "validation")
    assert seen["broken"]["code"] == "validation"
    assert seen["unknown"]["code"] == "not_found"
    assert seen["blob"][1].split()[0] == seen["blob"][0]
    out = f"brain.out.{execution['id']}.stdout"
    assert [out, "1\n", ""] in seen["live"]
    assert [out, "", "2"] in seen["live"]
    assert [each[:2] for each in seen["stored"] if each[0] == out] == [[out, "1\n"], [out, ""]]
    assert [each["final"] for each in seen["progress"]].count(True) == 1
    assert seen["progress"][-1]["status"] == "completed"
    assert isinstance(seen["listed"]["executions"], list)


def test_the_tools_of_asyncapi_accept_the_description_of_the_bus(js: Path, tmp_path: Path) -> None:
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(describe.asyncapi()))
    found = run(js, "parse.mjs", str(file))
    assert found["bad"] == []
    assert found["channels"] > 20
    assert found["messages"] > 20
