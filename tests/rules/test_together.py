"""Many who want to know the same at once: few questions, and no answer from before somebody asked."""

import asyncio
from typing import Any, cast

import pytest

from events.errors import Unavailable
from interfaces.api import ExecutionEngine
from interfaces.together import fresh
from tests.waiting import became

pytestmark = pytest.mark.asyncio


class Oracle:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.refuses = False

    async def ask(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.gate.wait()
        if self.refuses:
            raise Unavailable
        return mine

    def fresh(self) -> "asyncio.Task[int]":
        """Want to know."""
        return asyncio.create_task(fresh(cast("ExecutionEngine", self), "key", self.ask))


async def test_all_who_come_at_once_ask_once() -> None:
    oracle = Oracle()
    wanting = [oracle.fresh() for _ in range(200)]
    await became(lambda: oracle.asked == 1)
    oracle.gate.set()
    assert set(await asyncio.gather(*wanting)) == {1}
    assert await oracle.fresh() == 2


async def test_who_comes_while_it_is_answered_gets_no_answer_from_before() -> None:
    oracle = Oracle()
    first = oracle.fresh()
    await became(lambda: oracle.asked == 1)
    later = [oracle.fresh() for _ in range(200)]
    await asyncio.sleep(0)
    assert oracle.asked == 1
    oracle.gate.set()
    assert await first == 1
    assert set(await asyncio.gather(*later)) == {2}


async def test_a_refusal_is_everybodys_and_the_next_one_asks_again() -> None:
    oracle = Oracle()
    oracle.gate.set()
    oracle.refuses = True
    found: list[Any] = await asyncio.gather(*(oracle.fresh() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable] * 3
    oracle.refuses = False
    assert await oracle.fresh() == 2


async def test_who_goes_takes_nothing_from_the_others() -> None:
    oracle = Oracle()
    gone, stays = oracle.fresh(), oracle.fresh()
    await became(lambda: oracle.asked == 1)
    gone.cancel()
    oracle.gate.set()
    assert await stays == 1
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
