"""What takes back a fact, and what cannot be taken back."""

from collections.abc import Sequence
from typing import Any

import pytest

from bus.memory import Memory
from events import execution, limit, plan, schedule, spec, template, undoing
from events.asks import limit as limits
from events.calendar import When
from events.codec import Fact
from events.errors import Conflict
from events.execution import EXECUTION
from events.limit import LIMIT
from events.message import Command
from events.plan import PLAN
from events.ports import Ask, Decider, Outcome
from events.schedule import SCHEDULE
from events.service import Reorder
from events.steps import Definition, Step
from events.template import TEMPLATE

TRUE = spec.Submit(exec=spec.Exec(program="true"))
SPEC = spec.Spec(exec=spec.Exec(program="true"), priority="low")
WORK = execution.Submit(spec=SPEC, digest="d", taken_by="n")
PLANNED = plan.Submit(definition=Definition(strategy="serial", steps=(Step(name="a", do=TRUE),)))


RATE = limit.Rate(count=1, per_ms=5)


def definition(program: str) -> Definition:
    do = spec.Submit(exec=spec.Exec(program=program))
    return Definition(strategy="serial", steps=(Step(name="a", do=do),))


def save(program: str) -> template.Save:
    return template.Save(name="t", definition=definition(program), digest=program)


def put(most: int | None, rate: limit.Rate | None = None) -> limit.Put:
    return limit.Put(on="key", target="k", max=most, rate=rate)


def told(decider: Decider[Any], *commands: Command, entity: str = "e") -> Sequence[Fact]:
    """The facts of these commands, one after the other."""
    log = Memory(lambda: 0)
    refused: list[Outcome] = []
    for command in commands:
        log.handle([Ask(decider, entity, command)], lambda found: refused.extend(e for e in found if e.error))
    assert not refused, refused[0].error
    return list(log.since())


def last(facts: Sequence[Fact], name: str) -> int:
    return max(fact.seq for fact in facts if fact.name == name)


def test_a_pause_is_taken_back_by_going_on() -> None:
    facts = told(PLAN, PLANNED, plan.Pause(reason="r"))
    assert undoing.counter(facts, last(facts, "paused"))[:2] == ("plan", "resume")
    when = When(every_ms=1000)
    made = schedule.Create(created=schedule.Created(when=when, spec=WORK.spec), now_ms=0)
    facts = told(SCHEDULE, made, schedule.Pause())
    assert undoing.counter(facts, last(facts, "paused"))[:2] == ("schedule", "resume")


def test_what_is_not_in_force_any_more_is_not_taken_back() -> None:
    facts = told(PLAN, PLANNED, plan.Pause(), plan.Resume(), plan.Pause())
    first = min(fact.seq for fact in facts if fact.name == "paused")
    with pytest.raises(Conflict, match=r"resumed since, by event \d+"):
        undoing.counter(facts, first)
    assert undoing.counter(facts, last(facts, "paused")).verb == "resume"


@pytest.mark.parametrize(
    ("commands", "back"),
    [
        ((put(3),), limits.Set(key="k")),
        ((put(3), put(5)), limits.Set(key="k", max=3)),
        (
            (put(3, limit.Rate(count=1, per_ms=5)), put(None)),
            limits.Set(key="k", max=3, rate=limit.Rate(count=1, per_ms=5)),
        ),
        ((put(3), put(None), put(4)), limits.Set(key="k")),
    ],
)
def test_a_limit_becomes_what_it_was(commands: Sequence[Command], back: limits.Set) -> None:
    facts = told(LIMIT, *commands)
    assert undoing.counter(facts, facts[-1].seq).request == back


def test_a_limit_that_was_changed_on_a_later_page_is_in_force_no_more() -> None:
    facts = told(LIMIT, put(3))
    assert undoing.in_force(facts[0], limit.State(force=True, max=3))
    assert not undoing.in_force(facts[0], limit.State(force=True, max=4))
    assert not undoing.in_force(facts[0], limit.State(force=False, max=3))


def test_a_template_becomes_what_it_was() -> None:
    def after(*commands: Command) -> list[str]:
        """The programs that it would start: as it is, and once its last change is taken back."""
        facts = told(TEMPLATE, *commands, entity="t")
        state = template.State()
        for fact in facts:
            state = template.evolve(state, fact)
        wish = undoing.counter(facts, facts[-1].seq).request
        assert isinstance(wish, undoing.Restore)
        more = told(TEMPLATE, *commands, undoing.wanted(state, wish), entity="t")
        for fact in more[len(facts) :]:
            state = template.evolve(state, fact)
        current = state.current
        steps = current.definition.steps if current else ()
        return [step.do.exec.program for step in steps if step.do and step.do.exec]

    assert after(save("one")) == []
    assert after(save("one"), save("two")) == ["one"]
    assert after(save("one"), save("two"), template.Delete()) == ["two"]
    assert after(save("one"), template.Delete(), save("two")) == []


def test_a_priority_becomes_what_it_was() -> None:
    facts = told(EXECUTION, WORK, execution.Prioritize(priority="high", reason="reordered"))
    back = Reorder(execution_id="e", priority="low")
    assert undoing.counter(facts, last(facts, "prioritized")).request == back
    assert undoing.counter(facts, last(facts, "queued")).request == back


def test_an_order_of_places_becomes_what_it_was() -> None:
    facts = told(EXECUTION, WORK, execution.Requeue(reason=f"{undoing.BEHIND}exec_a"))
    assert undoing.counter(facts, facts[-1].seq).request == Reorder(execution_id="exec_a", to="last")
    facts = told(EXECUTION, WORK, execution.Requeue(reason=undoing.REORDERED))
    back = Reorder(execution_id="e", to="first", from_seq=facts[0].seq)
    assert undoing.counter(facts, facts[-1].seq).request == back


@pytest.mark.parametrize(
    ("decider", "commands"),
    [
        (EXECUTION, (WORK,)),
        (EXECUTION, (WORK, execution.Cancel())),
        (PLAN, (PLANNED, plan.Cancel())),
        (LIMIT, (put(3), limit.Grant(ids=("a",), now_ms=0))),
    ],
)
def test_what_has_done_something_cannot_be_taken_back(
    decider: Decider[Any], commands: Sequence[Command]
) -> None:
    facts = told(decider, *commands)
    with pytest.raises(Conflict, match="cannot be taken back: only pauses, limits, orders and templates can"):
        undoing.counter(facts, facts[-1].seq)
