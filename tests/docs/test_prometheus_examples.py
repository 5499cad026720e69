"""Alerts and dashboard, as promtool and a real Prometheus see them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusepkg.daemon.observed import Observed
from fusepkg.daemon.records import MountRecord
from fusepkg.fetch.counters import Counters
from fusepkg.fetch.waits import Waits
from fusepkg.metrics import exposition
from tests.rgw import free_port

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "prometheus"
DASHBOARD = json.loads((EXAMPLES / "dashboard.json").read_text())
PANELS = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in DASHBOARD["panels"]}

DEADLINE_S = 60.0
POLL_S = 0.05

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is missing: make setup (apt-get install prometheus)",
)


def promtool(*arguments: object) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=EXAMPLES)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_alerts_and_they_fire_when_they_should() -> None:
    rules = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"][0]["rules"]
    assert f"{len(rules)} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")
    tests = yaml.safe_load((EXAMPLES / "alerts_test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules}


class Busy:
    """A mount whose counters have grown each time it is asked."""

    def __init__(self) -> None:
        self._asked = 0
        self._record = MountRecord(
            mount_id="a", pid=1, mountpoint="/m", device="0:1", reference="local/p:v1", top_hash="ab" * 32,
            engine="fuse", engine_reason="", started_s=5.0, socket="/none", log="", index_root="",
        )  # fmt: skip

    def observe(self) -> list[Observed]:
        self._asked += 1
        waits = Waits()
        for number in range(self._asked):
            waits.add(0.01 * number)
        cache = {"directory": "/cache", "bytes": 70, "blobs": 7, "max_bytes": 100, "min_free_bytes": 5}
        counters = dict.fromkeys(Counters().as_dict(), 3 * self._asked)
        facts = {"entries": 3, "total_bytes": 30, "cache": cache, "waits": waits.as_dict(), "counters": counters}
        return [Observed(self._record, facts)]


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes us, with the alerts loaded."""
    monkeypatch.setattr(exposition, "observe_mounts", Busy().observe)
    ours, its = free_port(), free_port()
    end = exposition.serve("127.0.0.1", ours)
    scrape = {"job_name": "fusepkg", "static_configs": [{"targets": [f"127.0.0.1:{ours}"]}]}
    every = {"scrape_interval": "100ms", "scrape_timeout": "100ms"}
    config = {"global": every, "rule_files": [str(EXAMPLES / "alerts.yml")], "scrape_configs": [scrape]}
    (file := tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{its}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{its}"
    finally:
        process.kill()
        process.wait()
        end()


def ask(address: str, path: str, **values: str) -> Any:
    """The answer's data; None while it does not listen or is not ready."""
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(values)}"
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as exc:
        exc.close()
    except OSError:
        pass
    return None


def test_every_panel_of_the_dashboard_shows_numbers(prometheus: str) -> None:
    """As Grafana asks for them: the panel's expressions, with a mount chosen."""
    deadline = time.monotonic() + DEADLINE_S
    for title, expressions in PANELS.items():
        for expression in expressions:
            asked = expression.replace("$mount", "/m")
            while not is_number(ask(prometheus, "query", query=asked)):
                assert time.monotonic() < deadline, f"{title}: {asked} gives nothing"
                time.sleep(POLL_S)
    assert ask(prometheus, "label/mountpoint/values", **{"match[]": "fusepkg_mount_info"}) == ["/m"]
    (group,) = ask(prometheus, "rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}  # unknown: not evaluated yet


def is_number(data: Any) -> bool:
    if not data or not data["result"]:
        return False
    return all(math.isfinite(float(one["value"][1])) for one in data["result"])
