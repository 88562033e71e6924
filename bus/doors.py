"""The front door, asked from inside: what one of our own processes wants to know of another."""

import logging

from bus import subjects
from bus.bridge import Bridge
from bus.peers import Answer, error_of
from bus.services import SHOWN
from bus.tasks import Tasks
from events.errors import HindbrainError

log = logging.getLogger(__name__)


class Doors:
    """Requests on the public verbs."""

    def __init__(self, bridge: Bridge, token: str = "") -> None:
        """Prepare; `token` is shown with every request."""
        self._bridge = bridge
        self._headers = {SHOWN: token} if token else None
        self._asking = Tasks("an answer was not taken")

    def request(self, kind: str, verb: str, body: bytes, timeout: float, done: Answer) -> None:
        """Ask; `done` gets the reply or an error, in the loop.  Callable from any thread."""

        async def run() -> None:
            done(await self._ask(subjects.command(kind, verb), body, timeout))

        self._bridge.post(lambda: self._asking.spawn(run()))

    async def _ask(self, subject: str, body: bytes, within: float) -> bytes | HindbrainError:
        try:
            reply = await self._bridge.request(subject, body, within=within, headers=self._headers)
        except HindbrainError as error:
            return error
        if "Nats-Service-Error" in (reply.headers or {}):
            return error_of(reply.data)
        return reply.data
