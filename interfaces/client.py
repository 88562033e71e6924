"""The client for programs that have modules: it starts them, gives them work, and asks how they are doing.

    client = BrainClient(app_type="search", enable_search=True)
    task_id = client.submit_task_to_module("search_engine", "shop.index:rebuild", ("books",), Priority.HIGH)
    print(client.get_thread_status()["active_threads"])
    client.shutdown()

`AsyncBrainClient` has every method, as coroutines.  `BrainClient` has the same ones and waits for each.
Moments are seconds since 1970, and durations are seconds.
"""

import asyncio
import atexit
import enum
import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import msgspec

from actors import manifest
from events.clock import millis
from events.errors import Conflict, Timeout, Unavailable
from events.spec import urgency
from interfaces.api import ExecutionEngine
from interfaces.importable import task
from interfaces.inprocess import InProcess
from interfaces.settings import Settings, load

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""How long all modules may take to come up."""
LOOK_SECONDS = 5.0
"""How long a node may take to say that it is there."""


class Priority(enum.IntEnum):
    """How urgent a task is; its number or its name will do as well."""

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4
    IDLE = 5
    """Only when nothing else is active."""


class Row(NamedTuple):
    """A module that a client starts."""

    flag: str
    """The argument of the constructor that asks for it; empty for what every client has."""
    name: str
    category: str
    priority: str


MODULES = (
    Row("", "model_router", "core", "critical"),
    Row("", "context_manager", "core", "high"),
    Row("enable_caching", "optimizer", "phase5", "low"),
    Row("enable_search", "knowledge_retriever", "phase1", "high"),
    Row("enable_search", "search_engine", "phase2", "medium"),
    Row("enable_search", "web_crawler", "phase3", "medium"),
    Row("enable_learning", "self_learning", "agi", "medium"),
    Row("enable_agi", "advanced_reasoning", "advanced", "high"),
    Row("enable_agi", "multimodal_processor", "advanced", "medium"),
    Row("enable_agi", "personality_engine", "agi", "medium"),
    Row("enable_agi", "neural_reasoning", "agi", "high"),
    Row("enable_autonomy", "autonomous_system", "agi", "high"),
    Row("enable_autonomy", "code_executor", "phase4", "high"),
)
"""Which modules each argument starts, and what they are; a plugin or a setting of that name wins."""


class AsyncBrainClient:
    """A client of the node of a data folder, or of a bus; it opens at the first call, or with `async with`.

    Where no node is, it starts one in this process.  With `start=False` or `enabled=False` it runs tasks
    here instead, one after the other while `submit_task_to_module` waits, and forgets them at the end.
    """

    def __init__(
        self,
        app_type: str = "general",
        enable_caching: bool = False,
        enable_search: bool = False,
        enable_learning: bool = False,
        enable_agi: bool = False,
        enable_autonomy: bool = False,
        *,
        data: str | Path | None = None,
        nats: str | None = None,
        start: bool = True,
        enabled: bool = True,
    ) -> None:
        flags = {
            "": True,
            "enable_caching": enable_caching,
            "enable_search": enable_search,
            "enable_learning": enable_learning,
            "enable_agi": enable_agi,
            "enable_autonomy": enable_autonomy,
        }
        self.app_type, self._start, self._enabled = app_type, start, enabled
        self._settings = load({"data": None if data is None else str(data), "nats.url": nats})
        self._rows = [row for row in MODULES if flags[row.flag]]
        self._opening = asyncio.Lock()
        self._way: ExecutionEngine | InProcess | None = None
        self._over, self._seq = False, 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def open(self) -> "ExecutionEngine | InProcess":
        """Find a node or start one, and start the modules; answers by which way tasks go."""
        async with self._opening:
            if self._over:
                raise Conflict("this client was shut down: make another one")
            if self._way is None:
                self._way = await self._find()
            return self._way

    async def get_thread_status(self) -> dict[str, Any]:
        """All workers: `active_threads total_threads categories stats uptime module_threads enabled`.

        A category has `active total max utilisation` (in percent of `max`); `stats` are of all time.
        """
        return await self._threads(None)

    async def get_module_thread_status(self, module_name: str) -> dict[str, Any]:
        """One module and what became of its tasks.

        `state tasks_completed tasks_failed success_rate uptime queue_size last_activity errors`, where
        `success_rate` is a fraction from 0 to 1; and `category priority active total`.
        """
        return (await self._threads(module_name))["module_threads"][module_name]

    async def get_thread_decisions(self, limit: int = 50) -> list[dict[str, Any]]:
        """Read the last decisions about modules, oldest first: `timestamp type context data`."""
        way = await self.open()
        return [] if isinstance(way, InProcess) else await decisions(way, limit)

    async def pause_module(self, module_name: str) -> bool:
        """Have a module finish what it has in hand and take nothing more; its work waits."""
        return await self._turn(module_name, "pause") == "paused"

    async def resume_module(self, module_name: str) -> bool:
        """Have a module take work again."""
        return await self._turn(module_name, "resume") == "running"

    async def submit_task_to_module(
        self,
        module_name: str,
        function: Callable[..., Any] | str,
        args: Sequence[Any] = (),
        priority: Priority | int | str = Priority.MEDIUM,
    ) -> str:
        """Have a module run something, and answer the task's id, which is that of its execution.

        `function` is one that can be imported, `package.module:name`, or the name of a handler, which takes
        one argument.  Only in this process it may be any function.
        """
        way, level = await self.open(), urgency(int(priority) if isinstance(priority, Priority) else priority)
        if isinstance(way, InProcess):
            run = manifest.find(function) if isinstance(function, str) else function
            return await asyncio.to_thread(way.submit, module_name, run, tuple(args), level)
        ask = {"module": module_name, "priority": level, **task(module_name, function, args)}
        reply = await way.insist("module", "submit", {"idempotency_key": way.key(), **ask})
        return self._note(reply)["task_id"]

    async def shutdown(self, timeout: float = 15.0) -> None:  # noqa: ASYNC109 -- how long others may take
        """Let go of everything, twice is fine; a node that this client started may take so long to finish."""
        async with self._opening:
            self._over, way, self._way = True, self._way, None
        if isinstance(way, ExecutionEngine):
            await way.close(timeout)
        elif way is not None and (left := way.waiting):
            log.warning("%d tasks were waiting in this process and are forgotten", left)

    async def _find(self) -> "ExecutionEngine | InProcess":
        if self._enabled:
            for engine in self._engines():
                try:
                    await engine.request("node", "info", within=LOOK_SECONDS)
                    await asyncio.gather(*(self._begin(engine, row) for row in self._rows))
                except (Unavailable, Timeout) as error:
                    await engine.close()
                    log.info("no node: %s", error)
                    if engine.embedded:
                        raise
                except BaseException:
                    await engine.close()
                    raise
                else:
                    return engine
        why = "no node can be reached" if self._enabled else "this client is not enabled"
        log.warning("%s: tasks run in this process, and nothing of them is kept", why)
        return InProcess([row.name for row in self._rows])

    def _engines(self) -> list[ExecutionEngine]:
        found = [ExecutionEngine(self._settings)]
        return [*found, ExecutionEngine(_own(self._settings), embedded=True)] if self._start else found

    async def _begin(self, engine: ExecutionEngine, row: Row) -> None:
        profile = {"category": row.category, "priority": row.priority}
        self._note(await engine.request("module", "start", START_SECONDS, module=row.name, profile=profile))

    async def _threads(self, module: str | None) -> dict[str, Any]:
        way = await self.open()
        if isinstance(way, InProcess):
            return way.threads(module)
        return await way.request("module", "threads", module=module, min_seq=self._seq)

    async def _turn(self, module: str, verb: str) -> str:
        way = await self.open()
        reason = f"asked for by {self.app_type}"
        if isinstance(way, InProcess):
            return await asyncio.to_thread(way.turn, module, verb, reason)
        return self._note(await way.request("module", verb, module=module, reason=reason))["state"]

    def _note(self, reply: dict[str, Any]) -> dict[str, Any]:
        """Remember how far the log was: what this client asks next is to know of what it did."""
        self._seq = max(self._seq, reply["seq"])
        return reply


class BrainClient:
    """Every method of `AsyncBrainClient`, with the same arguments, for programs without a loop: each waits.

    Its client lives in a loop in a thread.  What is still open at the end of the program is shut down then.
    """

    def __init__(self, *args: Any, **how: Any) -> None:
        self._client, self._loop = AsyncBrainClient(*args, **how), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="brain-client", daemon=True)
        self._thread.start()
        atexit.register(self.shutdown, 10.0)
        try:
            self._wait(self._client.open())
        except BaseException:
            self.shutdown()
            raise

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return functools.wraps(method)(lambda *args, **how: self._wait(method(*args, **how)))

    def shutdown(self, timeout: float = 15.0) -> None:
        """Let go of everything, as `AsyncBrainClient.shutdown`."""
        atexit.unregister(self.shutdown)
        if not self._loop.is_closed():
            self._wait(self._client.shutdown(timeout))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop.is_closed():
            return asyncio.run(work)  # which says that it was shut down
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def decisions(engine: ExecutionEngine, limit: int) -> list[dict[str, Any]]:
    """Read the last decisions about modules, oldest first."""
    page = await engine.request("decision", "list", limit=limit)
    found = cast("list[Mapping[str, Any]]", page["decisions"])
    return [
        {
            "timestamp": millis(each["time"]) / 1000,
            **{name: each[name] for name in ("type", "context", "data")},
        }
        for each in reversed(found)
    ]


def _own(settings: Settings) -> Settings:
    """Settings of a node in this process: its HTTP door takes a free port unless somebody chose one."""
    if "http.port" in settings.origins:
        return settings
    return msgspec.structs.replace(settings, http=msgspec.structs.replace(settings.http, port=0))
