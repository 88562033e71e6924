"""Nodes ask each other, on `brain.node.<node>.<verb>`, where no client may listen or speak."""

import logging
from collections.abc import Callable

import msgspec
from nats.aio.msg import Msg

from bus import subjects
from bus.answers import Answers
from bus.bridge import Bridge, Subscription
from bus.services import BODY_MAX, Calls, Lots, Reply
from bus.tasks import Tasks
from events.errors import HindbrainError, Internal, Problem, Unavailable, revive
from events.ports import Call
from events.trace import read

log = logging.getLogger(__name__)

SERVE_SECONDS = 15.0
KIND = "peer"
"""The `kind` of the calls that come from other nodes."""

Answer = Callable[[bytes | HindbrainError], None]


class _Failure(msgspec.Struct):
    error: Problem


class Peers:
    """The other nodes, and this one as they see it."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._answers = Answers(bridge)
        self._served: list[Subscription] = []
        self._asking = Tasks("an answer of another node was not taken")

    def serve(self, node: str, listener: Calls) -> None:
        """Take what other nodes ask of this one: calls in lots, in the loop; returns when they can come.

        Their `kind` is `peer`, and they are answered like any other.
        """
        lots = Lots(self._bridge, listener)

        def hear(message: Msg) -> None:
            reply = Reply(self._answers, message.reply, BODY_MAX * 7, _nobody)
            verb = message.subject.rpartition(".")[2]
            trace = read((message.headers or {}).get("traceparent"))
            lots.add(Call(KIND, verb, message.data, reply.answer, reply.refuse, by="node", trace=trace))

        async def begin() -> None:
            every = subjects.peer(node, "x").removesuffix("x") + "*"
            self._served.append(await self._bridge.subscribe(every, hear))
            await self._bridge.ready()
            await self._bridge.request("$JS.API.INFO")

        self._bridge.call(begin(), SERVE_SECONDS)

    def stop(self) -> None:
        """Take no more."""

        async def end() -> None:
            while self._served:
                await self._bridge.unsubscribe(self._served.pop())

        self._bridge.call(end(), SERVE_SECONDS)

    def ask(self, node: str, verb: str, payload: bytes, timeout: float, done: Answer) -> None:
        """Ask another node; `done` gets its answer or an error, in the loop.

        `Unavailable`: that node does not run.  `Timeout`: no answer in `timeout` seconds.
        """
        subject = subjects.peer(node, verb)

        async def run() -> None:
            answer = await self._ask(subject, payload, timeout)
            if isinstance(answer, Unavailable):
                answer = Unavailable(f"the node {node} does not answer: {answer.message}")
            done(answer)

        self._bridge.post(lambda: self._asking.spawn(run()))

    async def _ask(self, subject: str, payload: bytes, within: float) -> bytes | HindbrainError:
        try:
            reply = await self._bridge.request(subject, payload, within=within)
        except HindbrainError as error:
            return error
        if "Nats-Service-Error" not in (reply.headers or {}):
            return reply.data
        return error_of(reply.data)


def error_of(body: bytes) -> HindbrainError:
    """Make the exception again that an error reply carries."""
    try:
        return revive(msgspec.json.decode(body, type=_Failure).error)
    except msgspec.MsgspecError as error:
        return Internal(f"an error reply that cannot be read: {error}")


def _nobody(_: HindbrainError | None) -> None:
    """Nobody counts these."""
