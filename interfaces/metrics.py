"""What a monitoring system is told of an installation, in the formats of Prometheus.

Each family is declared once.  Those of the log and the tables are about the whole installation, and the same
at every node; those with a `node` are about the one that is asked.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from events.service import Table
from interfaces.vitals import Usage
from projections.metrics import BUCKETS

Kind = Literal["counter", "gauge", "histogram"]
PARTS = ("log", "tables", "actors", "nats")
"""Whatever can be unreachable by itself."""
_OVER = ("completed", "failed", "cancelled", "timed_out")


class Family(NamedTuple):
    """One metric with all its labels."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()


FAMILIES: tuple[Family, ...] = (
    Family("hindbrain_build_info", "gauge", "The node that was asked; always 1", ("node", "version")),
    Family(
        "hindbrain_up",
        "gauge",
        "Whether a part answered this scrape; what it knows is left out if not",
        ("part",),
    ),
    Family("hindbrain_executions_submitted_total", "counter", "Executions ever submitted", ("module",)),
    Family(
        "hindbrain_executions_ended_total",
        "counter",
        "Executions that are over, by how",
        ("module", "status"),
    ),
    Family("hindbrain_executions_running", "gauge", "Executions that run now", ("module",)),
    Family(
        "hindbrain_queue_executions",
        "gauge",
        "Executions that any free worker may take",
        ("module", "priority"),
    ),
    Family(
        "hindbrain_queue_oldest_seconds",
        "gauge",
        "How long the oldest of the queue has been in it",
        ("module", "priority"),
    ),
    Family(
        "hindbrain_held_executions",
        "gauge",
        "Executions that wait for something else first: time, backoff, limit, idle",
        ("module", "reason"),
    ),
    Family(
        "hindbrain_execution_duration_seconds",
        "histogram",
        "How long the last process of an execution ran, once that is over",
        ("module",),
    ),
    Family("hindbrain_retries_total", "counter", "Attempts after the first of an execution", ("module",)),
    Family("hindbrain_attempts_failed_total", "counter", "Attempts that failed and were followed by another"),
    Family(
        "hindbrain_attempts_lost_total", "counter", "Attempts whose end nobody saw, or that a node gave back"
    ),
    Family("hindbrain_events_total", "counter", "Events in the log, by what they say", ("kind", "event")),
    Family("hindbrain_findings_open", "gauge", "What a person should look at", ("type",)),
    Family("hindbrain_log_last_sequence", "gauge", "The sequence of the last event in the log"),
    Family("hindbrain_log_size_bytes", "gauge", "How large the log is"),
    Family("hindbrain_projector_lag_events", "gauge", "Events in the log that the tables do not know yet"),
    Family(
        "hindbrain_projector_last_event_timestamp_seconds",
        "gauge",
        "When the last event that is folded into the tables was decided",
    ),
    Family("hindbrain_node_slots", "gauge", "How many commands this node runs at once", ("node",)),
    Family(
        "hindbrain_process_cpu_seconds_total",
        "counter",
        "Processor time of a process of this node, since its start",
        ("node", "process"),
    ),
    Family(
        "hindbrain_process_resident_memory_bytes",
        "gauge",
        "Resident memory of a process of this node",
        ("node", "process"),
    ),
    Family("hindbrain_actor_mailbox_messages", "gauge", "Messages that wait for an actor", ("node", "actor")),
    Family(
        "hindbrain_actor_oldest_message_seconds",
        "gauge",
        "How long the oldest of them has waited",
        ("node", "actor"),
    ),
    Family(
        "hindbrain_actor_restarts_total",
        "counter",
        "How often an actor was made anew, since the start of its process",
        ("node", "actor"),
    ),
    Family("hindbrain_nats_memory_bytes", "gauge", "Memory of the nats-server of this node", ("node",)),
    Family("hindbrain_nats_connections", "gauge", "Connections to the nats-server of this node", ("node",)),
    Family(
        "hindbrain_nats_slow_consumers_total",
        "counter",
        "Connections that the nats-server cut because they were slow, since its start",
        ("node",),
    ),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that was learned for one scrape; None: that part did not answer."""

    node: str
    version: str
    slots: int
    now_ms: int
    executions: Table | None
    rest: Table | None
    log: Mapping[str, Any] | None
    processes: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    actors: Sequence[Mapping[str, Any]] | None = None
    server: Mapping[str, Any] | None = None
    parts: Mapping[str, bool] = field(default_factory=dict[str, bool])


class _Sheet:
    """The values of a scrape, each with its labels."""

    def __init__(self) -> None:
        self.values: dict[str, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))
        self.counts: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))

    def add(self, name: str, value: float, *labels: str) -> None:
        self.values[name][labels] += value


def render(reading: Reading, accept: str) -> tuple[bytes, str]:
    """Write it as text for who accepts that; gives the content type as well."""
    sheet = _Sheet()
    node = reading.node
    sheet.add("hindbrain_build_info", 1, node, reading.version)
    sheet.add("hindbrain_node_slots", reading.slots, node)
    for part, well in reading.parts.items():
        sheet.add("hindbrain_up", well, part)
    for name, usage in reading.processes.items():
        sheet.add("hindbrain_process_cpu_seconds_total", usage.cpu_seconds, node, name)
        sheet.add("hindbrain_process_resident_memory_bytes", usage.memory_bytes, node, name)
    for row in reading.actors or ():
        sheet.add("hindbrain_actor_mailbox_messages", row["length"], node, row["name"])
        sheet.add("hindbrain_actor_oldest_message_seconds", row["oldest_seconds"], node, row["name"])
        sheet.add("hindbrain_actor_restarts_total", row["restarts"], node, row["name"])
    if reading.server is not None:
        sheet.add("hindbrain_nats_memory_bytes", reading.server["mem"], node)
        sheet.add("hindbrain_nats_connections", reading.server["connections"], node)
        sheet.add("hindbrain_nats_slow_consumers_total", reading.server["slow_consumers"], node)
    if reading.log is not None:
        sheet.add("hindbrain_log_last_sequence", reading.log["last_seq"])
        sheet.add("hindbrain_log_size_bytes", reading.log["bytes"])
    if reading.executions is not None:
        _executions(sheet, reading.executions, reading.now_ms)
    if reading.rest is not None:
        _rest(sheet, reading.rest)
        if reading.log is not None:
            lag = max(0, reading.log["last_seq"] - reading.rest.seq)
            sheet.add("hindbrain_projector_lag_events", lag)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(sheet))
    write, content_type = choose_encoder(accept)
    return write(registry), content_type


def _executions(sheet: _Sheet, table: Table, now_ms: int) -> None:
    for module, status, priority, free, count, retries, since in table.rows:
        sheet.add("hindbrain_executions_submitted_total", count, module)
        sheet.add("hindbrain_retries_total", retries, module)
        for over in _OVER:
            sheet.add("hindbrain_executions_ended_total", count if status == over else 0, module, over)
        sheet.add("hindbrain_executions_running", count if status == "running" else 0, module)
        if status == "queued" and free:
            age = max(0.0, (now_ms - since) / 1000)
            sheet.add("hindbrain_queue_executions", count, module, priority)
            sheet.add("hindbrain_queue_oldest_seconds", age, module, priority)


def _rest(sheet: _Sheet, table: Table) -> None:
    sheet.add("hindbrain_attempts_failed_total", 0)
    sheet.add("hindbrain_attempts_lost_total", 0)
    for what, first, second, value, milliseconds in table.rows:
        match what:
            case "duration":
                sheet.counts[(first,)][int(second)] += value
                sheet.add("hindbrain_execution_duration_seconds", milliseconds / 1000, first)
            case "held":
                sheet.add("hindbrain_held_executions", value, first, second)
            case "event":
                sheet.add("hindbrain_events_total", value, first, second)
                if first == "execution" and second in ("attempt_failed", "attempt_lost"):
                    sheet.add(f"hindbrain_{second.replace('attempt', 'attempts')}_total", value)
            case "finding":
                sheet.add("hindbrain_findings_open", value, first)
            case _ if value is not None:
                sheet.add("hindbrain_projector_last_event_timestamp_seconds", value / 1000)
            case _:
                pass


class _Page(Collector):
    """A sheet as the library wants it."""

    def __init__(self, sheet: _Sheet) -> None:
        self._sheet = sheet

    def collect(self) -> Iterable[Metric]:
        """Give every family that has values."""
        for family in FAMILIES:
            if family.kind == "histogram":
                yield self._histogram(family)
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.text, labels=family.labels)
            for labels, value in sorted(self._sheet.values[family.name].items()):
                metric.add_metric(labels, value)
            yield metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for labels, counts in sorted(self._sheet.counts.items()):
            buckets: list[tuple[str, float]] = []
            sum_ = 0
            for bound, count in zip((*map(str, map(float, BUCKETS)), "+Inf"), counts, strict=True):
                sum_ += count
                buckets.append((bound, sum_))
            metric.add_metric(labels, buckets, self._sheet.values[family.name][labels])
        return metric
