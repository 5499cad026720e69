"""As many opens as a day of training makes leave no trace in a mount's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.open_soak import publish, settled, watch
from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from bench.open_soak import Sample

OPENS = 10_000_000

OPTIONS = {"fuse": ("--workers", "1"), "erofs": ()}
"""With them the kernel opens files by itself on both engines; without a worker, each open of fuse is two requests."""

POOLED = 10
"""Threads and descriptors of pools that come and go."""

NOISE_MIB = 8.0


@pytest.mark.stress
@pytest.mark.fuse
@pytest.mark.parametrize("engine", ENGINES)
def test_opens_of_a_day(engine: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of opens: memory, descriptors and threads of the mount's process stay as they are."""
    require_engine(engine)
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    publish(tmp_path / "folder", "local/soak:v1")
    with mounted("local/soak:v1", tmp_path / "m", engine, *OPTIONS[engine]) as mount:
        samples = watch(mount.root, [mount.record.pid, *mount.status()["workers"]], OPENS)
    print(f"\n{engine}: {samples[-1].opens:,} opens, {samples[0]}, {samples[-1]}")
    assert_flat(settled(samples))


def assert_flat(samples: list[Sample]) -> None:
    """Compare the second half with the first."""
    first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    assert max(one.rss_mib for one in second) <= max(one.rss_mib for one in first) + NOISE_MIB
    assert max(one.descriptors for one in second) <= max(one.descriptors for one in first) + POOLED
    assert max(one.threads for one in second) <= max(one.threads for one in first) + POOLED
