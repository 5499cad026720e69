"""A switch costs the same for a million entries as for ten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bench.mount_times import NAME, publish_synthetic
from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted
from tests.mount.test_switching import switch

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = 1_000_000
SWITCHES = 20
MOST_MS = 50.0


@pytest.mark.stress
@pytest.mark.fuse
@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_entries(engine: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine(engine)
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    publish_synthetic(tmp_path / "data", ENTRIES, tmp_path, "v1")
    publish_synthetic(tmp_path / "data", ENTRIES - 1, tmp_path, "v2")
    last = f"d{(ENTRIES - 1) // 100:05}/image_{ENTRIES - 1:08}.jpg"
    with mounted(f"local/{NAME}:v1", tmp_path / "m", engine) as mount:
        switch(mount, "v2")  # its index is built
        told = len(mount.log())
        for number in range(SWITCHES):
            switch(mount, "v2" if number % 2 else "v1")
            assert (mount / last).exists() == (number % 2 == 0)
        took = sorted(float(found) for found in re.findall(r" in ([\d.]+) ms", mount.log()[told:]))
    print(f"\n{engine}: {took[0]:.1f} to {took[-1]:.1f} ms, median {took[len(took) // 2]:.1f} ms")
    assert len(took) == SWITCHES
    assert took[len(took) // 2] < MOST_MS
