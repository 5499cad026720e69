"""What Prometheus is told, and that guide, alerts and dashboard speak of nothing else."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fusepkg.daemon.observed import Observed
from fusepkg.daemon.records import MountRecord
from fusepkg.errors import SystemFailure
from fusepkg.fetch.counters import Counters
from fusepkg.fetch.waits import Waits
from fusepkg.metrics import exposition as module
from fusepkg.metrics.exposition import COUNTERS, exposition, serve, write_file

ROOT = Path(__file__).parents[3]

CACHE = {
    "directory": "/cache", "bytes": 70, "blobs": 7, "max_bytes": None, "min_free_bytes": 5, "evictions": 2,
    "evicted_bytes": 20, "verification_failures": 1,
}  # fmt: skip


def mount(name: str) -> MountRecord:
    return MountRecord(
        mount_id=name, pid=1, mountpoint=f'/m/{name}"\n', device="0:1", reference="local/p:v1", top_hash="ab" * 32,
        engine="fuse", engine_reason="", started_s=5.0, socket="/none", log="", index_root="",
    )  # fmt: skip


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[Observed]:
    """Two mounts with one cache, and one whose daemon is gone."""
    waits = Waits()
    for seconds in (0.0004, 0.015, 400.0):
        waits.add(seconds)
    facts = {"entries": 3, "total_bytes": 30, "cache": CACHE, "waits": waits.as_dict()}
    found = [
        Observed(mount("a"), facts | {"counters": Counters(fetched_bytes=11, failed_fetches=1).as_dict()}),
        Observed(mount("b"), facts | {"counters": Counters(fetched_bytes=22).as_dict()}),
        Observed(mount("dead"), None, "the mount's daemon does not answer"),
    ]
    monkeypatch.setattr(module, "observe_mounts", lambda: found)
    return found


def samples(text: str) -> dict[str, dict[str, float]]:
    """Values by metric, and within it by the first label's value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[next(iter(sample.labels.values()))] = sample.value
    return found


def test_each_mount_and_each_cache_is_told_once(mounts: list[Observed]) -> None:
    found = samples(exposition().decode())
    first, second, dead = (one.record.mountpoint for one in mounts)
    assert found["fusepkg_mount_up"] == {first: 1, second: 1, dead: 0}
    assert found["fusepkg_fetched_bytes_total"] == {first: 11, second: 22}
    assert found["fusepkg_failed_fetches_total"] == {first: 1, second: 0}
    assert found["fusepkg_cache_bytes"] == {"/cache": 70}
    assert "fusepkg_cache_max_bytes" not in found
    assert found["fusepkg_cache_evictions_total"] == {"/cache": 2}
    assert found["fusepkg_read_wait_seconds_count"] == {first: 3, second: 3}
    of_first = [line for line in exposition().decode().splitlines() if "wait_seconds_bucket" in line][:17]
    assert [int(float(line.rpartition(" ")[2])) for line in of_first] == [1] * 4 + [2] * 12 + [3]


def test_every_counter_of_a_mount_is_a_metric() -> None:
    assert set(COUNTERS) == set(asdict(Counters()))


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"fusepkg_\w+", expression))


def expressions() -> Iterator[str]:
    examples = ROOT / "docs" / "examples" / "prometheus"
    for group in yaml.safe_load((examples / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "action"}
            yield rule["expr"]
    dashboard = json.loads((examples / "dashboard.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    yield from (one["query"] for one in dashboard["templating"]["list"])


def test_alerts_and_dashboard_ask_for_metrics_there_are(mounts: list[Observed]) -> None:
    there = set(samples(exposition().decode())) | {"fusepkg_cache_max_bytes"}
    asked = [names_in(expression) for expression in expressions()]
    assert len(asked) > 15
    assert set().union(*asked) <= there


def test_the_guide_names_every_metric(mounts: list[Observed]) -> None:
    guide = (ROOT / "docs" / "guides" / "monitoring.md").read_text()
    there = set(samples(exposition().decode())) | {"fusepkg_cache_max_bytes"}
    there = {re.sub("_seconds_(bucket|count|sum)$", "_seconds", name) for name in there}
    assert names_in(guide) - {"fusepkg_birds"} == there


def test_prometheus_is_answered_over_http(mounts: list[Observed]) -> None:
    end: Callable[[], None] | None = None
    for port in range(20_464, 20_564):
        try:
            end = serve("127.0.0.1", port)
        except OSError:
            continue
        break
    assert end is not None
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert b"fusepkg_mount_up" in answer.read()
        with pytest.raises(OSError, match="in use"):
            serve("127.0.0.1", port)
    finally:
        end()


def test_a_file_is_replaced_whole(mounts: list[Observed], tmp_path: Path) -> None:
    (directory := tmp_path / "textfiles").mkdir()
    place = directory / "fusepkg.prom"
    write_file(place)
    write_file(place)
    assert [one.name for one in directory.iterdir()] == ["fusepkg.prom"]
    assert samples(place.read_text())["fusepkg_mount_up"]
    with pytest.raises(SystemFailure, match="cannot be written"):
        write_file(tmp_path / "none" / "fusepkg.prom")


def test_without_mounts_there_are_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "observe_mounts", list)
    assert samples(exposition().decode()) == {}
