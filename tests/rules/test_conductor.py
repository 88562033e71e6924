"""The conductor: what sleeps costs nothing, and a year passes in a moment."""

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import conductor
from actors.clerk import Table
from actors.conducted import Decided, Read
from actors.conductor import Conductor
from actors.home import Home
from actors.saving import Saver
from events import codec, playbook, playing
from events.errors import HindbrainError
from events.phases import Definition, Phase, Step
from events.playbook import PLAYBOOK, State
from events.ports import Ask, Loaded, Outcome, Snapshot

YEAR_MS = 365 * 86_400_000


class Ours:
    left = 10.0


class Journal:
    """A log in memory that answers at once; the messages of the role wait to be told."""

    def __init__(self) -> None:
        self.states: dict[str, Snapshot[State]] = {}
        self.facts: dict[str, list[codec.Fact]] = {}
        self.now = 1_767_225_600_000
        self.seq = 0

    def ask(self, ask: Ask) -> Outcome:
        known = self.states.get(ask.entity, Snapshot(PLAYBOOK.initial))
        state, n, facts = known.state, known.n, list[codec.Fact]()
        try:
            events = PLAYBOOK.decide(state, ask.command)
        except HindbrainError as error:
            return Outcome(ask, known, (), error)
        for event in events:
            self.seq, n = self.seq + 1, n + 1
            envelope = codec.Envelope(id="x", time=codec.stamp(self.now), by=ask.by)
            fact = codec.Fact(
                seq=self.seq,
                kind="playbook",
                entity=ask.entity,
                n=n,
                event=event,
                envelope=envelope,
                subject="",
                body=b"",
            )
            state = PLAYBOOK.evolve(state, fact)
            facts.append(fact)
        self.facts.setdefault(ask.entity, []).extend(facts)
        self.states[ask.entity] = Snapshot(state, n, self.seq if facts else known.seq)
        return Outcome(ask, self.states[ask.entity], facts)

    def handle(self, asks: Sequence[Ask], done: Callable[[Sequence[Outcome]], None]) -> None:
        done([self.ask(ask) for ask in asks])

    def load(self, decider: Any, entities: Sequence[str], done: Callable[[Sequence[Loaded]], None]) -> None:
        for each in entities:
            done([Loaded(each, self.states.get(each, Snapshot(decider.initial)), self.facts.get(each, ()))])


class Blobs:
    def put(self, source: Any, done: Callable[[str | HindbrainError], None]) -> None:
        done(codec.digest([source]))

    def fetch(self, sha256: str, path: str, done: Callable[[HindbrainError | None], None]) -> None:
        raise AssertionError(f"nobody goes back here: {sha256} {path} {done}")


class Outlet:
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def progress(self, kind: str, entity: str, message: dict[str, Any]) -> None:
        self.said.append({"of": (kind, entity), **message})


class Stage:
    """A conductor that is told whatever it asked for, one message after the other."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal, self.outlet, self.mail = Journal(), Outlet(), list[Any]()
        monkeypatch.setattr(conductor, "milliseconds", lambda: self.journal.now)
        monkeypatch.setattr("actors.saving.milliseconds", lambda: self.journal.now)
        home, doors = Home("node_a", "boot", ""), Any
        self.role = Conductor(
            home,
            Ours(),
            self.journal,  # type: ignore[arg-type]  # as much of a log as it needs
            doors,  # type: ignore[arg-type]  # nobody asks the tables here
            self.mail.append,
            self.outlet,  # type: ignore[arg-type]  # only progress is told
            Saver(folder, Blobs()),
            self.mail.append,
        )
        self.role._known = 0  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- it has looked at the tables
        self.role.begin([Table(rows=[], seq=0), Table(rows=[], seq=0)])

    def settle(self) -> None:
        self.role.tick()
        while self.mail:
            self.role.receive(self.mail.pop(0))

    def start(self, entity: str, definition: Definition) -> None:
        papers = playing.papers(entity, "default", None)
        made = msgspec.structs.replace(playbook.Initialized(definition=definition), **papers)
        self.journal.ask(
            Ask(PLAYBOOK, entity, playbook.Initialize(initialized=made, now_ms=self.journal.now))
        )
        for fact in self.journal.facts[entity]:
            self.role.learn(fact)

    def runs(self) -> int:
        return len(self.role._runs)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- what is kept is what is asked


SLEEPER = Definition(
    phases=(Phase(id="p", steps=(Step(name="s", sleep="365d"), Step(name="t", sleep="1d"))),)
)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_a_year_passes_and_then_it_goes_on(stage: Stage) -> None:
    stage.start("play_a", SLEEPER)
    stage.settle()
    assert stage.runs() == 0, "it is forgotten while it sleeps"
    stage.journal.now += YEAR_MS - 1
    stage.settle()
    assert stage.journal.states["play_a"].state.at == 0
    stage.journal.now += 1
    stage.settle()
    state = stage.journal.states["play_a"].state
    assert (state.at, state.status) == (1, "running")
    stage.journal.now += 86_400_000
    stage.settle()
    assert stage.journal.states["play_a"].state.status == "completed"
    assert stage.outlet.said[-1]["final"]


def test_ten_thousand_sleepers_are_nothing_to_remember(stage: Stage) -> None:
    stage.start("play_first", SLEEPER)
    stage.settle()
    tracemalloc.start()
    try:
        for number in range(1000):
            stage.start(f"play_{number}", SLEEPER)
            stage.settle()
            # What the log keeps is not what the role keeps.
            stage.journal.states.pop(f"play_{number}")
            stage.journal.facts.pop(f"play_{number}")
        stage.outlet.said.clear()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stage.runs() == 0
    assert size < 10 * 1024 * 1024, "a tenth of 100 MiB for a tenth of ten thousand"


def test_answers_of_an_earlier_turn_are_passed_over(stage: Stage) -> None:
    stage.start("play_a", SLEEPER)
    stage.role.receive(Decided([], 0))
    stage.role.receive(Read([], 0))
    stage.settle()
    assert stage.journal.states["play_a"].state.going is not None
