"""Requests come in as NATS services, and answers leave from whatever thread has them.

Every process that serves verbs is one instance of the service `hindbrain`, found by `$SRV.INFO`, with an
endpoint `brain.cmd.<kind>.<verb>` for each; nodes that serve the same verb share its requests.  An error is
`{"error": {code, message, details}}` with the code and its number in `Nats-Service-Error` and
`Nats-Service-Error-Code` (nats-architecture-and-design, ADR-32).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.micro.request import Request
from nats.micro.service import EndpointStats, Service, ServiceConfig

from bus import subjects
from bus.answers import Answers
from bus.bridge import Bridge
from bus.tasks import end
from events.errors import HindbrainError, Internal, TooLarge, Trouble
from events.ports import Call
from events.service import Verb
from events.trace import read

log = logging.getLogger(__name__)

BODY_MAX = 1024 * 1024
"""The largest command, in bytes."""
SHOWN = "Brain-Token"
"""The header in which administrators show their token."""
SERVE_SECONDS = 15.0
STOP_SECONDS = 2.0

Calls = Callable[[list[Call]], None]


class Reply:
    """The way back to one who asked; the first answer counts, and none is sent to who wants none."""

    __slots__ = ("_answers", "_given", "_limit", "_subject", "_tell")

    def __init__(
        self, answers: Answers, subject: str, limit: int, tell: Callable[[HindbrainError | None], None]
    ) -> None:
        self._answers = answers
        self._subject = subject
        self._limit = limit
        self._tell = tell
        self._given = False

    def answer(self, body: bytes) -> None:
        """Say yes; what is larger than the bus takes becomes `too_large`."""
        if len(body) > self._limit:
            said = f"the reply has {len(body)} bytes, the bus takes {self._limit}: ask for less"
            self.refuse(TooLarge(said))
            return
        self._send(body, None, None)

    def refuse(self, error: HindbrainError) -> None:
        """Say no, and why."""
        self._send(failure(error), {"Nats-Service-Error": error.code, **_number(error)}, error)

    def _send(self, body: bytes, headers: dict[str, str] | None, error: HindbrainError | None) -> None:
        if self._given:
            return
        self._given = True
        self._tell(error)
        if self._subject:
            self._answers.send(self._subject, body, headers)


def failure(error: HindbrainError) -> bytes:
    """An error as the body of a reply; what cannot be written as JSON is said in words."""
    return msgspec.json.encode({"error": error.problem}, enc_hook=repr)


def _number(error: HindbrainError) -> dict[str, str]:
    return {"Nats-Service-Error-Code": str(error.status)}


class Lots:
    """Calls one by one become lots: what came in one turn of the loop is handed over together."""

    def __init__(self, bridge: Bridge, listener: Calls) -> None:
        self._bridge = bridge
        self._listener = listener
        self._lot: list[Call] = []

    def add(self, call: Call) -> None:
        """Hand it over at the end of this turn; in the loop only."""
        self._lot.append(call)
        if len(self._lot) == 1:
            self._bridge.loop.call_soon(self._hand)

    def _hand(self) -> None:
        lot, self._lot = self._lot, []
        try:
            self._listener(lot)
        except HindbrainError as error:
            for call in lot:
                call.refuse(error)
        except Exception:  # whatever it was, those who asked shall not wait for ever
            log.exception("%d requests were not taken", len(lot))
            for call in lot:
                call.refuse(Internal())


class _Endpoint:
    """One verb, and what `$SRV.STATS` says of it."""

    def __init__(self, services: "Services", verb: Verb) -> None:
        self.verb = verb
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.nanoseconds = 0
        self._services = services

    async def handle(self, request: Request) -> None:
        """Take a request from nats.micro."""
        self.hear(request._msg)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001  the only way to the reply subject, which the answer needs after this handler returned

    def hear(self, message: Msg) -> None:
        """Take a request; it is answered later, so that the next one need not wait."""
        self.requests += 1
        began = time.perf_counter_ns()

        def tell(error: HindbrainError | None) -> None:
            self.nanoseconds += time.perf_counter_ns() - began
            if error is not None:
                self.last_error = error.code
                self.errors += isinstance(error, Trouble)

        self._services.take(self.verb, message, tell)


class Services:
    """The verbs that this process serves.

    `listener` gets calls in lots, in the loop of the bus, and must be quick; an error that it raises is the
    answer to all of the lot.  After every reconnection the same is served again.
    """

    def __init__(
        self,
        bridge: Bridge,
        verbs: Sequence[Verb],
        listener: Calls,
        *,
        by: str = "client",
        name: str = "hindbrain",
        description: str = "Runs things in the background and never forgets what happened.",
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; `details` is the metadata of the service (which node it is)."""
        self._bridge = bridge
        self._by = by
        self._name = name
        self._description = description
        self._details = dict(details or {})
        self._lots = Lots(bridge, listener)
        self._answers = Answers(bridge)
        self._endpoints = {subjects.command(verb.kind, verb.name): _Endpoint(self, verb) for verb in verbs}
        self._limit = BODY_MAX
        self._service: Service | None = None
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve; returns when requests can come.  From any thread but the loop's."""
        self._bridge.call(self._begin(), SERVE_SECONDS)

    def stop(self) -> None:
        """Serve no longer; what was taken can still be answered."""
        try:
            self._bridge.call(self._end(), STOP_SECONDS)
        except Trouble as error:  # without a connection nothing is served anyway
            log.debug("the services end without a connection: %s", error)

    def take(self, verb: Verb, message: Msg, tell: Callable[[HindbrainError | None], None]) -> None:
        """Make a call of a request."""
        reply = Reply(self._answers, message.reply, self._limit, tell)
        body = message.data
        if len(body) > BODY_MAX:
            reply.refuse(too_large(len(body)))
            return
        headers = message.headers or {}
        trace, token = read(headers.get("traceparent")), headers.get(SHOWN, "")
        way = (reply.answer, reply.refuse)
        self._lots.add(Call(verb.kind, verb.name, body, *way, by=self._by, trace=trace, token=token))

    async def _begin(self) -> None:
        if self._again in self._bridge.on_reconnect:
            return
        self._bridge.on_reconnect.append(self._again)
        await self._bridge.ready()
        await self._serve()

    async def _end(self) -> None:
        if self._again in self._bridge.on_reconnect:
            self._bridge.on_reconnect.remove(self._again)
        await end(self._serving)
        service, self._service = self._service, None
        if service is not None and self._bridge.connected:
            await service.stop()

    def _again(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
        self._serving = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        try:
            await self._serve()
        except (NatsError, Trouble) as error:  # the connection was lost again; the next one comes here too
            log.info("the services could not be set up: %s", error)

    async def _serve(self) -> None:
        client = self._bridge.connection
        self._limit = client.max_payload - 4096
        config = ServiceConfig(
            name=self._name,
            version=metadata.version("hindbrain"),
            description=self._description,
            metadata=self._details,
            queue_group=self._name,
            stats_handler=self._count,
        )
        service = self._service = Service(client, config)
        await service.start()
        for subject, endpoint in self._endpoints.items():
            verb = endpoint.verb
            await service.add_endpoint(
                name=f"{verb.kind}-{verb.name}",
                subject=subject,
                handler=endpoint.handle,
                metadata={
                    "request": verb.request.__name__,
                    "reply": verb.reply.__name__,
                    "description": verb.text,
                },
            )
        self._bridge.adopt({subject: endpoint.hear for subject, endpoint in self._endpoints.items()})
        # The server has all of it when it answers a request that was sent behind it.
        await self._bridge.request("$JS.API.INFO")

    def _count(self, stats: EndpointStats) -> dict[str, Any]:
        """Correct what nats.micro counts: it measures handlers that return before there is an answer."""
        endpoint = self._endpoints[stats.subject]
        stats.num_requests = endpoint.requests
        stats.num_errors = endpoint.errors
        stats.last_error = endpoint.last_error
        stats.processing_time = endpoint.nanoseconds
        stats.average_processing_time = endpoint.nanoseconds // max(1, endpoint.requests)
        return {}


def too_large(size: int) -> TooLarge:
    """What is answered to a command that is larger than allowed."""
    return TooLarge(f"the command has {size} bytes, at most {BODY_MAX} are allowed", limit=BODY_MAX)
