"""Reading a version that has packs through both engines; see docs/reference/semantics.md."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted
from tests.mount.places import Bucket, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.mount.mounting import Mount

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

FILES = 400


@pytest.fixture(scope="module")
def packed(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small files, published as ``packed:v1`` with packs."""
    folder = tmp_path_factory.mktemp("packed")
    for number in range(FILES):
        directory = folder / f"d{number // 100}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number:04}").write_bytes(random.Random(number).randbytes(5_000))
    with surroundings(tmp_path_factory.mktemp("packer"), bucket.settings):
        bucket.publish(folder, "packed:v1")
    return folder


@pytest.fixture(params=ENGINES)
def mount(
    request: pytest.FixtureRequest, bucket: Bucket, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mount]:
    engine = require_engine(request.param)
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    with mounted(f"{bucket.bucket}/packed:v1", tmp_path / "m", engine) as mount:
        bucket.proxy.forget()
        yield mount
    bucket.proxy.heal()


def read_all(mount: Mount, folder: Path) -> None:
    for path in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        assert (mount.root / path).read_bytes() == (folder / path).read_bytes()


def test_small_files_come_many_in_a_request(mount: Mount, packed: Path, bucket: Bucket, fusepkg: Fusepkg) -> None:
    """Small files of a version with packs that are read in order come many in one request."""
    read_all(mount, packed)
    assert len(bucket.proxy.requests) < 30
    assert len(bucket.data_requests()) < 10
    counters = mount.counters
    assert counters["ahead_read_bytes"] > FILES * 5_000 * 0.9
    assert counters["fetched_bytes"] < FILES * 5_000 * 1.2
    assert "Fetched ahead of reads: " in fusepkg("status", mount.root).stdout


def test_corrupt_pack(mount: Mount, packed: Path, bucket: Bucket) -> None:
    """A pack that is missing, or damaged, costs one warning in the mount's log, and every read gets right bytes."""
    keys = bucket.keys(".quilt/packs/data/")
    before = [(key, bucket.get(f"s3://{bucket.bucket}/{key}")) for key in keys]
    for at, (key, data) in enumerate(before):
        bucket.put(f"s3://{bucket.bucket}/{key}", data[:100] + bytes(len(data) - 100) if at % 2 else None)
    try:
        read_all(mount, packed)
    finally:
        for key, data in before:
            bucket.put_registry(key, data)
    assert mount.log().count("its objects are read instead") == 1
    assert len(bucket.data_requests()) > FILES // 2
