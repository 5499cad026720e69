"""A version that is damaged, found so by a reader, and healed by the next push, while it is mounted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.command import Fusepkg

pytestmark = pytest.mark.fuse


def test_a_read_notes_damage_a_push_heals_it_and_a_mount_goes_on_with_the_new_object(
    fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """A read that finds damage notes it, the next push heals it, and an open mount reads the new object."""
    source, mountpoint, caches = tmp_path / "source", tmp_path / "m", tmp_path / "caches"
    source.mkdir()
    mountpoint.mkdir()
    caches.mkdir(mode=0o700)
    (source / "a").write_bytes(b"one")
    (source / "b").write_bytes(b"two")
    fusepkg("push", source, "local/ds:v1")
    publisher = {"FUSEPKG_CACHE_DIR": str(caches / "publisher")}
    fusepkg("mount", "local/ds:v1", mountpoint)
    try:
        (a_object,) = [path for path in tmp_path.rglob("ds/a") if path.is_file()]
        a_object.write_bytes(b"!!!")
        other_reader = {"FUSEPKG_CACHE_DIR": str(caches / "reader")}
        assert fusepkg("cat", "local/ds:v1", "a", env=other_reader, check=False).returncode != 0
        healed = fusepkg("push", source, "local/ds:v1", env=publisher)
        assert "1 object of older versions was missing or damaged" in healed.stderr
        assert {name.name: name.read_bytes() for name in mountpoint.iterdir()} == {"a": b"one", "b": b"two"}
    finally:
        fusepkg("umount", mountpoint)
    fusepkg("install", "local/ds:v1", "--location", tmp_path / "installed")
    assert (tmp_path / "installed" / "a").read_bytes() == b"one"
