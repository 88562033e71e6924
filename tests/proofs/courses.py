"""Random plans that are led at random, by rules alone; whatever comes, some things always hold.

What could start is worked out here a second time, from the facts, in the slowest and plainest way.
"""

from collections.abc import Callable, Sequence
from random import Random

from events import codec, plan
from events.codec import Envelope, Fact
from events.errors import Conflict, HindbrainError
from events.launching import UNDO
from events.plan import (
    Advance,
    AnyCommand,
    AnyEvent,
    Cancel,
    CancelRequested,
    Completed,
    Failed,
    Launch,
    Pause,
    Rerun,
    RerunRequested,
    Result,
    Resume,
    Rollback,
    RollbackFailed,
    RollbackStarted,
    RolledBack,
    State,
    StepEnded,
    StepsSkipped,
    StepsStarted,
    StepUndone,
    Submit,
    UndoStarted,
)
from events.planned import Cancelled, Ended, Paused, Resumed
from events.spec import Exec
from events.spec import Submit as Ask
from events.steps import Definition, Step

ID = "plan_00000000000000000000000001"
TIME = "2026-01-31T12:00:00.000Z"
TERMINAL = (Completed, Failed, Cancelled)
BAD: tuple[Ended, ...] = ("failed", "cancelled", "timed_out")
Test = Callable[[dict[str, str]], bool]


