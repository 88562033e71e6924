"""Who lives is who has renewed a lease; the server lets a lease expire by its own clock.

A node holds `brain.lease.node-<id>` with its boot as the value.  Everybody else believes it for the whole
time, the holder itself only for two thirds by its monotonic clock, so that it stops before others take over.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable

import msgspec

from bus import streams, subjects
from bus.bridge import Bridge
from bus.tasks import Tasks, end
from events.errors import HindbrainError, Timeout, Trouble, Unavailable, Validation

log = logging.getLogger(__name__)

LEAST_SECONDS = 1.0
"""The shortest time to live that the server takes (nats-architecture-and-design, ADR-43)."""
STOP_SECONDS = 2.0
FIRST_SECONDS = 15.0
PREFIX = "node-"


class Held(msgspec.Struct):
    """What a lease says: who holds it."""

    node: str
    boot: str
    time: str = ""


class Lease:
    """The leases of nodes: our own, and what is known of the others."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._node = ""
        self._seconds = 0.0
        self._body = b""
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._asking = Tasks("who asked which nodes live failed")

    def hold(self, node: str, boot: str, seconds: float) -> None:
        """Take the lease and renew it at every third of `seconds`; returns when it is held.

        `seconds` are whole ones, at least 1.  `Unavailable` or `Timeout`: it is not held yet; the renewing
        goes on.
        """
        if seconds < LEAST_SECONDS or seconds != int(seconds):
            raise Validation(f"a lease of {seconds:g} s: it must be whole seconds, at least 1")
        subjects.lease(PREFIX + node)
        self._bridge.call(self._begin(node, boot, seconds), FIRST_SECONDS)

    def release(self) -> None:
        """Give it back, so that nobody has to wait for it to expire."""
        try:
            self._bridge.call(self._end(), STOP_SECONDS)
        except Trouble as error:
            log.info("the lease is not given back, it will expire: %s", error)

    @property
    def left(self) -> float:
        """How many seconds the holder may go on believing in its lease; 0 when it may have lost it."""
        return max(0.0, self._until - time.monotonic())

    def alive(self, done: Callable[[dict[str, str] | HindbrainError], None]) -> None:
        """Ask which nodes live: the boot by node; `done` is called in the loop of the bus."""

        async def run() -> None:
            try:
                found: dict[str, str] | HindbrainError = await self._alive()
            except HindbrainError as error:
                found = error
            done(found)

        self._bridge.post(lambda: self._asking.spawn(run()))

    # In the loop

    async def _begin(self, node: str, boot: str, seconds: float) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        self._node, self._seconds = node, seconds
        self._body = msgspec.json.encode(Held(node, boot))
        try:
            await self._bridge.ready()
            await self._renew()
        finally:
            self._renewing = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                await self._renew()
            except HindbrainError as error:
                log.warning("the lease of %s was not renewed: %s", self._node, error)
                # As soon as there is a connection again, rather than at the next third.
                try:
                    async with asyncio.timeout(self._seconds / 3):
                        await self._bridge.ready()
                    await self._renew()
                except (HindbrainError, TimeoutError) as again:
                    log.debug("nor at once: %s", again)

    async def _renew(self) -> None:
        asked = time.monotonic()
        reply = await self._bridge.request(
            subjects.lease(PREFIX + self._node),
            self._body,
            headers={"Nats-TTL": f"{int(self._seconds)}s"},
            within=max(0.5, self._seconds / 3),
        )
        answer = json.loads(reply.data)
        if "error" in answer:
            raise Unavailable(f"the lease was refused: {answer['error'].get('description', '')}")
        # Counted from before the request: the server began to count after it.
        self._until = asked + self._seconds * 2 / 3

    async def _end(self) -> None:
        await end(self._renewing)
        self._renewing = None
        self._until = 0.0
        if self._node:
            await self._bridge.api(
                f"STREAM.PURGE.{streams.LEASES}", {"filter": subjects.lease(PREFIX + self._node)}
            )

    async def _alive(self) -> dict[str, str]:
        info = await self._bridge.api(
            f"STREAM.INFO.{streams.LEASES}", {"subjects_filter": subjects.lease("x")[:-1] + "*"}
        )
        names: dict[str, int] = info["state"].get("subjects") or {}
        nodes = [name for name in names if name.startswith(subjects.lease(PREFIX + "x")[:-1])]
        found: dict[str, str] = {}
        for held in await asyncio.gather(*(self._read(name) for name in nodes)):
            if held is not None:
                found[held.node] = held.boot
        return found

    async def _read(self, subject: str) -> Held | None:
        message = await self._bridge.request(f"$JS.API.DIRECT.GET.{streams.LEASES}.{subject}")
        match (message.headers or {}).get("Status"):
            case None:
                return msgspec.json.decode(message.data, type=Held)
            case "404":  # it expired just now
                return None
            case "408":
                raise Timeout("the leases cannot be read now")
            case status:
                raise Unavailable(f"the leases cannot be read: {status}")
