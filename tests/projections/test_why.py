"""Why: every state has its sentences, and every sentence its fact."""

from pathlib import Path
from typing import Any

import pytest
from histories import Log
from test_many_rows import GRAPH

from events import execution, limit, module, node, plan
from events.asks.why import Explained
from events.execution import End
from events.spec import Retries, Shell, Spec
from projections.queries import Queries
from projections.store import Store
from projections.why import explain

START = execution.Start(node="node_a", boot="b", log_path="/x")


def say(tmp_path: Path, log: Log, entity: str, kind: str = "execution") -> Explained:
    store = Store(tmp_path / "brain.duckdb")
    try:
        store.apply(log.records)
        found = explain(Queries(store).rows, kind, entity, log.now)
    finally:
        store.close()
    assert all(each.seq is None or 1 <= each.seq <= len(log.records) for each in found.sentences)
    return found


def submitted(
    log: Log, entity: str, held: str | None = None, until: str | None = None, **spec: object
) -> None:
    wanted = Spec(shell=Shell(command="x"), **spec)  # type: ignore[arg-type] -- as each test needs it
    command = execution.Submit(spec=wanted, digest="d", taken_by="n", held=held, until=until)
    log.ask("execution", entity, command)


def upped(log: Log, *languages: str) -> None:
    event = node.Started(boot="b", host="h", pid=1, version="1", cores=1, memory_bytes=1, languages=languages)
    log.ask("node", "node_a", node.Record(event=event))


def ended(log: Log, entity: str, why: execution.Why, **end: Any) -> None:
    log.ask("execution", entity, START)
    finish = execution.Finish(attempt=1, why=why, end=End(**end), now_ms=log.now)
    log.ask("execution", entity, finish)


def bound(log: Log, on: limit.On, target: str, most: int | None, rate: limit.Rate | None = None) -> str:
    entity = limit.base(on, target)
    log.ask("limit", entity, limit.Put(on=on, target=target, max=most, rate=rate))
    return entity


def texts(tmp_path: Path, log: Log, entity: str, kind: str = "execution") -> list[str]:
    return [each.text for each in say(tmp_path, log, entity, kind).sentences]