class World:
    """One plan, and whoever leads it."""

    def __init__(self, definition: Definition, tests: dict[str, Test], reads: dict[str, str]) -> None:
        self.definition, self.tests, self.reads = definition, tests, reads
        self.step = {step.name: step for step in definition.steps}
        self.names = list(self.step)
        self.state = State()
        self.facts: list[Fact] = []
        self.sent: list[Result] = []
        # What the oracle knows, from facts alone:
        self.status = dict.fromkeys(self.names, "pending")
        self.runs = dict.fromkeys(self.names, 1)
        self.started: set[tuple[str, int]] = set()
        self.ended: list[str] = []
        self.outputs: dict[str, dict[str, int]] = {}
        self.paused = self.cancelled = self.stopped = self.over = False
        self.ends = 0
        self.undone: list[str] = []

    def do(self, command: AnyCommand) -> tuple[AnyEvent, ...]:
        """Decide, store, and look whether all holds."""
        before = self.state
        events = plan.decide(before, command)
        for event in events:
            self.facts.append(fact(len(self.facts) + 1, event))
            self.state = plan.evolve(self.state, self.facts[-1])
            self._note(event, before)
        if events:
            self._balance()
        return events

    # ---- what each fact must be -------------------------------------------------------------------------

    def _note(self, event: AnyEvent, before: State) -> None:
        match event:
            case StepsStarted(steps=steps):
                for each in steps:
                    self._begins(each)
            case StepEnded(step=name, run=run, status=status):
                assert run == self.runs[name]
                if self.status[name] == "pending":
                    assert status == "failed", "what never began cannot end well"
                    assert "k" not in self.outputs.get(self.reads[name], {})
                else:
                    assert self.status[name] == "running"
                self.status[name] = status
                if status == "completed":
                    self.ended.append(name)
                    self.outputs[name] = event.outputs
                elif self.definition.stops and not self.step[name].allow_failure:
                    self.stopped = True
            case StepsSkipped(steps=skips):
                for skip in skips:
                    assert self.status[skip.step] == "pending"
                    assert skip.reason in ("stopped", "cancelled") or self._idle(skip.step) == "skip"
                    self.status[skip.step] = "skipped"
            case Paused():
                self.paused = True
            case Resumed():
                self.paused = False
            case CancelRequested():
                self.cancelled = True
            case RerunRequested(steps=names):
                self._again(names, before)
            case _ if isinstance(event, TERMINAL):
                assert not self.over, "it ended twice"
                assert "running" not in self.status.values()
                assert "pending" not in self.status.values()
                self._ends(event)
            case _:
                self._undoing(event)

    def _begins(self, launch: Launch) -> None:
        name = launch.step
        assert not self.over
        assert not self.cancelled
        assert not self.paused
        assert not self.stopped
        assert self.status[name] == "pending"
        assert self._idle(name) == "start"
        assert launch.run == self.runs[name]
        assert (name, launch.run) not in self.started, "it started twice in one run"
        self.started.add((name, launch.run))
        self.status[name] = "running"

    def _idle(self, name: str) -> str:
        """What the rules have to do with a pending step: `wait`, `skip` or `start`."""
        step = self.step[name]
        if any(self.status[need] in ("pending", "running") for need in step.needs):
            return "wait"
        if self.definition.strategy == "serial" and name != self._first():
            return "wait"
        for need in step.needs:
            fine = self.status[need] == "completed"
            fine = fine or (self.step[need].allow_failure and self.status[need] in BAD)
            if not fine and f".{need}." not in (step.when or ""):
                return "skip"
        return "start" if self.tests[name](self.status) else "skip"

    def _first(self) -> str | None:
        return next((name for name in self.names if self.status[name] == "pending"), None)

    def _balance(self) -> None:
        """After every decision as many run as can and may."""
        running = [name for name in self.names if self.status[name] == "running"]
        limit = self.definition.limit
        assert len(running) <= limit
        assert set(self.state.running) == set(running)
        if self.over or self.cancelled or self.stopped:
            assert "pending" not in self.status.values(), "what will not run any more is passed over"
            return
        room = limit - len(running)
        idle = [self._idle(name) for name in self.names if self.status[name] == "pending"]
        if self.definition.strategy != "serial":
            assert "skip" not in idle, "what is not to run is passed over at once"
        if not self.paused:
            assert room == 0 or "start" not in idle, "something could run and does not"
            assert running, "it neither runs nor ends"

    def _ends(self, event: AnyEvent) -> None:
        self.over, self.ends = True, self.ends + 1
        bad = [name for name in self.names if self.status[name] in BAD and not self.step[name].allow_failure]
        wanted = Cancelled if self.cancelled else Failed if bad else Completed
        assert isinstance(event, wanted)
        counts = [event.completed, event.failed, event.skipped]  # type: ignore[union-attr] -- a terminal one
        statuses = list(self.status.values())
        assert counts[0] == statuses.count("completed")
        assert counts[2] == statuses.count("skipped")
        assert sum(counts) == len(self.names)

    def _again(self, names: Sequence[str], before: State) -> None:
        assert self.over
        self.over = self.cancelled = self.paused = self.stopped = False
        assert names
        for name in self.names:
            if name in names:
                self.runs[name] += 1
                self.status[name] = "pending"
                self.ended = [each for each in self.ended if each != name]
                self.undone = [each for each in self.undone if each != name]
                self.outputs.pop(name, None)
            else:
                assert self.state.cells[name] == before.cells[name], "what others did is kept"
                assert not set(self.step[name].needs) & set(names), "what depends on it runs again as well"

    def _undoing(self, event: AnyEvent) -> None:
        match event:
            case RollbackStarted(steps=steps):
                assert self.over
                kept = [name for name in reversed(self.ended) if self.step[name].undo is not None]
                assert list(steps) == [name for name in kept if name not in self.undone]
            case UndoStarted(step=name, run=run):
                assert (f"{name}{UNDO}", run) not in self.started
                self.started.add((f"{name}{UNDO}", run))
                assert name == self._next(), "the last that ended is taken back first"
            case StepUndone(step=name):
                assert name == self._next()
                self.undone.append(name)
            case RolledBack():
                assert self._next() is None
            case RollbackFailed(step=name):
                assert name == self._next()
            case _:
                pass

    def _next(self) -> str | None:
        left = (name for name in reversed(self.ended) if name not in self.undone)
        return next((name for name in left if self.step[name].undo is not None), None)


def fact(n: int, event: AnyEvent) -> Fact:
    """A stored event; it goes through its bytes."""
    body = codec.encode(event)
    return Fact(
        seq=n,
        kind="plan",
        entity=ID,
        n=n,
        event=codec.decode("plan", body),
        envelope=Envelope(id=str(n), time=TIME),
        subject="s",
        body=body,
    )


# ---- at random -------------------------------------------------------------------------------------------


