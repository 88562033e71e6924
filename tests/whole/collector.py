"""A small collector of traces: it takes OTLP over HTTP in JSON, and reads it as OpenTelemetry defines it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

IDS = ("traceId", "spanId", "parentSpanId")


def read(body: bytes) -> list[Any]:
    """The spans of a request; an unknown field is an error."""
    tree: dict[str, Any] = json.loads(body)
    for each in tree["resourceSpans"]:
        for scope in each["scopeSpans"]:
            for span in scope["spans"]:
                for name in set(IDS) & span.keys():
                    # OTLP has ids in hex, the JSON of protobuf in base64 (OTLP, JSON Protobuf Encoding).
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = json_format.ParseDict(tree, ExportTraceServiceRequest())
    return [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


class Collector:
    """Listens on a port until it is closed, and can come back on the same one."""

    def __init__(self, port: int = 0, answers: list[int] | None = None) -> None:
        self.spans: list[Any] = []
        self.faults: list[str] = []
        self.answers = answers or []
        """What it answers next, before it takes anything."""
        outer = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.take(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  it is called so there
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Door)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(self, door: BaseHTTPRequestHandler) -> None:
        body = door.rfile.read(int(door.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 200
        if (door.path, door.headers["Content-Type"]) != ("/v1/traces", "application/json"):
            self.faults.append(f"{door.path} {door.headers['Content-Type']}")
        if status == 200:
            try:
                self.spans += read(body)
            except Exception as error:  # noqa: BLE001  whatever it is, the test has to see it
                self.faults.append(repr(error))
        door.send_response(status)
        door.send_header("Content-Type", "application/json")
        door.send_header("Content-Length", "2")
        door.end_headers()
        door.wfile.write(b"{}")

    def of(self, trace: str) -> dict[str, Any]:
        """The spans of a trace by their names; the same span told twice must be the same."""
        found: dict[str, Any] = {}
        for span in self.spans:
            if span.trace_id.hex() == trace:
                assert not self.faults
                other = found.setdefault(span.span_id.hex(), span)
                assert other == span
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span."""
    made: dict[str, Any] = {}
    for each in span.attributes:
        kind = cast("str", each.value.WhichOneof("value"))
        made[each.key] = getattr(each.value, kind)
    return made
