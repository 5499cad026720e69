"""What a collector of OpenTelemetry gets: the numbers of Prometheus, over a real connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from fusepkg.daemon.observed import Observed
from fusepkg.errors import UsageError
from fusepkg.metrics import exposition
from fusepkg.metrics.exposition import COUNTERS
from fusepkg.metrics.otlp import Collector
from tests.unit.metrics.test_exposition import mounts

__all__ = ["mounts"]


class Receiver(ThreadingHTTPServer):
    """Takes what is sent by OTLP, or answers with another status."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.taken: list[tuple[str, ExportMetricsServiceRequest]] = []
        self.has_taken = threading.Event()


class _Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/x-protobuf"
        self.server.taken.append((self.path, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.has_taken.set()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def collector(receiver: Receiver) -> Collector:
    return Collector(f"http://127.0.0.1:{receiver.server_port}")


def points(request: ExportMetricsServiceRequest) -> dict[str, dict[str, Any]]:
    """Data points by metric, and within it by the value of their first attribute."""
    (resource,) = request.resource_metrics
    assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "fusepkg"
    (scope,) = resource.scope_metrics
    found: dict[str, dict[str, Any]] = {}
    for metric in scope.metrics:
        data = getattr(metric, metric.WhichOneof("data"))
        found[metric.name] = {point.attributes[0].value.string_value: point for point in data.data_points}
        if metric.WhichOneof("data") == "sum":
            assert (data.is_monotonic, data.aggregation_temporality) == (True, 2)
    return found


def test_the_collector_gets_the_numbers_of_prometheus(
    mounts: list[Observed], receiver: Receiver, collector: Collector
) -> None:
    assert collector.send()
    ((path, request),) = receiver.taken
    assert path == "/v1/metrics"
    found = points(request)
    first, second, dead = (one.record.mountpoint for one in mounts)
    assert {name: point.as_double for name, point in found["fusepkg_mount_up"].items()} == {
        first: 1,
        second: 1,
        dead: 0,
    }
    assert {name: point.as_double for name, point in found["fusepkg_fetched_bytes"].items()} == {first: 11, second: 22}
    assert found["fusepkg_cache_bytes"]["/cache"].as_double == 70
    assert found["fusepkg_cache_evictions"]["/cache"].as_double == 2
    waits = found["fusepkg_read_wait_seconds"][first]
    assert (waits.count, sum(waits.bucket_counts), len(waits.explicit_bounds)) == (3, 3, len(waits.bucket_counts) - 1)
    assert waits.sum == pytest.approx(400.0154)
    assert not waits.HasField("min")
    assert [number for number, count in enumerate(waits.bucket_counts) if count] == [0, 4, 16]
    families = [family for family in exposition.Mounts().collect() if family.samples]
    assert set(found) == {family.name for family in families}
    assert {f"fusepkg_{name}" for name in COUNTERS} <= set(found)


def test_it_goes_on_when_the_collector_does_not_answer(
    mounts: list[Observed], receiver: Receiver, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 400  # one that is not tried again
    ended = threading.Event()
    sender = threading.Thread(target=collector.send_every, args=(0.01, ended))
    sender.start()
    try:
        for status in (400, 200):
            receiver.status = status
            receiver.taken.clear()
            while len(receiver.taken) < 3:
                assert receiver.has_taken.wait(30)
                receiver.has_taken.clear()
    finally:
        ended.set()
        sender.join()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fusepkg")]
    assert len(ours) == 2
    assert ours[0].startswith("the collector does not take metrics: ")
    assert "400" in ours[0]
    assert ours[1] == "the collector takes metrics again"


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--otlp"):
        Collector(url)


def test_an_address_with_a_path_is_taken_as_it_is(mounts: list[Observed], receiver: Receiver) -> None:
    assert Collector(f"http://127.0.0.1:{receiver.server_port}/otlp/v1/metrics").send()
    assert receiver.taken[0][0] == "/otlp/v1/metrics"
