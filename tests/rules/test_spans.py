"""What is told of a job whose beginning is said with its end, and of what ends while it waits."""

from typing import Any

from actors.spans import of
from bus.memory import Memory
from events.executed import Began
from events.execution import EXECUTION, Cancel, Completed, End, Submit
from events.ports import Ask, Decider
from events.spec import Shell, Spec

SUBMIT = Submit(spec=Spec(shell=Shell(command="true")), digest="d", taken_by="n")
AT = "1970-01-01T00:00:00.007Z"


def test_an_attempt_without_a_fact_of_its_own_has_its_span() -> None:
    clock = iter((5, 9, 9, 9))
    log = Memory(lambda: next(clock))
    end = Completed(attempt=1, end=End(exit_code=0), began=Began(node="n", boot="b", at=AT))

    def decide(state: Any, command: Any) -> Any:
        return (end,) if isinstance(command, Cancel) else EXECUTION.decide(state, command)

    short: Decider[Any] = Decider("execution", EXECUTION.initial, decide, EXECUTION.evolve, EXECUTION.trace)
    log.handle([Ask(short, "exec_1", SUBMIT), Ask(short, "exec_1", Cancel())], lambda _: None)
    spans = of(log.since())
    assert [(span.name, span.begin[-5:], span.end[-5:]) for span in spans] == [
        ("execution commands", ".005Z", ".009Z"),
        ("queued", ".005Z", ".007Z"),
        ("attempt 1", ".007Z", ".009Z"),
    ]
    assert spans[2].attributes["hindbrain.node"] == "n"
    assert spans == of(log.since())


def test_what_was_cancelled_while_it_waited_had_no_attempt() -> None:
    log = Memory(lambda: 0)
    log.handle([Ask(EXECUTION, "exec_1", SUBMIT), Ask(EXECUTION, "exec_1", Cancel())], lambda _: None)
    root, queued = of(log.since())
    assert (root.name, queued.name, root.error) == ("execution commands", "queued", None)
    assert root.attributes["hindbrain.status"] == "cancelled"
    assert (queued.parent, root.parent) == (root.id, "")
