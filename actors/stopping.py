"""The desk that cancels many executions at once, or says what a cancel would do."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors import choosing, clerk
from actors.again import Again
from actors.clerk import Gather
from actors.rehearsing import rehearse
from events import execution, ids, rehearsal, service
from events.asks.rehearse import Line
from events.errors import HindbrainError, NotFound
from events.execution import EXECUTION
from events.message import Message
from events.ports import Call, Log


class Stopping:
    """Finds them, and asks for each as if somebody had named it."""

    def __init__(self, journal: Log, again: Again, one: Callable[[Sequence[Call]], None]) -> None:
        """Prepare; `one` takes requests to cancel single executions."""
        self._log, self._again, self._one = journal, again, one

    def cancel(self, ask: service.Cancel, call: Call) -> None:
        """Answer a request that names no single execution, or only rehearses."""
        if ask.execution_id is not None:
            if not ids.TOKEN.fullmatch(ask.execution_id):
                raise NotFound(f"Execution not found: {ask.execution_id}", execution_id=ask.execution_id)
            self._rehearse(ask, call, [ask.execution_id])
            return
        sql, params = choosing.live(ask.where, ask.limit)

        def chosen(rows: list[list[Any]]) -> None:
            names = [row[0] for row in rows]
            if ask.rehearse:
                self._rehearse(ask, call, names)
            else:
                self._many(ask, call, names)

        self._again.choose(call, sql, params, chosen, ask.min_seq)

    def _rehearse(self, ask: service.Cancel, call: Call, names: list[str]) -> None:
        def reply(lines: list[Line]) -> Message:
            return service.Stopped(seq=0, rehearsed=lines, note=rehearsal.FINAL)

        command = execution.Cancel(reason=ask.reason, grace_ms=ask.grace_ms)
        rehearse(self._log, call, EXECUTION, names, command, reply)

    def _many(self, ask: service.Cancel, call: Call, names: list[str]) -> None:
        def done(found: list[dict[str, Any] | service.Refused]) -> None:
            stopped = [each for each in found if isinstance(each, dict)]
            made = service.Stopped(
                seq=max((each["seq"] for each in stopped), default=0),
                cancelled=[each["execution_id"] for each in stopped if each["changed"]],
                refused=[each for each in found if isinstance(each, service.Refused)],
            )
            clerk.answer(call, lambda: made)

        if not names:
            done([])
            return
        gather = Gather[dict[str, Any] | service.Refused](len(names), done)
        more = {"reason": ask.reason, "grace_ms": ask.grace_ms}
        self._one([self._call(call, name, more, gather) for name in names])

    def _call(
        self, call: Call, name: str, more: dict[str, Any], gather: Gather[dict[str, Any] | service.Refused]
    ) -> Call:
        def refuse(error: HindbrainError) -> None:
            gather([service.Refused(execution_id=name, error=msgspec.to_builtins(error.problem))])

        body = msgspec.json.encode({"execution_id": name, **more})
        return Call(
            "execution",
            "cancel",
            body,
            lambda reply: gather([msgspec.json.decode(reply)]),
            refuse,
            by=call.by,
            trace=call.trace,
        )
