"""A capsule shown as a node would show it: the same pages and tables, without a node or a bus."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from actors import archivist, reading
from actors.files import Files
from bus.client import Client
from events import artifact, codec, picture, portrait, service, view
from events.asks import artifact as artifacts
from events.asks import plan, playbook
from events.clock import millis
from events.errors import Conflict, HindbrainError, NotFound, NotOver, Validation
from interfaces import capsule, life
from interfaces.api import ANSWER_SECONDS, ExecutionEngine
from interfaces.live import Chunk, stored
from interfaces.projector import Shelf
from interfaces.settings import load
from projections.store import Store

REFUSED = "this is a capsule: it shows what was, and nothing can be run, changed or answered in it"


class Offline(ExecutionEngine):
    """An engine that answers from a capsule; whatever would change something is a `Conflict`."""

    def __init__(
        self, manifest: capsule.Manifest, lines: list[capsule.Line], files: Files, shelf: Shelf
    ) -> None:
        super().__init__(load({"data": files.data, "http": {"host": "127.0.0.1", "port": 0}}, {}))
        self.manifest = manifest
        self.first_seq = lines[0].seq
        self.as_of = manifest.made_at
        self._now = millis(manifest.made_at)
        self._files, self._shelf = files, shelf
        self._facts = _facts(lines)
        self._states = {name: _state(facts) for name, facts in self._facts.items()}
        """By kind and id, as the last of its facts here left it."""

    async def client(self) -> Client:
        """Refuse: there is nothing to connect to."""
        raise Conflict(REFUSED)

    async def call(
        self,
        kind: str,
        verb: str,
        body: dict[str, Any],
        within: float = ANSWER_SECONDS,  # noqa: ARG002  a file answers at once
        trace: str = "",  # noqa: ARG002  as above
        token: str = "",  # noqa: ARG002  whoever has the file may read it
    ) -> dict[str, Any]:
        """Answer as a node would, if that only takes reading."""
        wanted = next((each for each in service.VERBS if (each.kind, each.name) == (kind, verb)), None)
        if wanted is None:
            raise NotFound(f"there is no verb {kind}.{verb}")
        try:
            ask = msgspec.convert(body, wanted.request)
        except msgspec.ValidationError as error:
            raise Validation(str(error)) from error
        reply = await asyncio.to_thread(self._answer, ask)
        return msgspec.json.decode(codec.encode(reply))

    def _answer(self, ask: Any) -> Any:
        match ask:
            case service.Sql():
                return self._shelf.ask(ask)
            case service.List():
                return self._shelf.list(ask)
            case service.Get(execution_id=str(name)):
                return service.One(execution=self._shown(name))
            case service.Wait(execution_id=name):
                return service.Waited(execution=self._shown(name), done=True)
            case service.Logs(execution_id=name):
                reading.check(ask)
                return reading.logs(Files(self._files.data), name, self._state(name), ask)
            case service.Result(execution_id=name, max_bytes=size):
                state = self._state(name)
                if state.phase != "over":
                    raise NotOver(f"{name} was {state.status} when it was exported: read its logs")
                return service.Came(result=reading.result(self._files, name, state, size))
            case service.Events(execution_id=name, after_seq=after, limit=limit):
                self._state(name)
                told = self._facts["execution", name]
                found = [view.row(fact) for fact in told if fact.seq > after]
                return service.Rows(events=found[:limit])
            case plan.Get(plan_id=str(name)):
                shown = picture.plan(self._state(name, "plan"), self._last("plan", name), self._now)
                return plan.One(plan=shown)
            case playbook.Get(playbook_id=str(name)):
                state = self._state(name, "playbook")
                return playbook.One(
                    playbook=portrait.playbook(state, self._last("playbook", name), self._now)
                )
            case playbook.Validate(playbook_id=name, checkpoint_id=str(which)):
                return self._checkpoint(name, which, ask.data)
            case artifacts.Get(artifact_id=name):
                return self._artifact(ask, self._state(name, "artifact"))
            case _:
                raise Conflict(REFUSED)

    def output(
        self,
        execution_id: str,
        offsets: Mapping[str, int] | None = None,
        follow: bool = True,  # noqa: ARG002  nothing comes after what is there
    ) -> AsyncIterator[Chunk]:
        """All output from the given offsets on."""
        return stored(self, execution_id, offsets)

    def progress(self, entity: str) -> AsyncIterator[dict[str, Any]]:
        """Tell nothing: how far it came is in its row."""
        return _nothing(entity)

    async def last_seq(self) -> int:
        """The last event of the capsule."""
        return max(fact.seq for facts in self._facts.values() for fact in facts)

    def _last(self, kind: str, name: str) -> int:
        return self._facts[kind, name][-1].seq

    def _state(self, name: str, kind: str = "execution") -> Any:
        if (kind, name) not in self._states:
            raise NotFound(f"{kind.capitalize()} not found: {name} (in this capsule)")
        return self._states[kind, name]

    def _checkpoint(self, name: str, which: str, data: bool) -> playbook.Valid:
        self._state(name, "playbook")
        if which not in self.manifest.checkpoints:
            raise NotFound(f"Checkpoint not found: {which} (in this capsule)")
        file = self._files.data / "checkpoints" / f"{which}.json"
        found = msgspec.json.decode(file.read_bytes(), type=playbook.Valid)
        if found.playbook_id != name:
            raise NotFound(f"Checkpoint not found: {which} (of {name})")
        return found if data else msgspec.structs.replace(found, data=None)

    def _artifact(self, ask: artifacts.Get, state: artifact.State) -> artifacts.One:
        one = artifacts.One(artifact=archivist.shown(state))
        if not ask.content:
            return one
        if state.id not in self.manifest.artifacts:
            raise NotFound(f"the content of {state.id} was removed", artifact_id=state.id)
        if ask.offset < 0 or not 1 <= ask.max_bytes <= artifacts.READ:
            raise Validation(f"offset is negative, or max_bytes not between 1 and {artifacts.READ}")
        with (self._files.data / "artifacts" / state.id).open("rb") as file:
            file.seek(ask.offset)
            data = file.read(ask.max_bytes)
        after = ask.offset + len(data)
        content = base64.b64encode(data).decode()
        return msgspec.structs.replace(one, base64=content, next_offset=after, end=after >= one.artifact.size)

    def _shown(self, execution_id: str) -> service.Execution:
        state = self._state(execution_id)
        over = state.phase == "over"
        result = reading.result(self._files, execution_id, state) if over else None
        return view.execution(execution_id, state, self._now, result)


@contextlib.contextmanager
def opened(path: Path) -> Generator[Offline]:
    """Check a capsule and unfold it into a folder of our own, which goes when this is over.

    `Validation` when it is none, `Damaged` when something in it was changed.
    """
    manifest, lines = capsule.read(path)
    if not lines:
        raise Validation(f"{path} is empty: there is nothing to show")
    with TemporaryDirectory(prefix="hindbrain-") as folder:
        files = Files(Path(folder))
        capsule.unpack(path, manifest, files.data, files.logs)
        store = Store(files.data / "brain.duckdb", files.logs, whole=False)
        try:
            store.apply(list(capsule.records(lines)))
            yield Offline(manifest, lines, files, Shelf(store))
        finally:
            store.close()


def _facts(lines: list[capsule.Line]) -> dict[tuple[str, str], list[codec.Fact]]:
    """Read the facts of each entity, by its kind and id."""
    found: dict[tuple[str, str], list[codec.Fact]] = {}
    for line in lines:
        _, _, kind, entity, n, event, *_ = line.subject.split(".")
        head = {"id": line.id, "time": line.time, "cause": line.cause, "by": line.by, "prev": line.prev}
        data = msgspec.json.decode(line.body)
        row = {**head, "trace": line.trace, "seq": line.seq, "entity": entity, "n": int(n), "event": event}
        found.setdefault((kind, entity), []).append(life.fact(kind, {**row, "data": data}))
    return found


def _state(facts: list[codec.Fact]) -> Any:
    decider = life.rules(facts[0].kind)
    state = decider.initial
    try:
        for fact in facts:
            state = decider.evolve(state, fact)
    except HindbrainError as error:
        raise Validation(f"a newer version wrote this capsule: {error.message}") from error
    return state


async def _nothing(entity: str) -> AsyncGenerator[dict[str, Any]]:  # noqa: ARG001  the shape of every source
    for none in ():
        yield none
