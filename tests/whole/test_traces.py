"""One trace from the submission to the end, as a collector of OpenTelemetry gets it from a real node."""

import json
import signal
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from collector import Collector, attributes
from foreign import Foreign, Place, connect, kill

from tests.waiting import became

pytestmark = pytest.mark.asyncio
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def collector() -> Generator[Collector]:
    one = Collector()
    yield one
    one.close()


async def events(bus: Foreign, entity: str) -> list[dict[str, Any]]:
    return (await bus.ask("execution.events", {"execution_id": entity}))["events"]


async def sent(bus: Foreign, verb: str, body: dict[str, Any], trace: str) -> dict[str, Any]:
    """Ask with a traceparent, as an instrumented program does."""
    reply = await bus.nc.request(
        f"brain.cmd.{verb}", json.dumps(body).encode(), timeout=30, headers={"traceparent": trace}
    )
    return json.loads(reply.data)


async def test_a_trace_that_was_sent_is_kept_to_the_end_and_reaches_the_command(
    bus: Foreign, info: dict[str, Any]
) -> None:
    wish = {"shell": {"command": 'printf "$TRACEPARENT"'}}
    one = (await sent(bus, "execution.submit", wish, SENT))["execution_id"]
    async with httpx.AsyncClient(timeout=20, base_url=info["http_url"]) as http:
        reply = await http.post("/api/execution/submit", json=wish, headers={"traceparent": SENT})
        two = reply.json()["execution_id"]
        reply = await http.post("/api/execution/submit", json=wish, headers={"traceparent": "nonsense"})
        three = reply.json()["execution_id"]
    for entity in (one, two):
        over = await bus.over(entity)
        told = await events(bus, entity)
        assert {each["trace"] for each in told} == {SENT}
        version, trace, span, flags = over["result"]["stdout"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert span != CALLER
    over = await bus.over(three)
    (own,) = {each["trace"] for each in await events(bus, three)}
    assert own.split("-")[1] == over["result"]["stdout"].split("-")[1] not in (TRACE, "0" * 32)
    inbox = {"idempotency_key": "traced-inbox", **wish}
    await bus.js.publish(
        "brain.inbox.execution.submit", json.dumps(inbox).encode(), headers={"traceparent": SENT}
    )

    async def there() -> Any:
        reply = await bus.nc.request("brain.cmd.execution.get", b'{"idempotency_key": "traced-inbox"}')
        return json.loads(reply.data).get("execution")

    found = await bus.until(there)
    assert {each["trace"] for each in await events(bus, found["id"])} == {SENT}


async def test_a_command_line_inside_a_trace_stays_in_it(place: Place, bus: Foreign) -> None:
    done = place.cli("run", "--detach", "--json", "--", "true", TRACEPARENT=SENT)
    entity = json.loads(done.stdout)["execution_id"]
    assert {each["trace"] for each in await events(bus, entity)} == {SENT}


async def test_a_collector_gets_one_trace_from_submit_to_end(own: Place, collector: Collector) -> None:
    own.up(HINDBRAIN_OTLP__ENDPOINT=f"http://127.0.0.1:{collector.port}")
    async with connect(own.wrote["nats_url"]) as bus:
        wish = {
            "shell": {"command": "exit 3"},
            "retries": {"max": 1, "backoff_ms": 10},
            "priority": "high",
            "labels": ["nightly", "x"],
        }
        one = (await sent(bus, "execution.submit", wish, SENT))["execution_id"]
        over = await bus.over(one)
        found = await became(lambda: collector.of(TRACE))
        names = {span.name: span for span in found.values()}
        root = names["execution commands"]
        assert sorted(span.name for span in found.values()) == [
            *("attempt 1", "attempt 2", "execution commands", "queued", "queued")
        ]
        assert root.parent_span_id.hex() == CALLER
        assert {span.parent_span_id for span in found.values() if span is not root} == {root.span_id}
        told = attributes(root)
        assert told["hindbrain.execution.id"] == one
        assert (told["hindbrain.status"], told["hindbrain.reason"]) == ("failed", "command_failed")
        assert (told["hindbrain.attempts"], told["process.exit.code"]) == (2, 3)
        assert (told["hindbrain.module"], told["hindbrain.priority"]) == ("commands", "high")
        assert [each.string_value for each in told["hindbrain.labels"].values] == ["nightly", "x"]
        assert (root.status.code, root.status.message) == (2, "Command failed with exit code 3")
        first = names["attempt 1"]
        assert attributes(first)["hindbrain.node"] == over["node"]
        assert (first.status.code, attributes(first)["hindbrain.status"]) == (2, "failed")
        spans = sorted(found.values(), key=lambda span: (span.start_time_unix_nano, span.name != root.name))
        assert spans[0] is root
        for span in spans:
            assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= root.end_time_unix_nano
        # Nobody sent one: it is the root of a trace of its own.  And one that is not sampled is not told of.
        quiet = await sent(bus, "execution.submit", {"shell": {"command": "true"}}, SENT[:-2] + "00")
        await bus.over(quiet["execution_id"])
        two = await bus.submit(shell={"command": "true"})
        await bus.over(two)
        trace = (await events(bus, two))[0]["trace"].split("-")[1]
        found = await became(lambda: collector.of(trace))
        (root,) = (span for span in found.values() if not span.parent_span_id)
        assert (root.name, root.status.code, len(found)) == ("execution commands", 0, 3)
        assert len(collector.of(TRACE)) == 5


async def test_the_steps_of_a_plan_belong_to_its_trace(own: Place, collector: Collector) -> None:
    own.up(HINDBRAIN_OTLP__ENDPOINT=f"http://127.0.0.1:{collector.port}")
    async with connect(own.wrote["nats_url"]) as bus:
        true = {"exec": {"program": "true"}}
        steps = [
            {"name": "lint", **true},
            {"name": "inner", "needs": ["lint"], "steps": [{"name": "x", **true}, {"name": "y", **true}]},
        ]
        reply = await sent(bus, "plan.submit", {"name": "checks", "steps": steps}, SENT)
        await became(lambda: len(collector.of(TRACE)) == 2 + 3 * 3)
        by = {each.span_id: each for each in collector.of(TRACE).values()}
        plans = [each for each in by.values() if each.name == "plan"]
        (outer,) = (each for each in plans if each.parent_span_id.hex() == CALLER)
        (inner,) = (each for each in plans if each is not outer)
        assert inner.parent_span_id == outer.span_id
        assert attributes(outer)["hindbrain.plan.id"] == reply["plan_id"]
        parents = {
            attributes(each)["hindbrain.step"]: by[each.parent_span_id]
            for each in by.values()
            if each.name == "execution commands"
        }
        assert parents == {"lint": outer, "x": inner, "y": inner}


async def test_a_collector_that_was_away_gets_what_it_missed(own: Place, collector: Collector) -> None:
    port = collector.port
    own.up(HINDBRAIN_OTLP__ENDPOINT=f"http://127.0.0.1:{port}")
    async with connect(own.wrote["nats_url"]) as bus:
        long = await bus.submit(shell={"command": f"while [ ! -e {own.data}/go ]; do sleep 0.05; done"})
        await bus.run(shell={"command": "true"})
        await became(lambda: len(collector.spans) == 3)
        collector.close()
        missed = [await bus.submit(shell={"command": "true"}) for _ in range(3)]
        for each in missed:
            await bus.over(each)
    # The node dies too: what began before is known from the log alone.
    kill(own.wrote["pid"], signal.SIGKILL)
    own.up(HINDBRAIN_OTLP__ENDPOINT=f"http://127.0.0.1:{port}")
    back = Collector(port, answers=[503])
    try:
        async with connect(own.wrote["nats_url"]) as bus:
            (own.data / "go").touch()
            assert (await bus.over(long))["status"] == "completed"

            def told() -> bool:
                ids = {attributes(span).get("hindbrain.execution.id") for span in back.spans}
                return {*missed, long} <= ids

            await became(told)
            for each in (*missed, long):
                trace = (await events(bus, each))[0]["trace"].split("-")[1]
                assert sorted(span.name for span in back.of(trace).values()) == [
                    *("attempt 1", "execution commands", "queued")
                ]
    finally:
        back.close()
