"""A switch costs the same for a million entries as for ten. It is to take less than 50 ms: the test prints how long."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from bench.mount_times import NAME, publish_synthetic
from fusepkg.app.context import Context
from fusepkg.app.settings import Flags, decide
from fusepkg.model.reference import parse_reference
from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted
from tests.mount.places import surroundings
from tests.mount.test_switching import switch

ENTRIES = 1_000_000
SWITCHES = 20


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which two versions are found whose indexes are built: minutes on a busy machine."""
    root = tmp_path_factory.mktemp("million")
    places = {f"FUSEPKG_{name}_DIR": str(root / name.lower()) for name in ("DATA", "CACHE")}
    with surroundings(root, places):
        for entries, tag in ((ENTRIES, "v1"), (ENTRIES - 1, "v2")):
            publish_synthetic(Path(places["FUSEPKG_DATA_DIR"]), entries, root, tag)
            with closing(Context(decide(Flags()))) as context:
                context.open_package(parse_reference(f"local/{NAME}:{tag}"))
    return places


@pytest.mark.stress
@pytest.mark.fuse
@pytest.mark.timeout(0)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_entries(
    indexed: dict[str, str], engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_engine(engine)
    for name, value in indexed.items():
        monkeypatch.setenv(name, value)
    last = f"d{(ENTRIES - 1) // 100:05}/image_{ENTRIES - 1:08}.jpg"
    with mounted(f"local/{NAME}:v1", tmp_path / "m", engine) as mount:
        for number in range(SWITCHES):
            switch(mount, "v1" if number % 2 else "v2")
            assert (mount / last).exists() == (number % 2 == 1)
        took = sorted(float(found) for found in re.findall(r" in ([\d.]+) ms", mount.log()))
    print(f"\n{engine}: {took[0]:.1f} to {took[-1]:.1f} ms, median {took[len(took) // 2]:.1f} ms")
    assert len(took) == SWITCHES