def test_scheduled(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", held="time", until="2026-01-01T00:01:00.000Z")
    assert [(each.text, each.seq) for each in say(tmp_path, log, "exec_a").sentences] == [
        ("It is scheduled: it starts at 2026-01-01T00:01:00.000Z, in 1 min 00 s.", 1)
    ]


def test_backoff(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", retries=Retries(max=2, backoff_ms=5000))
    log.ask("execution", "exec_a", START)
    end = execution.Finish(attempt=1, why="exited", end=End(exit_code=7), now_ms=log.now)
    log.ask("execution", "exec_a", end)
    first, second = say(tmp_path, log, "exec_a").sentences
    assert ("Attempt 1 failed" in first.text, first.seq) == (True, 3)
    assert ("may start at" in second.text, second.seq) == (True, 4)


def test_who_holds_the_key(tmp_path: Path) -> None:
    log = Log()
    log.ask("limit", limit.base("key", "t"), limit.Put(on="key", target="t", max=1))
    log.ask("limit", limit.base("key", "t"), limit.Grant(ids=("exec_b",), now_ms=log.now))
    submitted(log, "exec_a", concurrency_key="t")
    said = {each.text: each.seq for each in say(tmp_path, log, "exec_a").sentences}
    assert said["The limit of key t is 1 at once, and 1 hold it."] == 1
    assert said["exec_b holds a place of it."] == 2


def test_no_worker_full_node_and_who_is_ahead(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", priority="low")
    assert say(tmp_path, log, "exec_a").sentences[-1].text == "No node is up that could run it."
    upped(log)
    for number in range(4):
        submitted(log, f"exec_r{number}")
        log.ask("execution", f"exec_r{number}", START)
    submitted(log, "exec_b", priority="high")
    said = texts(tmp_path, log, "exec_a")
    assert "1 more urgent or earlier ones are ahead of it." in said
    assert "node_a is full: it runs 4 (it takes 4 unless its settings say otherwise)." in said


@pytest.mark.parametrize("paused", [True, False])
def test_a_dependency_and_a_paused_plan(tmp_path: Path, paused: bool) -> None:
    log = Log()
    log.ask("plan", "plan_a", plan.Submit(definition=GRAPH, digest="d", taken_by="n"))
    if paused:
        log.ask("plan", "plan_a", plan.Pause(reason="lunch"))
    found = say(tmp_path, log, "plan_a", "plan")
    said = {each.text: each.seq for each in found.sentences}
    assert "Step build waits for lint." in said
    assert ("It is paused by client: lunch: nothing more is started." in said) is paused


def test_lost_and_poisoned(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a")
    log.ask("execution", "exec_a", START)
    log.ask("execution", "exec_a", execution.Lose(attempt=1, reason="the node vanished"))
    assert [each.text for each in say(tmp_path, log, "exec_a").sentences] == [
        "Attempt 1 was lost: the node vanished.",
        "It is lost: Execution lost: the node vanished.",
    ]


def test_a_full_module(tmp_path: Path) -> None:
    log = Log()
    upped(log)
    full = bound(log, "module", "commands", 1)
    log.ask("limit", full, limit.Grant(ids=("exec_b",), now_ms=log.now))
    submitted(log, "exec_a")
    log.ask("execution", "exec_a", execution.Hold(reason="limit", by="module commands"))
    assert texts(tmp_path, log, "exec_a") == [
        "It waits for a place: module commands.",
        "The limit of module commands is 1 at once, and 1 hold it.",
        "exec_b holds a place of it.",
    ]


def test_a_paused_module(tmp_path: Path) -> None:
    log = Log()
    upped(log)
    bound(log, "module", "commands", 0)
    submitted(log, "exec_a")
    assert "The module commands is paused: its limit is 0." in texts(tmp_path, log, "exec_a")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (module.Pause(reason="lunch"), "The module commands is paused by client: lunch."),
        (module.Break(reason="its hosts fell"), "The module commands is in error: its hosts fell."),
        (module.Stop(reason="unloaded"), "The module commands is stopped: unloaded."),
    ],
)
def test_a_module_that_takes_nothing(tmp_path: Path, command: module.AnyCommand, text: str) -> None:
    log = Log()
    upped(log)
    for each in (module.Declare(profile=module.Profile()), module.Start(), command):
        log.ask("module", "commands", each)
    submitted(log, "exec_a")
    assert text in texts(tmp_path, log, "exec_a")


def test_a_rate_that_is_used_up(tmp_path: Path) -> None:
    log = Log()
    used = bound(log, "key", "t", None, limit.Rate(count=1, per_ms=60_000))
    log.ask("limit", used, limit.Grant(ids=("exec_b",), now_ms=log.now))
    submitted(log, "exec_a", concurrency_key="t")
    said = texts(tmp_path, log, "exec_a")[-1]
    assert said.startswith(
        "The rate of key t is 1 in 1 min 00 s, and 1 of them are used: the next may begin at"
    )


def test_a_node_whose_own_limit_is_reached(tmp_path: Path) -> None:
    log = Log()
    upped(log)
    bound(log, "node", "node_a", 1)
    submitted(log, "exec_b")
    log.ask("execution", "exec_b", START)
    submitted(log, "exec_a")
    assert "node_a is full: it runs 1 of 1." in texts(tmp_path, log, "exec_a")


def test_no_node_with_the_language(tmp_path: Path) -> None:
    log = Log()
    upped(log, "python", "sh")
    spec = Spec(code="1", language="ruby")
    log.ask("execution", "exec_a", execution.Submit(spec=spec, digest="d", taken_by="n"))
    assert texts(tmp_path, log, "exec_a")[-1] == "No node that is up can run ruby."
    upped(log, "python", "ruby")
    assert "No node that is up can run ruby." not in texts(tmp_path, log, "exec_a")


def test_an_idle_one_waits_for_the_others(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_b")
    submitted(log, "exec_a", priority="idle")
    assert texts(tmp_path, log, "exec_a") == [
        "Its priority is idle: it waits until nothing else is active.",
        "1 others run or wait now.",
    ]


def test_what_runs_is_expected_to_end_as_those_before(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_b")
    ended(log, "exec_b", "exited", exit_code=0, duration_ms=60_000)
    submitted(log, "exec_a")
    log.ask("execution", "exec_a", START)
    said = texts(tmp_path, log, "exec_a")
    assert said[0].startswith("It runs on node_a since ")
    assert said[1].startswith("1 earlier runs of the same took 1 min 00 s mostly")


def test_an_exit_code(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a")
    ended(log, "exec_a", "exited", exit_code=7, duration_ms=850)
    assert texts(tmp_path, log, "exec_a") == ["It failed after 850 ms: Command failed with exit code 7."]


def test_a_failure_that_is_not_tried_again_says_so(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", retries=Retries(max=3, on_exit=[75]))
    ended(log, "exec_a", "exited", exit_code=7)
    assert texts(tmp_path, log, "exec_a")[-1].startswith("It was not tried again: ")


def test_a_timeout(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", timeout_ms=200)
    ended(log, "exec_a", "timeout", signal="SIGTERM", duration_ms=210)
    assert texts(tmp_path, log, "exec_a") == ["It timed out after 210 ms: Execution timeout after 200ms."]


@pytest.mark.parametrize("runs", [True, False])
def test_who_cancelled_it(tmp_path: Path, runs: bool) -> None:
    log = Log()
    submitted(log, "exec_a")
    if runs:
        log.ask("execution", "exec_a", START)
    log.ask("execution", "exec_a", execution.Cancel(reason="wrong branch"))
    if runs:
        assert texts(tmp_path, log, "exec_a")[-1] == "It was asked to stop by client: wrong branch."
        finish = execution.Finish(attempt=1, why="cancelled", end=End(duration_ms=5), now_ms=log.now)
        log.ask("execution", "exec_a", finish)
    assert texts(tmp_path, log, "exec_a")[0] == "It was cancelled by client: wrong branch."


def test_poisoned(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", retries=Retries(max=9, backoff_ms=0))
    for attempt in (1, 2, 3):
        log.ask("execution", "exec_a", START)
        log.ask("execution", "exec_a", execution.Lose(attempt=attempt, reason="vanished", now_ms=log.now))
    assert texts(tmp_path, log, "exec_a")[-1].startswith("It is poisoned and parked: ")
    log.ask("execution", "exec_a", execution.Discard(reason="known"))
    assert texts(tmp_path, log, "exec_a")[-1] == "It was discarded by client."
