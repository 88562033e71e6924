"""What leaves without waiting for anything: replies, acknowledgements, progress, samples."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping

from nats.errors import Error as NatsError

from bus.bridge import Bridge
from bus.frames import Frame, drain, lines, plain, publish, weight, write
from events.errors import Unavailable

log = logging.getLogger(__name__)

HELD = 100_000
"""So many answers wait for a connection; what is more pushes out the oldest."""
LOT = 512
"""Messages of one write."""
RETRY_SECONDS = 0.05
SEND_SECONDS = 5.0
"""A connection that takes nothing for so long is about to be lost, and what was written to it with it."""


class Answers:
    """Messages leave in order, a burst of them in one write, and crosses into the loop once."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._waiting: deque[Frame] = deque(maxlen=HELD)
        self._lock = threading.Lock()
        self._busy = False
        self._task: asyncio.Task[None] | None = None

    def send(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send it soon, from any thread; while there is no connection it waits for the next one."""
        frame = Frame(subject, reply, lines(headers), payload)
        with self._lock:
            self._waiting.append(frame)
            if self._busy:
                return
            self._busy = True
        try:
            self._bridge.post(self._begin)
        except Unavailable:
            self._busy = False
            log.debug("an answer to %s comes after the end", subject)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while lot := self._take():
                while not await self._sent(lot):
                    await self._bridge.ready()
        except BaseException:  # the loop ends; another one may begin
            self._busy = False
            raise

    def _take(self) -> list[Frame]:
        with self._lock:
            lot = [self._waiting.popleft() for _ in range(min(LOT, len(self._waiting)))]
            self._busy = bool(lot)
            return lot

    async def _sent(self, lot: list[Frame]) -> bool:
        """Send them; False when there was no connection to send them to."""
        try:
            client = self._bridge.connection
        except Unavailable:
            return False
        most = client.max_payload
        fitting = [each for each in lot if weight(each.headers, each.body) <= most]
        if len(fitting) < len(lot):
            log.warning("%d answers are larger than the bus takes and were not sent", len(lot) - len(fitting))
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if not plain(client):
                    await publish(client, fitting)
                elif write(client, fitting):
                    await drain(client)
                else:
                    await asyncio.sleep(RETRY_SECONDS)  # it is gone, and the bridge does not know yet
                    return False
        except NatsError as error:
            log.debug("answers wait for another connection: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            return False
        except TimeoutError:
            log.warning(
                "the connection took nothing for %g s: %d answers may be lost", SEND_SECONDS, len(lot)
            )
        return True
