"""An agent as hosts make them: the official client of MCP, over standard input and output or over HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import mcp_types as wire
from foreign import Place, clean
from mcp.client.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, NotificationBinding, ResultClaim
from mcp.client.session import MessageHandlerFnT
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.waiting import became

TASKS = "io.modelcontextprotocol/tasks"


class Agent:
    """A client that counts its calls."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.calls: list[str] = []
        self.told: list[str | None] = []

    async def raw(self, tool: str, **arguments: Any) -> wire.CallToolResult:
        """Call a tool."""
        self.calls.append(tool)

        async def told(progress: float, total: float | None, message: str | None) -> None:
            self.told.append(message)

        return await self.client.call_tool(tool, arguments, progress_callback=told)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that has an answer."""
        done = await self.raw(tool, **arguments)
        assert not done.is_error, done.content
        return done.structured_content

    async def running(self, execution_id: str) -> dict[str, Any]:
        """Wait until it runs, and give what was seen then."""
        seen = await self.call("wait", execution_id=execution_id, timeout_seconds=0)
        while seen["execution"]["status"] != "running":
            seen = await self.further(execution_id, seen)
        return seen

    async def further(self, execution_id: str, seen: dict[str, Any]) -> dict[str, Any]:
        """Wait until something is different from what was seen."""
        return await self.call("wait", execution_id=execution_id, timeout_seconds=45, cursor=seen["cursor"])

    async def listening(self, execution_id: str, seen: dict[str, Any]) -> "asyncio.Task[dict[str, Any]]":
        """Begin to wait for that; it goes on once the agent was told how things stand."""
        self.told.clear()
        waiting = asyncio.create_task(self.further(execution_id, seen))
        await became(lambda: self.told)
        return waiting

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that says no, and give the error."""
        done = await self.raw(tool, **arguments)
        assert done.is_error, done.structured_content
        error = done.structured_content["error"]
        (said,) = done.content
        assert isinstance(said, wire.TextContent)
        assert said.text == f"{error['code']}: {error['message']}"
        return error


@asynccontextmanager
async def over_stdio(
    place: Place,
    mode: str = "auto",
    extensions: Sequence[ClientExtension] = (),
    options: Sequence[str] = (),
    heard: MessageHandlerFnT | None = None,
) -> AsyncGenerator[Agent]:
    """Start `hindbrain mcp` as a host does; `heard` gets every notification."""
    command, *arguments = place.command("mcp", *options)
    server = StdioServerParameters(command=command, args=arguments, env=clean())
    transport = stdio_client(server)
    async with Client(transport, mode=mode, extensions=list(extensions), message_handler=heard) as client:
        yield Agent(client)


@asynccontextmanager
async def over_http(
    url: str,
    mode: str = "auto",
    extensions: Sequence[ClientExtension] = (),
    token: str = "",
    heard: MessageHandlerFnT | None = None,
) -> AsyncGenerator[Agent]:
    """Connect to the HTTP door."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http),
            mode=mode,
            extensions=list(extensions),
            message_handler=heard,
        ) as client,
    ):
        yield Agent(client)


class Task(wire.Result):
    """A task in place of an answer."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    ttl_ms: int | None
    poll_interval_ms: int | None = None


class Params(wire.RequestParams):
    """Which task, and answers for it."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class Ask(wire.Request[Params, str]):
    """`tasks/get`, `tasks/update` or `tasks/cancel`."""

    method: str
    params: Params
    name_param = "taskId"


class Answer(wire.Result):
    """What they answer; all fields are kept."""

    model_config = {**wire.Result.model_config, "extra": "allow"}


class Pushed(wire.NotificationParams):
    """What is pushed about a task; all fields are kept."""

    model_config = {**wire.NotificationParams.model_config, "extra": "allow"}


async def listen(session: Any, **wanted: Any) -> None:
    """Ask to be told, and listen until cancelled; the client of the SDK has no words for tasks."""
    wish = wire.SubscriptionFilter.model_validate(wanted)
    params = wire.SubscriptionsListenRequestParams(notifications=wish)
    await session.send_request(
        wire.SubscriptionsListenRequest(params=params), wire.SubscriptionsListenResult, 600
    )


async def about(session: Any, method: str, task: str, **more: Any) -> dict[str, Any]:
    """Ask something about a task."""
    ask = Ask(method=method, params=Params(task_id=task, **more))
    answer: Answer = await session.send_request(ask, Answer)
    return answer.model_dump(by_alias=True)


class Tasking(ClientExtension):
    """A client that knows tasks, and polls them as often as it is told to."""

    identifier = TASKS

    def __init__(self) -> None:
        self.created: list[Task] = []
        self.polled = 0
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        """What was pushed."""

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=Task, resolve=self._resolve),)

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        method = "notifications/tasks"
        return (NotificationBinding(method=method, params_type=Pushed, handler=self._pushed),)

    async def _pushed(self, said: Pushed) -> None:
        await self.told.put(said.model_dump(by_alias=True))

    async def _resolve(self, task: Task, context: ClaimContext) -> wire.CallToolResult:
        self.created.append(task)
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        while True:
            now = await about(context.session, "tasks/get", task.task_id)
            self.polled += 1
            if now["status"] == "completed":
                return wire.CallToolResult.model_validate(now["result"])
            if now["status"] != "working":
                return wire.CallToolResult(content=[], structured_content=now)
            await asyncio.wait([never], timeout=now["pollIntervalMs"] / 1000)
