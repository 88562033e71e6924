"""Whoever asks for tasks on `subscriptions/listen` is told of each change of theirs: `notifications/tasks`.

The SDK knows the stream and not the extension, so what it acknowledges is completed on its way out, and the
notifications go out beside its own.  A client that comes back asks again, and is told first how things stand.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import mcp_types as wire
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError

from bus.tasks import end
from events.errors import HindbrainError
from interfaces.mcp.tasks import Tasks, needed
from interfaces.mcp.tools import Call, quiet
from interfaces.mcp.working import follow

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]
Listen = Callable[[Context, wire.SubscriptionsListenRequestParams], Awaitable[wire.SubscriptionsListenResult]]

MOST = 50
"""Tasks that one stream may follow; what is beyond that is not acknowledged."""
UNTOLD = ("pollIntervalMs",)
"""What is no news by itself."""


class Changed(wire.Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task as `tasks/get` would answer it now.

    Its params are a dict, because a null in it has a meaning, and of models the SDK leaves nulls out.
    """

    method: Literal["notifications/tasks"] = "notifications/tasks"


class Telling:
    """Follows tasks for those who listen."""

    def __init__(self, engine: "ExecutionEngine", tasks: Tasks, rest: Listen) -> None:
        self._call, self._tasks, self._rest = Call(engine, quiet), tasks, rest

    async def listen(
        self, context: Context, params: wire.SubscriptionsListenRequestParams
    ) -> wire.SubscriptionsListenResult:
        """Tell one client from now on, until it goes."""
        wanted = (params.notifications.model_extra or {}).get("taskIds")
        if wanted is None:
            return await self._rest(context, params)
        needed(context)
        if not isinstance(wanted, list) or not all(isinstance(each, str) for each in cast("Any", wanted)):
            raise MCPError(wire.INVALID_PARAMS, "taskIds has to be a list of ids")
        agreed = await self._known(list(dict.fromkeys(cast("list[str]", wanted)))[:MOST])
        stream = _Stream(context.session, agreed)
        told = [asyncio.create_task(self._tell(context, stream, each)) for each in agreed]
        try:
            session = cast("ServerSession", stream)
            return await self._rest(dataclasses.replace(context, session=session), params)
        finally:
            await end(*told)

    async def _known(self, wanted: Sequence[str]) -> list[str]:
        """Those of them that are tasks of ours."""
        found = await asyncio.gather(*(self._tasks.task(each) for each in wanted), return_exceptions=True)
        return [name for name, task in zip(wanted, found, strict=True) if isinstance(task, dict)]

    async def _tell(self, context: Context, stream: "_Stream", name: str) -> None:
        await stream.begun.wait()
        meta = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        last: dict[str, Any] = {}
        async for told in follow(self._call, name):
            try:
                task = await self._tasks.task(name)
            except (HindbrainError, MCPError) as error:
                log.info("what %s is now cannot be told, and is asked for instead: %s", name, error)
                continue
            if task["status"] == "working" and told["kind"] == "execution" and told["text"]:
                # Progress is told before it is stored, and may not be told again.
                task["statusMessage"] = told["text"]
            said = {field: value for field, value in task.items() if field not in UNTOLD}
            if said != last:
                last = said
                await stream.send_notification(Changed(params={**task, "_meta": meta}), context.request_id)


class _Stream:
    """The way to one client, as far as the SDK's listener uses it."""

    def __init__(self, session: ServerSession, agreed: Sequence[str]) -> None:
        self._session, self._agreed = session, list(agreed)
        self.begun = asyncio.Event()
        """It was acknowledged, which is the first that goes out."""

    async def send_notification(self, notification: Any, related_request_id: Any = None) -> None:
        """Send one; in the acknowledgement say which tasks are followed."""
        if isinstance(notification, wire.SubscriptionsAcknowledgedNotification):
            honored = notification.params.notifications.model_dump(by_alias=True, exclude_none=True)
            agreed = wire.SubscriptionFilter.model_validate({**honored, "taskIds": self._agreed})
            params = notification.params.model_copy(update={"notifications": agreed})
            notification = notification.model_copy(update={"params": params})
        await self._session.send_notification(notification, related_request_id)
        self.begun.set()
