"""Decisions, and what another policy would have decided, on the command line of a real node."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest

from bus.bridge import Bridge
from bus.log import Log
from events import decision, scaling
from events.decision import DECISION
from events.policy import Policy
from events.ports import Ask, Outcome
from events.scaling import ModuleLook, Snapshot
from interfaces.api import ExecutionEngine
from interfaces.client import decisions
from interfaces.settings import load
from interfaces.whereabouts import joining

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
NOW = time.time_ns() // 1_000_000


def told(done: "subprocess.CompletedProcess[bytes]", code: int = 0) -> str:
    """What was printed, both ways."""
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == code, text
    return text


@pytest.fixture(scope="module")
def decided(data: Path) -> list[str]:
    """A scaler beside the node wrote down what it decided: all busy, then next to none."""
    bridge = Bridge(joining(load({"data": data}, {})), name="scaler")
    bridge.start()
    log, found = Log(bridge, lambda: NOW), Queue[Sequence[Outcome]]()
    asks: list[Ask] = []
    for tick, busy in enumerate((5, 1)):
        module = ModuleLook(name="commands", category="core", workers=5, min=1, busy=busy, queued=3)
        seen = scaling.exact(
            Snapshot(time_ms=NOW + tick * 10_000, modules=(module,), categories=(), total_max=50)
        )
        for each in scaling.decide(seen, Policy()):
            entity = decision.entity(seen.time_ms // 10_000, each.module)
            asks.append(Ask(DECISION, entity, scaling.make(each, seen, Policy()), by="scaler:test"))
    log.handle(asks, found.put)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(asks):
        outcomes += found.get(timeout=30)
    assert [outcome.error for outcome in outcomes] == [None, None]
    bridge.call(log.stop(), 5.0)
    bridge.stop()
    return [outcome.ask.command.context for outcome in outcomes]  # type: ignore[attr-defined]  # a Make


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], str]:
    """A policy file with that text."""

    def write(text: str) -> str:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return str(path)

    return write


def test_decisions_are_listed_with_their_reason_and_all_that_was_seen(node: Run, decided: list[str]) -> None:
    said = told(node("decisions"))
    assert "scale_down_suggested  commands" in said
    assert all(text in said for text in decided)
    found: list[dict[str, Any]] = json.loads(told(node("decisions", "--type", "scale_up", "--json")))
    assert [each["data"]["decision"]["after"] for each in found] == [7]
    assert found[0]["data"]["snapshot"]["modules"][0]["busy"] == 5
    assert told(node("decisions", "--module", "nobody")).split() == ["seq", "time", "type", "module", "why"]
    assert "did you mean 'scale_up'?" in told(node("decisions", "--type", "scaleup"), 2)
    rows = json.loads(told(node("sql", "SELECT type, module FROM decisions ORDER BY seq", "--json")))
    assert [each["type"] for each in rows] == ["scale_up", "scale_down_suggested"]


@pytest.mark.usefixtures("decided")
def test_a_backtest_differs_in_nothing_for_the_same_policy_and_says_the_same_twice(
    node: Run, policy: Callable[[str], str]
) -> None:
    for _ in range(3):
        told(node("run", "--", "true"))
    same = ("scaler", "backtest", "--policy", policy('kind = "classic"'), "--since", "1h")
    first = node(*same)
    assert "0 differ where 2 were made" in told(first)
    assert node(*same).stdout == first.stdout
    report = json.loads(told(node(*same, "--json")))
    (module,) = report["modules"]
    assert (
        module["recorded"]["count"]
        == module["simulated"]["waits"]["count"]
        == report["recorded"]["count"]
        >= 3
    )
    assert report["differences"] == []
    assert node(*same, "--json").stdout == node(*same, "--json").stdout
    assert node("scaler", "backtest").stdout == first.stdout, "the classic rules are what a node has"


@pytest.mark.usefixtures("decided")
def test_a_backtest_of_another_policy_names_each_decision_that_would_differ(
    node: Run, policy: Callable[[str], str]
) -> None:
    told(node("run", "--", "true"))
    other = policy('step = 3\nauto_scale_down = true\ncooldown = "1m"')
    run = ("scaler", "backtest", "--policy", other, "--since", "2026-01-01")
    said = told(node(*run))
    assert "2 differ where 2 were made" in said
    assert "scale_up 5 -> 7" in said
    assert "scale_up 5 -> 8" in said
    assert "scale_down_suggested 5 -> 3" in said
    assert "scale_down 5 -> 2" in said
    found = json.loads(told(node(*run, "--module", "commands", "--json")))
    assert [each["instead"]["type"] for each in found["differences"]] == ["scale_up", "scale_down"]
    assert "nothing was recorded" in told(node(*run, "--module", "nobody"), 2)


def test_a_policy_that_cannot_be_read_is_named_with_its_line(
    hindbrain: Run, policy: Callable[[str], str], tmp_path: Path
) -> None:
    def refused(text: str) -> str:
        return told(hindbrain("scaler", "backtest", "--policy", policy(text)), 2)

    assert "policy.toml:2: unknown key 'stepp', did you mean 'step'?" in refused("# mine\nstepp = 3")
    assert "policy.toml:1: step is 0: it must be between 1 and 1000" in refused("step = 0")
    assert "policy.toml:1:" in refused("kind = [")
    assert "cannot be read" in told(hindbrain("scaler", "backtest", "--policy", str(tmp_path / "no.toml")), 2)
    assert "its name ends in" in told(hindbrain("scaler", "backtest", "--policy", "no.txt"), 2)
    assert "scaler.every_seconds is 0: it must be" in told(
        hindbrain("scaler", "backtest", "--every", "0s"), 2
    )
    assert "no node runs" in told(hindbrain("scaler", "backtest", "--policy", policy("")), 3)


def test_programs_and_pages_get_the_last_ones_oldest_first(data: Path, decided: list[str]) -> None:
    async def read() -> list[dict[str, Any]]:
        async with ExecutionEngine.new({"data": data}) as engine:
            await engine.sql("SELECT 1", min_seq=await engine.last_seq())
            return await decisions(engine, 50)

    every = asyncio.run(read())
    # The node's own scaler may have something to say of its other modules.
    found = [each for each in every if each["data"]["decision"]["module"] == "commands"]
    assert [each["context"] for each in found] == decided
    assert [each["type"] for each in found] == ["scale_up", "scale_down_suggested"]
    assert found[0]["data"]["decision"]["module"] == "commands"
    assert all(each.keys() == {"timestamp", "type", "context", "data"} for each in found)
    assert all(abs(time.time() - each["timestamp"]) < 3600 for each in found)
    door = json.loads((data / "node.json").read_bytes())["http_url"]
    page = httpx.get(f"{door}/api/threads/decisions", timeout=20).json()
    assert page["success"] is True
    assert [each for each in page["data"] if each in found] == found
