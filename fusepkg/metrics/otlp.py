"""The same metrics sent to an OpenTelemetry collector, by OTLP over HTTP: for those who run no Prometheus."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from fusepkg import __version__
from fusepkg.errors import MissingExtra, UsageError
from fusepkg.metrics.exposition import Mounts

try:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Histogram,
        HistogramDataPoint,
        Metric,
        MetricExportResult,
        MetricsData,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
except ImportError as exc:
    raise MissingExtra("OTLP needs the SDK of OpenTelemetry", hint='pip install "fusepkg[otel]"') from exc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from prometheus_client.core import Metric as Family

log = logging.getLogger(__name__)

_PATH = "/v1/metrics"
"""Where collectors take metrics, if the address names no path."""

_UNKNOWN_START = 0
"""Since when a counter counts is not told: a mount's process that replaces another one begins anew."""


class _Said(logging.Handler):
    """Keeps the last words of the exporter, which has several for each try: we tell of them once."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR or not self.last:  # the end of all tries says less than each of them
            self.last = record.getMessage()


class Collector:
    """A collector at an address. Credentials, certificates and compression come from the environment (OTEL_*)."""

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("http", "https") or not rest.strip("/"):
            raise UsageError(f"--otlp {url} is not the address of a collector", hint="http://127.0.0.1:4318")
        self._exporter = OTLPMetricExporter(url if "/" in rest.rstrip("/") else url.rstrip("/") + _PATH)
        self._said = _Said()
        theirs = logging.getLogger(OTLPMetricExporter.__module__)
        theirs.handlers[:], theirs.propagate = [self._said], False
        self._resource = Resource.create({"service.name": "fusepkg", "service.version": __version__})

    def send(self) -> bool:
        """Send all metrics as they are now; return whether they arrived. The exporter tries again for a few seconds."""
        scope = ScopeMetrics(InstrumentationScope("fusepkg", __version__), list(_translated(time.time_ns())), "")
        data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        return self._exporter.export(data) is MetricExportResult.SUCCESS

    def send_every(self, seconds: float, ended: Event) -> None:
        """Send all metrics again and again until ``ended``; a collector that does not answer is told of once."""
        is_missed = False
        while not ended.is_set():
            has_arrived = self.send()
            if has_arrived is is_missed:
                says = "takes metrics again" if has_arrived else f"does not take metrics: {self._said.last}"
                log.warning("the collector %s", says)
            self._said.last = ""
            is_missed = not has_arrived
            ended.wait(seconds)
        self._exporter.shutdown()


def _translated(now_ns: int) -> Iterator[Metric]:
    """Yield the metrics of Prometheus as OpenTelemetry has them; receivers add the suffix ``_total`` to sums again."""
    cumulative = AggregationTemporality.CUMULATIVE
    for family in Mounts().collect():
        data: Gauge | Histogram | Sum
        if family.type == "histogram":
            data = Histogram(list(_histograms(family, now_ns)), cumulative)
        else:
            points = [
                NumberDataPoint(dict(one.labels), _UNKNOWN_START, now_ns, float(one.value))
                for one in family.samples
                if not one.name.endswith("_created")
            ]
            data = Sum(points, cumulative, is_monotonic=True) if family.type == "counter" else Gauge(points)
        if data.data_points:
            yield Metric(family.name, family.documentation, "", data)


def _histograms(family: Family, now_ns: int) -> Iterator[HistogramDataPoint]:
    """Yield one point per mount: Prometheus counts all up to a bound, OpenTelemetry those between two."""
    mounts = dict.fromkeys(one.labels["mountpoint"] for one in family.samples)
    for mountpoint in mounts:
        ours = [one for one in family.samples if one.labels["mountpoint"] == mountpoint]
        up_to = [(float(one.labels["le"]), int(one.value)) for one in ours if one.name.endswith("_bucket")]
        counts = [after - before for before, after in pairwise([0, *(count for _, count in up_to)])]
        total = next(one.value for one in ours if one.name.endswith("_sum"))
        yield HistogramDataPoint(
            attributes={"mountpoint": mountpoint},
            start_time_unix_nano=_UNKNOWN_START,
            time_unix_nano=now_ns,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=[bound for bound, _ in up_to[:-1]],
            min=None,  # type: ignore[arg-type]  # it is optional on the wire, and not known
            max=None,  # type: ignore[arg-type]
        )