def made(random: Random, most: int = 50) -> tuple[Definition, dict[str, Test], dict[str, str]]:
    """A plan with conditions, failures that are allowed, values from other steps, undo and inner plans."""
    strategy = random.choice(("graph", "graph", "graph", "serial", "parallel"))
    order = [f"s{n}" for n in range(random.randint(1, most))]
    density = random.choice((0.02, 0.1, 0.3))
    steps: dict[str, Step] = {}
    tests: dict[str, Test] = {}
    reads: dict[str, str] = {}
    ask = Ask(exec=Exec(program="true"))
    for place, name in enumerate(order):
        earlier = order[:place]
        needs = [each for each in earlier if strategy == "graph" and random.random() < density][:6]
        known = needs if strategy == "graph" else earlier if strategy == "serial" else []
        when, tests[name] = _condition(random, known)
        do = ask
        if known and random.random() < 0.1:
            reads[name] = random.choice(known)
            do = Ask(exec=Exec(program="true", args=[f"${{steps.{reads[name]}.outputs.k}}"]))
        inner = random.random() < 0.05
        steps[name] = Step(
            name=name,
            do=None if inner and name not in reads else do,
            plan=Definition(steps=(Step(name="x", do=ask),)) if inner and name not in reads else None,
            needs=needs,
            when=when,
            allow_failure=random.random() < 0.15,
            undo=ask if random.random() < 0.3 else None,
        )
    if strategy == "graph":
        random.shuffle(order)
    definition = Definition(
        strategy=strategy,
        stop_on_error=random.choice((None, None, True, False)),
        max_concurrency=random.choice((None, 1, 2, 4, 8)),
        on_failure=random.choice(("none", "none", "rollback")),
        steps=tuple(steps[name] for name in order),
    )
    return definition, tests, reads


def _condition(random: Random, known: Sequence[str]) -> tuple[str | None, Test]:
    if not known or random.random() < 0.75:
        return None, lambda _: True
    name, status = random.choice(known), random.choice(("completed", "failed", "skipped"))
    if random.random() < 0.5:
        return f"steps.{name}.status == '{status}'", lambda now: now[name] == status
    return f"not (steps.{name}.status == '{status}')", lambda now: now[name] != status


def led(random: Random, most: int = 50) -> World:
    """Lead a random plan to its end, with pauses, cancels, repeats, rollbacks and reruns."""
    world = World(*made(random, most))
    world.do(Submit(definition=world.definition, digest="d"))
    trouble = random.choice((0.0, 0.0, 0.05, 0.3))
    for _ in range(random.choice((0, 0, 1, 2)) + 1):
        _to_the_end(world, random, trouble)
        assert not world.do(Advance(ended=tuple(world.sent[-5:]))), "what is over is over"
        if random.random() < 0.3:
            world.do(Rollback())
            _to_the_end(world, random, trouble)
        _rerun(world, random)
    _to_the_end(world, random, trouble)
    again = State()
    for each in world.facts:
        again = plan.evolve(again, each)
    assert again == world.state, "whoever reads it all knows the same"
    assert world.state.over
    return world


def _rerun(world: World, random: Random) -> None:
    if random.random() < 0.5:
        return
    some = tuple(random.sample(world.names, min(2, len(world.names))))
    command = random.choice((Rerun(), Rerun(), Rerun(steps=some), Rerun(from_step=some[0])))
    try:
        world.do(command)
    except Conflict:
        assert command == Rerun(), "there is always something to run again when it is named"


def _to_the_end(world: World, random: Random, trouble: float) -> None:
    for _ in range(40 * len(world.names) + 100):
        if world.state.over:
            return
        dice = random.random()
        try:
            if dice < trouble * 0.3:
                world.do(random.choice((Pause(), Resume())))
            elif dice < trouble * 0.35:
                world.do(random.choice((Cancel(), Rollback())))
            elif world.paused and not world.state.running and dice < 0.9:
                world.do(Resume())
            else:
                _results(world, random, trouble)
        except HindbrainError:
            assert world.state.phase == "over", "while it is not over nothing of this is refused"
    raise AssertionError("it does not end")


def _results(world: World, random: Random, trouble: float) -> None:
    launches = [each for each in plan.running(world.state) if random.random() < 0.6]
    fresh = [_result(world, each, random) for each in launches]
    old = random.sample(world.sent, min(len(world.sent), random.randint(0, 3))) if trouble else []
    row = [*fresh, *old, *(fresh if random.random() < trouble else ())]
    random.shuffle(row)
    world.sent += fresh
    undone = tuple(each for each in row if each.step.endswith(UNDO))
    command = Advance(ended=tuple(each for each in row if not each.step.endswith(UNDO)), undone=undone)
    world.do(command)
    if random.random() < trouble:
        assert not world.do(command), "said twice is said once"


def _result(world: World, launch: Launch, random: Random) -> Result:
    status: Ended = random.choice(BAD) if random.random() < 0.1 else "completed"
    if world.cancelled and random.random() < 0.7:
        status = "cancelled"
    outputs = {"k": 1} if random.random() < 0.9 and not launch.step.endswith(UNDO) else {}
    return Result(step=launch.step, run=launch.run, status=status, outputs=outputs)
