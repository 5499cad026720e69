"""Fetching before reading, with the mount and by command; see docs/reference/semantics.md."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import KEEP_TIMEOUT_S, POLL_S, end
from tests.mount.places import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse


def test_a_directory_is_fetched_before_it_is_read(
    place: Place, mount: MountFactory, originals: Originals, fusepkg: Fusepkg
) -> None:
    """`fusepkg prefetch` brings files and directories into the cache; reading them then asks nothing."""
    with mount("small:v1") as mounted:
        said = json.loads(fusepkg("prefetch", mounted.root, "train", "README.md", "--json").stdout)
        names = [path.relative_to(originals.small) for path in (originals.small / "train").rglob("*") if path.is_file()]
        assert said["files"] == said["total_files"] == len(names) + 1
        assert (said["error"], said["failed_files"], said["is_done"]) == (None, 0, True)
        if isinstance(place, Bucket):
            place.proxy.forget()
        for name in [*names, "README.md"]:
            assert (mounted.root / name).read_bytes() == (originals.small / name).read_bytes()
        if isinstance(place, Bucket):
            assert place.data_requests() == []
        assert "the rest was there" in fusepkg("prefetch", mounted.root / "train", "--rate", "1GB/s").stderr
        refused = fusepkg("prefetch", mounted.root, "nothing", check=False)
        assert "the package has no 'nothing'" in refused.stderr
        assert refused.returncode == 3


def test_a_mount_fetches_all_of_itself(
    place: Place, mount: MountFactory, originals: Originals, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """`mount --prefetch all` is usable at once and fetches everything behind the readers."""
    with mount("small:v1", "--prefetch", "all", "--prefetch-rate", "1GB/s") as mounted:
        assert (mounted / "README.md").read_bytes() == (originals.small / "README.md").read_bytes()
        deadline = time.monotonic() + KEEP_TIMEOUT_S
        while mounted.status()["prefetches"]:
            assert time.monotonic() < deadline, "the prefetch does not end"
            time.sleep(POLL_S)
        mounted.wait_until_kept("large.bin", wholly=True)
        assert mounted.facts("train/class0/0.bin")["cached"] == "yes"
    (tmp_path / "n").mkdir()
    try:
        refused = fusepkg("mount", place.reference("small:v1"), tmp_path / "n", "--prefetch", "no/such", check=False)
        assert "no/such" in refused.stderr
        assert refused.returncode == 3
    finally:
        end(tmp_path / "n")
