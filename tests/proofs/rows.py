"""Random batches that are led at random, by rules alone."""

from collections import Counter
from random import Random

import msgspec

from events import plan
from events.errors import Conflict, HindbrainError
from events.plan import (
    Advance,
    Advanced,
    AnyCommand,
    AnyEvent,
    Cancel,
    Extend,
    Extended,
    Launch,
    Pause,
    Rerun,
    Result,
    Resume,
    Rollback,
    Seal,
    State,
    StepUndone,
    Submit,
    UndoStarted,
)
from events.planned import Cancelled, Completed, Ended, Failed, RerunRequested
from events.spec import Exec
from events.spec import Submit as Ask
from events.steps import Definition, Operations
from tests.proofs.courses import fact

ASK = Ask(exec=Exec(program="echo", args=["${item}", "${index}"]))


class Row:
    """One batch, and whoever leads it."""

    def __init__(self, definition: Definition, opened: bool, size: int) -> None:
        self.definition, self.size, self.opened = definition, size, opened
        self.state, self.n = State(), 0
        self.status: dict[int, str] = {}
        self.starts: Counter[tuple[int, int]] = Counter()
        self.order: list[int] = []
        self.undone: list[int] = []
        self.ends = 0
        self.sent: list[Result] = []

    def do(self, command: AnyCommand) -> tuple[AnyEvent, ...]:
        """Decide, store, and look whether all holds."""
        events = plan.decide(self.state, command)
        for event in events:
            self.n += 1
            before, self.state = self.state, plan.evolve(self.state, fact(self.n, event))
            self._note(event, before)
        if events:
            self._balance()
        return events

    def _note(self, event: AnyEvent, before: State) -> None:
        many = self.state.batch
        assert many is not None
        match event:
            case Extended(items=items, count=count):
                self.size += len(items) or count
            case Advanced(ended=ended, first=first, count=count):
                for number, status in ended:
                    assert self.status[number] == "running"
                    self.status[number] = status
                    if status == "completed":
                        self.order.append(number)
                for place in range(first, first + count):
                    number = many.number(place)
                    assert self.status.get(number) != "completed", "what ended well never runs again"
                    self.starts[number, many.run] += 1
                    self.status[number] = "running"
            case RerunRequested():
                for number in self.undone:
                    self.status.pop(number)
                    self.order.remove(number)
                self.undone = []
            case UndoStarted(step=step):
                assert self.order[len(self.order) - len(self.undone) - 1] == int(step)
            case StepUndone(step=step):
                self.undone.append(int(step))
            case Completed() | Failed() | Cancelled():
                assert before.phase == "active"
                self.ends += 1
                well = sum(status == "completed" for status in self.status.values())
                assert (event.completed, event.completed + event.failed + event.skipped) == (well, self.size)
            case _:
                pass

    def _balance(self) -> None:
        state, many = self.state, self.state.batch
        assert many is not None
        running = {number for number, status in self.status.items() if status == "running"}
        assert many.outstanding == running
        assert many.size == self.size
        assert all(count == 1 for count in self.starts.values()), "each runs once in a run"
        assert {launch.step for launch in plan.running(state) if "/" not in launch.step} == set(
            map(str, running)
        )
        if state.phase != "active" or state.pause is not None or state.cancel is not None:
            return
        if state.definition.stops and many.failures.size:
            return
        assert len(running) == min(state.definition.limit, len(running) + many.row - many.cursor)


def led(random: Random) -> Row:
    """Lead a random batch to its end."""
    size, opened, plain = random.choice((0, 1, 7, 60, 300)), random.random() < 0.4, random.random() < 0.4
    definition = Definition(
        strategy="batch",
        stop_on_error=random.choice((None, None, True)),
        max_concurrency=random.choice((None, 1, 5, 100)),
        on_failure=random.choice(("none", "none", "rollback")),
        operations=Operations(
            do=ASK,
            items=None if plain else [f"i{n}" for n in range(size)],
            count=size if plain else None,
            undo=ASK if random.random() < 0.3 else None,
        ),
    )
    row = Row(definition, opened, size)
    row.do(Submit(definition=definition, digest="d", open=opened))
    bad = random.choice((0.0, 0.02, 0.3))
    _to_the_end(row, random, bad, plain)
    for _ in range(random.randint(0, 2)):
        try:
            row.do(random.choice((Rerun(), Rollback())))
        except Conflict:
            assert row.state.completed == row.size
        _to_the_end(row, random, bad, plain)
    assert row.ends == 1 + row.state.reruns
    return row


def _to_the_end(row: Row, random: Random, bad: float, plain: bool) -> None:
    for _ in range(3000):
        if row.state.over:
            return
        dice = random.random()
        try:
            if dice < 0.03:
                row.do(random.choice((Pause(), Resume(), Resume(), Seal())))
            elif dice < 0.04 and bad:
                row.do(random.choice((Cancel(), Rollback())))
            elif row.state.pause is not None or not plan.running(row.state):
                row.do(random.choice((Resume(), Seal(), _page(row, random, plain))))
            else:
                _results(row, random, bad)
        except HindbrainError:
            assert row.state.phase == "over" or (row.state.batch and row.state.batch.sealed)
    raise AssertionError("it does not end")


def _page(row: Row, random: Random, plain: bool) -> Extend:
    count = random.randint(1, 40)
    offset = random.choice((None, row.size))
    return Extend(count=count, offset=offset) if plain else Extend(items=("x",) * count, offset=offset)


def _results(row: Row, random: Random, bad: float) -> None:
    launches = [each for each in plan.running(row.state) if random.random() < 0.6]
    fresh = [_result(each, "failed" if random.random() < bad else "completed") for each in launches]
    old = random.sample(row.sent, min(len(row.sent), 3))
    row.sent += fresh
    ended = [each for each in (*old, *fresh, *fresh[:2]) if not each.step.endswith("/undo")]
    undone = [each for each in (*old, *fresh) if each.step.endswith("/undo")]
    command = Advance(ended=tuple(ended), undone=tuple(undone))
    row.do(command)
    assert not row.do(command), "said twice is said once"


def _result(launch: Launch, status: Ended) -> Result:
    return msgspec.convert({"step": launch.step, "run": launch.run, "status": status}, Result)
