"""The facade: everything a program can do with Hindbrain, and what every other door is made of.

    async with ExecutionEngine.new({"data": "/srv/brain"}) as engine:
        execution_id = await engine.execute({"shell": {"command": "make"}})
        async for chunk in engine.output(execution_id):
            ...

It talks to the node of a data folder, to any node behind a NATS URL, or with `embedded=True` to one that it
starts in this process.  Errors are those of `events.errors`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import msgspec

from bus.tasks import apart, end
from events import service
from events.errors import Timeout, TooLarge, Unavailable, UnknownOutcome
from events.spec import BLOB_MAX, Submit
from events.trace import read
from interfaces.settings import Settings, load
from interfaces.whereabouts import NoNode, address

if TYPE_CHECKING:
    from bus.client import Client
    from interfaces.live import Chunk
    from interfaces.node import Node
    from interfaces.sinks import EventHandler

Request = Submit | Mapping[str, Any]
T = TypeVar("T")

ANSWER_SECONDS = 10.0
"""How long a request may take beyond what it asks to wait for."""
WAIT_SECONDS = 60.0
PAUSES = (0.2, 1.0, 3.0)
"""Seconds before each repeat of a submission whose outcome is unknown."""


class ExecutionEngine:
    """A connection to Hindbrain; it opens at the first call, or with `async with`, which also closes it."""

    def __init__(self, settings: Settings, embedded: bool = False) -> None:
        self.settings = settings
        self.embedded = embedded
        self.first_seq = 1
        """Where the log begins."""
        self.as_of = ""
        """The moment at which all that it shows stood still, RFC 3339; empty while things go on."""
        self._handlers: list[EventHandler] = []
        self._told: set[asyncio.Task[None]] = set()
        self._trace, self._token = "", ""
        self._node: Node | None = None
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    @classmethod
    def new(cls, config: Settings | Mapping[str, Any] | None = None, *, embedded: bool = False) -> Self:
        """Make an engine; `config` holds settings by their keys (`data`, `nats.url`, ...)."""
        return cls(config if isinstance(config, Settings) else load(config), embedded)

    def with_event_handler(self, handler: "EventHandler") -> Self:
        """Tell this handler what happens to everything that is executed through this engine."""
        self._handlers.append(handler)
        return self

    def with_trace(self, traceparent: str) -> Self:
        """Let what this engine asks for belong to a trace (W3C traceparent); what is none is passed over."""
        self._trace = read(traceparent)
        return self

    def with_token(self, token: str) -> Self:
        """Show the administrators' token with everything that this engine asks for."""
        self._token = token
        return self

    async def __aenter__(self) -> Self:
        await self.client()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, wait_seconds: float | None = None) -> None:
        """Let go of the connection, and stop the node if it is our own; may be called twice.

        What runs on our own node may end for so long first.
        """
        await end(*self._told)
        client, self._client = self._client, None
        node, self._node = self._node, None
        if client is not None:
            await client.close()
        if node is not None:
            await apart(lambda: node.stop(wait_seconds=wait_seconds))

    async def client(self) -> "Client":
        """Connect, once; `NoNode` when nobody is there."""
        from bus.client import Client

        async with self._opening:
            if self._client is None:
                if self.embedded and self._node is None:
                    from interfaces.node import Node

                    node = Node(self.settings)
                    await asyncio.to_thread(node.start)
                    self._node = node
                self._client = await Client.connect(address(self.settings))
                self._client.trace, self._client.token = self._trace, self._token
            return self._client

    async def request(
        self, kind: str, verb: str, /, within: float = ANSWER_SECONDS, **payload: Any
    ) -> dict[str, Any]:
        """Ask any verb; `within` in seconds.  What is None is left out."""
        return await self.call(
            kind, verb, {name: value for name, value in payload.items() if value is not None}, within
        )

    async def call(
        self,
        kind: str,
        verb: str,
        body: dict[str, Any],
        within: float = ANSWER_SECONDS,
        trace: str = "",
        token: str = "",
    ) -> dict[str, Any]:
        """Ask any verb with a body as it stands; all other questions are asked through this one."""
        return await (await self.client()).request(kind, verb, body, within, trace, token)

    async def insist(self, kind: str, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for something that has an idempotency key, again when its outcome is unknown."""
        for pause in PAUSES:
            try:
                return await self.request(kind, verb, **body)
            except (UnknownOutcome, Timeout, Unavailable) as error:
                if isinstance(error, NoNode):
                    raise
                await asyncio.sleep(pause)
        return await self.request(kind, verb, **body)

    def key(self) -> str:
        """Make an idempotency key that nobody else has."""
        return f"engine-{uuid.uuid4()}"

    async def execute(self, request: Request) -> str:
        """Have something run in the background; answers its id once that is stored."""
        return (await self.submit(request)).execution_id

    async def submit(self, request: Request) -> service.Accepted:
        """Do as `execute` does, with the whole reply.

        An idempotency key goes with it, so an unknown outcome is asked for again without harm.  Bytes are
        fine for `code` and `stdin`.
        """
        wish: Any = request if isinstance(request, Submit) else dict(request)
        body = cast("dict[str, Any]", msgspec.to_builtins(wish, builtin_types=(bytes,)))
        body.setdefault("idempotency_key", self.key())
        for name in ("code", "stdin"):
            if isinstance(body.get(name), bytes):
                body[name] = await self._light(name, body[name])
        reply = msgspec.convert(await self.insist("execution", "submit", body), service.Accepted)
        if self._handlers:
            from interfaces.sinks import tell

            task = asyncio.create_task(tell(self, reply.execution_id, list(self._handlers)))
            self._told.add(task)
            task.add_done_callback(self._told.discard)
        return reply

    async def execute_plan(self, plan: Mapping[str, Any] | str | Path) -> str:
        """Run a plan, given as `brain.cmd.plan.submit` takes it or as a file; answers its id once stored."""
        if not isinstance(plan, Mapping):
            from interfaces.planfile import read

            plan = cast("dict[str, Any]", msgspec.to_builtins(read(plan).tree))
        return (await self.submit_plan(("plan", "submit"), plan))["plan_id"]

    async def submit_plan(self, verb: tuple[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """Have a plan, a batch or a template started by its verb; an unknown outcome is asked for again."""
        given = {name: value for name, value in body.items() if value is not None}
        return await self.insist(*verb, {"idempotency_key": self.key(), **given})

    async def get_status(self, execution_id: str) -> service.Execution:
        """One execution as it is now."""
        return (await self._ask("execution", "get", service.One, execution_id=execution_id)).execution

    async def get_result(self, execution_id: str, max_bytes: int | None = None) -> service.Outcome:
        """Exit code and output; `NotOver` before the end."""
        reply = await self._ask(
            "execution", "result", service.Came, execution_id=execution_id, max_bytes=max_bytes
        )
        return reply.result

    async def cancel(
        self, execution_id: str, reason: str | None = None, grace_ms: int | None = None
    ) -> service.Stopped:
        """Stop it with its whole process tree; what is over stays as it is."""
        ask: dict[str, Any] = {"execution_id": execution_id, "reason": reason, "grace_ms": grace_ms}
        return await self._ask("execution", "cancel", service.Stopped, **ask)

    async def retry(self, execution_id: str, secrets: Mapping[str, str] | None = None) -> service.Accepted:
        """Run the same again as a new execution; values of secrets are gone and needed again."""
        ask: dict[str, Any] = {"execution_id": execution_id, "secrets": dict(secrets) if secrets else None}
        return await self._ask("execution", "retry", service.Accepted, **ask)

    async def list_executions(self, **which: Any) -> list[dict[str, Any]]:
        """Executions in short, newest first: `status module label plan_id limit before`."""
        return (await self._ask("execution", "list", service.Page, **which)).executions

    async def wait_for_completion(
        self, execution_id: str, timeout_seconds: float | None = None
    ) -> service.Execution:
        """Wait for the end, through restarts of the node too; `Timeout` when the time is up first."""
        reply = await self._patiently("execution", {"execution_id": execution_id}, timeout_seconds)
        over = msgspec.convert(reply, service.Waited)
        if not over.done:
            raise Timeout(f"not over after {timeout_seconds:g} s", status=over.execution.status)
        return over.execution

    async def wait_for_plan(
        self, plan_id: str, timeout_seconds: float | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Wait for the end of a plan; gives it, and whether it is over."""
        reply = await self._patiently("plan", {"plan_id": plan_id}, timeout_seconds)
        return reply["plan"], reply["done"]

    async def read_logs(self, execution_id: str) -> "list[Chunk]":
        """All output until now, both streams merged by time, each chunk marked with its stream."""
        from interfaces.live import stored

        return [chunk async for chunk in stored(self, execution_id)]

    def output(
        self, execution_id: str, offsets: Mapping[str, int] | None = None, follow: bool = True
    ) -> "AsyncIterator[Chunk]":
        """Output from the given byte offsets (`{"stdout": 0, "stderr": 0}`; a stream left out is not read).

        It goes on live until the execution is over, without a gap or a repeat; with `follow=False` until now.
        """
        from interfaces.live import follow as following
        from interfaces.live import stored

        return (following if follow else stored)(self, execution_id, offsets)

    def progress(self, entity: str) -> AsyncIterator[dict[str, Any]]:
        """How far an execution, a plan or a playbook is, live; the last one has `final: true`."""
        from interfaces.live import progress

        return progress(self, entity)

    async def events(self, execution_id: str) -> list[dict[str, Any]]:
        """Every fact of one execution with its envelope, oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            ask: dict[str, Any] = {"execution_id": execution_id, "after_seq": after, "limit": 1000}
            page = (await self.request("execution", "events", **ask))["events"]
            found += page
            if len(page) < 1000:
                return found

    async def last_seq(self) -> int:
        """The sequence of the log's last event: give it as `min_seq` to read what was written before."""
        from bus.reader import state

        return int((await state((await self.client()).bridge))["last_seq"])

    async def sql(self, query: str, **how: Any) -> service.Table:
        """Ask the tables: `params seq at min_seq limit timeout_ms`."""
        wait = ANSWER_SECONDS + how.get("timeout_ms", 5000) / 1000
        return await self._ask("query", "sql", service.Table, within=wait, sql=query, **how)

    async def _patiently(
        self, kind: str, which: dict[str, str], timeout_seconds: float | None
    ) -> dict[str, Any]:
        """Ask `wait` until something is over or the time is up, through restarts of the node too."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        away = 0
        while True:
            left = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - loop.time())
            wait = {**which, "timeout_ms": max(0, round(left * 1000))}
            try:
                reply = await self.request(kind, "wait", max(0.0, left) + ANSWER_SECONDS, **wait)
            except (Timeout, Unavailable):
                away += 1
                if away > WAIT_SECONDS or (deadline is not None and left <= 0):
                    raise
                await asyncio.sleep(1)
                continue
            away = 0
            if reply["done"] or (deadline is not None and loop.time() >= deadline):
                return reply

    async def _ask(
        self, kind: str, verb: str, reply: type[T], *, within: float = ANSWER_SECONDS, **payload: Any
    ) -> T:
        return msgspec.convert(await self.request(kind, verb, within, **payload), reply)

    async def _light(self, name: str, content: bytes) -> dict[str, str]:
        """Put what is no text into the object store, and name it by its hash instead."""
        if len(content) > BLOB_MAX:
            raise TooLarge(f"{name} is larger than {BLOB_MAX} bytes", field=name)
        return {"blob": await (await self.client()).put(content)}
