"""Templates: named, versioned, and started with values of the right type."""

import pytest

from events import plan, template
from events.codec import Envelope, Fact
from events.errors import NotFound, Validation
from events.params import Param
from events.spec import Exec, Submit
from events.steps import Definition, Operations, Step, counted
from events.template import Delete, Deleted, Look, Save, State, decide, evolve

ASK = Submit(exec=Exec(program="true"))
ONE = Definition(params={"n": Param(type="integer")}, steps=(Step(name="a", do=ASK),))
TWO = Definition(steps=(Step(name="a", do=ASK), Step(name="b", do=ASK)))


def after(*commands: template.AnyCommand) -> State:
    state, n = State(), 0
    for command in commands:
        for event in decide(state, command):
            n += 1
            envelope = Envelope(id=str(n), time=f"2026-01-31T12:00:00.00{n}Z")
            fact = Fact(
                seq=n,
                kind="template",
                entity="nightly",
                n=n,
                event=event,
                envelope=envelope,
                subject="",
                body=b"",
            )
            state = evolve(state, fact)
    return state


def save(definition: Definition, digest: str) -> Save:
    return Save(name="nightly", definition=definition, digest=digest)


def test_the_same_name_again_is_the_next_version_and_the_same_plan_is_none() -> None:
    state = after(save(ONE, "1"), save(ONE, "1"), save(TWO, "2"))
    assert [saved.version for saved in state.versions] == [1, 2]
    assert state.version() == state.versions[1]
    assert state.version(1).definition == ONE
    with pytest.raises(NotFound, match="no version 3: there are 1 to 2"):
        state.version(3)


def test_what_is_deleted_cannot_be_started_and_can_be_saved_again() -> None:
    state = after(save(ONE, "1"), Delete())
    assert decide(state, Delete()) == ()
    with pytest.raises(NotFound, match="Template not found: nightly"):
        state.version()
    assert after(save(ONE, "1"), Delete(), save(ONE, "1")).version().version == 2
    for command in (Look(), Delete()):
        with pytest.raises(NotFound):
            decide(State(), command)
    assert decide(after(save(ONE, "1")), Delete(reason="old")) == (Deleted(reason="old"),)


def test_a_bad_name_and_a_bad_plan_are_refused() -> None:
    with pytest.raises(Validation, match="bad template name 'No Good'"):
        decide(State(), Save(name="No Good", definition=ONE, digest="1"))
    with pytest.raises(Validation, match="at least one step"):
        decide(State(), save(Definition(), "1"))


def test_a_started_template_refuses_a_wrong_type() -> None:
    definition = template.wanted(after(save(ONE, "1")).version())
    with pytest.raises(Validation, match="parameter 'n' must be an integer, not the string 'x'"):
        plan.decide(plan.State(), plan.Submit(definition=definition, params={"n": "x"}))


def test_a_batch_template_gets_its_items_when_it_starts() -> None:
    many = Definition(
        strategy="batch",
        params={"files": Param(type="list"), "n": Param(type="integer", required=False)},
        operations=Operations(do=Submit(exec=Exec(program="cat", args=["${item}"])), items="${params.files}"),
    )
    saved = after(save(many, "1")).version()
    facts = plan.decide(plan.State(), plan.Submit(definition=saved.definition, params={"files": ["a", "b"]}))
    assert isinstance(facts[0], plan.Submitted)
    assert facts[0].total == 2
    assert facts[1] == plan.Advanced(first=0, count=2)
    other = template.wanted(saved, items=["x"])
    assert other.operations is not None
    assert other.operations.items == ["x"]
    with pytest.raises(Validation, match="only a batch has items"):
        template.wanted(after(save(ONE, "1")).version(), items=["x"])
    with pytest.raises(Validation, match="items is x: give a list"):
        counted(many, {"files": "x"})
