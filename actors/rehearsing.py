"""Answers what a command would do to some entities: they are read and decided on, and nothing is stored."""

from collections.abc import Callable, Sequence
from typing import Any

from actors.clerk import Gather, answer
from events import rehearsal
from events.asks.rehearse import Line
from events.errors import NotFound
from events.message import Command, Message
from events.ports import Call, Decider, Loaded, Log


def rehearse(
    journal: Log,
    call: Call,
    decider: Decider[Any],
    names: Sequence[str],
    command: Command,
    reply: Callable[[list[Line]], Message],
) -> None:
    """Answer with a line for every entity, in the order of their names."""

    def line(each: Loaded) -> Line:
        return rehearsal.line(decider, each.entity, each.snapshot.state, command)

    read(journal, call, decider, names, line, reply)


def read(
    journal: Log,
    call: Call,
    decider: Decider[Any],
    names: Sequence[str],
    line: Callable[[Loaded], Line],
    reply: Callable[[list[Line]], Message],
) -> None:
    """Read these, and answer with what `line` says of each."""
    order = {name: place for place, name in enumerate(names)}

    def made(loaded: list[Loaded]) -> Message:
        for each in loaded:
            if each.error is not None:
                raise each.error
            if each.snapshot.n == 0:
                raise NotFound(f"{decider.kind.capitalize()} not found: {each.entity}")
        return reply([line(each) for each in sorted(loaded, key=lambda each: order[each.entity])])

    if order:
        gather = Gather[Loaded](len(order), lambda loaded: answer(call, lambda: made(loaded)))
        journal.load(decider, list(order), gather)
    else:
        answer(call, lambda: reply([]))
