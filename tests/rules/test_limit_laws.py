"""Whoever asks for a place, with whatever clock and however late, a limit is never passed."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import codec, limit
from events.codec import Envelope, Fact
from events.errors import Conflict, Limit, NotFound, Refusal
from events.limit import (
    Close,
    Closed,
    Confirm,
    Count,
    Counted,
    Grant,
    Granted,
    Open,
    Opened,
    Put,
    Rate,
    Removed,
    Return,
    Returned,
    Set,
    State,
    carried,
    decide,
    evolve,
)

IDS = tuple(f"exec_{n}" for n in range(8))
rates = st.builds(Rate, count=st.integers(1, 4), per_ms=st.sampled_from([1, 50, 1000, 60_000]))
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3).map(tuple)
clock = st.integers(0, 5000) | st.integers(0, 200_000)
puts = st.builds(
    Put, on=st.just("key"), target=st.just("a"), max=st.none() | st.integers(0, 4), rate=st.none() | rates
)
grants = st.builds(Grant, ids=ids, now_ms=clock)
commands = st.one_of(
    puts,
    grants,
    grants,
    grants,
    st.builds(Count, ids=ids),
    st.builds(Return, grants=st.dictionaries(st.sampled_from(IDS), st.integers(1, 40), max_size=4)),
    st.builds(Confirm, ids=ids),
    st.just("return"),
    st.just("turn"),
)


class Life:
    """A limit over all its pages, with every fact that was stored."""

    def __init__(self) -> None:
        self.state, self.facts, self.seq, self.page = State(), list[Fact](), 0, 1
        self.first = limit.base("key", "a")

    def ask(self, command: Any) -> list[Any]:
        events = decide(self.state, command)
        for event in events:
            self.seq += 1
            fact = Fact(
                seq=self.seq,
                kind="limit",
                entity=limit.page(self.first, self.page),
                n=1,
                event=codec.decode("limit", codec.encode(event)),
                envelope=Envelope(id="e", time="2026-01-01T00:00:00.000Z"),
                subject="",
                body=b"",
            )
            self.facts.append(fact)
            self.state = evolve(self.state, fact)
        return list(events)

    def turn(self) -> None:
        """Close the page and open the next one."""
        if self.state.facts:
            self.ask(Close(next=limit.page(self.first, self.page + 1)))
            opened = carried(self.state)
            self.state, self.page = State(), self.page + 1
            self.ask(Open(opened=opened))

    def live(self, wishes: Sequence[Any]) -> None:
        for wish in wishes:
            command = wish
            if wish == "turn":
                self.turn()
                continue
            if wish == "return":
                command = Return(grants=dict(list(self.state.holders.items())[:1]))
            try:
                self.ask(command)
            except Refusal:
                continue


def lived(wishes: Sequence[Any]) -> list[Fact]:
    life = Life()
    life.live(wishes)
    return life.facts


@given(st.lists(commands, max_size=60))
def test_there_are_never_more_at_it_than_the_limit_says_except_those_from_before(wishes: list[Any]) -> None:
    """Told from the facts alone, as somebody outside would count."""
    most: int | None = None
    holders: set[str] = set()
    for fact in lived(wishes):
        match fact.event:
            case Set(max=most):
                pass
            case Removed():
                most, holders = None, set()
            case Granted(ids=new):
                assert not holders & set(new)
                holders |= set(new)
                assert most is None or len(holders) <= most
            case Counted(ids=new):
                holders |= set(new)
            case Returned(ids=gone):
                assert set(gone) <= holders
                holders -= set(gone)
            case Opened(max=now, holders=kept):
                assert (now, set(kept)) == (most, holders)
            case _:
                pass


@given(st.lists(commands, max_size=60))
def test_no_stretch_of_time_has_more_beginnings_than_the_rate(wishes: list[Any]) -> None:
    rate: Rate | None = None
    begun: list[int] = []
    for fact in lived(wishes):
        match fact.event:
            case Set(rate=now):
                if now != rate:
                    begun = []
                rate = now
            case Removed():
                rate, begun = None, []
            case Granted(ids=new, now_ms=moment):
                begun += [moment] * len(new)
                assert begun == sorted(begun)
                if rate is not None:
                    assert sum(each > moment - rate.per_ms for each in begun) <= rate.count
            case _:
                pass


@given(st.lists(commands, max_size=40), grants)
def test_what_was_said_once_is_not_said_again(wishes: list[Any], grant: Grant) -> None:
    life = Life()
    life.live(wishes)
    try:
        life.ask(grant)
    except Refusal:
        return
    assert life.ask(grant) == []


@given(st.lists(commands, max_size=40))
def test_a_new_page_goes_on_exactly_where_the_old_one_ended(wishes: list[Any]) -> None:
    life = Life()
    life.live(wishes)
    if life.state.facts:
        before = carried(life.state)
        life.turn()
        assert carried(life.state) == before


def given_(*wishes: Any) -> Life:
    life = Life()
    for wish in wishes:
        life.ask(wish)
    return life


TWO = Put(on="key", target="a", max=2)


def test_a_place_comes_back_only_under_the_number_of_its_grant() -> None:
    """Who slept since an older grant of the same execution cannot free the newer one."""
    life = given_(TWO, Grant(ids=("exec_1",), now_ms=1))
    old = life.state.holders["exec_1"]
    life.ask(Return(grants={"exec_1": old}))
    life.ask(Grant(ids=("exec_1",), now_ms=2))
    assert life.ask(Return(grants={"exec_1": old})) == []
    assert "exec_1" in life.state.holders


def test_a_closed_page_grants_nothing_and_names_the_next_one() -> None:
    life = given_(TWO, Close(next="key-x--2"))
    for wish in (Grant(ids=("exec_1",), now_ms=1), Return(grants={"exec_1": 1}), TWO):
        with pytest.raises(Conflict) as refused:
            life.ask(wish)
        assert refused.value.details == {"next": "key-x--2"}
    assert life.ask(Close(next="key-x--2")) == []


def test_a_page_opens_once() -> None:
    life = given_(TWO)
    assert life.ask(Open(opened=carried(given_(TWO).state))) == []


def test_a_limit_of_nothing_lets_nobody_in_and_one_that_is_taken_away_everybody() -> None:
    life = given_(Put(on="key", target="a", max=0))
    with pytest.raises(Limit):
        life.ask(Grant(ids=("exec_1",), now_ms=1))
    assert life.state.room(0) == 0
    assert life.ask(Put(on="key", target="a")) == [Removed()]
    assert life.state.room(0) is None
    assert life.ask(Grant(ids=("exec_1",), now_ms=1)) == []
    assert life.ask(Put(on="key", target="a")) == []


def test_who_has_a_place_is_confirmed_and_nobody_else() -> None:
    life = given_(TWO, Grant(ids=("exec_1",), now_ms=1), Count(ids=("exec_2",)))
    assert life.ask(Confirm(ids=("exec_1", "exec_2"))) == []
    with pytest.raises(Limit):
        life.ask(Confirm(ids=("exec_3",)))


def test_a_lower_limit_waits_until_enough_have_ended() -> None:
    life = given_(TWO, Grant(ids=("exec_1", "exec_2"), now_ms=1), Put(on="key", target="a", max=1))
    with pytest.raises(Limit):
        life.ask(Grant(ids=("exec_3",), now_ms=2))
    life.ask(Return(grants=life.state.holders))
    assert life.ask(Grant(ids=("exec_3",), now_ms=3)) == [Granted(ids=("exec_3",), now_ms=3)]


def test_a_slow_clock_does_not_make_room() -> None:
    life = given_(
        Put(on="key", target="a", rate=Rate(count=1, per_ms=1000)), Grant(ids=("exec_1",), now_ms=9000)
    )
    assert life.state.room(9500) == 0
    with pytest.raises(Limit):
        life.ask(Grant(ids=("exec_2",), now_ms=500))
    assert life.ask(Grant(ids=("exec_2",), now_ms=life.state.relief))


def test_what_was_never_limited_is_not_found() -> None:
    with pytest.raises(NotFound):
        decide(State(), Grant(ids=("exec_1",), now_ms=1))


def test_pages_have_names_that_read_back() -> None:
    first = limit.base("module", "commands")
    assert limit.place(limit.page(first, 12)) == (first, 12)
    assert limit.place(first) == (first, 1)
    assert limit.base("key", "Tenant Ä").startswith("key-")
    assert Closed(next="x").name() == "closed"
