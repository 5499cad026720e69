"""A part of a package, picked by an expression, as a directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon.records import mounts_below
from tests.mount.mounting import files_below

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

WHERE = "directory LIKE 'train/%' AND size > 1000"


def test_a_view_shows_only_what_was_picked(
    place: Place, mount: MountFactory, originals: Originals, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """`mount --where` shows the entries an expression picks, under new names with `--as`, and fetches nothing else."""
    whole = json.loads(fusepkg("hash", place.reference("small:v1"), "--json").stdout)["top_hash"]
    with mount("small:v1", "--where", WHERE, "--as", "directory[-1:] || '/' || name") as mounted:
        names = {"0/2.bin": "train/class0/2.bin", "1/1.bin": "train/class1/1.bin", "1/3.bin": "train/class1/3.bin"}
        assert files_below(mounted.root) == sorted(names)
        for shown, name in names.items():
            assert (mounted / shown).read_bytes() == (originals.small / name).read_bytes()
        assert mounted.counters["fetched_objects"] == len(names)
        assert "a view: where directory LIKE" in fusepkg("status", mounted.root).stdout
        assert f"small:v1 where {WHERE}" in fusepkg("mounts").stdout
        (listed,) = [
            one for one in json.loads(fusepkg("mounts", "--json").stdout) if one["mountpoint"] == str(mounted.root)
        ]
        assert (listed["view"]["top_hash"], listed["view"]["where"]) == (whole, WHERE)
        assert list(mounts_below(tmp_path).values()) == [f"{place.bucket}/small@{whole}"]


def test_an_open_view_reads_the_objects_of_a_healed_version(fusepkg: Fusepkg, tmp_path: Path) -> None:
    """A view that is mounted reads the new object after a push has healed its version; so does the same view later."""
    source, mountpoint, caches = tmp_path / "source", tmp_path / "m", tmp_path / "caches"
    for directory in (source, mountpoint, caches):
        directory.mkdir(mode=0o700)
    (source / "a").write_bytes(b"one")
    (source / "b").write_bytes(b"two")
    fusepkg("push", source, "local/ds:v1")
    view = ("mount", "local/ds:v1", mountpoint, "--engine", "fuse", "--where", "name = 'a'")
    fusepkg(*view)
    try:
        (a_object,) = [path for path in tmp_path.rglob("ds/a") if path.is_file()]
        a_object.write_bytes(b"!!!")
        reader, publisher = ({"FUSEPKG_CACHE_DIR": str(caches / name)} for name in ("reader", "publisher"))
        assert fusepkg("cat", "local/ds:v1", "a", env=reader, check=False).returncode != 0
        assert "damaged" in fusepkg("push", source, "local/ds:v1", env=publisher).stderr
        assert {path.name: path.read_bytes() for path in mountpoint.iterdir()} == {"a": b"one"}
    finally:
        fusepkg("umount", mountpoint)
    fusepkg("cache", "clear")
    fusepkg(*view)
    try:
        assert (mountpoint / "a").read_bytes() == b"one"
    finally:
        fusepkg("umount", mountpoint)
