"""Hashes of files in mounts come from their manifest: a folder with a mount in it is hashed without reading it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES

from tests.mount.mounting import mounted

if TYPE_CHECKING:
    from tests.command import Fusepkg

pytestmark = pytest.mark.fuse


def fill(folder: Path, number: int) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "small").write_bytes(b"row,%d" % number)
    (folder / "empty").write_bytes(b"")
    (folder / "large").write_bytes(bytes(MIN_CHUNK_BYTES) + b"%d" % number)
    (folder / "run").write_bytes(b"#!")
    (folder / "run").chmod(0o755)
    return folder


def test_a_folder_with_a_mount_in_it_is_hashed_by_the_manifest(fusepkg: Fusepkg, tmp_path: Path, engine: str) -> None:
    """A folder with a mount in it is pushed and hashed by the mount's manifest, without reading its files."""
    outer = tmp_path / "outer"
    outer.mkdir()
    for number in (1, 2):  # the same place, and most likely the same device number, inodes, sizes
        original = fill(tmp_path / f"v{number}", number)
        fusepkg("push", original, f"local/ds:v{number}")
        with mounted(f"local/ds:v{number}", outer / "m", engine) as mount:
            found = fusepkg("hash", outer).stdout
            assert mount.counters["fetched_bytes"] == 0
            fusepkg("push", outer / "m", f"local/mirror:v{number}")
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        shutil.copytree(original, copy / "m")
        assert found == fusepkg("hash", copy).stdout
        fusepkg("diff", f"local/ds:v{number}", f"local/mirror:v{number}")  # exit code 0: no differences
        os.rmdir(outer / "m")
