"""The door to chats, in a room of a real homeserver and before a real HTTP server."""

import re
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from foreign import Foreign, Place, clean, connect, kill
from homeserver import Homeserver, Person, changes
from receiver import receiving

from tests.waiting import became, turned

pytestmark = [pytest.mark.asyncio, pytest.mark.patient]
STARTING = "Starting batch operation..."
APPROVAL = {
    "name": "release",
    "phases": [
        {
            "id": "go",
            "name": "Go",
            "steps": [
                {"name": "ask", "input": {"message": "Go live?", "schema": {"type": "string"}}},
                {"name": "tell", "exec": {"program": "true"}},
            ],
        }
    ],
}


class Door:
    """A `hindbrain chat` that can be killed and started again; what it logs is kept."""

    def __init__(self, place: Place, **settings: str) -> None:
        self._place = place
        self._env = clean(**{f"HINDBRAIN_CHAT__{name}": value for name, value in settings.items()})
        self.log = place.data / "chat.log"
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start it."""
        assert self._process is None
        with self.log.open("ab") as said:
            self._process = subprocess.Popen(
                self._place.command("chat"), env=self._env, stdin=subprocess.DEVNULL, stderr=said
            )

    def close(self, number: int = 15) -> int:
        """Send it a signal and wait for its end; answers how it ended."""
        process, self._process = self._process, None
        if process is None:
            return 0
        kill(process.pid, number)
        return process.wait(30)

    @property
    def said(self) -> str:
        """What it logged."""
        return self.log.read_text() if self.log.exists() else ""


class Scene:
    """A room with the bot and a person, and the door between it and a node."""

    def __init__(self, door: Door, person: Person, bot: Person, room: str) -> None:
        self.door, self.person, self.bot, self.room = door, person, bot, room

    async def say(self, text: str, to: str = "", by: Person | None = None) -> str:
        return await (by or self.person).say(self.room, text, to)

    async def finds(self, text: str, seconds: float = 60) -> tuple[str, str]:
        return await self.person.finds(self.room, self.bot.user, text, seconds)

    async def sees(self) -> list[str]:
        return [*(await self.person.sees(self.room, self.bot.user)).values()]

    async def read(self) -> list[dict[str, Any]]:
        return await self.person.read(self.room, self.bot.user)


@pytest.fixture(scope="module")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Generator[Homeserver]:
    server = Homeserver(tmp_path_factory.mktemp("hs")).up()
    yield server
    server.down()


_names = iter(range(1000))


@asynccontextmanager
async def scene(place: Place, server: Homeserver, admin: bool = False, **more: str) -> AsyncGenerator[Scene]:
    """Open a room and the door to it."""
    n = next(_names)
    async with server.person(f"anna{n}", admin) as person, server.person(f"brain{n}") as bot:
        room = await person.room(bot.user)
        matrix = {"MATRIX__HOMESERVER": server.url, "MATRIX__TOKEN": bot.token, "MATRIX__ROOM": room}
        door = Door(place, **matrix, USERS=person.user, **more)
        door.open()
        try:
            await became(lambda: "connected to the node" in door.said)
            await became(lambda: "listening in matrix" in door.said)
            yield Scene(door, person, bot, room)
        finally:
            door.close()
        assert bot.token not in door.said
        assert "Traceback" not in door.said, door.said


@pytest_asyncio.fixture
async def there(own: Place, homeserver: Homeserver) -> AsyncGenerator[tuple[Scene, Foreign]]:
    """Give a test a node of its own, a room, and the door between them."""
    own.up()
    async with scene(own, homeserver) as one, connect(own.wrote["nats_url"]) as bus:
        yield one, bus


def batch(count: int, command: str = "true", at_once: int = 4) -> dict[str, Any]:
    return {"do": {"shell": {"command": command}}, "count": count, "max_concurrency": at_once}


async def of_batches(scene: Scene) -> list[dict[str, Any]]:
    """Everything that was said of batches: the first message, and each change."""
    words = (STARTING, "* Progress: ", "* ✅ Batch", "* ⚠️ Batch", "* 🚫 Batch", "✅ Batch")
    return [each for each in await scene.read() if each["content"]["body"].startswith(words)]


async def test_a_batch_is_one_message_that_changes_at_most_once_a_second(
    there: tuple[Scene, Foreign],
) -> None:
    scene, bus = there
    await bus.ask("batch.submit", batch(200, "sleep 0.1"))
    await scene.finds("✅ Batch operation completed: 200 operations", 120)
    first, *later = await of_batches(scene)
    assert first["content"]["body"] == STARTING
    assert changes(first) is None
    assert {changes(each) for each in later} == {first["event_id"]}
    texts = [each["content"]["m.new_content"]["body"] for each in later]
    assert texts[-1] == "✅ Batch operation completed: 200 operations"
    assert len(texts) > 2
    for text in texts[:-1]:
        assert re.fullmatch(r"Progress: \d+/200\nCurrent: .+", text), text
    times = [each["origin_server_ts"] for each in (first, *later)]
    assert all(after - before >= 1000 for before, after in pairwise(times)), times


async def test_an_allowed_user_runs_asks_cancels_and_answers(there: tuple[Scene, Foreign]) -> None:
    scene, bus = there
    await scene.say("run away! talk among people is not for the bot")
    await scene.say("!help")
    await scene.finds("!run PROGRAM ARGUMENTS: run it, without a shell\n!status")
    # There is no shell: what would be a second command is an argument.
    await scene.say("!run echo 'hello world;' rm -rf $HOME")
    message, text = await scene.finds("hello world; rm -rf $HOME")
    found = re.fullmatch(r"✅ Command (exec_\w+) completed\nhello world; rm -rf \$HOME", text)
    assert found is not None
    ran = (await bus.ask("execution.get", {"execution_id": found[1]}))["execution"]
    assert ran["command"].split() == ["echo", "'hello", "world;'", "rm", "-rf", "'$HOME'"]
    assert (ran["labels"], scene.person.user in ran["description"]) == (["chat"], True)
    await scene.say("!status", to=message)
    await scene.finds(f"{found[1]} completed")

    await scene.say("!run sleep 600")
    message, text = await scene.finds("Progress: running")
    sleeping = text.split()[1]
    await scene.say("!status")
    await scene.finds(f"in progress\n{sleeping}")
    await scene.say("!cancel", to=message)
    await scene.finds(f"🚫 Command {sleeping} cancelled")
    await scene.say(f"!cancel {sleeping}")
    await scene.finds(f"{sleeping} is cancelled already.")

    play = (await bus.ask("playbook.run", APPROVAL))["playbook_id"]
    question, text = await scene.finds("❓ Go live?")
    assert text == f"❓ Go live?\nTo answer: !answer {play} VALUE"
    await scene.say("!answer 7", to=question)
    await scene.finds("is not of type")
    await scene.say(f"!answer {play} yes, on Monday")
    await scene.finds(f"✅ Playbook {play} completed: 2 steps")
    await scene.finds("❓ Go live?\nNo longer asked")
    steps = (await bus.ask("playbook.get", {"playbook_id": play}))["playbook"]["steps"]
    assert steps[0]["outputs"] == {"answer": "yes, on Monday", "by": scene.person.user}

    for wrong, why in (
        ("!run", "what is to be run?"),
        ("!run echo 'open", "cannot be cut into words: No closing quotation"),
        ("!cancel", "which one is meant?"),
        ("!status exec_nothing", "Execution not found: exec_nothing"),
        ("!answer exec_nothing x", "asks nothing"),
        ("!run no-such-program", "failed"),
    ):
        await scene.say(wrong)
        await scene.finds(why)


async def test_nobody_else_gets_anything_done(there: tuple[Scene, Foreign], homeserver: Homeserver) -> None:
    scene, bus = there
    sleeping = await bus.submit(exec={"program": "sleep", "args": ["600"]})
    play = (await bus.ask("playbook.run", APPROVAL))["playbook_id"]
    await scene.finds("❓ Go live?")
    before = await bus.last()
    async with homeserver.person(f"mallory{next(_names)}") as stranger:
        await scene.person.ask(
            "POST", f"/_matrix/client/v3/rooms/{scene.room}/invite", {"user_id": stranger.user}
        )
        await stranger.join(scene.room)
        for text in ("!run true", "!status", f"!cancel {sleeping}", f"!answer {play} yes", "!help"):
            await scene.say(text, by=stranger)
        await scene.finds(f"{stranger.user} is not allowed to give commands here.")
    await scene.say("!status")
    await scene.finds(f"in progress\n{sleeping}")
    assert await bus.born(before) == []
    one = (await bus.ask("execution.get", {"execution_id": sleeping}))["execution"]
    assert one["status"] == "running"
    assert (await bus.ask("playbook.get", {"playbook_id": play}))["playbook"]["status"] == "waiting_input"
    assert sum("not allowed" in text for text in await scene.sees()) == 1


async def test_a_door_that_was_killed_goes_on_with_its_message_and_does_nothing_twice(
    there: tuple[Scene, Foreign],
) -> None:
    scene, bus = there
    await scene.say("!run sleep 600")
    _, text = await scene.finds("Progress: running")
    await bus.ask("batch.submit", batch(60, "sleep 0.3", 2))
    await scene.finds("/60\nCurrent: ")
    scene.door.close(9)
    await scene.say("!run echo said-meanwhile")
    before = await bus.last()
    scene.door.open()
    await scene.finds("completed\nsaid-meanwhile")
    await scene.finds("✅ Batch operation completed: 60 operations")
    await scene.say(f"!cancel {text.split()[1]}")
    await scene.finds("🚫 Command")
    said = await of_batches(scene)
    assert [changes(each) for each in said].count(None) == 1
    assert len({changes(each) for each in said}) == 2
    ran = [each for each in await bus.born(before) if each.split(".")[2] == "execution"]
    kinds = [(await bus.ask("execution.get", {"execution_id": each.split(".")[3]})) for each in ran]
    assert sum("said-meanwhile" in each["execution"]["command"] for each in kinds) == 1
    assert scene.door.close() == 0


async def test_a_node_that_was_away_is_found_again(own: Place, homeserver: Homeserver) -> None:
    own.up()
    async with scene(own, homeserver) as one:
        async with connect(own.wrote["nats_url"]) as bus:
            plan = (await bus.ask("batch.submit", batch(40, "sleep 0.2", 2)))["plan_id"]
            await one.finds("/40\nCurrent: ")
        assert own.cli("down").returncode == 0
        await became(lambda: "waiting for a node" in one.door.said)
        await one.say("!status")
        await one.finds("No node is there now, and nothing was done.")
        own.up()
        await one.finds("✅ Batch operation completed: 40 operations")
        said = await of_batches(one)
        assert [changes(each) for each in said].count(None) == 1
        async with connect(own.wrote["nats_url"]) as bus:
            assert (await bus.ask("plan.get", {"plan_id": plan}))["plan"]["completed"] == 40


async def test_a_homeserver_that_was_away_is_told_the_end(own: Place, tmp_path: Path) -> None:
    own.up()
    server = Homeserver(tmp_path / "hs").up()
    try:
        async with scene(own, server) as one, connect(own.wrote["nats_url"]) as bus:
            plan = (await bus.ask("batch.submit", batch(30, "sleep 0.2", 2)))["plan_id"]
            await one.finds("/30\nCurrent: ")
            server.down()
            await bus.ask("plan.wait", {"plan_id": plan, "timeout_ms": 60_000}, 70)
            await became(lambda: "does not answer" in one.door.said)
            server.up()
            await one.finds("✅ Batch operation completed: 30 operations", 90)
            said = await of_batches(one)
            assert [changes(each) for each in said].count(None) == 1
    finally:
        server.down()


async def test_a_homeserver_that_wants_less_gets_less(own: Place, homeserver: Homeserver) -> None:
    own.up()
    async with scene(own, homeserver, admin=True) as one, connect(own.wrote["nats_url"]) as bus:
        # https://element-hq.github.io/synapse/latest/admin_api/user_admin_api.html
        where = f"/_synapse/admin/v1/users/{one.bot.user}/override_ratelimit"
        await one.person.ask("POST", where, {"messages_per_second": 1, "burst_count": 1})
        before = [each["event_id"] for each in await one.read()]
        plans = [(await bus.ask("batch.submit", batch(20, "sleep 0.5", 4)))["plan_id"] for _ in range(4)]
        for plan in plans:
            await bus.ask("plan.wait", {"plan_id": plan, "timeout_ms": 60_000}, 70)

        async def ends() -> bool:
            return [*await one.sees()].count("✅ Batch operation completed: 20 operations") == 4

        await turned(ends, 120)
        assert "takes no more now" in one.door.said
        new = [each for each in await one.read() if each["event_id"] not in before]
        assert [changes(each) for each in new].count(None) == 4


async def test_a_webhook_is_told_of_questions_and_ends(own: Place) -> None:
    own.up()
    with receiving("content", [429, 500]) as (url, taken):
        door = Door(own, WEBHOOK__URL=url, WEBHOOK__FIELD="content", SHOW="plan,playbook,execution")
        door.open()
        try:
            await became(lambda: "connected to the node" in door.said)
            async with connect(own.wrote["nats_url"]) as bus:
                plan = (await bus.ask("batch.submit", batch(8)))["plan_id"]
                await became(lambda: len(taken) == 1)
                await bus.run(exec={"program": "echo", "args": ["done"]})
                await became(lambda: len(taken) == 2)
                play = (await bus.ask("playbook.run", APPROVAL))["playbook_id"]
                await became(lambda: len(taken) == 3)
                await bus.ask("playbook.answer", {"playbook_id": play, "value": "yes"})
                await became(lambda: len(taken) == 4)
            assert [text for text, _ in taken] == [
                "✅ Batch operation completed: 8 operations",
                f"✅ Command {taken[1][1]} completed\ndone",
                f"❓ Go live?\nTo answer: !answer {play} VALUE",
                f"✅ Playbook {play} completed: 2 steps",
            ]
            assert taken[0][1] == plan
            assert "answers 429" in door.said
            assert "answers 500" in door.said
            assert "hush" not in door.said
            hook: dict[str, Any] = {"HINDBRAIN_CHAT__WEBHOOK__URL": url}
            second = own.cli("chat", **hook)
            assert (second.returncode, b"another `hindbrain chat`" in second.stderr) == (2, True)
            shown = own.cli("settings", **hook, HINDBRAIN_CHAT__MATRIX__TOKEN="hush")
            assert b"hush" not in shown.stdout
        finally:
            door.close()


async def test_wrong_settings_are_refused_with_a_sentence(own: Place, homeserver: Homeserver) -> None:
    nothing = own.cli("chat")
    assert (nothing.returncode, b"no chat is set" in nothing.stderr) == (2, True)
    half = own.cli("chat", HINDBRAIN_CHAT__MATRIX__HOMESERVER=homeserver.url)
    assert (half.returncode, b"chat.matrix.token is not set" in half.stderr) == (2, True)
    matrix = {"MATRIX__HOMESERVER": homeserver.url, "MATRIX__TOKEN": "syt_wrong", "MATRIX__ROOM": "!no:where"}
    given: dict[str, Any] = {f"HINDBRAIN_CHAT__{name}": value for name, value in matrix.items()}
    wrong = own.cli("chat", **given)
    assert wrong.returncode == 2
    assert b"does not know chat.matrix.token" in wrong.stderr
    assert b"syt_wrong" not in wrong.stderr
    async with homeserver.person(f"anna{next(_names)}") as anna:
        room = await anna.room()
        secret = {"algorithm": "m.megolm.v1.aes-sha2"}
        await anna.ask("PUT", f"/_matrix/client/v3/rooms/{room}/state/m.room.encryption", secret)
        right: dict[str, Any] = {
            **given,
            "HINDBRAIN_CHAT__MATRIX__TOKEN": anna.token,
            "HINDBRAIN_CHAT__MATRIX__ROOM": room,
        }
        locked = own.cli("chat", **right)
        assert (locked.returncode, b"is encrypted" in locked.stderr) == (2, True)
        assert await anna.read(room, anna.user) == []
