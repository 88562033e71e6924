"""What many want to know at once is asked and heard once: for all who listen through one engine."""

import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from bus.tasks import end
from events.errors import HindbrainError
from events.ports import Chunk as Heard

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

log = logging.getLogger(__name__)

T = TypeVar("T")

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
_TAILS: "weakref.WeakKeyDictionary[ExecutionEngine, dict[str, _Tail]]" = weakref.WeakKeyDictionary()


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
    tails = _TAILS.setdefault(engine, {})
    whole = None not in places.values()
    one = tails.get(execution_id) if whole else None
    joined = one is not None
    if one is None:
        one = _Tail(client.subscribe_output(execution_id, **places))
        if whole:
            tails[execution_id] = one
            one.task.add_done_callback(functools.partial(_over, tails, execution_id, one))
    heard: asyncio.Queue[Heard | None] = asyncio.Queue(HELD)
    one.queues.add(heard)
    try:
        yield heard, joined
    finally:
        one.queues.discard(heard)
        if not one.queues:
            _over(tails, execution_id, one)
            await end(one.task)


class _Tail:
    """What an execution writes, heard once for all who follow it."""

    def __init__(self, source: AsyncGenerator[Heard]) -> None:
        self.queues: set[asyncio.Queue[Heard | None]] = set()
        self.task = asyncio.create_task(self._listen(source))

    async def _listen(self, source: AsyncGenerator[Heard]) -> None:
        try:
            async with contextlib.aclosing(source):
                async for each in source:
                    self._tell(each)
        except HindbrainError as error:
            log.info("nothing is heard any more, so it is asked for instead: %s", error)
        self._tell(None)

    def _tell(self, each: "Heard | None") -> None:
        for queue in self.queues:
            if queue.full():
                waiting = [queue.get_nowait() for _ in range(queue.qsize())]
                for kept in (None, *(piece for piece in waiting if piece and piece.end)):
                    queue.put_nowait(kept)
            queue.put_nowait(each)


def _over(tails: "dict[str, _Tail]", execution_id: str, one: _Tail, *_: object) -> None:
    if tails.get(execution_id) is one:
        del tails[execution_id]
