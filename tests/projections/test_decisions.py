"""What was decided can be asked for, with everything that was seen."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from histories import Log

from actors.projector import Librarian, Progress
from events import codec, decision, scaling
from events.errors import HindbrainError
from events.policy import Policy
from events.ports import Call
from events.scaling import ModuleLook, Snapshot
from interfaces.projector import Shelf
from projections.store import Store


def seen(name: str, busy: int) -> Snapshot:
    module = ModuleLook(name=name, category="phase2", workers=7, busy=busy, arrivals_per_second=1 / 3)
    return scaling.exact(Snapshot(time_ms=1_767_225_600_000, modules=(module,), categories=(), total_max=50))


@pytest.fixture(scope="module")
def librarian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Librarian]:
    log = Log()
    for tick, (name, busy) in enumerate([("a", 7), ("b", 1), ("a", 1), ("a", 7)]):
        snapshot = seen(name, busy)
        for each in scaling.decide(snapshot, Policy()):
            log.now += 10_000
            log.ask("decision", decision.entity(tick, name), scaling.make(each, snapshot, Policy()))
    by_hand = decision.Make(type="pause", module="b", context="somebody wanted it", data={"by": "client"})
    log.ask("decision", decision.entity(9, "b"), by_hand)
    store = Store(tmp_path_factory.mktemp("d") / "brain.duckdb")
    store.apply(log.records)
    yield Librarian(Shelf(store), Progress(store.bookmark().seq))
    store.close()


def ask(librarian: Librarian, **body: Any) -> dict[str, Any]:
    answers: list[bytes] = []
    refusals: list[HindbrainError] = []
    call = Call("decision", "list", msgspec.json.encode(body), answers.append, refusals.append)
    librarian.receive(call)
    if refusals:
        raise refusals[0]
    return msgspec.json.decode(answers[0])


def test_the_newest_come_first_and_page_by_page(librarian: Librarian) -> None:
    first = ask(librarian, limit=3)
    assert [(each["seq"], each["type"]) for each in first["decisions"]] == [
        (5, "pause"),
        (4, "scale_up"),
        (3, "scale_down_suggested"),
    ]
    rest = ask(librarian, before=first["next"])
    assert [each["seq"] for each in rest["decisions"]] == [2, 1]
    assert rest["next"] is None
    assert rest["decisions"][0]["time"] == "2026-01-01T00:00:20.000Z"


def test_they_are_found_by_module_and_type(librarian: Librarian) -> None:
    assert [each["seq"] for each in ask(librarian, module="b")["decisions"]] == [5, 2]
    assert [each["seq"] for each in ask(librarian, type="scale_up", module="a")["decisions"]] == [4, 1]
    assert ask(librarian, module="c") == {"decisions": [], "next": None}
    for wrong in ({"type": "explode"}, {"limit": 0}, {"limit": 1001}, {"before": -1}, {"modul": "a"}):
        with pytest.raises(HindbrainError):
            ask(librarian, **wrong)


def test_each_can_be_made_again_from_its_row_alone(librarian: Librarian) -> None:
    rows = ask(librarian)["decisions"]
    assert len(rows) == 5
    for row in rows:
        made = msgspec.convert(row, decision.Made)
        told = scaling.seen(made)
        if told is None:
            assert (row["type"], row["data"]) == ("pause", {"by": "client"})
            continue
        (again,) = scaling.decide(told.snapshot, told.policy)
        (event,) = decision.decide(decision.State(), scaling.make(again, told.snapshot, told.policy))
        assert codec.encode(event) == codec.encode(made)
