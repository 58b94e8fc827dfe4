"""Traces of a real worker, sent to a collector that listens, by OpenTelemetry's own exporter."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.events import EVENT
from tests.support.stream import INVENTORY, Stream
from tests.support.waiting import wait_until

TIMEOUT_S = 60
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector(HTTPServer):
    """Takes what comes and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        self.server.received.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing of interest."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a port of its own."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_batch_is_linked_to_the_request_that_caused_it(stream: Stream, collector: Collector) -> None:
    """The span arrives under the group's name, with a link to the span in the event's header."""
    stream.declare(INVENTORY)
    stream.extra["TALLYSTREAM_TRACING"] = "true"
    stream.extra["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
    stream.extra["OTEL_EXPORTER_OTLP_COMPRESSION"] = "none"
    worker = stream.worker()
    producer = Producer({"bootstrap.servers": stream.kafka.bootstrap_servers})
    header = f"00-{TRACE}-{PARENT}-01".encode()
    value = json.dumps(EVENT | {"recorder": "r"}).encode()
    producer.produce(stream.topic, value, b"r", headers=[("traceparent", header)])
    assert producer.flush(TIMEOUT_S) == 0
    stream.wait_until_read()
    assert worker.terminate() == 0
    wait_until(lambda: collector.received, TIMEOUT_S, "the collector gets spans")
    spans = [
        (resource.resource, span)
        for body in collector.received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    ((resource, span),) = spans
    assert {each.key: each.value.string_value for each in resource.attributes}[
        "service.name"
    ] == f"group-{stream.topic}"
    assert span.name == "apply batch"
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, PARENT)]
    stream.workers.clear()
