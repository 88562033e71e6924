"""Why: every state has its sentences, and every sentence its fact."""

from pathlib import Path

import pytest
from histories import Log
from test_many_rows import GRAPH

from events import execution, limit, node, plan
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


def upped(log: Log) -> None:
    event = node.Started(boot="b", host="h", pid=1, version="1", cores=1, memory_bytes=1)
    log.ask("node", "node_a", node.Record(event=event))


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
    texts = {each.text: each.seq for each in say(tmp_path, log, "exec_a").sentences}
    assert texts["The limit of key t is 1 at once, and 1 hold it."] == 1
    assert texts["exec_b holds a place of it."] == 2


def test_no_worker_full_node_and_who_is_ahead(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a", priority="low")
    assert say(tmp_path, log, "exec_a").sentences[-1].text == "No node is up that could run it."
    upped(log)
    for number in range(4):
        submitted(log, f"exec_r{number}")
        log.ask("execution", f"exec_r{number}", START)
    submitted(log, "exec_b", priority="high")
    texts = [each.text for each in say(tmp_path, log, "exec_a").sentences]
    assert "1 more urgent or earlier ones are ahead of it." in texts
    assert "node_a is full: it runs 4 (it takes 4 unless its settings say otherwise)." in texts


@pytest.mark.parametrize("paused", [True, False])
def test_a_dependency_and_a_paused_plan(tmp_path: Path, paused: bool) -> None:
    log = Log()
    log.ask("plan", "plan_a", plan.Submit(definition=GRAPH, digest="d", taken_by="n"))
    if paused:
        log.ask("plan", "plan_a", plan.Pause(reason="lunch"))
    found = say(tmp_path, log, "plan_a", "plan")
    texts = {each.text: each.seq for each in found.sentences}
    assert "Step build waits for lint." in texts
    assert ("It is paused by client: lunch: nothing more is started." in texts) is paused


def test_lost_and_poisoned(tmp_path: Path) -> None:
    log = Log()
    submitted(log, "exec_a")
    log.ask("execution", "exec_a", START)
    log.ask("execution", "exec_a", execution.Lose(attempt=1, reason="the node vanished"))
    assert [each.text for each in say(tmp_path, log, "exec_a").sentences] == [
        "Attempt 1 was lost: the node vanished.",
        "It is lost: Execution lost: the node vanished.",
    ]
