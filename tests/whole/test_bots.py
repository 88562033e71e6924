"""The bots of the guide, as short as it says, run as somebody would run them; and what bots are told."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign import Foreign, clean
from receiver import receiving

from interfaces.api import ExecutionEngine
from interfaces.live import standing
from tests.waiting import turned

BOTS = Path(__file__).parents[2] / "docs" / "examples" / "bots"
LINES = 30


@pytest.mark.asyncio
async def test_progress_names_what_a_step_belongs_to_and_what_is_asked(
    info: dict[str, Any], bus: Foreign
) -> None:
    """Live, and when a bot that came late asks how far something is."""

    def step(name: str, **does: Any) -> dict[str, Any]:
        return {"name": name, **does}

    def phase(*steps: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"id": "p", "name": "P", "steps": list(steps)}]

    run = {"exec": {"program": "true"}}
    plan = {"steps": [step("outer", steps=[step("inner", **run)])]}
    inner = {"name": "inner", "phases": phase(step("does", **run))}
    asks = step("asks", input={"message": "Go on?", "schema": {"type": "boolean"}})
    wish = {"name": "outer", "phases": phase(step("child", playbook=inner), step("runs", **run), asks)}
    heard = await bus.hear("brain.progress.>")
    top = (await bus.ask("plan.submit", plan))["plan_id"]
    play = (await bus.ask("playbook.run", wish))["playbook_id"]
    above: dict[str, str | None] = {}
    question: dict[str, Any] | None = None
    while top not in above or question is None:
        said = json.loads((await heard.next_msg(timeout=60)).data)
        assert "parent" in said
        if said["final"]:
            above[said["id"]] = said["parent"]
        if said["id"] == play:
            question = said["asked"]
            assert said["parent"] is None
    (nested,) = [key for key, parent in above.items() if parent == top]
    (child,) = [key for key, parent in above.items() if parent == play and key.startswith("play_")]
    assert above.pop(top) is None
    assert list(above.values()).count(nested) == list(above.values()).count(child) == 1
    assert sum(key.startswith("exec_") and parent == play for key, parent in above.items()) == 1
    assert (question["step"], question["message"]) == ("asks", "Go on?")
    async with ExecutionEngine.new({"nats.url": info["nats_url"]}) as engine:
        for entity, parent in above.items():
            kind = {"exec": "execution", "plan": "plan", "play": "playbook"}[entity.partition("_")[0]]
            assert (await standing(engine, kind, entity))["parent"] == parent
        assert (await standing(engine, "playbook", play))["asked"] == question
    await bus.ask("playbook.cancel", {"playbook_id": play})


def start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=folder, env=clean(), stdin=subprocess.DEVNULL)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["bot.py", "bot.mjs"])
async def test_a_bot_of_thirty_lines_hears_how_a_batch_ends(
    name: str, info: dict[str, Any], bus: Foreign, request: pytest.FixtureRequest
) -> None:
    bot = BOTS / name
    assert len(bot.read_text().splitlines()) <= LINES
    command, folder = [sys.executable, "-P", str(bot)], BOTS
    if name == "bot.mjs":
        folder = request.getfixturevalue("js")
        command = ["node", str(shutil.copy(bot, folder))]
    wish = {"do": {"shell": {"command": "true"}}, "count": 3}
    with receiving() as (url, taken):
        process = start([*command, info["nats_url"], url], folder)
        try:

            async def told() -> bool:
                assert process.poll() is None
                # It says nothing when it begins to listen, so it is asked until it heard.
                plan = (await bus.ask("batch.submit", wish))["plan_id"]
                await bus.ask("plan.wait", {"plan_id": plan, "timeout_ms": 60_000}, 70)
                return any(re.fullmatch(r"plan_\w+ completed: .+", text) for text, _ in taken)

            await turned(told, 120)
        finally:
            process.terminate()
            process.wait(30)
    texts = [text for text, _ in taken]
    end = next(text for text in texts if " completed: " in text)
    assert end.endswith(" completed: 3/3 operations (100%)")
    assert f"{end.split()[0]} begins" in texts[: texts.index(end)]
