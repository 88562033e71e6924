"""The bus as an outsider uses it: plain nats-py with the client's URL, the log read message by message."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

STREAM = "BRAIN_EVENTS"
TERMINAL = ("completed", "failed", "cancelled", "timed_out")
UNSURE = ("unavailable", "unknown_outcome", "timeout")
HEAD = ("Brain-Id", "Brain-Time", "Brain-Cause", "Brain-By", "Brain-Prev")


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the log."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.subject.split(".")[2]

    @property
    def entity(self) -> str:
        return self.subject.split(".")[3]

    @property
    def n(self) -> int:
        return int(self.subject.split(".")[4])

    @property
    def name(self) -> str:
        return self.subject.split(".")[5]

    @property
    def time(self) -> str:
        return self.headers["Brain-Time"]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def hash(self) -> str:
        """What the entity's next event has to carry as `Brain-Prev`."""
        head = "\n".join((self.subject, *(self.headers.get(name, "") for name in HEAD)))
        return hashlib.sha256(head.encode() + b"\n" + self.body + b"\n").hexdigest()


class Outsider:
    """A client that comes back after whatever happened to the server."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._nc: Client | None = None
        self._gate = asyncio.Lock()
        self.repeats = 0
        """Requests that were asked again, because nobody knew what had become of them."""

    @property
    def url(self) -> str:
        """Where it connects."""
        return self._url()

    async def nats(self) -> Client:
        """A connection that works."""
        async with self._gate:
            if self._nc is None or not self._nc.is_connected:
                await self.close()
                fresh = Client()
                await fresh.connect(self._url(), allow_reconnect=False, connect_timeout=2, error_cb=_quiet)
                self._nc = fresh
            return self._nc

    async def streams(self) -> JetStreamContext:
        """Its streams."""
        return JetStreamContext(await self.nats())

    async def close(self) -> None:
        """Hang up."""
        if self._nc is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                await asyncio.wait_for(self._nc.close(), 2)
            self._nc = None

    async def ask(
        self, verb: str, body: dict[str, Any] | None = None, seconds: float = 5.0
    ) -> dict[str, Any]:
        """One request, one answer; an error is an answer too."""
        nc = await self.nats()
        answer = await nc.request(f"brain.cmd.{verb}", json.dumps(body or {}).encode(), timeout=seconds)
        return json.loads(answer.data)

    async def insist(self, verb: str, body: dict[str, Any], within: float = 120.0) -> dict[str, Any]:
        """Ask until somebody knows the outcome, always with the same key."""
        deadline = time.monotonic() + within
        while True:
            try:
                answer = await self.ask(verb, body)
                if answer.get("error", {}).get("code") not in UNSURE:
                    return answer
            except (NatsError, OSError, TimeoutError, KeyError):
                pass  # no node, no server, no address yet: whatever it is, the same question goes out again
            self.repeats += 1
            if time.monotonic() > deadline:
                raise AssertionError(f"{verb}: no answer in {within:g} s")
            await asyncio.sleep(0.1)

    async def submit(self, body: dict[str, Any], within: float = 120.0) -> str:
        """Have something run; its id once that is acknowledged."""
        answer = await self.insist("execution.submit", body, within)
        assert "execution_id" in answer, f"refused: {answer}"
        return str(answer["execution_id"])

    async def over(self, entity: str, within: float = 60.0) -> dict[str, Any]:
        """Wait for the end of an execution; the execution as it is then."""
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(NatsError, OSError, TimeoutError, KeyError):
                ask = {"execution_id": entity, "timeout_ms": 2000}
                answer = await self.ask("execution.wait", ask, 5.0)
                if answer.get("done"):
                    return answer["execution"]
            if time.monotonic() > deadline:
                raise AssertionError(f"{entity} is not over after {within:g} s")
            await asyncio.sleep(0.05)

    async def module(self, name: str) -> dict[str, Any]:
        """One module as its node sees it now."""
        return (await self.insist("module.status", {"module": name}))["module"]

    async def up(self, *names: str) -> None:
        """Wait until these modules have workers."""
        for _ in range(600):
            modules = (await self.insist("module.list", {}))["modules"]
            if {each["name"] for each in modules if each["total"]}.issuperset(names):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not all of {', '.join(names)} come up")

    async def last(self) -> int:
        """The last sequence of the log."""
        info = await (await self.streams()).stream_info(STREAM)
        return info.state.last_seq

    async def log(self, until: int | None = None) -> list[Event]:
        """The whole log, read by a consumer of our own; a sequence that is missing is an error."""
        end = await self.last() if until is None else until
        found: list[Event] = []
        if not end:
            return found
        sub = await (await self.streams()).subscribe("brain.evt.>", stream=STREAM, ordered_consumer=True)
        try:
            while len(found) < end:
                message = await sub.next_msg(timeout=10)
                seq = message.metadata.sequence.stream
                assert seq == len(found) + 1, f"the log has a gap before {seq}"
                found.append(Event(seq, message.subject, dict(message.headers or {}), message.data))
        finally:
            with contextlib.suppress(NatsError):
                await sub.unsubscribe()
        return found


async def _quiet(error: Exception) -> None:
    return


def by_entity(log: list[Event], kind: str = "execution") -> dict[str, list[Event]]:
    """The events of each entity, oldest first."""
    found: dict[str, list[Event]] = {}
    for event in log:
        if event.kind == kind:
            found.setdefault(event.entity, []).append(event)
    return found


def unlinked(log: list[Event]) -> list[str]:
    """Where versions do not count up by one, or an event does not carry the hash of the one before."""
    bad: list[str] = []
    before: dict[tuple[str, str], Event] = {}
    for event in log:
        last = before.get((event.kind, event.entity))
        if event.n != (last.n if last else 0) + 1:
            bad.append(f"{event.subject} follows version {last.n if last else 0}")
        if event.headers.get("Brain-Prev", "") != (last.hash if last else ""):
            bad.append(f"{event.subject} does not carry the hash of its predecessor")
        before[event.kind, event.entity] = event
    return bad


def endings(log: list[Event], wanted: list[str]) -> list[str]:
    """Which of these executions did not end exactly once, and how they stand."""
    lives = by_entity(log)
    bad: list[str] = []
    for entity in wanted:
        ends = [event.name for event in lives.get(entity, []) if event.name in TERMINAL]
        if len(ends) != 1:
            bad.append(f"{entity}: {[event.name for event in lives.get(entity, [])]}")
    return bad


def restarts_unsaid(log: list[Event]) -> list[str]:
    """Executions that were started again although no attempt of theirs was said to be lost or failed."""
    bad: list[str] = []
    for entity, life in by_entity(log).items():
        running = False
        for event in life:
            if event.name == "started":
                if running:
                    bad.append(entity)
                running = True
            elif event.name in ("attempt_lost", "attempt_failed"):
                running = False
    return bad
