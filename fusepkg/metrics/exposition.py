"""All metrics, gathered from the mounts each time somebody asks: nothing is kept between two answers."""

from __future__ import annotations

import os
from itertools import accumulate
from typing import TYPE_CHECKING

from fusepkg.daemon.observed import observe_mounts
from fusepkg.errors import MissingExtra, SystemFailure

try:
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise MissingExtra("metrics need prometheus-client", hint='pip install "fusepkg[metrics]"') from exc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from fusepkg.daemon.observed import Observed

COUNTERS = {
    "served_bytes": "Bytes given to readers.",
    "cache_hits": "Reads that the cache answered.",
    "cache_misses": "Reads that waited for the bucket.",
    "in_place_reads": "Reads that files of this machine answered where they lie.",
    "in_place_bytes": "Their bytes.",
    "fetched_objects": "GETs of data that succeeded.",
    "fetched_bytes": "Data bytes that came from the bucket.",
    "ahead_bytes": "Bytes fetched before anybody asked for them.",
    "ahead_read_bytes": "Of these, bytes that somebody has read since.",
    "lower_objects": "Blobs and chunks that came from the lower cache.",
    "lower_bytes": "Their bytes.",
    "shared_objects": "Blobs and chunks that another process fetched meanwhile.",
    "chunk_lists": "Chunk lists, and parts of lists of block hashes, that came from the bucket.",
    "failed_fetches": "Fetches that ended in an error after all tries: readers saw EIO.",
    "digest_mismatches": "Objects whose bytes were not what the manifest says.",
    "wrong_answers": "Answers of the bucket with other bytes than they should have; most come right the second time.",
    "cache_failures": "Blobs that could not be kept in the cache.",
}
"""Counters of a mount, by the name ``fusepkg_NAME_total``."""

CACHE_GAUGES = {
    "bytes": "Bytes that the cache holds.",
    "blobs": "Blobs that the cache holds.",
    "max_bytes": "What the cache may hold; absent without a bound.",
    "min_free_bytes": "What the cache leaves free on its disk.",
}

CACHE_COUNTERS = {
    "evictions": "Blobs that were evicted.",
    "evicted_bytes": "Their bytes.",
    "verification_failures": "Cached blocks that were damaged, and fetched again.",
}


class Mounts(Collector):
    """Prometheus's collector of all mounts of this user."""

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        mounts = observe_mounts()
        yield from _of_mounts(mounts)
        yield from _of_caches(mounts)


def _of_mounts(mounts: list[Observed]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "fusepkg_mount_info", "1, and what is mounted.", labels=["mountpoint", "reference", "hash", "engine"]
    )
    up = GaugeMetricFamily("fusepkg_mount_up", "1 if the mount's daemon answers.", labels=["mountpoint"])
    started = GaugeMetricFamily(
        "fusepkg_mount_start_time_seconds", "When it was mounted, in Unix time.", labels=["mountpoint"]
    )
    files = GaugeMetricFamily("fusepkg_mount_files", "Entries of the version.", labels=["mountpoint"])
    sizes = GaugeMetricFamily("fusepkg_mount_size_bytes", "Bytes of the version.", labels=["mountpoint"])
    for one in mounts:
        record = one.record
        place = [record.mountpoint]
        info.add_metric([*place, record.reference, record.top_hash, record.engine], 1)
        up.add_metric(place, one.facts is not None)
        started.add_metric(place, record.started_s)
        if one.facts is not None:
            files.add_metric(place, one.facts["entries"])
            sizes.add_metric(place, one.facts["total_bytes"])
    yield from (info, up, started, files, sizes)
    for name, words in COUNTERS.items():
        family = CounterMetricFamily(f"fusepkg_{name}", words, labels=["mountpoint"])
        for one in mounts:
            if one.facts is not None:
                family.add_metric([one.record.mountpoint], one.counter(name))
        yield family
    waits = HistogramMetricFamily(
        "fusepkg_read_wait_seconds", "How long reads waited that the cache did not answer.", labels=["mountpoint"]
    )
    for one in mounts:
        if one.facts is not None and "waits" in one.facts:  # a daemon of before does not tell
            facts = one.facts["waits"]
            bounds = [*map(str, facts["bounds_s"]), "+Inf"]
            buckets = list(zip(bounds, accumulate(facts["counts"]), strict=True))
            waits.add_metric([one.record.mountpoint], buckets, facts["sum_s"])
    yield waits


def _of_caches(mounts: list[Observed]) -> Iterator[Metric]:
    """Each cache once, however many mounts share it."""
    caches = {one.facts["cache"]["directory"]: one.facts["cache"] for one in mounts if one.facts and one.facts["cache"]}
    for name, words in CACHE_GAUGES.items():
        gauge = GaugeMetricFamily(f"fusepkg_cache_{name}", words, labels=["directory"])
        for directory, facts in caches.items():
            if facts.get(name) is not None:
                gauge.add_metric([directory], facts[name])
        yield gauge
    for name, words in CACHE_COUNTERS.items():
        counter = CounterMetricFamily(f"fusepkg_cache_{name}", words, labels=["directory"])
        for directory, facts in caches.items():
            counter.add_metric([directory], facts.get(name, 0))
        yield counter


def exposition() -> bytes:
    """Return all metrics as text."""
    return generate_latest(_registry())


def serve(host: str, port: int) -> Callable[[], None]:
    """Answer HTTP in threads of this process; return what ends it. Raises OSError where that port is taken."""
    server, thread = start_http_server(port, addr=host, registry=_registry())

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def write_file(path: Path) -> None:
    """Write the text to a file, which is replaced as a whole. Raises SystemFailure."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(exposition())
        draft.replace(path)
    except OSError as exc:
        raise SystemFailure(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Mounts())
    return registry
