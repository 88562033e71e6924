"""A role that one node plays at a time, by a lease that the server lets expire by its own clock.

Who holds it renews it at every third; everybody else asks for it every second, and the stream gives it to the
first.  The holder believes in it for two thirds of the time only, by its monotonic clock, so that it stops
before another begins.  No lease excludes for sure: what must not happen twice is decided by the log.
"""

import asyncio
import json
import logging
import time

import msgspec

from bus import streams, subjects
from bus.bridge import Bridge
from bus.lease import Held
from bus.tasks import end
from events.errors import HindbrainError, Trouble

log = logging.getLogger(__name__)

SECONDS = 6
"""How long a lease lives that nobody renews."""
CONTEST_SECONDS = 1.0
STOP_SECONDS = 2.0


class Tenure:
    """One role, contested from `start` to `stop`."""

    def __init__(self, bridge: Bridge, role: str, node: str, boot: str, *, seconds: int = SECONDS) -> None:
        self.role = role
        self._bridge = bridge
        self._subject = subjects.lease(f"role-{role}")
        self._body = msgspec.json.encode(Held(node, boot))
        self._seconds = seconds
        self._sequence = 0
        """Of our lease in the stream; 0 while we have none."""
        self._until = 0.0
        self._contest: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Try to get the role from now on.  From any thread."""
        self._bridge.post(self._begin)

    def stop(self) -> None:
        """Give it back, so that nobody has to wait for it to expire."""
        try:
            self._bridge.call(self._end(), STOP_SECONDS)
        except Trouble as error:
            log.info("the role %s is not given back, it will expire: %s", self.role, error)

    @property
    def left(self) -> float:
        """For how many seconds the role is ours at least; 0 when it is not.  From any thread."""
        return max(0.0, self._until - time.monotonic())

    # In the loop

    def _begin(self) -> None:
        if self._contest is None:
            self._contest = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while True:
            try:
                await self._ask()
            except HindbrainError as error:
                log.debug("the role %s: %s", self.role, error)
            await asyncio.sleep(self._seconds / 3 if self._sequence else CONTEST_SECONDS)

    async def _ask(self) -> None:
        """Take it when it is free, renew it when it is ours."""
        asked = time.monotonic()
        reply = await self._bridge.request(
            self._subject,
            self._body,
            headers={
                "Nats-TTL": f"{self._seconds}s",
                "Nats-Expected-Last-Subject-Sequence": str(self._sequence),
            },
            within=self._seconds / 3,
        )
        answer = json.loads(reply.data)
        if "error" in answer:
            # Somebody else's, or ours from an answer that never came: then it expires.
            self._sequence, self._until = 0, 0.0
            return
        if not self._sequence:
            log.info("this node is the %s now", self.role)
        self._sequence = int(answer["seq"])
        # Counted from before the request: the server began to count after it.
        self._until = asked + self._seconds * 2 / 3

    async def _end(self) -> None:
        await end(self._contest)
        self._contest, held = None, self._sequence
        self._sequence, self._until = 0, 0.0
        if held:
            await self._bridge.api(
                f"STREAM.PURGE.{streams.LEASES}", {"filter": self._subject, "seq": held + 1}
            )
