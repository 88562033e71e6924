"""The law: living along, folding anew and the rules themselves say the same, at every event."""

from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from histories import Log, chained, commands
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import decision, execution, finding, node
from projections import jsonable
from projections.check import compare, verify
from projections.queries import Queries
from projections.store import KEPT, Store

LAW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@contextmanager
def opened() -> Generator[Store]:
    with TemporaryDirectory() as folder:
        store = Store(Path(folder) / "brain.duckdb")
        try:
            yield store
        finally:
            store.close()


def applied(store: Store, log: Log, cuts: list[int]) -> None:
    """Take in a log in lots that end at the cuts."""
    for low, high in pairwise(sorted({0, len(log.records), *(cut % (len(log.records) + 1) for cut in cuts)})):
        store.apply(log.records[low:high])


def rows(store: Store, entities: list[str], seq: int | None = None) -> dict[str, dict[str, Any]]:
    names = ", ".join("?" * len(entities))
    answer = Queries(store).ask(
        f"SELECT * EXCLUDE (stdout, stderr) FROM executions WHERE id IN ({names})", entities, seq=seq
    )
    found = [dict(zip([name for name, _ in answer.columns], row, strict=True)) for row in answer.rows]
    return {row["id"]: row for row in found}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it."""
    return {name: jsonable.plain(value) for name, value in row.items()}


@LAW
@given(data=st.data(), cuts=st.lists(st.integers(0, 100), max_size=3))
def test_live_and_rebuilt_and_evolved_rows_are_the_same_for_any_history(
    data: st.DataObject, cuts: list[int]
) -> None:
    log, entities = Log(), ["exec_a", "exec_b"]
    for _ in range(data.draw(st.integers(1, 16))):
        entity = data.draw(st.sampled_from(entities))
        state = log.states.get(("execution", entity), execution.State())
        log.now += data.draw(st.integers(-500, 2000))
        log.ask("execution", entity, data.draw(commands(state.attempt)))
        if data.draw(st.integers(0, 9)) == 0:
            log.write("execution", entity, "teleported", b'{"event":"teleported","end":{"exit_code":9}}')
            log.write("starship", "enterprise", "launched", b"{}")
        chained(log, entities)
    with opened() as store:
        applied(store, log, cuts)
        assert rows(store, entities) == {key: shown(row) for key, row in log.told[len(log.records)].items()}
        assert compare(store, KEPT[0]) is None
        past = data.draw(st.sampled_from(sorted(log.told)))
        assert rows(store, entities, seq=past) == {key: shown(row) for key, row in log.told[past].items()}
        assert verify(store, log.records) == []


@LAW
@given(data=st.data(), cuts=st.lists(st.integers(0, 100), max_size=3))
def test_nodes_findings_and_decisions_follow_their_rules_too(data: st.DataObject, cuts: list[int]) -> None:
    log = Log()
    started = st.builds(
        node.Started,
        boot=st.sampled_from("ab"),
        host=st.text(max_size=5),
        pid=st.integers(1, 9),
        version=st.just("1"),
        cores=st.integers(1, 8),
        memory_bytes=st.integers(0, 2**40),
        roles=st.lists(st.text(max_size=4), max_size=2).map(tuple),
    )
    stopped = st.builds(node.Stopped, boot=st.sampled_from("ab"))
    again = st.builds(node.ActorRestarted, actor=st.just("x"), reason=st.just("y"), restarts=st.just(1))
    opening = st.builds(
        finding.Open, type=st.text(max_size=4), about=st.text(max_size=4), text=st.text(max_size=4)
    )
    recording = st.one_of(started, stopped, again).map(lambda event: node.Record(event=event))
    making = st.builds(
        decision.Make,
        type=st.sampled_from(["scale_up", "refused"]),
        module=st.text(max_size=4),
        context=st.text(max_size=9),
        data=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3),
    )
    wishes = st.lists(recording | opening | st.just(finding.Close()) | making, max_size=14)
    for command in data.draw(wishes):
        match command:
            case node.Record():
                log.ask("node", "node_a", command)
            case decision.Make():
                log.ask("decision", f"dec_{command.module == 'a'}".lower(), command)
            case _:
                log.ask("finding", "find_a", command)
    with opened() as store:
        applied(store, log, cuts)
        assert [compare(store, projection) for projection in KEPT] == [None] * len(KEPT)
        row = store.row("nodes", "node_a")
        if row is not None:
            state: node.State = log.states["node", "node_a"]
            assert (row["status"], row["boot"], row["restarts"]) == (state.status, state.boot, state.restarts)
        row = store.row("findings", "find_a")
        if row is not None:
            assert (row["closed_at"] is None) == log.states["finding", "find_a"].open
        for entity in ("dec_true", "dec_false"):
            row = store.row("decisions", entity)
            assert (row is not None) == (("decision", entity) in log.states)
