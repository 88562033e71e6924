"""The tables at one moment: a page asks all its questions of the same one."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from events.clock import millis, stamp
from events.errors import Timeout, Validation

if TYPE_CHECKING:
    from interfaces.api import ExecutionEngine

Row = dict[str, Any]

PATIENCE_MS = 20_000
"""How long a question of a page may take."""
SEQ_MAX = 2**53


class Look:
    """What there is to see as of an event, as of a time, or now."""

    def __init__(self, engine: "ExecutionEngine", now: int) -> None:
        self.engine = engine
        self.past = False
        self.now = now
        """The moment, in milliseconds since 1970; ages are counted from it."""
        self.seq = 0
        """The last event that it knows."""
        self.known = 0
        """The last event that the tables know."""
        self._how: dict[str, Any] = {}

    @classmethod
    async def open(
        cls, engine: "ExecutionEngine", now: int, seq: str = "", at: str = "", min_seq: str = ""
    ) -> "Look":
        """Look at an event (`seq`), a time (`at`), or now; then at least at `min_seq`, if that comes soon."""
        look = cls(engine, now)
        if seq and at:
            raise Validation("seq and at: give one of them", field="seq")
        mark = "SELECT seq FROM projection_bookmarks WHERE name = 'events'"
        table = None
        if min_seq:
            with contextlib.suppress(Timeout):  # a page of a moment ago is better than none
                table = await engine.sql(mark, min_seq=_number(min_seq, "min_seq"))
        table = table or await engine.sql(mark)
        look.known = look.seq = int(table.rows[0][0]) if table.rows else 0
        if seq or at:
            look.past = True
            look._how = {"seq": min(_number(seq, "seq"), look.known)} if seq else {"at": _time(at)}
            await look._place(at)
        return look

    async def _place(self, at: str) -> None:
        """Find the event and the time of this moment of the past."""
        table = await self.engine.sql("SELECT max(seq), max(time) FROM events", **self._how)
        self.seq, last = table.seq, table.rows[0][1]
        self._how = {"seq": self.seq}
        self.now = min(self.now, millis(_time(at))) if at else millis(last) if last else self.now

    @property
    def still(self) -> bool:
        """Whether nothing can be done and nothing will change: it is the past, or no node is there."""
        return self.past or bool(self.engine.as_of)

    @property
    def time(self) -> str:
        """The moment, RFC 3339 UTC."""
        return stamp(self.now)

    async def rows(self, query: str, *params: Any, limit: int = 1000) -> list[Row]:
        """Ask the tables as of this moment."""
        return await self._ask(query, params, limit, **self._how)

    async def samples(self, query: str, *params: Any) -> list[Row]:
        """Ask what has no past of its own; the query itself looks at this moment, as `$1`."""
        return await self._ask(query, (self.time.rstrip("Z"), *params), 1000)

    async def all(self, *questions: str) -> list[list[Row]]:
        """Ask several questions at once."""
        return list(await asyncio.gather(*(self.rows(each) for each in questions)))

    async def _ask(self, query: str, params: tuple[Any, ...], limit: int, **how: Any) -> list[Row]:
        table = await self.engine.sql(
            query, params=list(params) or None, limit=limit, timeout_ms=PATIENCE_MS, **how
        )
        names = [column.name for column in table.columns]
        return [dict(zip(names, row, strict=True)) for row in table.rows]


def _number(text: str, field: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > SEQ_MAX:
        raise Validation(f"{field} is {text!r}: it must be the number of an event", field=field)
    return int(text)


def _time(text: str) -> str:
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return stamp(round(found.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise Validation(f"at is {text!r}: write it like 2026-01-31T12:00:00Z", field="at") from None
