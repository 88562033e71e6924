"""What a monitoring system reads from a real node: Prometheus' own parser takes it, and the tables agree."""

import asyncio
import os
import signal
from typing import Any, cast

import httpx
import pytest
from foreign import Foreign, Place, connect
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from interfaces.metrics import FAMILIES, PARTS
from projections.metrics import BUCKETS
from tests.waiting import turned

pytestmark = pytest.mark.asyncio
Labels = tuple[tuple[str, str], ...]


class Scrape:
    """One answer of `/metrics`, as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: dict[str, dict[Labels, float]] = {}
        for family in self.families.values():
            for sample in family.samples:
                found = self.samples.setdefault(sample.name, {})
                labels = tuple(sorted(sample.labels.items()))
                assert labels not in found, f"{sample.name} {labels} is there twice"
                found[labels] = sample.value

    def one(self, name: str, **labels: str) -> float:
        return self.samples[name][tuple(sorted(labels.items()))]


async def scrape(url: str, **headers: str) -> Scrape:
    async with httpx.AsyncClient(timeout=20, base_url=url, headers=headers) as http:
        reply = await http.get("/metrics")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(reply.text)


async def load(bus: Foreign) -> None:
    """Ends of every kind, one of them after two attempts; two that run, and three that wait."""
    await bus.ask("limit.set", {"key": "one", "max": 1})
    for _ in range(4):
        await bus.run(shell={"command": "true"})
    await bus.run(shell={"command": "sleep 0.3"})
    await bus.run(shell={"command": "exit 3"}, retries={"max": 1, "backoff_ms": 1})
    await bus.run(shell={"command": "sleep 60"}, timeout_ms=100)
    gone = await bus.submit(shell={"command": "true"}, delay_ms=3_600_000)
    await bus.ask("execution.cancel", {"execution_id": gone})
    first = await bus.submit(shell={"command": "sleep 600"}, concurrency_key="one")

    async def runs() -> bool:
        now = await bus.ask("execution.get", {"execution_id": first})
        return now["execution"]["status"] == "running"

    await bus.until(runs)
    await bus.submit(shell={"command": "true"}, concurrency_key="one", priority="low")
    await bus.submit(shell={"command": "true"}, delay_ms=3_600_000)
    for _ in range(2):
        await bus.submit(shell={"command": "sleep 600"}, priority="high")


async def sql(bus: Foreign, query: str, seq: int) -> list[list[Any]]:
    return (await bus.ask("query.sql", {"sql": query, "seq": seq}))["rows"]


async def test_the_figures_are_those_of_the_tables(own: Place) -> None:
    own.up(HINDBRAIN_MAX_CONCURRENT_EXECUTIONS="2")
    info = own.wrote
    async with connect(info["nats_url"]) as bus:
        await load(bus)

        async def settled() -> Scrape | None:
            """Two run, the tables know all there is, and nothing was said since."""
            now = await scrape(info["http_url"])
            runs = now.samples.get("hindbrain_executions_running") == {(("module", "commands"),): 2}
            known = now.one("hindbrain_projector_lag_events") == 0
            same = now.one("hindbrain_log_last_sequence") == await bus.last()
            return now if runs and known and same else None

        now = await turned(settled)
        assert now is not None
        seq = int(now.one("hindbrain_log_last_sequence"))
        about = {"module": "commands"}
        assert now.one("hindbrain_executions_submitted_total", **about) == 13
        over = "SELECT status, count(*) FROM executions WHERE completed_at IS NOT NULL GROUP BY 1"
        rows = await sql(bus, over, seq)
        assert dict(map(tuple, rows)) == {"completed": 5, "failed": 1, "timed_out": 1, "cancelled": 1}
        for status, count in rows:
            assert now.one("hindbrain_executions_ended_total", status=status, **about) == count
        assert now.samples["hindbrain_queue_executions"] == {(*about.items(), ("priority", "high")): 1}
        assert now.one("hindbrain_queue_oldest_seconds", priority="high", **about) >= 0
        assert now.samples["hindbrain_held_executions"] == {
            (*about.items(), ("reason", "limit")): 1,
            (*about.items(), ("reason", "time")): 1,
        }
        assert now.one("hindbrain_retries_total", **about) == 1
        assert now.one("hindbrain_attempts_failed_total") == 1
        assert now.one("hindbrain_attempts_lost_total") == 0
        ran = await sql(bus, "SELECT duration_ms FROM executions WHERE duration_ms IS NOT NULL", seq)
        durations = [row[0] / 1000 for row in ran]
        name = "hindbrain_execution_duration_seconds"
        assert now.one(f"{name}_count", **about) == len(durations) == 7
        assert now.one(f"{name}_sum", **about) == pytest.approx(sum(durations))
        for bound in BUCKETS:
            within = sum(each <= bound for each in durations)
            assert now.one(f"{name}_bucket", le=str(float(bound)), **about) == within
        assert now.one(f"{name}_bucket", le="+Inf", **about) == 7
        events = await sql(bus, "SELECT kind, event, count(*) FROM events GROUP BY 1, 2", seq)
        told = {
            (dict(key)["kind"], dict(key)["event"]): n
            for key, n in now.samples["hindbrain_events_total"].items()
        }
        assert told == {(kind, event): count for kind, event, count in events}
        # The node itself.
        node = info["node"]
        for process in ("node", "nats", "keeper", "projector"):
            assert now.one("hindbrain_process_cpu_seconds_total", node=node, process=process) > 0
            assert now.one("hindbrain_process_resident_memory_bytes", node=node, process=process) > 1e6
        actors = {dict(key)["actor"] for key in now.samples["hindbrain_actor_mailbox_messages"]}
        assert {"gateway", "executor", "projector", "librarian-1"} <= actors
        assert now.one("hindbrain_actor_restarts_total", node=node, actor="executor") == 0
        assert now.one("hindbrain_node_slots", node=node) == 2
        assert now.one("hindbrain_build_info", node=node, version=info["version"]) == 1
        assert now.one("hindbrain_nats_connections", node=node) >= 3
        assert now.one("hindbrain_nats_memory_bytes", node=node) > 1e6
        assert now.samples["hindbrain_up"] == {(("part", part),): 1 for part in PARTS}
        assert now.one("hindbrain_projector_last_event_timestamp_seconds") > 1.7e9


async def test_names_and_texts_are_as_prometheus_wants_them(info: dict[str, Any]) -> None:
    now = await scrape(info["http_url"])
    for family in FAMILIES:
        told = now.families[family.name.removesuffix("_total")]
        assert (told.documentation, told.type) == (family.text, family.kind)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert all(set(sample.labels) - {"le"} == set(family.labels) for sample in told.samples)
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        reply = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    read: Any = cast("Any", openmetrics).text_string_to_metric_families  # its types are left out
    assert len(list(read(reply.text))) == len(FAMILIES)


async def test_what_does_not_answer_is_named_and_the_rest_is_told(own: Place) -> None:
    own.up()
    info = own.wrote
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        os.kill(info["projector_pid"], signal.SIGSTOP)
        try:
            late, now = await asyncio.gather(http.get("/readyz"), scrape(info["http_url"]))
        finally:
            os.kill(info["projector_pid"], signal.SIGCONT)
        assert late.status_code == 503
        error = late.json()["error"]
        assert error["code"] == "unavailable"
        assert error["message"].startswith("not ready: tables: ")
        assert list(error["details"]) == ["tables"]
        assert now.one("hindbrain_up", part="tables") == 0
        assert now.one("hindbrain_up", part="log") == 1
        assert now.one("hindbrain_log_last_sequence") > 0
        assert "hindbrain_events_total" not in now.samples
        assert (await http.get("/healthz")).status_code == 200

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await turned(ready)


async def test_with_a_token_the_figures_need_it(own: Place) -> None:
    own.up(HINDBRAIN_HTTP__TOKEN="hush")
    url = own.wrote["http_url"]
    async with httpx.AsyncClient(timeout=20, base_url=url) as http:
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/readyz")).status_code == 200
    assert (await scrape(url, Authorization="Bearer hush")).one("hindbrain_up", part="log") == 1
