"""The door at work: what the progress subjects tell goes to every network, what people say to the node.

Each side may be away for as long as it likes.  What is told meanwhile is made up for: of everything that is
not over it is asked how far it is, when the node is there again and whenever something may have been missed.
"""

import asyncio
import fcntl
import logging
import os
from typing import Any

from bus.tasks import end
from events.errors import Conflict, HindbrainError, Refusal, Trouble, Validation
from interfaces.api import ExecutionEngine
from interfaces.chat import commands
from interfaces.chat.desk import Desk
from interfaces.chat.network import Heard, Network
from interfaces.live import standing
from interfaces.settings import Settings

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""After so long without a word it is looked whether the node is still there."""
LOOK_SECONDS = 60.0
"""So often everything that is not over is asked how far it is, whatever was told."""
AGAIN_SECONDS = 1.0


def networks(settings: Settings) -> list[Network]:
    """The networks that the settings name; `Validation` when there is none."""
    found: list[Network] = []
    given = settings.chat
    if given.matrix.homeserver:
        try:
            from interfaces.chat.matrix import Matrix
        except ModuleNotFoundError as error:
            raise Validation(
                f"{error.name} is not installed: pip install 'hindbrain[matrix]'", field="chat.matrix"
            ) from None
        found.append(Matrix(given.matrix))
    if given.webhook.url:
        from interfaces.chat.webhook import Webhook

        found.append(Webhook(given.webhook))
    if not found:
        raise Validation("no chat is set: see chat.matrix.homeserver and chat.webhook.url", field="chat")
    return found


class Door:
    """Between one node and the chats of the settings."""

    def __init__(self, settings: Settings) -> None:
        """Take the folder in which messages are remembered; `Conflict` when another door has it."""
        self._settings = settings
        found = networks(settings)
        folder = settings.data / "chat"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Conflict(f"another `hindbrain chat` is at work on {settings.data}") from None
        self._desks = [Desk(each, settings.chat.show, folder) for each in found]
        self._engine: ExecutionEngine | None = None
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()

    async def run(self) -> None:
        """Work until it is stopped; what cannot get better by waiting is raised."""
        tasks = [asyncio.create_task(desk.tell()) for desk in self._desks]
        tasks += [asyncio.create_task(desk.listen(self._obey)) for desk in self._desks if desk.network.hears]
        tasks.append(asyncio.create_task(self._stay()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            await end(*tasks)
            for desk in self._desks:
                await desk.network.close()
            os.close(self._lock)

    async def _stay(self) -> None:
        """Be connected to the node, and find it again when it has moved."""
        why = ""
        while True:
            engine = ExecutionEngine.new(self._settings)
            try:
                await self._hear(engine)
            except Trouble as error:
                if why != error.message:
                    log.warning("waiting for a node: %s", error.message)
                why = error.message
            finally:
                self._engine = None
                followers, self._followers = self._followers, {}
                await end(*followers.values())
                await engine.close()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _hear(self, engine: ExecutionEngine) -> None:
        loop = asyncio.get_running_loop()
        async with await (await engine.client()).all_progress(self._settings.chat.show) as watch:
            self._engine = engine
            log.info("connected to the node")
            look = 0.0
            while True:
                if loop.time() >= look:
                    look = loop.time() + LOOK_SECONDS
                    await self._look(engine)
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        said = await anext(watch)
                except TimeoutError:
                    await engine.last_seq()
                    continue
                if said is None:
                    look = 0.0
                else:
                    self._tell(said)

    async def _look(self, engine: ExecutionEngine) -> None:
        """Ask of everything that is not over how far it is."""
        for entity in {each for desk in self._desks for each in desk.board.open}:
            try:
                self._tell(await standing(engine, commands.kind_of(entity), entity))
            except Refusal as error:
                log.warning("no more is said about %s: %s", entity, error.message)
                for desk in self._desks:
                    desk.board.drop(entity)
                continue
            self._follow(engine, entity)

    def _tell(self, said: dict[str, Any]) -> None:
        for desk in self._desks:
            desk.hear(said)

    def _follow(self, engine: ExecutionEngine, entity: str) -> None:
        """Listen to one whose kind is not listened to anyway."""
        if commands.kind_of(entity) not in self._settings.chat.show and entity not in self._followers:
            task = asyncio.create_task(self._pass(engine, entity))
            self._followers[entity] = task
            task.add_done_callback(lambda _: self._followers.pop(entity, None))

    async def _pass(self, engine: ExecutionEngine, entity: str) -> None:
        try:
            async for said in engine.progress(entity):
                self._tell(said)
        except HindbrainError as error:
            log.warning("%s is not heard any more: %s", entity, error.message)

    async def _obey(self, desk: Desk, heard: Heard) -> None:
        verb = commands.verb_of(heard.text)
        if verb is None:
            return
        if heard.user not in self._settings.chat.users:
            log.warning("%s may not give commands: %s was not done", heard.user, verb)
            if heard.user not in self._told:
                # Once: whoever may do nothing must not make the bot talk either.
                self._told.add(heard.user)
                desk.reply(f"{heard.user} is not allowed to give commands here.", f"{heard.id}.reply")
            return
        engine = self._engine
        done = await commands.obey(engine, verb, heard, desk.board.about(heard.to) if heard.to else None)
        log.info("%s of %s: %s", verb, heard.user, done.follow or "answered")
        if done.follow and engine is not None:
            desk.follow(done.follow, "execution")
            self._follow(engine, done.follow)
        else:
            desk.reply(done.text, f"{heard.id}.reply")
