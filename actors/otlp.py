"""Tells a collector of traces (OpenTelemetry) of everything that is over.

It speaks OTLP over HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp): ids in hex, numbers of
64 bits as text, one POST for each lot of facts.  The spans are made of facts alone, so what is sent twice is
the same twice.
"""

import logging
import queue
import re
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from actors.spans import NEEDED, OVER, Span, Value, of
from events.clock import millis
from events.codec import Fact
from events.errors import Timeout, Unavailable
from events.execution import EXECUTION
from events.plan import PLAN
from events.ports import Decider, Loaded, Log

log = logging.getLogger(__name__)

PATH = "/v1/traces"
POST_SECONDS = 10.0
READ_SECONDS = 20.0
REMEMBERED = 20_000
"""Entities that are not over whose facts are kept; of others they are read once more."""
LATER = (429, 502, 503, 504)
"""With these the collector asks to be told again; after any other refusal it must not be (OTLP, Failures)."""
Key = tuple[str, str]
"""Kind and id."""
_REJECTED = re.compile(rb'"rejectedSpans"\s*:\s*"?[1-9]')
_KINDS: dict[str, Decider[Any]] = {"execution": EXECUTION, "plan": PLAN}


class Otlp:
    """Hears of facts in lots, and posts the spans of what they end."""

    def __init__(self, endpoint: str, journal: Log, node: str, version: str) -> None:
        self._url = endpoint.rstrip("/") + PATH
        self._log = journal
        self._resource = {
            "service.name": "hindbrain",
            "service.instance.id": node,
            "service.version": version,
        }
        self._known: OrderedDict[Key, list[Fact]] = OrderedDict()

    def on_facts(self, facts: Sequence[Fact]) -> None:
        """Take note of them, and post what is over; an error means that nothing was."""
        ended: list[tuple[Key, Fact]] = []
        for fact in facts:
            key = (fact.kind, fact.entity)
            if fact.kind in _KINDS and isinstance(fact.event, NEEDED):
                known = self._known.setdefault(key, [])
                if not known or known[-1].n < fact.n:  # else they were posted in vain, and come again
                    known.append(fact)
                if isinstance(fact.event, OVER):
                    ended.append((key, fact))
        self._complete([key for key, _ in ended])
        spans = [span for key, last in ended for span in of(self._until(key, last))]
        if spans:
            self._post(spans)
        for key, _ in ended:
            self._known.pop(key, None)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _until(self, key: Key, last: Fact) -> list[Fact]:
        return [fact for fact in self._known[key] if fact.n <= last.n]

    def _complete(self, keys: Sequence[Key]) -> None:
        """Read the beginning of those that began before we listened."""
        for kind, decider in _KINDS.items():
            late = {key[1] for key in keys if key[0] == kind and self._known[key][0].n > 1}
            for loaded in self._read(decider, sorted(late)):
                if isinstance(loaded.error, Unavailable | Timeout):
                    raise loaded.error
                if loaded.error is not None:
                    log.warning("%s has no trace: %s", loaded.entity, loaded.error)
                kept = [fact for fact in loaded.facts if isinstance(fact.event, NEEDED)]
                self._known[kind, loaded.entity] = kept

    def _read(self, decider: Decider[Any], entities: Sequence[str]) -> list[Loaded]:
        found: list[Loaded] = []
        answers: queue.SimpleQueue[Sequence[Loaded]] = queue.SimpleQueue()
        if entities:
            self._log.load(decider, entities, answers.put)
        deadline = time.monotonic() + READ_SECONDS
        while len(found) < len(entities):
            try:
                found += answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Unavailable("the log does not answer") from None
        return found

    def _post(self, spans: Sequence[Span]) -> None:
        request = urllib.request.Request(  # noqa: S310 -- the settings check the scheme
            self._url, data=encode(spans, self._resource), headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=POST_SECONDS) as answer:  # noqa: S310 -- as above
                said = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code in LATER:
                    raise Unavailable(f"{self._url} answers {error.code}") from error
                log.warning("%s refuses %d spans: %d %s", self._url, len(spans), error.code, error.reason)
            return
        if _REJECTED.search(said):
            log.warning("%s refuses some spans: %s", self._url, said[:500].decode(errors="replace"))


def encode(spans: Sequence[Span], resource: dict[str, str]) -> bytes:
    """Write spans as an `ExportTraceServiceRequest` in JSON."""
    scope = {"scope": {"name": "hindbrain"}, "spans": [_span(each) for each in spans]}
    return msgspec.json.encode(
        {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}
    )


def _span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": 1,  # internal
        "startTimeUnixNano": str(millis(span.begin) * 1_000_000),
        "endTimeUnixNano": str(millis(span.end) * 1_000_000),
        "attributes": _attributes(span.attributes),
        "status": {} if span.error is None else {"code": 2, "message": span.error},
    }
    return made | {"parentSpanId": span.parent} if span.parent else made


def _attributes(found: "dict[str, Value] | dict[str, str]") -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in found.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
