"""What many want to know at once is asked and heard once: for all who listen through one engine."""

import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from bus.tasks import end
from events.errors import HindbrainError
from events.ports import Chunk as Heard

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

HELD = 256
"""So many values wait for a slow reader; then the bus waits."""
QUIET_SECONDS = 3.0
"""After so long without a word it is asked whether there was something to say."""
RECENT_SECONDS = QUIET_SECONDS * 0.8
"""So old may an answer be that is shared."""
_KEPT: "weakref.WeakKeyDictionary[ExecutionEngine, dict[Hashable, tuple[float, asyncio.Task[Any]]]]" = (
    weakref.WeakKeyDictionary()
)
_TURNS: "weakref.WeakKeyDictionary[ExecutionEngine, dict[Hashable, _Turn]]" = weakref.WeakKeyDictionary()
_TAILS: "weakref.WeakKeyDictionary[ExecutionEngine, dict[Hashable, _Tail[Any]]]" = weakref.WeakKeyDictionary()


async def recent(engine: "ExecutionEngine", key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer to a question that somebody may have asked a moment ago: many who listen ask once.

    It is younger than any silence after which somebody asks, so it knows all that was said before.
    """
    kept = _KEPT.setdefault(engine, {})
    now = asyncio.get_running_loop().time()
    for old in [each for each, (asked, _) in kept.items() if asked <= now - RECENT_SECONDS]:
        del kept[old]
    if key not in kept:
        kept[key] = now, asyncio.create_task(ask())
    answer: asyncio.Task[T] = kept[key][1]
    try:
        return await asyncio.shield(answer)
    except HindbrainError:
        kept.pop(key, None)
        raise


async def fresh(engine: "ExecutionEngine", key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer to a question that is asked after this moment, once for all who want to know it meanwhile.

    While one is being answered, all who come wait for the next one together: what happened since somebody
    began to listen is in it, and however many come, one question is on its way.
    """
    turns = _TURNS.setdefault(engine, {})
    turn = turns.get(key)
    if turn is None or turn.begun:
        turn = turns[key] = _Turn(turn, ask)
        turn.task.add_done_callback(functools.partial(_answered, turns, key, turn))
    answer: asyncio.Task[T] = turn.task
    return await asyncio.shield(answer)


class _Turn:
    """One question, which begins when the one before it is answered."""

    def __init__(self, before: "_Turn | None", ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.begun = False
        self.task: asyncio.Task[Any] = asyncio.create_task(self._ask(before, ask))

    async def _ask(self, before: "_Turn | None", ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if before is not None:
            await asyncio.wait([before.task])
        self.begun = True
        return await ask()


def _answered(turns: "dict[Hashable, _Turn]", key: Hashable, turn: _Turn, task: "asyncio.Task[Any]") -> None:
    if turns.get(key) is turn:
        del turns[key]
    if not task.cancelled():
        task.exception()  # whoever still waits for it gets it


@contextlib.asynccontextmanager
async def tail(
    engine: "ExecutionEngine", execution_id: str, places: Mapping[str, int | None]
) -> "AsyncGenerator[tuple[asyncio.Queue[Heard | None], bool]]":
    """Listen to the output of an execution, together with whoever follows it through this engine already.

    It says whether somebody did.  A queue that is full is emptied but for the ends, and None in it sends its
    reader to the files: whoever is slow holds up nobody.
    """
    client = await engine.client()

    def listen() -> _Tail[Heard]:
        return _Tail(_opened(client.subscribe_output(execution_id, **places)), lambda piece: piece.end)

    whole = None not in places.values()
    joined = whole and execution_id in _TAILS.get(engine, ())
    async with _heard(engine, execution_id if whole else object(), listen) as heard:
        yield heard, joined


@contextlib.asynccontextmanager
async def told(
    engine: "ExecutionEngine", kind: str, entity: str
) -> "AsyncGenerator[asyncio.Queue[dict[str, Any] | None]]":
    """Listen to the progress of something, together with whoever does already; None: it has to be asked for.

    Whatever is told after this has begun is heard.
    """
    client = await engine.client()

    def final(said: dict[str, Any]) -> bool:
        return said["final"]

    def listen() -> _Tail[dict[str, Any]]:
        return _Tail(client.subscribe_progress(entity, kind), final)

    async with _heard(engine, (kind, entity), listen) as heard:
        yield heard


@contextlib.asynccontextmanager
async def _heard(
    engine: "ExecutionEngine", key: Hashable, listen: "Callable[[], _Tail[T]]"
) -> AsyncGenerator[asyncio.Queue[T | None]]:
    """One more who hears what one listens to for all."""
    tails = _TAILS.setdefault(engine, {})
    one: _Tail[T] | None = tails.get(key)
    if one is None:
        one = tails[key] = listen()
        one.task.add_done_callback(functools.partial(_over, tails, key, one))
    heard: asyncio.Queue[T | None] = asyncio.Queue(HELD)
    one.queues.add(heard)
    try:
        await asyncio.shield(one.open)
        yield heard
    finally:
        one.queues.discard(heard)
        if not one.queues:
            _over(tails, key, one)
            await end(one.task)


class _Source(Protocol[T_co]):
    """Something to listen to."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    def aclose(self) -> Coroutine[Any, Any, None]: ...


class _Tail(Generic[T]):
    """What is told about something, heard once for all who follow it."""

    def __init__(self, source: Awaitable[_Source[T | None]], last: Callable[[T], object]) -> None:
        self.queues: set[asyncio.Queue[T | None]] = set()
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Whether it listens, or why it cannot."""
        self._last = last
        self.task = asyncio.create_task(self._listen(source))

    async def _listen(self, opening: Awaitable[_Source[T | None]]) -> None:
        try:
            source = await opening
        except HindbrainError as error:
            self.open.set_exception(error)
            self.open.exception()  # it may be that nobody waits for it any more
            return
        self.open.set_result(None)
        try:
            async with contextlib.aclosing(source):
                async for each in source:
                    self._tell(each)
        except HindbrainError as error:
            log.info("nothing is heard any more, so it is asked for instead: %s", error)
        self._tell(None)

    def _tell(self, each: T | None) -> None:
        for queue in self.queues:
            if queue.full():
                waiting = [queue.get_nowait() for _ in range(queue.qsize())]
                for kept in (None, *(piece for piece in waiting if piece and self._last(piece))):
                    queue.put_nowait(kept)
            queue.put_nowait(each)


async def _opened(source: _Source[T]) -> _Source[T]:
    """What listens from its first reader on."""
    return source


def _over(tails: "dict[Hashable, _Tail[Any]]", key: Hashable, one: _Tail[Any], *_: object) -> None:
    if tails.get(key) is one:
        del tails[key]
