"""What a tool is: a function whose first annotation is what it takes and whose return type is what it says.

    @tool(READS, "How it is")
    async def status(call: Call, ask: Status) -> Standing:
        ...

Name and description come from the function, the schemas from its types.  `table` lists all of them.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, get_type_hints

import msgspec

from events.errors import Timeout, Unavailable, Validation
from events.message import Message
from events.spec import Strict

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Tell = Callable[[float, float | None, str | None], Awaitable[None]]
"""Says how far it is while somebody waits: progress, total, message."""

PATIENCE_SECONDS = 20.0
"""How long a node may be away, for example to start again, before a question fails."""
PAUSE_SECONDS = 0.5
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What hosts take as the name of a tool; a full match is meant."""


class Hints(NamedTuple):
    """What a host may tell its user before it calls (annotations of the MCP specification)."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


READS = Hints(read_only=True, destructive=False, idempotent=True, open_world=False)
RUNS = Hints(read_only=False, destructive=True, idempotent=False, open_world=True)
STEERS = Hints(read_only=False, destructive=False, idempotent=True, open_world=False)
STOPS = Hints(read_only=False, destructive=True, idempotent=True, open_world=False)


class Call:
    """One call of a tool: the facade, and a way to say how far it is."""

    def __init__(self, engine: "ExecutionEngine", tell: Tell, token: str | None = None) -> None:
        """Prepare; `token` is what its caller shows, to be taken for an administrator."""
        self.engine, self.tell, self.token = engine, tell, token

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask something that changes nothing, again while the node is away."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await ask()
            except (Timeout, Unavailable):
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)

    async def request(self, kind: str, verb: str, **payload: Any) -> dict[str, Any]:
        """Ask a verb that changes nothing, patiently; what is None is left out."""
        return await self.patiently(lambda: self.engine.request(kind, verb, **payload))


async def quiet(progress: float, total: float | None, message: str | None) -> None:
    """Say nothing, where nobody waits."""


class Tool(NamedTuple):
    """One tool."""

    name: str
    title: str
    text: str
    hints: Hints
    ask: type[Strict]
    reply: type[Message]
    run: Callable[[Call, Any], Awaitable[Message]]

    async def __call__(self, call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check the arguments and run it; errors are those of `events.errors`."""
        try:
            ask = msgspec.convert(arguments, self.ask)
        except msgspec.ValidationError as error:
            raise Validation(str(error)) from None
        reply = msgspec.to_builtins(await self.run(call, ask))
        return cast("dict[str, Any]", reply)

    @property
    def input(self) -> dict[str, Any]:
        """The schema of its arguments."""
        return _schema(self.ask)

    @property
    def output(self) -> dict[str, Any]:
        """The schema of its answer."""
        return _schema(self.reply)


def tool(hints: Hints, title: str) -> Callable[[Callable[[Call, Any], Awaitable[Message]]], Tool]:
    """Make a tool of a function; a name that hosts refuse fails at once."""

    def made(function: Callable[[Call, Any], Awaitable[Message]]) -> Tool:
        types = get_type_hints(function)
        name = function.__name__.rstrip("_")
        if not NAME.fullmatch(name):
            raise Validation(f"{name!r} cannot be the name of a tool")
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(function) or "")
        return Tool(name, title, text, hints, types["ask"], types["return"], function)

    return made


def _schema(kind: type[Any]) -> dict[str, Any]:
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    found = cast("dict[str, dict[str, Any]]", parts)
    own = found.pop(str(top["$ref"]).rpartition("/")[2])
    shown = {key: value for key, value in own.items() if key not in ("title", "description")}
    return {**shown, "$defs": found} if found else shown


def tokens(text: bytes) -> int:
    """How many tokens a text counts as: a third of its bytes, rounded up."""
    return -(-len(text) // 3)


def begun(kind: type[M], reply: dict[str, Any]) -> M:
    """What a tool says of something that is stored and will run; `duplicate` is said only when it is one."""
    kept = {name: reply[name] for name in kind.__struct_fields__ if name != "duplicate"}
    return kind(**kept, **({"duplicate": True} if reply.get("duplicate") else {}))


def cut(text: str | None, letters: int) -> str | None:
    """Shorten a text to one line of so many letters."""
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"
